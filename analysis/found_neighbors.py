"""A neighbor graph of what another search has found: distances are measured here, and its recall.

A vector database knows neighbors by the embeddings that it holds, in its own rounding. What checks
read are distances between the embeddings of the dataset, so only the names of the neighbors are
taken from it.
"""

from __future__ import annotations

import numpy as np

from ._exact_search import exact_neighbors, recall_of
from .neighbors import RECALL_SAMPLE, NeighborGraph
from .vectors import UnitRows, unit_rows

# Rows whose distances are measured at once: of 512 dimensions and 40 candidates 40 MB.
BLOCK_ROWS = 512


def graph_of_found(
    vectors: np.ndarray,
    found: np.ndarray,
    k: int,
    method: str,
    seed: int | None = 51,
) -> NeighborGraph:
    """The graph of the nearest k of the rows that a search has found for each row.

    A row for which fewer than k others were found is searched exactly.

    Args:
        vectors: (num_rows, dim) floats
        found: (num_rows, size) int32, rows, in any order, none twice; -1 for none; the row itself
            does not count
        k: neighbors per row; at most num_rows - 1 are returned
        method: what the graph says of how it was found
        seed: of the sample of rows on which the recall is measured

    Returns:
        the graph; its recall is the share of the true neighbors of ``RECALL_SAMPLE`` rows, by exact
        search among all

    Raises:
        ValueError: if embeddings hold NaN or infinite values, or the shapes do not fit

    Example:
        >>> from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
        >>> rows = np.random.default_rng(1).normal(size=(300, 8))
        >>> found = neighbor_graph(rows, k=20).indices
        >>> graph = graph_of_found(rows, found, 10, "a database")
        >>> graph.k, graph.method, graph.recall
        (10, 'a database', 1.0)
    """
    units = unit_rows(vectors)
    num_rows = len(units.rows)
    if found.ndim != 2 or len(found) != num_rows:
        raise ValueError(f"found must have {num_rows} rows, not the shape {found.shape}")
    k = min(k, num_rows - 1)
    indices = np.full((num_rows, k), -1, np.int32)
    distances = np.full((num_rows, k), np.inf, np.float32)
    for start in range(0, num_rows, BLOCK_ROWS):
        part = slice(start, min(start + BLOCK_ROWS, num_rows))
        _nearest(units, np.arange(part.start, part.stop), found[part], indices, distances)
    lacking = np.flatnonzero(np.isinf(distances).any(axis=1)).astype(np.int32)
    distances[lacking], indices[lacking] = exact_neighbors(
        units.take(lacking), lacking, units, k, None, None
    )
    sample = np.random.default_rng(seed).permutation(num_rows)[:RECALL_SAMPLE].astype(np.int32)
    truth, _ = exact_neighbors(units.take(sample), sample, units, k, None, None)
    return NeighborGraph(indices, distances, method, recall_of(distances[sample], truth))


def _nearest(
    units: UnitRows,
    own: np.ndarray,
    found: np.ndarray,
    indices: np.ndarray,
    distances: np.ndarray,
) -> None:
    """Fills in the nearest of what was found for some rows; what is lacking stays infinite."""
    measured = 1 - np.einsum("nd,nkd->nk", units.rows[own], units.rows[found], optimize=True)
    measured = np.clip(measured, 0, 2)
    measured[(found < 0) | (found == own[:, None])] = np.inf
    order = np.lexsort((found, measured))[:, : indices.shape[1]]
    width = order.shape[1]
    distances[own, :width] = np.take_along_axis(measured, order, 1)
    indices[own, :width] = np.take_along_axis(found, order, 1)
