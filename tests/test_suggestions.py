"""Suggested labels against the true ones: right, as sure as they say, and none for the unknown."""

import numpy as np
import pytest
from fiftyone_embedding_quality.analysis._label_spreading import SPREADING, STEPS, Spreading
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.analysis.suggestions import suggest_labels
from fiftyone_embedding_quality.analysis.vectors import unit_rows
from sklearn.datasets import load_digits
from test_selection import blobs


@pytest.fixture(scope="module")
def handwriting():
    digits = load_digits()
    rows = unit_rows(digits.data).rows
    return rows, digits.target.astype(np.int64), neighbor_graph(rows)


def few(truth, count, seed=0):
    """The labels with all but so many of each class taken away."""
    rng = np.random.default_rng(seed)
    labels = np.full(len(truth), -1)
    for number in range(truth.max() + 1):
        chosen = rng.permutation(np.flatnonzero(truth == number))[:count]
        labels[chosen] = number
    return labels


def nearest_means(rows, labels):
    means = [rows[labels == number].mean(axis=0) for number in range(labels.max() + 1)]
    return (rows @ unit_rows(np.array(means)).rows.T).argmax(axis=1)


@pytest.mark.parametrize("count", [1, 3, 10])
def test_better_than_the_nearest_class_mean(handwriting, count):
    rows, truth, graph = handwriting
    ours, theirs = [], []
    for seed in range(4):
        labels = few(truth, count, seed)
        found = suggest_labels(rows, labels, 10, graph)
        told = found.label >= 0
        ours.append((found.label == truth)[told].mean())
        theirs.append((nearest_means(rows, labels) == truth)[told].mean())
    assert np.mean(ours) > np.mean(theirs) + 0.03 and np.mean(ours) > 0.85


@pytest.mark.parametrize("count", [5, 10])
def test_what_is_accepted_is_as_precise_as_was_asked(handwriting, count):
    rows, truth, graph = handwriting
    for precision in (0.9, 0.97):
        right = labeled = 0
        for seed in range(4):
            labels = few(truth, count, seed)
            found = suggest_labels(rows, labels, 10, graph, precision=precision)
            assert (labels[found.accepted] < 0).all()
            right += (found.label == truth)[found.accepted].sum()
            labeled += found.accepted.sum()
        assert right >= (precision - 0.02) * labeled and labeled > 4 * 600


def test_overlapping_classes_are_not_claimed_to_be_told_apart():
    rng = np.random.default_rng(0)
    rows = unit_rows(rng.normal(size=(600, 20)) + 3).rows
    truth = rng.integers(0, 2, 600)
    found = suggest_labels(rows, few(truth, 60), 2, neighbor_graph(rows))
    assert found.accepted.sum() < 6
    assert found.held_out_accuracy < 0.65


def test_one_label_per_class_is_not_enough_to_be_sure(handwriting):
    rows, truth, graph = handwriting
    found = suggest_labels(rows, few(truth, 1), 10, graph)
    assert found.held_out == 0 and not found.calibrated
    assert np.isnan(found.held_out_accuracy)
    assert found.accepted.sum() < 0.2 * len(rows)
    assert (found.label[few(truth, 1) < 0] >= 0).all()


def test_rows_of_no_class_are_left_out():
    rows, of = blobs([200] * 8, spread=0.6)
    truth = np.where(of < 5, of, -1)
    labels = np.where(np.isin(np.arange(len(of)) % 200, range(10)), truth, -1)
    found = suggest_labels(rows, labels, 5, neighbor_graph(rows))
    foreign, open_ = truth < 0, (truth >= 0) & (labels < 0)
    assert found.accepted[foreign].mean() <= 0.05
    assert found.accepted[open_].mean() >= 0.7
    assert (found.label == truth)[found.accepted & open_].mean() >= 0.97
    assert found.unknown >= 0.9 * foreign.sum()


def test_a_label_does_not_vouch_for_itself_nor_do_copies(handwriting):
    """Random labels are held out at chance, also when each has a copy with the same label."""
    rows = handwriting[0][:300]
    labels = np.random.default_rng(0).integers(0, 3, 300)
    labels[::3] = -1
    alone = suggest_labels(rows, labels, 3, neighbor_graph(rows))
    twice, both = np.concatenate([rows, rows]), np.concatenate([labels, labels])
    graph, groups = neighbor_graph(twice), np.tile(np.arange(300), 2)
    known = suggest_labels(twice, both, 3, graph, groups)
    unknown = suggest_labels(twice, both, 3, graph)
    assert alone.held_out_accuracy < 0.45 and known.held_out_accuracy < 0.45
    assert unknown.held_out_accuracy > 0.55 and known.accepted.sum() < 6


def test_what_returns_is_what_another_run_lacks(handwriting):
    """Held out in closed form: as if the label had not been there."""
    rows, truth, _ = handwriting
    rows, labels = rows[:200], few(truth[:200], 3)
    spreading = Spreading(neighbor_graph(rows))
    labeled = np.flatnonzero(labels >= 0)
    labeled = labeled[np.argsort(labels[labeled], kind="stable")]
    returned = spreading.returned(labeled, np.arange(len(labeled)))
    for place in (0, 7, 20):
        row = labeled[place]
        seeds = np.zeros((200, 10), np.float32)
        seeds[labeled, labels[labeled]] = 1
        full = spreading.run(seeds)[row, labels[row]]
        seeds[row] = 0
        without = spreading.run(seeds)[row, labels[row]]
        assert full - returned[place] == pytest.approx(without, abs=1e-5)


def test_spreading_is_the_sum_of_walks(handwriting):
    rows = handwriting[0][:60]
    spreading = Spreading(neighbor_graph(rows))
    walk = np.concatenate([part.toarray() for part in spreading._parts])
    assert walk == pytest.approx(walk.T, abs=1e-6)
    expected, power = np.zeros((60, 60)), np.eye(60)
    for _ in range(STEPS):
        expected += (1 - SPREADING) * power
        power = power @ walk
    found = spreading.run(np.eye(60, dtype=np.float32))
    assert found == pytest.approx(expected + power, abs=1e-5)


def test_the_order_of_rows_does_not_matter(handwriting):
    rows, truth, graph = handwriting
    labels = few(truth, 5)
    order = np.random.default_rng(9).permutation(len(rows))
    found = suggest_labels(rows, labels, 10, graph)
    again = suggest_labels(rows[order], labels[order], 10, neighbor_graph(rows[order]))
    assert (found.label[order] == again.label).mean() > 0.999
    assert found.accepted.sum() == pytest.approx(again.accepted.sum(), abs=3)


def test_more_precision_accepts_fewer(handwriting):
    rows, truth, graph = handwriting
    found = suggest_labels(rows, few(truth, 4), 10, graph, precision=0.97)
    counts = list(found.table.values())
    assert counts == sorted(counts, reverse=True) and 0.97 in found.table
    assert found.table[0.97] == found.accepted.sum()
    if found.accepted.any():
        assert found.expected_precision >= 0.97


def test_many_classes_are_taken_in_blocks():
    rows, of = blobs([8] * 150, dim=200, spread=0.4)
    labels = np.where(np.arange(len(of)) % 8 < 3, of, -1)
    found = suggest_labels(rows, labels, 150, neighbor_graph(rows))
    told = found.label >= 0
    assert (found.label == of)[told].mean() > 0.99 and told.mean() > 0.4


def test_zero_rows_get_nothing_and_teach_nothing():
    rows, of = blobs([50] * 3)
    rows[[1, 60, 120]] = 0
    labels = np.where(np.arange(150) % 50 < 6, of, -1)
    found = suggest_labels(rows, labels, 3, neighbor_graph(rows))
    assert (found.label[[1, 60, 120]] == -1).all() and not found.accepted[[1, 60, 120]].any()
    assert found.held_out == 17


def test_arrays_must_fit(handwriting):
    rows, truth, graph = handwriting
    with pytest.raises(ValueError, match="precision"):
        suggest_labels(rows, few(truth, 1), 10, graph, precision=1.0)
    with pytest.raises(ValueError, match="needs a labeled row"):
        suggest_labels(rows, few(truth, 1), 11, graph)
    with pytest.raises(ValueError, match="graph has"):
        suggest_labels(rows[:50], few(truth, 1)[:50], 10, graph)
