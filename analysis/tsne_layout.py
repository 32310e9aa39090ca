"""Layouts by t-SNE: openTSNE on the neighbor graph, without a second search.

The affinities and the optimization are openTSNE's; in two dimensions the gradient is ours.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..cores import num_cores
from .neighbors import NeighborGraph
from .pca_layout import pca_layout
from .plot_layout import PlotLayout
from .vectors import order_of_content, unit_rows

# Neighbors that t-SNE needs for a perplexity (van der Maaten, 2014).
NEIGHBORS_PER_PERPLEXITY = 3

# Fewer rows, attracted twelvefold at first as is usual, fall into one place and stay there.
MIN_EXAGGERATED_ROWS = 100

# From this many rows on the grid is faster than Barnes-Hut.
MIN_GRID_ROWS = 1000


def tsne_neighbors(perplexity: float) -> int:
    """The k of the neighbor graph that this perplexity needs."""
    return int(np.ceil(NEIGHBORS_PER_PERPLEXITY * perplexity))


def tsne_layout(
    vectors: np.ndarray,
    graph: NeighborGraph,
    num_dims: int = 2,
    perplexity: float = 30,
    seed: int | None = 51,
) -> PlotLayout:
    """Lays embeddings out by t-SNE.

    Deterministic but for the seed, which only separates equal embeddings: it costs nothing.

    Args:
        vectors: (num_rows, dim) finite floats
        graph: of these embeddings, with ``tsne_neighbors(perplexity)`` neighbors per row; with
            fewer, as in small sets, the perplexity is lowered, which the notes say
        num_dims: 2 or 3; three dimensions take several times longer
        perplexity: how many neighbors count, above 1

    Raises:
        ValueError: if the graph is of other embeddings or an argument is out of range
    """
    units = unit_rows(vectors)
    num_rows = len(units.rows)
    if graph.num_rows != num_rows:
        raise ValueError(f"The neighbor graph has {graph.num_rows} rows for {num_rows} embeddings")
    if num_dims not in (2, 3):
        raise ValueError(f"num_dims must be 2 or 3, not {num_dims}")
    if perplexity <= 1:
        raise ValueError(f"perplexity must be above 1, not {perplexity}")
    # In an order of what the rows hold: that of their import changes nothing.
    order = order_of_content(units.rows)
    start, graph = pca_layout(units.rows[order], num_dims), graph.reordered(order)
    # Less than two neighbors have nothing to weigh against each other.
    if graph.k < 2:
        return PlotLayout(
            start.points[np.argsort(order)],
            ("Too few samples for t-SNE: placed by PCA.", *start.notes),
        )

    notes = start.notes
    k = min(graph.k, tsne_neighbors(perplexity))
    if k < tsne_neighbors(perplexity):
        lowered = max(k / NEIGHBORS_PER_PERPLEXITY, 1.0)
        note = (
            f"perplexity is {lowered:.3g} instead of {perplexity:g}: it needs "
            f"{NEIGHBORS_PER_PERPLEXITY} neighbors each, and the graph has {k} per sample."
        )
        notes = (note, *notes)
        perplexity = lowered
    points = start.points.astype(np.float64)
    points += 1e-3 * points.std() * np.random.default_rng(seed).standard_normal(points.shape)
    # Kobak and Berens, "The art of using t-SNE" (2019): start small, by PCA.
    points *= 1e-4 / max(points[:, 0].std(), 1e-12)
    return PlotLayout(_optimized(points, graph, k, perplexity)[np.argsort(order)], notes)


def _optimized(points: np.ndarray, graph: NeighborGraph, k: int, perplexity: float) -> np.ndarray:
    """The points (num_rows, num_dims) float64 after t-SNE on the k nearest neighbors, float32."""
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    from ._tsne_gradient import TsneGradient

    num_rows, num_dims = points.shape
    # Euclidean distance of unit vectors.
    distances = np.sqrt(2 * graph.distances[:, :k]).astype(np.float64)
    neighbors = PrecomputedNeighbors(graph.indices[:, :k].astype(np.int64), distances)
    # openTSNE's threads spin while they wait for each other. On a busy machine with two cores, 80
    # rows took 61 s, and 2 s in one thread, with the same result.
    jobs = num_cores() if num_rows >= MIN_GRID_ROWS else 1
    affinities = PerplexityBasedNN(knn_index=neighbors, perplexity=perplexity, n_jobs=jobs)
    with ThreadPoolExecutor(jobs) as pool:
        # Barnes-Hut where interpolation is not for the dimension or not worth it.
        by_grid = num_dims == 2 and num_rows >= MIN_GRID_ROWS
        embedding = TSNEEmbedding(
            points,
            affinities,
            learning_rate="auto",
            n_jobs=jobs,
            negative_gradient_method=TsneGradient(pool) if by_grid else "bh",
        )
        exaggeration = 12 if num_rows >= MIN_EXAGGERATED_ROWS else 1
        embedding.optimize(n_iter=250, exaggeration=exaggeration, momentum=0.5, inplace=True)
        embedding.optimize(n_iter=500, momentum=0.8, inplace=True)
    return np.asarray(embedding, np.float32)
