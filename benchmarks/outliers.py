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
from common import clustered_vectors, interleaved, print_row
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

    quality_set(caltech_quality(arguments.data), not arguments.no_brain)
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
