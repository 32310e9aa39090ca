"""The neighbor graph against scikit-learn's brute force, on the same vectors in one process.

    python benchmarks/neighbors.py [--sizes 10000 50000] [--repetitions 3] [--approximate]

A size above 100,000 runs without scikit-learn, which would take minutes.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
from common import clustered_vectors, interleaved, print_row
from fiftyone_embedding_quality.analysis.neighbors import nearest_rows, neighbor_graph

K = 20
PEER_LIMIT = 100_000


def peer(vectors: np.ndarray) -> np.ndarray:
    """scikit-learn's brute force, by Euclidean distance: faster than its cosine distance."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=K, metric="euclidean", algorithm="brute").fit(vectors)
    return search.kneighbors()[1]


def recall(indices: np.ndarray, vectors: np.ndarray) -> float:
    """Share of the neighbors of 500 rows that are no farther than the true k-th, in float64."""
    rows = np.random.default_rng(1).choice(len(vectors), 500, replace=False)
    similarity = vectors[rows].astype(np.float64) @ vectors.T.astype(np.float64)
    similarity[np.arange(500), rows] = -np.inf
    kth = np.partition(similarity, -K, axis=1)[:, -K]
    found = np.take_along_axis(similarity, indices[rows].astype(np.int64), axis=1)
    return float((found >= kth[:, None] - 1e-7).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 50_000])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--approximate", action="store_true", help="pynndescent as well")
    options = parser.parse_args()

    warm_up = clustered_vectors(5000)
    neighbor_graph(warm_up, K)
    nearest_rows(warm_up[:10], warm_up, K)
    print_row("512 dimensions, k 20", "seconds", "CPU s", "peak MiB", "recall", "times faster")
    for size in options.sizes:
        vectors = clustered_vectors(size)
        calls = {"neighbor_graph": partial(neighbor_graph, vectors, K)}
        if options.approximate:
            calls["neighbor_graph pynndescent"] = partial(
                neighbor_graph, vectors, K, method="pynndescent"
            )
        if size <= PEER_LIMIT:
            calls["scikit-learn brute force"] = partial(peer, vectors)
        costs = interleaved(calls, options.repetitions)
        for name, cost in costs.items():
            indices = getattr(cost.result, "indices", cost.result)
            ratio = cost.seconds / costs["neighbor_graph"].seconds
            print_row(
                f"{size:,} {name}",
                cost.seconds,
                cost.cpu_seconds,
                round(cost.peak_mib),
                f"{recall(indices, vectors):.4f}",
                "" if name == "neighbor_graph" else f"{ratio:.1f}",
            )


if __name__ == "__main__":
    main()
