"""Rows as the probes learn them: features of a kernel on landmarks, in an order by content.

On landmarks: Williams and Seeger, "Using the Nyström method to speed up kernel machines" (2001).
Rows are learned in the order of a random number that depends on what they hold, fold by fold, so
that sums, and with them the results, do not depend on where a row stands.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._probe_blocks import row_blocks, run_blocks, total_of

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

# Rows on which a penalty and a temperature are chosen: as many as keep rows * classes near this,
# between the two bounds.
TUNING_VALUES = 250_000
MIN_TUNING_ROWS = 500
MAX_TUNING_ROWS = 5000

# Folds: more are better, so as many as keep rows * features * classes * folds, the cost, near this.
FOLD_PRODUCTS = 3e9
MIN_FOLDS = 2
MAX_FOLDS = 10


@dataclass(frozen=True)
class ProbeRows:
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


def learn(
    rows: np.ndarray,
    directed: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    groups: np.ndarray,
    keys: np.ndarray,
    pool: Executor,
) -> ProbeRows:
    """The labeled rows, their features and folds, in the order in which they are learned.

    Args:
        rows: (n, d) float32 unit rows, zero rows allowed
        directed: (n,) bool, rows that are not zero
        labels, groups: (n,) int64, -1 = none; zero rows have no label
        keys: of ``content_keys``
    """
    num_labeled = int((labels >= 0).sum())
    near, whitening = landmark_kernel(rows, directed, keys, pool)
    num_features = whitening.shape[1]
    affordable = int(FOLD_PRODUCTS / (len(rows) * num_features * num_classes))
    fold = fold_numbers(labels, groups, keys, min(max(affordable, MIN_FOLDS), MAX_FOLDS))
    order = np.lexsort((keys, fold))
    features = uncorrelated(near, order, num_labeled, whitening, pool)
    by_key = np.argsort(keys[order[:num_labeled]], kind="stable")
    wanted = int(np.clip(TUNING_VALUES / num_classes, MIN_TUNING_ROWS, MAX_TUNING_ROWS))
    return ProbeRows(
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


def landmark_kernel(
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

    mean = total_of(pool, sums, row_blocks(0, len(rows))).numpy() / np.float32(directed.sum())

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


def uncorrelated(
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

    scatter, total = total_of(pool, moments, row_blocks(0, num_labeled))
    run_blocks(pool, moments, row_blocks(num_labeled, len(order)))
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

    run_blocks(pool, rotate, row_blocks(0, len(order)))
    return features[:, :kept]


@functools.lru_cache(maxsize=1)
def _product_type() -> torch.dtype:
    """bfloat16 where the CPU multiplies it faster than float32."""
    import torch

    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        features = {}  # torch is set to do without (ATEN_CPU_CAPABILITY)
    fast = features.get("amx_bf16") or features.get("avx512_bf16")
    return torch.bfloat16 if fast else torch.float32


def fold_numbers(
    labels: np.ndarray, groups: np.ndarray, keys: np.ndarray, num_folds: int
) -> np.ndarray:
    """The fold of every row, alike for all rows of a duplicate group and for equal rows."""
    keys = keys.copy()
    grouped = np.flatnonzero(groups >= 0)
    if len(grouped):
        _, number_of_row = np.unique(groups[grouped], return_inverse=True)
        lowest = np.full(number_of_row.max() + 1, np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(lowest, number_of_row, keys[grouped])
        keys[grouped] = lowest[number_of_row]
    _, rank = np.unique(keys[labels >= 0], return_inverse=True)
    fold = np.full(len(labels), num_folds)
    fold[labels >= 0] = rank % num_folds
    return fold
