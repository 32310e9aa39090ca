"""Which samples to look at, to label or to keep first: typical ones of what is not covered yet.

Rows are averaged with their neighbors, which draws the members of a cluster together and outliers
towards it; then one row after the other is chosen, always the one with the largest product of its
typicality and its distance to what is chosen (k-center greedy: Sener and Savarese, "Active learning
for convolutional neural networks", 2018; typical ones first: Hacohen et al., "Active learning on a
budget", 2022). So every prefix of the order is a good choice by itself.

Balanced accuracy of a classifier trained on 51, 102 and 204 of Caltech-101's images: see
``benchmarks/curation.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._greedy_cover import greedy_cover, update_nearest
from .neighbors import NeighborGraph, nearest_rows
from .vectors import unit_rows

# Neighbors that are averaged, and to which the typical row is near.
NEIGHBORS = 10

# Weight of a row whose similarity to its neighbors is a standard deviation above the median:
# e to this power. Chosen on half the classes of Caltech-101 and on CIFAR-10; evaluated on the other
# half and on scikit-learn's digits.
TYPICALITY = 1 / 3

# The upper and the lower quartile of a normal distribution, in standard deviations apart.
QUARTILES = 1.349

# Rows among which those like given ones are chosen, for each that is chosen; and what the farthest
# of them is worth beside one that is equal to a given one: e to minus this power.
AROUND, FALLING = 3, 8.0

# Numbers of chosen rows at which the coverage is measured.
CURVE_COUNTS = tuple(step * 10**power for power in range(9) for step in (1, 2, 5))


@dataclass(frozen=True)
class Coverage:
    """How far a prefix of the choice covers the set.

    Attributes:
        chosen: the number of rows in the prefix
        covered: share of all rows that are within the radius of one of them, in [0, 1]
        mean_distance: mean cosine distance of all rows to the nearest of them
    """

    chosen: int
    covered: float
    mean_distance: float


@dataclass(frozen=True)
class Selection:
    """The chosen rows and how far they cover the others.

    Attributes:
        order: (m,) int64 rows, most important first
        distance: (n,) float32, cosine distance to the nearest row that is chosen or was before
        radius: the distance within which a row is covered: at which the median row has its 10th
            neighbor
        curve: the coverage of prefixes
    """

    order: np.ndarray
    distance: np.ndarray
    radius: float
    curve: tuple[Coverage, ...]


def select_rows(
    rows: np.ndarray,
    graph: NeighborGraph,
    num_chosen: int,
    *,
    diverse: bool = False,
    weights: np.ndarray | None = None,
    around: np.ndarray | None = None,
    start: np.ndarray | None = None,
    candidates: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    by: np.ndarray | None = None,
) -> Selection:
    """Chooses rows in an order of which every prefix is a good choice.

    Args:
        rows: (n, d) float32 unit rows; zero rows are never chosen
        graph: neighbors of the same rows
        num_chosen: how many; fewer are chosen where there are not so many
        diverse (False): cover what is rare as well as what is typical, by distance alone
        weights (None): (n,) float, what a row is worth beside its typicality, at least 0
        around (None): (n,) bool, choose among the rows that are nearest to these
        start (None): (n,) bool, rows that are there already: they are not chosen, and cover
        candidates (None): (n,) bool, the rows that may be chosen
        groups (None): (n,) int64 duplicate groups, -1 in none: one of each is chosen at most
        by (None): (n,) int64 values, over which the choice is balanced with what is there already;
            rows of -1 are not chosen

    Raises:
        ValueError: if arrays do not fit the rows, or num_chosen is below 1

    Example:
        >>> from sklearn.datasets import load_digits
        >>> from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
        >>> from fiftyone_embedding_quality.analysis.vectors import unit_rows
        >>> images, digits = load_digits(n_class=3, return_X_y=True)
        >>> rows = unit_rows(images).rows
        >>> found = select_rows(rows, neighbor_graph(rows), 6)
        >>> sorted(set(digits[found.order].tolist()))
        [0, 1, 2]
    """
    none, every = np.zeros(len(rows), bool), np.ones(len(rows), bool)
    start = none if start is None else start
    candidates = every if candidates is None else candidates
    groups = np.full(len(rows), -1) if groups is None else groups
    _check(rows, graph, num_chosen, start, candidates, groups, weights, around, by)
    allowed = candidates & ~start & rows.any(axis=1)
    if by is not None:
        allowed &= by >= 0
    allowed &= _first_of_group(groups, allowed, start)
    if around is not None:
        allowed &= ~around
    worth = np.ones(len(rows)) if weights is None else weights.astype(np.float64)
    if around is not None:
        likeness = _likeness(rows, around, allowed, AROUND * num_chosen)
        allowed, worth = allowed & (likeness > 0), worth * likeness
    space = rows
    if not diverse:
        neighbors = _Neighborhoods(rows, graph, groups)
        # Of what is like the same rows, averages would hardly differ.
        space = neighbors.averaged if around is None else rows
        worth = worth * neighbors.typicality
    distances: np.ndarray = np.ones(len(rows), np.float32)
    if start.any():
        distances = nearest_rows(space, space[start], 1).distances[:, 0]
    order = _chosen(space, worth, distances, allowed, num_chosen, by, start)
    return _covered(rows, graph, order, start)


def typical_weights(similarity: np.ndarray) -> np.ndarray:
    """What rows are worth by their mean similarity to their neighbors: (n,) float64."""
    low, middle, high = np.quantile(similarity, [0.25, 0.5, 0.75])
    deviation = max((high - low) / QUARTILES, 1e-6)
    return np.exp(TYPICALITY * np.clip((similarity - middle) / deviation, -6, 6))


class _Neighborhoods:
    """Rows averaged with their neighbors, and how typical they are; copies count once."""

    def __init__(self, rows: np.ndarray, graph: NeighborGraph, groups: np.ndarray) -> None:
        first = _first_of_group(groups, np.ones(len(rows), bool), np.zeros(len(rows), bool))
        indices, similar = graph.indices, 1 - graph.distances
        counts = first[indices]
        if (groups >= 0).any():
            counts &= (groups[:, None] < 0) | (groups[indices] != groups[:, None])
        counts &= np.cumsum(counts, axis=1) <= NEIGHBORS
        total, similarity = rows.copy(), (similar * counts).sum(axis=1)
        for column in range(graph.k):
            here = np.flatnonzero(counts[:, column])
            if len(here):
                total[here] += rows[indices[here, column]]
        found = counts.sum(axis=1)
        # Videos and bursts: all neighbors are copies, so others are looked for.
        lacking = np.flatnonzero(first & (found < min(NEIGHBORS, graph.k) // 2))
        others = np.flatnonzero(first)
        if len(lacking) and len(others) > 1:
            more = nearest_rows(rows[lacking], rows[others], NEIGHBORS + 1)
            other = others[more.indices]
            own = other == lacking[:, None]
            total[lacking] = rows[lacking] + (rows[other] * ~own[..., None]).sum(axis=1)
            similarity[lacking] = ((1 - more.distances) * ~own).sum(axis=1)
            found[lacking] = (~own).sum(axis=1)
        self.averaged = unit_rows(total).rows
        self.typicality = typical_weights(similarity / np.maximum(found, 1))


def _first_of_group(groups: np.ndarray, allowed: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The first allowed row of every group of which none is there already; rows in no group."""
    first = groups < 0
    members = np.flatnonzero((groups >= 0) & allowed & ~np.isin(groups, groups[start]))
    _, place = np.unique(groups[members], return_index=True)
    first[members[place]] = True
    return first


def _likeness(rows: np.ndarray, around: np.ndarray, allowed: np.ndarray, count: int) -> np.ndarray:
    """How like the given rows the nearest allowed ones are: (n,) float64, 0 for all others."""
    places = np.flatnonzero(allowed)
    likeness = np.zeros(len(rows))
    if len(places) and around.any():
        distances = nearest_rows(rows[places], rows[around], 1).distances[:, 0]
        nearest = np.argsort(distances, kind="stable")[:count]
        share = distances[nearest] / max(float(distances[nearest].max()), 1e-6)
        likeness[places[nearest]] = np.exp(-FALLING * share)
    return likeness


def _chosen(
    space: np.ndarray,
    worth: np.ndarray,
    distances: np.ndarray,
    allowed: np.ndarray,
    num_chosen: int,
    by: np.ndarray | None,
    start: np.ndarray,
) -> np.ndarray:
    """The rows in the order of choice, with the values of ``by`` in turns."""
    if by is None:
        places = np.flatnonzero(allowed)
        count = min(num_chosen, len(places))
        return places[greedy_cover(space[places], worth[places], distances[places], count)]
    numbers = int(by.max()) + 1
    turns = _turns(
        np.bincount(by[start & (by >= 0)], minlength=numbers),
        np.bincount(by[allowed], minlength=numbers),
        num_chosen,
    )
    order = np.empty(len(turns), np.int64)
    for value in np.unique(turns):
        places = np.flatnonzero(allowed & (by == value))
        mine = np.flatnonzero(turns == value)
        chosen = greedy_cover(space[places], worth[places], distances[places], len(mine))
        order[mine] = places[chosen]
    return order


def _turns(there: np.ndarray, available: np.ndarray, num_chosen: int) -> np.ndarray:
    """Whose turn it is: always the value of which there is least, as long as it has rows.

    Args:
        there: (v,) rows of each value that are there already
        available: (v,) rows that can be chosen

    Returns:
        (m,) int64 values
    """
    # The j-th row of a value comes when all have as many as it then has.
    values = np.repeat(np.arange(len(there)), available)
    first = np.cumsum(available) - available
    level = there[values] + np.arange(len(values)) - first[values]
    return values[np.argsort(level, kind="stable")[:num_chosen]]


def _covered(
    rows: np.ndarray, graph: NeighborGraph, order: np.ndarray, start: np.ndarray
) -> Selection:
    """Measures the coverage in the rows as they are."""
    radius = float(np.median(graph.distances[:, min(NEIGHBORS, graph.k) - 1])) if graph.k else 0.0
    distance: np.ndarray = np.ones(len(rows), np.float32)
    if start.any():
        distance = nearest_rows(rows, rows[start], 1).distances[:, 0].copy()
    curve, done = [], 0
    for count in sorted({*(count for count in CURVE_COUNTS if count < len(order)), len(order)}):
        update_nearest(distance, rows, rows[order[done:count]])
        covered = float((distance <= radius + 1e-6).mean())
        curve.append(Coverage(count, covered, float(distance.mean())))
        done = count
    return Selection(order, distance, radius, tuple(curve))


def _check(
    rows: np.ndarray,
    graph: NeighborGraph,
    num_chosen: int,
    start: np.ndarray,
    candidates: np.ndarray,
    groups: np.ndarray,
    *others: np.ndarray | None,
) -> None:
    if num_chosen < 1:
        raise ValueError(f"num_chosen must be at least 1, not {num_chosen}")
    if graph.num_rows != len(rows):
        raise ValueError(f"The graph has {graph.num_rows} rows for {len(rows)} embeddings")
    for array in (start, candidates, groups, *others):
        if array is not None and len(array) != len(rows):
            raise ValueError(f"{len(array)} values for {len(rows)} embeddings")
