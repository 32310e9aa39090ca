"""Labels that are likely wrong: cleanlab's estimates on held-out evidence, ranked by agreement.

Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels" (2021),
through the library cleanlab. What it works on is ours: see ``class_probe``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._confident_learning import ClassOverlap, class_overlaps, confident_joint, noise_matrix
from ._label_flags import (
    SMALL_CLASS,
    UNDETECTED_SHARE,
    SharedClass,
    choose_flags,
    shared_classes,
    small_classes,
    unrecognized_classes,
)
from ._label_noise import estimate_noise
from .class_probe import ClassEvidence
from .likely_classes import Probabilities, blocks, of_rows
from .model_predictions import CheckedPredictions, check_predictions, given_probabilities
from .multilabel_issues import MultilabelIssues, find_multilabel_issues
from .neighbors import NeighborGraph

__all__ = [
    "SMALL_CLASS",
    "UNDETECTED_SHARE",
    "CheckedPredictions",
    "ClassOverlap",
    "LabelIssues",
    "MultilabelIssues",
    "SharedClass",
    "check_predictions",
    "find_label_issues",
    "find_multilabel_issues",
]

# Neighbors that are named as speaking against a label.
MAX_AGAINST = 5

# A label is flagged whatever the count when another one is seven times as likely. On Caltech-101
# with planted issues, precision is 0.84 and recall 0.88, a flagged image of clutter counting as
# wrong; between 0.10 and 0.14 they stay above 0.80 and 0.87. On CIFAR-10N cleanlab's count has all.
SURE = 1 / 8

# The evidence is unanimous from this share of the votes for the other class, up to this one for the
# label, and from this probability of the probe.
FOR_OTHER, FOR_LABEL, PROBED = 0.85, 0.1, 0.5


@dataclass(frozen=True)
class LabelIssues:
    """What speaks against the labels.

    Attributes:
        quality: (n,) float32 in [0, 1], 0 wrong; NaN for unlabeled rows
        flagged: (n,) bool, likely wrong
        suggested: (n,) int64, the likeliest other class of a labeled row; -1 for unlabeled rows and
            where there is no other class
        confidence: (n,) float32, probability of the suggestion; NaN where there is none
        probe_suggested: (n,) int64, the class that the probe finds likeliest, -1 for unlabeled rows
        probe_confidence: (n,) float32, and its probability
        neighbors_suggested: (n,) int64, the class that most neighbors vote for, -1 where none may
        neighbors_confidence: (n,) float32, and its share of the votes
        against: (n, 5) int32, where the neighbors vote for another class than the label, the
            nearest ones outside the own duplicate group that have it; filled up with -1
        order: (num_labeled,) int64, rows: flagged ones first, each part with the worst first
        noise: (c, c) float64, estimated probability of the given label (column) for each true one
            (row); rows sum to 1
        overlaps: pairs of classes that are confused most, the most first
        expected_precision: estimated share of the flagged labels that are wrong, in [0, 1]; NaN
            when none is flagged or when it cannot be estimated
        precision_range: the lowest and highest share that the evidence allows, or NaN
        noise_detected: whether the evidence separates label noise from its own mistakes; where it
            does not, little is flagged
        class_counts: (c,) int64, labeled rows of each class
        class_flagged: (c,) int64, flagged ones among them
        class_small: (c,) bool, classes with too few independent rows to evaluate their labels
        class_unrecognized: (c,) bool, larger classes that the evidence does not recognize, so that
            it cannot evaluate their labels either
        shared: pairs of classes of which one is found within the other
    """

    quality: np.ndarray
    flagged: np.ndarray
    suggested: np.ndarray
    confidence: np.ndarray
    probe_suggested: np.ndarray
    probe_confidence: np.ndarray
    neighbors_suggested: np.ndarray
    neighbors_confidence: np.ndarray
    against: np.ndarray
    order: np.ndarray
    noise: np.ndarray
    overlaps: tuple[ClassOverlap, ...]
    expected_precision: float
    precision_range: tuple[float, float]
    noise_detected: bool
    class_counts: np.ndarray
    class_flagged: np.ndarray
    class_small: np.ndarray
    class_unrecognized: np.ndarray
    shared: tuple[SharedClass, ...]


def find_label_issues(
    labels: np.ndarray,
    evidence: ClassEvidence,
    graph: NeighborGraph,
    groups: np.ndarray | None = None,
    outliers: np.ndarray | None = None,
    confirmed: bool = False,
) -> LabelIssues:
    """Finds labels that are likely wrong.

    As many are flagged as cleanlab counts (``prune_by_noise_rate``), those of lowest quality, and
    beyond that any label beside which another one is far likelier; but no more than the noise
    allows that the evidence can separate from its own mistakes, and of small classes only what
    probe and neighbors agree on (``choose_flags``). What is flagged as an outlier is not flagged
    here: no class claims it. Where one class is found within another, the rows with the other label
    are flagged.

    Args:
        labels: (n,) integers, -1 = unlabeled
        evidence: held-out probabilities, or ``check_predictions`` of a model's predictions
        graph: neighbors of the same rows
        groups: (n,) integers, duplicate group numbers, -1 = in none; None: no groups known
        outliers: (n,) bool, ``find_outliers(...).flagged``; None: not known
        confirmed: whether people have confirmed that labels are wrong: then as many are flagged as
            the noise allows, also where the evidence alone does not show that there is any

    Raises:
        ValueError: if the arrays do not fit each other

    Example:
        >>> from sklearn.datasets import load_digits
        >>> from fiftyone_embedding_quality.analysis.class_probe import held_out_probabilities
        >>> from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
        >>> from fiftyone_embedding_quality.analysis.vectors import unit_rows
        >>> images, labels = load_digits(n_class=3, return_X_y=True)
        >>> rows, labels[7] = unit_rows(images).rows, 2  # a 1 with a wrong label
        >>> graph = neighbor_graph(rows)
        >>> found = find_label_issues(labels, held_out_probabilities(rows, labels, 3, graph), graph)
        >>> int(found.order[0]), int(found.suggested[7]), bool(found.flagged[7])
        (7, 1, True)
    """
    labels, groups = _checked(labels, evidence, graph, groups, outliers)
    num_rows, num_classes = evidence.probabilities.shape
    labeled = np.flatnonzero(labels >= 0)
    everything = len(labeled) == num_rows
    known = evidence.probabilities
    if not everything:
        known = of_rows(known, labeled)
    probe_suggested, probe_confidence = _likeliest(evidence.probe, labels)
    neighbors_suggested, neighbors_confidence = _likeliest(evidence.votes, labels)
    standing = _standing(known, labels[labeled])
    joint, count = confident_joint(labels[labeled], known)
    likely = _likely_wrong(standing, count)
    agreed = probe_suggested[labeled] == standing.suggested
    agreed &= neighbors_suggested[labeled] == standing.suggested
    claimed = np.ones(len(labeled), bool) if outliers is None else ~outliers[labeled]
    unanimous = agreed & _unanimous(evidence, labels, labeled, standing.suggested)
    flags = _flags(
        known,
        labels[labeled],
        groups[labeled],
        standing,
        likely,
        agreed,
        unanimous,
        claimed,
        confirmed,
    )

    flagged = _spread(flags.flagged, labeled, num_rows, False)
    quality = _spread(standing.quality, labeled, num_rows, np.nan)
    against = _against(labels, neighbors_suggested, graph, groups)
    if num_classes > 1:
        neighbors_suggested[neighbors_confidence <= 1.0001 / num_classes] = -1
    return LabelIssues(
        quality=quality,
        flagged=flagged,
        suggested=_spread(standing.suggested, labeled, num_rows, -1),
        confidence=_spread(standing.confidence, labeled, num_rows, np.nan),
        probe_suggested=probe_suggested,
        probe_confidence=probe_confidence,
        neighbors_suggested=neighbors_suggested,
        neighbors_confidence=neighbors_confidence,
        against=against,
        order=labeled[np.lexsort((labeled, quality[labeled], ~flagged[labeled]))],
        noise=noise_matrix(joint),
        overlaps=class_overlaps(joint, len(labeled)),
        expected_precision=flags.precision[0],
        precision_range=flags.precision[1:],
        noise_detected=flags.noise_detected,
        class_counts=np.bincount(labels[labeled], minlength=num_classes),
        class_flagged=np.bincount(labels[flagged], minlength=num_classes),
        class_small=flags.small,
        class_unrecognized=flags.unrecognized,
        shared=flags.shared,
    )


def _checked(
    labels: np.ndarray,
    evidence: ClassEvidence,
    graph: NeighborGraph,
    groups: np.ndarray | None,
    outliers: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and groups (n,) int64, if the arrays fit each other."""
    num_rows, num_classes = evidence.probabilities.shape
    labels = np.asarray(labels, np.int64)
    groups = np.full(num_rows, -1) if groups is None else np.asarray(groups, np.int64)
    if not labels.shape == groups.shape == (num_rows,) or graph.num_rows != num_rows:
        raise ValueError("labels, evidence, graph and groups must be of the same rows")
    if outliers is not None and np.shape(outliers) != (num_rows,):
        raise ValueError(f"outliers must have one entry for each of {num_rows} rows")
    if num_rows and labels.max() >= num_classes:
        raise ValueError(f"Labels must be below {num_classes}")
    return labels, groups


@dataclass(frozen=True)
class _Standing:
    """How the labels of n labeled rows stand beside the likeliest other class.

    Attributes:
        suggested: (n,) int64, that class, -1 where there is no other one
        confidence: (n,) float32, its probability, or NaN
        ratio: (n,) floats in [0, 1], probability of the label among the two
        quality: (n,) float32 in [0, 1], 0 wrong
    """

    suggested: np.ndarray
    confidence: np.ndarray
    ratio: np.ndarray
    quality: np.ndarray


def _standing(probabilities: Probabilities, labels: np.ndarray) -> _Standing:
    given = given_probabilities(probabilities, labels)
    if probabilities.shape[1] > 1:
        suggested, confidence = _likeliest_other(probabilities, labels)
        ratio = given / np.maximum(given + confidence, 1e-30)
    else:
        suggested = np.full(len(labels), -1)
        confidence = np.full(len(labels), np.nan, np.float32)
        ratio = np.ones(len(labels))
    # cleanlab's self-confidence, and how the label stands beside the likeliest other one. With half
    # the weight this is better than without on Caltech-101, where hard rows have a low confidence
    # in every class, and under heavy noise; under light noise it costs 0.003 average precision.
    quality = (given * np.sqrt(ratio)).astype(np.float32)
    return _Standing(suggested, confidence, ratio, quality)


def _likely_wrong(standing: _Standing, count: int) -> np.ndarray:
    """The ``count`` rows of lowest quality that another class suits better, and the sure ones."""
    wrong = np.zeros(len(standing.ratio), bool)
    wrong[np.lexsort((standing.ratio, standing.quality))[:count]] = True
    return (wrong & (standing.ratio < 0.5)) | (standing.ratio < SURE)


@dataclass(frozen=True)
class _Flags:
    """Which of n labeled rows are flagged, and what is known of that.

    Attributes:
        flagged: (n,) bool
        precision: estimate, lowest and highest share that is wrong; NaN where not known
        noise_detected, small, unrecognized, shared: as in ``LabelIssues``
    """

    flagged: np.ndarray
    precision: tuple[float, float, float]
    noise_detected: bool
    small: np.ndarray
    unrecognized: np.ndarray
    shared: tuple[SharedClass, ...]


def _unanimous(
    evidence: ClassEvidence, labels: np.ndarray, labeled: np.ndarray, suggested: np.ndarray
) -> np.ndarray:
    """Where neighbors and probe are for another class, and hardly a neighbor for the label.

    In sets that are recognized without mistakes, the noise is all that makes predictions unsure,
    and so looks like their own doubt; there, wrong labels are unanimous. Of clean sets 0.6 % of the
    labels are so at most (CIFAR-10 with 10 to 200 images per class, Caltech-101 with 3 to 30).

    Args:
        evidence: of all rows
        labels: (num_rows,) int64, -1 for none
        labeled: (n,) int64, which rows
        suggested: (n,) int64, the other class, or -1

    Returns:
        (n,) bool
    """
    votes, probe, other = evidence.votes, evidence.probe, np.maximum(suggested, 0)
    clear = (votes[labeled, other] >= FOR_OTHER) & (votes[labeled, labels[labeled]] <= FOR_LABEL)
    return clear & (probe[labeled, other] >= PROBED) & (suggested >= 0)


def _flags(
    probabilities: Probabilities,
    labels: np.ndarray,
    groups: np.ndarray,
    standing: _Standing,
    likely: np.ndarray,
    agreed: np.ndarray,
    unanimous: np.ndarray,
    claimed: np.ndarray,
    confirmed: bool,
) -> _Flags:
    """Which labels are flagged, and how many of them are expected to be wrong.

    Args:
        probabilities, labels, groups: of the n labeled rows
        standing: of these rows
        likely: (n,) bool, labels that another class suits better
        agreed: (n,) bool, probe and neighbors are for the same other class
        unanimous: (n,) bool, and hardly anything is for the label
        claimed: (n,) bool, rows that are no outliers
        confirmed: people have found wrong labels
    """
    unknown = (float("nan"),) * 3
    num_classes = probabilities.shape[1]
    small = small_classes(labels, groups, num_classes)
    if len(labels) == 0 or num_classes < 2:
        return _Flags(likely, unknown, False, small, small & False, ())
    in_group = np.bincount(np.maximum(groups, 0))[np.maximum(groups, 0)]
    unrecognized = unrecognized_classes(probabilities.argmax(axis=1), labels, num_classes)
    weak = small | unrecognized
    noise = estimate_noise(probabilities, labels, 1 / np.where(groups >= 0, in_group, 1), weak)
    order = np.lexsort((standing.ratio, standing.quality))
    sure = standing.ratio < SURE
    flagged = choose_flags(likely, order, agreed, sure, labels, noise, weak)
    if confirmed and not noise.detected:
        flagged |= likely & agreed & ~weak[labels]
    elif not noise.detected:
        flagged |= likely & unanimous & ~weak[labels]
    flagged &= claimed
    # A wrong label among few spoils what is learned of their class, so that right ones disagree.
    in_small = np.count_nonzero(small[labels[flagged]])
    known = noise.detected and 2 * in_small < np.count_nonzero(flagged)
    precision = noise.precision(flagged) if known else unknown
    shared, looks = shared_classes(probabilities, labels)
    # Both classes of such a pair are predicted for all of its rows: the noise is no evidence there.
    for pair in shared:
        flagged &= ~((labels == pair.label) & (standing.suggested == pair.other))
    flagged |= (looks >= 0) & (looks == standing.suggested) & claimed
    return _Flags(flagged, precision, noise.detected, small, unrecognized & ~small, shared)


def _spread(values: np.ndarray, rows: np.ndarray, num_rows: int, fill: float) -> np.ndarray:
    """The values at these rows, and ``fill`` at all others: (num_rows,)."""
    spread = np.full(num_rows, fill, values.dtype)
    spread[rows] = values
    return spread


def _likeliest_other(
    probabilities: Probabilities, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest class but the label, (n,) int64, and its probability, (n,) float32."""
    suggested = np.empty(len(labels), np.int64)
    confidence = np.empty(len(labels), np.float32)
    for part in blocks(probabilities):
        others = probabilities[part].copy()
        every_row = np.arange(len(others))
        others[every_row, labels[part]] = -1
        suggested[part] = others.argmax(axis=1)
        confidence[part] = others[every_row, suggested[part]]
    return suggested, confidence


def _likeliest(probabilities: Probabilities, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted = probabilities.argmax(axis=1)
    confidence = given_probabilities(probabilities, predicted).astype(np.float32)
    labeled = labels >= 0
    return np.where(labeled, predicted, -1), np.where(labeled, confidence, np.float32(np.nan))


def _against(
    labels: np.ndarray, voted: np.ndarray, graph: NeighborGraph, groups: np.ndarray
) -> np.ndarray:
    against = np.full((len(labels), MAX_AGAINST), -1, np.int32)
    rows = np.flatnonzero((voted >= 0) & (voted != labels) & (labels >= 0))
    neighbors = graph.indices[rows]
    speaks = labels[neighbors] == voted[rows, None]
    speaks &= (groups[rows, None] < 0) | (groups[neighbors] != groups[rows, None])
    rank = speaks.cumsum(axis=1) - 1
    place, column = np.nonzero(speaks & (rank < MAX_AGAINST))
    against[rows[place], rank[place, column]] = neighbors[place, column]
    return against
