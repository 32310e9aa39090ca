"""Whether samples that come one after the other are more alike than chance.

Statistics and validation assume that the order of samples says nothing (cleanlab's Datalab tests
the same as "non-IID"): what was recorded in sequence, or sorted by class or time, must not be split
by its order. How near nearest neighbors stand in the order is compared with the same after
shuffling, so the p-value is that of a permutation test, whatever the embeddings are like. What
belongs together (patches of one image) is shuffled together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .neighbors import NeighborGraph

# Neighbors that are looked at; beyond so many rows, of so many drawn ones.
NEIGHBORS, MAX_ROWS = 10, 5_000

# Shufflings: p-values down to 0.002.
PERMUTATIONS = 499

# Parts of equal size into which the order is cut, and units from which a test means something.
PARTS, MIN_UNITS = 10, 20

# Sets without any effect of the order for which one is reported, and the same for their parts.
ALARM = 0.05


@dataclass(frozen=True)
class OrderEffects:
    """How near to each other neighbors stand in the order.

    Attributes:
        p_value: of neighbors that are nearer than by chance
        nearby, expected: share of the neighbors that are within a hundredth of the order, and the
            same after shuffling
        part: (n,) int64, which of ten parts of the order a row is in; -1 without a place
        inside: (10,) float64, share of the neighbors of each part that are in it, too
        inside_expected: (10,) float64, the same after shuffling
        apart: (10,) bool, parts whose neighbors are in them more often than chance explains
    """

    p_value: float
    nearby: float
    expected: float
    part: np.ndarray
    inside: np.ndarray
    inside_expected: np.ndarray
    apart: np.ndarray

    @property
    def differ(self) -> bool:
        """Whether the order matters; without any effect, this is so in 5 % of sets."""
        return self.p_value <= ALARM


def find_order_effects(
    graph: NeighborGraph,
    places: np.ndarray,
    units: np.ndarray,
    groups: np.ndarray | None = None,
    seed: int = 51,
) -> OrderEffects:
    """Tests whether nearest neighbors stand nearer to each other in an order than by chance.

    Args:
        graph: neighbors of n rows
        places: (n,) floats that order the rows, NaN for a row that has no place; all rows of one
            unit have one place
        units: (n,) integers, what is shuffled together; neighbors of the own unit do not count
        groups: (n,) duplicate groups, -1 in none: neighbors of the own group do not count
        seed: of the shufflings

    Raises:
        ValueError: if fewer than 20 units have a place, or none has a neighbor that counts
    """
    random = np.random.default_rng(seed)
    placed = np.flatnonzero(~np.isnan(places))
    first = placed[np.unique(units[placed], return_index=True)[1]]
    if len(first) < MIN_UNITS:
        raise ValueError(
            f"only {len(first)} samples have a place in the order; at least {MIN_UNITS} are needed"
        )
    number = np.full(int(units.max()) + 1, -1)
    number[units[first]] = np.arange(len(first))
    of_row = np.where(np.isnan(places), -1, number[units])
    rank = _mean_ranks(places[first])
    one, other = _pairs(graph, of_row, groups, random)
    if len(one) == 0:
        raise ValueError(
            "all nearest neighbors belong to one sample or are duplicates of each other"
        )
    part_of_rank = np.minimum((PARTS * rank).astype(np.int64), PARTS - 1)

    def measured(order: np.ndarray) -> tuple[float, float, np.ndarray]:
        """Mean log distance, share of nearby pairs, and share within each part."""
        distance = np.abs(rank[order[one]] - rank[order[other]])
        near, far = part_of_rank[order[one]], part_of_rank[order[other]]
        total = np.bincount(near, minlength=PARTS)
        within = np.bincount(near[near == far], minlength=PARTS)
        # Plus one place, so that the nearest of many samples do not outweigh all others.
        closeness = float(np.log(distance + 1 / len(rank)).mean())
        return closeness, float((distance <= 0.01).mean()), within / np.maximum(total, 1)

    closeness, nearby, inside = measured(np.arange(len(first)))
    least, more = 1, np.ones(PARTS)
    expected, inside_expected = 0.0, np.zeros(PARTS)
    for _ in range(PERMUTATIONS):
        by_chance = measured(random.permutation(len(first)))
        least += by_chance[0] <= closeness
        more += by_chance[2] >= inside
        expected += by_chance[1] / PERMUTATIONS
        inside_expected += by_chance[2] / PERMUTATIONS
    part = np.full(len(places), -1)
    part[placed] = part_of_rank[of_row[placed]]
    total = 1 + PERMUTATIONS
    # Ten parts are looked at (Bonferroni).
    apart = (more / total <= ALARM / PARTS) & (least / total <= ALARM)
    return OrderEffects(least / total, nearby, expected, part, inside, inside_expected, apart)


def _mean_ranks(places: np.ndarray) -> np.ndarray:
    """(m,) float64 in [0, 1): equal places share the mean of their ranks."""
    from scipy.stats import rankdata

    return (rankdata(places) - 1) / len(places)


def _pairs(
    graph: NeighborGraph,
    of_row: np.ndarray,
    groups: np.ndarray | None,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """The units of rows and of their neighbors, where both have a place and are not the same."""
    rows = np.flatnonzero(of_row >= 0)
    rows = np.sort(random.permutation(rows)[:MAX_ROWS])
    near = graph.indices[rows, :NEIGHBORS]
    one, other = np.repeat(of_row[rows], near.shape[1]), of_row[near].ravel()
    counted = (other >= 0) & (one != other)
    if groups is not None:
        mine, theirs = np.repeat(groups[rows], near.shape[1]), groups[near].ravel()
        counted &= (mine < 0) | (mine != theirs)
    return one[counted], other[counted]
