"""What 100 more samples of each class bring, beside what was said that they would.

    python benchmarks/learning_curve.py [DATA]

From small sets of each class; the recall before and after is measured on other images.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from common import print_row
from fiftyone_embedding_quality.analysis.learning_curve import FACTOR, gain, learning_exponent
from label_sets import _caltech, _clean_cifar, _digits
from recall_intervals import predictions

# Recalls of some hundred images differ by so much by chance.
CHANCE = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("data", nargs="?", type=Path, default=default)
    data = parser.parse_args().data
    rows, labels = _caltech(data)
    large = np.isin(labels, np.flatnonzero(np.bincount(labels) >= 65))
    cifar, digits, caltech = _clean_cifar(data), _digits(data), (rows[large], labels[large])
    mixed = np.array([20, 20, 50, 50, 100, 100, 200, 200, 300, 400])
    print_row("set, per class", "exponent", "told", "in fact", "classes inside, %", "seconds")
    for name, source, sizes, more, tested in (
        ("CIFAR-10, 20", cifar, 20, 100, 300),
        ("CIFAR-10, 50", cifar, 50, 100, 300),
        ("CIFAR-10, 100", cifar, 100, 100, 300),
        ("CIFAR-10, 200", cifar, 200, 100, 300),
        ("CIFAR-10, 20 to 400", cifar, mixed, 100, 300),
        ("digits, 10", digits, 10, 100, 60),
        ("digits, 40", digits, 40, 100, 35),
        ("Caltech-101, 10", caltech, 10, 30, 25),
    ):
        print_row(name, *measure(*source, sizes, more, tested))


def measure(
    rows: np.ndarray, labels: np.ndarray, sizes: int | np.ndarray, more: int, tested: int
) -> list[str]:
    """The mean over classes and three choices of samples."""
    classes, labels = np.unique(labels, return_inverse=True)
    exponents, told, real, inside, seconds = [], [], [], [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        counts = rng.permutation(np.broadcast_to(sizes, len(classes)))
        members = [rng.permutation(np.flatnonzero(labels == one)) for one in range(len(classes))]
        base = np.concatenate([of[:n] for of, n in zip(members, counts)])
        whole = np.concatenate([of[: n + more] for of, n in zip(members, counts)])
        others = np.concatenate(
            [of[n + more : n + more + tested] for of, n in zip(members, counts)]
        )
        started = time.perf_counter()
        exponent = learning_exponent(rows[base], labels[base], len(classes))
        seconds.append(time.perf_counter() - started)
        held_out = predictions(rows[base], labels[base], len(classes))
        before, after = (_recalls(rows, labels, taught, others) for taught in (base, whole))
        for one, count in enumerate(counts):
            recall = float((held_out[labels[base] == one] == one).mean())
            told.append(gain(recall, int(count), exponent, more))
            real.append(after[one] - before[one])
            low, high = told[-1] / FACTOR - CHANCE, told[-1] * FACTOR + CHANCE
            inside.append(low <= real[-1] <= high)
        exponents.append(exponent)
    columns = (np.mean(exponents), np.mean(told), np.mean(real), 100 * np.mean(inside))
    return [*(f"{value:.3f}" for value in columns), f"{np.mean(seconds):.2f}"]


def _recalls(rows: np.ndarray, labels: np.ndarray, taught: np.ndarray, others: np.ndarray):
    hidden = np.r_[labels[taught], np.full(len(others), -1)]
    num_classes = labels.max() + 1
    seen = predictions(rows[np.r_[taught, others]], hidden, num_classes)[len(taught) :]
    return [float((seen[labels[others] == one] == one).mean()) for one in range(num_classes)]


if __name__ == "__main__":
    main()
