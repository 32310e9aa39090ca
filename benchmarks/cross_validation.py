"""Are the constants of the duplicate finder fitted to the sets on which they were looked at?

    python benchmarks/cross_validation.py DATA

Each constant is chosen anew on all sets but one, by the mean F1, and judged on that one. The sets
differ in kind: changed copies put into Caltech-101, its own duplicates (a list that is not
complete), and the photos of CIFAR-10 that people judged. The edits of one photo are left out: they
are all found at any of these values.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import numpy as np
from common import print_row
from duplicates import (
    JudgedSet,
    grouped_pairs,
    injected_caltech,
    judged_caltech,
    judged_cifar,
    table,
)
from fiftyone_embedding_quality.analysis import (
    _image_pairs,
    duplicate_candidates,
    duplicate_evidence,
)
from fiftyone_embedding_quality.analysis import duplicates as finder
from fiftyone_embedding_quality.analysis._image_pairs import IDENTITY, compare_pairs
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.pictures.file_copies import exact_copies
from fiftyone_embedding_quality.pictures.small_images import read_small_images

# Values around the present ones.
TRIED = {
    "COMPARED_NEIGHBORS": (1, 2, 3, 4, 5),
    "NEAR": (0.1, 0.2, 0.3, 0.4, 0.5),
    "FAR": (0.6, 0.8, 1.0, 1.2, 1.5),
    "SURPRISE": (0.0, 0.1, 0.2, 0.3, 0.4),
    "REPRESENTATIVE_ROUNDS": (0, 1, 2, 4, 8),
    "CHANCE_RANK": (5, 10, 15, 20),
    "CHANCE_REACH": (3.0, 3.5, 4.0, 4.5, 5.0),
    "CHANCE_BOUNDS": ((0.74, 0.95), (0.78, 0.95), (0.82, 0.95), (0.84, 0.95), (0.86, 0.95)),
}
# Agreements that would hold for every set, in place of the one that is read off its images.
FIXED = tuple((agreement, agreement) for agreement in np.linspace(0.78, 0.94, 9).round(2).tolist())

# Scores that differ by less are called the same.
SAME_SCORE = 0.01


class MeasuredSet:
    """A set of which each image is read and each pair compared only once."""

    def __init__(self, judged: JudgedSet) -> None:
        self.judged = judged
        self.graph = neighbor_graph(judged.rows)
        self.small = read_small_images(judged.images)
        self.copies = exact_copies(self.small)
        self.agreement: dict[tuple[int, int], float] = {}

    def f1(self, **constants: object) -> float:
        """The score with other values of the finder's constants."""
        with contextlib.ExitStack() as changed:
            changed.enter_context(patch.object(_image_pairs, "compare_pairs", self.compare))
            for name, value in constants.items():
                changed.enter_context(patch.object(_holder(name), name, value))
            found = finder.find_duplicates(self.small, self.copies, self.judged.rows, self.graph)
        return self.judged.scores(grouped_pairs(found.group))[0]

    def compare(self, gray: np.ndarray, pairs: np.ndarray, *_) -> tuple[np.ndarray, ...]:
        """Stands in for ``compare_pairs``. How the images lie only names the change."""
        wanted = list(map(tuple, pairs.tolist()))
        new = [pair for pair in wanted if pair not in self.agreement]
        agreement, *_ = compare_pairs(gray, np.array(new, np.int64).reshape(-1, 2))
        self.agreement.update(zip(new, agreement.tolist()))
        agreement = np.array([self.agreement[pair] for pair in wanted], np.float32)
        placed = np.tile(IDENTITY, (len(pairs), 1, 1))
        return agreement, np.zeros(len(pairs), np.int8), placed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    root = parser.parse_args().data
    caltech = root / "caltech101"
    photos = [sample["file"] for sample in table(caltech / "samples.csv")]
    with tempfile.TemporaryDirectory() as folder:
        sets = {
            "injected": MeasuredSet(injected_caltech(caltech)[0]),
            "natural": MeasuredSet(judged_caltech(caltech, photos)),
            "cifar10n": MeasuredSet(judged_cifar(root / "cifar10n", Path(folder))),
        }
    print_row("F1 of each set", "present", "same score", *sets)
    print_row("present values", "", "", *(f"{measured.f1():.3f}" for measured in sets.values()))
    for constant, values in TRIED.items():
        cross_validate(constant, constant, values, sets)
    cross_validate("one agreement for all", "CHANCE_BOUNDS", FIXED, sets)


def cross_validate(title: str, constant: str, values: tuple, sets: dict[str, MeasuredSet]) -> None:
    """Prints one row: per held-out set its score with the value that the others choose."""
    now = getattr(_holder(constant), constant)
    if now in values:
        # Of values that are equally good, the one next to the present one is chosen.
        values = sorted(values, key=lambda value: abs(values.index(value) - values.index(now)))
    scores = {name: [one.f1(**{constant: value}) for value in values] for name, one in sets.items()}
    mean = np.mean(list(scores.values()), axis=0)
    good = [value for value, score in zip(values, mean) if score > max(mean) - SAME_SCORE]
    cells = []
    for name in sets:
        others = np.mean([scores[other] for other in sets if other != name], axis=0)
        best = int(np.argmax(others.round(6)))
        cells.append(f"{scores[name][best]:.3f} ({_text(values[best])})")
    print_row(title, _text(now), f"{_text(min(good))}..{_text(max(good))}", *cells)


def _holder(constant: str) -> ModuleType:
    """The module that a constant of the finder belongs to."""
    parts = (duplicate_candidates, duplicate_evidence, finder)
    return next(part for part in parts if hasattr(part, constant))


def _text(value: object) -> str:
    """A number; of two bounds the lower one."""
    return str(value[0] if isinstance(value, tuple) else value)


if __name__ == "__main__":
    main()
