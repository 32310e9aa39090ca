"""What is new in one set against another, and whether they differ, on sets whose truth is known."""

import numpy as np
import pytest
from fiftyone_embedding_quality.analysis.novelty import find_new, measure_drift
from sklearn.datasets import load_digits


@pytest.fixture(scope="module")
def digits():
    found = load_digits()
    return found.data.astype("f4"), found.target


def halves(number, seed):
    order = np.random.default_rng(seed).permutation(number)
    return order[: number // 2], order[number // 2 :]


def test_two_halves_of_a_set_do_not_differ(digits):
    vectors, _ = digits
    alarms, new = 0, 0
    for seed in range(12):
        one, other = halves(900, seed)
        drift = measure_drift(vectors[one], vectors[other], seed=seed)
        assert drift.low < drift.auc < drift.high and abs(drift.auc - 0.5) < 0.08
        alarms += drift.differ
        new += find_new(vectors[one], vectors[other]).new.any()
    # 5 % may be alarms: of 12, more than 2 are so in 2 % of cases.
    assert alarms <= 2 and new <= 2


@pytest.mark.parametrize("absent", [0, 4, 6])
def test_a_class_that_the_other_set_lacks_is_new(digits, absent):
    vectors, truth = digits
    one, other = halves(len(truth), absent)
    other = other[truth[other] != absent]
    drift = measure_drift(vectors[one], vectors[other])
    assert drift.differ and drift.p_value <= 0.025 and drift.auc > 0.5
    found = find_new(vectors[one], vectors[other])
    new = found.new | drift.only_in(True, len(one))
    of_class = truth[one] == absent
    assert new[of_class].mean() > 0.8 and new[~of_class].mean() < 0.03
    assert found.score[of_class].mean() > found.score[~of_class].mean() + 0.2
    # Seen from the other side it is missing, and nothing of the other side is new.
    back = measure_drift(vectors[other], vectors[one])
    assert back.only_in(False, len(other))[of_class].mean() > 0.8
    assert back.only_in(True, len(other)).mean() < 0.03


def test_five_percent_of_another_kind_are_found(digits):
    vectors, truth = digits
    one, other = halves(len(truth), 1)
    known = np.flatnonzero(truth[other] != 7)
    mine = np.concatenate([one[truth[one] != 7], one[truth[one] == 7][:42]])
    drift = measure_drift(vectors[mine], vectors[other[known]])
    assert drift.differ


def test_far_rows_are_new_one_by_one():
    random = np.random.default_rng(0)
    old = random.normal(size=(400, 16)) + 4 * np.eye(16)[0]
    strange = np.concatenate([old[:20] + 0.01, random.normal(size=(6, 16)) - 8 * np.eye(16)[0]])
    found = find_new(strange, old)
    assert found.new.tolist() == [False] * 20 + [True] * 6
    assert (found.nearest[:20, 0] == np.arange(20)).all() and (found.score[-6:] == 1).all()
    with pytest.raises(ValueError, match="at least two"):
        find_new(strange, old[:1])


@pytest.mark.parametrize("sizes", [(2, 2), (3, 40), (40, 3)])
def test_tiny_sets(sizes):
    random = np.random.default_rng(3)
    one, other = (random.normal(size=(size, 8)) for size in sizes)
    assert not find_new(one, other).new.any()
    assert not measure_drift(one, other).differ
