"""Held-out class probabilities from the vectors alone: what a row's label would be without it.

Witnesses that fail differently are asked, and averaged:

- kernel ridge regression on the classes, on landmarks (Williams and Seeger, "Using the Nyström
  method to speed up kernel machines", 2001), which leaves out a row or a whole duplicate group in
  closed form (Rifkin and Lippert, "Notes on regularized least squares", 2007);
- cross-validated multinomial logistic regression on the same features;
- the vote of the nearest neighbours.

Ridge and vote learn twice: the second time, a label counts as much as the first pass believes it.
No witness was best on all of Caltech-101 with label flips and CIFAR-10N; their mean was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._exact_search import Progress
from .neighbors import NeighborGraph

# Landmarks: as many as keep rows * landmarks^2, the cost, near this, between the two bounds. On
# CIFAR-10N (25,000 rows) twice as many gained nothing and 565 instead of 692 lost 0.003 average
# precision; Caltech-101 (2,486 rows of 51 classes) needs nearly all rows:
# ridge regression alone has 0.92 with 800, 0.95 with all.
LANDMARK_PRODUCTS = 1.2e10
MIN_LANDMARKS = 384
MAX_LANDMARKS = 2048

# Width of the kernel exp(-distance / width), in units of the mean distance. Half of it was as good;
# at twice the width the probe is as good as a linear one, which is worse.
KERNEL_WIDTH = 2.0

# Penalties that ridge regression tries, in units of the mean variance of a feature.
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0)

# Rows on which a penalty and a temperature are chosen: as many as keep rows * classes near this,
# between the two bounds.
TUNING_VALUES = 250_000
MIN_TUNING_ROWS = 500
MAX_TUNING_ROWS = 5000

# The logistic regression stops early, which regularises: more steps learn the noise.
LOGISTIC_STEPS = 5
LOGISTIC_PENALTY = 0.1
# What its steps assume for the curvature p (1 - p) of the softmax; 0.5 always is an upper bound
# (Böhning, "Multinomial logistic regression algorithm", 1992), and wastes steps.
LOGISTIC_CURVATURE = 0.15

# Folds: more are better, so as many as keep rows * features * classes * folds, the cost, near this.
FOLD_PRODUCTS = 3e9
MIN_FOLDS = 2
MAX_FOLDS = 10

# A neighbour's vote counts exp(-distance / this).
VOTE_DISTANCE = 0.1

# A vote that is shared by all classes, so that one far neighbour does not decide alone.
VOTE_PRIOR = 1e-3

# What a label counts in the second pass when the first one does not believe it at all.
LEAST_WEIGHT = 0.02

# Share of the neighbours in the mean; the three probes have the rest. Without them, average
# precision is lower by up to 0.015, but not under the heaviest noise.
VOTE_SHARE = 0.25

# Rows handled at once where a block of (rows, classes) is needed.
BLOCK_ROWS = 8192


@dataclass(frozen=True)
class ClassEvidence:
    """Held-out class probabilities of every row, and the witnesses they come from.

    A row's own label and those of its duplicate group played no part in its probabilities. (In the
    second pass they have a say in how far the other labels are believed.) Every row sums to 1.

    Attributes:
        probabilities: (n, c) float32, calibrated; for unlabeled rows ordinary predictions
        probe: (n, c) float32, what the vectors say through ridge and logistic regression
        votes: (n, c) float32, what the neighbours say; uniform where none may vote
    """

    probabilities: np.ndarray
    probe: np.ndarray
    votes: np.ndarray


def held_out_probabilities(
    rows: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    graph: NeighborGraph,
    groups: np.ndarray | None = None,
    seed: int | None = 51,
    progress: Progress | None = None,
) -> ClassEvidence:
    """Predicts the class of every row from the other rows.

    A class all of whose members are in one duplicate group, or that has one member, cannot be
    learned when they are held out: they get a low probability of their own label. Zero rows have
    no direction: they teach nothing and get the shares of the classes.

    Args:
        rows: (n, d) float32 unit rows, zero rows allowed
        labels: (n,) integers, class numbers below ``num_classes``, -1 = unlabeled
        num_classes: c, at least 1
        graph: neighbours of the same rows
        groups: (n,) integers, duplicate group numbers, -1 = in none; None: no groups known
        seed: of the landmarks and the folds
        progress: called with the share of the work that is done, in [0, 1]

    Raises:
        ValueError: if the arrays do not fit each other, or no row that has a direction is labeled
    """
    labels, groups = _checked(rows, labels, num_classes, graph, groups)
    directed = rows.any(axis=1)
    labels = np.where(directed, labels, -1)
    if not (labels >= 0).any():
        raise ValueError("None of the vectors has a label to learn from")
    report = progress or (lambda share: None)

    keys = _content_keys(rows, seed)
    features = _kernel_features(rows, directed, keys)
    report(0.3)
    weights = np.ones(len(rows), np.float32)
    learner = _Ridge(features, labels, num_classes, weights, groups, keys)
    probe = learner.probabilities()
    votes = neighbor_votes(graph, labels, num_classes, weights, groups)
    report(0.5)

    weights = _belief((probe + votes) / 2, labels)
    probe += _Ridge(features, labels, num_classes, weights, groups, keys).probabilities()
    votes += neighbor_votes(graph, labels, num_classes, weights, groups)
    report(0.7)
    probe += _logistic(learner.known, labels, num_classes, groups, keys)
    probe /= 3
    votes /= 2
    probabilities = (1 - VOTE_SHARE) * probe + VOTE_SHARE * votes
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    report(1.0)
    return ClassEvidence(probabilities, probe, votes)


def neighbor_votes(
    graph: NeighborGraph,
    labels: np.ndarray,
    num_classes: int,
    weights: np.ndarray,
    groups: np.ndarray,
) -> np.ndarray:
    """What the labels of the nearest neighbours outside the own duplicate group say.

    Args:
        labels: (n,) int64, -1 = unlabeled
        weights: (n,) float32, what a row's label counts
        groups: (n,) int64, -1 = in none

    Returns:
        (n, c) float32, rows sum to 1; uniform where no neighbour may vote
    """
    num_rows = graph.num_rows
    votes = np.full((num_rows, num_classes), VOTE_PRIOR / num_classes, np.float32)
    for column in range(graph.k):
        neighbor = graph.indices[:, column]
        of = labels[neighbor]
        vote = np.exp(graph.distances[:, column] / -VOTE_DISTANCE) * weights[neighbor]
        counts = (of >= 0) & ((groups < 0) | (groups[neighbor] != groups))
        voting = np.flatnonzero(counts)
        votes[voting, of[voting]] += vote[voting]
    votes /= votes.sum(axis=1, keepdims=True)
    return votes


class _Ridge:
    """Ridge regression on the classes, its intercept not penalised, by one decomposition."""

    def __init__(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        num_classes: int,
        weights: np.ndarray,
        groups: np.ndarray,
        keys: np.ndarray,
    ) -> None:
        self.labeled = np.flatnonzero(labels >= 0)
        self.labels = labels
        self.groups = groups
        self.weights = weights[self.labeled]
        self.total = self.weights.sum()
        self.share = np.bincount(labels[self.labeled], self.weights, num_classes).astype(np.float32)
        self.share /= self.total
        self.center = (self.weights @ features[self.labeled]) / self.total
        values, axes = np.linalg.eigh(self._scatter(features).astype(np.float64))
        self.values = np.maximum(values, 0).astype(np.float32)
        self.axes = axes.astype(np.float32)
        self.known = self.axes_of(features)
        self.products = self._class_sums(num_classes)
        self.tuning = _tuning_rows(labels, num_classes, keys)

    def axes_of(self, features: np.ndarray) -> np.ndarray:
        """The features, centered and turned so that they are uncorrelated: (n, m) float32."""
        turned = features @ self.axes
        turned -= self.center @ self.axes
        return turned

    def probabilities(self) -> np.ndarray:
        """Held-out probabilities, (n, c) float32, by the penalty that predicts the labels best."""
        tried = [self._tuned(penalty) for penalty in PENALTIES]
        _, temperature, penalty = min(tried)
        scores = self.held_out(penalty, slice(None))
        for members in _members(self.groups, self.labels):
            scores[members] = self.held_out_group(penalty, members)
        return _softmax(scores, temperature)

    def held_out(self, penalty: float, rows: np.ndarray | slice) -> np.ndarray:
        """Scores of rows by all labels but their own: (rows, c) float32."""
        scale = self._scale(penalty)
        known = self.known[rows]
        scores = known @ (self.products * scale[:, None])
        scores += self.share
        weight = self._weight_of(rows)
        leverage = weight * (np.einsum("ij,ij,j->i", known, known, scale) + 1 / self.total)
        # A leverage of 1 means that nothing is left to learn from.
        left = np.maximum(1 - leverage, 1e-5)
        labels = self.labels[rows]
        own = np.flatnonzero(labels >= 0)
        scores[own, labels[own]] -= leverage[own]
        scores /= left[:, None]
        return scores

    def held_out_group(self, penalty: float, members: np.ndarray) -> np.ndarray:
        """Scores of labeled rows by all labels but those of these rows: (members, c) float32."""
        scale = self._scale(penalty)
        known = self.known[members].astype(np.float64)
        fitted = known @ (self.products * scale[:, None]) + self.share
        targets = np.zeros_like(fitted)
        targets[np.arange(len(members)), self.labels[members]] = 1
        weight = self._weight_of(members)
        # (I - H W)^-1 (fitted - H W targets), through the smaller of the two sides of H, to which
        # the intercept adds one column.
        sides = np.c_[known * np.sqrt(scale), np.full(len(members), self.total**-0.5)]
        residual = fitted - sides @ (sides.T @ (weight[:, None] * targets))
        if len(members) <= sides.shape[1]:
            left = np.eye(len(members)) - (sides @ sides.T) * weight
            return np.linalg.lstsq(left, residual, rcond=1e-6)[0]
        left = np.eye(sides.shape[1]) - sides.T @ (sides * weight[:, None])
        inner = sides.T @ (weight[:, None] * residual)
        return residual + sides @ np.linalg.lstsq(left, inner, rcond=1e-6)[0]

    def _tuned(self, penalty: float) -> tuple[float, float, float]:
        loss, temperature = _temperature(
            self.held_out(penalty, self.tuning), self.labels[self.tuning]
        )
        return loss, temperature, penalty

    def _scale(self, penalty: float) -> np.ndarray:
        mean = max(float(self.values.mean()), 1e-6)
        return 1 / (self.values + np.float32(penalty * mean))

    def _weight_of(self, rows: np.ndarray | slice) -> np.ndarray:
        weights = np.zeros(len(self.labels), np.float32)
        weights[self.labeled] = self.weights
        return weights[rows]

    def _scatter(self, features: np.ndarray) -> np.ndarray:
        scatter = np.zeros((features.shape[1],) * 2, np.float32)
        for start in range(0, len(self.labeled), BLOCK_ROWS):
            part = slice(start, start + BLOCK_ROWS)
            known = features[self.labeled[part]] - self.center
            known *= np.sqrt(self.weights[part])[:, None]
            scatter += known.T @ known
        return scatter

    def _class_sums(self, num_classes: int) -> np.ndarray:
        targets = np.zeros((len(self.known), num_classes), np.float32)
        targets[self.labeled, self.labels[self.labeled]] = self.weights
        targets[self.labeled] -= self.weights[:, None] * self.share
        return self.known.T @ targets


def _logistic(
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    groups: np.ndarray,
    keys: np.ndarray,
) -> np.ndarray:
    """Cross-validated multinomial logistic regression, duplicate groups held together.

    A few accelerated steps (Nesterov) of fixed curvature from the shares of the classes. On
    uncorrelated features the curvature is diagonal, so a step costs two products.

    Args:
        features: (n, m) float32, uncorrelated

    Returns:
        (n, c) float32; unlabeled rows get the mean of the folds
    """
    affordable = int(FOLD_PRODUCTS / (features.size * num_classes))
    fold = _folds(labels, groups, keys, min(max(affordable, MIN_FOLDS), MAX_FOLDS))
    values = np.einsum("ij,ij->j", features[labels >= 0], features[labels >= 0])
    scores = np.zeros((len(labels), num_classes), np.float32)
    unlabeled = np.flatnonzero(labels < 0)
    present = np.unique(fold[labels >= 0])
    for held_out in present:
        train = np.flatnonzero((labels >= 0) & (fold != held_out))
        test = np.flatnonzero((labels >= 0) & (fold == held_out))
        if len(train) == 0:
            continue
        coefficients, start = _logistic_fit(
            features[train], labels[train], num_classes, values * (len(train) / len(labels))
        )
        scores[test] = features[test] @ coefficients + start
        scores[unlabeled] += (features[unlabeled] @ coefficients + start) / len(present)
    tuning = _tuning_rows(labels, num_classes, keys)
    _, temperature = _temperature(scores[tuning], labels[tuning])
    return _softmax(scores, temperature)


def _logistic_fit(
    features: np.ndarray, labels: np.ndarray, num_classes: int, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    counts = np.bincount(labels, minlength=num_classes)
    # A class that is not seen counts as half a row.
    start = np.log(np.maximum(counts, 0.5) / len(labels)).astype(np.float32)
    step = (1 / (LOGISTIC_CURVATURE * values + LOGISTIC_PENALTY)).astype(np.float32)
    ahead = np.zeros((features.shape[1], num_classes), np.float32)
    previous, momentum = ahead, 1.0
    for _ in range(LOGISTIC_STEPS):
        gradient = -LOGISTIC_PENALTY * ahead
        for first in range(0, len(labels), BLOCK_ROWS):
            part = slice(first, first + BLOCK_ROWS)
            wrong = _softmax(features[part] @ ahead + start, 1.0)
            np.negative(wrong, out=wrong)
            wrong[np.arange(len(wrong)), labels[part]] += 1
            gradient += features[part].T @ wrong
        reached = ahead + step[:, None] * gradient
        faster = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = reached + np.float32((momentum - 1) / faster) * (reached - previous)
        previous, momentum = reached, faster
    return ahead, start


def _kernel_features(rows: np.ndarray, directed: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Features whose products are exp(-cosine distance / width) around the mean, (n, m) float32."""
    centered = rows - rows[directed].mean(axis=0)
    length = np.sqrt(np.einsum("ij,ij->i", centered, centered))
    # Rows at the mean itself, all of them where all are equal, have no direction from there.
    centered /= np.where(length > 1e-6, length, np.inf)[:, None]
    centered[~directed] = 0
    several = np.flatnonzero(directed)
    _, first = np.unique(keys[several], return_index=True)
    wanted = int(np.clip((LANDMARK_PRODUCTS / len(rows)) ** 0.5, MIN_LANDMARKS, MAX_LANDMARKS))
    landmarks = centered[several[first[:wanted]]]
    # Around their mean, unit rows are at a mean distance of about 1 from each other.
    width = np.float32(KERNEL_WIDTH)
    values, axes = np.linalg.eigh(np.exp((landmarks @ landmarks.T - 1) / width).astype(np.float64))
    kept = values > 1e-4 * values[-1]
    axes = (axes[:, kept] / np.sqrt(values[kept])).astype(np.float32)
    features = np.empty((len(rows), axes.shape[1]), np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        kernel = centered[part] @ landmarks.T
        kernel -= 1
        kernel /= width
        features[part] = np.exp(kernel, out=kernel) @ axes
    return features


def _content_keys(rows: np.ndarray, seed: int | None) -> np.ndarray:
    """A random number per row that depends on what it holds, not on where it stands."""
    factors = np.random.default_rng(seed).integers(1, 2**63, rows.shape[1], np.uint64)
    factors |= np.uint64(1)
    keys = np.empty(len(rows), np.uint64)
    for start in range(0, len(rows), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        # Adding zero makes one of the two zeros of floating point.
        bits = (np.ascontiguousarray(rows[part], np.float32) + np.float32(0)).view(np.uint32)
        keys[part] = bits.astype(np.uint64) @ factors
    return keys ^ (keys >> np.uint64(31))


def _folds(labels: np.ndarray, groups: np.ndarray, keys: np.ndarray, num_folds: int) -> np.ndarray:
    """The fold of every row, alike for all rows of a duplicate group and for equal rows."""
    keys = keys.copy()
    grouped = np.flatnonzero(groups >= 0)
    if len(grouped):
        _, of = np.unique(groups[grouped], return_inverse=True)
        lowest = np.full(of.max() + 1, np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(lowest, of, keys[grouped])
        keys[grouped] = lowest[of]
    _, rank = np.unique(keys[labels >= 0], return_inverse=True)
    fold = np.full(len(labels), -1)
    fold[labels >= 0] = rank % num_folds
    return fold


def _tuning_rows(labels: np.ndarray, num_classes: int, keys: np.ndarray) -> np.ndarray:
    labeled = np.flatnonzero(labels >= 0)
    wanted = int(np.clip(TUNING_VALUES / num_classes, MIN_TUNING_ROWS, MAX_TUNING_ROWS))
    return labeled[np.argsort(keys[labeled], kind="stable")[:wanted]]


def _members(groups: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """The labeled rows of each duplicate group that has at least two of them."""
    grouped = np.flatnonzero((groups >= 0) & (labels >= 0))
    grouped = grouped[np.argsort(groups[grouped], kind="stable")]
    several = np.split(grouped, np.flatnonzero(np.diff(groups[grouped])) + 1)
    return [members for members in several if len(members) > 1]


def _belief(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How likely the given label is beside the likeliest one, (n,) float32 in (0, 1]."""
    given = probabilities[np.arange(len(labels)), np.maximum(labels, 0)]
    return np.maximum(given / probabilities.max(axis=1), LEAST_WEIGHT).astype(np.float32)


def _temperature(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """The log loss of softmax(factor * scores) at its best factor, and that factor.

    Guo et al., "On calibration of modern neural networks" (2017).
    """
    from scipy.optimize import minimize_scalar

    own = scores[np.arange(len(labels)), labels][:, None]
    beyond = (scores - own).astype(np.float32)

    def loss(log_factor: float) -> float:
        logits = np.float32(np.exp(log_factor)) * beyond
        highest = logits.max(axis=1, keepdims=True)
        return float((np.log(np.exp(logits - highest).sum(axis=1)) + highest[:, 0]).mean())

    found = minimize_scalar(loss, bounds=(-3, 5), method="bounded", options={"xatol": 0.01})
    return float(found.fun), float(np.exp(found.x))


def _softmax(scores: np.ndarray, factor: float) -> np.ndarray:
    scores *= np.float32(factor)
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


def _checked(
    rows: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    graph: NeighborGraph,
    groups: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    num_rows = len(rows)
    labels = np.asarray(labels)
    groups = np.full(num_rows, -1) if groups is None else np.asarray(groups)
    for name, array in (("labels", labels), ("groups", groups)):
        if array.shape != (num_rows,) or array.dtype.kind not in "iu":
            raise ValueError(f"{name} must be {num_rows} integers, not {array.dtype} {array.shape}")
    if graph.num_rows != num_rows:
        raise ValueError(f"The graph has {graph.num_rows} rows, the vectors {num_rows}")
    if num_rows and not -1 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(f"Labels must lie between -1 and {num_classes - 1}")
    return labels.astype(np.int64), groups.astype(np.int64)
