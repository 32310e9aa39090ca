"""Maps: against umap-learn, scikit-learn and openTSNE, and the properties that users rely on."""

import functools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse
from fiftyone_embedding_quality.analysis import _parallel
from fiftyone_embedding_quality.analysis import umap_layout as umap_module
from fiftyone_embedding_quality.analysis._tsne_gradient import TsneGradient
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.analysis.pca_layout import pca_layout
from fiftyone_embedding_quality.analysis.trust import plot_trust
from fiftyone_embedding_quality.analysis.tsne_layout import tsne_layout, tsne_neighbors
from fiftyone_embedding_quality.analysis.umap_layout import fuzzy_graph, umap_layout, umap_transform
from fiftyone_embedding_quality.analysis.vectors import unit_rows
from sklearn.decomposition import PCA


@functools.cache
def umap_learn():
    """The reference, which takes many seconds to import and to compile."""
    import umap.umap_

    return umap.umap_


def clusters(num_rows=1500, dim=64, count=12, spread=0.35, seed=0):
    """Vectors on curved sheets around centers, and the cluster of each."""
    rng = np.random.default_rng(seed)
    of = rng.integers(0, count, num_rows)
    sheets = rng.standard_normal((count, 4, dim)) / np.sqrt(dim)
    vectors = rng.standard_normal((count, dim))[of] / np.sqrt(dim)
    vectors += np.einsum("ij,ijd->id", spread * rng.standard_normal((num_rows, 4)), sheets[of])
    return (vectors + 0.01 * rng.standard_normal((num_rows, dim))).astype(np.float32), of


@pytest.fixture(scope="module")
def data():
    vectors, labels = clusters()
    return vectors, neighbor_graph(vectors, k=tsne_neighbors(30)), labels


def reference_fuzzy_graph(graph, n_neighbors):
    """umap-learn's fuzzy set of the same neighbors, each row itself put in front."""
    itself = np.arange(graph.num_rows)[:, None]
    return umap_learn().fuzzy_simplicial_set(
        np.zeros((graph.num_rows, 2), np.float32),
        n_neighbors,
        np.random.RandomState(0),
        "euclidean",
        knn_indices=np.c_[itself, graph.indices[:, : n_neighbors - 1]],
        knn_dists=np.c_[0 * itself, np.sqrt(2 * graph.distances[:, : n_neighbors - 1])].astype(
            "f4"
        ),
    )[0]


class TestUmap:
    @pytest.mark.slow
    @pytest.mark.parametrize("n_neighbors", [3, 15, 60])
    def test_fuzzy_graph_equals_umap_learn(self, data, n_neighbors):
        _, graph, _ = data
        difference = fuzzy_graph(graph, n_neighbors) - reference_fuzzy_graph(graph, n_neighbors)
        assert abs(difference).max() < 1e-4

    @pytest.mark.slow
    def test_fuzzy_graph_with_duplicates_equals_umap_learn(self):
        vectors = clusters(300)[0]
        vectors[50:100] = vectors[:50]
        vectors[200:230] = vectors[0]
        graph = neighbor_graph(vectors, k=15)
        assert abs(fuzzy_graph(graph, 15) - reference_fuzzy_graph(graph, 15)).max() < 1e-4

    @pytest.mark.slow
    def test_supervision_equals_umap_learn(self, data):
        _, graph, labels = data
        labels = np.where(np.arange(len(labels)) % 7 == 0, -1, labels)
        expected = umap_learn().discrete_metric_simplicial_set_intersection(
            reference_fuzzy_graph(graph, 15), labels, far_dist=5.0
        )
        found = umap_module._drawn_together_by(labels, fuzzy_graph(graph, 15))
        assert abs(found - expected).max() < 1e-4

    @pytest.mark.slow
    @pytest.mark.parametrize("min_dist", [0.0, 0.1, 0.5, 0.99])
    def test_curve_equals_umap_learn(self, min_dist):
        np.testing.assert_allclose(
            umap_module._curve(min_dist), umap_learn().find_ab_params(1.0, min_dist), rtol=1e-3
        )

    def test_forces_follow_the_curve(self):
        from fiftyone_embedding_quality.analysis._layout_kernels import force_tables

        a, b = 1.577, 0.895
        pull, push = force_tables(a, b)
        squared = np.geomspace(1e-6, 1e4, 1000).astype(np.float32)
        place = squared.view(np.int32) >> 16
        power = squared.astype(float) ** b
        expected = -2 * a * b * power / (squared * (a * power + 1))
        np.testing.assert_allclose(pull[place], expected, rtol=0.01)
        expected = 2 * b / ((0.001 + squared) * (a * power + 1))
        np.testing.assert_allclose(push[place], expected, rtol=0.01)

    @pytest.mark.slow
    @pytest.mark.parametrize("num_dims", [2, 3])
    def test_as_trustworthy_as_umap_learn(self, data, num_dims):
        vectors, graph, _ = data
        ours = plot_trust(vectors, umap_layout(vectors, graph, num_dims=num_dims).points)
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        reference = umap_learn().UMAP(n_components=num_dims, random_state=1, n_jobs=1)
        theirs = plot_trust(vectors, reference.fit_transform(units))
        # As good as the reference, up to what another seed or processor changes.
        assert ours.trustworthiness > theirs.trustworthiness - 0.002
        assert ours.neighbor_preservation > theirs.neighbor_preservation - 0.01

    def test_same_seed_same_map_whatever_the_threads(self, data, monkeypatch):
        vectors, graph, _ = data
        # Small parts, so that even this set is shared between threads.
        monkeypatch.setattr(_parallel, "SMALLEST_PART", 16)
        points = umap_layout(vectors, graph, seed=3).points
        np.testing.assert_array_equal(umap_layout(vectors, graph, seed=3).points, points)
        monkeypatch.setattr(_parallel, "num_cores", lambda: 1)
        np.testing.assert_array_equal(umap_layout(vectors, graph, seed=3).points, points)
        assert (umap_layout(vectors, graph, seed=4).points != points).any()

    def test_without_seed_every_map_differs(self, data):
        vectors, graph, _ = data
        maps = [umap_layout(vectors, graph, seed=None, num_epochs=5).points for _ in range(2)]
        assert (maps[0] != maps[1]).any()

    def test_min_dist_keeps_points_apart(self, data):
        vectors, graph, _ = data

        def gap(min_dist):
            points = umap_layout(vectors, graph, min_dist=min_dist).points
            apart = np.linalg.norm(points[:, None] - points, axis=2)
            return np.median(np.sort(apart, axis=1)[:, 1]) / points.std()

        assert gap(0.0) < gap(0.3) < gap(0.9)

    def test_labels_pull_their_rows_together(self):
        vectors, _ = clusters(600, count=1)
        labels = np.random.default_rng(0).integers(0, 2, 600)
        graph = neighbor_graph(vectors, k=15)

        def apart(points):
            centers = [points[labels == label].mean(axis=0) for label in (0, 1)]
            return np.linalg.norm(centers[0] - centers[1]) / points.std()

        assert apart(umap_layout(vectors, graph, labels=labels).points) > 3 * apart(
            umap_layout(vectors, graph).points
        )

    @pytest.mark.slow
    def test_new_vectors_land_among_their_neighbors(self, data):
        vectors, _, labels = data
        old, new = slice(0, 1200), slice(1200, None)
        points = umap_layout(vectors[old], neighbor_graph(vectors[old], k=15)).points
        before = points.copy()
        placed = umap_transform(vectors[new], vectors[old], points)
        np.testing.assert_array_equal(points, before)
        np.testing.assert_array_equal(placed, umap_transform(vectors[new], vectors[old], points))
        nearest = np.linalg.norm(placed[:, None] - points, axis=2).argmin(axis=1)
        assert (labels[old][nearest] == labels[new]).mean() > 0.95
        # As well as umap-learn's transform does it.
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        reference = umap_learn().UMAP(random_state=1, n_jobs=1).fit(units[old])
        theirs = plot_trust(
            vectors, np.r_[reference.embedding_, reference.transform(units[new])], k=15
        )
        ours = plot_trust(vectors, np.r_[points, placed], k=15)
        assert ours.trustworthiness > theirs.trustworthiness - 0.005

    def test_old_vectors_land_where_they_are(self, data):
        vectors, graph, _ = data
        points = umap_layout(vectors, graph).points
        placed = umap_transform(vectors[:200], vectors, points)
        assert np.median(np.linalg.norm(placed - points[:200], axis=1)) < 0.1 * points.std()


class TestTsne:
    def test_gradient_equals_brute_force(self):
        rng = np.random.default_rng(0)
        affinities = scipy.sparse.random(1200, 1200, 0.02, format="csr", random_state=0)
        affinities = (affinities + affinities.T).tocsr()
        affinities /= affinities.sum()
        for scale in (1e-4, 1, 20):
            points = scale * rng.standard_normal((1200, 2))
            difference = points[:, None] - points
            kernel = 1 / (1 + (difference**2).sum(axis=2))
            weights = affinities.toarray() * kernel - kernel**2 / (kernel.sum() - len(points))
            expected = np.einsum("ij,ijd->id", weights, difference)
            with ThreadPoolExecutor(2) as pool:
                _, found = TsneGradient(pool)(points, affinities)
            assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)

    @pytest.mark.slow
    def test_as_trustworthy_as_opentsne(self, data):
        from openTSNE import TSNE

        vectors, graph, _ = data
        ours = plot_trust(vectors, tsne_layout(vectors, graph).points)
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        theirs = plot_trust(vectors, np.asarray(TSNE(random_state=1).fit(units)))
        assert ours.trustworthiness > theirs.trustworthiness - 0.002
        assert ours.neighbor_preservation > theirs.neighbor_preservation - 0.01

    @pytest.mark.slow
    def test_same_map_again(self):
        vectors = clusters(1000)[0]
        graph = neighbor_graph(vectors, k=tsne_neighbors(30))
        points = tsne_layout(vectors, graph).points
        np.testing.assert_array_equal(tsne_layout(vectors, graph).points, points)

    def test_three_dimensions(self):
        vectors = clusters(300)[0]
        graph = neighbor_graph(vectors, k=tsne_neighbors(10))
        found = tsne_layout(vectors, graph, num_dims=3, perplexity=10)
        assert found.points.shape == (300, 3) and found.notes == ()
        assert plot_trust(vectors, found.points).trustworthiness > 0.95

    def test_perplexity_of_a_small_set_is_lowered_and_said(self):
        vectors = clusters(20)[0]
        found = tsne_layout(vectors, neighbor_graph(vectors, k=90))
        assert np.isfinite(found.points).all()
        assert "perplexity is 6.33 instead of 30" in found.notes[0]


class TestPca:
    @pytest.mark.parametrize("shape", [(300, 20), (40, 200)])
    def test_equals_scikit_learn(self, shape):
        rng = np.random.default_rng(0)
        vectors = (rng.standard_normal(shape) * np.linspace(3, 1, shape[1]) + 5).astype(np.float32)
        reference = PCA(3, svd_solver="full").fit(vectors)
        found = pca_layout(vectors, 3)
        signs = np.sign((found.components * reference.components_).sum(axis=1))
        np.testing.assert_allclose(
            found.components * signs[:, None], reference.components_, atol=1e-4
        )
        np.testing.assert_allclose(found.points * signs, reference.transform(vectors), atol=1e-3)
        np.testing.assert_allclose(
            found.variance_share, reference.explained_variance_ratio_, atol=1e-5
        )
        assert found.notes == ()

    def test_signs_do_not_depend_on_the_order_of_rows(self):
        vectors = clusters(200)[0]
        found, reverse = pca_layout(vectors), pca_layout(vectors[::-1])
        np.testing.assert_allclose(reverse.points[::-1], found.points, atol=1e-4)
        assert (found.components.max(axis=1) >= -found.components.min(axis=1)).all()

    def test_new_vectors_are_placed_by_the_same_projection(self):
        vectors = clusters(200)[0]
        found = pca_layout(vectors[:150])
        np.testing.assert_allclose(found.place(vectors[:150]), found.points, atol=1e-6)
        expected = (vectors[150:] - vectors[:150].mean(axis=0)) @ found.components.T
        np.testing.assert_allclose(found.place(vectors[150:]), expected, atol=1e-5)


@pytest.mark.parametrize("num_dims", [2, 3])
@pytest.mark.parametrize("dim", [1, 2, 30])
@pytest.mark.parametrize("num_rows", [0, 1, 2, 3, 4, 7, 50])
@pytest.mark.parametrize("method", ["umap", "tsne", "pca"])
def test_small_sets_just_work(method, num_rows, dim, num_dims):
    vectors = np.random.default_rng(0).standard_normal((num_rows, dim))
    if method == "pca":
        found = pca_layout(vectors, num_dims)
        lowered = num_rows - 1 < num_dims or dim < num_dims
    elif method == "umap":
        found = umap_layout(vectors, neighbor_graph(vectors, k=30), num_dims)
        lowered = num_rows < 15 or dim < num_dims
    else:
        found = tsne_layout(vectors, neighbor_graph(vectors, k=90), num_dims)
        lowered = True
    assert found.points.shape == (num_rows, num_dims) and found.points.dtype == np.float32
    assert np.isfinite(found.points).all()
    assert bool(found.notes) == lowered
    assert all(note.endswith(".") for note in found.notes)


@pytest.mark.parametrize("layout", [umap_layout, tsne_layout])
@pytest.mark.parametrize("kind", ["equal", "zero"])
def test_vectors_without_structure(layout, kind):
    vectors = np.zeros((60, 8)) if kind == "zero" else np.ones((60, 8))
    points = layout(vectors, neighbor_graph(vectors, k=20)).points
    assert np.isfinite(points).all()


@pytest.mark.parametrize(
    ("layout", "arguments", "message"),
    [
        (umap_layout, {"num_dims": 4}, "num_dims must be 2 or 3"),
        (umap_layout, {"n_neighbors": 1}, "n_neighbors must be at least 2"),
        (umap_layout, {"n_neighbors": 30}, "too few for n_neighbors=30"),
        (umap_layout, {"min_dist": 2}, "min_dist must be between 0 and 1"),
        (umap_layout, {"labels": np.zeros(3)}, "3 labels for 100 embeddings"),
        (tsne_layout, {"num_dims": 1}, "num_dims must be 2 or 3"),
        (tsne_layout, {"perplexity": 1}, "perplexity must be above 1"),
    ],
)
def test_arguments_are_checked(layout, arguments, message):
    vectors = clusters(100)[0]
    with pytest.raises(ValueError, match=message):
        layout(vectors, neighbor_graph(vectors, k=20), **arguments)


@pytest.mark.parametrize("layout", [umap_layout, tsne_layout])
def test_a_graph_of_other_vectors_is_refused(layout):
    vectors = clusters(100)[0]
    with pytest.raises(ValueError, match="99 rows for 100 embeddings"):
        layout(vectors, neighbor_graph(vectors[1:], k=20))


def test_a_map_that_does_not_fit_its_vectors_is_refused():
    vectors = clusters(20)[0]
    with pytest.raises(ValueError, match="3 points for 20 embeddings"):
        umap_transform(vectors, vectors, np.zeros((3, 2)))


@pytest.mark.parametrize("factor", [1e30, 1e38, 1e-30, 1e-38])
def test_principal_components_of_very_large_and_very_small_vectors(factor):
    vectors = np.random.default_rng(8).uniform(-3, 3, (80, 12)).astype(np.float32)
    plain, scaled = pca_layout(vectors), pca_layout(vectors * np.float32(factor))
    # What float32 does not hold stands at its end.
    held = np.clip(plain.points, -3.4e38 / factor, 3.4e38 / factor)
    np.testing.assert_allclose(scaled.points / factor, held, rtol=1e-2)
    np.testing.assert_allclose(scaled.variance_share, plain.variance_share, rtol=1e-4)
    placed = scaled.place(vectors[:5] * np.float32(factor))
    np.testing.assert_allclose(placed / factor, held[:5], rtol=1e-2)


@pytest.mark.parametrize("num_rows", [3, 10, 16, 40, 75])
@pytest.mark.parametrize("kinds", [1, 8])
def test_few_rows_by_tsne_do_not_fall_into_one_place(num_rows, kinds):
    rng = np.random.default_rng(num_rows)
    vectors = rng.standard_normal((kinds, 16))[np.arange(num_rows) % kinds] * (kinds > 1) * 3
    vectors = vectors + rng.standard_normal((num_rows, 16))
    points = tsne_layout(vectors, neighbor_graph(unit_rows(vectors).rows, 30)).points
    places = np.unique(points.round(2), axis=0)
    assert len(places) == num_rows
    assert np.ptp(points, axis=0).max() > 5


def test_the_order_of_import_does_not_change_a_map():
    rng = np.random.default_rng(12)
    vectors = (rng.standard_normal((6, 20)) * 2)[rng.integers(0, 6, 700)]
    vectors = (vectors + rng.standard_normal((700, 20))).astype(np.float32)
    order = rng.permutation(700)
    labels = rng.integers(-1, 3, 700)
    for given in (None, labels):
        one, other = (
            umap_layout(rows, neighbor_graph(rows, 20), labels=of).points
            for rows, of in (
                (vectors, given),
                (vectors[order], None if given is None else given[order]),
            )
        )
        np.testing.assert_array_equal(other, one[order])
    one, other = (
        tsne_layout(rows[:200], neighbor_graph(rows[:200], 30), perplexity=8.0).points
        for rows in (vectors, vectors[:200][::-1])
    )
    np.testing.assert_array_equal(other, one[::-1])
