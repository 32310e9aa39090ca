"""Maps against umap-learn and FiftyOne's t-SNE, on the same vectors in one process.

    python benchmarks/visualization.py [--sizes 10000 50000] [--methods umap tsne]
                                       [--repetitions 3] [--peer-repetitions 1]
    python benchmarks/visualization.py --cold --sizes 1000 50000

The peers are the calls that ``fiftyone.brain.compute_visualization`` makes with its defaults
(umap.UMAP; PCA to 50 dimensions and scikit-learn's TSNE), and umap-learn without a seed, its fast
way. Our time includes the neighbor graph. ``--cold`` measures UMAP in fresh processes, imports
apart, and the second call after it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from functools import partial

import numpy as np
from common import clustered_vectors, interleaved, print_row


def our_umap(vectors: np.ndarray) -> np.ndarray:
    from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
    from fiftyone_embedding_quality.analysis.umap_layout import umap_layout

    return umap_layout(vectors, neighbor_graph(vectors, k=14)).points


def our_tsne(vectors: np.ndarray) -> np.ndarray:
    from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
    from fiftyone_embedding_quality.analysis.tsne_layout import tsne_layout, tsne_neighbors

    return tsne_layout(vectors, neighbor_graph(vectors, k=tsne_neighbors(30))).points


def umap_learn(vectors: np.ndarray) -> np.ndarray:
    from umap import UMAP

    return UMAP().fit_transform(vectors)


def fiftyone_umap(vectors: np.ndarray) -> np.ndarray:
    """As fiftyone-brain 0.25 calls it with a seed, which its documentation recommends."""
    from umap import UMAP

    return UMAP(
        n_components=2, n_neighbors=15, metric="euclidean", min_dist=0.1, random_state=51
    ).fit_transform(vectors)


def fiftyone_tsne(vectors: np.ndarray) -> np.ndarray:
    """As fiftyone-brain 0.25 calls it."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    reduced = PCA(50, svd_solver="randomized", random_state=51).fit_transform(vectors)
    return TSNE(
        n_components=2,
        perplexity=30,
        learning_rate=200.0,
        metric="euclidean",
        init="pca",
        random_state=51,
        max_iter=1000,
    ).fit_transform(reduced.astype(np.float32))


METHODS = {
    "umap": {"ours": our_umap, "umap-learn": umap_learn, "FiftyOne, seed": fiftyone_umap},
    "tsne": {"ours": our_tsne, "FiftyOne": fiftyone_tsne},
}


def warm(sizes: list[int], methods: list[str], repetitions: int, peer_repetitions: int) -> None:
    from fiftyone_embedding_quality.analysis.trust import plot_trust

    small = clustered_vectors(5000)
    for method in methods:
        for name, layout in METHODS[method].items():
            if name != "FiftyOne":
                layout(small)
    print_row(
        "512 dimensions", "seconds", "CPU s", "peak MiB", "trust", "preserved", "times faster"
    )
    for size in sizes:
        vectors = clustered_vectors(size)
        for method in methods:
            calls = {name: partial(layout, vectors) for name, layout in METHODS[method].items()}
            costs = interleaved(calls, peer_repetitions)
            if repetitions > peer_repetitions:
                costs |= interleaved({"ours": calls["ours"]}, repetitions)
            for name, cost in costs.items():
                trust = plot_trust(vectors, cost.result)
                print_row(
                    f"{size:,} {method} {name}",
                    cost.seconds,
                    cost.cpu_seconds,
                    round(cost.peak_mib),
                    f"{trust.trustworthiness:.4f}",
                    f"{trust.neighbor_preservation:.4f}",
                    "" if name == "ours" else f"{cost.seconds / costs['ours'].seconds:.1f}",
                )


def cold(sizes: list[int], methods: list[str]) -> None:
    print_row("fresh process", "imports s", "first s", "second s", "all three, CPU s")
    for size in sizes:
        for method in methods:
            for name in METHODS[method]:
                command = [sys.executable, __file__, "--one", method, name, str(size)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                print_row(f"{size:,} {method} {name}", *json.loads(done.stdout.splitlines()[-1]))


def one(method: str, name: str, size: int) -> None:
    """Imports, first and second call in this process, as a line of JSON."""
    vectors = clustered_vectors(size)
    start, cpu = time.perf_counter(), time.process_time()
    if name == "ours":
        import numba  # noqa: F401
        import scipy.fft
        import scipy.optimize  # noqa: F401
        import torch  # noqa: F401

        if method == "tsne":
            import openTSNE  # noqa: F401
    elif method == "umap":
        import umap  # noqa: F401
    else:
        import sklearn.manifold  # noqa: F401
    times = [time.perf_counter()]
    for _ in range(2):
        METHODS[method][name](vectors)
        times.append(time.perf_counter())
    print(json.dumps([*np.diff([start, *times]), time.process_time() - cpu]))


def main() -> None:
    warnings.filterwarnings("ignore", message="n_jobs value")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 50_000])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["umap", "tsne"])
    parser.add_argument("--repetitions", type=int, default=3, help="of our calls")
    parser.add_argument("--peer-repetitions", type=int, default=1)
    parser.add_argument("--cold", action="store_true", help="first calls in fresh processes")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one[0], options.one[1], int(options.one[2]))
    elif options.cold:
        cold(options.sizes, options.methods)
    else:
        warm(options.sizes, options.methods, options.repetitions, options.peer_repetitions)


if __name__ == "__main__":
    main()
