"""Held-out means held out: the closed forms are compared with refits, the vote with a loop."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fiftyone_embedding_quality.analysis import _probe_features, _probe_ridge, _probe_votes
from fiftyone_embedding_quality.analysis._probe_votes import Voters
from fiftyone_embedding_quality.analysis.class_probe import held_out_probabilities
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.analysis.vectors import content_keys, unit_rows


def blobs(num_rows=300, dim=24, num_classes=5, spread=0.8, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num_rows)
    vectors = rng.standard_normal((num_classes, dim))[labels]
    rows = unit_rows(vectors + spread * rng.standard_normal((num_rows, dim))).rows
    return rows, labels


def evidence_of(rows, labels, num_classes, groups=None, **options):
    graph = neighbor_graph(rows, 10)
    return held_out_probabilities(rows, labels, num_classes, graph, groups, **options)


def assert_probabilities(evidence, num_rows, num_classes):
    for part in (evidence.probabilities, evidence.probe, evidence.votes):
        assert part.shape == (num_rows, num_classes) and part.dtype == np.float32
        assert np.isfinite(part).all() and part.min() >= 0
        np.testing.assert_allclose(part.sum(axis=1), 1, atol=1e-5)


def refitted(features, labels, num_classes, penalty, held_out):
    """Scores of the held-out rows by ridge regression on the others, in float64."""
    train = (labels >= 0) & ~held_out
    known = features[train].astype(np.float64)
    targets = np.eye(num_classes)[labels[train]]
    center, share = known.mean(axis=0), targets.mean(axis=0)
    known = known - center
    gram = known.T @ known + penalty * np.eye(known.shape[1])
    found = np.linalg.solve(gram, known.T @ (targets - share))
    return (features[held_out] - center) @ found + share


@pytest.fixture
def ridge():
    """Ridge regression on 52 labeled rows and 8 others, and the features that it knows."""
    import torch

    rows, labels = blobs(60, 12, 4)
    labels[52:] = -1
    groups = np.full(60, -1)
    groups[[3, 9, 11]], groups[20:40], groups[[50, 51, 52]] = 0, 1, 7
    groups[[5, 6]] = 9
    known = rows[:52] - rows[:52].mean(axis=0)
    _, axes = np.linalg.eigh(known.T @ known)
    features = (rows - rows[:52].mean(axis=0)) @ axes
    with ThreadPoolExecutor(1) as pool:
        learned = _probe_features.ProbeRows(
            features=torch.from_numpy(features),
            labels=labels,
            groups=groups,
            fold=np.arange(60) % 3,
            order=np.arange(60),
            tuning=np.arange(52),
            num_labeled=52,
            num_classes=4,
            pool=pool,
        )
        yield _probe_ridge.Ridge(learned), features


def test_leaving_one_out_is_refitting_without_it(ridge):
    ridge, features = ridge
    penalty = 0.1 * float(ridge.values.mean())
    scores = ridge.held_out(0.1, np.arange(60))
    for row in range(60):
        truth = refitted(features, ridge.known.labels, 4, penalty, np.arange(60) == row)
        np.testing.assert_allclose(scores[row], truth[0], atol=2e-5)


def test_leaving_a_group_out_is_refitting_without_it(ridge):
    """The group of 20 has more labeled members than there are dimensions."""
    ridge, features = ridge
    labels = ridge.known.labels
    penalty = 0.1 * float(ridge.values.mean())
    batches = _probe_ridge.group_members(ridge.known.groups, labels)
    assert sorted(len(members) for batch in batches for members in batch) == [2, 2, 3, 20]
    for batch in batches:
        for members, scores in zip(batch, ridge.held_out_groups(0.1, batch)):
            held_out = np.isin(np.arange(60), members)
            truth = refitted(features, labels, 4, penalty, held_out)
            np.testing.assert_allclose(scores, truth, atol=2e-5)


def test_kernel_features_are_uncorrelated_and_their_products_the_kernel():
    """In float32, with all rows as landmarks: exact but for directions that hardly vary."""
    rows, _ = blobs(200)
    directed = np.ones(200, bool)
    with ThreadPoolExecutor(1) as pool:
        keys = content_keys(rows, 51, pool)
        near, whitening = _probe_features.landmark_kernel(rows, directed, keys, pool)
        order = np.random.default_rng(0).permutation(200)
        features = _probe_features.uncorrelated(near, order, 150, whitening, pool).float().numpy()
    known = features[:150]
    np.testing.assert_allclose(known.mean(axis=0), 0, atol=1e-3)
    scatter = known.T @ known
    assert np.abs(scatter - np.diag(np.diag(scatter))).max() < 0.01 * np.diag(scatter).max()
    centered = rows[order] - rows.mean(axis=0)
    centered /= np.linalg.norm(centered, axis=1, keepdims=True)
    kernel = np.exp((centered @ centered.T - 1) / _probe_features.KERNEL_WIDTH)
    around = kernel - kernel[:150].mean(axis=0)
    around -= around[:, :150].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(features @ features.T, around, atol=0.01)


def test_votes_are_those_of_other_groups():
    rows, labels = blobs(120)
    rng = np.random.default_rng(1)
    labels[rng.choice(120, 20, replace=False)] = -1
    groups = rng.integers(-1, 12, 120)
    weights = rng.uniform(0.1, 1, 120).astype(np.float32)
    graph = neighbor_graph(rows, 10)
    votes = np.zeros((120, 5), np.float32)
    asked = rng.permutation(120)
    Voters.from_graph(graph, labels, groups).add_votes(votes, 1.0, weights, asked)
    votes[asked] = votes.copy()
    for row in range(120):
        counts = np.full(5, _probe_votes.VOTE_PRIOR / 5)
        for neighbor, distance in zip(graph.indices[row], graph.distances[row]):
            same = groups[neighbor] == groups[row] >= 0
            if labels[neighbor] >= 0 and not same:
                decay = np.exp(-distance / _probe_votes.VOTE_DISTANCE)
                counts[labels[neighbor]] += decay * weights[neighbor]
        np.testing.assert_allclose(votes[row], counts / counts.sum(), rtol=1e-4, atol=1e-6)


def test_folds_keep_groups_and_equal_rows_together():
    rows, labels = blobs(200)
    rows[50] = rows[120]
    groups = np.full(200, -1)
    groups[:40] = np.arange(40) // 8
    with ThreadPoolExecutor(1) as pool:
        keys = content_keys(rows, 51, pool)
    fold = _probe_features.fold_numbers(labels, groups, keys, 5)
    assert all(len(set(fold[groups == group])) == 1 for group in range(5))
    assert fold[50] == fold[120]
    assert np.bincount(fold[groups < 0]).min() > 20


def test_predictions_are_right_and_calibrated():
    """Of the rows that are said to be of a class with probability p, about p are."""
    rows, truth = blobs(3000, 16, 4, spread=2.0)
    evidence = evidence_of(rows, truth, 4)
    assert_probabilities(evidence, 3000, 4)
    said = evidence.probabilities.max(axis=1)
    right = evidence.probabilities.argmax(axis=1) == truth
    assert right.mean() > 0.68
    for low in (0.4, 0.6, 0.8):
        within = (said > low) & (said <= low + 0.2)
        assert within.sum() > 100
        assert abs(said[within].mean() - right[within].mean()) < 0.1


def test_own_label_plays_no_part():
    """A wrong label is no likelier for having been given."""
    rows, labels = blobs(400, spread=0.3)
    wrong = labels.copy()
    wrong[:20] = (labels[:20] + 1) % 5
    evidence = evidence_of(rows, wrong, 5)
    assert (evidence.probabilities.argmax(axis=1)[:20] == labels[:20]).all()
    assert evidence.probabilities[np.arange(20), wrong[:20]].max() < 0.2


def test_copies_with_the_same_wrong_label_are_found_by_holding_their_group_out():
    rows, labels = blobs(300, spread=0.3)
    wrong = labels.copy()
    wrong[:15] = (labels[:15] + 1) % 5
    copied = np.r_[np.arange(300), np.repeat(np.arange(15), 12)]
    groups = np.where(copied < 15, copied, -1)
    rows, wrong, labels = rows[copied], wrong[copied], labels[copied]
    of = np.flatnonzero(groups >= 0)
    apart = evidence_of(rows, wrong, 5, groups).probabilities
    together = evidence_of(rows, wrong, 5).votes
    assert (apart[of].argmax(axis=1) == labels[of]).mean() > 0.95
    assert (together[of].argmax(axis=1) == wrong[of]).all()


def test_order_of_rows_does_not_matter():
    rows, labels = blobs(700, spread=1.5)
    groups = np.full(700, -1)
    groups[:60] = np.arange(60) // 3
    order = np.random.default_rng(2).permutation(700)
    plain = evidence_of(rows, labels, 5, groups)
    shuffled = evidence_of(rows[order], labels[order], 5, groups[order])
    np.testing.assert_allclose(shuffled.probabilities, plain.probabilities[order], atol=1e-3)


def test_same_seed_same_result():
    rows, labels = blobs(300)
    first, second = (evidence_of(rows, labels, 5).probabilities for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_unlabeled_rows_are_predicted_and_teach_nothing():
    rows, labels = blobs(400, spread=0.4)
    some = labels.copy()
    some[::3] = -1
    evidence = evidence_of(rows, some, 5)
    assert_probabilities(evidence, 400, 5)
    assert (evidence.probabilities.argmax(axis=1)[::3] == labels[::3]).mean() > 0.98


@pytest.mark.parametrize(
    ("labels", "num_classes"),
    [
        pytest.param([0] * 40, 1, id="one class"),
        pytest.param([2] * 40, 4, id="one class of several"),
        pytest.param(list(range(40)), 40, id="one member each"),
        pytest.param([i // 2 for i in range(40)], 20, id="two members each"),
        pytest.param([0] * 39 + [1], 2, id="one among many"),
        pytest.param([0, 1] + [-1] * 38, 2, id="two labeled"),
        pytest.param([-1] * 39 + [0], 3, id="one labeled"),
    ],
)
def test_few_members(labels, num_classes):
    rows, _ = blobs(40, 64)
    evidence = evidence_of(rows, np.array(labels), num_classes)
    assert_probabilities(evidence, 40, num_classes)


def test_a_class_within_one_group_cannot_be_learned_without_it():
    rows, labels = blobs(200, spread=0.2)
    groups = np.where(labels == 3, 0, -1)
    evidence = evidence_of(rows, labels, 5, groups)
    assert_probabilities(evidence, 200, 5)
    assert evidence.probabilities[labels == 3, 3].max() < 0.1
    others = labels != 3
    assert (evidence.probabilities.argmax(axis=1) == labels)[others].mean() > 0.98


def test_all_rows_in_one_group():
    rows, labels = blobs(30)
    evidence = evidence_of(rows, labels, 5, np.zeros(30, int))
    assert_probabilities(evidence, 30, 5)
    np.testing.assert_allclose(evidence.votes, 0.2)


def test_zero_rows_get_the_shares_of_the_classes():
    rows, labels = blobs(200, spread=0.3)
    labels[:120] = 0
    rows[[5, 6, 7]] = 0
    evidence = evidence_of(rows, labels, 5)
    assert_probabilities(evidence, 200, 5)
    assert (evidence.probe[[5, 6, 7]].argmax(axis=1) == 0).all()


def test_equal_rows_only():
    rows = np.tile(unit_rows(np.ones((1, 8))).rows, (20, 1))
    evidence = evidence_of(rows, np.arange(20) % 2, 2)
    assert_probabilities(evidence, 20, 2)


@pytest.mark.parametrize("num_rows", [1, 2, 3])
def test_fewer_rows_than_folds(num_rows):
    rows, _ = blobs(num_rows)
    evidence = evidence_of(rows, np.zeros(num_rows, int), 2)
    assert_probabilities(evidence, num_rows, 2)


def test_a_thousand_classes():
    rows, labels = blobs(3000, 64, 1000, spread=0.1)
    evidence = evidence_of(rows, labels, 1000)
    assert_probabilities(evidence, 3000, 1000)
    several = np.bincount(labels, minlength=1000)[labels] > 2
    assert (evidence.probabilities.argmax(axis=1) == labels)[several].mean() > 0.9


def test_rare_classes_are_recognized():
    rows, labels = blobs(2000, 24, 5, spread=0.3)
    rare = np.flatnonzero(labels == 4)[:8]
    kept = np.sort(np.r_[np.flatnonzero(labels != 4), rare])
    evidence = evidence_of(rows[kept], labels[kept], 5)
    found = evidence.probabilities.argmax(axis=1)
    assert (found == labels[kept])[labels[kept] == 4].mean() > 0.7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.full(30, -1)}, "No embedding has a label"),
        ({"labels": np.full(30, 5)}, "between -1 and 4"),
        ({"labels": np.zeros(29, int)}, "labels must be 30 integers"),
        ({"labels": np.zeros(30)}, "labels must be 30 integers"),
        ({"groups": np.zeros(3, int)}, "groups must be 30 integers"),
    ],
)
def test_arguments_are_checked(change, message):
    rows, labels = blobs(30)
    arguments = {"labels": labels, "groups": None} | change
    with pytest.raises(ValueError, match=message):
        evidence_of(rows, arguments["labels"], 5, arguments["groups"])


def test_progress_ends_at_one():
    seen = []
    rows, labels = blobs(50)
    evidence_of(rows, labels, 5, progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == 1.0


def test_importing_the_module_is_light():
    heavy = "{'torch', 'numba', 'sklearn', 'scipy', 'cleanlab', 'pandas'}"
    code = (
        "import sys, fiftyone_embedding_quality.analysis.label_issues; "
        f"sys.exit(len({heavy} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
