"""Labels for what has none, from what has: how likely each is, and which are sure enough.

Three kinds of evidence are added as log odds of the classes:

- label propagation on the neighbor graph, every class scaled to the same mass;
- the cosine to the mean of each class, among rows that are averaged with their neighbors;
- where classes have enough labels, the held-out probabilities of ``class_probe``.

Every labeled row is predicted without its own label and those of its duplicates, too. These
predictions turn log odds into a confidence: a prior from sets with known labels is fitted to them,
and where they are few the confidence stays low (MacKay, "The evidence framework applied to
classification networks", 1992).

A row may be of none of the classes. The share of such rows is estimated from how much of what is
unlabeled is less like its class than what is labeled (learning from positive and unlabeled
examples: Elkan and Noto, 2008), and rows that are too unlike their class get no label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._label_spreading import Spreading
from .likely_classes import Probabilities
from .neighbors import NeighborGraph

# What a cosine of 1 to the mean of a class counts in log odds.
MEAN_WEIGHT = 5.0

# The least propagated mass, as a share of an average row's, and the least probability.
LEAST_MASS = LEAST_PROBABILITY = 1e-6

# Classes that are spread at once: 13 MB for 50,000 rows.
BLOCK_CLASSES = 64

# Log odds beyond these carry no more information.
LOWEST_ODDS, HIGHEST_ODDS = -3.0, 8.0

# Logit of the confidence: constant, and per unit of log odds; with their precisions (1 / variance).
# The prior of what the held-out predictions say.
PRIOR, PRIOR_PRECISION = np.array([-0.3, 0.8]), np.array([1.0, 8.0])

# How known a row looks: per unit of log odds, of likeness, and of the logarithm of its mass beside
# the labeled rows of its class. Fitted on half the classes of Caltech-101 among the others, on five
# classes of CIFAR-10 and six of scikit-learn's digits among the rest; evaluated on the other halves
# and on the clutter of Caltech-101.
KNOWN_WEIGHTS = (0.4, 0.25, 0.85)

# Right held-out predictions from which unknown rows are recognized, and predictions from which the
# confidence counts as calibrated.
MIN_KNOWN, MIN_CALIBRATED = 10, 50

# Of rows like the labeled ones this share is given up for the sake of unknown ones, of which at
# most that share may pass, by the estimate; it is no better where they are few.
GIVEN_UP, LET_PASS = 0.15, 0.03

# Standard errors that the share of unknown rows is estimated on the low side.
SLACK = 0.5

# No suggestion is accepted that is more likely wrong than right.
LEAST_CONFIDENCE = 0.5

# Expected precisions for which the number of accepted suggestions is reported.
PRECISIONS = (0.8, 0.9, 0.95, 0.98, 0.99)


@dataclass(frozen=True)
class Suggestions:
    """Suggested labels of the unlabeled rows.

    Attributes:
        label: (n,) int64 class; -1 for labeled rows and for those that may be of no class
        confidence: (n,) float32 in [0, 1], the probability that the label is right
        accepted: (n,) bool, together they are as precise as was asked for
        expected_precision: the mean confidence of the accepted ones, or NaN
        table: how many would be accepted, by the expected precision
        unknown: rows that may be of none of the classes
        held_out: labeled rows that were predicted without their own label
        held_out_accuracy: share of these that were predicted right, or NaN
    """

    label: np.ndarray
    confidence: np.ndarray
    accepted: np.ndarray
    expected_precision: float
    table: dict[float, int]
    unknown: int
    held_out: int
    held_out_accuracy: float

    @property
    def calibrated(self) -> bool:
        """Whether enough was held out to know how often suggestions are right."""
        return self.held_out >= MIN_CALIBRATED


def suggest_labels(
    rows: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    graph: NeighborGraph,
    groups: np.ndarray | None = None,
    probabilities: Probabilities | None = None,
    precision: float = 0.95,
) -> Suggestions:
    """Suggests a label for every unlabeled row, and accepts those that are sure enough.

    Args:
        rows: (n, d) float32 unit rows, zero rows allowed
        labels: (n,) int64, classes below ``num_classes``, -1 = unlabeled
        num_classes: c, at least 2
        graph: neighbors of the same rows
        groups: (n,) int64, duplicate group, -1 = in none; None: none known
        probabilities: (n, c) class probabilities, of labeled rows held-out, or None
        precision: the share of accepted suggestions that must be right, in (0, 1)

    Raises:
        ValueError: if the arrays do not fit each other, a class has no row with a direction, or
            the precision is out of range
    """
    directed = rows.any(axis=1)
    labels = np.where(directed, labels, -1)
    groups = np.full(len(rows), -1) if groups is None else groups
    _check(rows, labels, num_classes, graph, groups, probabilities, precision)
    scores = _scores(rows, labels, num_classes, graph, groups, probabilities)
    unlabeled = (labels < 0) & directed
    right = scores.held_out & (scores.label == labels)
    confidence = _confidence(scores, right)
    known = unlabeled & _known(scores, labels, unlabeled, right)
    chosen = np.flatnonzero(known)
    accepted = np.zeros(len(rows), bool)
    accepted[chosen] = _accepted(confidence[chosen], precision)
    held_out = int(scores.held_out.sum())
    return Suggestions(
        label=np.where(known, scores.label, -1),
        confidence=np.where(known, confidence, 0).astype(np.float32),
        accepted=accepted,
        expected_precision=float(confidence[accepted].mean()) if accepted.any() else float("nan"),
        table={
            wanted: int(_accepted(confidence[chosen], wanted).sum())
            for wanted in sorted({*PRECISIONS, precision})
        },
        unknown=int(unlabeled.sum() - known.sum()),
        held_out=held_out,
        held_out_accuracy=float(right.sum() / held_out) if held_out else float("nan"),
    )


@dataclass(frozen=True)
class _Scores:
    """The likeliest class of each row, without the labels of its own duplicate group.

    Attributes:
        label: (n,) int64 class
        log_odds: (n,) float64, of this class against all others
        likeness: (n,) float64, cosine to the mean of this class
        mass: (n,) float64, logarithm of the class's propagated mass, beside its labeled rows
        held_out: (n,) bool, labeled rows whose class has labels outside of their group
    """

    label: np.ndarray
    log_odds: np.ndarray
    likeness: np.ndarray
    mass: np.ndarray
    held_out: np.ndarray


def _scores(
    rows: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    graph: NeighborGraph,
    groups: np.ndarray,
    probabilities: Probabilities | None,
) -> _Scores:
    num_rows, every = len(rows), np.arange(len(rows))
    labeled = np.flatnonzero(labels >= 0)
    labeled = labeled[np.argsort(labels[labeled], kind="stable")]
    classes = labels[labeled]
    mates = _mates(labeled, groups, classes)
    spreading = Spreading(graph)
    averaged = spreading.averaged(rows)
    returned = spreading.returned(labeled, mates)
    means, own_likeness, held_out = _class_means(averaged, labeled, classes, mates)

    label, best = np.zeros(num_rows, np.int64), np.full(num_rows, -np.inf)
    likeness, mass = np.zeros(num_rows), np.zeros(num_rows)
    total = np.zeros(num_rows)  # of exp(score - best)
    for start in range(0, num_classes, BLOCK_CLASSES):
        part = slice(start, min(start + BLOCK_CLASSES, num_classes))
        mine = slice(*np.searchsorted(classes, [part.start, part.stop]))
        own = labeled[mine], classes[mine] - start
        seeds = np.zeros((num_rows, part.stop - start), np.float32)
        seeds[own] = 1
        reached = spreading.run(seeds)
        mean_mass = reached.mean(axis=0, dtype=np.float64)
        reached[own] = np.maximum(reached[own] - returned[mine], 0)
        reached = np.log(reached / mean_mass + LEAST_MASS)
        cosines = averaged @ means[part].T
        cosines[own] = own_likeness[mine]
        scores = reached + MEAN_WEIGHT * cosines
        if probabilities is not None:
            scores += np.log(probabilities[:, part] + LEAST_PROBABILITY)
        of_labeled = np.bincount(own[1], reached[own]) / np.bincount(own[1])
        there = scores.argmax(axis=1)
        highest = np.maximum(best, scores[every, there])
        total = total * np.exp(best - highest) + np.exp(scores - highest[:, None]).sum(axis=1)
        higher = scores[every, there] > best
        label[higher] = there[higher] + start
        likeness[higher] = cosines[every, there][higher]
        mass[higher] = (reached[every, there] - of_labeled[there])[higher]
        best = highest
    is_held_out = np.zeros(num_rows, bool)
    is_held_out[labeled] = held_out
    log_odds = -np.log(np.maximum(total - 1, 1e-9))
    return _Scores(label, np.clip(log_odds, LOWEST_ODDS, HIGHEST_ODDS), likeness, mass, is_held_out)


def _mates(labeled: np.ndarray, groups: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Numbers of the labeled rows, ordered by class; duplicates of the same class share one."""
    own = np.where(groups[labeled] >= 0, groups[labeled] + len(groups), labeled)
    _, mates = np.unique(np.stack([classes, own]), axis=1, return_inverse=True)
    return mates.ravel()


def _class_means(
    rows: np.ndarray, labeled: np.ndarray, classes: np.ndarray, mates: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means of the classes, and what each labeled row is to the mean of the rest of its class.

    Returns:
        (c, d) float32 unit rows; (num_labeled,) cosines, -1 where there is no rest; and whether
        there is one
    """
    sums, own = _sums(rows, labeled, classes), _sums(rows, labeled, mates)
    rest = sums[classes] - own[mates]
    length = np.linalg.norm(rest, axis=1)
    members, of_mates = np.bincount(classes)[classes], np.bincount(mates)[mates]
    there = (members > of_mates) & (length > 0)
    cosines = np.einsum("ij,ij->i", rest, rows[labeled]) / np.where(there, length, 1)
    means = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return means, np.where(there, cosines, -1), there


def _sums(rows: np.ndarray, chosen: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    from scipy.sparse import csr_array

    shape = (int(numbers.max()) + 1, len(rows))
    return csr_array((np.ones(len(chosen), np.float32), (numbers, chosen)), shape) @ rows


def _confidence(scores: _Scores, right: np.ndarray) -> np.ndarray:
    """Logistic regression of being right on log odds, averaged over what its weights may be.

    Returns:
        (n,) float64
    """
    features = np.stack([np.ones(len(right)), scores.log_odds], axis=1)
    seen, truth = features[scores.held_out], right[scores.held_out]
    weights, curvature = PRIOR.copy(), np.diag(PRIOR_PRECISION)
    for _ in range(25):
        given = _sigmoid(seen @ weights)
        slope = seen.T @ (given - truth) + PRIOR_PRECISION * (weights - PRIOR)
        curvature = np.diag(PRIOR_PRECISION) + (seen.T * (given * (1 - given))) @ seen
        weights = weights - np.linalg.solve(curvature, slope)
    variance = np.einsum("ij,jk,ik->i", features, np.linalg.inv(curvature), features)
    return _sigmoid(features @ weights / np.sqrt(1 + np.pi / 8 * variance))


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(values, -50, 50)))


def _known(
    scores: _Scores, labels: np.ndarray, unlabeled: np.ndarray, right: np.ndarray
) -> np.ndarray:
    """Which rows look like labeled ones of their class: (n,) bool; all where that is not known."""
    if right.sum() < MIN_KNOWN or not unlabeled.any():
        return np.ones(len(labels), bool)
    low, middle = np.quantile(scores.likeness[right], [0.1, 0.5])
    likeness = (scores.likeness - middle) / max((middle - low) / 1.2816, 1e-6)
    evidence = (scores.log_odds, np.clip(likeness, -6, 2), np.clip(scores.mass, -6, 1))
    looks = sum(weight * values for weight, values in zip(KNOWN_WEIGHTS, evidence))

    order = np.flatnonzero(right)[np.argsort(looks[right], kind="stable")]
    reference = looks[order]
    # As if the labeled rows had the classes in the shares of the unlabeled ones.
    counts = [
        np.bincount(classes, minlength=labels.max() + 1)
        for classes in (scores.label[unlabeled], labels[right])
    ]
    weights = (counts[0] / np.maximum(counts[1], 1))[labels[order]]
    if not weights.any():
        return np.ones(len(labels), bool)
    below = np.append(0, np.cumsum(weights / weights.sum()))
    thresholds = np.unique(reference[below[:-1] <= 0.5])
    of_known = 1 - below[np.searchsorted(reference, thresholds)]
    place = np.searchsorted(np.sort(looks[unlabeled]), thresholds)
    of_all = 1 - place / unlabeled.sum()
    # So many labeled rows of equal weight would leave the same doubt about their shares.
    size = weights.sum() ** 2 / (weights**2).sum()
    doubt = SLACK * np.sqrt(of_known * (1 - of_known) / size)
    share = min(1.0, float((of_all / np.maximum(of_known - doubt, 1e-3)).min()))
    threshold = reference[np.searchsorted(below[1:], GIVEN_UP)]
    if share < 0.99:
        passing = (of_all - share * of_known) / (1 - share)
        enough = np.flatnonzero(passing <= LET_PASS)
        threshold = max(threshold, thresholds[enough[0]] if len(enough) else thresholds[-1])
    return looks >= threshold


def _accepted(confidence: np.ndarray, precision: float) -> np.ndarray:
    """The most confident ones whose mean confidence is at least the precision: (m,) bool."""
    order = np.argsort(-confidence, kind="stable")
    falling = confidence[order]
    mean = np.cumsum(falling) / np.arange(1, len(falling) + 1)
    # Equal confidences are accepted together or not at all, whatever the order of the rows.
    last = np.append(falling[1:] < falling[:-1], True)[: len(falling)]
    enough = np.flatnonzero((mean >= precision) & (falling >= LEAST_CONFIDENCE) & last)
    if not len(enough):
        return np.zeros(len(confidence), bool)
    return confidence >= falling[enough[-1]]


def _check(
    rows: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    graph: NeighborGraph,
    groups: np.ndarray,
    probabilities: Probabilities | None,
    precision: float,
) -> None:
    num_rows = len(rows)
    for name, size in (("graph", graph.num_rows), ("labels", len(labels)), ("groups", len(groups))):
        if size != num_rows:
            raise ValueError(f"{name} has {size} rows for {num_rows} embeddings")
    if probabilities is not None and probabilities.shape != (num_rows, num_classes):
        raise ValueError(f"probabilities must be {(num_rows, num_classes)}")
    if not 0 < precision < 1:
        raise ValueError(f"precision must be between 0 and 1, not {precision}")
    counts = np.bincount(labels[labels >= 0], minlength=num_classes)
    if len(counts) > num_classes or num_classes < 2 or not counts.all():
        raise ValueError("every class below num_classes, at least two, needs a labeled row")
