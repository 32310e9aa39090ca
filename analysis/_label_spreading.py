"""How labels spread over the neighbor graph, and what of a row's own label comes back to it."""

from __future__ import annotations

import operator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, repeat

import numpy as np

from ..cores import num_cores
from .neighbors import NeighborGraph

# Neighbors over which labels and rows spread.
NEIGHBORS = 10

# Share of a row's label mass that comes from its neighbors, and steps of spreading. With one label
# per class 0.95 is better than 0.9 by 0.008 on CIFAR-10 and by 0.02 on scikit-learn's digits.
SPREADING, STEPS = 0.95, 20

# Distance at which a neighbor counts 1/e, as a share of the median distance: 0.12 on
# Caltech-101 and 0.17 on CIFAR-10. Other shares were not tried.
DISTANCE_SHARE = 1 / 3

# Labeled rows are distinguished by this many marks, to learn how much of their own label returns.
MARKS = 64

# Rows from which threads are worth their start.
MIN_ROWS = 4096


class Spreading:
    """Label propagation on the symmetric, normalized neighbor graph.

    Zhou et al., "Learning with local and global consistency" (2004).
    """

    def __init__(self, graph: NeighborGraph) -> None:
        from scipy.sparse import csr_array

        num_rows, k = graph.num_rows, min(NEIGHBORS, graph.k)
        self.indices = graph.indices[:, :k]
        distances = graph.distances[:, :k]
        scale = max(float(np.median(distances)) * DISTANCE_SHARE, 1e-6)
        weights = np.exp(-distances / np.float32(scale)).ravel()
        pointers = np.arange(num_rows + 1) * k
        one_way = csr_array((weights, self.indices.ravel(), pointers), (num_rows, num_rows))
        both = one_way.maximum(one_way.T).tocsr()
        root = np.maximum(both.sum(axis=1), 1e-12) ** -0.5
        both.data *= np.repeat(root, np.diff(both.indptr)) * root[both.indices] * SPREADING
        both = both.astype(np.float32)
        parts = num_cores() if num_rows >= MIN_ROWS else 1
        edges = [num_rows * part // parts for part in range(parts + 1)]
        self._parts = [both[start:stop] for start, stop in pairwise(edges)]

    def run(self, seeds: np.ndarray) -> np.ndarray:
        """What reaches every row: ``(n, columns)`` float32, of seeds of the same shape."""
        start, now = seeds * np.float32(1 - SPREADING), seeds
        with ThreadPoolExecutor(len(self._parts)) as pool:
            for _ in range(STEPS):
                now = np.concatenate(list(pool.map(operator.matmul, self._parts, repeat(now))))
                now += start
        return now

    def averaged(self, rows: np.ndarray) -> np.ndarray:
        """Rows averaged with their neighbors: ``(n, d)`` float32 unit rows, zero rows allowed.

        One step of Wu et al., "Simplifying graph convolutional networks" (2019).
        """
        total = rows.copy()
        for column in self.indices.T:
            total += rows[column]
        return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)

    def returned(self, labeled: np.ndarray, mates: np.ndarray) -> np.ndarray:
        """How much of the own label comes back to labeled rows: ``(num_labeled,)`` float32.

        Propagation is linear, so this is what is to be taken away to predict a row without its own
        label. Rows that are likely far apart share a mark: one column serves many of them.

        Args:
            labeled: the rows
            mates: ``(num_labeled,)`` the same number for duplicates of the same class, which are
                taken away together; ordered by class
        """
        marks = mates % MARKS
        seeds = np.zeros((self.indices.shape[0], min(MARKS, int(mates.max()) + 1)), np.float32)
        seeds[labeled, marks] = 1
        return self.run(seeds)[labeled, marks]
