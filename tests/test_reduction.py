"""Reduction and erasure on arrays: against scikit-learn, brute force and planted structure."""

import tracemalloc

import numpy as np
import pytest
from fiftyone_embedding_quality.analysis.erasure import Erasure, erase_field, fit_erasure
from fiftyone_embedding_quality.analysis.neighbors import NeighborGraph, neighbor_graph
from fiftyone_embedding_quality.analysis.reduction import (
    Reducer,
    balanced_accuracy,
    fit_encoder,
    kept_neighbors,
)
from fiftyone_embedding_quality.analysis.vectors import unit_rows
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression


@pytest.fixture(scope="module")
def digits():
    return unit_rows(load_digits().data).rows


def _biased(count=600, length=32, values=2):
    """Rows of which each third direction is longer for some values, in cells unlike each other."""
    random = np.random.default_rng(3)
    value, cell = np.arange(count) % values, np.arange(count) // values % 3
    centers = random.normal(size=(3, length)) * 2
    shift = random.normal(size=(values, length)) * 0.9
    rows = centers[cell] + shift[value] + random.normal(size=(count, length)) * 0.7
    return unit_rows(rows).rows, value, cell


@pytest.mark.parametrize("num_dims", [4, 8])
def test_an_autoencoder_is_no_worse_than_components(digits, num_dims):
    linear = fit_encoder(digits, "pca", num_dims)
    deep = fit_encoder(digits, "autoencoder", num_dims)
    assert deep.explained > linear.explained + 0.05
    graph = neighbor_graph(digits)
    kept = [
        kept_neighbors(graph, neighbor_graph(one.encoder.apply(digits))) for one in (linear, deep)
    ]
    assert kept[1] > kept[0] + 0.02


def test_progress_reaches_the_end(digits):
    for method in ("pca", "autoencoder"):
        shares = []
        fit_encoder(digits[:300], method, 2, progress=shares.append)
        assert shares == sorted(shares) and shares[-1] == 1


@pytest.mark.parametrize("method", ["pca", "svd", "autoencoder"])
def test_a_reducer_is_its_arrays(digits, method):
    values = np.arange(len(digits)) % 3
    erasure = fit_erasure(digits, values)
    encoder = fit_encoder(erasure.apply(digits[:300]), method, 5).encoder
    reducer = Reducer(erasure, encoder)
    again = Reducer.from_arrays(reducer.arrays())
    assert np.array_equal(again.place(digits), reducer.place(digits))
    alone = np.concatenate([reducer.place(row[None]) for row in digits[:20]])
    assert np.allclose(alone, reducer.place(digits)[:20], atol=1e-6)
    assert not reducer.place(np.zeros((1, 64), np.float32)).any()
    assert Reducer.from_arrays(Reducer(erasure).arrays()).encoder is None


def test_kept_neighbors_of_known_graphs():
    def graph(indices):
        indices = np.array(indices, np.int32)
        return NeighborGraph(indices, np.zeros(indices.shape, np.float32), "exact", 1.0)

    before = graph([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
    after = graph([[2, 1, 3], [3, 0, 2], [3, 1, 0], [1, 2, 0]])
    assert kept_neighbors(before, before) == 1 == kept_neighbors(before, after)
    # Of the first two: 2 of 2, 1 of 2, 1 of 2, 1 of 2.
    assert kept_neighbors(before, after, k=2) == 5 / 8
    assert np.isnan(kept_neighbors(graph(np.zeros((1, 0))), graph(np.zeros((1, 0)))))


def test_rare_classes_count_as_much_as_others():
    probabilities = np.array([[0.9, 0.1]] * 9 + [[0.8, 0.2], [0.6, 0.4]])
    assert balanced_accuracy(probabilities, np.array([0] * 9 + [1, -1])) == 0.5


@pytest.mark.parametrize("cells", [1, 4])
@pytest.mark.parametrize("values", [2, 4])
def test_no_linear_classifier_reads_what_was_taken_out(values, cells):
    rows, value, _ = _biased(values=values)
    erasure = fit_erasure(rows, value, cells)
    after = erasure.apply(rows)
    means = np.stack([after[value == one].mean(axis=0) for one in range(values)])
    assert np.abs(means - means[0]).max() < 1e-6
    model = LogisticRegression(C=100, max_iter=2000)
    assert model.fit(rows, value).score(rows, value) > 0.9
    assert model.fit(after, value).score(after, value) <= 1 / values + 0.01
    # It is a projection: once more changes nothing.
    assert np.allclose(erasure.apply(after), after, atol=1e-5)
    assert len(erasure.read) <= (cells + (cells > 1)) * (values - 1)


def test_it_moves_rows_least():
    """Less than taking out the difference of the means at a right angle, in whitened distance."""
    rows, value, _ = _biased()
    difference = rows[value == 1].mean(axis=0) - rows[value == 0].mean(axis=0)
    unit = (difference / np.linalg.norm(difference)).astype(np.float32)
    plain = Erasure(rows.mean(axis=0), unit[None], unit[:, None])
    moved = [np.square(rows - one.apply(rows)).sum() for one in (fit_erasure(rows, value), plain)]
    assert moved[0] < 1.2 * moved[1]
    inverse = np.linalg.inv(np.cov(rows.T) + 1e-3 * np.eye(32))
    whitened = [
        np.einsum("ij,jk,ik->", delta, inverse, delta)
        for delta in (rows - one.apply(rows) for one in (fit_erasure(rows, value), plain))
    ]
    assert whitened[0] < whitened[1]


def test_new_rows_are_measured_honestly():
    """The figure is of rows that were not learned from: neither above nor below guessing."""
    rows, value, _ = _biased()
    found = erase_field(rows, value)
    assert found.before.balanced_accuracy > 0.95 and found.rows == len(rows)
    assert 0.45 <= found.after.balanced_accuracy <= 0.55
    assert found.after.low <= 0.5 <= found.after.high
    again = erase_field(rows, value)
    assert np.array_equal(again.erasure.read, found.erasure.read)


def test_rows_without_a_value_teach_nothing():
    rows, value, _ = _biased()
    some = np.where(np.arange(len(rows)) % 5 == 0, -1, value)
    rest = some >= 0
    one, other = fit_erasure(rows, some), fit_erasure(rows[rest], value[rest])
    assert np.allclose(one.apply(rows), other.apply(rows), atol=1e-6)


@pytest.mark.parametrize(
    "call",
    [
        lambda rows: fit_erasure(rows, np.zeros(len(rows), int)),
        lambda rows: fit_erasure(rows, np.full(len(rows), -1)),
        lambda rows: fit_erasure(rows, np.zeros(3, int)),
        lambda rows: erase_field(rows, np.zeros(len(rows), int)),
        lambda rows: fit_encoder(rows, "pca", 65),
        lambda rows: fit_encoder(rows[:5], "svd", 5),
        lambda rows: fit_encoder(rows, "lda", 2),
    ],
)
def test_refusals(digits, call):
    with pytest.raises(ValueError):
        call(digits)


def test_memory_grows_with_the_rows_alone():
    """Nothing of 30,000 x 30,000: that would be 900 MB of single bytes."""
    random = np.random.default_rng(1)
    rows = unit_rows(random.normal(size=(30_000, 48)).astype(np.float32)).rows
    neighbors = random.integers(0, len(rows), (len(rows), 30)).astype(np.int32)
    graph = NeighborGraph(neighbors, np.zeros_like(neighbors, np.float32), "exact", 1.0)
    tracemalloc.start()
    try:
        erasure = fit_erasure(rows, np.arange(len(rows)) % 4, cells=4)
        for method in ("pca", "svd"):
            Reducer(erasure, fit_encoder(rows, method, 8).encoder).place(rows)
        kept_neighbors(graph, graph)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100e6
