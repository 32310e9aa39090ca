"""Separability of classes, step by step, and scikit-learn's silhouette on the same vectors.

    python benchmarks/separability.py [--size 100000] [--classes 100] [--peer-size 20000]

The neighbor graph is given, as it is wherever it has been computed before.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial

import numpy as np
from common import Cost, clustered_vectors, interleaved, print_row
from fiftyone_embedding_quality.analysis import _class_geometry as geometry
from fiftyone_embedding_quality.analysis.class_probe import held_out_probabilities
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.analysis.separability import Separability, class_separability
from fiftyone_embedding_quality.analysis.vectors import unit_rows

DIM = 512


def labeled_vectors(size: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows in 100 clusters, and classes that follow the clusters, a tenth of them wrong."""
    rows = unit_rows(clustered_vectors(size, DIM)).rows
    rng = np.random.default_rng(1)
    centers = rows[rng.choice(size, classes, replace=False)]
    labels = np.concatenate(
        [(rows[start : start + 4096] @ centers.T).argmax(axis=1) for start in range(0, size, 4096)]
    )
    wrong = rng.random(size) < 0.1
    labels[wrong] = rng.integers(0, classes, wrong.sum())
    return rows, labels


def measure(call: Callable[[], object], name: str, repetitions: int = 1) -> Cost:
    cost = interleaved({name: call}, repetitions)[name]
    print_row(name, cost.seconds, cost.cpu_seconds, round(cost.peak_mib))
    return cost


def everything(rows, labels, names, graph) -> Separability:
    evidence = held_out_probabilities(rows, labels, len(names), graph)
    return class_separability(rows, labels, names, graph, evidence.probabilities)


def scikit_learn(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    from sklearn.metrics import silhouette_samples

    return silhouette_samples(rows, labels, metric="cosine")


def ours(rows: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    means = geometry.class_means(rows, labels, classes)
    return geometry.silhouettes(rows, labels, np.arange(len(rows)), means)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--peer-size", type=int, default=20_000)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    size, classes = options.size, options.classes

    rows, labels = labeled_vectors(size, classes)
    names = tuple(f"class {number}" for number in range(classes))
    graph = neighbor_graph(rows)
    small = slice(2000)
    everything(rows[small], labels[small], names, neighbor_graph(rows[small]))

    print_row(f"{size:,} x {DIM}, {classes} classes", "seconds", "CPU s", "peak MiB")
    measure_all = partial(everything, rows, labels, names, graph)
    result = measure(measure_all, "probe and separability", options.repetitions).result
    probe = partial(held_out_probabilities, rows, labels, classes, graph)
    probabilities = measure(probe, "  probe").result.probabilities
    measure(
        partial(class_separability, rows, labels, names, graph, probabilities), "  separability"
    )
    means = measure(partial(geometry.class_means, rows, labels, classes), "    class means").result
    measure(partial(geometry.silhouettes, rows, labels, np.arange(size), means), "    silhouettes")
    measure(partial(geometry.fisher_ratios, rows, labels, means), "    Fisher ratios")
    fields = measure(result.as_dict, "  as JSON types").result
    print(f"JSON: {len(json.dumps(fields)) / 2**20:.1f} MiB, {len(fields['pairs']):,} pairs")

    few = slice(options.peer_size)
    print_row(f"{options.peer_size:,} silhouettes", "seconds", "CPU s", "peak MiB")
    mine = measure(partial(ours, rows[few], labels[few], classes), "class means").result
    peer = measure(partial(scikit_learn, rows[few], labels[few]), "scikit-learn").result
    print(f"largest difference: {abs(mine - peer).max():.1e}")


if __name__ == "__main__":
    main()
