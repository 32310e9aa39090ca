"""Wrong and missing labels of rows that have any number of labels each."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from .class_probe import held_out_probabilities
from .neighbors import NeighborGraph


@dataclass(frozen=True)
class MultilabelIssues:
    """What speaks against rows that have any number of labels each.

    Attributes:
        quality: (n,) float32 in [0, 1], of all labels of a row together; NaN for skipped rows
        flagged: (n,) bool
        wrong: (n, c) bool, labels that are there and are likely wrong
        missing: (n, c) bool, labels that are absent and are likely right
        probabilities: (n, c) float32, held-out, of each label
        order: (num_evaluated,) int64, rows: flagged ones first, each part with the worst first
    """

    quality: np.ndarray
    flagged: np.ndarray
    wrong: np.ndarray
    missing: np.ndarray
    probabilities: np.ndarray
    order: np.ndarray


def find_multilabel_issues(
    label_sets: np.ndarray,
    rows: np.ndarray,
    graph: NeighborGraph,
    groups: np.ndarray | None = None,
    skipped: np.ndarray | None = None,
    seed: int | None = 51,
) -> MultilabelIssues:
    """Finds wrong and missing labels of rows that have any number of labels each.

    Every label is a question of its own, has it or not, answered by the evidence of
    ``class_probe``; cleanlab's ``multilabel_classification`` evaluates the answers.

    Args:
        label_sets: (n, c) bool, which labels a row has
        rows: (n, d) float32 unit rows
        graph: neighbors of the same rows
        groups: (n,) integers, duplicate group numbers, -1 = in none; None: no groups known
        skipped: (n,) bool, rows whose labels are not known; None: none

    Raises:
        ValueError: if the arrays do not fit each other or all rows are skipped
    """
    label_sets = np.asarray(label_sets, bool)
    num_rows, num_classes = label_sets.shape
    known = np.ones(num_rows, bool) if skipped is None else ~np.asarray(skipped, bool)
    if len(rows) != num_rows or known.shape != (num_rows,):
        raise ValueError("label_sets, rows and skipped must be of the same length")
    probabilities = np.zeros((num_rows, num_classes), np.float32)
    for label in range(num_classes):
        answers = np.where(known, label_sets[:, label].astype(np.int64), -1)
        evidence = held_out_probabilities(rows, answers, 2, graph, groups, seed)
        probabilities[:, label] = evidence.probabilities[:, 1]

    known_rows = np.flatnonzero(known)
    quality = np.full(num_rows, np.nan, np.float32)
    issues = np.zeros((num_rows, num_classes), bool)
    quality[known_rows], issues[known_rows] = _cleanlab_issues(
        label_sets[known_rows], probabilities[known_rows].astype(np.float64)
    )
    # cleanlab counts per class; an answer that the evidence agrees with is no issue.
    issues &= label_sets != (probabilities > 0.5)
    flagged = np.any(issues, axis=1)
    return MultilabelIssues(
        quality=quality,
        flagged=flagged,
        wrong=issues & label_sets,
        missing=issues & ~label_sets,
        probabilities=probabilities,
        order=known_rows[np.lexsort((known_rows, quality[known_rows], ~flagged[known_rows]))],
    )


def _cleanlab_issues(label_sets: np.ndarray, held_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What cleanlab finds in (n, c) answers and probabilities: quality (n,), issues (n, c) bool."""
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class
    from cleanlab.multilabel_classification.rank import get_label_quality_scores

    issues = np.zeros(label_sets.shape, bool)
    # Only labels that some rows have and others have not can be evaluated.
    varying = np.flatnonzero(label_sets.any(axis=0) & ~label_sets.all(axis=0))
    if len(varying) == 0:
        return np.ones(len(label_sets)), issues
    # cleanlab refuses a single label; the same one twice has the same answer.
    varying = np.repeat(varying, 2) if len(varying) == 1 else varying
    listed = [np.flatnonzero(labels[varying]).tolist() for labels in label_sets]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = find_multilabel_issues_per_class(listed, held_out[:, varying], n_jobs=1)
        quality = get_label_quality_scores(listed, held_out[:, varying])
    issues[:, varying] = np.asarray(found, bool).reshape(len(label_sets), len(varying))
    return quality, issues
