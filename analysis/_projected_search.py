"""Nearest rows through a projection, where exact search is slow: CPUs without fast 8-bit products.

A projection on the first principal directions keeps most of a cosine. It finds a few candidates
per query at a fraction of the products; these are compared exactly. How many directions that takes
is found out on some of the rows, whose neighbors are searched exactly, and so is the recall.
"""

from __future__ import annotations

import threading
from concurrent.futures import Executor

import numpy as np

from ..steps import ProgressCallback
from ._exact_search import (
    NUM_PIVOTS,
    QUERY_TILE,
    ROW_TILE,
    exact_neighbors,
    first_rows,
    gathered,
    product_threads,
    recall_of,
    torch_product,
)
from .vectors import UnitRows

# The directions are those of so many rows. Chosen on embeddings of CIFAR-10 (30,000 x 256) and
# made-up ones (50,000 x 512): 63 directions find 0.976 and 0.995 of the neighbors, 95 find 0.997
# and 0.999.
SAMPLE_ROWS = 4096
NUM_DIRECTIONS = (63, 95, 127, 191, 255)

# A projection must find this share of the neighbors of the first so many rows.
LEAST_RECALL, RECALL_ROWS = 0.995, 500

# Candidates for each neighbor that is asked for.
CANDIDATES_PER_NEIGHBOR = 4


class ProjectedSearch:
    """Search for neighbors of rows among candidates that a projection finds.

    It begins where a row stands: with high scores found first most others are passed over.

    Args:
        searched: unit rows, in an order of what they hold
        k: neighbors per row
        pool: threads that multiply alone
        num_directions: of the projection, fewer than the rows have
    """

    def __init__(self, searched: UnitRows, k: int, pool: Executor, num_directions: int) -> None:
        self.searched, self.k = searched, k
        rows = searched.rows
        num_rows = len(rows)
        self.num_candidates = min(CANDIDATES_PER_NEIGHBOR * k, num_rows)
        sample = rows[:SAMPLE_ROWS].astype(np.float64)
        directions = np.linalg.eigh(sample.T @ sample)[1][:, ::-1][:, :num_directions]
        directions = np.ascontiguousarray(directions, np.float32)
        short = np.empty((num_rows, num_directions + 1), np.float32)

        def project(start: int) -> None:
            part = slice(start, start + ROW_TILE)
            short[part, :-1] = rows[part] @ directions

        list(pool.map(project, range(0, num_rows, ROW_TILE)))
        # With 2 added all scores are positive: their bits, read as integers, keep their order.
        short[:, -1] = np.sqrt(2)
        self.order, self.place = gathered(rows, np.arange(min(NUM_PIVOTS, num_rows)), pool)
        self.short = short[self.order]
        self.buffers = threading.local()

    def neighbors_of(self, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The neighbors of some rows: distances (q, k) float32, ascending, rows (q, k) int32."""
        from ._neighbor_kernels import compare, select

        places = self.place[own]
        short, begin = self.short[places], int(np.median(places))
        # A fresh buffer for every product costs 20 %.
        if not hasattr(self.buffers, "scores"):
            self.buffers.scores = np.empty(QUERY_TILE * ROW_TILE, np.float32)
        best = np.zeros((len(own), self.num_candidates), np.int64)
        starts = range(0, len(self.short), ROW_TILE)
        for start in sorted(starts, key=lambda start: (abs(start - begin), start)):
            tile = self.short[start : start + ROW_TILE]
            scores = self.buffers.scores[: len(short) * len(tile)].reshape(len(short), len(tile))
            torch_product(short, tile.T, out=scores)
            select(scores.view(np.int32), start, best)
        candidates = self.order[best & 0x7FFFFFFF].astype(np.int32)
        distances = np.full((len(own), self.k), np.inf, np.float32)
        columns = np.full((len(own), self.k), np.iinfo(np.int32).max, np.int32)
        compare(self.searched.rows, self.searched.zero, own, candidates, distances, columns)
        return distances, columns


def projected_neighbors(
    searched: UnitRows, k: int, progress: ProgressCallback | None
) -> tuple[np.ndarray, np.ndarray, float] | None:
    """The nearest other rows of every row, nearly all of them.

    Args:
        searched: unit rows, in an order of what they hold
        k: neighbors per row

    Returns:
        distances (num_rows, k) float32, ascending, rows (num_rows, k) int32, and the share of the
        true neighbors that was found, measured; None where it takes too many directions to find
        LEAST_RECALL of them
    """
    num_rows, dim = searched.rows.shape
    own = np.arange(num_rows, dtype=np.int32)
    sample = own[:RECALL_ROWS]
    truth, _ = exact_neighbors(searched.take(sample), sample, searched, k, "cpu", None)
    distances = np.empty((num_rows, k), np.float32)
    columns = np.empty((num_rows, k), np.int32)
    with product_threads(several=True) as pool:
        for num_directions in NUM_DIRECTIONS:
            if num_directions >= dim // 2:
                return None
            search = ProjectedSearch(searched, k, pool, num_directions)
            asked = sample[np.argsort(search.place[sample])]
            parts = [asked[i : i + QUERY_TILE] for i in range(0, len(asked), QUERY_TILE)]
            for part, found in zip(parts, pool.map(search.neighbors_of, parts)):
                distances[part] = found[0]
            recall = recall_of(distances[sample], truth)
            if recall >= LEAST_RECALL:
                break
        else:
            return None

        def search_tile(start: int) -> int:
            part = search.order[start : start + QUERY_TILE].astype(np.int32)
            distances[part], columns[part] = search.neighbors_of(part)
            return start + len(part)

        for done in pool.map(search_tile, range(0, num_rows, QUERY_TILE)):
            if progress is not None:
                progress(done / num_rows)
    columns[searched.zero], distances[searched.zero] = first_rows(own[searched.zero], k), 1
    return np.minimum(distances, 2, out=distances), columns, recall
