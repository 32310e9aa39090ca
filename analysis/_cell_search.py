"""Nearest rows of very many: only in the cells of space that are next to a row.

As in an inverted file (Jégou et al., "Product quantization for nearest neighbor search", 2011):
k-means cells of a projection; each row is compared with those of the cells whose centers are
nearest, first through the projection, then exactly. Rows of one cell ask together, so that a
product of matrices does it. How many cells and directions that takes is found out on some of the
rows, whose neighbors are searched exactly, and so is the recall.
"""

from __future__ import annotations

import threading
from concurrent.futures import Executor

import numpy as np

from ..steps import ProgressCallback
from ._exact_search import (
    QUERY_TILE,
    ROW_TILE,
    exact_neighbors,
    first_rows,
    product_threads,
    recall_of,
    torch_product,
)
from ._projected_search import RECALL_ROWS, SAMPLE_ROWS
from .vectors import UnitRows

# Cells: this many times the root of the number of rows; each is learned from so many rows, in so
# many rounds of k-means.
CELLS_PER_ROOT, ROWS_PER_CELL, KMEANS_ROUNDS = 1.0, 48, 4

# Directions of the projection and cells that are searched, until this share of the neighbors of
# some rows is found.
EFFORTS = ((95, 4), (95, 8), (127, 16), (191, 32), (255, 64))
LEAST_RECALL = 0.98

# Candidates for each neighbor that is asked for.
CANDIDATES_PER_NEIGHBOR = 3


class CellSearch:
    """Search for neighbors of rows in the cells around them.

    Args:
        searched: unit rows, in an order of what they hold
        k: neighbors per row
        pool: threads that multiply alone
        num_directions: of the projection, no more than the rows have

    Attributes:
        num_probes: cells searched for each row
        order: (n,) int64 rows, those of a cell side by side
        place: (n,) int64, where each row stands among them
    """

    def __init__(self, searched: UnitRows, k: int, pool: Executor, num_directions: int) -> None:
        self.searched, self.k = searched, k
        self.num_probes = 1
        rows = searched.rows
        num_rows = len(rows)
        sample = rows[:SAMPLE_ROWS].astype(np.float64)
        directions = np.linalg.eigh(sample.T @ sample)[1][:, ::-1][:, :num_directions]
        directions = np.ascontiguousarray(directions, np.float32)
        short = np.empty((num_rows, num_directions + 1), np.float32)

        def project(start: int) -> None:
            part = slice(start, start + ROW_TILE)
            short[part, :-1] = rows[part] @ directions

        _each(pool, project, num_rows)
        # With 2 added all scores are positive: their bits, read as integers, keep their order.
        short[:, -1] = np.sqrt(2)
        self.centers = _centers(short[:, :-1], max(1, int(CELLS_PER_ROOT * num_rows**0.5)), pool)
        cell = np.empty(num_rows, np.int32)

        def assign(start: int) -> None:
            part = slice(start, start + ROW_TILE)
            cell[part] = self._affinity(short[part]).argmax(axis=1)

        _each(pool, assign, num_rows)
        self.order = np.argsort(cell, kind="stable")
        self.place = np.empty_like(self.order)
        self.place[self.order] = np.arange(num_rows)
        self.short = short[self.order]
        self.edges = np.searchsorted(cell[self.order], np.arange(len(self.centers) + 1))
        self.buffers = threading.local()

    def neighbors_of(self, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The neighbors of some rows: distances (q, k) float32, ascending, rows (q, k) int32.

        Args:
            own: rows, best of one cell or of a few
        """
        from ._neighbor_kernels import compare, select

        short = self.short[self.place[own]]
        affinity = self._affinity(short)
        probes = min(self.num_probes, affinity.shape[1])
        asked = np.argpartition(-affinity, probes - 1, axis=1)[:, :probes]
        cells, counts = np.unique(asked, return_counts=True)
        size = min(CANDIDATES_PER_NEIGHBOR * self.k + 1, len(self.short))
        best = np.zeros((len(own), size), np.int64)
        if not hasattr(self.buffers, "scores"):
            self.buffers.scores = np.empty(QUERY_TILE * ROW_TILE, np.float32)
        # With high scores found first most others are passed over.
        for cell in cells[np.argsort(-counts, kind="stable")]:
            mine = np.flatnonzero((asked == cell).any(axis=1))
            queries, heaps = short[mine], best[mine]
            for start in range(self.edges[cell], self.edges[cell + 1], ROW_TILE):
                tile = self.short[start : min(start + ROW_TILE, self.edges[cell + 1])]
                scores = self.buffers.scores[: len(mine) * len(tile)]
                scores = scores.reshape(len(mine), len(tile))
                torch_product(queries, tile.T, out=scores)
                select(scores.view(np.int32), start, heaps)
            best[mine] = heaps
        found = best > 0
        candidates = self.order[best & 0x7FFFFFFF].astype(np.int32)
        # The row itself is passed over: it stands for candidates that there are not.
        candidates[~found] = np.broadcast_to(own[:, None], best.shape)[~found]
        distances = np.full((len(own), self.k), np.inf, np.float32)
        columns = np.full((len(own), self.k), np.iinfo(np.int32).max, np.int32)
        compare(self.searched.rows, self.searched.zero, own, candidates, distances, columns)
        return distances, columns

    def _affinity(self, short: np.ndarray) -> np.ndarray:
        """How near the centers of all cells are: (q, cells) float32, the higher the nearer."""
        scores = np.empty((len(short), len(self.centers)), np.float32)
        torch_product(short, self.centers.T, out=scores)
        return scores


def _each(pool: Executor, work, num_rows: int) -> None:
    list(pool.map(work, range(0, num_rows, ROW_TILE)))


def _centers(short: np.ndarray, num_cells: int, pool: Executor) -> np.ndarray:
    """Centers of k-means cells: (num_cells, dim + 1) float32, so that products rank the nearest.

    Args:
        short: (n, dim) float32, in an order of what the rows hold
    """
    sample = np.ascontiguousarray(short[: ROWS_PER_CELL * num_cells])
    centers = sample[:num_cells].copy()
    nearest = np.empty(len(sample), np.int64)
    for _ in range(KMEANS_ROUNDS):
        half = (centers**2).sum(axis=1) / 2

        def assign(start: int, centers: np.ndarray = centers, half: np.ndarray = half) -> None:
            part = slice(start, start + ROW_TILE)
            scores = np.empty((len(sample[part]), len(centers)), np.float32)
            torch_product(sample[part], centers.T, out=scores)
            nearest[part] = (scores - half).argmax(axis=1)

        _each(pool, assign, len(sample))
        order = np.argsort(nearest, kind="stable")
        present, first, counts = np.unique(nearest[order], return_index=True, return_counts=True)
        sums = np.add.reduceat(sample[order], first, axis=0)
        centers[present] = sums / counts[:, None]
    # The last column meets the constant that all rows end with.
    half = (centers**2).sum(axis=1, keepdims=True) / 2
    return np.concatenate([centers, -half / np.sqrt(2)], axis=1).astype(np.float32)


def neighbors_in_cells(
    searched: UnitRows, k: int, progress: ProgressCallback | None
) -> tuple[np.ndarray, np.ndarray, float] | None:
    """The nearest other rows of every row, nearly all of them.

    Args:
        searched: unit rows, in an order of what they hold
        k: neighbors per row

    Returns:
        distances (num_rows, k) float32, ascending, rows (num_rows, k) int32, and the share of the
        true neighbors that was found, measured; None where no effort finds LEAST_RECALL of them
    """
    num_rows, dim = searched.rows.shape
    sample = np.arange(min(RECALL_ROWS, num_rows), dtype=np.int32)
    truth, _ = exact_neighbors(searched.take(sample), sample, searched, k, "cpu", None)
    distances = np.empty((num_rows, k), np.float32)
    columns = np.empty((num_rows, k), np.int32)
    with product_threads(several=True) as pool:
        search = None
        for num_directions, num_probes in EFFORTS:
            num_directions = min(num_directions, dim)
            if search is None or search.short.shape[1] != num_directions + 1:
                search = CellSearch(searched, k, pool, num_directions)
            search.num_probes = num_probes
            asked = sample[np.argsort(search.place[sample])]
            found = pool.map(search.neighbors_of, np.array_split(asked, 8))
            recall = recall_of(np.concatenate([part for part, _ in found]), truth[asked])
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
    lacking = np.flatnonzero(np.isinf(distances[:, -1]) & ~searched.zero).astype(np.int32)
    distances[lacking], columns[lacking] = exact_neighbors(
        searched.take(lacking), lacking, searched, k, "cpu", None
    )
    columns[searched.zero], distances[searched.zero] = (
        first_rows(np.flatnonzero(searched.zero).astype(np.int32), k),
        1,
    )
    return np.minimum(distances, 2, out=distances), columns, recall
