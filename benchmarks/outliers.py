"""Outliers beside the peers: what is found among real photos, what is flagged on clean sets, cost.

Run with ``python benchmarks/outliers.py [DATA]``; DATA is the folder with caltech101 and cifar10n,
by default ../shared/data. FiftyOne Brain starts a database; ``--no-brain`` leaves it out.
"""

from __future__ import annotations

import argparse
import csv
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import clustered_vectors, interleaved, print_row, require_peers
from fiftyone_embedding_quality.analysis.class_probe import held_out_probabilities
from fiftyone_embedding_quality.analysis.neighbors import NeighborGraph, neighbor_graph
from fiftyone_embedding_quality.analysis.outliers import find_outliers
from fiftyone_embedding_quality.analysis.vectors import unit_rows
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score, roc_auc_score


@dataclass(frozen=True)
class Labeled:
    """Rows with labels, and which are outliers, where that is known."""

    rows: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None
    truth: np.ndarray | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("data", nargs="?", type=Path, default=default)
    parser.add_argument("--no-brain", action="store_true")
    parser.add_argument("--rows", type=int, default=50_000, help="vectors of the cost table")
    arguments = parser.parse_args()
    require_peers("datasets")

    quality_set(caltech_quality(arguments.data), not arguments.no_brain)
    planted_sets(arguments.data)
    clean_sets(arguments.data)
    cost(arguments.rows)


def quality_set(given: Labeled, with_brain: bool) -> None:
    """Caltech-101 photos, 3.6 % of them clutter under random class names."""
    graph = neighbor_graph(given.rows)
    truth = given.truth
    print_row("caltech101 QA set", "AUROC", "AP", "flagged", "precision", "recall", "F1")

    def show(name: str, score: np.ndarray, flagged: np.ndarray | None = None) -> None:
        ranked = roc_auc_score(truth, score), average_precision_score(truth, score)
        cells = [f"{value:.3f}" for value in ranked]
        if flagged is not None:
            hits = int((flagged & truth).sum())
            cells += [int(flagged.sum()), hits / max(flagged.sum(), 1), hits / truth.sum()]
            cells.append(2 * hits / (flagged.sum() + truth.sum()))
        print_row(name, *cells)

    show("10-NN distance", graph.distances[:, 9])
    show("30-NN distance", graph.distances[:, 29])
    show("Datalab", *datalab(given, graph))
    if with_brain:
        show("Brain uniqueness", brain_uniqueness(given.rows))
    for name, groups in (("", None), (", duplicates known", given.groups)):
        found = find_outliers(given.rows, graph, groups)
        show("find_outliers" + name, found.score, found.flagged)
    for name, groups in (("", None), (", duplicates known", given.groups)):
        found = with_labels(given, graph, groups)
        show("  with labels" + name, found.score, found.flagged)


def planted_sets(data: Path) -> None:
    """Parts of the sets, with clutter or with images of other classes among them.

    Datalab ranks as the mean distance to 10 neighbors does. The 30 random parts were looked at
    when the reach of the neighborhood was chosen; the halves were not.
    """
    print()
    print_row("AUROC / AP", "10-NN mean", "30-NN mean", "find_outliers", "precision", "recall")
    sums = np.zeros((3, 2))
    parts = list(random_parts(data, seed=1, count=30))
    for rows, truth in parts:
        scores = ranks_of(rows, truth)[0]
        sums += [[roc_auc_score(truth, s), average_precision_score(truth, s)] for s in scores]
    print_row("30 random parts, mean", *(f"{a:.3f} / {p:.2f}" for a, p in sums / len(parts)))
    for name, rows, truth in halves(data):
        scores, found = ranks_of(rows, truth)
        cells = [
            f"{roc_auc_score(truth, s):.3f} / {average_precision_score(truth, s):.2f}"
            for s in scores
        ]
        hits = int((found.flagged & truth).sum())
        print_row(name, *cells, hits / max(found.flagged.sum(), 1), hits / truth.sum())


def ranks_of(rows: np.ndarray, truth: np.ndarray):
    graph = neighbor_graph(rows)
    found = find_outliers(rows, graph)
    means = [graph.distances[:, :k].mean(axis=1) for k in (10, 30)]
    return [*means, found.score], found


def random_parts(data: Path, seed: int, count: int):
    """Some classes of Caltech-101, of 8 to 100 images each, and 1 to 20 % of something else."""
    rng = np.random.default_rng(seed)
    vectors, classes = caltech_classes(data)
    every = np.unique(classes[classes >= 0])
    for _ in range(count):
        chosen = rng.permutation(every)[: rng.integers(8, 40)]
        size = int(rng.choice([8, 15, 25, 40, 100]))
        members = [rng.permutation(np.flatnonzero(classes == one))[:size] for one in chosen]
        inside = np.concatenate(members)
        other = classes == -1 if rng.random() < 0.6 else ~np.isin(classes, [-1, *chosen])
        share = rng.choice([0.01, 0.03, 0.05, 0.1, 0.2])
        outside = rng.permutation(np.flatnonzero(other))[: max(4, int(share * len(inside)))]
        yield joined(vectors, inside, outside)


def halves(data: Path):
    """Two halves of Caltech-101's classes, and classes of CIFAR-10, each with something else."""
    rng = np.random.default_rng(0)
    vectors, classes = caltech_classes(data)
    order = rng.permutation(np.unique(classes[classes >= 0]))
    clutter = np.array_split(rng.permutation(np.flatnonzero(classes < 0)), 2)
    for number, half in enumerate(np.array_split(order, 2)):
        inside = np.flatnonzero(np.isin(classes, half))
        few = clutter[number][: len(inside) // 20]
        yield f"half {number + 1}, 5 % clutter", *joined(vectors, inside, few)
        fewer = rng.permutation(inside)[: 4 * len(clutter[number])]
        yield f"half {number + 1}, 20 % clutter", *joined(vectors, fewer, clutter[number])
        foreign = rng.permutation(np.flatnonzero((classes >= 0) & ~np.isin(classes, half)))
        foreign = foreign[: len(inside) // 20]
        yield f"half {number + 1}, 5 % foreign", *joined(vectors, inside, foreign)
    given = cifar(data, "clean_label", 12_000)
    for name, kept in {"vehicles": [0, 1, 8, 9], "animals": [2, 3, 4, 5, 6, 7]}.items():
        inside = np.flatnonzero(np.isin(given.labels, kept))[:3000]
        outside = np.flatnonzero(~np.isin(given.labels, kept))[:150]
        yield f"CIFAR-10 {name}, 5 % others", *joined(given.rows, inside, outside)


def joined(vectors: np.ndarray, inside: np.ndarray, outside: np.ndarray):
    truth = np.arange(len(inside) + len(outside)) >= len(inside)
    return vectors[np.r_[inside, outside]], truth


def caltech_classes(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """The embeddings, and the number of their class, -1 for clutter."""
    samples, vectors = caltech(data, "samples.csv")
    clutter = np.array([sample["is_background"] != "0" for sample in samples])
    return vectors, np.where(clutter, -1, numbered(samples, "class"))


def with_labels(given: Labeled, graph: NeighborGraph, groups: np.ndarray | None = None):
    classes = int(given.labels.max()) + 1
    evidence = held_out_probabilities(given.rows, given.labels, classes, graph, groups)
    return find_outliers(given.rows, graph, groups, given.labels, evidence.probabilities)


def datalab(given: Labeled, graph: NeighborGraph) -> tuple[np.ndarray, np.ndarray]:
    """Scores, 1 strange, and flags of cleanlab's Datalab from the vectors."""
    from cleanlab import Datalab

    lab = Datalab({"label": given.labels.tolist()}, label_name="label", verbosity=0)
    lab.find_issues(features=given.rows, issue_types={"outlier": {}})
    issues = lab.get_issues("outlier")
    return 1 - issues["outlier_score"].to_numpy(), issues["is_outlier_issue"].to_numpy()


def brain_uniqueness(rows: np.ndarray) -> np.ndarray:
    import fiftyone as fo
    import fiftyone.brain as fob

    dataset = fo.Dataset(f"benchmark-{uuid.uuid4().hex[:8]}")
    try:
        dataset.add_samples([fo.Sample(f"/no/file/{index}.jpg") for index in range(len(rows))])
        fob.compute_uniqueness(dataset, embeddings=rows)
        return np.array(dataset.values("uniqueness"), float)
    finally:
        dataset.delete()


def clean_sets(data: Path) -> None:
    """Sets in which nothing was planted: every flag costs a reviewer's look."""
    print()
    print_row("flagged on clean sets, %", "rows", "no labels", "with labels", "Datalab")
    digits = load_digits()
    sets = {
        "caltech101 without clutter": caltech_originals(data),
        "cifar10n, clean labels": cifar(data, "clean_label"),
        "cifar10n, 9 % wrong labels": cifar(data, "aggre_label"),
        "scikit-learn's digits": Labeled(unit_rows(digits.data).rows, digits.target.astype(int)),
    }
    for name, given in sets.items():
        graph = neighbor_graph(given.rows)
        plain, labeled = find_outliers(given.rows, graph), with_labels(given, graph)
        _, peer = datalab(given, graph)
        shares = [100 * float(flags.mean()) for flags in (plain.flagged, labeled.flagged, peer)]
        print_row(name, len(given.rows), *shares)


def cost(num_rows: int) -> None:
    """From a given graph and given probabilities."""
    rows = clustered_vectors(num_rows)
    graph = neighbor_graph(rows)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 100, num_rows)
    probabilities = rng.dirichlet(np.full(100, 0.05), num_rows).astype(np.float32)
    groups = np.where(rng.random(num_rows) < 0.1, rng.integers(0, num_rows // 20, num_rows), -1)
    find_outliers(rows[:200], neighbor_graph(rows[:200]))  # imports scipy
    costs = interleaved(
        {
            "vectors alone": lambda: find_outliers(rows, graph),
            "groups and labels": lambda: find_outliers(rows, graph, groups, labels, probabilities),
        },
        repetitions=3,
    )
    print()
    print_row(f"{num_rows:,} x {rows.shape[1]}, graph given", "seconds", "CPU-seconds", "MiB")
    for name, spent in costs.items():
        print_row(name, spent.seconds, spent.cpu_seconds, spent.peak_mib)


def caltech_quality(data: Path) -> Labeled:
    samples, vectors = caltech(data, "qa_samples.csv")
    names, groups = np.unique([sample["dup_group"] for sample in samples], return_inverse=True)
    groups = np.where(names[groups] == "", -1, groups)
    truth = np.array([sample["issue"] == "outlier" for sample in samples])
    return Labeled(vectors, numbered(samples, "given_label"), groups, truth)


def caltech_originals(data: Path) -> Labeled:
    samples, vectors = caltech(data, "samples.csv")
    photos = np.array([sample["is_background"] == "0" for sample in samples])
    kept = [sample for sample, photo in zip(samples, photos) if photo]
    return Labeled(vectors[photos], numbered(kept, "class"))


def caltech(data: Path, name: str) -> tuple[list[dict[str, str]], np.ndarray]:
    samples = read_rows(data / "caltech101" / name)
    stored = np.load(data / "caltech101" / "embeddings_efficientnet_lite0.npz")
    place = {file: index for index, file in enumerate(stored["files"].tolist())}
    return samples, unit_rows(stored["embeddings"][[place[s["file"]] for s in samples]]).rows


def cifar(data: Path, label: str, count: int = 8000) -> Labeled:
    samples = read_rows(data / "cifar10n" / "train_labels.csv")
    stored = np.load(data / "cifar10n" / "embeddings_efficientnet_lite0_pca256.npz")
    place = {file: index for index, file in enumerate(stored["files"].tolist())}
    chosen = np.random.default_rng(0).choice(len(samples), count, replace=False)
    vectors = stored["embeddings"][[place[samples[index]["file"]] for index in chosen]]
    return Labeled(
        unit_rows(vectors).rows, np.array([int(samples[index][label]) for index in chosen])
    )


def numbered(samples: list[dict[str, str]], field: str) -> np.ndarray:
    return np.unique([sample[field] for sample in samples], return_inverse=True)[1]


def read_rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
