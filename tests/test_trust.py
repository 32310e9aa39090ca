"""Trust of a map, against scikit-learn and against what must come out."""

import numpy as np
import pytest
from fiftyone_embedding_quality.analysis.trust import plot_trust
from sklearn.manifold import trustworthiness


def test_equals_scikit_learn():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((300, 20)) @ rng.standard_normal((20, 20))
    for points in (vectors[:, :2], rng.standard_normal((300, 3)), vectors[:, :2] ** 3):
        for k in (1, 5, 20):
            expected = trustworthiness(vectors, points, n_neighbors=k, metric="cosine")
            assert plot_trust(vectors, points, k=k).trustworthiness == pytest.approx(
                expected, abs=1e-6
            )


def test_neighbor_preservation_equals_brute_force():
    rng = np.random.default_rng(1)
    vectors, points = rng.standard_normal((200, 5)), rng.standard_normal((200, 2))
    points[:100] = vectors[:100, :2]
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    high = np.argsort(-units @ units.T, axis=1)[:, 1:11]
    low = np.argsort(np.linalg.norm(points[:, None] - points, axis=2), axis=1)[:, 1:11]
    shared = [len(np.intersect1d(*pair)) for pair in zip(high, low)]
    found = plot_trust(vectors, points, k=10)
    assert found.neighbor_preservation == pytest.approx(np.mean(shared) / 10)
    assert found.num_sampled == 200 and found.k == 10


def test_noise_comes_out_as_noise():
    rng = np.random.default_rng(2)
    found = plot_trust(rng.standard_normal((3000, 64)), rng.standard_normal((3000, 2)), sample=500)
    assert found.trustworthiness == pytest.approx(0.5, abs=0.02)
    assert found.neighbor_preservation == pytest.approx(15 / 3000, abs=0.005)


def test_perfect_map():
    """On a half circle cosine distance and distance along the arc have the same order."""
    angle = np.sort(np.random.default_rng(3).uniform(0, 3, 400))
    vectors = np.c_[np.cos(angle), np.sin(angle)]
    found = plot_trust(vectors, np.c_[angle, np.zeros(400)], k=10)
    assert found.trustworthiness > 0.9999 and found.neighbor_preservation > 0.99


def test_a_sample_estimates_the_whole():
    rng = np.random.default_rng(4)
    vectors = rng.standard_normal((4000, 10))
    whole = plot_trust(vectors, vectors[:, :2], sample=4000)
    part = plot_trust(vectors, vectors[:, :2], sample=800)
    assert part.num_sampled == 800
    assert part.trustworthiness == pytest.approx(whole.trustworthiness, abs=0.01)
    assert part.neighbor_preservation == pytest.approx(whole.neighbor_preservation, abs=0.01)
    assert part == plot_trust(vectors, vectors[:, :2], sample=800)
    assert part != plot_trust(vectors, vectors[:, :2], sample=800, seed=1)


def test_duplicates_and_zero_vectors():
    """50 copies of each of 20 vectors, each set of copies on one point: nothing is wrong."""
    vectors = np.repeat(np.random.default_rng(5).standard_normal((20, 8)), 50, axis=0)
    points = np.repeat(np.random.default_rng(6).standard_normal((20, 2)), 50, axis=0)
    found = plot_trust(vectors, points)
    assert found.trustworthiness == found.neighbor_preservation == 1.0
    vectors[:60] = 0
    assert 0 <= plot_trust(vectors, points).trustworthiness <= 1


@pytest.mark.parametrize("num_rows", range(8))
def test_few_rows(num_rows):
    rng = np.random.default_rng(0)
    found = plot_trust(rng.standard_normal((num_rows, 4)), rng.standard_normal((num_rows, 2)))
    assert 0 <= found.trustworthiness <= 1 and 0 <= found.neighbor_preservation <= 1
    assert found.k == max((num_rows - 1) // 2, 0)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="4 points for 5 embeddings"):
        plot_trust(np.ones((5, 3)), np.ones((4, 2)))
    with pytest.raises(ValueError, match="at least 1"):
        plot_trust(np.ones((5, 3)), np.ones((5, 2)), k=0)
