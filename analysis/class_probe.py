"""Held-out class probabilities from the vectors alone: what a row's label would be without it.

Witnesses that fail differently are asked, and averaged:

- kernel ridge regression on the classes, on landmarks (Williams and Seeger, "Using the Nyström
  method to speed up kernel machines", 2001), which leaves out a row or a whole duplicate group in
  closed form (Rifkin and Lippert, "Notes on regularized least squares", 2007);
- cross-validated multinomial logistic regression on the same features;
- the vote of the nearest neighbours.

The neighbours vote twice: the second time, a label counts as much as ridge regression and the first
vote believe it. No witness was best on all of Caltech-101 with label flips and CIFAR-10N; their
mean was.

Rows are learned in the order of a random number that depends on what they hold, fold by fold, so
that sums, and with them the results, do not depend on where a row stands.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._exact_search import Progress, product_threads
from ._parallel import in_parts
from .neighbors import NeighborGraph

if TYPE_CHECKING:
    import torch

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

# What a label counts in the second vote when it is not believed at all.
LEAST_WEIGHT = 0.02

# Share of the neighbours in the mean; the two probes have the rest. Without them, average
# precision is lower by up to 0.015, but not under the heaviest noise.
VOTE_SHARE = 0.25

# Rows handled at once where a block of (rows, classes) is needed.
BLOCK_ROWS = 2048


@dataclass(frozen=True)
class ClassEvidence:
    """Held-out class probabilities of every row, and the witnesses they come from.

    A row's own label and those of its duplicate group played no part in its probabilities. (In the
    second vote they have a say in how far the other labels are believed.) Every row sums to 1.

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

    import torch

    with product_threads(several=True) as pool:
        # Restored at the end. Threads of torch's own would wait by spinning while the pool works.
        torch.set_num_threads(1)
        keys = _content_keys(rows, seed, pool)
        known = _learn(rows, directed, labels, num_classes, groups, keys, pool)
        report(0.3)
        probe = np.zeros((len(rows), num_classes), np.float32)
        votes = np.zeros_like(probe)
        ridge = _Ridge(known)
        ridge.add_probabilities(probe)
        weights = np.ones(len(rows), np.float32)
        _add_votes(votes, 0.5, graph, labels, weights, groups, pool)
        weights = _belief(probe, votes, labels, pool)
        _add_votes(votes, 0.5, graph, labels, weights, groups, pool)
        report(0.6)
        _Logistic(known, ridge.values).add_probabilities(probe)
        probabilities = _mixed(probe, votes, pool)
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
    votes = np.zeros((graph.num_rows, num_classes), np.float32)
    with product_threads(several=True) as pool:
        _add_votes(votes, 1.0, graph, labels, weights, groups, pool)
    return votes


def _add_votes(
    votes: np.ndarray,
    share: float,
    graph: NeighborGraph,
    labels: np.ndarray,
    weights: np.ndarray,
    groups: np.ndarray,
    pool: Executor,
) -> None:
    from ._probe_kernels import add_votes

    heard = np.exp(graph.distances / np.float32(-VOTE_DISTANCE))

    def work(start: int, stop: int) -> None:
        add_votes(
            graph.indices, heard, labels, weights, groups, VOTE_PRIOR, share, votes, start, stop
        )

    in_parts(work, graph.num_rows, pool)


@dataclass(frozen=True)
class _Known:
    """Rows as the probes learn them: labeled ones first, those of a fold side by side.

    Attributes:
        features: (n, m) float32 or bfloat16; over the labeled rows, around 0 and uncorrelated
        labels, groups, fold: (n,) int64; the fold of unlabeled rows is the number of folds
        order: (n,) int64, the row that stands at each place
        tuning: (t,) int64, places of some labeled rows, picked at random
        num_labeled: the labeled rows are those at the first places
        pool: one thread per core
    """

    features: torch.Tensor
    labels: np.ndarray
    groups: np.ndarray
    fold: np.ndarray
    order: np.ndarray
    tuning: np.ndarray
    num_labeled: int
    num_classes: int
    pool: Executor

    def add_probabilities(self, out: np.ndarray, scores_of: Callable, temperature: float) -> None:
        """Adds half the softmax of the scores of each block of places to their rows in ``out``."""

        def add(part: slice) -> None:
            out[self.order[part]] += _softmax(scores_of(part), temperature).mul_(0.5).numpy()

        _run(self.pool, add, _blocks(0, len(self.order)))


class _Ridge:
    """Ridge regression on the classes, its intercept not penalised."""

    def __init__(self, known: _Known) -> None:
        import torch

        self.known = known
        self.labels = torch.from_numpy(known.labels)
        features, num_labeled = known.features, known.num_labeled

        def sums(part: slice) -> tuple[torch.Tensor, torch.Tensor]:
            block = features[part].float()
            of = torch.zeros((known.num_classes, features.shape[1]))
            return block.square().sum(dim=0), of.index_add_(0, self.labels[part], block)

        self.values, of_classes = _total(known.pool, sums, _blocks(0, num_labeled))
        counts = torch.bincount(self.labels[:num_labeled], minlength=known.num_classes)
        self.share = counts.float() / num_labeled
        self.products = of_classes.T - torch.outer(of_classes.sum(dim=0), self.share)

    def add_probabilities(self, out: np.ndarray) -> None:
        """Adds half the held-out probabilities, by the penalty that predicts the labels best."""
        _, temperature, penalty = min(self._tuned(penalty) for penalty in PENALTIES)
        self.known.add_probabilities(out, functools.partial(self.held_out, penalty), temperature)
        for members in _members(self.known.groups, self.known.labels):
            places = members.ravel()
            alone = _softmax(self.held_out(penalty, places), temperature)
            scores = self.held_out_groups(penalty, members).reshape(alone.shape)
            apart = _softmax(scores, temperature)
            out[self.known.order[places]] += (apart - alone).mul_(0.5).numpy()

    def held_out(self, penalty: float, places: np.ndarray | slice) -> torch.Tensor:
        """Scores by all labels but the own one: (places, c) float32."""
        import torch

        scale = self._scale(penalty)
        known, labels = self.known.features[places].float(), self.labels[places]
        scores = (known @ (self.products * scale[:, None])).add_(self.share)
        leverage = known.square() @ scale + 1 / self.known.num_labeled
        leverage[labels < 0] = 0
        scores[torch.arange(len(labels)), labels.clamp(min=0)] -= leverage
        # A leverage of 1 means that nothing is left to learn from.
        return scores.div_((1 - leverage).clamp_(min=1e-5)[:, None])

    def held_out_groups(self, penalty: float, members: np.ndarray) -> torch.Tensor:
        """Scores of labeled rows by all labels but those of their group.

        Args:
            members: (g, s) places, of a group each

        Returns:
            (g, s, c) float32
        """
        import torch

        size, scale = members.shape[1], self._scale(penalty)
        known = self.known.features[members].float()
        fitted = (known @ (self.products * scale[:, None]) + self.share).numpy().astype(np.float64)
        targets = np.zeros_like(fitted)
        np.put_along_axis(targets, self.known.labels[members][..., None], 1, axis=2)
        # (I - H)^-1 (fitted - H targets), through the smaller of the two sides of H, to which the
        # intercept adds one column.
        intercept = np.full((*members.shape, 1), self.known.num_labeled**-0.5)
        sides = np.concatenate([(known * scale.sqrt()).numpy(), intercept], axis=2)
        across = sides.transpose(0, 2, 1)
        if size <= sides.shape[2]:
            leverage = sides @ across
            left = np.linalg.pinv(np.eye(size) - leverage, rcond=1e-6)
            scores = left @ (fitted - leverage @ targets)
        else:
            residual = fitted - sides @ (across @ targets)
            left = np.linalg.pinv(np.eye(sides.shape[2]) - across @ sides, rcond=1e-6)
            scores = residual + sides @ (left @ (across @ residual))
        return torch.from_numpy(scores.astype(np.float32))

    def _tuned(self, penalty: float) -> tuple[float, float, float]:
        tuning = self.known.tuning
        scores = self.held_out(penalty, tuning).numpy()
        return (*_temperature(scores, self.known.labels[tuning]), penalty)

    def _scale(self, penalty: float) -> torch.Tensor:
        return 1 / (self.values + penalty * max(float(self.values.mean()), 1e-6))


class _Logistic:
    """Cross-validated multinomial logistic regression, duplicate groups held together.

    A few accelerated steps (Nesterov) of fixed curvature from the shares of the classes. On
    uncorrelated features the curvature is diagonal, so a step costs two products.
    """

    def __init__(self, known: _Known, values: torch.Tensor) -> None:
        self.known = known
        self.values = values
        edges = np.searchsorted(known.fold, np.arange(known.fold[known.num_labeled - 1] + 2))
        self.folds = [slice(*pair) for pair in itertools.pairwise(edges.tolist())]
        self.fitted = [self._fit(held_out) for held_out in self.folds]

    def add_probabilities(self, out: np.ndarray) -> None:
        """Adds half the held-out probabilities; of unlabeled rows, by the mean of the folds."""
        tuning = self.known.tuning
        _, temperature = _temperature(self.held_out(tuning).numpy(), self.known.labels[tuning])
        self.known.add_probabilities(out, self.held_out, temperature)

    def held_out(self, places: np.ndarray | slice) -> torch.Tensor:
        """Scores by the folds that a row is not in: (places, c) float32."""
        import torch

        known, fold = self.known.features[places].float(), self.known.fold[places]
        scores = torch.empty((len(known), self.known.num_classes))
        for number in np.unique(fold):
            coefficients, start = self._of_fold(number)
            at = np.flatnonzero(fold == number)
            scores[at] = known[at] @ coefficients + start
        return scores

    def _of_fold(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        if number < len(self.fitted):
            return self.fitted[number]
        coefficients, starts = zip(*self.fitted)
        return sum(coefficients) / len(coefficients), sum(starts) / len(starts)

    def _fit(self, held_out: slice) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        features, num_labeled = self.known.features, self.known.num_labeled
        train = _blocks(0, held_out.start) + _blocks(held_out.stop, num_labeled)
        labels = torch.from_numpy(self.known.labels)
        none = torch.zeros(self.known.num_classes, dtype=torch.int64)
        counts = sum((torch.bincount(labels[part], minlength=len(none)) for part in train), none)
        size = max(int(counts.sum()), 1)
        # A class that is not seen counts as half a row.
        start = (counts.clamp(min=0.5) / size).log()
        step = 1 / (LOGISTIC_CURVATURE * size / num_labeled * self.values + LOGISTIC_PENALTY)
        ahead = torch.zeros((features.shape[1], self.known.num_classes))

        def gradient(part: slice) -> torch.Tensor:
            known = features[part]
            missing = _softmax((known @ rounded).float().add_(start), 1.0).neg_()
            missing[torch.arange(len(known)), labels[part]] += 1
            return (known.T @ missing.to(known.dtype)).float()

        previous, momentum = ahead, 1.0
        for _ in range(LOGISTIC_STEPS if train else 0):
            rounded = ahead.to(features.dtype)
            reached = _total(self.known.pool, gradient, train).sub_(ahead, alpha=LOGISTIC_PENALTY)
            reached = ahead + step[:, None] * reached
            faster = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ahead = reached + (momentum - 1) / faster * (reached - previous)
            previous, momentum = reached, faster
        return ahead, start


def _learn(
    rows: np.ndarray,
    directed: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    groups: np.ndarray,
    keys: np.ndarray,
    pool: Executor,
) -> _Known:
    num_labeled = int((labels >= 0).sum())
    near, whitening = _kernel(rows, directed, keys, pool)
    num_features = whitening.shape[1]
    affordable = int(FOLD_PRODUCTS / (len(rows) * num_features * num_classes))
    fold = _folds(labels, groups, keys, min(max(affordable, MIN_FOLDS), MAX_FOLDS))
    order = np.lexsort((keys, fold))
    features = _uncorrelated(near, order, num_labeled, whitening, pool)
    by_key = np.argsort(keys[order[:num_labeled]], kind="stable")
    wanted = int(np.clip(TUNING_VALUES / num_classes, MIN_TUNING_ROWS, MAX_TUNING_ROWS))
    return _Known(
        features=features,
        labels=labels[order],
        groups=groups[order],
        fold=fold[order],
        order=order,
        tuning=by_key[:wanted],
        num_labeled=num_labeled,
        num_classes=num_classes,
        pool=pool,
    )


def _kernel(
    rows: np.ndarray, directed: np.ndarray, keys: np.ndarray, pool: Executor
) -> tuple[Callable[[np.ndarray], torch.Tensor], torch.Tensor]:
    """The kernel exp(-cosine distance / width) around the mean, between rows and landmarks.

    Returns:
        a function from row numbers (r,) to their kernel (r, landmarks) float32, roughly around 0,
        and a matrix (landmarks, m) float32 that turns it into features whose products are the
        kernel
    """
    import torch

    dtype = _product_type()
    by_key = np.argsort(keys, kind="stable")

    def sums(part: slice) -> torch.Tensor:
        return torch.from_numpy(rows[by_key[part]].sum(axis=0))

    mean = _total(pool, sums, _blocks(0, len(rows))).numpy() / np.float32(directed.sum())

    def centered(which: np.ndarray) -> torch.Tensor:
        part = rows[which] - mean
        length = np.sqrt(np.einsum("ij,ij->i", part, part))
        # Rows at the mean itself, all of them where all are equal, have no direction from there.
        length[(length < 1e-6) | ~directed[which]] = np.inf
        part /= length[:, None]
        return torch.from_numpy(part)

    several = np.flatnonzero(directed)
    _, first = np.unique(keys[several], return_index=True)
    wanted = int(np.clip((LANDMARK_PRODUCTS / len(rows)) ** 0.5, MIN_LANDMARKS, MAX_LANDMARKS))
    landmarks = centered(several[first[:wanted]])
    # Around their mean, unit rows are at a mean distance of about 1 from each other.
    between = (landmarks @ landmarks.T).sub_(1).div_(KERNEL_WIDTH).exp_()
    usual = between.mean(dim=0)
    values, axes = torch.linalg.eigh(between)
    kept = values > 1e-4 * values[-1]
    across = landmarks.T.to(dtype)

    def near(which: np.ndarray) -> torch.Tensor:
        cosine = (centered(which).to(dtype) @ across).float()
        return cosine.sub_(1).div_(KERNEL_WIDTH).exp_().sub_(usual)

    return near, axes[:, kept] / values[kept].sqrt()


def _uncorrelated(
    near: Callable[[np.ndarray], torch.Tensor],
    order: np.ndarray,
    num_labeled: int,
    whitening: torch.Tensor,
    pool: Executor,
) -> torch.Tensor:
    """Features of the rows in this order, around 0 and uncorrelated over the first ones."""
    import torch

    dtype = _product_type()
    features = torch.empty((len(order), len(whitening)), dtype=dtype)

    def moments(part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        block = near(order[part])
        features[part] = block
        return block.T @ block, block.sum(dim=0)

    scatter, total = _total(pool, moments, _blocks(0, num_labeled))
    _run(pool, moments, _blocks(num_labeled, len(order)))
    scatter -= torch.outer(total, total / num_labeled)
    turn = whitening @ torch.linalg.eigh(whitening.T @ scatter @ whitening)[1]
    center = total / num_labeled @ turn
    # In bfloat16 alone, the turned features would correlate: 0.002 less average precision.
    high = turn.to(dtype)
    low = (turn - high.float()).to(dtype)
    kept = turn.shape[1]

    def rotate(part: slice) -> None:
        turned = (features[part] @ high).float().sub_(center)
        if dtype != turned.dtype:
            turned += features[part] @ low
        features[part, :kept] = turned

    _run(pool, rotate, _blocks(0, len(order)))
    return features[:, :kept]


@functools.lru_cache(maxsize=1)
def _product_type() -> torch.dtype:
    """bfloat16 where the CPU multiplies it faster than float32."""
    import torch

    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        features = {}  # torch was told to do without (ATEN_CPU_CAPABILITY)
    fast = features.get("amx_bf16") or features.get("avx512_bf16")
    return torch.bfloat16 if fast else torch.float32


def _blocks(start: int, stop: int) -> list[slice]:
    return [slice(at, min(at + BLOCK_ROWS, stop)) for at in range(start, stop, BLOCK_ROWS)]


def _run(pool: Executor, work: Callable[[slice], object], blocks: list[slice]) -> None:
    for _ in pool.map(work, blocks):
        pass


def _total(pool: Executor, work: Callable[[slice], object], blocks: list[slice]):
    """The sum of what ``work`` returns for the blocks, always in the same order."""
    results = pool.map(work, blocks)
    total = next(results)
    for result in results:
        if isinstance(total, tuple):
            for sum_, summand in zip(total, result):
                sum_.add_(summand)
        else:
            total.add_(result)
    return total


def _content_keys(rows: np.ndarray, seed: int | None, pool: Executor) -> np.ndarray:
    """A random number per row that depends on what it holds, not on where it stands."""
    from ._probe_kernels import content_keys

    factors = np.random.default_rng(seed).integers(1, 2**63, rows.shape[1], np.uint64)
    factors |= np.uint64(1)
    bits = np.ascontiguousarray(rows, np.float32).view(np.uint32)
    keys = np.empty(len(rows), np.uint64)

    def work(start: int, stop: int) -> None:
        content_keys(bits, factors, keys, start, stop)

    in_parts(work, len(rows), pool)
    return keys


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
    fold = np.full(len(labels), num_folds)
    fold[labels >= 0] = rank % num_folds
    return fold


def _members(groups: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """The labeled rows of duplicate groups that have at least two of them, some groups at once.

    Returns:
        arrays (g, s), a row per group; s is the number of its labeled rows
    """
    grouped = np.flatnonzero((groups >= 0) & (labels >= 0))
    grouped = grouped[np.argsort(groups[grouped], kind="stable")]
    _, first, sizes = np.unique(groups[grouped], return_index=True, return_counts=True)
    batches = []
    for size in np.unique(sizes[sizes > 1]):
        members = grouped[first[sizes == size, None] + np.arange(size)]
        batches += np.array_split(members, -(-members.size // BLOCK_ROWS))
    return [batch for batch in batches if len(batch)]


def _belief(probe: np.ndarray, votes: np.ndarray, labels: np.ndarray, pool: Executor) -> np.ndarray:
    """How likely the given label is beside the likeliest one, (n,) float32 in (0, 1]."""
    belief = np.empty(len(labels), np.float32)

    def work(part: slice) -> None:
        both = probe[part] + votes[part]
        given = both[np.arange(len(both)), np.maximum(labels[part], 0)]
        belief[part] = np.maximum(given / both.max(axis=1), LEAST_WEIGHT)

    _run(pool, work, _blocks(0, len(labels)))
    return belief


def _mixed(probe: np.ndarray, votes: np.ndarray, pool: Executor) -> np.ndarray:
    mixed = np.empty_like(probe)

    def work(part: slice) -> None:
        block = np.multiply(probe[part], 1 - VOTE_SHARE, out=mixed[part])
        block += VOTE_SHARE * votes[part]
        block /= block.sum(axis=1, keepdims=True)

    _run(pool, work, _blocks(0, len(probe)))
    return mixed


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


def _softmax(scores: torch.Tensor, factor: float) -> torch.Tensor:
    return scores.mul_(factor).softmax(dim=1)


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
