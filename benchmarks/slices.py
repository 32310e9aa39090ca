"""Properties of images that go with errors, and effects of the order, beside cleanlab's Datalab.

    python benchmarks/slices.py [DATA] [--part slices|order] [--seeds 5]

DATA is the folder with caltech101 and cifar10n, by default ../shared/data. A planted slice: the
40 darkest images of one class get the label of another class, or of any other; 2 % of all labels
are wrong beside that. Found is what names darkness, of the class or of all, and holds at least half
of the planted images.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from common import print_row
from downstream import Images, caltech, cifar
from fiftyone_embedding_quality.analysis.class_probe import held_out_probabilities
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.analysis.order_effects import find_order_effects
from fiftyone_embedding_quality.analysis.properties import find_slices, image_properties
from fiftyone_embedding_quality.analysis.vectors import unit_rows
from fiftyone_embedding_quality.pictures.measures import measure_files
from sklearn.datasets import load_digits

PLANTED, WRONG = 40, 0.02


@dataclass(frozen=True)
class Measured:
    """Embeddings, properties and true labels of images."""

    rows: np.ndarray
    properties: dict[str, np.ndarray]
    labels: np.ndarray


def measured(images: Images) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / f"{number}.png") for number in range(len(images.files))]
        for file, path in zip(images.files, files):
            images.read(file).convert("RGB").save(path)
        return Measured(images.rows, image_properties(measure_files(files)), images.labels)


def sets(data: Path) -> dict[str, Images]:
    """3,000 images of CIFAR-10, and the 12 largest classes of Caltech-101, 100 images each."""
    photos = caltech(data)
    large = np.argsort(-np.bincount(photos.labels), kind="stable")[:12]
    rows = np.concatenate([np.flatnonzero(photos.labels == kind)[:100] for kind in large])
    numbers = np.unique(photos.labels[rows], return_inverse=True)[1]
    return {
        "cifar10": cifar(data, "train", "clean_label").take(np.arange(3000)),
        "caltech101, large classes": replace(photos.take(rows), labels=numbers),
    }


def planted_slices(data: Path, seeds: int) -> None:
    print_row("planted slice", "found", "named first", "of 40", "Datalab", "none: told", "Datalab")
    for name, images in sets(data).items():
        plain, told = measured(images), []
        for seed in range(seeds):
            kinds = np.flatnonzero(np.bincount(plain.labels) >= 2 * PLANTED)
            kind = int(np.random.default_rng(seed).choice(kinds))
            of_kind = np.flatnonzero(plain.labels == kind)
            planted = of_kind[np.argsort(plain.properties["brightness"][of_kind])[:PLANTED]]
            told.append([judged(plain, planted, kind, seed, one) for one in (True, False)])
        means = np.array(told, float).mean(axis=0)
        for what, values in zip(("one other label", "any other label"), means):
            print_row(f"{name}, {what}", *(f"{value:.2f}" for value in values))


def judged(
    plain: Measured, planted: np.ndarray, kind: int, seed: int, one_label: bool
) -> tuple[float, ...]:
    """Found, first, share of the planted; Datalab's share; without a slice, what both tell."""
    random = np.random.default_rng(seed + 100)
    truth, classes = plain.labels, int(plain.labels.max()) + 1
    wrong = random.random(len(truth)) < WRONG
    noisy = np.where(wrong, (truth + random.integers(1, classes, len(truth))) % classes, truth)
    shifts = random.integers(1, classes) if one_label else random.integers(1, classes, PLANTED)
    given = noisy.copy()
    given[planted] = (kind + shifts) % classes
    predicted, probabilities = predictions(plain.rows, given, classes)
    found = find_slices(plain.properties, {}, given, predicted, classes)
    about = {kind, -1, *given[planted].tolist()}
    places = [
        place
        for place, one in enumerate(found)
        if one.level == "dark"
        and one.label in about
        and 2 * np.isin(planted, one.rows).sum() >= PLANTED
    ]
    held = max((np.isin(planted, found[place].rows).mean() for place in places), default=0.0)
    said, sure = predictions(plain.rows, noisy, classes)
    return (
        bool(places),
        bool(places) and places[0] == 0,
        held,
        np.isin(planted, datalab_group(plain.rows, given, probabilities)).mean(),
        len(find_slices(plain.properties, {}, noisy, said, classes)),
        len(datalab_group(plain.rows, noisy, sure)) > 0,
    )


def predictions(rows: np.ndarray, given: np.ndarray, classes: int):
    found = held_out_probabilities(rows, given, classes, neighbor_graph(rows))
    return found.probabilities.argmax(axis=1), found.probabilities


def datalab_group(rows: np.ndarray, given: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Rows of Datalab's underperforming group, with our held-out probabilities."""
    from cleanlab import Datalab

    with contextlib.redirect_stdout(io.StringIO()):
        lab = Datalab({"label": given}, label_name="label", verbosity=0)
        lab.find_issues(
            features=rows,
            pred_probs=probabilities.astype(float),
            issue_types={"underperforming_group": {}},
        )
    issues = lab.get_issues("underperforming_group")
    return np.flatnonzero(issues["is_underperforming_group_issue"].to_numpy())


def order_effects(data: Path, seeds: int) -> None:
    """Shares of shuffled sets that are told to be in an order, and of ordered ones."""
    print_row("order", "shuffled: ours", "Datalab", "ordered: ours", "Datalab")
    digits = load_digits()
    images, photos = cifar(data, "test", "given_label"), caltech(data)
    sources = {
        "digits, as written": unit_rows(digits.data).rows,
        "cifar10, by class": images.rows[np.argsort(images.labels, kind="stable")],
        "caltech101, by class": photos.rows[np.argsort(photos.labels, kind="stable")],
    }
    for name, rows in sources.items():
        told = []
        for seed in range(seeds):
            random = np.random.default_rng(seed)
            # The first tenth is in its order, all others are shuffled: a weak effect.
            some = np.sort(random.permutation(len(rows))[:1000])
            chosen = rows[some]
            shuffled = chosen[random.permutation(len(chosen))]
            part = np.arange(len(chosen))
            part[100:] = 100 + random.permutation(len(chosen) - 100)
            told.append([v for one in (shuffled, chosen[part]) for v in judged_order(one, seed)])
        print_row(name, *(f"{share:.2f}" for share in np.mean(told, axis=0)))


def judged_order(rows: np.ndarray, seed: int) -> tuple[bool, bool]:
    """Whether ours and Datalab tell an effect of the order."""
    from cleanlab import Datalab

    every = np.arange(len(rows))
    found = find_order_effects(neighbor_graph(rows), every.astype(float), every, None, seed)
    with contextlib.redirect_stdout(io.StringIO()):
        lab = Datalab({"row": every.tolist()}, verbosity=0)
        lab.find_issues(features=rows, issue_types={"non_iid": {}})
    return found.differ, lab.get_info("non_iid")["p-value"] < 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("data", nargs="?", type=Path, default=default)
    parser.add_argument("--part", choices=("slices", "order"))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    if options.part in (None, "slices"):
        planted_slices(options.data, options.seeds)
    if options.part in (None, "order"):
        order_effects(options.data, options.seeds)


if __name__ == "__main__":
    main()
