"""What the library cleanlab estimates of label noise, from held-out probabilities."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from .likely_classes import LikelyClasses, Probabilities, blocks, of_classes

# The least usual probability of a class, as in cleanlab.
LEAST_THRESHOLD = 1e-6

# Pairs of overlapping classes that are listed.
MAX_OVERLAPS = 100


@dataclass(frozen=True)
class ClassOverlap:
    """Two classes that are confused with each other.

    Attributes:
        first, second: class numbers, first < second
        count: estimated rows labeled as one of them that are the other
        share: of all labeled rows, in [0, 1]
    """

    first: int
    second: int
    count: int
    share: float


def confident_joint(labels: np.ndarray, probabilities: Probabilities) -> tuple[np.ndarray, int]:
    """What cleanlab estimates, of the classes that some row is labeled with.

    Args:
        labels: (n,) int64
        probabilities: (n, c); where only the likeliest classes are kept, ``_joint_in_blocks`` does
            what cleanlab would do with all of them

    Returns:
        (c, c) float64, estimated rows of each given label (row) and true one (column), and how many
        labels are considered wrong
    """
    num_classes = probabilities.shape[1]
    joint = np.zeros((num_classes, num_classes))
    classes, renumbered = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        joint[classes, classes] = len(labels)
        return joint, 0
    probabilities = of_classes(probabilities, classes)
    if isinstance(probabilities, LikelyClasses):
        confident = _joint_in_blocks(renumbered, probabilities)
        joint[np.ix_(classes, classes)] = confident
        return joint, _count_in_blocks(renumbered, probabilities, confident)
    from cleanlab.count import compute_confident_joint
    from cleanlab.filter import find_label_issues as find

    if len(classes) < num_classes:
        probabilities /= np.maximum(probabilities.sum(axis=1, keepdims=True), 1e-30)
    with warnings.catch_warnings():
        # About classes of too few members to evaluate, for which it flags none.
        warnings.simplefilter("ignore")
        confident = compute_confident_joint(renumbered, probabilities)
        wrong = find(renumbered, probabilities, confident_joint=confident, n_jobs=1)
    joint[np.ix_(classes, classes)] = confident
    return joint, int(wrong.sum())


def _joint_in_blocks(labels: np.ndarray, probabilities: LikelyClasses) -> np.ndarray:
    """``cleanlab.count.compute_confident_joint``, with no more than a block of the rows at once.

    Args:
        labels: (n,) int64, each class occurs
    """
    from cleanlab.count import calibrate_confident_joint

    num_classes = probabilities.shape[1]
    own = probabilities[np.arange(len(labels)), labels]
    usual = np.bincount(labels, own, minlength=num_classes) / np.bincount(labels)
    thresholds = np.maximum(usual, LEAST_THRESHOLD) - 1e-6
    joint = np.zeros((num_classes, num_classes), np.int64)
    for part in blocks(probabilities):
        block = probabilities[part]
        confident = block >= thresholds
        number = confident.sum(axis=1)
        true = np.where(number > 1, block.argmax(axis=1), confident.argmax(axis=1))
        np.add.at(joint, (labels[part][number > 0], true[number > 0]), 1)
    np.fill_diagonal(joint, joint.diagonal().clip(min=1))
    return calibrate_confident_joint(joint, labels)


def _count_in_blocks(labels: np.ndarray, probabilities: LikelyClasses, joint: np.ndarray) -> int:
    """How many labels ``cleanlab.filter.find_label_issues`` considers wrong, class by class.

    It prunes by noise rate: of each pair of classes as many rows as the joint counts, those that
    the other class suits best beside the label, and none where the label is the likeliest class.
    """
    order = np.argsort(labels, kind="stable")
    wrong = 0
    for label, members in enumerate(np.split(order, np.cumsum(np.bincount(labels))[:-1])):
        others = np.flatnonzero(joint[label])
        others = others[others != label]
        if len(members) < 2 or not len(others):
            continue
        block = probabilities[members]
        pruned = np.zeros(len(members), bool)
        for other in others:
            margin = block[:, label] - block[:, other]
            pruned[np.argsort(margin, kind="stable")[: joint[label, other]]] = True
        wrong += int(np.count_nonzero(pruned & (block[:, label] < block.max(axis=1) - 1e-8)))
    return wrong


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
