"""What more samples would bring: how fast the errors of a classifier fall as it learns from more.

Errors follow a power law of the number of training samples (Hestness et al., "Deep learning scaling
is predictable, empirically", 2017). Its exponent is measured for all classes together, for single
ones are too small, with ridge regression on a quarter, a half and three quarters of the samples,
each evaluated on the others; it is applied to the held-out recall of each class.
"""

from __future__ import annotations

from concurrent.futures import Executor
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from ..process import one_torch_thread
from ._exact_search import product_threads
from ._probe_features import fold_numbers
from .vectors import content_keys

if TYPE_CHECKING:
    import torch

# So many more of each class, and how far what they bring may lie from what is estimated: on
# CIFAR-10, digits and Caltech-101 the mean gain was 0.45 to 1.75 times as much
# (``benchmarks/learning_curve.py``).
MORE, FACTOR = 100, 2.0

# Below this many samples that are no copies, a quarter of a class says nothing.
MIN_INDEPENDENT = 8

# Ridge penalties that are tried, as shares of the mean squared length of the centered rows.
PENALTIES = (0.1, 1.0, 10.0)

# What is evaluated of each part, at most: half a percent of errors more or less.
MAX_EVALUATED = 2500

# Dimensions that regression sees: nearly the principal ones, of so many rows (Halko et al.,
# "Finding structure with randomness", 2011).
MAX_DIMS, MAX_OBSERVED = 256, 8192


def learning_exponent(
    rows: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    groups: np.ndarray | None = None,
    seed: int = 51,
) -> float | None:
    """The exponent b of the law: errors fall as the number of samples of each class to the -b.

    Args:
        rows: (n, d) float32 unit rows; zero rows are skipped
        labels: (n,) class numbers below ``num_classes``, -1 = unlabeled
        num_classes: c
        groups: (n,) duplicate group numbers, -1 = in none; a group is learned from as a whole
        seed: of the quarters, which follow the contents of the rows, not their order

    Returns:
        b, at least 0; None where nothing can be determined: fewer than two classes, or fewer than
        ``MIN_INDEPENDENT`` samples a class
    """
    import torch

    labels = np.where(rows.any(axis=1), labels, -1)
    chosen = np.flatnonzero(labels >= 0)
    groups = np.full(len(rows), -1) if groups is None else groups
    with product_threads(several=True) as pool, one_torch_thread():
        keys = content_keys(rows, seed, pool)
        quarter = fold_numbers(labels, groups, keys, 4)[chosen]
        order = np.argsort(keys[chosen], kind="stable")
        chosen, quarter = chosen[order], quarter[order]
        present, labels = np.unique(labels[chosen], return_inverse=True)
        if len(present) < 2 or len(chosen) < MIN_INDEPENDENT * len(present):
            return None
        few = _few_dimensions(torch.from_numpy(rows[chosen]))
        inside = [np.flatnonzero(quarter == one) for one in range(4)]
        parts = list(pool.map(lambda own: _Part(few[own], labels[own], len(present)), inside))
        errors = _errors_of_sizes(parts, pool)
    seen = np.log(np.maximum(errors, 1 / len(chosen)))
    slope = np.polyfit(np.log([1, 2, 3]), seen, 1)[0]
    return max(0.0, float(-slope))


def gain(recall: float, count: int, exponent: float, more: int = MORE) -> float:
    """How much the recall of a class would rise, in [0, 1], with so many more of each class.

    Args:
        recall: of held-out predictions, in [0, 1]
        count: samples of the class that are no copies, at least 1
        exponent: from ``learning_exponent``
        more: so many more
    """
    return (1 - recall) * (1 - (1 + more / count) ** -exponent)


class _Part:
    """A quarter of the rows: what regression learns from it, and what others are evaluated on."""

    def __init__(self, rows: torch.Tensor, labels: np.ndarray, num_classes: int) -> None:
        import torch

        classes = torch.from_numpy(labels)
        self.count = len(rows)
        self.sum = rows.sum(dim=0).double()
        self.gram = (rows.T @ rows).double()
        of_class = torch.zeros((num_classes, rows.shape[1])).index_add_(0, classes, rows)
        self.of_class = of_class.double()
        self.counts = torch.bincount(classes, minlength=num_classes).double()
        self.evaluated = (rows[:MAX_EVALUATED], classes[:MAX_EVALUATED])


def _few_dimensions(rows: torch.Tensor) -> torch.Tensor:
    import torch

    if rows.shape[1] <= MAX_DIMS:
        return rows
    observed = rows[:MAX_OBSERVED]
    random = np.random.default_rng(0).standard_normal((rows.shape[1], MAX_DIMS), np.float32)
    axes, _ = torch.linalg.qr(observed.T @ (observed @ torch.from_numpy(random)))
    return rows @ axes


def _errors_of_sizes(parts: list[_Part], pool: Executor) -> tuple[float, float, float]:
    """The share of errors after a quarter, a half and three quarters, by the best penalty."""
    quarters, halves, three = (list(combinations(range(4), size)) for size in (1, 2, 3))

    def error(taught: list[tuple[int, ...]], penalty: float) -> float:
        counts = list(pool.map(lambda some: _wrong(parts, some, penalty), taught))
        return sum(wrong for wrong, _ in counts) / max(sum(evaluated for _, evaluated in counts), 1)

    errors = [error(three, penalty) for penalty in PENALTIES]
    best = PENALTIES[int(np.argmin(errors))]
    return error(quarters, best), error(halves, best), min(errors)


def _wrong(parts: list[_Part], taught: tuple[int, ...], penalty: float) -> tuple[int, int]:
    """Errors of ridge regression on some parts, and what it was evaluated on: the other parts."""
    weights, offset = _ridge([parts[one] for one in taught], penalty)
    wrong = evaluated = 0
    for other in set(range(len(parts))) - set(taught):
        rows, labels = parts[other].evaluated
        predicted = (rows @ weights + offset).argmax(dim=1)
        wrong += int((predicted != labels).sum())
        evaluated += len(labels)
    return wrong, evaluated


def _ridge(parts: list[_Part], penalty: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (d, c) and offsets (c,) of ridge regression on the classes' indicators."""
    import torch

    count = max(sum(part.count for part in parts), 1)
    mean = sum(part.sum for part in parts) / count
    gram = sum(part.gram for part in parts) - count * torch.outer(mean, mean)
    counts = sum(part.counts for part in parts)
    with_class = sum(part.of_class for part in parts).T - torch.outer(mean, counts)
    gram.diagonal().add_(penalty * gram.trace().clamp(min=0) / count + 1e-9)
    weights = torch.linalg.solve(gram, with_class)
    return weights.float(), (counts / count - mean @ weights).float()
