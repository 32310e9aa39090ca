"""Outliers: planted ones are found, clean sets are left alone, and odd input breaks nothing."""

import csv
import subprocess
import sys

import numpy as np
import pytest
from fiftyone_embedding_quality.analysis import _outlier_distance, outliers
from fiftyone_embedding_quality.analysis.class_probe import held_out_probabilities
from fiftyone_embedding_quality.analysis.neighbors import NeighborGraph, neighbor_graph
from fiftyone_embedding_quality.analysis.outliers import (
    LOWEST_THRESHOLD,
    NOT_FLAGGED,
    OF_ITS_CLASS,
    OF_THE_SET,
    find_outliers,
)
from fiftyone_embedding_quality.analysis.vectors import unit_rows
from sklearn.metrics import average_precision_score, roc_auc_score


def clustered(seed=0, num_rows=600, dim=48, clusters=6, spread=0.12):
    """Unit rows in clusters that are more or less dense, and the cluster of each."""
    rng = np.random.default_rng(seed)
    centers = unit_rows(rng.standard_normal((clusters, dim))).rows
    labels = rng.integers(0, clusters, num_rows)
    widths = spread * rng.uniform(0.5, 1.5, num_rows)[:, None]
    return unit_rows(centers[labels] + widths * rng.standard_normal((num_rows, dim))).rows, labels


def with_strangers(rows, count, seed=1):
    """The rows and, at the end, some in random directions."""
    strangers = np.random.default_rng(seed).standard_normal((count, rows.shape[1]))
    return np.concatenate([rows, unit_rows(strangers).rows])


def found(rows, k=30, **arguments):
    return find_outliers(rows, neighbor_graph(rows, k=k), **arguments)


def soft(labels, num_classes, share=0.95):
    """Probabilities that give the labels this share."""
    probabilities = np.full((len(labels), num_classes), (1 - share) / (num_classes - 1))
    probabilities[np.arange(len(labels)), labels] = share
    return probabilities.astype(np.float32)


def test_strangers_are_flagged_and_little_else():
    rows, _ = clustered()
    result = found(with_strangers(rows, 12))
    assert result.score.dtype == np.float32 and result.reason.dtype == np.int8
    assert result.flagged[600:].all() and result.score[600:].min() > result.score[:600].max()
    assert result.flagged[:600].mean() <= 0.02
    assert (result.reason[600:] == OF_THE_SET).all()
    assert ((result.reason == NOT_FLAGGED) == ~result.flagged).all()


def test_little_is_flagged_where_nothing_is_strange():
    for seed in range(4):
        assert found(clustered(seed)[0]).flagged.mean() <= 0.06
        sphere = np.random.default_rng(seed).standard_normal((600, 20))
        assert found(unit_rows(sphere).rows).flagged.mean() <= 0.06


def test_copies_of_a_strange_row_stay_strange():
    rows, _ = clustered()
    strange = with_strangers(rows, 1)[-1:]
    # More copies than the graph has neighbors, and a few.
    for copies in (40, 20, 8):
        noise = 1e-3 * np.random.default_rng(2).standard_normal((copies, rows.shape[1]))
        everything = np.concatenate([rows, unit_rows(strange + noise).rows])
        groups = np.r_[np.full(600, -1), np.full(copies, 7)]
        assert found(everything, groups=groups).flagged[600:].all()
        alone = found(np.concatenate([rows, strange])).score[-1]
        assert found(everything, groups=groups).score[600:].min() > 0.5 * alone


@pytest.mark.parametrize("blocks", [4, 7])
def test_blocks_of_equal_rows_are_no_outliers(blocks):
    """Of so few different rows none is strange, known as duplicates or not."""
    rows = unit_rows(np.random.default_rng(16).standard_normal((blocks, 16))).rows
    rows = np.repeat(rows, 50, axis=0)
    for groups in (None, np.repeat(np.arange(blocks), 50)):
        assert not found(rows, groups=groups).flagged.any()


@pytest.mark.parametrize("size, expected", [(9, (8, 10)), (14, (12, 15)), (70, (30,))])
def test_as_many_neighbors_count_as_are_alike(size, expected):
    rng = np.random.default_rng(3)
    classes = np.repeat(rng.standard_normal((20, 48)), size, axis=0)
    rows = unit_rows(classes + 0.5 * rng.standard_normal(classes.shape)).rows
    graph = neighbor_graph(rows)
    assert _outlier_distance._reach(rows, graph, None) in expected
    # Copies of each other share their neighbors too: they are not asked where others can be.
    groups = np.where(np.arange(len(rows)) < 3, 0, -1)
    assert _outlier_distance._reach(rows, graph, groups) in expected


def test_copies_of_a_typical_row_stay_typical():
    rows, _ = clustered()
    everything = np.concatenate([rows, np.repeat(rows[:1], 50, axis=0)])
    groups = np.full(650, -1)
    groups[0] = groups[600:] = 3
    before, after = found(rows), found(everything, groups=groups)
    assert not after.flagged[600:].any()
    assert after.score[0] == pytest.approx(before.score[0], abs=0.02)


def test_order_of_rows_does_not_matter():
    rows, labels = clustered()
    rows = with_strangers(rows, 10)
    labels = np.r_[labels, np.zeros(10, int)]
    groups = np.full(610, -1)
    groups[600:603] = 0
    probabilities = soft(labels, 6)
    order = np.random.default_rng(3).permutation(610)
    one = found(rows, groups=groups, labels=labels, probabilities=probabilities)
    other = found(
        rows[order],
        groups=groups[order],
        labels=labels[order],
        probabilities=probabilities[order],
    )
    np.testing.assert_allclose(other.score, one.score[order], atol=1e-4)
    np.testing.assert_array_equal(other.flagged, one.flagged[order])
    np.testing.assert_array_equal(other.reason, one.reason[order])


@pytest.mark.parametrize("num_rows", [400, 60])
def test_looking_beyond_large_groups_against_brute_force(num_rows, monkeypatch):
    """In small blocks, all groups at once; of 60 rows, not every center has k others."""
    monkeypatch.setattr(_outlier_distance, "BLOCK_ROWS", 64)
    monkeypatch.setattr(_outlier_distance, "BLOCK_CENTERS", 3)
    measured = []
    distance_between = _outlier_distance._distance_between_neighbors
    monkeypatch.setattr(
        _outlier_distance,
        "_distance_between_neighbors",
        lambda *arguments: measured.append(1) or distance_between(*arguments),
    )
    rows, _ = clustered(num_rows=num_rows)
    rng = np.random.default_rng(1)
    groups = rng.permutation(np.r_[np.repeat([3, 9, 4], 18), np.full(num_rows - 54, -1)])
    if num_rows == 400:
        groups[groups < 0] = rng.integers(20, 26, 346)
    else:
        groups[groups == -1] = 3
    count = np.where((groups >= 0) & (rng.random(num_rows) < 0.8), 2, 20)
    k = 40
    order = rng.permutation(num_rows)
    results = []
    for place in (np.arange(num_rows), order):
        to_neighbors, between, known = np.full((3, num_rows), -1.0)
        known = known > 0
        _outlier_distance._look_beyond_large_groups(
            rows[place], groups[place], count[place] == 2, k, to_neighbors, between, known
        )
        results.append((to_neighbors, between, known))
    assert len(measured) == 2
    for one, other in zip(*results):
        np.testing.assert_allclose(other, one[order], atol=1e-5)
    to_neighbors, between, known = results[0]
    np.testing.assert_array_equal(known, count == 2)
    for row in range(num_rows):
        if count[row] == 20:
            assert to_neighbors[row] == between[row] == -1
            continue
        center = rows[groups == groups[row]].astype(float).mean(axis=0)
        others = rows[groups != groups[row]].astype(float)
        distance = 1 - others @ center / np.linalg.norm(center)
        near = others[np.argsort(distance)[:k]]
        assert to_neighbors[row] == pytest.approx(np.sort(distance)[:k].mean(), abs=1e-5)
        expected = (1 - near @ near.T)[np.triu_indices(len(near), 1)].mean()
        assert between[row] == pytest.approx(expected, abs=1e-5)


def test_distance_between_neighbors_against_brute_force():
    rows, _ = clustered(num_rows=80)
    graph = neighbor_graph(rows, k=7)
    counted = np.random.default_rng(0).random(graph.indices.shape) < 0.7
    measured = _outlier_distance._distance_between_neighbors(
        rows, graph.indices, counted, np.full(80, -9.0)
    )
    for row in range(80):
        near = rows[graph.indices[row][counted[row]]].astype(float)
        expected = -9.0
        if len(near) > 1:
            expected = (1 - near @ near.T)[np.triu_indices(len(near), 1)].mean()
        assert measured[row] == pytest.approx(expected, abs=1e-5)


def test_doubt_and_misfit_raise_the_score_and_a_wrong_label_alone_is_no_outlier():
    rows, labels = clustered(num_rows=1000)
    probabilities = soft(labels, 6)
    certain = found(rows, labels=labels, probabilities=probabilities)
    edge = np.argsort(-certain.score)[100:110]  # far out, but not flagged
    assert not certain.flagged[edge].any()
    probabilities[edge] = 1 / 6
    doubtful = found(rows, labels=labels, probabilities=probabilities)
    assert (doubtful.score[edge] > 3 * certain.score[edge]).all()

    wrong = labels.copy()
    wrong[:50] = (wrong[:50] + 1) % 6
    mislabeled = found(rows, labels=wrong, probabilities=soft(labels, 6))
    assert mislabeled.flagged[:50].mean() <= 0.1


def test_outliers_of_a_class_are_told_from_outliers_of_the_set():
    """Loose members of a tight class lie about as far out as the members of a loose class do."""
    rng = np.random.default_rng(5)
    centers = unit_rows(rng.standard_normal((4, 64))).rows
    labels = np.r_[np.repeat([0, 1, 2, 3], 200), np.zeros(6, int)]
    spread = np.r_[np.full(200, 0.01), np.full(600, 0.06), np.full(6, 0.06)][:, None]
    rows = unit_rows(centers[labels] + spread * rng.standard_normal((806, 64))).rows
    rows, labels = with_strangers(rows, 6), np.r_[labels, np.zeros(6, int)]
    probabilities = soft(labels, 4)
    probabilities[800:] = 0.25
    result = found(rows, labels=labels, probabilities=probabilities)
    loose = result.reason[800:806]
    assert (loose == OF_ITS_CLASS).any() and not (loose == OF_THE_SET).any()
    assert (result.reason[806:] == OF_THE_SET).all()
    assert result.flagged[:800].sum() <= 1
    # Members of a loose class, as far out and in as much doubt, are less strange.
    probabilities[200:206] = 0.25
    again = found(rows, labels=labels, probabilities=probabilities)
    assert again.score[800:806].mean() > 1.5 * again.score[200:206].mean()


def test_rows_without_a_label_are_judged_too():
    rows, labels = clustered()
    rows, labels = with_strangers(rows, 10), np.r_[labels, np.full(10, -1)]
    labels[:100] = -1
    probabilities = np.r_[soft(np.maximum(labels[:600], 0), 6), np.full((10, 6), 1 / 6)]
    result = found(rows, labels=labels, probabilities=probabilities)
    assert result.flagged[600:].all() and result.flagged[:600].mean() <= 0.02


def test_classes_too_small_to_learn_are_judged_by_their_neighbors_alone():
    rows, labels = clustered()
    labels[0] = 6
    probabilities = soft(np.where(labels == 6, 0, labels), 7)
    probabilities[0] = 1 / 7
    result = found(rows, labels=labels, probabilities=probabilities)
    assert result.score[0] == pytest.approx(found(rows).score[0], abs=1e-6)


@pytest.mark.parametrize(
    ("labels", "num_classes"), [(np.zeros(600, int), 1), (np.full(600, -1), 3)]
)
def test_one_class_and_no_labels_add_nothing(labels, num_classes):
    rows, _ = clustered()
    probabilities = np.full((600, num_classes), 1 / num_classes, np.float32)
    result = found(rows, labels=labels, probabilities=probabilities)
    np.testing.assert_array_equal(result.score, found(rows).score)


@pytest.mark.parametrize("num_rows", [0, 1, 2, 3, 5, 12])
def test_few_rows(num_rows):
    rows = clustered(num_rows=num_rows)[0]
    result = found(rows)
    assert len(result.score) == len(result.flagged) == len(result.reason) == num_rows
    assert np.isfinite(result.score).all()
    assert result.flagged.sum() <= num_rows // 3


def test_equal_rows_and_one_other():
    rows = np.zeros((50, 8), np.float32)
    rows[:, 0] = 1
    assert not found(rows).flagged.any()
    rows[7] = np.eye(8)[1]
    np.testing.assert_array_equal(np.flatnonzero(found(rows).flagged), [7])


def test_zero_rows_are_strange_unless_all_are():
    rows, _ = clustered()
    rows[[4, 9]] = 0
    assert found(rows).flagged[[4, 9]].all()
    assert not found(np.zeros((40, 8), np.float32)).flagged.any()


def test_everything_in_one_duplicate_group():
    rows, _ = clustered(num_rows=60)
    assert not found(rows, groups=np.zeros(60, int)).flagged.any()


def test_threshold_moves_the_flags_only():
    rows = with_strangers(clustered()[0], 12)
    strict, loose = found(rows, threshold=1.0), found(rows, threshold=0.001)
    np.testing.assert_array_equal(strict.score, loose.score)
    assert strict.flagged.sum() < found(rows).flagged.sum() < loose.flagged.sum()
    assert loose.threshold == 0.001
    np.testing.assert_array_equal(loose.flagged, loose.score >= np.float32(0.001))


def test_adaptive_threshold_is_the_best_expected_f1():
    score = np.random.default_rng(0).beta(0.3, 2, 500).astype(np.float32)
    best = outliers._best_threshold(score)
    expected = [2 * score[score >= at].sum() / ((score >= at).sum() + score.sum()) for at in score]
    assert best == pytest.approx(score[np.argmax(expected)])
    assert found(clustered()[0]).threshold >= LOWEST_THRESHOLD


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": np.zeros(3, int)}, "groups has 3 entries for 40"),
        ({"labels": np.zeros(40, int)}, "given together"),
        ({"probabilities": np.ones((40, 1))}, "given together"),
        ({"labels": np.full(40, 5), "probabilities": np.ones((40, 2))}, "name class 5"),
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": 1.5}, "threshold"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        found(clustered(num_rows=40)[0], **arguments)


def test_graph_of_other_rows_is_refused():
    rows, _ = clustered(num_rows=40)
    empty = NeighborGraph(np.zeros((3, 0), np.int32), np.zeros((3, 0), np.float32), "exact", 1.0)
    with pytest.raises(ValueError, match="3 rows for 40"):
        find_outliers(rows, empty)


@pytest.fixture(scope="module")
def quality_set(excerpt):
    """Caltech-101 with label flips, duplicates, and clutter under random labels."""
    folder = excerpt / "caltech101"
    with open(folder / "qa_samples.csv", newline="") as file:
        samples = list(csv.DictReader(file))
    stored = np.load(folder / "embeddings_efficientnet_lite0.npz")
    place = {name: index for index, name in enumerate(stored["files"].tolist())}
    vectors = stored["embeddings"][[place[sample["file"]] for sample in samples]]
    _, labels = np.unique([sample["given_label"] for sample in samples], return_inverse=True)
    names, groups = np.unique([sample["dup_group"] for sample in samples], return_inverse=True)
    groups = np.where(names[groups] == "", -1, groups)
    truth = np.array([sample["issue"] == "outlier" for sample in samples])
    rows = unit_rows(vectors).rows
    return rows, neighbor_graph(rows), groups, labels, truth


@pytest.mark.slow
def test_clutter_among_photos(quality_set):
    rows, graph, groups, _, truth = quality_set
    distance = graph.distances[:, 9]
    for known_groups in (groups, None):
        result = find_outliers(rows, graph, known_groups)
        reached = roc_auc_score(truth, result.score)
        assert reached >= 0.95 and reached > roc_auc_score(truth, distance) + 0.02


@pytest.mark.slow
def test_clutter_among_labeled_photos(quality_set):
    rows, graph, groups, labels, truth = quality_set
    evidence = held_out_probabilities(rows, labels, int(labels.max()) + 1, graph, groups)
    result = find_outliers(rows, graph, groups, labels, evidence.probabilities)
    assert roc_auc_score(truth, result.score) >= 0.975
    assert average_precision_score(truth, result.score) >= 0.62
    hits = (result.flagged & truth).sum()
    assert 2 * hits / (result.flagged.sum() + truth.sum()) >= 0.6
    assert hits > truth.sum() / 2  # flags more than it misses


def test_importing_the_module_is_light():
    heavy = "{'torch', 'numba', 'sklearn', 'scipy'}"
    code = (
        "import sys, fiftyone_embedding_quality.analysis.outliers; "
        f"sys.exit(len({heavy} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
