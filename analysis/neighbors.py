"""The cosine k-nearest-neighbor graph of a set of embeddings: computed once, read by everything.

Exact (see ``_exact_search``) up to the size at which that is fast; beyond through a projection (see
``_projected_search``), in cells of space (see ``_cell_search``) or by pynndescent, with their
recall measured against exact search. Rows are taken in an order of what they hold, so that the
graph does not depend on theirs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..process import device_fault
from ._cell_search import neighbors_in_cells
from ._exact_search import ProgressCallback, exact_neighbors, product_path, recall_of
from ._projected_search import projected_neighbors
from .vectors import UnitRows, order_of_content, unit_rows

logger = logging.getLogger(__name__)

# Exact search costs num_rows^2 * dim products. Up to this many it takes about half a minute on
# two cores with 8-bit products (200,000 x 512), and with float32 products, which are five to ten
# times slower, three seconds (20,000 x 512); through a projection, 50,000 x 512 take six seconds
# instead of 23, and 200,000 a minute and a half.
MAX_EXACT_PRODUCTS = {"int8": 2.1e13, "float32": 2.1e11, "cuda": 1e15}
MAX_PROJECTED_PRODUCTS = 2.1e13

METHODS = ("auto", "exact", "projected", "cells", "pynndescent")

# Found beside the k that are asked for, by the approximate search.
EXTRA_NEIGHBORS = 10

# Rows on which the recall of approximate search is measured.
RECALL_SAMPLE = 1000


@dataclass(frozen=True)
class NeighborGraph:
    """The nearest other rows of every row by cosine distance, nearest first.

    Attributes:
        indices: (num_rows, k) int32, rows; equal distances in the order of the rows
        distances: (num_rows, k) float32, cosine distance in [0, 2], ascending
        method: "exact", "projected", "cells" or "pynndescent"
        recall: share of the true neighbors that were found, in [0, 1]; 1.0 when exact, else
            measured on a sample of rows
    """

    indices: np.ndarray
    distances: np.ndarray
    method: str
    recall: float

    @property
    def num_rows(self) -> int:
        return self.indices.shape[0]

    @property
    def k(self) -> int:
        return self.indices.shape[1]

    def reordered(self, order: np.ndarray) -> NeighborGraph:
        """The graph of the same rows in another order.

        Args:
            order: (num_rows,) int64 permutation, the row of this graph that comes at each place
        """
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        indices = place[self.indices[order]].astype(np.int32)
        distances = self.distances[order]
        # Equal distances in the order of the rows.
        tied = np.flatnonzero((distances[:, 1:] == distances[:, :-1]).any(axis=1))
        by_row = np.lexsort((indices[tied], distances[tied]))
        indices[tied] = np.take_along_axis(indices[tied], by_row, axis=1)
        return replace(self, indices=indices, distances=distances)


def neighbor_graph(
    vectors: np.ndarray,
    k: int = 30,
    method: str = "auto",
    seed: int | None = 51,
    device: str | None = None,
    progress: ProgressCallback | None = None,
) -> NeighborGraph:
    """Finds the k nearest other rows of every row by cosine distance.

    Exact results do not depend on the seed, the device (up to float32 rounding) or the order of
    the rows (up to ties). A zero vector has no direction: it is at distance 1 from every row.

    Args:
        vectors: (num_rows, dim) floats; float16 and float64 are searched as float32
        k: neighbors per row; at most num_rows - 1 are returned, so 0 for a single row
        method: "exact", "projected", "cells" and "pynndescent" (approximate), or "auto": exact
            while that is fast
        seed: of the approximate search and of the sample on which its recall is measured
        device: torch device for exact search; by default a CUDA GPU if there is one, else the CPU;
            the CPU also where the device turns out to be full or unsupported, which is logged
        progress: called with the share of the work that is done, in [0, 1]

    Raises:
        ValueError: if embeddings hold NaN or infinite values, or an argument is out of range

    Example:
        >>> from sklearn.datasets import load_digits
        >>> images, digits = load_digits(return_X_y=True)
        >>> graph = neighbor_graph(images[:500], k=5)
        >>> graph.indices.shape, graph.method
        ((500, 5), 'exact')
        >>> digits[graph.indices[0]].tolist()  # of a 0
        [0, 0, 0, 0, 0]
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not '{method}'")
    units = unit_rows(vectors)
    num_rows = len(units.rows)
    k = min(k, max(num_rows - 1, 0))
    if k == 0:
        empty = np.empty((num_rows, 0))
        return NeighborGraph(empty.astype(np.int32), empty.astype(np.float32), "exact", 1.0)

    order = order_of_content(units.rows)
    units = units.take(order)

    def search(device: str | None) -> NeighborGraph:
        return _graph(units, k, method, seed, device, progress)

    return _on_device(search, device).reordered(np.argsort(order))


def _graph(
    units: UnitRows,
    k: int,
    method: str,
    seed: int | None,
    device: str | None,
    progress: ProgressCallback | None,
) -> NeighborGraph:
    num_rows, dim = units.rows.shape
    own = np.arange(num_rows, dtype=np.int32)
    products = float(num_rows) ** 2 * dim
    if method == "auto":
        path = product_path(num_rows, dim, device)
        method = "exact" if products <= MAX_EXACT_PRODUCTS[path] else "cells"
        if path == "float32" and method != "exact" and products <= MAX_PROJECTED_PRODUCTS:
            method = "projected"
    if method == "projected":
        found = projected_neighbors(units, k, progress)
        if found is not None:
            return NeighborGraph(found[1], found[0], "projected", found[2])
        method = "exact"  # rows that no few directions describe
    if method == "cells":
        found = neighbors_in_cells(units, k, progress)
        if found is not None:
            return NeighborGraph(found[1], found[0], "cells", found[2])
        method = "pynndescent"
    if method == "exact":
        distances, indices = exact_neighbors(units, own, units, k, device, progress)
        return NeighborGraph(indices, distances, "exact", 1.0)
    distances, indices = _approximate_neighbors(units, k, seed, device)
    sample = np.random.default_rng(seed).permutation(num_rows)[:RECALL_SAMPLE]
    truth, _ = exact_neighbors(units.take(sample), own[sample], units, k, device, progress)
    return NeighborGraph(indices, distances, "pynndescent", recall_of(distances[sample], truth))


def nearest_rows(
    queries: np.ndarray, vectors: np.ndarray, k: int = 30, device: str | None = None
) -> NeighborGraph:
    """Finds the k rows of ``vectors`` nearest to each query, exactly, by cosine distance.

    Args:
        queries: (num_queries, dim) floats
        vectors: (num_rows, dim) floats
        k: neighbors per query; at most num_rows are returned

    Returns:
        a graph whose rows are the queries and whose indices are rows of ``vectors``

    Raises:
        ValueError: if an array holds NaN or infinite values, or their dimensions differ
    """
    new, searched = unit_rows(queries), unit_rows(vectors)
    if new.rows.shape[1] != searched.rows.shape[1]:
        raise ValueError(
            f"The new embeddings have {new.rows.shape[1]} dimensions, the existing ones "
            f"{searched.rows.shape[1]}; both must come from the same model"
        )
    own = np.full(len(new.rows), -1, np.int32)
    k = min(k, len(searched.rows))

    def search(device: str | None) -> NeighborGraph:
        distances, indices = exact_neighbors(new, own, searched, k, device, None)
        return NeighborGraph(indices, distances, "exact", 1.0)

    return _on_device(search, device)


def _on_device(search: Callable[[str | None], NeighborGraph], device: str | None) -> NeighborGraph:
    """Searches on the device, and on the CPU where that one is full or unsupported."""
    try:
        return search(device)
    except (RuntimeError, AssertionError) as error:
        fault = device_fault(error)
        if fault is None or device == "cpu":
            raise
        reason = str(error).strip().partition("\n")[0]
    # What the search holds on the device is free by now.
    logger.warning("The device %r %s (%s): neighbors by CPU", device or "cuda", fault, reason)
    return search("cpu")


def _approximate_neighbors(
    units: UnitRows, k: int, seed: int | None, device: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices by pynndescent, on the rows that have a direction."""
    import pynndescent

    from ._neighbor_kernels import distances_to

    num_rows = len(units.rows)
    indices = np.empty((num_rows, k), np.int32)
    distances = np.ones((num_rows, k), np.float32)
    # Zero vectors are at distance 1 from everything: as neighbors, the first rows will do.
    first = np.arange(k, dtype=np.int32)
    indices[:] = first + (first >= np.arange(num_rows)[:, None])
    directed = np.flatnonzero(~units.zero)
    rows = units.rows[directed] if len(directed) < num_rows else units.rows
    wanted = k + 1 + EXTRA_NEIGHBORS
    if len(rows) <= wanted:
        raise ValueError(
            f"{len(rows)} embeddings that are not zero are too few for approximate search; "
            "use method='exact'"
        )
    # On unit rows the Euclidean order is the cosine order. More neighbors than asked for and
    # more candidates than the default raise the recall: 200,000 clustered 512-d embeddings, k 20.
    index = pynndescent.NNDescent(
        rows,
        metric="euclidean",
        n_neighbors=wanted,
        max_candidates=60,
        random_state=seed,
        low_memory=True,
    )
    columns, _ = index.neighbor_graph
    found = np.empty(columns.shape, np.float32)
    distances_to(rows, columns, found)
    order = np.lexsort((columns, found))[:, :k]
    distances[directed] = np.take_along_axis(found, order, 1)
    indices[directed] = directed[np.take_along_axis(columns, order, 1)]
    # pynndescent may find fewer neighbors than asked for.
    lacking = np.flatnonzero(np.isinf(distances).any(axis=1)).astype(np.int32)
    distances[lacking], indices[lacking] = exact_neighbors(
        units.take(lacking), lacking, units, k, device, None
    )
    return distances, indices
