"""Clusters, their names and their accuracy on sets whose truth is known."""

import csv

import numpy as np
import pytest
from fiftyone_embedding_quality.analysis.clusters import (
    cluster_accuracy,
    find_clusters,
    name_clusters,
)
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.analysis.vectors import unit_rows
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_mutual_info_score


def clustered(vectors, **more):
    rows = unit_rows(vectors).rows
    return find_clusters(rows, neighbor_graph(rows), **more)


def blobs(sizes, dim=32, spread=0.3, seed=0):
    random = np.random.default_rng(seed)
    centers = random.normal(size=(len(sizes), dim))
    truth = np.repeat(np.arange(len(sizes)), sizes)
    return (centers[truth] + spread * random.normal(size=(len(truth), dim))).astype("f4"), truth


def test_blobs_are_found_and_numbered_by_size():
    vectors, truth = blobs([30, 90, 60])
    found = clustered(vectors)
    assert found.num_clusters == 3
    assert found.cluster.tolist() == [{0: 2, 1: 0, 2: 1}[one] for one in truth]
    assert (found.cohesion > 0.8).all()
    for number in range(3):
        members = found.cluster == number
        assert sorted(found.rank[members]) == list(range(members.sum()))


def test_the_first_of_a_cluster_is_nearest_to_its_mean():
    vectors, _ = blobs([40, 40], seed=3)
    found = clustered(vectors)
    rows = unit_rows(vectors).rows
    for number in range(2):
        members = np.flatnonzero(found.cluster == number)
        near = rows[members] @ rows[members].mean(axis=0)
        assert found.rank[members[near.argmax()]] == 0
        assert (np.diff(near[np.argsort(found.rank[members])]) <= 1e-6).all()


@pytest.mark.parametrize("pixels", ["digits", "halves"])
def test_closer_to_the_classes_than_k_means_that_knows_their_number(pixels):
    digits = load_digits()
    data = digits.data if pixels == "digits" else digits.data[:, ::2]
    found = clustered(data.astype("f4"))
    known = KMeans(10, n_init=3, random_state=0).fit(unit_rows(data).rows).labels_
    ours = adjusted_mutual_info_score(digits.target, found.cluster)
    assert ours > adjusted_mutual_info_score(digits.target, known) + 0.05
    assert 8 <= found.num_clusters <= 20


def test_classes_of_caltech101(excerpt):
    folder = excerpt / "caltech101"
    stored = np.load(folder / "embeddings_efficientnet_lite0.npz")
    vectors = dict(zip(stored["files"].tolist(), stored["embeddings"].astype("f4")))
    with open(folder / "samples.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["is_background"] in ("0", "False")]
    found = clustered(np.array([vectors[row["file"]] for row in rows]))
    truth = [row["class"] for row in rows]
    # k-means with the true number reaches 0.88.
    assert adjusted_mutual_info_score(truth, found.cluster) > 0.89
    # Each cluster lies in one topic, and topics are fewer.
    assert len(set(found.topic)) < 0.7 * found.num_clusters


def test_the_order_of_the_rows_does_not_matter_beyond_ties():
    vectors, _ = blobs([50, 40, 30, 20], spread=0.2, seed=5)
    order = np.random.default_rng(1).permutation(len(vectors))
    one, other = clustered(vectors), clustered(vectors[order])
    assert (one.cluster[order] == other.cluster).all() and (one.rank[order] == other.rank).all()


def test_copies_make_no_cluster_and_follow_their_first():
    vectors, _ = blobs([40, 40], seed=7)
    vectors = np.concatenate([vectors, np.repeat(vectors[:1], 30, axis=0)])
    groups = np.full(110, -1)
    groups[[0, *range(80, 110)]] = 0
    found = clustered(vectors, groups=groups)
    assert found.num_clusters == 2
    assert set(found.cluster[80:]) == {found.cluster[0]}


def test_few_and_directionless_rows_are_in_no_cluster():
    vectors, _ = blobs([30, 30, 3], spread=0.1)
    vectors = np.concatenate([vectors, np.zeros((8, 32), "f4")])
    found = clustered(vectors, min_size=5)
    assert (found.cluster[-8:] == -1).all() and (found.rank[-8:] == -1).all()
    with pytest.raises(ValueError, match="min_size=1"):
        clustered(vectors, min_size=1)


@pytest.mark.parametrize("number", [1, 2, 6])
def test_tiny_sets(number):
    found = clustered(np.eye(8, dtype="f4")[:number])
    assert len(found.cluster) == number


def test_words_are_those_that_set_a_cluster_apart():
    random = np.random.default_rng(2)
    words = random.normal(size=(40, 32)).astype("f4")
    cluster = np.repeat([0, 1, 2, -1], 50)
    # All rows score high in word 9, which so names none of them.
    vectors = 4 * words[9] + random.normal(size=(200, 32)).astype("f4")
    for number, word in enumerate((3, 17, 30)):
        vectors[cluster == number] += 2 * words[word]
    told = name_clusters(vectors, cluster, 3, words, np.linspace(-5, 5, 40).astype("f4"))
    assert told.word.tolist() == [3, 17, 30]
    assert (told.fit > 0.7).all()
    nothing = name_clusters(random.normal(size=(200, 32)).astype("f4"), cluster, 3, words)
    assert (nothing.fit < 0.5).all()


def test_a_cluster_that_performs_worse_is_told_from_chance():
    random = np.random.default_rng(4)
    cluster = np.repeat(np.arange(10), 60)
    labels = random.integers(0, 5, 600)
    predicted = np.where(random.random(600) < 0.9, labels, (labels + 1) % 5)
    slice_ = (cluster == 6) & (random.random(600) < 0.4)
    predicted[slice_] = (labels[slice_] + 2) % 5
    told = cluster_accuracy(cluster, 10, labels, predicted)
    assert np.flatnonzero(told.worse).tolist() == [6]
    assert ((told.low <= told.share) & (told.share <= told.high)).all()
    unlabeled = cluster_accuracy(cluster, 10, np.full(600, -1), predicted)
    assert np.isnan(unlabeled.share).all() and not unlabeled.worse.any()
