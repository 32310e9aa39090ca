"""Label issues against ground truth, cleanlab's own functions, and on hostile input."""

import csv

import numpy as np
import pytest
from fiftyone_embedding_quality.analysis.class_probe import (
    ClassEvidence,
    held_out_probabilities,
    separates_classes,
)
from fiftyone_embedding_quality.analysis.label_issues import (
    check_predictions,
    find_label_issues,
    find_multilabel_issues,
)
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.analysis.outliers import find_outliers
from fiftyone_embedding_quality.analysis.vectors import unit_rows
from fiftyone_embedding_quality.checks.verdicts import in_sample_warning


def average_precision(wrong, quality):
    from sklearn.metrics import average_precision_score

    return average_precision_score(wrong, -quality)


def issues_of(rows, labels, num_classes, groups=None):
    graph = neighbor_graph(rows, 30)
    evidence = held_out_probabilities(rows, labels, num_classes, graph, groups)
    return find_label_issues(labels, evidence, graph, groups), evidence, graph


def noisy_blobs(num_rows=600, num_classes=4, wrong=0.1, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, num_classes, num_rows)
    centers = rng.standard_normal((num_classes, 16))
    rows = unit_rows(centers[truth] + 0.5 * rng.standard_normal((num_rows, 16))).rows
    flipped = rng.random(num_rows) < wrong
    labels = np.where(flipped, (truth + 1) % num_classes, truth)
    return rows, labels, truth


def read_rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def caltech(excerpt):
    samples = read_rows(excerpt / "caltech101" / "qa_samples.csv")
    stored = np.load(excerpt / "caltech101" / "embeddings_efficientnet_lite0.npz")
    place = {file: row for row, file in enumerate(stored["files"].tolist())}
    rows = unit_rows(stored["embeddings"][[place[sample["file"]] for sample in samples]]).rows
    names = sorted({sample["given_label"] for sample in samples})
    labels = np.array([names.index(sample["given_label"]) for sample in samples])
    truth = np.array(
        [names.index(s["true_label"]) if s["true_label"] in names else -1 for s in samples]
    )
    numbers = {name: place for place, name in enumerate(sorted({s["dup_group"] for s in samples}))}
    groups = np.array([numbers[s["dup_group"]] if s["dup_group"] else -1 for s in samples])
    issue = np.array([sample["issue"] for sample in samples])
    return rows, labels, truth, groups, issue


def cifar(shared, column, every):
    samples = read_rows(shared / "data" / "cifar10n" / "train_labels.csv")[::every]
    stored = np.load(shared / "data" / "cifar10n" / "embeddings_efficientnet_lite0_pca256.npz")
    place = {file: row for row, file in enumerate(stored["files"].tolist())}
    rows = unit_rows(stored["embeddings"][[place[sample["file"]] for sample in samples]]).rows
    labels = np.array([int(sample[column]) for sample in samples])
    return rows, labels, np.array([int(sample["clean_label"]) for sample in samples])


@pytest.mark.slow
@pytest.mark.parametrize("known_groups", [True, False])
def test_label_flips_of_caltech(caltech, known_groups):
    """Clutter pictures have no right label: that is no label issue, so flagging them is wrong."""
    rows, labels, truth, groups, issue = caltech
    groups = groups if known_groups else None
    plain, evidence, graph = issues_of(rows, labels, 51, groups)
    outliers = find_outliers(rows, graph, groups, labels, evidence.probabilities)
    found = find_label_issues(labels, evidence, graph, groups, outliers.flagged)
    judged, flips = issue != "outlier", issue == "label_flip"
    assert average_precision(flips[judged], found.quality[judged]) > 0.95
    assert flips[found.flagged].mean() > 0.80
    assert found.flagged[flips].mean() > 0.86
    assert flips[found.flagged].mean() > flips[plain.flagged].mean() + 0.15
    assert (found.suggested == truth)[flips].mean() > 0.93
    # Rounding of another processor moves the estimate, not the flags, by 0.04.
    assert abs(found.expected_precision - flips[found.flagged].mean()) < 0.15
    # Outliers not known, when clutter counts neither for nor against.
    assert flips[plain.flagged & judged].mean() > 0.80
    assert plain.flagged[flips].mean() > 0.91


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "floor"), [("aggre_label", 0.55), ("random_label1", 0.75), ("worse_label", 0.87)]
)
def test_human_label_noise(shared, column, floor):
    """Floors for a fifth of the pictures; on all of them it is 0.62, 0.79 and 0.91."""
    rows, labels, truth = cifar(shared, column, 5)
    found, *_ = issues_of(rows, labels, 10)
    wrong = labels != truth
    assert average_precision(wrong, found.quality) > floor
    precision = wrong[found.flagged].mean()
    assert precision > 0.4
    assert found.flagged[wrong].mean() > 0.65
    assert abs(found.expected_precision - precision) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("every", [5, 50, 125])
def test_clean_labels_are_flagged_rarely_and_not_trusted(shared, every):
    """Up to 500, 50 and 20 pictures of each class, which the vectors do not tell apart well."""
    rows, _, truth = cifar(shared, "aggre_label", every)
    found, *_ = issues_of(rows, truth, 10)
    assert found.flagged.mean() <= 0.03
    assert not found.noise_detected and np.isnan(found.expected_precision)


def test_what_no_class_claims_is_not_flagged():
    rows, labels, _ = noisy_blobs()
    plain, evidence, graph = issues_of(rows, labels, 4)
    outliers = np.random.default_rng(0).random(600) < 0.5
    found = find_label_issues(labels, evidence, graph, outliers=outliers)
    np.testing.assert_array_equal(found.flagged, plain.flagged & ~outliers)
    assert 0 < found.flagged.sum() < plain.flagged.sum()
    np.testing.assert_array_equal(found.quality, plain.quality)
    assert found.flagged[found.order[: found.flagged.sum()]].all()
    np.testing.assert_array_equal(found.class_flagged, np.bincount(labels[found.flagged]))


def test_vectors_without_content_tell_no_classes_apart():
    rows, labels, _ = noisy_blobs()
    assert separates_classes(issues_of(rows, labels, 4)[1], labels)
    skewed = np.random.default_rng(0).choice(4, 600, p=[0.7, 0.1, 0.1, 0.1])
    same = unit_rows(np.ones((600, 16), np.float32)).rows
    for nothing in (same, unit_rows(np.random.default_rng(1).normal(size=(600, 16))).rows):
        assert not separates_classes(issues_of(nothing, skewed, 4)[1], skewed)
    assert not separates_classes(issues_of(rows, labels, 4)[1], np.full(600, -1))


def test_witnesses_and_neighbors_against_the_label():
    rows, labels, truth = noisy_blobs()
    found, evidence, graph = issues_of(rows, labels, 4)
    wrong = labels != truth
    assert average_precision(wrong, found.quality) > 0.97
    for suggested in (found.suggested, found.probe_suggested, found.neighbors_suggested):
        assert (suggested == truth)[wrong].mean() > 0.95
    assert (found.suggested != labels).all()
    np.testing.assert_array_equal(found.probe_confidence, evidence.probe.max(axis=1))
    np.testing.assert_array_equal(found.neighbors_confidence, evidence.votes.max(axis=1))
    for row in range(len(rows)):
        voted = found.neighbors_suggested[row]
        named = graph.indices[row][labels[graph.indices[row]] == voted][:5]
        listed = found.against[row][found.against[row] >= 0]
        np.testing.assert_array_equal(listed, named if voted != labels[row] else [])


def test_own_group_does_not_speak_against_a_label():
    rows, labels, _ = noisy_blobs()
    groups = np.arange(600) // 3
    found, *_ = issues_of(rows, labels, 4, groups)
    assert all((groups[row[row >= 0]] != group).all() for row, group in zip(found.against, groups))


@pytest.mark.slow
def test_as_many_as_cleanlab_counts_worst_first():
    from cleanlab.filter import find_label_issues as cleanlab_issues

    rows, labels, _ = noisy_blobs(wrong=0.2)
    found, evidence, _ = issues_of(rows, labels, 4)
    count = cleanlab_issues(labels, evidence.probabilities.astype(float)).sum()
    assert found.flagged.sum() == pytest.approx(count, rel=0.15)
    flagged = int(found.flagged.sum())
    assert found.flagged[found.order[:flagged]].all()
    assert (np.diff(found.quality[found.order[:flagged]]) >= 0).all()
    assert sorted(found.order) == list(range(600))
    np.testing.assert_array_equal(found.class_counts, np.bincount(labels))
    np.testing.assert_array_equal(found.class_flagged, np.bincount(labels[found.flagged]))


@pytest.mark.slow
def test_noise_and_overlaps_are_those_of_cleanlab():
    from cleanlab.dataset import find_overlapping_classes

    rows, labels, truth = noisy_blobs(2000, wrong=0.25)
    found, evidence, _ = issues_of(rows, labels, 4)
    counted = np.zeros((4, 4))
    np.add.at(counted, (truth, labels), 1)
    np.testing.assert_allclose(found.noise, counted / counted.sum(1, keepdims=True), atol=0.06)
    np.testing.assert_allclose(found.noise.sum(axis=1), 1)
    listed = find_overlapping_classes(labels, evidence.probabilities.astype(float))
    pairs = zip(listed["Class Index A"], listed["Class Index B"], listed["Joint Probability"])
    theirs = {tuple(sorted(pair)): share for *pair, share in pairs}
    assert len(found.overlaps) >= 4
    for overlap in found.overlaps:
        assert overlap.share == pytest.approx(theirs[overlap.first, overlap.second], abs=1e-6)
    shares = [overlap.share for overlap in found.overlaps]
    assert shares == sorted(shares, reverse=True)


def test_order_of_rows_does_not_matter():
    rows, labels, _ = noisy_blobs()
    order = np.random.default_rng(1).permutation(600)
    plain, *_ = issues_of(rows, labels, 4)
    shuffled, *_ = issues_of(rows[order], labels[order], 4)
    np.testing.assert_array_equal(shuffled.flagged, plain.flagged[order])
    np.testing.assert_array_equal(shuffled.suggested, plain.suggested[order])
    np.testing.assert_allclose(shuffled.quality, plain.quality[order], atol=1e-3)


def test_unlabeled_rows_are_not_judged():
    rows, labels, _ = noisy_blobs()
    labels[::4] = -1
    found, *_ = issues_of(rows, labels, 4)
    assert np.isnan(found.quality[::4]).all() and not np.isnan(found.quality[1::4]).any()
    assert not found.flagged[::4].any()
    assert (found.suggested[::4] == -1).all() and np.isnan(found.confidence[::4]).all()
    assert (found.against[::4] == -1).all()
    assert not np.isin(np.arange(0, 600, 4), found.order).any()
    assert found.class_counts.sum() == 450


@pytest.mark.parametrize(
    ("labels", "num_classes"),
    [
        pytest.param([0] * 30, 1, id="one class"),
        pytest.param([1] * 30, 3, id="one class of several"),
        pytest.param(list(range(30)), 30, id="one member each"),
        pytest.param([0, 1] + [-1] * 28, 2, id="two labeled"),
        pytest.param([0] + [-1] * 29, 2, id="one labeled"),
    ],
)
def test_few_members(labels, num_classes):
    labels = np.array(labels)
    rows, *_ = noisy_blobs(30)
    found, *_ = issues_of(rows, labels, num_classes)
    quality = found.quality[labels >= 0]
    assert ((quality >= 0) & (quality <= 1)).all()
    np.testing.assert_allclose(found.noise.sum(axis=1), 1)
    if num_classes == 1:
        assert not found.flagged.any() and (found.suggested == -1).all()
        assert np.isnan(found.expected_precision)


def test_wrong_and_missing_labels_of_multilabel_rows():
    rng = np.random.default_rng(0)
    truth = rng.random((800, 5)) < 0.3
    axes = rng.standard_normal((5, 24))
    rows = unit_rows(truth @ axes + 0.3 * rng.standard_normal((800, 24)) + 0.5).rows
    graph = neighbor_graph(rows, 30)
    given = truth ^ (rng.random(truth.shape) < 0.03)
    skipped = np.arange(800) % 10 == 0
    found = find_multilabel_issues(given, rows, graph, skipped=skipped)
    wrong = (given & ~truth)[~skipped], (found.wrong & ~truth)[~skipped]
    missing = (~given & truth)[~skipped], (found.missing & truth)[~skipped]
    for injected, right in (wrong, missing):
        assert right.sum() > 0.7 * injected.sum()
    flagged = (found.wrong | found.missing)[~skipped]
    assert (given ^ truth)[~skipped][flagged].mean() > 0.7
    any_wrong = (given ^ truth).any(axis=1)
    assert average_precision(any_wrong[~skipped], found.quality[~skipped]) > 0.85
    assert np.isnan(found.quality[skipped]).all() and not found.flagged[skipped].any()
    assert len(found.order) == 720


def test_multilabel_rows_with_labels_that_all_or_none_have():
    rows, labels, _ = noisy_blobs(100)
    sets = np.c_[np.ones(100, bool), np.zeros(100, bool), labels == 0]
    found = find_multilabel_issues(sets, rows, neighbor_graph(rows, 10))
    assert not (found.wrong | found.missing)[:, :2].any()
    found = find_multilabel_issues(sets[:, :2], rows, neighbor_graph(rows, 10))
    assert (found.quality == 1).all() and not found.flagged.any()


def test_probabilities_and_logits_of_a_model():
    rows, labels, truth = noisy_blobs()
    _, evidence, graph = issues_of(rows, labels, 4)
    probabilities = 0.8 * np.eye(4)[truth] + 0.05
    checked = check_predictions(probabilities, labels, evidence)
    taken = checked.evidence
    np.testing.assert_allclose(taken.probabilities, probabilities, atol=1e-6)
    assert not checked.in_sample and in_sample_warning(checked) is None
    logits = check_predictions(np.log(probabilities) + 7, labels, evidence).evidence
    np.testing.assert_allclose(logits.probabilities, probabilities, atol=1e-6)
    found = find_label_issues(labels, taken, graph)
    assert average_precision(labels != truth, found.quality) > 0.99


def test_in_sample_predictions_are_told():
    rows, labels, _ = noisy_blobs()
    _, evidence, _ = issues_of(rows, labels, 4)
    checked = check_predictions(0.998 * np.eye(4)[labels] + 0.0005, labels, evidence)
    assert checked.in_sample and checked.agreement == 1
    assert "agree with 100.0 % of the labels" in in_sample_warning(checked)


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        (np.ones((5, 2)), "shape"),
        (np.full((4, 2), np.nan), "row 0"),
        (np.array([["a", "b"]] * 4), "numbers"),
    ],
)
def test_broken_predictions_are_refused(predictions, message):
    half = np.full((4, 2), 0.5, np.float32)
    with pytest.raises(ValueError, match=message):
        check_predictions(predictions, np.zeros(4, int), ClassEvidence(half, half, half))


def test_arrays_must_fit():
    rows, labels, _ = noisy_blobs(50)
    _, evidence, graph = issues_of(rows, labels, 4)
    with pytest.raises(ValueError, match="same rows"):
        find_label_issues(labels[:-1], evidence, graph)
    with pytest.raises(ValueError, match="outliers"):
        find_label_issues(labels, evidence, graph, outliers=np.zeros(49, bool))
    with pytest.raises(ValueError, match="below 4"):
        find_label_issues(labels + 1, evidence, graph)
