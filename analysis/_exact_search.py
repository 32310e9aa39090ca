"""Exact nearest rows by cosine distance: which product, in which tiles, and the proof.

Tiles of the queries are multiplied with tiles of the rows; no more than a tile of the products is
ever held. What the rounding of a product cannot rule out is compared exactly, so the answer is
exact on every path:

- "float32": every row whose product may reach the k-th neighbor so far is compared.
- "int8": 8-bit products, where the CPU is fast at them, find a few candidates per query. These are
  compared; a query whose answer that does not prove is searched again with float32 products.
- "cuda": see ``_exact_search_torch``.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from ..cores import num_cores
from ..process import use_one_torch_thread
from ..steps import ProgressCallback
from .vectors import UnitRows

# The products of a tile stay in a core's cache: 1 MiB of them was best on two cores with 2 MiB each
# (10 % faster than 4 MiB).
QUERY_TILE = 512
ROW_TILE = 512

# Rows that are picked at random for the others to gather around.
NUM_PIVOTS = 64

# Below this many rows the products take milliseconds, and importing torch would take seconds.
MIN_TORCH_ROWS = 4096

# With fewer dimensions the rounding errors of 8-bit products do not average out.
MIN_INT8_DIM = 64


class Search(Protocol):
    """The k nearest rows to some queries."""

    def __call__(
        self, queries: np.ndarray, own: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Searches.

        Args:
            queries: (q, dim) float32 unit rows
            own: (q,) int32, the row that a query itself is and that is skipped, or -1

        Returns:
            distances (q, k) float32, rows (q, k) int32, and (q,) bool, whether the answer is
            proved to be exact
        """


def product_path(num_rows: int, dim: int, device: str | None) -> str:
    """Which product searches this many rows: "cuda", "int8" or "float32".

    Args:
        device: a torch device, or None for a CUDA GPU if there is one, else the CPU
    """
    if device is not None and device != "cpu":
        return "cuda"
    if num_rows < MIN_TORCH_ROWS:
        return "float32"
    import torch

    if device is None and torch.cuda.is_available():
        return "cuda"
    return "int8" if dim >= MIN_INT8_DIM and _int8_is_fast() else "float32"


@functools.lru_cache(maxsize=1)
def _int8_is_fast() -> bool:
    """Tries 8-bit products, a private function of torch that is slow on CPUs without VNNI.

    In one thread and by the best of several tries, so that a busy machine gives the same answer.
    """
    import torch

    small = torch.ones((256, 512), dtype=torch.int8)
    large = torch.ones((2048, 512), dtype=torch.int8)
    small32, large32 = small.float(), large.float()

    def seconds(product: Callable[[], object]) -> float:
        product()
        times = []
        for _ in range(7):
            start = time.perf_counter()
            product()
            times.append(time.perf_counter() - start)
        return min(times)

    with product_threads(several=True) as pool:
        try:
            int8 = pool.submit(seconds, lambda: torch._int_mm(small, large.T)).result()
        except (AttributeError, RuntimeError):
            return False
        float32 = pool.submit(seconds, lambda: torch.mm(small32, large32.T)).result()
    return int8 * 2 < float32


def exact_neighbors(
    queries: UnitRows,
    own: np.ndarray,
    searched: UnitRows,
    k: int,
    device: str | None,
    progress: ProgressCallback | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the k rows of ``searched`` nearest to each query, leaving out its own.

    Args:
        own: (num_queries,) int32, the row that a query itself is, or -1
        k: at most the number of rows, less one where queries leave out their own

    Returns:
        distances (num_queries, k) float32 in [0, 2], ascending, and the rows (num_queries, k) int32
    """
    num_queries = len(queries.rows)
    distances = np.empty((num_queries, k), np.float32)
    columns = np.empty((num_queries, k), np.int32)
    proved = np.ones(num_queries, bool)
    if num_queries == 0 or k == 0:
        return distances, columns

    path = product_path(len(searched.rows), searched.rows.shape[1], device)
    with_torch = len(searched.rows) >= MIN_TORCH_ROWS
    by_float32 = Float32Search(searched, k, torch_product if with_torch else np.matmul)
    order = np.arange(num_queries)

    def search_tile(start: int) -> int:
        part = order[start : start + QUERY_TILE]
        distances[part], columns[part], proved[part] = search(queries.rows[part], own[part])
        return min(start + QUERY_TILE, num_queries)

    def search_again(part: np.ndarray) -> None:
        # The neighbors found are real, so the farthest bounds the search; the margin is for
        # rounding that may differ between the two loops.
        limits = distances[part, -1] * np.float32(1 + 1e-5)
        distances[part], columns[part], _ = by_float32(queries.rows[part], own[part], limits)

    with product_threads(with_torch and path != "cuda") as pool:
        search: Search = _chosen(path, searched, k, device, pool) or by_float32
        if isinstance(search, Int8Search) and queries is searched:
            order = search.order
        done = pool.submit(search_tile, 0).result()
        if progress is not None:
            progress(done / num_queries)
        if proved[order[:QUERY_TILE]].mean() < 0.5:
            # Rows so close together that 8-bit products do not separate them.
            search = by_float32
        for done in pool.map(search_tile, range(QUERY_TILE, num_queries, QUERY_TILE)):
            if progress is not None:
                progress(done / num_queries)
        doubtful = np.flatnonzero(~proved)
        parts = [doubtful[i : i + QUERY_TILE] for i in range(0, len(doubtful), QUERY_TILE)]
        list(pool.map(search_again, parts))

    zero = np.flatnonzero(queries.zero)
    columns[zero], distances[zero] = first_rows(own[zero], k), 1
    return np.minimum(distances, 2, out=distances), columns


def _chosen(
    path: str, searched: UnitRows, k: int, device: str | None, pool: ThreadPoolExecutor
) -> Search | None:
    """The search of a path; None for "float32", which every path falls back on."""
    if path == "cuda":
        from ._exact_search_torch import TorchSearch

        return TorchSearch(searched, k, device or "cuda")
    return Int8Search(searched, k, pool) if path == "int8" else None


def first_rows(own: np.ndarray, k: int) -> np.ndarray:
    """Neighbors (q, k) int32 of zero vectors, from which everything is equally far.

    By the order of rows, without the own one.
    """
    first = np.arange(k, dtype=np.int32)
    return first + ((own[:, None] >= 0) & (first >= own[:, None]))


def gathered(rows: np.ndarray, pivots: np.ndarray, pool: Executor) -> tuple[np.ndarray, np.ndarray]:
    """An order (n,) int64 in which rows stand together that are alike, and the place of each row.

    Args:
        rows: (n, dim) float32 unit rows
        pivots: the rows around which the others gather
    """
    nearest = np.empty(len(rows), np.int16)
    centers = rows[pivots].T

    def find_pivot(start: int) -> None:
        part = slice(start, start + ROW_TILE)
        nearest[part] = np.argmax(rows[part] @ centers, axis=1)

    list(pool.map(find_pivot, range(0, len(rows), ROW_TILE)))
    order = np.argsort(nearest, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return order, place


def recall_of(distances: np.ndarray, truth: np.ndarray) -> float:
    """The share of neighbors found, by distance: which of several equal rows does not matter.

    Args:
        distances, truth: (q, k) ascending, of the neighbors found and of the true ones
    """
    return float((distances <= truth[:, -1:] * np.float32(1 + 1e-5)).mean())


@contextmanager
def product_threads(several: bool) -> Iterator[ThreadPoolExecutor]:
    """A pool for tiles: one thread per core, each of which computes its torch products alone."""
    if not several:
        with ThreadPoolExecutor(1) as pool:
            yield pool
        return
    with ThreadPoolExecutor(num_cores(), initializer=use_one_torch_thread) as pool:
        yield pool


def torch_product(left: np.ndarray, right: np.ndarray, out: np.ndarray) -> None:
    import torch

    torch.mm(torch.from_numpy(left), torch.from_numpy(right), out=torch.from_numpy(out))


class Float32Search:
    """Exact search with float32 products. A ``Search``."""

    def __init__(self, searched: UnitRows, k: int, product: Callable) -> None:
        self.searched = searched
        self.k = k
        self.product = product
        # The rounding of a float32 product of unit vectors in any order of summation is within
        # dim * 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). Twice
        # that, for the distance that it is compared with is rounded too.
        self.error = np.float32(2 * searched.rows.shape[1] * 2.0**-24 + 1e-6)

    def __call__(
        self, queries: np.ndarray, own: np.ndarray, limits: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Searches; ``limits`` (q,) float32 are distances within which k rows are known to be."""
        from ._neighbor_kernels import sweep

        rows, zero = self.searched.rows, self.searched.zero
        num_queries = len(queries)
        if limits is None:
            limits = np.full(num_queries, np.inf, np.float32)
        distances = np.full((num_queries, self.k), np.inf, np.float32)
        columns = np.zeros((num_queries, self.k), np.int32)
        buffer = np.empty(num_queries * min(ROW_TILE, len(rows)), np.float32)
        for start in range(0, len(rows), ROW_TILE):
            tile = rows[start : start + ROW_TILE]
            scores = buffer[: num_queries * len(tile)].reshape(num_queries, len(tile))
            self.product(queries, tile.T, out=scores)
            sweep(scores, start, queries, rows, zero, own, self.error, limits, distances, columns)
        return distances, columns, np.ones(num_queries, bool)


class Int8Search:
    """Search with 8-bit products, exact where it says so. A ``Search``.

    The rows are turned by a random rotation first (random signs and a cosine transform), which
    spreads outlying dimensions and makes the rounding errors of different rows independent, so
    that the error of a product is close to normal with the deviation
    |residual of one| * |other| / sqrt(dim). Eight deviations are allowed for (1e-15 per pair), and
    every pair that is compared checks that.
    """

    deviations = 8.0
    # Where the rounded values end, in deviations of a coordinate of a rotated unit vector; what
    # is beyond (one coordinate in 25 million) is counted as residual.
    reach = 5.5

    def __init__(self, searched: UnitRows, k: int, pool: Executor) -> None:
        import torch

        self.searched = searched
        self.k = k
        num_rows, dim = searched.rows.shape
        self.num_candidates = min(k + 1 + max(24, k // 2), num_rows)
        self.step = np.float32(self.reach / np.sqrt(dim) / 127)
        self.signs = np.random.default_rng(0).choice(np.array([-1, 1], np.float32), dim)
        self.buffers = threading.local()

        rounded = np.empty((num_rows, dim), np.int8)
        self.residuals = np.empty(num_rows, np.float32)
        # Rows that are alike stand together, and the search begins where the queries stand: with
        # high scores found first, most others are passed over (a tenth of the time).
        chosen = np.random.default_rng(0).permutation(num_rows)[:NUM_PIVOTS]
        self.order, self.place = gathered(searched.rows, chosen, pool)

        def round_tile(start: int) -> None:
            part = slice(start, start + ROW_TILE)
            rounded[part], self.residuals[part] = self._round(searched.rows[self.order[part]])

        list(pool.map(round_tile, range(0, num_rows, ROW_TILE)))
        self.rounded = torch.from_numpy(rounded)

    def _round(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rotated rows as multiples of ``step``, int8, and the length of what that loses."""
        from scipy.fft import dct

        rotated = dct(rows * self.signs, axis=1, norm="ortho")
        rotated /= self.step
        rounded = np.clip(np.rint(rotated), -127, 127)
        rotated -= rounded
        residual = np.sqrt(np.einsum("ij,ij->i", rotated, rotated)) * self.step
        return rounded.astype(np.int8), residual

    def __call__(
        self, queries: np.ndarray, own: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        import torch

        from ._neighbor_kernels import refine, select

        rows, zero = self.searched.rows, self.searched.zero
        num_queries = len(queries)
        if (own >= 0).all():
            places = self.place[own]
            rounded, residual = self.rounded[torch.from_numpy(places)], self.residuals[places]
            begin = int(np.median(places)) // ROW_TILE * ROW_TILE
        else:
            begin = 0
            rounded, residual = self._round(queries)
            rounded = torch.from_numpy(rounded)
        largest = self.residuals.max()
        lost = np.hypot(residual, largest) / np.sqrt(rows.shape[1])
        errors = (self.deviations * lost + residual * largest + 1e-5).astype(np.float32)

        # A fresh buffer for every product costs 20 %.
        if not hasattr(self.buffers, "scores"):
            self.buffers.scores = torch.empty(QUERY_TILE * ROW_TILE, dtype=torch.int32)
        best = np.full((num_queries, self.num_candidates), -(2**31) << 32, np.int64)
        for start in sorted(range(0, len(rows), ROW_TILE), key=lambda start: abs(start - begin)):
            tile = self.rounded[start : start + ROW_TILE]
            scores = self.buffers.scores[: num_queries * len(tile)].view(num_queries, len(tile))
            torch._int_mm(rounded, tile.T, out=scores)
            select(scores.numpy(), start, best)
        candidates = np.ascontiguousarray(np.sort(best, axis=1)[:, ::-1])
        places = candidates & 0x7FFFFFFF
        candidates += self.order[places] - places

        distances = np.empty((num_queries, self.k), np.float32)
        columns = np.empty((num_queries, self.k), np.int32)
        proved = refine(
            queries, rows, zero, own, candidates, self.step**2, errors, distances, columns
        )
        return distances, columns, proved
