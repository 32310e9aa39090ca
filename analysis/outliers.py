"""Rows that are unlike the others: far from their neighbours and, with labels, of no class.

What speaks for an outlier, each measured against a typical row of the same set:

- distance: it is far from its neighbours, and these are far from each other (a picture that is
  like nothing else has neighbours of every kind), compared with the whole set and, half and half,
  with its own class.
- doubt: the held-out class probabilities are spread over many classes.
- misfit: they give little to the class that the row is labeled with. A wrong label has misfit
  without doubt, for another class claims the row: that is a label issue, not an outlier.

A logistic regression turns them into a score. Near-duplicates of a row say nothing about it: ten
copies of a strange picture are still strange.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ..cores import num_cores
from ._exact_search import MIN_TORCH_ROWS, product_threads, torch_product
from ._parallel import in_parts
from .neighbors import NeighborGraph
from .vectors import order_of_content, unit_rows

NOT_FLAGGED, OF_THE_SET, OF_ITS_CLASS = 0, 1, 2

# Log odds of being an outlier: constant, and per unit of distance, doubt and misfit. Fitted by
# logistic regression, every set with the same weight, on EfficientNet embeddings of Caltech-101
# (random parts of it, 1 to 10 % of them clutter or images of other classes, under random labels or
# none), of CIFAR-10 (nothing planted, clean and human labels; or 1 to 10 % of other classes) and
# pixels of scikit-learn's digits (nothing, or 1 % of another class). The weight of misfit is held
# at 4: it depends on how outliers are labeled, and those under a fair label would be lost.
DISTANCE_ONLY = (-4.4, 1.75, 0.0, 0.0)
DISTANCE_AND_DOUBT = (-7.5, 1.1, 7.8, 0.0)
ALL_EVIDENCE = (-8.2, 1.2, 4.0, 4.0)

# No adaptive threshold is lower: where nothing stands out, what is left at the margin is not worth
# the reviewer's time. Where 5 % are outliers, two of three flags are real and half are found; of
# sets without any, 3 % are flagged by distance alone, 1 % with labels.
LOWEST_THRESHOLD = 0.18

# Held-out probabilities say nothing of a class with fewer members to learn it from, and the median
# distance of a class counts like one of the set's among this many.
SMALLEST_CLASS = 5

# Cosine distances below this are rounding, or embeddings of equal images computed in two batches.
SMALLEST_DISTANCE = 1e-5

# The upper tenth of a normal distribution, in standard deviations.
UPPER_TENTH = 1.2816

# How many neighbors may count, the share of the largest common neighborhood that is enough, and of
# how many rows it is measured; and the weight of the distance between neighbors. Chosen on random
# parts of Caltech-101 and CIFAR-10 (classes of 8 to 500, clutter or other classes among them).
REACHES, NEARLY, REACH_ROWS = (5, 8, 10, 12, 15, 20, 30), 0.95, 1000
OF_BETWEEN = 0.4

# Rows whose neighbours are summed, or that are compared with centres of groups, at once, and those
# centres: their products stay in a core's cache.
BLOCK_ROWS, BLOCK_CENTERS = 2048, 256


@dataclass(frozen=True)
class Outliers:
    """How strange every row is, and which rows are worth a look.

    Attributes:
        score: (num_rows,) float32 in [0, 1], 0 typical: the probability that the row is an
            outlier, as far as rows with the same evidence were outliers in sets with known ones
        flagged: (num_rows,) bool, the score reaches the threshold
        reason: (num_rows,) int8: NOT_FLAGGED; OF_THE_SET, farther from its neighbours than nine
            of ten rows; or OF_ITS_CLASS, not so far, but strange for a row of its class
        threshold: the lowest score that is flagged
    """

    score: np.ndarray
    flagged: np.ndarray
    reason: np.ndarray
    threshold: float


def find_outliers(
    rows: np.ndarray,
    graph: NeighborGraph,
    groups: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    probabilities: np.ndarray | None = None,
    threshold: float | None = None,
) -> Outliers:
    """Scores and flags outliers, from the neighbour graph and what is known of the classes.

    Args:
        rows: (num_rows, dim) float32 unit rows
        graph: of these rows
        groups: (num_rows,) int64, duplicate group of a row, -1 for none; members of the same group
            do not count as neighbours
        labels: (num_rows,) int64, class of a row, -1 for unlabeled; needs probabilities
        probabilities: (num_rows, num_classes) held-out class probabilities; needs labels
        threshold: the lowest score to flag, in (0, 1]; by default the one with the highest
            expected F1, but not below LOWEST_THRESHOLD. When few rows stand out it is low and
            still few rows are flagged; when many do it is higher and fewer flags are wrong

    Raises:
        ValueError: if arrays do not fit each other, or the threshold is out of range
    """
    _check(rows, graph, groups, labels, probabilities, threshold)
    if graph.k == 0:
        nothing = np.zeros(len(rows), np.int8)
        lowest = LOWEST_THRESHOLD if threshold is None else threshold
        return Outliers(nothing.astype(np.float32), nothing.astype(bool), nothing, lowest)

    distance = _distance_evidence(rows, graph, groups)
    log_odds = _log_odds(DISTANCE_ONLY, distance)
    if probabilities is not None and probabilities.shape[1] > 1:
        taught = labels >= 0
        sizes = np.bincount(labels[taught], minlength=probabilities.shape[1])
        taught[taught] = sizes[labels[taught]] >= SMALLEST_CLASS
        judged = taught | (labels < 0)
        if taught.any():
            doubt, misfit = _class_evidence(labels, probabilities, judged, taught)
            unlabeled = _log_odds(DISTANCE_AND_DOUBT, distance, doubt)
            in_class = distance - _class_medians(distance, labels, taught) / 2
            labeled = _log_odds(ALL_EVIDENCE, in_class, doubt, misfit)
            log_odds = np.where(judged, np.where(taught, labeled, unlabeled), log_odds)

    score = (1 / (1 + np.exp(-log_odds))).astype(np.float32)
    if threshold is None:
        threshold = max(_best_threshold(score), LOWEST_THRESHOLD)
    flagged = score >= np.float32(threshold)
    far = (distance > UPPER_TENTH) | (labels is None)
    reason = np.where(flagged, np.where(far, OF_THE_SET, OF_ITS_CLASS), NOT_FLAGGED)
    return Outliers(score, flagged, reason.astype(np.int8), threshold)


def _distance_evidence(
    rows: np.ndarray, graph: NeighborGraph, groups: np.ndarray | None
) -> np.ndarray:
    """How much farther than usual every row is from its neighbors, and these from each other.

    The logarithm of (mean distance to the neighbors) * (mean distance between them) ** 0.4, in
    standard deviations above the median, the deviation taken from the upper tenth; a duplicate
    group counts once. How many
    neighbors count is read off the set: as many as are neighbors of each other (``_reach``).

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
    """How many neighbors of a row tell how usual it is: about as many as are alike in this set.

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
    enough = NEARLY * max(shared)
    return next(reach for reach, share in zip(reaches, shared) if share >= enough)


def _distance_between_neighbors(
    rows: np.ndarray, indices: np.ndarray, counted: np.ndarray, fallback: np.ndarray
) -> np.ndarray:
    """Mean cosine distance between the counted neighbours of every row.

    Of m unit rows with the sum s, the mean cosine of two is (s @ s - m) / (m * (m - 1)).

    Args:
        indices, counted: (num_queries, k) neighbours, and which of them count
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
    """Finds neighbours where a row's own duplicate group fills most of its list, in place.

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
    """The k rows nearest to each centre that are not of its own group.

    Args:
        centers: (num_groups, dim) unit rows
        own: (num_rows,) the centre of a row's own group, or -1

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
            measured = np.empty((len(centers[part]), len(rows[block])), np.float32)
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


def _class_evidence(
    labels: np.ndarray, probabilities: np.ndarray, judged: np.ndarray, taught: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Doubt and misfit of every row beyond those of a typical one.

    Where classes are hard to tell apart or many labels are wrong, a typical row has some of both.

    Returns:
        doubt: (num_rows,) entropy of the probabilities, as a share of the highest possible one
        misfit: (num_rows,) the probability that is not given to the row's own class
    """
    num_classes = probabilities.shape[1]
    doubt = np.zeros(len(labels))
    for start in range(0, len(labels), BLOCK_ROWS):
        block = probabilities[start : start + BLOCK_ROWS].astype(np.float64)
        logarithms = np.log(block, where=block > 0, out=np.zeros_like(block))
        doubt[start : start + BLOCK_ROWS] = -(block * logarithms).sum(axis=1) / np.log(num_classes)
    misfit = 1.0 - probabilities[np.arange(len(labels)), np.maximum(labels, 0)]
    return doubt - np.median(doubt[judged]), misfit - np.median(misfit[taught])


def _class_medians(distance: np.ndarray, labels: np.ndarray, taught: np.ndarray) -> np.ndarray:
    """The median of every row's class, nearer to 0, that of the set, for small classes.

    Returns:
        (num_rows,) float64, 0 for rows that are not taught
    """
    medians = np.zeros(len(distance))
    members = np.flatnonzero(taught)
    members = members[np.argsort(labels[members], kind="stable")]
    _, starts = np.unique(labels[members], return_index=True)
    for part in np.split(members, starts[1:]):
        medians[part] = np.median(distance[part]) * len(part) / (len(part) + SMALLEST_CLASS)
    return medians


def _log_odds(
    weights: tuple[float, float, float, float],
    distance: np.ndarray,
    doubt: np.ndarray | float = 0.0,
    misfit: np.ndarray | float = 0.0,
) -> np.ndarray:
    constant, of_distance, of_doubt, of_misfit = weights
    total = constant + of_distance * distance + of_doubt * doubt + of_misfit * misfit
    return np.clip(total, -50, 50)


def _best_threshold(score: np.ndarray) -> float:
    """The score at which flagging has the highest expected F1, if scores are probabilities.

    Lipton, Elkan and Naryanaswamy, "Optimal thresholding of classifiers to maximize F1 measure"
    (2014).
    """
    falling = np.sort(score.astype(np.float64))[::-1]
    flags = np.arange(1, len(falling) + 1)
    expected = 2 * np.cumsum(falling) / (flags + falling.sum())
    return float(falling[expected.argmax()])


def _check(
    rows: np.ndarray,
    graph: NeighborGraph,
    groups: np.ndarray | None,
    labels: np.ndarray | None,
    probabilities: np.ndarray | None,
    threshold: float | None,
) -> None:
    num_rows = len(rows)
    if graph.num_rows != num_rows:
        raise ValueError(f"The neighbour graph has {graph.num_rows} rows for {num_rows} vectors")
    if (labels is None) != (probabilities is None):
        raise ValueError("labels and probabilities must be given together")
    aligned = {"groups": groups, "labels": labels, "probabilities": probabilities}
    for name, values in aligned.items():
        if values is not None and len(values) != num_rows:
            raise ValueError(f"{name} has {len(values)} entries for {num_rows} vectors")
    if labels is not None and num_rows and labels.max() >= probabilities.shape[1]:
        raise ValueError(
            f"labels name class {labels.max()}, but probabilities has {probabilities.shape[1]}"
        )
    if threshold is not None and not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, not {threshold}")
