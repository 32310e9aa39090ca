"""UMAP by umap-learn on the stored neighbor graph: the reference, with all of its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .neighbors import NeighborGraph
from .plot_layout import PlotLayout
from .vectors import unit_rows

# What the parameters of the operator say already.
TAKEN = ("n_components", "n_neighbors", "min_dist", "random_state", "precomputed_knn")


def check_options(options: Mapping[str, Any]) -> None:
    """Refuses options that umap-learn does not have, or that are set by other parameters.

    Raises:
        ValueError: that names the option
    """
    import inspect

    import umap

    known = [name for name in inspect.signature(umap.UMAP.__init__).parameters if name != "self"]
    for name in options:
        if name == "metric":
            raise ValueError(
                "options: metric cannot be chosen: the stored neighbor graph uses cosine distances"
            )
        if name in TAKEN:
            raise ValueError(f"options: {name} is a separate parameter or determined by the graph")
        if name not in known:
            raise ValueError(f"options: umap-learn has no {name!r}; it has {', '.join(known)}")


def umap_learn_layout(
    vectors: np.ndarray,
    graph: NeighborGraph,
    num_dims: int = 2,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    seed: int | None = 51,
    labels: np.ndarray | None = None,
    options: Mapping[str, Any] | None = None,
) -> PlotLayout:
    """Lays embeddings out by umap-learn; the arguments are those of ``umap_layout``.

    Args:
        options (None): further arguments of ``umap.UMAP``

    Returns:
        ``(num_rows, num_dims)`` float32 points, and notes

    Raises:
        ValueError: if an option cannot be passed, or umap-learn refuses it
    """
    import umap

    options = dict(options or {})
    check_options(options)
    rows = unit_rows(vectors).rows
    notes: tuple[str, ...] = ()
    if graph.k < n_neighbors - 1:
        n_neighbors = graph.k + 1
        notes = (
            f"n_neighbors is {n_neighbors}, the number of samples available, itself included.",
        )
    if n_neighbors < 2 or len(rows) < num_dims + 2:
        raise ValueError(f"umap-learn needs more than {max(num_dims + 1, 2)} embeddings")
    itself = np.arange(len(rows))[:, None]
    indices = np.hstack([itself, graph.indices[:, : n_neighbors - 1]])
    distances = np.hstack([np.zeros_like(itself), graph.distances[:, : n_neighbors - 1]])
    model = umap.UMAP(
        n_components=num_dims,
        n_neighbors=n_neighbors,
        min_dist=min_dist,
        metric="cosine",
        random_state=seed,
        precomputed_knn=(indices, distances.astype(np.float32)),
        **options,
    )
    target = None if labels is None else np.where(labels < 0, -1, labels)
    points = np.asarray(model.fit_transform(rows, target), np.float32)
    return PlotLayout(points, notes)
