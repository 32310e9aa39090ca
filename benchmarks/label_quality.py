"""Are flags and the precision that is told right where evidence is thin? Beside cleanlab.

    python benchmarks/label_quality.py [DATA] [--only WORD] [--no-peer]

Sets of ``label_sets``: few per class, imbalance, noise of any class and between similar classes,
half of a class mislabeled, human noise, clean labels. The peer is what cleanlab's Datalab flags
from probabilities of 5-fold logistic regression; it tells no precision.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from common import print_row
from fiftyone_embedding_quality.analysis.class_probe import held_out_probabilities
from fiftyone_embedding_quality.analysis.label_issues import LabelIssues, find_label_issues
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.analysis.outliers import find_outliers
from label_sets import NoisySet, label_sets


def ours(given: NoisySet) -> LabelIssues:
    graph = neighbor_graph(given.rows)
    evidence = held_out_probabilities(given.rows, given.labels, given.num_classes, graph)
    outliers = find_outliers(given.rows, graph, None, given.labels, evidence.probabilities)
    return find_label_issues(given.labels, evidence, graph, None, outliers.flagged)


def peer(given: NoisySet) -> tuple[np.ndarray, np.ndarray] | None:
    """Quality and flags; None where a class has too few rows for five folds."""
    from cleanlab.filter import find_label_issues as cleanlab_issues
    from cleanlab.rank import get_label_quality_scores
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    counts = np.bincount(given.labels, minlength=given.num_classes)
    if counts.min() < 5 or given.num_classes > 100:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        probabilities = cross_val_predict(
            LogisticRegression(max_iter=200), given.rows, given.labels, method="predict_proba"
        )
        flagged = cleanlab_issues(given.labels, probabilities, n_jobs=1)
    return get_label_quality_scores(given.labels, probabilities), flagged


def print_set(name: str, given: NoisySet, with_peer: bool) -> None:
    from sklearn.metrics import average_precision_score

    wrong, found = given.wrong, ours(given)

    def ranked(quality: np.ndarray) -> float | str:
        return f"{average_precision_score(wrong, -quality):.3f}" if wrong.any() else ""

    def found_of(flagged: np.ndarray) -> list[object]:
        precision = float(wrong[flagged].mean()) if flagged.any() else ""
        recall = float(flagged[wrong].mean()) if wrong.any() else ""
        return [100 * float(flagged.mean()), precision, recall]

    told, between = "too few to tell", ""
    if not np.isnan(found.expected_precision):
        told = found.expected_precision
        between = "{:.2f} .. {:.2f}".format(*found.precision_range)
    sizes = np.maximum(found.class_counts, 1)
    cells = [*found_of(found.flagged), told, between, ranked(found.quality)]
    cells += [100 * float((found.class_flagged / sizes).max()), len(found.shared)]
    other = peer(given) if with_peer else None
    if other is not None:
        cells += [*found_of(other[1]), ranked(other[0])]
    print_row(name, *cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("data", nargs="?", type=Path, default=default)
    parser.add_argument("--only", default="", help="sets whose name has this word")
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args()
    header = [
        "flagged %",
        "precision",
        "recall",
        "told",
        "between",
        "AP",
        "most of class",
        "shared",
    ]
    header += [f"peer: {cell}" for cell in ("%", "precision", "recall", "AP")]
    print_row("", *header[: 8 if options.no_peer else None])
    for name, make in label_sets(options.data):
        if options.only in name:
            print_set(name, make(), not options.no_peer)


if __name__ == "__main__":
    main()
