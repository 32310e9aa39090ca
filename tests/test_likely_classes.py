"""The likeliest classes of a row stand for all of them: what is read is what was put in."""

import numpy as np
import pytest
from fiftyone_embedding_quality.analysis import likely_classes
from fiftyone_embedding_quality.analysis._confident_learning import confident_joint
from fiftyone_embedding_quality.analysis.class_probe import held_out_probabilities
from fiftyone_embedding_quality.analysis.label_issues import find_label_issues
from fiftyone_embedding_quality.analysis.likely_classes import LikelyClasses, of_classes, of_rows
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.analysis.outliers import find_outliers
from fiftyone_embedding_quality.analysis.separability import class_separability
from fiftyone_embedding_quality.analysis.vectors import unit_rows
from sklearn.metrics import average_precision_score


def drawn(num_rows=400, num_classes=60, seed=0):
    """Probabilities, and labels that agree with them, but for a few."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((num_rows, num_classes))
    labels = rng.integers(0, num_classes, num_rows)
    scores[np.arange(num_rows), labels] += rng.uniform(1, 6, num_rows)
    wrong = rng.random(num_rows) < 0.1
    labels[wrong] = rng.integers(0, num_classes, wrong.sum())
    full = np.exp(1.5 * scores)
    return (full / full.sum(axis=1, keepdims=True)).astype(np.float32), labels


def kept_of(full, labels, num_kept):
    table = LikelyClasses(labels, full.shape[1], num_kept)
    for start in range(0, len(full), 150):
        table[start : start + 150] = full[start : start + 150]
    return table


def test_likeliest_and_own_class_are_kept_and_the_rest_is_shared():
    full, labels = drawn()
    labels[::7] = -1
    table = kept_of(full, labels, 8)
    every = np.arange(len(full))
    np.testing.assert_array_equal(table.argmax(axis=1), full.argmax(axis=1))
    has = labels >= 0
    np.testing.assert_array_equal(table[every[has], labels[has]], full[every[has], labels[has]])
    read = table[every]
    np.testing.assert_allclose(read.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(np.sort(read)[:, -7:], np.sort(full)[:, -7:])
    np.testing.assert_array_equal(table[:, 10:25], read[:, 10:25])
    np.testing.assert_array_equal(table[every, every % 60], read[every, every % 60])
    asked = np.array([5, 3, 399])
    np.testing.assert_array_equal(of_rows(table, asked)[np.arange(3)], read[asked])
    left = of_classes(table, np.arange(4, 60))
    np.testing.assert_array_equal(left[every], read[:, 4:])


def test_equally_likely_classes_come_in_their_order():
    full = np.full((3, 40), 1 / 40, np.float32)
    table = kept_of(full, np.array([39, -1, 2]), 4)
    np.testing.assert_array_equal(table.classes, [[0, 1, 2, 39], [0, 1, 2, 3], [0, 1, 2, 3]])
    with pytest.raises(ValueError, match="40 of 40 classes"):
        kept_of(full, np.zeros(3, int), 40)


@pytest.mark.parametrize("seed", [0, 1])
def test_estimates_in_blocks_are_those_of_cleanlab(seed):
    full, labels = drawn(3000, 60, seed)
    joint, count = confident_joint(labels, full)
    in_blocks, counted = confident_joint(labels, kept_of(full, labels, 59))
    # Thresholds are means, here in float64: a row or two lie between both roundings of them.
    assert np.abs(in_blocks - joint).sum() <= 4
    assert abs(counted - count) <= 2 < 100 < count
    assert abs(confident_joint(labels, kept_of(full, labels, 20))[1] - count) <= 0.02 * count


def test_findings_among_many_classes_are_those_of_all_probabilities(monkeypatch):
    """150 classes of 20 rows, of which 32 classes are kept."""
    rng = np.random.default_rng(2)
    truth = np.repeat(np.arange(150), 20)
    centers = rng.standard_normal((150, 32))
    rows = unit_rows(centers[truth] + 1.1 * rng.standard_normal((3000, 32))).rows
    wrong = rng.random(3000) < 0.06
    given = np.where(wrong, rng.integers(0, 150, 3000), truth)
    groups = np.full(3000, -1)
    groups[[4, 900]] = 0
    graph = neighbor_graph(rows, 15)

    def found():
        evidence = held_out_probabilities(rows, given, 150, graph, groups)
        outliers = find_outliers(rows, graph, groups, given, evidence.probabilities)
        issues = find_label_issues(given, evidence, graph, groups, outliers.flagged)
        told = class_separability(
            rows, given, tuple(map(str, range(150))), graph, evidence.probabilities, groups
        )
        return evidence, outliers, issues, told

    full = found()
    assert isinstance(full[0].probabilities, np.ndarray)
    monkeypatch.setattr(likely_classes, "ALL_VALUES", 1000)
    kept = found()
    assert isinstance(kept[0].probabilities, LikelyClasses)
    every = np.arange(3000)
    for name in ("probabilities", "probe", "votes"):
        some, all_ = getattr(kept[0], name), getattr(full[0], name)
        np.testing.assert_array_equal(some[every, given], all_[every, given])
    np.testing.assert_allclose(kept[0].votes[every], full[0].votes, atol=1e-7)
    np.testing.assert_array_equal(kept[2].suggested, full[2].suggested)
    np.testing.assert_allclose(kept[2].quality, full[2].quality, atol=1e-6)
    assert (kept[2].flagged != full[2].flagged).mean() < 0.002
    assert average_precision_score(wrong & (truth != given), -kept[2].quality) > 0.8
    assert np.corrcoef(kept[1].score, full[1].score)[0, 1] > 0.999
    np.testing.assert_array_equal(kept[3].classes.recall, full[3].classes.recall)
