"""How often the 95 % intervals of recall hold what they are of.

    python benchmarks/recall_intervals.py [DATA]

From small training sets, the held-out recall of each class with its interval, beside the recall
of the classifier that all of the set teaches on other images: on them, and as the mean over the
training sets. The first is measured on a few hundred images, which themselves vary: the share that
is covered is a little too low.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from common import print_row
from fiftyone_embedding_quality.analysis._statistics import wilson_interval
from fiftyone_embedding_quality.analysis.class_probe import held_out_probabilities
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.analysis.separability import HELD_OUT_SPREAD
from outliers import caltech_classes, cifar


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("data", nargs="?", type=Path, default=default)
    data = parser.parse_args().data
    given = cifar(data, "clean_label", 25_000)
    vectors, classes = caltech_classes(data)
    inside = classes >= 0
    print_row("covered, %", "plain Wilson", "here", "of the mean: plain", "here")
    for name, rows, labels, per_class, tested, sets in (
        ("CIFAR-10, 30 per class", given.rows, given.labels, 30, 300, 12),
        ("CIFAR-10, 100 per class", given.rows, given.labels, 100, 300, 12),
        ("CIFAR-10, 300 per class", given.rows, given.labels, 300, 300, 5),
        ("Caltech-101, 20 per class", vectors[inside], classes[inside], 20, 40, 4),
    ):
        print_row(name, *coverage(rows, labels, per_class, tested, sets))


def coverage(
    rows: np.ndarray, labels: np.ndarray, per_class: int, tested: int, sets: int
) -> list[float]:
    """The share of intervals that hold the recall, plain and here, of the set and of the mean."""
    rng = np.random.default_rng(0)
    classes, labels = np.unique(labels, return_inverse=True)
    right, trials, recall = np.zeros((3, sets, len(classes)))
    for number in range(sets):
        members = [rng.permutation(np.flatnonzero(labels == one)) for one in range(len(classes))]
        taught = np.concatenate([of[:per_class] for of in members])
        others = np.concatenate([of[per_class : per_class + tested] for of in members])
        held_out = predictions(rows[taught], labels[taught], len(classes))
        hidden = np.r_[labels[taught], np.full(len(others), -1)]
        seen = predictions(rows[np.r_[taught, others]], hidden, len(classes))[len(taught) :]
        for one in range(len(classes)):
            own = labels[taught] == one
            right[number, one], trials[number, one] = (held_out[own] == one).sum(), own.sum()
            recall[number, one] = (seen[labels[others] == one] == one).mean()
    covered = []
    for truth in (recall, np.broadcast_to(recall.mean(axis=0), recall.shape)):
        for spread in (1.0, HELD_OUT_SPREAD):
            low, high = wilson_interval(right / spread, trials / spread)
            covered.append(100 * float(((low <= truth) & (truth <= high)).mean()))
    return covered


def predictions(rows: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    evidence = held_out_probabilities(rows, labels, num_classes, neighbor_graph(rows))
    return evidence.probabilities.argmax(axis=1)


if __name__ == "__main__":
    main()
