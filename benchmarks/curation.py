"""Choosing samples and suggesting labels, beside the peers: what is gained, and what it costs.

Run with ``python benchmarks/curation.py [DATA]``; DATA is the folder with caltech101 and cifar10n,
by default ../shared/data. Sets on which constants were chosen are marked with *.
"""

from __future__ import annotations

import argparse
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from common import clustered_vectors, interleaved, print_row
from fiftyone_embedding_quality.analysis.class_probe import held_out_probabilities
from fiftyone_embedding_quality.analysis.neighbors import NeighborGraph, neighbor_graph
from fiftyone_embedding_quality.analysis.selection import select_rows
from fiftyone_embedding_quality.analysis.suggestions import _scores, suggest_labels
from fiftyone_embedding_quality.analysis.vectors import unit_rows
from outliers import Labeled, caltech, cifar, numbered
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

# Labels per class from which suggestions listen to the class probe, as in checks/suggestions.py.
MANY_LABELS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("data", nargs="?", type=Path, default=default)
    parser.add_argument("--rows", type=int, default=50_000, help="embeddings of the cost table")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    choices(arguments.data, arguments.seeds)
    print()
    suggestions(arguments.data, arguments.seeds)
    cost(arguments.rows)


# Choosing


def choices(data: Path, seeds: int) -> None:
    """Half of a set is chosen from, the other half classified; means over halves."""
    print_row(
        "balanced accuracy, chosen samples", "labels", "random", "k-center", "k-means", "ours"
    )
    for name, (given, counts) in selection_sets(data).items():
        found = {count: [] for count in counts}
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(len(given.rows))
            pool, test = np.sort(order[: len(order) // 2]), order[len(order) // 2 :]
            rows = given.rows[pool]
            graph = neighbor_graph(rows)
            orders = random_order(rows, seed), k_center(rows, max(counts), seed)
            ours = select_rows(rows, graph, max(counts)).order
            for count in counts:
                cells = typical_of_cells(rows, graph, count, seed)
                chosen = [*(one[:count] for one in orders), cells, ours[:count]]
                found[count].append([trained(given, pool[one], test) for one in chosen])
        for count, rows_of in found.items():
            print_row(name, count, *(f"{value:.3f}" for value in np.mean(rows_of, axis=0)))


def trained(given: Labeled, chosen: np.ndarray, test: np.ndarray) -> float:
    """Balanced accuracy of logistic regression on the unit rows."""
    rows, labels = given.rows, given.labels
    if len(set(labels[chosen])) < 2:
        return 0.0
    # What lies outside the span of the chosen rows has no weight: the same classifier, faster.
    span = np.linalg.qr(rows[chosen].T.astype(np.float64))[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=1000, max_iter=200).fit(rows[chosen] @ span, labels[chosen])
        return balanced_accuracy_score(labels[test], model.predict(rows[test] @ span))


def random_order(rows: np.ndarray, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(len(rows))


def k_center(rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Sener and Savarese (2018), from a random row."""
    chosen = [int(np.random.default_rng(seed).integers(len(rows)))]
    distance = 1 - rows @ rows[chosen[0]]
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, 1 - rows @ rows[chosen[-1]])
    return np.array(chosen)


def typical_of_cells(rows: np.ndarray, graph: NeighborGraph, count: int, seed: int) -> np.ndarray:
    """The row of each k-means cell that is nearest to its neighbors (TypiClust, 2022)."""
    cells = KMeans(count, n_init=1, random_state=seed).fit_predict(rows)
    distance = graph.distances[:, :20].mean(axis=1)
    order = np.lexsort((distance, cells))
    return order[np.unique(cells[order], return_index=True)[1]]


def selection_sets(data: Path) -> dict[str, tuple[Labeled, tuple[int, ...]]]:
    caltech101 = suggestion_sets(data)["caltech101"]
    halves = [known(caltech101, range(first, 51, 2)) for first in (0, 1)]
    even, odd = (Labeled(h.rows[h.labels >= 0], h.labels[h.labels >= 0]) for h in halves)
    digits = load_digits()
    return {
        "caltech101": (caltech101, (51, 102, 204)),
        "caltech101, even classes *": (even, (26, 52, 104)),
        "caltech101, odd classes": (odd, (25, 50, 100)),
        "cifar10 *": (cifar(data, "clean_label", 4000), (10, 20, 50, 100)),
        "digits": (
            Labeled(unit_rows(digits.data).rows, digits.target.astype(int)),
            (10, 20, 50, 100),
        ),
    }


# Suggestions


def suggestions(data: Path, seeds: int) -> None:
    print_row(
        "suggested labels", "labels/class", "ours", "class mean", "precision", "labeled", "foreign"
    )
    for name, given in suggestion_sets(data).items():
        graph = neighbor_graph(given.rows)
        for count in (1, 3, 5, 10, 30):
            found = [suggested(given, graph, count, seed) for seed in range(seeds)]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # nothing is accepted, or there is nothing foreign
                means = np.nanmean(found, axis=0)
            print_row(name, count, *(f"{value:.3f}" for value in means))


def suggested(given: Labeled, graph: NeighborGraph, count: int, seed: int) -> list[float]:
    """Balanced accuracy of ours and of the nearest class mean, and what is accepted at 0.95."""
    rows, truth = given.rows, given.labels
    rng = np.random.default_rng(seed)
    classes = range(truth.max() + 1)
    chosen = np.concatenate([rng.permutation(np.flatnonzero(truth == c))[:count] for c in classes])
    labels = np.full(len(rows), -1)
    labels[chosen] = truth[chosen]
    means = np.stack([rows[labels == c].mean(axis=0) for c in classes])
    nearest = (rows @ unit_rows(means).rows.T).argmax(axis=1)
    probabilities = None
    if count >= MANY_LABELS:
        probabilities = held_out_probabilities(rows, labels, len(means), graph).probabilities
    found = suggest_labels(rows, labels, len(means), graph, None, probabilities)
    known, foreign = (labels < 0) & (truth >= 0), truth < 0
    # The likeliest class also of what is left out because it may be of none.
    none = np.full(len(rows), -1)
    ours = _scores(rows, labels, len(means), graph, none, probabilities).label
    accepted, right = found.accepted, found.label == truth
    return [
        balanced_accuracy_score(truth[known], ours[known]),
        balanced_accuracy_score(truth[known], nearest[known]),
        right[accepted & known].mean() if accepted.any() else np.nan,
        accepted[known].mean(),
        accepted[foreign].mean() if foreign.any() else np.nan,
    ]


def suggestion_sets(data: Path) -> dict[str, Labeled]:
    samples, rows = caltech(data, "samples.csv")
    clutter = np.array([sample["is_background"] == "1" for sample in samples])
    names = numbered([s for s, c in zip(samples, clutter) if not c], "class")
    photos = Labeled(rows[~clutter], names)
    with_clutter = Labeled(
        np.concatenate([rows[~clutter], rows[clutter]]),
        np.append(names, np.full(clutter.sum(), -1)),
    )
    digits = load_digits()
    digits = Labeled(unit_rows(digits.data).rows, digits.target.astype(int))
    birds = cifar(data, "clean_label", 4000)
    return {
        "caltech101": photos,
        "caltech101 and clutter": with_clutter,
        "caltech101, even among odd *": known(photos, range(0, 51, 2)),
        "caltech101, odd among even": known(photos, range(1, 51, 2)),
        "cifar10": birds,
        "cifar10, 0 to 4 among 5 to 9 *": known(birds, range(5)),
        "cifar10, 5 to 9 among 0 to 4": known(birds, range(5, 10)),
        "digits": digits,
        "digits, 4 to 9 among 0 to 3": known(digits, range(4, 10)),
    }


def known(given: Labeled, classes: range) -> Labeled:
    """Some classes among the others, which nobody knows."""
    place = {number: index for index, number in enumerate(classes)}
    return Labeled(given.rows, np.array([place.get(number, -1) for number in given.labels]))


def cost(num_rows: int) -> None:
    """From a given graph."""
    rows = clustered_vectors(num_rows)
    graph = neighbor_graph(rows)
    rng = np.random.default_rng(0)
    labels = np.where(rng.random(num_rows) < 0.02, rng.integers(0, 100, num_rows), -1)
    calls = {
        "select_samples, 1,000": partial(select_rows, rows, graph, 1000),
        "k-center greedy, 1,000": partial(k_center, rows, 1000, 0),
        "suggest_labels, 100 classes": partial(suggest_labels, rows, labels, 100, graph),
    }
    costs = interleaved(calls, repetitions=3)
    print()
    print_row(f"{num_rows:,} x {rows.shape[1]}, graph given", "seconds", "CPU-seconds", "MiB")
    for name, spent in costs.items():
        print_row(name, spent.seconds, spent.cpu_seconds, spent.peak_mib)


if __name__ == "__main__":
    main()
