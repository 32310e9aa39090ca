"""Label issues beside cleanlab Datalab and 5-fold logistic regression, on the same vectors.

    python benchmarks/label_issues.py DATA [--size 50000] [--repetitions 3] [--no-peers]

DATA is the folder that holds the ground truth: ``caltech101`` and ``cifar10n``. Images of clutter
in Caltech-101 have no right label, so they count neither for nor against; in the strict precision,
flagging them is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib.util
import io
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from common import interleaved, print_row
from fiftyone_embedding_quality.analysis.class_probe import held_out_probabilities
from fiftyone_embedding_quality.analysis.label_issues import find_label_issues
from fiftyone_embedding_quality.analysis.neighbors import NeighborGraph, neighbor_graph
from fiftyone_embedding_quality.analysis.outliers import find_outliers
from fiftyone_embedding_quality.analysis.vectors import unit_rows


@dataclass(frozen=True)
class LabelSet:
    """Labels with known errors.

    Attributes:
        rows: (n, d) float32 unit rows
        labels, truth: (n,) int64, class numbers; truth is -1 where it is not known
        wrong: (n,) bool
        judged: (n,) bool, rows that count
        clutter: (n,) bool, rows of which no label is right
        groups: (n,) int64, duplicate groups
    """

    rows: np.ndarray
    labels: np.ndarray
    truth: np.ndarray
    wrong: np.ndarray
    judged: np.ndarray
    clutter: np.ndarray
    groups: np.ndarray
    num_classes: int


@dataclass(frozen=True)
class Found:
    """What a method says: quality (n,), flagged (n,) bool and suggested (n,), -1 where none."""

    quality: np.ndarray
    flagged: np.ndarray
    suggested: np.ndarray


def caltech(data: Path) -> LabelSet:
    samples = read_rows(data / "caltech101" / "qa_samples.csv")
    rows = read_vectors(data / "caltech101" / "embeddings_efficientnet_lite0.npz", samples)
    names = {name: place for place, name in enumerate(sorted({s["given_label"] for s in samples}))}
    numbers = {name: place for place, name in enumerate(sorted({s["dup_group"] for s in samples}))}
    issue = np.array([sample["issue"] for sample in samples])
    return LabelSet(
        rows=rows,
        labels=np.array([names[sample["given_label"]] for sample in samples]),
        truth=np.array([names.get(sample["true_label"], -1) for sample in samples]),
        wrong=issue == "label_flip",
        judged=issue != "outlier",
        clutter=issue == "outlier",
        groups=np.array([numbers[s["dup_group"]] if s["dup_group"] else -1 for s in samples]),
        num_classes=len(names),
    )


def cifar(data: Path, split: str, given: str, true: str) -> LabelSet:
    samples = read_rows(data / "cifar10n" / f"{split}_labels.csv")
    rows = read_vectors(data / "cifar10n" / "embeddings_efficientnet_lite0_pca256.npz", samples)
    labels = np.array([int(sample[given]) for sample in samples])
    if split == "train":
        truth = np.array([int(sample[true]) for sample in samples])
        wrong, judged = labels != truth, np.ones(len(samples), bool)
    else:
        truth = np.full(len(samples), -1)
        wrong = np.array([sample["verified_error"] == "1" for sample in samples])
        judged = np.array([sample["reviewed"] == "1" for sample in samples])
    groups = np.full(len(samples), -1)
    clutter = np.zeros(len(samples), bool)
    return LabelSet(rows, labels, truth, wrong, judged, clutter, groups, 10)


def beside(labeled: LabelSet, other: LabelSet) -> LabelSet:
    """Two parts of a dataset in one set, of which the rows of the first are judged."""
    pairs = {
        name: np.concatenate([getattr(labeled, name), getattr(other, name)])
        for name in ("rows", "labels", "truth", "wrong", "clutter", "groups")
    }
    judged = np.r_[labeled.judged, np.zeros(len(other.labels), bool)]
    return replace(labeled, **pairs, judged=judged)


def copied(labeled: LabelSet, times: int = 2) -> LabelSet:
    """Every wrongly labeled image copied, each with its copies in a group of its own."""
    which = np.r_[np.arange(len(labeled.labels)), np.repeat(np.flatnonzero(labeled.wrong), times)]
    groups = labeled.groups.copy()
    alone = np.flatnonzero(labeled.wrong & (groups < 0))
    groups[alone] = groups.max() + 1 + np.arange(len(alone))
    parts = {
        name: getattr(labeled, name)[which]
        for name in ("rows", "labels", "truth", "wrong", "judged", "clutter")
    }
    return replace(labeled, **parts, groups=groups[which])


def ours(labeled: LabelSet, graph: NeighborGraph, groups: np.ndarray | None) -> Found:
    evidence = held_out_probabilities(
        labeled.rows, labeled.labels, labeled.num_classes, graph, groups
    )
    outliers = find_outliers(labeled.rows, graph, groups, labeled.labels, evidence.probabilities)
    found = find_label_issues(labeled.labels, evidence, graph, groups, outliers.flagged)
    return Found(found.quality, found.flagged, found.suggested)


def logistic_regression(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """scikit-learn's, on standardised vectors, which makes it converge."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.preprocessing import StandardScaler

    model = LogisticRegression(C=0.01, max_iter=200)
    rows = StandardScaler().fit_transform(rows)
    return cross_val_predict(model, rows, labels, cv=5, method="predict_proba")


def peer_logistic_regression(labeled: LabelSet) -> Found:
    from cleanlab.filter import find_label_issues as cleanlab_issues
    from cleanlab.rank import get_label_quality_scores

    probabilities = logistic_regression(labeled.rows, labeled.labels)
    flagged = cleanlab_issues(labeled.labels, probabilities, n_jobs=1)
    quality = get_label_quality_scores(labeled.labels, probabilities)
    return Found(quality, flagged, probabilities.argmax(axis=1))


def peer_datalab(labeled: LabelSet) -> Found:
    from cleanlab import Datalab

    with contextlib.redirect_stdout(io.StringIO()):
        lab = Datalab({"label": labeled.labels}, label_name="label", verbosity=0)
        lab.find_issues(features=labeled.rows, issue_types={"label": {}})
    issues = lab.get_issues("label")
    return Found(
        issues["label_score"].to_numpy(),
        issues["is_label_issue"].to_numpy(),
        issues["predicted_label"].to_numpy(),
    )


def print_found(name: str, labeled: LabelSet, found: Found) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    judged, wrong = labeled.judged, labeled.wrong
    flagged = found.flagged & judged
    known = wrong & (labeled.truth >= 0)
    print_row(
        name,
        f"{roc_auc_score(wrong[judged], -found.quality[judged]):.3f}",
        f"{average_precision_score(wrong[judged], -found.quality[judged]):.3f}",
        wrong[flagged].mean(),
        wrong[found.flagged & (judged | labeled.clutter)].mean() if labeled.clutter.any() else "",
        found.flagged[wrong].mean(),
        float((found.suggested == labeled.truth)[known].mean()) if known.any() else "",
    )


def print_times(size: int, repetitions: int, peers: bool) -> None:
    """Everything but the neighbor graph: 512 dimensions, 100 classes, a tenth of them wrong.

    The peer predicts the labels only; the last row of ours finds the outliers as well, which are
    not flagged as label issues.
    """
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 100, size)
    centers = rng.standard_normal((100, 512), dtype=np.float32)
    rows = unit_rows(0.9 * centers[truth] + 2 * rng.standard_normal((size, 512), np.float32)).rows
    labels = np.where(rng.random(size) < 0.1, rng.integers(0, 100, size), truth)
    every, no = np.ones(size, bool), np.zeros(size, bool)
    labeled = LabelSet(rows, labels, truth, labels != truth, every, no, np.full(size, -1), 100)
    graph = neighbor_graph(rows)

    def judge() -> None:
        evidence = held_out_probabilities(rows, labels, 100, graph)
        find_label_issues(labels, evidence, graph)

    calls = {
        "held-out labels": partial(held_out_probabilities, rows, labels, 100, graph),
        "and label issues": judge,
        "and outliers": partial(ours, labeled, graph, None),
    }
    if peers:
        calls["5-fold logistic regression"] = partial(logistic_regression, rows, labels)
    costs = interleaved(calls, repetitions)
    print_row(f"{size:,} x 512, 100 classes", "seconds", "CPU s", "peak MiB", "ratio")
    for name, cost in costs.items():
        ratio = cost.seconds / costs["and label issues"].seconds
        print_row(name, cost.seconds, cost.cpu_seconds, round(cost.peak_mib), ratio)


def read_rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def read_vectors(path: Path, samples: list[dict[str, str]]) -> np.ndarray:
    stored = np.load(path)
    place = {file: row for row, file in enumerate(stored["files"].tolist())}
    return unit_rows(stored["embeddings"][[place[sample["file"]] for sample in samples]]).rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--size", type=int, default=50_000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--no-peers", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("TQDM_DISABLE", "1")

    sets = {"caltech101 label flips": caltech(options.data)}
    for name in ("aggre_label", "random_label1", "worse_label"):
        sets[f"cifar10n {name}"] = cifar(options.data, "train", name, "clean_label")
    test = cifar(options.data, "test", "given_label", "")
    train = cifar(options.data, "train", "clean_label", "clean_label")
    sets["cifar10n test, reviewed"] = test
    sets["cifar10n test, reviewed, with the training split beside it"] = beside(test, train)
    print_row("", "AUROC", "AP", "precision", "strict", "recall", "suggested")
    for name, labeled in sets.items():
        print(name)
        graph = neighbor_graph(labeled.rows)
        print_found("  ours", labeled, ours(labeled, graph, labeled.groups))
        if not options.no_peers:
            print_found("  5-fold logistic regression", labeled, peer_logistic_regression(labeled))
            if importlib.util.find_spec("datasets"):
                print_found("  Datalab, features only", labeled, peer_datalab(labeled))
            else:
                print_row("  Datalab, features only", "needs pip install cleanlab[datalab]")
    print("caltech101, every flipped image copied twice")
    labeled = copied(sets["caltech101 label flips"])
    graph = neighbor_graph(labeled.rows)
    print_found("  ours, groups held out", labeled, ours(labeled, graph, labeled.groups))
    print_found("  ours, groups not known", labeled, ours(labeled, graph, None))
    if not options.no_peers:
        print_found("  5-fold logistic regression", labeled, peer_logistic_regression(labeled))
    print_times(options.size, options.repetitions, not options.no_peers)


if __name__ == "__main__":
    main()
