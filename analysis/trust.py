"""How far a plot can be trusted: how many of the neighbors on it are neighbors in truth.

Venna and Kaski, "Neighborhood preservation in nonlinear projection methods" (2001), as in
``sklearn.manifold.trustworthiness``, on a sample of the rows when there are many: the ranks are
among all rows, but only the sampled rows are evaluated, so nothing n x n is held.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .vectors import unit_rows

# Distances held at once: 2^24 float64 values, 128 MiB.
BUFFER_VALUES = 2**24


@dataclass(frozen=True)
class PlotTrust:
    """Agreement of a plot with the embeddings that it shows.

    Attributes:
        trustworthiness: in [0, 1]; 1 when all neighbors on the plot are neighbors in truth, about
            0.5 when they have nothing to do with each other
        neighbor_preservation: share of the k true neighbors that are among the k nearest on the
            plot, in [0, 1]; by chance k / num_rows
        k: neighbors that were compared, fewer than asked for in small sets; 0 when there are too
            few rows (less than 3) to say anything, and both figures are 1
        num_sampled: rows that were evaluated
    """

    trustworthiness: float
    neighbor_preservation: float
    k: int
    num_sampled: int


def plot_trust(
    vectors: np.ndarray,
    points: np.ndarray,
    k: int = 15,
    sample: int = 1000,
    seed: int | None = 51,
) -> PlotTrust:
    """Measures the trustworthiness and the neighbor preservation of a plot.

    Args:
        vectors: (num_rows, dim) finite floats, compared by cosine distance
        points: (num_rows, num_dims) finite floats, compared by Euclidean distance
        k: neighbors per row; made smaller than half the number of rows
        sample: rows to evaluate; all when there are no more. 1,000 give +-0.002
        seed: of the sample

    Raises:
        ValueError: if points and embeddings do not fit each other, or k or sample is below 1
    """
    from scipy.spatial import cKDTree

    units = unit_rows(vectors)
    points = np.asarray(points, np.float64)
    num_rows = len(units.rows)
    if len(points) != num_rows:
        raise ValueError(f"The plot has {len(points)} points for {num_rows} embeddings")
    if k < 1 or sample < 1:
        raise ValueError(f"k and sample must be at least 1, not {k} and {sample}")
    k = min(k, (num_rows - 1) // 2)
    if k < 1:
        return PlotTrust(1.0, 1.0, 0, num_rows)

    sampled: np.ndarray = np.arange(num_rows)
    if num_rows > sample:
        sampled = np.sort(np.random.default_rng(seed).choice(num_rows, sample, replace=False))
    # Rounding moves ranks by a few, which matters only where all rows are evaluated.
    precision = np.float64 if len(sampled) == num_rows else np.float32
    rows = np.asarray(vectors, np.float64) if precision is np.float64 else units.rows
    if precision is np.float64:
        rows = rows / np.where(units.zero, 1, np.linalg.norm(rows, axis=1))[:, None]

    _, nearby = cKDTree(points).query(points[sampled], k=k + 1)
    # Leaves out the row itself or, where more than k points coincide and it is not found, the last.
    keep = nearby != sampled[:, None]
    keep[keep.all(axis=1), -1] = False
    nearby = nearby[keep].reshape(len(sampled), k)

    ranks = _ranks(rows, sampled, nearby)
    worst = k * (2 * num_rows - 3 * k - 1) / 2
    penalty = np.maximum(ranks - k, 0).sum(axis=1)
    return PlotTrust(
        trustworthiness=float(1 - penalty.mean() / worst),
        neighbor_preservation=float((ranks <= k).mean()),
        k=k,
        num_sampled=len(sampled),
    )


def _ranks(rows: np.ndarray, sampled: np.ndarray, nearby: np.ndarray) -> np.ndarray:
    """Which neighbor of an evaluated row each nearby one is in truth, 1 for the nearest.

    Args:
        rows: (num_rows, dim) unit rows
        sampled: (m,) int64 rows
        nearby: (m, k) int64 rows

    Returns:
        (m, k) int64
    """
    num_rows = len(rows)
    ranks = np.empty(nearby.shape, np.int64)
    at_once = max(1, BUFFER_VALUES // num_rows)
    for start in range(0, len(sampled), at_once):
        part = slice(start, start + at_once)
        similarity = rows[sampled[part]] @ rows.T
        similarity[np.arange(len(similarity)), sampled[part]] = np.inf
        of_nearby = np.take_along_axis(similarity, nearby[part], axis=1)
        # The row itself has rank 0. Equal distances share the best rank.
        similarity.sort(axis=1)
        for offset, (row, wanted) in enumerate(zip(similarity, of_nearby)):
            ranks[start + offset] = num_rows - np.searchsorted(row, wanted, side="right")
    return ranks
