"""Layouts by UMAP: from the neighbor graph, without a second search.

The fuzzy graph is umap-learn's, to rounding. The layout has UMAP's curve, learning rate, rates of
the edges and negative samples. It differs in two ways. A group of points moves at once (see
``layout_step``), so the plot does not depend on threads and a seed costs no speed. An edge moves
only the point whose turn it is, not its other end as well: neighbors pull half as much for the
same push, which preserves more of the neighborhoods with fewer epochs (10,000 clustered embeddings:
trustworthiness 0.993 after 200 epochs, 0.991 by umap-learn after 500).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ..cores import num_cores
from ._parallel import in_parts
from .neighbors import NeighborGraph, nearest_rows
from .pca_layout import pca_layout
from .plot_layout import PlotLayout
from .vectors import order_of_content, unit_rows

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# Edges between different labels lose this much of the logarithm of their strength, edges to
# unlabeled rows that much: umap-learn's for target_weight 0.5.
DIFFERENT_LABEL = 5.0
UNKNOWN_LABEL = 1.0

# Where a plot starts out: as wide as umap-learn's, with noise that separates equal embeddings.
START_WIDTH = 10.0
START_NOISE = 1e-3

# An epoch moves the points in this many groups, one after the other: points that all move at once,
# by where the others were, take about twice the epochs for the same trustworthiness.
GROUPS = 16


def umap_layout(
    vectors: np.ndarray,
    graph: NeighborGraph,
    num_dims: int = 2,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    seed: int | None = 51,
    labels: np.ndarray | None = None,
    num_epochs: int | None = None,
) -> PlotLayout:
    """Lays embeddings out by UMAP.

    The same embeddings, in whatever order, and seed give the same plot on the same machine, bit for
    bit, whatever the number of threads (among more equal embeddings than a row has neighbors, the
    order counts). The seed costs nothing; None draws one.

    Args:
        vectors: (num_rows, dim) finite floats
        graph: of these embeddings, with at least ``n_neighbors - 1`` neighbors per row; fewer, as
            in small sets, are reported in the notes
        num_dims: 2 or 3
        n_neighbors: as in umap-learn, counting the row itself; more keep larger structures
        min_dist: how close points may lie, in [0, 1]
        labels: (num_rows,) int, negative for unknown; pulls rows of the same label together
        num_epochs: steps of the layout; by default 500 for small to 100 for large sets

    Raises:
        ValueError: if the graph is of other embeddings or an argument is out of range
    """
    units = unit_rows(vectors)
    num_rows = len(units.rows)
    _check(num_rows, graph, num_dims, n_neighbors, min_dist)
    if labels is not None and np.shape(labels) != (num_rows,):
        raise ValueError(f"There are {np.size(labels)} labels for {num_rows} embeddings")
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])

    order = order_of_content(units.rows)
    units, graph = units.take(order), graph.reordered(order)
    start = pca_layout(units.rows, num_dims)
    notes = start.notes
    if graph.k < n_neighbors - 1:
        note = (
            f"n_neighbors is {graph.k + 1} instead of {n_neighbors}, the number of samples "
            "available, itself included."
        )
        notes = (note, *notes)
    points = np.zeros((num_rows, 3), np.float32)
    points[:, :num_dims] = _spread(start.points, seed)
    if graph.k:
        edges = fuzzy_graph(graph, n_neighbors)
        if labels is not None:
            edges = _drawn_together_by(np.asarray(labels)[order], edges)
        if num_epochs is None:
            num_epochs = int(np.clip(2_000_000 // num_rows, 100, 500))
        points = _optimize(points, None, edges, num_epochs, min_dist, seed)
    placed = np.empty((num_rows, num_dims), np.float32)
    placed[order] = points[:, :num_dims]
    return PlotLayout(placed, notes)


def umap_transform(
    new_vectors: np.ndarray,
    reference_vectors: np.ndarray,
    reference_points: np.ndarray,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    seed: int | None = 51,
) -> np.ndarray:
    """Places new embeddings into a UMAP plot whose points stay where they are.

    Args:
        new_vectors: (num_new, dim) finite floats
        reference_vectors: (num_rows, dim) those that were mapped
        reference_points: (num_rows, num_dims) their plot

    Returns:
        (num_new, num_dims) float32 points

    Raises:
        ValueError: if the reference is empty or does not fit the points or the new embeddings
    """
    reference_points = np.asarray(reference_points, np.float32)
    num_rows, num_dims = reference_points.shape
    if num_rows == 0 or num_rows != len(reference_vectors):
        raise ValueError(
            f"The plot has {num_rows} points for {len(reference_vectors)} embeddings; run it again"
        )
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    graph = nearest_rows(new_vectors, reference_vectors, n_neighbors)
    strengths = _strengths(graph.distances, to_nearest=False)
    num_new, k = strengths.shape
    weights = strengths / np.maximum(strengths.sum(axis=1, keepdims=True), 1e-30)
    points = np.zeros((num_new, 3), np.float32)
    points[:, :num_dims] = np.einsum("ij,ijd->id", weights, reference_points[graph.indices])
    anchors = np.zeros((num_rows, 3), np.float32)
    anchors[:, :num_dims] = reference_points

    from scipy.sparse import csr_matrix

    edges = csr_matrix(
        (strengths.ravel(), graph.indices.ravel(), np.arange(0, num_new * k + 1, k)),
        shape=(num_new, num_rows),
    )
    points = _optimize(points, anchors, edges, 30, min_dist, seed)
    return np.ascontiguousarray(points[:, :num_dims])


def fuzzy_graph(graph: NeighborGraph, n_neighbors: int) -> csr_matrix:
    """The strengths with which rows belong together: umap-learn's fuzzy simplicial set.

    Args:
        graph: the neighbors of every row
        n_neighbors: how many to use, counting the row itself

    Returns:
        (num_rows, num_rows) sparse float32 in [0, 1], symmetric
    """
    from scipy.sparse import csr_matrix

    k = min(n_neighbors - 1, graph.k)
    num_rows = graph.num_rows
    with_itself = np.c_[np.zeros(num_rows, np.float32), graph.distances[:, :k]]
    strengths = _strengths(with_itself, to_nearest=True)[:, 1:]
    directed = csr_matrix(
        (
            strengths.ravel(),
            np.ascontiguousarray(graph.indices[:, :k]).ravel(),
            np.arange(0, num_rows * k + 1, k),
        ),
        shape=(num_rows, num_rows),
    )
    directed.eliminate_zeros()
    return _either_way(directed)


def _check(
    num_rows: int, graph: NeighborGraph, num_dims: int, n_neighbors: int, min_dist: float
) -> None:
    if graph.num_rows != num_rows:
        raise ValueError(f"The neighbor graph has {graph.num_rows} rows for {num_rows} embeddings")
    if num_dims not in (2, 3):
        raise ValueError(f"num_dims must be 2 or 3, not {num_dims}")
    if n_neighbors < 2:
        raise ValueError(f"n_neighbors must be at least 2, not {n_neighbors}")
    if not 0 <= min_dist <= 1:
        raise ValueError(f"min_dist must be between 0 and 1, not {min_dist}")
    if graph.k < min(n_neighbors, num_rows) - 1:
        raise ValueError(
            f"The neighbor graph has {graph.k} neighbors per sample, too few for n_neighbors="
            f"{n_neighbors}; compute it with k={n_neighbors - 1} or more"
        )


def _strengths(distances: np.ndarray, to_nearest: bool) -> np.ndarray:
    """Strengths (num_rows, k) float32 from ascending cosine distances of the same shape."""
    from ._layout_kernels import memberships

    # UMAP of unit vectors by Euclidean distance, its default.
    distances = np.sqrt(2 * distances)
    strengths = np.empty_like(distances)
    mean = float(distances.mean(dtype=np.float64)) if distances.size else 0.0

    def work(start: int, stop: int) -> None:
        memberships(distances[start:stop], to_nearest, mean, strengths[start:stop])

    with ThreadPoolExecutor(num_cores()) as pool:
        in_parts(work, len(distances), pool)
    return strengths


def _either_way(directed: csr_matrix) -> csr_matrix:
    """The probability that at least one of the two directed edges exists."""
    reverse = directed.T.tocsr()
    return directed + reverse - directed.multiply(reverse)


def _drawn_together_by(labels: np.ndarray, edges: csr_matrix) -> csr_matrix:
    """Weakens edges between labels (umap's ``discrete_metric_simplicial_set_intersection``)."""
    rows = np.repeat(np.arange(edges.shape[0]), np.diff(edges.indptr))
    ours, theirs = labels[rows], labels[edges.indices]
    loss = np.where((ours < 0) | (theirs < 0), UNKNOWN_LABEL, DIFFERENT_LABEL * (ours != theirs))
    edges = edges.copy()
    edges.data *= np.exp(-loss).astype(np.float32)
    # Every row keeps one neighbor to which it belongs fully.
    strongest = np.maximum.reduceat(edges.data, edges.indptr[:-1])
    edges.data /= np.repeat(strongest, np.diff(edges.indptr))
    return _either_way(edges)


def _spread(points: np.ndarray, seed: int) -> np.ndarray:
    """Scaled to the width at which UMAP starts, with noise so that no two points coincide."""
    if len(points) == 0:
        return points
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = START_WIDTH * (points - low) / np.where(high > low, high - low, 1)
    noise = np.random.default_rng(seed).standard_normal(points.shape)
    return (scaled + START_NOISE * noise).astype(np.float32)


def _curve(min_dist: float) -> tuple[float, float]:
    """UMAP's a and b: the curve that is 1 up to ``min_dist`` and falls off exponentially beyond."""
    from scipy.optimize import curve_fit

    distance = np.linspace(0, 3, 300)
    wanted = np.where(distance < min_dist, 1.0, np.exp(-(distance - min_dist)))
    (a, b), _ = curve_fit(lambda d, a, b: 1 / (1 + a * d ** (2 * b)), distance, wanted)
    return float(a), float(b)


def _optimize(
    points: np.ndarray,
    anchors: np.ndarray | None,
    edges: csr_matrix,
    num_epochs: int,
    min_dist: float,
    seed: int,
) -> np.ndarray:
    """Runs the layout: of all points, or, if there are anchors, of points among fixed anchors."""
    from ._layout_kernels import force_tables, layout_step

    pull, push = force_tables(*_curve(min_dist))
    rates = edges.data / edges.data.max()
    # Too weak to pull even once.
    strong = rates >= 1 / num_epochs
    offsets = np.r_[0, np.cumsum(strong)][edges.indptr].astype(np.int64)
    neighbors = edges.indices[strong].astype(np.int32)
    rates = (rates[strong].astype(np.float64) * 2**32).astype(np.int64)
    # umap-learn places new points at a quarter of the learning rate of a plot.
    first_rate = 1.0 if anchors is None else 0.25
    moved = np.empty_like(points)
    others = points if anchors is None else anchors

    def step(epoch: int, first: int, start: int, stop: int) -> None:
        learning_rate = np.float32(first_rate * (1 - (epoch - 1) / num_epochs))
        layout_step(
            first + start, first + stop, points, others, moved, offsets, neighbors, rates,
            epoch, learning_rate, pull, push, seed,
        )  # fmt: skip

    groups = list(pairwise(np.linspace(0, len(points), GROUPS + 1).astype(int)))
    with ThreadPoolExecutor(num_cores()) as pool:
        for epoch in range(1, num_epochs + 1):
            for first, last in groups:
                in_parts(partial(step, epoch, first), last - first, pool)
                points[first:last] = moved[first:last]
    return points
