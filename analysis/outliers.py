"""Rows that are unlike the others: far from their neighbors and, with labels, of no class.

What speaks for an outlier, each measured against a typical row of the same set:

- distance: it is far from its neighbors, and these are far from each other (an image that is
  like nothing else has neighbors of every kind), compared with the whole set and, half and half,
  with its own class.
- doubt: the held-out class probabilities are spread over many classes.
- misfit: they give little to the class that the row is labeled with. A wrong label has misfit
  without doubt, for another class claims the row: that is a label issue, not an outlier.

A logistic regression turns them into a score. Near-duplicates of a row say nothing about it: ten
copies of an unusual image are still unusual.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._outlier_distance import UPPER_TENTH, distance_evidence
from .likely_classes import Probabilities
from .neighbors import NeighborGraph

NOT_FLAGGED, OF_THE_SET, OF_ITS_CLASS = 0, 1, 2

# Log odds of being an outlier: constant, and per unit of distance, doubt and misfit. Fitted by
# logistic regression, every set with the same weight, on EfficientNet embeddings of Caltech-101
# (random parts of it, 1 to 10 % of them clutter or images of other classes, under random labels or
# none), of CIFAR-10 (nothing planted, clean and human labels; or 1 to 10 % of other classes) and
# pixels of scikit-learn's digits (nothing, or 1 % of another class). The weight of misfit is held
# at 4: it depends on how outliers are labeled, and those under a fair label would be lost.
DISTANCE_ONLY = (-4.4, 1.75, 0.0, 0.0)
DISTANCE_AND_DOUBT = (-7.5, 1.1, 7.8, 0.0)
ALL_EVIDENCE = (-8.2, 1.2, 4.0, 4.0)

# No adaptive threshold is lower: where nothing stands out, what is left at the margin is not worth
# the reviewer's time. Where 5 % are outliers, two of three flags are real and half are found; of
# sets without any, 3 % are flagged by distance alone, 1 % with labels.
LOWEST_THRESHOLD = 0.18

# Held-out probabilities say nothing of a class with fewer members to learn it from, and the median
# distance of a class counts like one of the set's among this many.
SMALLEST_CLASS = 5

# Rows whose probabilities are read at once.
BLOCK_ROWS = 2048


@dataclass(frozen=True)
class Outliers:
    """How unusual every row is, and which rows are worth a look.

    Attributes:
        score: (num_rows,) float32 in [0, 1], 0 typical: the probability that the row is an
            outlier, as far as rows with the same evidence were outliers in sets with known ones
        flagged: (num_rows,) bool, the score reaches the threshold
        reason: (num_rows,) int8: NOT_FLAGGED; OF_THE_SET, farther from its neighbors than nine
            of ten rows; or OF_ITS_CLASS, not so far, but unusual for a row of its class
        threshold: the lowest score that is flagged
    """

    score: np.ndarray
    flagged: np.ndarray
    reason: np.ndarray
    threshold: float


def find_outliers(
    rows: np.ndarray,
    graph: NeighborGraph,
    groups: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    probabilities: Probabilities | None = None,
    threshold: float | None = None,
) -> Outliers:
    """Scores and flags outliers, from the neighbor graph and what is known of the classes.

    Args:
        rows: (num_rows, dim) float32 unit rows
        graph: of these rows
        groups: (num_rows,) int64, duplicate group of a row, -1 for none; members of the same group
            do not count as neighbors
        labels: (num_rows,) int64, class of a row, -1 for unlabeled; needs probabilities
        probabilities: (num_rows, num_classes) held-out class probabilities; needs labels
        threshold: the lowest score to flag, in (0, 1]; by default the one with the highest
            expected F1, but not below LOWEST_THRESHOLD. When few rows stand out it is low and
            still few rows are flagged; when many do it is higher and fewer flags are wrong

    Raises:
        ValueError: if arrays do not fit each other, or the threshold is out of range

    Example:
        An image of noise, put behind 500 images of digits:

        >>> from sklearn.datasets import load_digits
        >>> from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
        >>> from fiftyone_embedding_quality.analysis.vectors import unit_rows
        >>> noise = np.random.default_rng(51).random((1, 64))
        >>> rows = unit_rows(np.concatenate([load_digits().data[:500], noise])).rows
        >>> found = find_outliers(rows, neighbor_graph(rows))
        >>> int(found.score.argmax()), bool(found.flagged[500])
        (500, True)
    """
    _check(rows, graph, groups, labels, probabilities, threshold)
    if graph.k == 0:
        nothing = np.zeros(len(rows), np.int8)
        lowest = LOWEST_THRESHOLD if threshold is None else threshold
        return Outliers(nothing.astype(np.float32), nothing.astype(bool), nothing, lowest)

    distance = distance_evidence(rows, graph, groups)
    log_odds = _log_odds(DISTANCE_ONLY, distance)
    if labels is not None and probabilities is not None and probabilities.shape[1] > 1:
        taught = labels >= 0
        sizes = np.bincount(labels[taught], minlength=probabilities.shape[1])
        taught[taught] = sizes[labels[taught]] >= SMALLEST_CLASS
        evaluated = taught | (labels < 0)
        if taught.any():
            doubt, misfit = _class_evidence(labels, probabilities, evaluated, taught)
            unlabeled = _log_odds(DISTANCE_AND_DOUBT, distance, doubt)
            in_class = distance - _class_medians(distance, labels, taught) / 2
            labeled = _log_odds(ALL_EVIDENCE, in_class, doubt, misfit)
            log_odds = np.where(evaluated, np.where(taught, labeled, unlabeled), log_odds)

    score = (1 / (1 + np.exp(-log_odds))).astype(np.float32)
    if threshold is None:
        threshold = max(_best_threshold(score), LOWEST_THRESHOLD)
    flagged = score >= np.float32(threshold)
    far = (distance > UPPER_TENTH) | (labels is None)
    reason = np.where(flagged, np.where(far, OF_THE_SET, OF_ITS_CLASS), NOT_FLAGGED)
    return Outliers(score, flagged, reason.astype(np.int8), threshold)


def _class_evidence(
    labels: np.ndarray, probabilities: Probabilities, evaluated: np.ndarray, taught: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Doubt and misfit of every row beyond those of a typical one.

    Where classes are hard to separate or many labels are wrong, a typical row has some of both.

    Returns:
        doubt: (num_rows,) entropy of the probabilities, as a share of the highest possible one
        misfit: (num_rows,) the probability that is not given to the row's own class
    """
    num_classes = probabilities.shape[1]
    doubt = np.zeros(len(labels))
    for start in range(0, len(labels), BLOCK_ROWS):
        block = probabilities[start : start + BLOCK_ROWS].astype(np.float64)
        logarithms = np.log(block, where=block > 0, out=np.zeros_like(block))
        doubt[start : start + BLOCK_ROWS] = -(block * logarithms).sum(axis=1) / np.log(num_classes)
    misfit = 1.0 - probabilities[np.arange(len(labels)), np.maximum(labels, 0)]
    return doubt - np.median(doubt[evaluated]), misfit - np.median(misfit[taught])


def _class_medians(distance: np.ndarray, labels: np.ndarray, taught: np.ndarray) -> np.ndarray:
    """The median of every row's class, nearer to 0, that of the set, for small classes.

    Returns:
        (num_rows,) float64, 0 for rows that are not taught
    """
    medians = np.zeros(len(distance))
    members = np.flatnonzero(taught)
    members = members[np.argsort(labels[members], kind="stable")]
    _, starts = np.unique(labels[members], return_index=True)
    for part in np.split(members, starts[1:]):
        medians[part] = np.median(distance[part]) * len(part) / (len(part) + SMALLEST_CLASS)
    return medians


def _log_odds(
    weights: tuple[float, float, float, float],
    distance: np.ndarray,
    doubt: np.ndarray | float = 0.0,
    misfit: np.ndarray | float = 0.0,
) -> np.ndarray:
    constant, of_distance, of_doubt, of_misfit = weights
    total = constant + of_distance * distance + of_doubt * doubt + of_misfit * misfit
    return np.clip(total, -50, 50)


def _best_threshold(score: np.ndarray) -> float:
    """The score at which flagging has the highest expected F1, if scores are probabilities.

    Lipton, Elkan and Naryanaswamy, "Optimal thresholding of classifiers to maximize F1 measure"
    (2014).
    """
    falling = np.sort(score.astype(np.float64))[::-1]
    flags = np.arange(1, len(falling) + 1)
    expected = 2 * np.cumsum(falling) / (flags + falling.sum())
    return float(falling[expected.argmax()])


def _check(
    rows: np.ndarray,
    graph: NeighborGraph,
    groups: np.ndarray | None,
    labels: np.ndarray | None,
    probabilities: Probabilities | None,
    threshold: float | None,
) -> None:
    num_rows = len(rows)
    if graph.num_rows != num_rows:
        raise ValueError(f"The neighbor graph has {graph.num_rows} rows for {num_rows} embeddings")
    if (labels is None) != (probabilities is None):
        raise ValueError("labels and probabilities must be given together")
    aligned = {"groups": groups, "labels": labels, "probabilities": probabilities}
    for name, values in aligned.items():
        if values is not None and len(values) != num_rows:
            raise ValueError(f"{name} has {len(values)} entries for {num_rows} embeddings")
    if labels is not None and probabilities is not None and num_rows:
        named, num_classes = labels.max(), probabilities.shape[1]
        if named >= num_classes:
            raise ValueError(f"labels name class {named}, but probabilities has {num_classes}")
    if threshold is not None and not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, not {threshold}")
