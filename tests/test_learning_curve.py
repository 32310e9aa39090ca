"""What more samples would bring, beside what they do."""

import numpy as np
import pytest
from fiftyone_embedding_quality.analysis.class_probe import held_out_probabilities
from fiftyone_embedding_quality.analysis.learning_curve import FACTOR, gain, learning_exponent
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.analysis.vectors import unit_rows
from sklearn.datasets import load_digits


def _blobs(count, dim, spread, seed=0):
    random = np.random.default_rng(seed)
    centers = random.normal(size=(5, dim))
    labels = np.arange(count) % 5
    noise = random.normal(size=(count, dim)) * spread
    return unit_rows(centers[labels] + noise).rows, labels


def _recall(rows, labels, taught, judged):
    order = np.r_[taught, judged]
    hidden = np.where(np.arange(len(order)) < len(taught), labels[order], -1)
    found = held_out_probabilities(rows[order], hidden, 10, neighbor_graph(rows[order]))
    predicted = found.probabilities[len(taught) :].argmax(axis=1)
    return np.mean([(predicted[labels[judged] == one] == one).mean() for one in range(10)])


def test_what_is_told_of_digits_is_near_what_more_of_them_bring():
    digits = load_digits()
    rows, labels = unit_rows(digits.data).rows, digits.target
    for count in (8, 25):
        told, real = [], []
        for seed in range(4):
            order = np.random.default_rng(seed).permutation(len(rows))
            of = [order[labels[order] == one] for one in range(10)]
            few = np.concatenate([one[:count] for one in of])
            many = np.concatenate([one[: count + 100] for one in of])
            rest = np.concatenate([one[count + 100 :] for one in of])
            before, after = (_recall(rows, labels, some, rest) for some in (few, many))
            told.append(gain(before, count, learning_exponent(rows[few], labels[few], 10)))
            real.append(after - before)
        assert np.mean(told) / FACTOR < np.mean(real) < np.mean(told) * FACTOR


def test_many_samples_of_classes_that_overlap_gain_nothing():
    rows, labels = _blobs(4000, 4, 1.5)
    exponent = learning_exponent(rows, labels, 5)
    assert exponent < 0.05 and gain(0.5, 800, exponent) < 0.005
    few, of_few = _blobs(60, 40, 2.0)
    assert learning_exponent(few, of_few, 5) > 0.2
    # Labels that say nothing cannot be learned from more of them.
    at_random = np.random.default_rng(1).integers(0, 5, 4000)
    assert learning_exponent(rows, at_random, 5) < 0.05


def test_neither_order_nor_copies_nor_what_is_not_labeled_count():
    rows, labels = _blobs(400, 600, 4.0)
    exponent = learning_exponent(rows, labels, 5)
    assert exponent > 0
    order = np.random.default_rng(3).permutation(400)
    assert learning_exponent(rows[order], labels[order], 5) == pytest.approx(exponent, abs=1e-3)
    more = np.vstack([rows, np.zeros((3, 600), np.float32), rows[:50] + 0.01])
    hidden = np.r_[labels, [0, 1, 2], np.full(50, -1)]
    assert learning_exponent(more, hidden, 5) == pytest.approx(exponent, abs=1e-3)
    # Learned from its copies, a sample would be no proof of anything.
    hard, labels = _blobs(400, 250, 10.0)
    twice = np.vstack([hard, unit_rows(hard + 1e-4).rows])
    groups, of_twice = np.r_[np.arange(400), np.arange(400)], np.r_[labels, labels]
    once = learning_exponent(hard, labels, 5)
    assert learning_exponent(twice, of_twice, 5, groups) == pytest.approx(once, abs=0.2)
    assert learning_exponent(twice, of_twice, 5) > once + 0.4


def test_of_one_class_or_a_handful_nothing_is_told():
    rows, labels = _blobs(60, 10, 1.0)
    assert learning_exponent(rows, np.zeros(60, int), 1) is None
    assert learning_exponent(rows, np.full(60, -1), 5) is None
    assert learning_exponent(rows[:20], labels[:20], 5) is None
    assert gain(1.0, 10, 0.5) == 0 and gain(0.5, 100, 0.0) == 0
    assert gain(0.5, 100, 1.0) == pytest.approx(0.25)
