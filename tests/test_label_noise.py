"""Label noise is told from a classifier's own mistakes, or not told: planted noise is truth."""

import numpy as np
import pytest
from fiftyone_embedding_quality.analysis.class_probe import held_out_probabilities
from fiftyone_embedding_quality.analysis.label_issues import find_label_issues
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.analysis.vectors import unit_rows


def overlapping(sizes, spread, seed=0):
    """Normal distributions in pairs of similar ones, of so many rows each."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    centers = np.repeat(rng.standard_normal((-(-len(sizes) // 2), 24)), 2, axis=0)[: len(sizes)]
    centers += 0.6 * rng.standard_normal(centers.shape)
    return unit_rows(centers[truth] + spread * rng.standard_normal((len(truth), 24))).rows, truth


def issues(rows, labels, groups=None):
    num_classes = int(labels.max()) + 1
    graph = neighbor_graph(rows)
    evidence = held_out_probabilities(rows, labels, num_classes, graph, groups)
    return find_label_issues(labels, evidence, graph, groups)


def any_other(truth, share, rng):
    moved = (truth + rng.integers(1, truth.max() + 1, len(truth))) % (truth.max() + 1)
    return np.where(rng.random(len(truth)) < share, moved, truth)


def its_twin(truth, share, rng):
    return np.where(rng.random(len(truth)) < share, truth ^ 1, truth)


@pytest.mark.parametrize("plant", [any_other, its_twin])
@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("spread", [0.5, 0.8])
def test_the_told_precision_is_the_true_one(plant, share, spread):
    rows, truth = overlapping([150] * 10, spread)
    labels = plant(truth, share, np.random.default_rng(1))
    found = issues(rows, labels)
    wrong = labels != truth
    precision = wrong[found.flagged].mean()
    assert found.noise_detected
    assert abs(found.expected_precision - precision) < 0.15
    assert found.precision_range[0] <= precision <= found.precision_range[1]
    assert found.flagged[wrong].mean() > 0.5


def test_confirmed_reviews_show_the_noise_that_the_evidence_alone_does_not():
    rows, truth = overlapping([25] * 8, 1.0)
    labels = its_twin(truth, 0.12, np.random.default_rng(1))
    wrong, graph = labels != truth, neighbor_graph(rows)
    evidence = held_out_probabilities(rows, labels, 8, graph)
    found = find_label_issues(labels, evidence, graph)
    assert not found.noise_detected and found.flagged.sum() == 4
    after = find_label_issues(labels, evidence, graph, confirmed=True)
    assert after.flagged[found.flagged].all() and np.isnan(after.expected_precision)
    assert after.flagged[wrong].mean() > 0.8 and wrong[after.flagged].mean() > 0.6


@pytest.mark.parametrize(
    ("sizes", "spread"),
    [
        pytest.param([200] * 10, 0.5, id="many"),
        pytest.param([200] * 10, 1.2, id="many that overlap"),
        pytest.param([15] * 10, 0.8, id="few"),
        pytest.param([4] * 40, 0.8, id="four of each"),
        pytest.param([2] * 200, 0.5, id="two of each"),
        pytest.param([400] * 4 + [40] * 6, 0.8, id="ten to one"),
        pytest.param([500] * 2 + [6] * 20, 0.8, id="some tiny"),
    ],
)
def test_mistakes_of_the_classifier_are_not_taken_for_wrong_labels(sizes, spread):
    rows, truth = overlapping(sizes, spread)
    found = issues(rows, truth)
    assert found.flagged.mean() <= 0.03
    assert not found.noise_detected and np.isnan(found.expected_precision)
    assert (found.class_flagged <= np.maximum(1, np.array(sizes) / 3)).all()
    np.testing.assert_array_equal(found.class_small, np.array(sizes) < 10)


def test_half_of_a_class_under_the_name_of_another_is_told():
    rows, truth = overlapping([100] * 6, 0.5)
    labels = truth.copy()
    labels[np.flatnonzero(truth == 2)[::2]] = 5
    found = issues(rows, labels)
    [pair] = found.shared
    assert (pair.label, pair.other) == (2, 5)
    # Rows that are surely of the class: the estimate is low rather than high.
    assert 25 <= pair.count <= 55 and 0.4 < pair.count / pair.looks < 0.6
    wrong = labels != truth
    assert wrong[found.flagged].mean() > 0.8 and found.flagged[wrong].mean() > 0.5
    assert (found.suggested[found.flagged & wrong] == 2).all()


def test_copies_are_one_piece_of_evidence():
    """Five wrong labels, each with 30 copies, are no noise of a fifth."""
    rows, truth = overlapping([80] * 6, 0.5)
    groups = np.full(len(rows), -1)
    groups[:5] = np.arange(5)
    copied = np.r_[np.arange(len(rows)), np.repeat(np.arange(5), 30)]
    labels, groups = truth[copied].copy(), groups[copied]
    labels[groups >= 0] = 4
    told = issues(rows[copied], labels, groups)
    alone = truth.copy()
    alone[:5] = 4
    assert told.noise_detected == issues(rows, alone).noise_detected


def test_small_classes_beside_noise_are_flagged_where_all_evidence_agrees():
    rows, truth = overlapping([200] * 6 + [6] * 4, 0.5)
    labels = any_other(truth, 0.05, np.random.default_rng(3))
    found = issues(rows, labels)
    assert found.noise_detected and found.class_flagged[:6].sum() > 25
    weak = found.class_small | found.class_unrecognized
    np.testing.assert_array_equal(found.class_small, found.class_counts < 10)
    few = found.flagged & weak[labels]
    assert few.any() and (labels != truth)[few].mean() > 0.8
    for witness in (found.probe_suggested, found.neighbors_suggested):
        np.testing.assert_array_equal(witness[few], found.suggested[few])


@pytest.mark.parametrize("share", [0, 0.05])
def test_classes_without_looks_of_their_own_are_no_noise(share):
    """As patches of tables, which show what stands on them."""
    sizes = [120] * 8
    rows, truth = overlapping(sizes, 0.5)
    rng = np.random.default_rng(5)
    of_any_look = rng.choice(len(rows), 160, replace=False)
    truth[of_any_look] = np.repeat([8, 9], [110, 50])
    labels = truth.copy()
    wrong = rng.choice(np.flatnonzero(truth < 8), round(share * len(rows)), replace=False)
    labels[wrong] = (labels[wrong] + rng.integers(1, 8, len(wrong))) % 8
    found = issues(rows, labels)
    np.testing.assert_array_equal(np.flatnonzero(found.class_unrecognized), [8, 9])
    precision = np.isin(np.flatnonzero(found.flagged), wrong).mean()
    if share:
        assert found.noise_detected and found.flagged[wrong].mean() > 0.8
        assert found.precision_range[0] <= precision <= found.precision_range[1]
    else:
        assert not found.noise_detected and found.flagged.mean() <= 0.03
