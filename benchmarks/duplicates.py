"""Duplicates found, beside cleanlab Datalab and FiftyOne Brain on the same vectors.

    python benchmarks/duplicates.py DATA [--rows 50000]

DATA holds the development sets: caltech101 with its injected duplicates, cifar10n with pairs of
photos that people judged. A pair counts as found when both are in one group. On caltech101 every
pair that is not listed counts as wrong, though most of those found are natural duplicates that the
list lacks. On cifar10n pairs judged "same photo" are right and pairs judged "similar, but another
photo" wrong; all others are not judged.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
import uuid
import zipfile
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from common import clustered_vectors, interleaved, print_row, require_peers
from fiftyone_embedding_quality.analysis.duplicate_candidates import near_candidates
from fiftyone_embedding_quality.analysis.duplicate_groups import group_duplicates, keep_order
from fiftyone_embedding_quality.analysis.duplicates import Duplicates, find_duplicates
from fiftyone_embedding_quality.analysis.neighbors import NeighborGraph, neighbor_graph
from fiftyone_embedding_quality.analysis.vectors import unit_rows
from fiftyone_embedding_quality.pictures.file_copies import exact_copies
from fiftyone_embedding_quality.pictures.small_images import (
    ImageOrPatch,
    SmallImages,
    read_small_images,
)

Pairs = set[tuple[int, int]]

# Default of fiftyone.brain.compute_near_duplicates.
BRAIN_THRESHOLD = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=50_000)
    options = parser.parse_args()
    require_peers("datasets")
    caltech(options.data / "caltech101")
    with tempfile.TemporaryDirectory() as folder:
        cifar(options.data / "cifar10n", Path(folder))
    print()
    cost(options.rows)


@dataclass(frozen=True)
class JudgedSet:
    """Images, and pairs of them of which people know what they are.

    Attributes:
        images: n images
        rows: (n, dim) float32 unit vectors
        same: pairs that show the same photo
        similar: pairs that look alike and are two photos, or may be
        unlisted_wrong: all other pairs count as wrong, and the similar ones as neither; else all
            others as neither, and the similar ones as wrong
    """

    images: list[ImageOrPatch]
    rows: np.ndarray
    same: Pairs
    similar: Pairs
    unlisted_wrong: bool

    def scores(self, found: Pairs) -> tuple[float, float, float]:
        """F1, precision and recall."""
        right = len(found & self.same)
        unlisted = found - self.same - self.similar
        wrong = len(unlisted if self.unlisted_wrong else found & self.similar)
        precision, recall = right / max(right + wrong, 1), right / len(self.same)
        return 2 * right / (right + wrong + len(self.same)), precision, recall


def found_in(images: list[ImageOrPatch], rows: np.ndarray, graph: NeighborGraph) -> Duplicates:
    """What is found in files, reading them included."""
    small = read_small_images(images)
    return find_duplicates(small, exact_copies(small), rows, graph)


def caltech(root: Path) -> None:
    """The set with injected duplicates: F1 of pairs, and of exact copies alone."""
    judged, copied = injected_caltech(root)
    graph = neighbor_graph(judged.rows)
    start = time.perf_counter()
    found = found_in(judged.images, judged.rows, graph)
    seconds = time.perf_counter() - start
    print_row("caltech101, pairs", "F1", "precision", "recall", "found", "seconds")
    results = {
        f"find_duplicates (at {found.threshold:.2f})": (grouped_pairs(found.group), seconds),
        "cleanlab Datalab": datalab_pairs(judged.rows),
        f"FiftyOne Brain (at {BRAIN_THRESHOLD})": brain_pairs(judged.rows),
    }
    for name, (pairs, seconds) in results.items():
        print_row(name, *judged.scores(pairs), len(pairs), seconds)
    exact = grouped_pairs(np.where(found.exact, found.group, -1))
    print_row("exact copies found", f"{len(exact & copied)} of {len(copied)}")
    print_row("pairs wrongly called exact", len(exact - copied))
    print()


def cifar(root: Path, folder: Path) -> None:
    """Same-photo pairs between test and train, as people judged them."""
    judged = judged_cifar(root, folder)
    rows = judged.rows
    graph = neighbor_graph(rows)
    start = time.perf_counter()
    found = found_in(judged.images, rows, graph)
    seconds = time.perf_counter() - start
    nearest = np.sort(np.stack([np.arange(len(rows)), graph.indices[:, 0]], axis=1), axis=1)
    print_row("cifar10n, judged pairs", "F1", "precision", "recall", "found", "seconds")
    results = {
        f"find_duplicates (at {found.threshold:.2f})": (grouped_pairs(found.group), seconds),
        "nearest neighbor": (set(map(tuple, nearest.tolist())), 0.0),
        "cleanlab Datalab": datalab_pairs(rows),
        f"FiftyOne Brain (at {BRAIN_THRESHOLD})": brain_pairs(rows),
    }
    for name, (pairs, seconds) in results.items():
        print_row(name, *judged.scores(pairs), len(pairs), seconds)


def injected_caltech(root: Path) -> tuple[JudgedSet, Pairs]:
    """Photos, changed copies and exact copies; and the pairs that are exact copies."""
    samples = table(root / "qa_samples.csv")
    groups: dict[str, list[int]] = {}
    for row, sample in enumerate(samples):
        if sample["dup_group"]:
            groups.setdefault(sample["dup_group"], []).append(row)
    injected = _within(groups.values())
    copied = {pair for pair in injected if any(samples[i]["issue"] == "exact_dup" for i in pair)}
    judged = judged_caltech(root, [sample["file"] for sample in samples])
    return replace(judged, same=judged.same | injected), copied


def judged_caltech(root: Path, names: list[str]) -> JudgedSet:
    """The named photos, with the duplicates that are in Caltech-101 by nature."""
    judged = _judged(root / "natural_near_duplicates.csv", names)
    rows = _stored(root / "embeddings_efficientnet_lite0.npz", names)
    return JudgedSet([ImageOrPatch(str(root / name)) for name in names], rows, *judged, True)


def judged_cifar(root: Path, folder: Path) -> JudgedSet:
    """CIFAR-10, unpacked into a folder."""
    with zipfile.ZipFile(root / "images.zip") as archive:
        archive.extractall(folder)
    path = root / "embeddings_efficientnet_lite0_pca256.npz"
    names = np.load(path)["files"].tolist()
    judged = _judged(root / "near_duplicates.csv", names)
    images = [ImageOrPatch(str(folder / name)) for name in names]
    return JudgedSet(images, _stored(path, names), *judged, False)


def cost(num_rows: int) -> None:
    """From the vectors with the graph given; comparing images is timed by pair."""
    rows = clustered_vectors(num_rows)
    graph = neighbor_graph(rows)
    images = [ImageOrPatch(f"{row:06}.jpg") for row in range(num_rows)]
    facts = np.ones(num_rows, np.int64)
    small = SmallImages(images, np.empty((0, 0, 0), np.uint8), facts, facts, facts, {})
    copies = np.full(num_rows, -1)

    def ours() -> int:
        candidates = near_candidates(graph)
        close = candidates.pairs[candidates.relative_distance < 0.3]
        group_duplicates(num_rows, close, copies, keep_order(small))
        return len(candidates.pairs)

    ours()
    costs = interleaved({"candidates and groups": ours}, 3)
    print_row(f"{num_rows:,} x 512", "seconds", "peak MiB", "pairs per row")
    for name, spent in costs.items():
        print_row(name, spent.seconds, round(spent.peak_mib), spent.result / num_rows)
    print_row("comparing one pair, ms", milliseconds_per_pair())
    start = time.perf_counter()
    datalab_pairs(rows)
    print_row("cleanlab Datalab, graph included", time.perf_counter() - start)
    print_row("FiftyOne Brain, graph included", brain_pairs(rows)[1])


def milliseconds_per_pair(num_images: int = 2000) -> float:
    """Smooth noise, and shifted, darker copies of it; a quarter of the pairs are copies."""
    from fiftyone_embedding_quality.analysis._image_pairs import compare_pairs
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    noise = gaussian_filter(rng.standard_normal((num_images, 68, 64)), (0, 3, 3))
    noise = (noise - noise.min()) / np.ptp(noise) * 255
    gray = np.concatenate([noise[:, :64], 0.8 * noise[:, 4:]]).astype(np.uint8)
    copies = np.stack([np.arange(num_images), num_images + np.arange(num_images)], axis=1)
    pairs = np.concatenate([copies, rng.integers(0, 2 * num_images, (3 * num_images, 2))])
    compare_pairs(gray, pairs[:10])
    start = time.perf_counter()
    compare_pairs(gray, pairs)
    return (time.perf_counter() - start) / len(pairs) * 1000


def datalab_pairs(rows: np.ndarray) -> tuple[Pairs, float]:
    """Pairs in Datalab's sets of near-duplicates, and seconds."""
    from cleanlab import Datalab

    start = time.perf_counter()
    lab = Datalab({"row": list(range(len(rows)))}, verbosity=0)
    lab.find_issues(features=rows, issue_types={"near_duplicate": {}})
    sets = lab.get_issues("near_duplicate")["near_duplicate_sets"]
    pairs = {
        (min(row, other), max(row, other))
        for row, others in enumerate(map(np.asarray, sets))
        for other in others.tolist()
    }
    return pairs, time.perf_counter() - start


def brain_pairs(rows: np.ndarray) -> tuple[Pairs, float]:
    """Pairs in the groups of FiftyOne Brain's near-duplicates, and seconds."""
    import fiftyone as fo
    import fiftyone.brain as fob

    fo.config.show_progress_bars = False
    dataset = fo.Dataset(f"benchmark-{uuid.uuid4().hex[:8]}")
    try:
        dataset.add_samples([fo.Sample(f"/no/file/{index}.jpg") for index in range(len(rows))])
        start = time.perf_counter()
        index = fob.compute_near_duplicates(dataset, embeddings=rows, threshold=BRAIN_THRESHOLD)
        seconds = time.perf_counter() - start
        place = {sample: row for row, sample in enumerate(dataset.values("id"))}
        neighbors = index.neighbors_map
        groups = [
            [place[kept], *(place[other] for other, _ in others)]
            for kept, others in neighbors.items()
        ]
        return _within(map(sorted, groups)), seconds
    finally:
        dataset.delete()


def grouped_pairs(group: np.ndarray) -> Pairs:
    """Pairs of rows in one group."""
    members: dict[int, list[int]] = {}
    for row in np.flatnonzero(group >= 0).tolist():
        members.setdefault(int(group[row]), []).append(row)
    return _within(members.values())


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def _stored(path: Path, names: list[str]) -> np.ndarray:
    stored = np.load(path)
    place = {name: row for row, name in enumerate(stored["files"].tolist())}
    return unit_rows(stored["embeddings"][[place[name] for name in names]]).rows


def _judged(path: Path, names: list[str]) -> tuple[Pairs, Pairs]:
    """Pairs of which people said "the same photo", and those that are "very similar"."""
    place = {name: row for row, name in enumerate(names)}
    judged: dict[str, Pairs] = {"1": set(), "2": set()}
    for line in table(path):
        pair = place.get(line["file_a"]), place.get(line["file_b"])
        if None not in pair:
            judged[line["judgment"]].add(tuple(sorted(pair)))
    return judged["1"], judged["2"]


def _within(groups) -> Pairs:
    return {pair for members in groups for pair in combinations(members, 2)}


if __name__ == "__main__":
    main()
