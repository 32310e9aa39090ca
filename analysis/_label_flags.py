"""Which labels are flagged: how many the noise allows, what is agreed on, shared classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._label_noise import LabelNoise
from ._probe_blocks import row_blocks
from ._statistics import unit_numbers
from .likely_classes import Probabilities

# Where there is noise, so many flags for each label that is expected to be wrong, at most: with
# more, most of them are the evidence's own mistakes.
FLAGS_PER_WRONG = 2.5

# Where noise cannot be separated from the evidence's own mistakes, no more than this share of all
# labels and of those of a class is flagged, but one label of a class may be.
UNDETECTED_SHARE, UNDETECTED_CLASS_SHARE = 0.02, 0.1

# With fewer independent rows of a class, its labels cannot be evaluated by the probabilities alone,
# and no more than this share of them is flagged, but one may be.
SMALL_CLASS, SMALL_CLASS_SHARE = 10, 1 / 3

# A class is recognized where it is predicted for so many rows for each of its labels, and for this
# share of those; below the larger share, the others must be predicted to be few classes (Simpson's
# concentration), as wrong labels are and a class without looks of its own is not. What is not
# recognized cannot be called wrong: patches of tables look like what stands on them. Chosen on
# 24 sets of Caltech-101 and CIFAR-10 with up to 40 % of such classes, and COCO's patches.
PREDICTED, LEAST_RECOGNIZED, RECOGNIZED, OF_FEW_CLASSES = 0.4, 0.1, 1 / 3, 0.2

# One class is found within another one where so many of the rows that look like it, at least this
# share of them, have the other label; the other class is learned this well from rows of its own, is
# not so many times as large, and the first one is learned at all. On 47 sets with clean or noisy
# labels of which no class was mislabeled as a whole, no pair was like this (share of 0.4 instead of
# 0.25 to leave room); on 4 sets where half of one class was, that class was.
SHARED_ROWS, SHARED_SHARE = 8, 0.4
OTHER_LEARNED, OTHER_SIZE, SELF_LEARNED = 0.6, 5, 0.15


@dataclass(frozen=True)
class SharedClass:
    """A class of which a part has the label of another class, which also has rows of its own.

    Attributes:
        label: number of that class
        other: number of the other one
        count: rows with the other label that look like this class
        looks: rows that look like this class and have either label
    """

    label: int
    other: int
    count: int
    looks: int


def choose_flags(
    candidates: np.ndarray,
    order: np.ndarray,
    agreed: np.ndarray,
    sure: np.ndarray,
    labels: np.ndarray,
    noise: LabelNoise,
    weak: np.ndarray,
) -> np.ndarray:
    """As many of the candidates, the worst first, as the noise allows: (n,) bool.

    Args:
        candidates: (n,) bool, labels that another class suits better
        order: (n,) rows, the worst label first
        agreed: (n,) bool, probe and neighbors are for the same other class
        sure: (n,) bool, that class is far likelier
        labels: (n,) int64
        weak: (c,) bool, classes that are too small to evaluate their labels, or not recognized
    """
    sizes = np.bincount(labels, minlength=len(weak))
    most_of_class = np.where(weak, SMALL_CLASS_SHARE * sizes, sizes)
    of_weak = weak[labels]
    possible = candidates & ((agreed & sure) | ~of_weak)
    if noise.detected:
        most = round(FLAGS_PER_WRONG * noise.expected)
    else:
        most = int(UNDETECTED_SHARE * len(labels))
        most_of_class = np.minimum(most_of_class, UNDETECTED_CLASS_SHARE * sizes)
        possible &= agreed
    worst = order[possible[order]]
    worst = worst[_rank_in_class(labels[worst]) < np.maximum(most_of_class[labels[worst]], 1)]
    if noise.detected:
        most_of_weak = round(FLAGS_PER_WRONG * noise.expected_of(of_weak))
        worst = worst[~of_weak[worst] | (np.cumsum(of_weak[worst]) <= most_of_weak)]
    flagged = np.zeros(len(labels), bool)
    flagged[worst[:most]] = True
    return flagged


def small_classes(labels: np.ndarray, groups: np.ndarray, num_classes: int) -> np.ndarray:
    """Classes with too few independent rows, of those that have any: (c,) bool.

    Args:
        labels, groups: (n,) int64; rows of a duplicate group, -1 = in none, are one
    """
    cells = np.unique(unit_numbers(len(labels), groups) * num_classes + labels)
    independent = np.bincount(cells % num_classes, minlength=num_classes)
    return (independent > 0) & (independent < SMALL_CLASS)


def unrecognized_classes(said: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Classes that the evidence does not recognize, of those that have rows: (c,) bool.

    Args:
        said, labels: (n,) int64, the likeliest class and the label
    """
    sizes = np.bincount(labels, minlength=num_classes)
    some = np.maximum(sizes, 1)
    predicted = np.bincount(said, minlength=num_classes) / some
    recognized = np.bincount(labels[said == labels], minlength=num_classes) / some
    others = said != labels
    cells, counts = np.unique(labels[others] * num_classes + said[others], return_counts=True)
    pairs = np.bincount(cells // num_classes, counts * (counts - 1.0), minlength=num_classes)
    missed = np.bincount(labels[others], minlength=num_classes)
    concentration = pairs / np.maximum(missed * (missed - 1.0), 1)
    scattered = (recognized < RECOGNIZED) & (concentration < OF_FEW_CLASSES)
    return (sizes > 0) & ((predicted < PREDICTED) | (recognized < LEAST_RECOGNIZED) | scattered)


def shared_classes(
    probabilities: Probabilities, labels: np.ndarray
) -> tuple[tuple[SharedClass, ...], np.ndarray]:
    """Classes of which a part has another label, and the class that such rows look like.

    Rows with either label are predicted to be both, so no label beats the other one. What shows
    which is wrong is where the rest of each class is: a row looks like the class whose probability
    is highest beside what rows with that label usually have (confident learning's thresholds).

    Returns:
        the pairs, and (n,) int64, for rows with the other label the class they look like, or -1
    """
    num_classes = probabilities.shape[1]
    sizes = np.bincount(labels, minlength=num_classes)
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    usual = np.bincount(labels, own, minlength=num_classes) / np.maximum(sizes, 1)
    usual[sizes == 0] = np.inf
    looks = np.empty(len(labels), np.int64)
    for part in row_blocks(0, len(labels)):
        beside = probabilities[part] / np.maximum(usual, 1e-7).astype(np.float32)
        best = beside.argmax(axis=1)
        looks[part] = np.where(beside[np.arange(len(best)), best] >= 1, best, -1)

    seen = looks >= 0
    cells, counts = np.unique(looks[seen] * num_classes + labels[seen], return_counts=True)
    rows_of_cell = dict(zip(cells.tolist(), counts.tolist()))
    pairs, claimed = [], np.full(len(labels), -1)
    for cell, count in rows_of_cell.items():
        label, other = divmod(cell, num_classes)
        both = count + rows_of_cell.get(label * num_classes + label, 0)
        if (
            label != other
            and count >= max(SHARED_ROWS, SHARED_SHARE * both)
            and sizes[label] >= SMALL_CLASS
            and sizes[other] <= OTHER_SIZE * sizes[label]
            and usual[other] >= OTHER_LEARNED
            and usual[label] >= SELF_LEARNED
        ):
            pairs.append(SharedClass(label, other, count, both))
            claimed[(looks == label) & (labels == other)] = label
    return tuple(pairs), claimed


def _rank_in_class(labels: np.ndarray) -> np.ndarray:
    """How many rows of the same class stand before each: (n,) int64."""
    order = np.argsort(labels, kind="stable")
    _, first, counts = np.unique(labels[order], return_index=True, return_counts=True)
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(first, counts)
    return rank
