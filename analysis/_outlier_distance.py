"""How much farther than usual rows are from their neighbors: ``outliers`` without labels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..cores import num_cores
from ._exact_search import MIN_TORCH_ROWS, product_threads, torch_product
from ._parallel import in_parts
from .neighbors import NeighborGraph
from .vectors import order_of_content, unit_rows

# The upper tenth of a normal distribution, in standard deviations.
UPPER_TENTH = 1.2816

# Cosine distances below this are rounding, or embeddings of equal images computed in two batches.
SMALLEST_DISTANCE = 1e-5

# How many neighbors may count, the share of the largest common neighborhood that is enough, and of
# how many rows it is measured; and the weight of the distance between neighbors. Chosen on random
# parts of Caltech-101 and CIFAR-10 (classes of 8 to 500, clutter or other classes among them).
REACHES, NEARLY, REACH_ROWS = (5, 8, 10, 12, 15, 20, 30), 0.95, 1000
OF_BETWEEN = 0.4

# Rows whose neighbors are summed, or that are compared with centers of groups, at once, and those
# centers: their products stay in a core's cache.
BLOCK_ROWS, BLOCK_CENTERS = 2048, 256


def distance_evidence(
    rows: np.ndarray, graph: NeighborGraph, groups: np.ndarray | None
) -> np.ndarray:
    """How much farther than usual every row is from its neighbors, and these from each other.

    The logarithm of (mean distance to the neighbors) * (mean distance between them) ** 0.4, in
    standard deviations above the median, the deviation taken from the upper tenth; a duplicate
    group counts once. How many neighbors count is read off the set: as many as are neighbors of
    each other (``_reach``).

    Args:
        rows: (num_rows, dim) float32 unit rows
        graph: of these rows
        groups: (num_rows,) int64, duplicate group of a row, -1 for none

    Returns:
        (num_rows,) float64
    """
    num_rows, k = graph.indices.shape
    outside = np.ones((num_rows, k), bool)
    if groups is not None:
        outside = (groups[:, None] < 0) | (groups[graph.indices] != groups[:, None])
    reach = _reach(rows, graph, groups)
    lacking = outside.sum(axis=1) < (reach + 1) // 2
    outside &= np.cumsum(outside, axis=1) <= reach
    count = outside.sum(axis=1)
    to_neighbors = (graph.distances * outside).sum(axis=1) / np.maximum(count, 1)
    between = _distance_between_neighbors(rows, graph.indices, outside, to_neighbors)
    known = np.ones(num_rows, bool)
    if groups is not None:
        _look_beyond_large_groups(rows, groups, lacking, reach, to_neighbors, between, known)

    # A zero row is alike to nothing, and its neighbors are any rows.
    zero = ~rows.any(axis=1)
    to_neighbors[zero] = between[zero] = 1
    spread = np.log(np.maximum(to_neighbors, SMALLEST_DISTANCE))
    spread += OF_BETWEEN * np.log(np.maximum(between, SMALLEST_DISTANCE))
    if not known.any():
        return np.zeros(num_rows)
    median, tenth = _weighted_quantiles(spread[known], _once_per_group(groups, known), [0.5, 0.9])
    # A set of equal rows has no deviation, but rounding.
    deviation = max((tenth - median) / UPPER_TENTH, 1e-3)
    return np.where(known, (spread - median) / deviation, 0)


def _once_per_group(groups: np.ndarray | None, known: np.ndarray) -> np.ndarray:
    """What each known row counts: 1, or its part of its duplicate group's 1."""
    if groups is None:
        return np.ones(int(known.sum()))
    own = groups[known]
    _, inverse, sizes = np.unique(own, return_inverse=True, return_counts=True)
    return np.where(own < 0, 1.0, 1 / sizes[inverse])


def _weighted_quantiles(values: np.ndarray, weights: np.ndarray, levels: list[float]) -> np.ndarray:
    """Quantiles of values that count differently; those of NumPy where they count alike."""
    order = np.argsort(values, kind="stable")
    place = np.cumsum(weights[order]) - weights[order] / 2
    first, last = place[0], place[-1]
    return np.interp(first + np.asarray(levels) * (last - first), place, values[order])


def _reach(rows: np.ndarray, graph: NeighborGraph, groups: np.ndarray | None) -> int:
    """How many neighbors of a row show how usual it is: about as many as are alike in this set.

    With fewer, a few outliers that are alike hide each other; with more than a class has members,
    every row of it is far from its last neighbors. Neighbors of each other share their neighbors
    as far as the class reaches: the smallest number is taken at which the shared part, beyond that
    of chance, is nearly the largest.

    Returns:
        one of REACHES, or graph.k where that is smaller
    """
    num_rows, k = graph.indices.shape
    reaches = [reach for reach in REACHES if reach <= k]
    if not reaches:
        return k
    asked = np.arange(num_rows)
    if groups is not None and (groups < 0).sum() >= REACH_ROWS:
        asked = asked[groups < 0]
    asked = asked[order_of_content(rows[asked])[:REACH_ROWS]]
    shared = []
    for reach in reaches:
        own = graph.indices[asked, :reach]
        total = 0
        for near in range(min(3, k)):
            others = graph.indices[graph.indices[asked, near], :reach]
            total += int((own[:, :, None] == others[:, None, :]).sum())
        by_chance = reach / num_rows
        share = total / (len(asked) * min(3, k) * reach)
        shared.append((share - by_chance) / (1 - by_chance))
    # In a handful of rows less may be shared than by chance.
    enough = max(shared) - (1 - NEARLY) * abs(max(shared))
    return next(reach for reach, share in zip(reaches, shared) if share >= enough)


def _distance_between_neighbors(
    rows: np.ndarray, indices: np.ndarray, counted: np.ndarray, fallback: np.ndarray
) -> np.ndarray:
    """Mean cosine distance between the counted neighbors of every row.

    Of m unit rows with the sum s, the mean cosine of two is (s @ s - m) / (m * (m - 1)).

    Args:
        indices, counted: (num_queries, k) neighbors, and which of them count
        fallback: (num_queries,) what to return where less than two count
    """
    from scipy.sparse import csr_array

    between = fallback.astype(np.float64)

    def work(start: int, stop: int) -> None:
        for first in range(start, stop, BLOCK_ROWS):
            part = slice(first, min(first + BLOCK_ROWS, stop))
            kept = counted[part]
            count = kept.sum(axis=1)
            pointers = np.concatenate([[0], np.cumsum(count)])
            columns = indices[part][kept]
            weights = np.ones(len(columns), rows.dtype)
            sums = csr_array((weights, columns, pointers), (len(kept), len(rows))) @ rows
            squared = np.einsum("ij,ij->i", sums, sums, dtype=np.float64)
            several = count > 1
            pairs = (count * (count - 1.0))[several]
            between[part][several] = 1 - (squared - count)[several] / pairs

    with ThreadPoolExecutor(num_cores()) as pool:
        in_parts(work, len(indices), pool)
    return between


def _look_beyond_large_groups(
    rows: np.ndarray,
    groups: np.ndarray,
    lacking: np.ndarray,
    k: int,
    to_neighbors: np.ndarray,
    between: np.ndarray,
    known: np.ndarray,
) -> None:
    """Finds neighbors where a row's own duplicate group fills most of its list, in place.

    Once per group, for the mean of its members: searching for each member would cost as much as
    the graph in a set of videos.
    """
    lacking = np.flatnonzero(lacking & (groups >= 0))
    numbers, served_by = np.unique(groups[lacking], return_inverse=True)
    if len(numbers) == 0:
        return
    place = np.minimum(np.searchsorted(numbers, groups), len(numbers) - 1)
    own = np.where(numbers[place] == groups, place, -1)
    distances, indices = _nearest_outside(_group_means(rows, own, len(numbers)), rows, own, k)
    found = np.isfinite(distances)
    mean = np.where(found, distances, 0).sum(axis=1) / np.maximum(found.sum(axis=1), 1)
    to_neighbors[lacking] = mean[served_by]
    between[lacking] = _distance_between_neighbors(rows, indices, found, mean)[served_by]
    known[lacking] = found.any(axis=1)[served_by]


def _group_means(rows: np.ndarray, own: np.ndarray, num_groups: int) -> np.ndarray:
    """The direction of the mean of each group's rows: (num_groups, dim) float32 unit rows."""
    from scipy.sparse import csr_array

    members = np.flatnonzero(own >= 0)
    members = members[np.argsort(own[members], kind="stable")]
    pointers = np.searchsorted(own[members], np.arange(num_groups + 1))
    weights = np.ones(len(members), rows.dtype)
    return unit_rows(csr_array((weights, members, pointers), (num_groups, len(rows))) @ rows).rows


def _nearest_outside(
    centers: np.ndarray, rows: np.ndarray, own: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k rows nearest to each center that are not of its own group.

    Args:
        centers: (num_groups, dim) unit rows
        own: (num_rows,) the center of a row's own group, or -1

    Returns:
        cosine distances (num_groups, k) float32, infinite where there are fewer rows, and the rows
    """
    distances = np.full((len(centers), k), np.inf, np.float32)
    indices = np.zeros((len(centers), k), np.int64)
    with_torch = len(rows) >= MIN_TORCH_ROWS
    product = torch_product if with_torch else np.matmul

    def search(first: int) -> None:
        part = slice(first, first + BLOCK_CENTERS)
        for start in range(0, len(rows), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            measured: np.ndarray = np.empty((len(centers[part]), len(rows[block])), np.float32)
            product(centers[part], rows[block].T, out=measured)
            measured = 1 - measured
            member = np.flatnonzero((own[block] >= first) & (own[block] < part.stop))
            measured[own[block][member] - first, member] = np.inf
            columns = np.broadcast_to(np.arange(start, start + measured.shape[1]), measured.shape)
            measured = np.concatenate([distances[part], measured], axis=1)
            columns = np.concatenate([indices[part], columns], axis=1)
            nearest = np.argpartition(measured, k - 1, axis=1)[:, :k]
            distances[part] = np.take_along_axis(measured, nearest, axis=1)
            indices[part] = np.take_along_axis(columns, nearest, axis=1)

    with product_threads(with_torch) as pool:
        list(pool.map(search, range(0, len(centers), BLOCK_CENTERS)))
    return distances, indices
