"""Which pairs of images may be duplicates: what the embeddings' neighbor graph proposes.

Rank, not distance, decides: a gray or blurred copy is far away, but still the nearest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .neighbors import NeighborGraph

# Neighbors of each image that are compared. On CIFAR-10 the first finds 75 % of the known
# same-image pairs, four find 93 %, eight 98 %.
COMPARED_NEIGHBORS = 4

# Correlation of details from which images are compared that no embedding proposes, and images of
# which all pairs are correlated at most: 8 s of two cores, a twentieth of the time to read them.
ALIKE, MOST_COMPARED_ROWS = 0.5, 20_000

# Duplicates of a duplicate with which its representative is compared at most.
MOST_ASKED = 50


@dataclass(frozen=True)
class Candidates:
    """Pairs of images that may show the same.

    Attributes:
        pairs: (m, 2) int64 rows, the lower one first, sorted
        similarity: (m,) float32 cosine similarity
        relative_distance: (m,) float32, cosine distance as a share of how far the neighborhoods
            reach; 0 for equal embeddings, about 0.7 for ordinary neighbors
    """

    pairs: np.ndarray
    similarity: np.ndarray
    relative_distance: np.ndarray

    def with_others(self, others: Candidates) -> Candidates:
        """These and other pairs, sorted."""
        pairs = np.concatenate([self.pairs, others.pairs])
        order = np.lexsort((pairs[:, 1], pairs[:, 0]))
        similarity = np.concatenate([self.similarity, others.similarity])
        relative = np.concatenate([self.relative_distance, others.relative_distance])
        return Candidates(pairs[order], similarity[order], relative[order])


def near_candidates(
    graph: NeighborGraph, copies: np.ndarray | None = None, images: np.ndarray | None = None
) -> Candidates:
    """Pairs to be compared: the first few neighbors that are not copies, where that is mutual.

    Rank, not distance, decides: a gray or blurred copy is far away, but still the nearest. A pair
    must be among the first four of one row, and in the list of the other, or stand out.

    Args:
        graph: k neighbors of n rows
        copies: (n,) int64 number of the set of exact copies, -1 in none; one of each set stands for
            the others
        images: (n,) int64, the image in which an object lies; two of one image are no candidates
    """
    num_rows, k = graph.indices.shape
    if k == 0:
        return Candidates(np.empty((0, 2), np.int64), *np.empty((2, 0), np.float32))
    apart = graph.indices != np.arange(num_rows)[:, None]
    neighbors = graph.indices.astype(np.int64)
    if copies is not None and (copies >= 0).any():
        entity = entities(copies)
        neighbors = entity[neighbors]
        apart = (neighbors != entity[:, None]) & (entity == np.arange(num_rows))[:, None]
        for column in range(1, k):
            apart[:, column] &= (neighbors[:, :column] != neighbors[:, column, None]).all(axis=1)
    if images is not None:
        apart &= images[neighbors] != images[:, None]
    first = apart & (np.cumsum(apart, axis=1) <= COMPARED_NEIGHBORS)
    row, place = np.nonzero(first)
    other, distance = neighbors[row, place], graph.distances[row, place]
    relative = _relative_distance(distance, row, other, graph)
    mutual = (neighbors[other] == row[:, None]).any(axis=1)
    chosen = mutual | (relative < 0.5)
    low, high = np.minimum(row, other)[chosen], np.maximum(row, other)[chosen]
    _, once = np.unique(low * num_rows + high, return_index=True)
    pairs = np.stack([low[once], high[once]], axis=1)
    return Candidates(pairs, 1 - distance[chosen][once], relative[chosen][once])


def alike_candidates(gray: np.ndarray, readable: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Pairs (m, 2) whose details agree as they lie, whatever their embeddings say.

    To an embedding all pages of text are the same page: on rescans of 20 of 60 pages the copy is
    among the first four neighbors for 9.

    Args:
        gray: (n, 64, 64) uint8
        readable: (n,) bool
        known: (k, 2) int64 pairs that are candidates already
    """
    rows = np.flatnonzero(readable)
    if not 1 < len(rows) <= MOST_COMPARED_ROWS:
        return np.empty((0, 2), np.int64)
    described = np.stack([_described(gray[row]) for row in rows])
    pairs = set()
    step = max(1, 2**24 // len(rows))
    for start in range(0, len(rows), step):
        alike = described[start : start + step] @ described.T
        mine = np.arange(len(alike))
        alike[mine, start + mine] = -1
        best = alike.argmax(axis=1)
        for place in np.flatnonzero(alike[mine, best] >= ALIKE).tolist():
            pairs.add(tuple(sorted((int(rows[start + place]), int(rows[best[place]])))))
    return np.array(sorted(pairs - set(map(tuple, known.tolist()))), np.int64).reshape(-1, 2)


def _described(small: np.ndarray) -> np.ndarray:
    """A small image's details at 21 x 21: (441,) float32 of length 1."""
    means = small[:63, :63].reshape(21, 3, 21, 3).mean(axis=(1, 3), dtype=np.float32)
    padded = np.pad(means, 2, mode="edge")
    sums = np.cumsum(np.cumsum(np.pad(padded, ((1, 0), (1, 0))), axis=0), axis=1)
    around = (sums[5:, 5:] - sums[:-5, 5:] - sums[5:, :-5] + sums[:-5, :-5]) / 25
    details = (means - around).ravel()
    # Two gray levels of detail say nothing.
    return (details / max(float(np.linalg.norm(details)), 2.0 * 21)).astype(np.float32)


def pair_candidates(pairs: np.ndarray, rows: np.ndarray, graph: NeighborGraph) -> Candidates:
    """The given pairs (m, 2) with what the embeddings say about them."""
    left, right = pairs.T
    distance = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), 4096):
        part = slice(start, start + 4096)
        distance[part] = ((rows[left[part]] - rows[right[part]]) ** 2).sum(axis=1) / 2
    return Candidates(pairs, 1 - distance, _relative_distance(distance, left, right, graph))


def representative_pairs(
    group: np.ndarray,
    keep: np.ndarray,
    copies: np.ndarray,
    links: np.ndarray,
    graph: NeighborGraph,
    compared: np.ndarray,
) -> np.ndarray:
    """Pairs (m, 2) of representatives with images that may belong to them, not compared yet.

    A large group is not found by four neighbors each. Its representative, and no other member, is
    compared with all its neighbors and with the duplicates of its duplicates.

    Args:
        group, keep: of ``group_duplicates``
        copies: (n,) int64 number of the set of exact copies, -1 in none
        links: (l, 2) int64 confirmed pairs
        compared: (c, 2) int64 pairs that were compared before
    """
    entity = entities(copies)
    linked: dict[int, list[int]] = {}
    for one, other in entity[links].tolist():
        linked.setdefault(one, []).append(other)
        linked.setdefault(other, []).append(one)
    known = set(map(tuple, entity[compared].tolist()))
    known.update((one, other) for one, others in linked.items() for other in others)
    wanted: set[tuple[int, int]] = set()
    for row in entity[np.flatnonzero(keep & (group >= 0))].tolist():
        others = set(entity[graph.indices[row]].tolist())
        for direct in linked.get(row, ())[:MOST_ASKED]:
            others.update(linked[direct][:MOST_ASKED])
        others.discard(row)
        wanted.update((min(row, other), max(row, other)) for other in others)
    return np.array(sorted(wanted - known), np.int64).reshape(-1, 2)


def _relative_distance(
    distance: np.ndarray, left: np.ndarray, right: np.ndarray, graph: NeighborGraph
) -> np.ndarray:
    """Distance as a share of how far the two neighborhoods reach.

    Half of the usual reach at least: a crowd of copies has nothing but copies for neighbors.
    """
    reach = graph.distances[:, -1]
    scale = np.maximum(np.maximum(reach[left], reach[right]), np.median(reach) / 2)
    return (distance / np.maximum(scale, 1e-7)).astype(np.float32)


def entities(copies: np.ndarray) -> np.ndarray:
    """The row that stands for each row: the first of its exact copies, else itself."""
    entity = np.arange(len(copies))
    rows = np.flatnonzero(copies >= 0)
    _, first, inverse = np.unique(copies[rows], return_index=True, return_inverse=True)
    entity[rows] = rows[first][inverse]
    return entity
