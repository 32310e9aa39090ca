"""What the library cleanlab estimates of label noise, from held-out probabilities."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

# Pairs of overlapping classes that are listed.
MAX_OVERLAPS = 100


@dataclass(frozen=True)
class ClassOverlap:
    """Two classes that are taken for each other.

    Attributes:
        first, second: class numbers, first < second
        count: estimated rows labeled as one of them that are the other
        share: of all labeled rows, in [0, 1]
    """

    first: int
    second: int
    count: int
    share: float


def confident_joint(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, int]:
    """What cleanlab estimates, of the classes that some row is labeled with.

    Returns:
        (c, c) float64, estimated rows of each given label (row) and true one (column), and how many
        labels are taken for wrong
    """
    from cleanlab.count import compute_confident_joint
    from cleanlab.filter import find_label_issues as find

    num_classes = probabilities.shape[1]
    joint = np.zeros((num_classes, num_classes))
    classes, renumbered = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        joint[classes, classes] = len(labels)
        return joint, 0
    if len(classes) < num_classes:
        probabilities = probabilities[:, classes]
        probabilities /= np.maximum(probabilities.sum(axis=1, keepdims=True), 1e-30)
    with warnings.catch_warnings():
        # About classes of too few members to judge, for which it flags none.
        warnings.simplefilter("ignore")
        confident = compute_confident_joint(renumbered, probabilities)
        wrong = find(renumbered, probabilities, confident_joint=confident, n_jobs=1)
    joint[np.ix_(classes, classes)] = confident
    return joint, int(wrong.sum())


def noise_matrix(joint: np.ndarray) -> np.ndarray:
    """The probability of each given label (column) for each true class (row): (c, c) float64."""
    true = joint.sum(axis=0)
    given = joint.T / np.maximum(true, 1e-30)[:, None]
    return np.where(true[:, None] > 0, given, np.eye(len(true)))


def class_overlaps(joint: np.ndarray, num_labeled: int) -> tuple[ClassOverlap, ...]:
    """The pairs of classes that are confused most, the most first, 100 at most."""
    both = np.triu(joint + joint.T, 1)
    firsts, seconds = np.nonzero(both)
    worst = np.lexsort((seconds, firsts, -both[firsts, seconds]))[:MAX_OVERLAPS]
    pairs = zip(firsts[worst].tolist(), seconds[worst].tolist())
    return tuple(
        ClassOverlap(first, second, round(both[first, second]), both[first, second] / num_labeled)
        for first, second in pairs
    )
