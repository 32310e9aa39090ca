"""The choice of rows against what it promises: classes found early, coverage, prefixes, balance."""

import numpy as np
import pytest
from fiftyone_embedding_quality.analysis._greedy_cover import greedy_cover, update_nearest
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.analysis.selection import _turns, select_rows
from fiftyone_embedding_quality.analysis.vectors import unit_rows
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import NearestCentroid


@pytest.fixture(scope="module")
def handwriting():
    digits = load_digits()
    rows = unit_rows(digits.data).rows
    return rows, digits.target, neighbor_graph(rows)


def blobs(sizes, seed=0, dim=24, spread=0.25):
    """Clusters of the given sizes: unit rows, and the cluster of each."""
    rng = np.random.default_rng(seed)
    centers = np.linalg.qr(rng.normal(size=(dim, dim)))[0][: len(sizes)]
    of = np.repeat(np.arange(len(sizes)), sizes)
    rows = centers[of] + spread * rng.normal(size=(len(of), dim)) / np.sqrt(dim)
    return unit_rows(rows).rows, of


def accuracy(rows, labels, chosen):
    rest = np.setdiff1d(np.arange(len(rows)), chosen)
    model = NearestCentroid().fit(rows[chosen], labels[chosen])
    return balanced_accuracy_score(labels[rest], model.predict(rows[rest]))


@pytest.mark.parametrize("count, gain", [(10, 0.1), (20, 0.1), (50, 0.03)])
def test_few_chosen_ones_teach_more_than_random_ones(handwriting, count, gain):
    rows, labels, graph = handwriting
    order = select_rows(rows, graph, 50).order[:count]
    draws = [np.random.default_rng(seed).permutation(len(rows))[:count] for seed in range(10)]
    by_chance = np.mean([accuracy(rows, labels, draw) for draw in draws])
    assert accuracy(rows, labels, order) > by_chance + gain


def test_every_cluster_is_found_before_any_is_looked_at_twice():
    rows, of = blobs([400, 200, 100, 50, 30, 20, 15, 15])
    order = select_rows(rows, neighbor_graph(rows), 40).order
    assert set(of[order[:8]]) == set(range(8))


def test_outliers_wait_but_are_covered_by_the_diverse():
    rows, _ = blobs([200, 200, 200])
    lone = np.random.default_rng(1).normal(size=(6, rows.shape[1]))
    rows = unit_rows(np.concatenate([rows, lone])).rows
    graph = neighbor_graph(rows)
    assert select_rows(rows, graph, 3).order.max() < 600
    diverse = select_rows(rows, graph, 9, diverse=True)
    assert set(range(600, 606)) <= set(diverse.order)


def test_a_longer_choice_begins_with_the_shorter_one(handwriting):
    rows, _, graph = handwriting
    long = select_rows(rows, graph, 60).order
    assert np.array_equal(select_rows(rows, graph, 25).order, long[:25])
    assert len(set(long)) == 60


def test_the_shortlist_changes_nothing(monkeypatch):
    """Against the plain greedy choice, on rows of which most are not in the shortlist."""
    from fiftyone_embedding_quality.analysis import _greedy_cover

    rng = np.random.default_rng(3)
    rows = unit_rows(rng.normal(size=(900, 12))).rows
    weights = rng.random(900)
    monkeypatch.setattr(_greedy_cover, "SHORTLIST", 40)
    found = greedy_cover(rows, weights, np.ones(900, np.float32), 120)
    distances, expected = np.ones(900), []
    for _ in range(120):
        gains = weights * distances
        gains[expected] = -1
        expected.append(int(gains.argmax()))
        distances = np.minimum(distances, np.maximum(1 - rows @ rows[expected[-1]], 0))
    assert found.tolist() == expected


def test_the_nearest_chosen_row_is_that_of_brute_force():
    rng = np.random.default_rng(4)
    rows, chosen = (unit_rows(rng.normal(size=(size, 7))).rows for size in (500, 300))
    distances = np.ones(500, np.float32)
    update_nearest(distances, rows, chosen)
    assert distances == pytest.approx(np.minimum(1, (1 - rows @ chosen.T).min(axis=1)), abs=1e-6)


def test_what_is_there_already_is_not_chosen_and_covers():
    rows, of = blobs([100] * 6)
    graph, start = neighbor_graph(rows), of < 4
    found = select_rows(rows, graph, 2, start=start)
    assert set(of[found.order]) == {4, 5}
    assert (found.distance[start] < 1e-5).all()


def test_the_choice_around_given_rows_is_like_them():
    rows, of = blobs([100] * 6)
    around = np.flatnonzero(of == 2)[:3]
    given = np.isin(np.arange(600), around)
    order = select_rows(rows, neighbor_graph(rows), 20, around=given).order
    assert set(of[order]) == {2} and not set(order) & set(around)


def test_weights_say_what_is_worth_it():
    rows, of = blobs([150] * 4)
    order = select_rows(rows, neighbor_graph(rows), 10, weights=(of == 3).astype(float)).order
    assert set(of[order]) == {3}


def test_one_of_each_duplicate_group_and_copies_make_nothing_typical():
    rows, of = blobs([60] * 4)
    copies = np.repeat(rows[[5]], 80, axis=0)
    rows = np.concatenate([rows, copies])
    groups = np.full(len(rows), -1)
    groups[[5, *range(240, 320)]] = 7
    graph = neighbor_graph(rows)
    order = select_rows(rows, graph, 320, groups=groups).order
    assert (groups[order] == 7).sum() == 1 and len(order) == 240
    without = select_rows(rows[:240], neighbor_graph(rows[:240]), 6).order
    assert set(of[order[:4] % 240]) == set(of[without[:4]]) == set(range(4))
    start = np.zeros(len(rows), bool)
    start[300] = True
    assert not (groups[select_rows(rows, graph, 320, groups=groups, start=start).order] == 7).any()


def test_balance_holds_for_every_prefix_and_heeds_what_is_there():
    rows, of = blobs([300, 60, 12, 5])
    graph = neighbor_graph(rows)
    order = select_rows(rows, graph, 40, by=of).order
    for count in range(1, 41):
        counts = np.bincount(of[order[:count]], minlength=4)
        open_ = counts < [300, 60, 12, 5]
        assert counts[open_].max() - counts.min(where=open_, initial=99) <= 1
    start = np.zeros(len(rows), bool)
    start[:10] = True
    assert 0 not in of[select_rows(rows, graph, 20, by=of, start=start).order]


def test_turns_go_to_what_there_is_least_of():
    assert _turns(np.array([2, 0, 1]), np.array([5, 1, 5]), 6).tolist() == [1, 2, 0, 2, 0, 2]


def test_the_curve_tells_the_coverage(handwriting):
    rows, _, graph = handwriting
    found = select_rows(rows, graph, 70)
    assert [point.chosen for point in found.curve] == [1, 2, 5, 10, 20, 50, 70]
    for point in found.curve:
        nearest = (1 - rows @ rows[found.order[: point.chosen]].T).min(axis=1)
        assert point.mean_distance == pytest.approx(nearest.mean(), abs=1e-4)
        assert point.covered == pytest.approx((nearest <= found.radius).mean(), abs=2e-3)
    shares = [point.covered for point in found.curve]
    assert shares == sorted(shares)


def test_zero_rows_and_tiny_sets():
    rows = np.zeros((5, 3), np.float32)
    rows[:3] = np.eye(3)
    assert set(select_rows(rows, neighbor_graph(rows), 5).order) == {0, 1, 2}
    one = rows[:1]
    assert select_rows(one, neighbor_graph(one), 3).order.tolist() == [0]
    none = select_rows(rows[3:], neighbor_graph(rows[3:]), 2)
    assert len(none.order) == 0


def test_arrays_must_fit(handwriting):
    rows, _, graph = handwriting
    with pytest.raises(ValueError, match="at least 1"):
        select_rows(rows, graph, 0)
    with pytest.raises(ValueError, match="graph has"):
        select_rows(rows[:9], graph, 1)
    with pytest.raises(ValueError, match="3 values for"):
        select_rows(rows, graph, 1, groups=np.zeros(3, int))
