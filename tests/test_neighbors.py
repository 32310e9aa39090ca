"""The neighbor graph is exact: compared with brute force in float64, on hostile input as well."""

import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from fiftyone_embedding_quality.analysis import (
    _cell_search,
    _exact_search,
    _exact_search_torch,
    neighbors,
)
from fiftyone_embedding_quality.analysis.neighbors import nearest_rows, neighbor_graph
from fiftyone_embedding_quality.analysis.vectors import unit_rows

MODULE = "fiftyone_embedding_quality.analysis.neighbors"


def cosine_distances(queries, rows):
    """Cosine distances in float64; 1 to and from zero vectors."""
    units = []
    for vectors in (queries, rows):
        vectors = np.asarray(vectors, np.float64)
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        units.append(vectors / np.where(length > 0, length, 1))
    return 1 - units[0] @ units[1].T


def assert_exact(graph, vectors, k):
    """No row that is left out is nearer than one that is listed, up to float32 rounding."""
    truth = cosine_distances(vectors, vectors)
    np.fill_diagonal(truth, np.inf)
    num_rows = len(vectors)
    assert graph.indices.shape == graph.distances.shape == (num_rows, k)
    assert graph.indices.dtype == np.int32 and graph.distances.dtype == np.float32
    assert graph.method == "exact" and graph.recall == 1.0
    assert (graph.indices != np.arange(num_rows)[:, None]).all()
    assert (np.diff(np.sort(graph.indices, axis=1), axis=1) > 0).all()
    assert (np.diff(graph.distances, axis=1) >= 0).all()
    assert graph.distances.min() >= 0 and graph.distances.max() <= 2
    listed = np.take_along_axis(truth, graph.indices.astype(int), axis=1)
    nearest = np.sort(truth, axis=1)[:, :k]
    np.testing.assert_allclose(listed, nearest, rtol=2e-5, atol=3e-7)
    np.testing.assert_allclose(graph.distances, listed, rtol=2e-5, atol=3e-7)


def clustered(rng, num_rows, dim, spread, clusters=30):
    centers = rng.standard_normal((clusters, dim))
    return centers[rng.integers(0, clusters, num_rows)] + spread * rng.standard_normal(
        (num_rows, dim)
    )


@pytest.fixture(params=["float32", "int8", "torch"])
def path(request, monkeypatch):
    """Every product that exact search can use; the torch path, meant for a GPU, runs on the CPU."""
    if request.param == "torch":
        monkeypatch.setattr(_exact_search, "product_path", lambda *_: "cuda")
        return "cpu"
    monkeypatch.setattr(_exact_search, "product_path", lambda *_: request.param)
    return None


HOSTILE = {
    "clustered": lambda rng: clustered(rng, 1500, 96, 0.3),
    "noise": lambda rng: rng.standard_normal((1200, 512)),
    "two dimensions": lambda rng: rng.standard_normal((1100, 2)),
    "4,096 dimensions": lambda rng: rng.standard_normal((300, 4096)),
    # One dimension carries nearly all of the length and says nothing.
    "outlying dimension": lambda rng: np.c_[
        1000 * rng.choice([-1, 1], 1200), clustered(rng, 1200, 127, 0.5)
    ],
    # 50 rows per cluster at distances around 1e-5 and 1e-9, far below 8-bit rounding.
    "tight clusters": lambda rng: clustered(rng, 1500, 128, 3e-3),
    "tighter clusters": lambda rng: clustered(rng, 1500, 128, 3e-5),
    "one cone": lambda rng: rng.standard_normal(128) * 30 + rng.standard_normal((1100, 128)),
    "duplicated rows": lambda rng: np.repeat(rng.standard_normal((25, 128)), 50, axis=0),
    "sparse rows": lambda rng: (
        np.eye(128)[rng.integers(0, 128, 1100)] + 0.1 * np.eye(128)[rng.integers(0, 128, 1100)]
    ),
    "opposite rows": lambda rng: np.outer(rng.choice([-1, 1], 1100), rng.standard_normal(64)),
    "zero rows": lambda rng: clustered(rng, 1100, 64, 0.3) * (rng.random((1100, 1)) > 0.1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_exact_whatever_the_product_and_the_vectors(name, path):
    vectors = HOSTILE[name](np.random.default_rng(5)).astype(np.float32)
    assert_exact(neighbor_graph(vectors, k=20, method="exact", device=path), vectors, 20)


def test_products_of_this_machine_agree_with_brute_force():
    """Enough rows that the search picks its product itself and uses several threads."""
    vectors = clustered(np.random.default_rng(3), 5000, 128, 0.5).astype(np.float32)
    assert_exact(neighbor_graph(vectors, k=15), vectors, 15)


def test_8_bit_products_prove_what_they_can():
    """Loose clusters are proved nearly everywhere, clusters within the rounding nowhere."""
    rng = np.random.default_rng(0)
    own = np.arange(_exact_search.QUERY_TILE, dtype=np.int32)
    for spread, low, high in ((1.0, 0.9, 1.0), (1e-3, 0.0, 0.0)):
        units = unit_rows(clustered(rng, len(own), 256, spread, clusters=5))
        with ThreadPoolExecutor(1) as pool:
            search = _exact_search.Int8Search(units, 10, pool)
        *_, proved = search(units.rows, own)
        assert low <= proved.mean() <= high


def test_equal_distances_come_in_the_order_of_rows(path):
    vectors = np.tile(np.random.default_rng(0).standard_normal((1, 64)), (200, 1))
    graph = neighbor_graph(vectors, k=3, method="exact", device=path)
    assert (graph.distances == 0).all()
    np.testing.assert_array_equal(
        graph.indices[:5], [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2]]
    )


def test_zero_vectors_are_at_distance_one_from_everything(path):
    vectors = np.array([[0, 0], [1, 0], [-1, 0], [1, 1], [0, 0]], float)
    graph = neighbor_graph(vectors, k=4, method="exact", device=path)
    np.testing.assert_array_equal(graph.indices[0], [1, 2, 3, 4])
    np.testing.assert_array_equal(graph.indices[4], [0, 1, 2, 3])
    assert (graph.distances[[0, 4]] == 1).all()
    np.testing.assert_array_equal(graph.indices[1], [3, 0, 4, 2])
    np.testing.assert_allclose(graph.distances[1], [1 - np.sqrt(0.5), 1, 1, 2], atol=1e-6)


def test_order_of_rows_does_not_matter(path):
    rng = np.random.default_rng(1)
    vectors = clustered(rng, 1300, 100, 0.4)
    order = rng.permutation(1300)
    graph = neighbor_graph(vectors, k=9, method="exact", device=path)
    shuffled = neighbor_graph(vectors[order], k=9, method="exact", device=path)
    np.testing.assert_array_equal(order[shuffled.indices], graph.indices[order])
    np.testing.assert_allclose(shuffled.distances, graph.distances[order], atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
def test_length_of_vectors_does_not_matter(scale):
    vectors = clustered(np.random.default_rng(2), 400, 32, 0.4)
    lengths = scale * np.random.default_rng(3).uniform(0.5, 2, (400, 1))
    graph = neighbor_graph(vectors, k=7)
    scaled = neighbor_graph((vectors * lengths).astype(np.float32), k=7)
    np.testing.assert_array_equal(scaled.indices, graph.indices)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int16, ">f4"])
def test_number_types(dtype):
    vectors = (10 * clustered(np.random.default_rng(2), 300, 24, 0.4)).astype(dtype)
    assert_exact(neighbor_graph(vectors, k=5), vectors.astype(np.float64), 5)


def test_very_large_float64():
    vectors = 1e200 * np.random.default_rng(2).standard_normal((50, 8))
    assert_exact(neighbor_graph(vectors, k=5), vectors / 1e200, 5)


def test_arrays_that_are_not_contiguous():
    whole = np.random.default_rng(2).standard_normal((300, 40))
    for vectors in (whole[::2, 1::2], np.asfortranarray(whole), whole.T):
        assert_exact(neighbor_graph(vectors, k=5), vectors, 5)


@pytest.mark.parametrize("num_rows", [0, 1, 2, 5])
def test_fewer_rows_than_neighbors(num_rows, path):
    vectors = np.random.default_rng(0).standard_normal((num_rows, 6))
    graph = neighbor_graph(vectors, k=10, device=path)
    assert graph.indices.shape == graph.distances.shape == (num_rows, max(num_rows - 1, 0))
    if num_rows > 1:
        assert_exact(graph, vectors, num_rows - 1)


def test_broken_rows_are_named():
    vectors = np.ones((9, 3))
    vectors[4, 1], vectors[7, 2] = np.nan, -np.inf
    with pytest.raises(ValueError, match=r"2 of 9 embeddings hold NaN .* row 4"):
        neighbor_graph(vectors)


@pytest.mark.parametrize(
    ("vectors", "arguments", "message"),
    [
        (np.ones(3), {}, "shape"),
        (np.ones((3, 0)), {}, "at least one dimension"),
        (np.array([["a", "b"]]), {}, "numbers"),
        (np.ones((3, 2)), {"k": 0}, "k must be at least 1"),
        (np.ones((3, 2)), {"method": "fast"}, "method must be"),
        (np.eye(9), {"method": "pynndescent"}, "too few for approximate search"),
    ],
)
def test_arguments_are_checked(vectors, arguments, message):
    with pytest.raises(ValueError, match=message):
        neighbor_graph(vectors, **arguments)


def test_nearest_rows_of_new_vectors():
    rng = np.random.default_rng(4)
    rows, queries = clustered(rng, 900, 48, 0.5), clustered(rng, 70, 48, 0.5)
    graph = nearest_rows(queries, rows, k=6)
    truth = cosine_distances(queries, rows)
    np.testing.assert_array_equal(graph.indices, np.argsort(truth, axis=1)[:, :6])
    assert nearest_rows(rows[:3], rows, k=1).indices.ravel().tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="same model"):
        nearest_rows(queries[:, :5], rows, k=6)


@pytest.mark.battery  # pynndescent is compiled for a minute
def test_approximate_search_measures_its_own_recall(monkeypatch):
    vectors = clustered(np.random.default_rng(4), 3000, 48, 0.6)
    vectors[[5, 2000]] = 0
    exact = neighbor_graph(vectors, k=10, method="exact")
    graph = neighbor_graph(vectors, k=10, method="pynndescent")
    assert graph.method == "pynndescent"
    found = np.mean([len(np.intersect1d(*pair)) for pair in zip(graph.indices, exact.indices)]) / 10
    assert found > 0.95
    assert graph.recall == pytest.approx(found, abs=0.01)
    assert (graph.distances[[5, 2000]] == 1).all()
    # It takes over where cells of space are no help.
    for path in ("int8", "float32", "cuda"):
        monkeypatch.setitem(neighbors.MAX_EXACT_PRODUCTS, path, 1)
    monkeypatch.setattr(f"{MODULE}.MAX_PROJECTED_PRODUCTS", 1)
    monkeypatch.setattr(f"{MODULE}.neighbors_in_cells", lambda *_: None)
    again = neighbor_graph(vectors, k=10)
    assert again.method == "pynndescent"
    np.testing.assert_array_equal(again.indices, graph.indices)


@pytest.mark.parametrize(("method", "least"), [("projected", 0.99), ("cells", 0.97)])
def test_search_through_a_projection_measures_its_own_recall(method, least):
    rng = np.random.default_rng(4)
    vectors = clustered(rng, 3000, 60, 0.6) @ rng.standard_normal((60, 300))
    vectors += 0.5 * rng.standard_normal((3000, 300))
    vectors[[5, 2000]] = 0
    vectors[7] = -vectors[8]
    exact = neighbor_graph(vectors, k=10, method="exact")
    graph = neighbor_graph(vectors, k=10, method=method)
    assert graph.method == method
    found = np.mean([len(np.intersect1d(*pair)) for pair in zip(graph.indices, exact.indices)]) / 10
    assert found >= least
    assert graph.recall == pytest.approx(found, abs=0.01)
    assert (graph.distances[[5, 2000]] == 1).all()
    assert (graph.indices != np.arange(3000)[:, None]).all()
    assert (np.diff(np.sort(graph.indices, axis=1), axis=1) > 0).all()
    same = graph.indices == exact.indices
    np.testing.assert_array_equal(graph.distances[same], exact.distances[same])


def test_rows_of_which_no_few_directions_tell_are_searched_exactly():
    vectors = np.random.default_rng(0).standard_normal((2500, 140))
    assert_exact(neighbor_graph(vectors, k=6, method="projected"), vectors, 6)


def test_cells_are_searched_for_all_that_is_asked(monkeypatch):
    """Cells of a few rows, of which two each hold fewer neighbors than are asked for."""
    monkeypatch.setattr(_cell_search, "CELLS_PER_ROOT", 8)
    monkeypatch.setattr(_cell_search, "EFFORTS", ((20, 2),))
    monkeypatch.setattr(_cell_search, "LEAST_RECALL", 0)
    vectors = np.random.default_rng(3).standard_normal((900, 20))
    graph = neighbor_graph(vectors, k=12, method="cells")
    assert graph.method == "cells" and 0 < graph.recall < 1
    assert (graph.indices != np.arange(900)[:, None]).all()
    assert (np.diff(np.sort(graph.indices, axis=1), axis=1) > 0).all()
    truth = np.take_along_axis(cosine_distances(vectors, vectors), graph.indices.astype(int), 1)
    np.testing.assert_allclose(graph.distances, truth, atol=1e-6)


@pytest.mark.parametrize("method", ["exact", "projected", "cells"])
def test_the_order_of_rows_does_not_matter_at_all(method):
    rng = np.random.default_rng(6)
    vectors = clustered(rng, 2500, 40, 0.5) @ rng.standard_normal((40, 200))
    vectors = vectors.astype(np.float32)
    order = rng.permutation(len(vectors))
    graph = neighbor_graph(vectors, k=12, method=method)
    other = neighbor_graph(vectors[order], k=12, method=method)
    assert graph.method == other.method == method
    np.testing.assert_array_equal(other.distances, graph.distances[order])
    np.testing.assert_array_equal(order[other.indices], graph.indices[order])


@pytest.mark.slow
def test_automatic_choice_follows_the_size(monkeypatch):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((300, 20)) @ rng.standard_normal((20, 150))
    assert neighbor_graph(vectors, k=5).method == "exact"
    monkeypatch.setattr(f"{MODULE}.MAX_EXACT_PRODUCTS", {"float32": 100})
    assert neighbor_graph(vectors, k=5).method == "projected"
    monkeypatch.setattr(f"{MODULE}.MAX_PROJECTED_PRODUCTS", 1000)
    assert neighbor_graph(vectors, k=5).method == "cells"


@pytest.mark.parametrize(("num_rows", "calls"), [(100, 1), (1500, 3)])
def test_progress_ends_at_one(num_rows, calls):
    seen = []
    vectors = np.random.default_rng(0).standard_normal((num_rows, 8))
    neighbor_graph(vectors, k=5, progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == 1.0 and len(seen) == calls


def test_torch_keeps_its_number_of_threads():
    import torch

    before = torch.get_num_threads()
    neighbor_graph(np.random.default_rng(0).standard_normal((5000, 64)), k=5)
    assert torch.get_num_threads() == before


def test_importing_the_module_is_light():
    heavy = "{'torch', 'numba', 'pynndescent', 'umap', 'sklearn', 'scipy', 'openTSNE'}"
    code = (
        "import sys, fiftyone_embedding_quality.analysis.neighbors; "
        f"sys.exit(len({heavy} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# On a device that is full or unsupported

VECTORS = np.random.default_rng(7).standard_normal((700, 48)).astype(np.float32)


def _searches() -> dict:
    return {
        "graph": lambda device: neighbor_graph(VECTORS, k=9, device=device),
        "approximate": lambda device: neighbor_graph(
            VECTORS, k=9, method="pynndescent", device=device
        ),
        "nearest": lambda device: nearest_rows(VECTORS[:50], VECTORS, k=9, device=device),
    }


@pytest.mark.parametrize(
    "name", ["graph", pytest.param("approximate", marks=pytest.mark.battery), "nearest"]
)
@pytest.mark.parametrize("when", ["at once", "in the midst"])
def test_neighbors_are_searched_on_the_cpu_instead(name, when, monkeypatch, caplog):
    search = _searches()[name]
    expected = search("cpu")
    if when == "in the midst":
        chosen = _exact_search.product_path
        path = lambda *args: chosen(*args) if args[-1] == "cpu" else "cuda"  # noqa: E731
        monkeypatch.setattr(_exact_search, "product_path", path)
        monkeypatch.setattr(_exact_search_torch.TorchSearch, "__init__", lambda *_: None)

        def full(*_):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

        monkeypatch.setattr(_exact_search_torch.TorchSearch, "__call__", full)
    elif torch.cuda.is_available():
        pytest.skip("needs torch to refuse CUDA by itself")
    with caplog.at_level(logging.WARNING):
        found = search("cuda")
    np.testing.assert_array_equal(found.indices, expected.indices)
    assert found.method == expected.method
    assert "The device 'cuda'" in caplog.text and "neighbors by CPU" in caplog.text
