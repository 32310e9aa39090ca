"""Clusters at two levels on the graph of nearest neighbors, without being asked how many.

Fine clusters are communities of the graph (Leiden; Traag, Waltman and van Eck, 2019, as in
scikit-network) in which an edge weighs as much as the neighborhoods of its two ends have in common
(Jaccard; Jarvis and Patrick, 1973). Topics are communities of the graph of the clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ._statistics import unit_numbers
from .neighbors import NeighborGraph

# Neighbors of each row that are looked at.
NEIGHBORS = 20

# Resolutions of the modularity: 1 is its definition; below, communities are larger. 0.1 joins the
# clusters of Caltech-101 that people would put on one shelf (airplanes; big cats and antelopes).
FINE, COARSE = 1.0, 0.1

# A name is among this many of the likeliest of a row, if it is to fit the row.
TOP = 5

# Rows whose 1,000 classes are looked at together.
BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Clusters:
    """Clusters and topics of rows.

    Attributes:
        cluster: (num_rows,) int64, 0 for the largest cluster, -1 in none
        topic: (num_clusters,) int64, the topic of each cluster, 0 for the largest
        rank: (num_rows,) int64, the place in the own cluster, 0 for the row nearest to its mean;
            -1 in none
        cohesion: (num_clusters,) float32 in [-1, 1], mean cosine similarity of a cluster's rows to
            their mean
    """

    cluster: np.ndarray
    topic: np.ndarray
    rank: np.ndarray
    cohesion: np.ndarray

    @property
    def num_clusters(self) -> int:
        return len(self.topic)


def find_clusters(
    rows: np.ndarray,
    graph: NeighborGraph,
    groups: np.ndarray | None = None,
    *,
    min_size: int = 5,
    seed: int = 51,
) -> Clusters:
    """Finds clusters and topics.

    A duplicate group counts as one row: many copies of one image are no cluster.

    Args:
        rows: (num_rows, dim) float32, of length 1 or 0
        graph: of the rows
        groups (None): (num_rows,) int64, duplicate groups, -1 in none
        min_size (5): distinct rows that make a cluster; the rows of smaller ones are in none
        seed (51): of the order in which communities are tried

    Raises:
        ValueError: if ``min_size`` is below 2

    Example:
        Images of the digits 0 and 1: no cluster holds both.

        >>> from sklearn.datasets import load_digits
        >>> from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
        >>> from fiftyone_embedding_quality.analysis.vectors import unit_rows
        >>> images, digits = load_digits(n_class=2, return_X_y=True)
        >>> rows = unit_rows(images).rows
        >>> found = find_clusters(rows, neighbor_graph(rows), min_size=10)
        >>> all(np.ptp(digits[found.cluster == n]) == 0 for n in range(found.num_clusters))
        True
    """
    if min_size < 2:
        raise ValueError(f"min_size={min_size} must be at least 2")
    units = unit_numbers(len(rows), groups)
    num_units = int(units.max(initial=-1)) + 1
    weights = _unit_graph(graph, units, num_units)
    communities = _communities(weights, FINE, seed)
    sizes = np.bincount(communities, minlength=1)
    directed = np.zeros(num_units, bool)
    directed[units[rows.any(axis=1)]] = True
    large = (sizes >= min_size)[communities] & directed
    fine = np.full(num_units, -1)
    fine[large] = _by_size(communities[large])
    topics = _topics(weights, fine, seed)
    cluster = fine[units]
    rank, cohesion = _ranks(rows, cluster, len(topics))
    return Clusters(cluster, topics, rank, cohesion)


def _unit_graph(graph: NeighborGraph, units: np.ndarray, num_units: int) -> Any:
    """(num_units, num_units) sparse and symmetric: what neighborhoods have in common."""
    from scipy import sparse

    from ._cluster_kernels import shared_neighbors

    near = np.ascontiguousarray(graph.indices[:, :NEIGHBORS])
    k = near.shape[1]
    shared = shared_neighbors(np.sort(near, axis=1), near) if k else np.zeros((len(near), 0))
    ends = np.repeat(units, k), units[near].ravel()
    apart = ends[0] != ends[1]
    start, stop = np.minimum(*ends)[apart], np.maximum(*ends)[apart]
    # Two of the same ends, because the edge has two directions or its ends have copies, are one.
    keys = start.astype(np.int64) * num_units + stop
    keys, inverse = np.unique(keys, return_inverse=True)
    values = np.zeros(len(keys))
    np.maximum.at(values, inverse, shared.ravel()[apart])
    edges = sparse.coo_matrix(
        (values, (keys // max(num_units, 1), keys % max(num_units, 1))), (num_units, num_units)
    )
    return (edges + edges.T).tocsr()


def _communities(weights: Any, resolution: float, seed: int) -> np.ndarray:
    """(n,) int64 community numbers of the nodes of a graph."""
    if weights.nnz == 0:
        return np.arange(weights.shape[0])
    from sknetwork.clustering import Leiden

    return Leiden(resolution=resolution, random_state=seed).fit_predict(weights)


def _by_size(numbers: np.ndarray) -> np.ndarray:
    """The same numbers from 0 for the most frequent; equally frequent ones in their order."""
    known, inverse, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    places = np.empty(len(known), np.int64)
    places[order] = np.arange(len(known))
    return places[inverse]


def _topics(weights: Any, fine: np.ndarray, seed: int) -> np.ndarray:
    """(num_clusters,) int64, the topic of each cluster."""
    from scipy import sparse

    inside = np.flatnonzero(fine >= 0)
    num_clusters = int(fine.max(initial=-1)) + 1
    if num_clusters == 0:
        return np.empty(0, np.int64)
    ones = np.ones(len(inside))
    members = sparse.csr_matrix((ones, (inside, fine[inside])), (len(fine), num_clusters))
    found = _communities((members.T @ weights @ members).tocsr(), COARSE, seed)
    # The largest topic first, by what its clusters hold.
    held = _by_size(found[fine[inside]])
    topics = np.empty(num_clusters, np.int64)
    topics[fine[inside]] = held
    return topics


def _ranks(
    rows: np.ndarray, cluster: np.ndarray, num_clusters: int
) -> tuple[np.ndarray, np.ndarray]:
    """The place of each row in its cluster, and the cohesion of the clusters."""
    from ._class_geometry import class_means

    rank = np.full(len(rows), -1)
    cohesion = np.full(num_clusters, np.nan, np.float32)
    means = class_means(rows, cluster, num_clusters)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    inside = np.flatnonzero(cluster >= 0)
    near = np.zeros(len(rows), np.float32)
    for start in range(0, len(inside), BLOCK_ROWS):
        some = inside[start : start + BLOCK_ROWS]
        near[some] = np.einsum("ij,ij->i", rows[some], means[cluster[some]])
    for number in range(num_clusters):
        members = np.flatnonzero(cluster == number)
        rank[members[np.argsort(-near[members], kind="stable")]] = np.arange(len(members))
        cohesion[number] = near[members].mean()
    return rank, cohesion


@dataclass(frozen=True)
class Names:
    """What clusters may be called.

    Attributes:
        word: (num_clusters,) int64, a word for each cluster
        fit: (num_clusters,) float64 in [0, 1], the share of a cluster's rows among whose
            ``TOP`` likeliest words it is
    """

    word: np.ndarray
    fit: np.ndarray


def name_clusters(
    vectors: np.ndarray,
    cluster: np.ndarray,
    num_clusters: int,
    words: np.ndarray,
    bias: np.ndarray | None = None,
) -> Names:
    """Finds the word of each cluster: what its rows score higher in than all rows do.

    Scores are standardized for each word over all rows, which takes away what the whole set has
    in common and what a word scores everywhere.

    Args:
        vectors: (num_rows, dim) float32, as the words take them: of a classifier, its inputs; of
            text embeddings, unit rows
        cluster: (num_rows,) the cluster of each row, -1 in none
        num_clusters: how many clusters there are
        words: (num_words, dim) float32, the classifier's weights, or unit rows of texts
        bias (None): (num_words,) float32
    """
    bias = np.zeros(len(words), np.float32) if bias is None else bias
    blocks = [slice(start, start + BLOCK_ROWS) for start in range(0, len(vectors), BLOCK_ROWS)]
    total, squares = np.zeros(len(words)), np.zeros(len(words))
    for block in blocks:
        scores = vectors[block] @ words.T + bias
        total += scores.sum(axis=0, dtype=np.float64)
        squares += np.einsum("ij,ij->j", scores, scores, dtype=np.float64)
    mean = total / max(len(vectors), 1)
    deviation = np.sqrt(np.maximum(squares / max(len(vectors), 1) - mean**2, 1e-12))
    sums = np.zeros((num_clusters, len(words)))
    likeliest = np.empty((len(vectors), min(TOP, len(words))), np.int64)
    for block in blocks:
        scores = (vectors[block] @ words.T + bias - mean) / deviation
        inside = cluster[block] >= 0
        np.add.at(sums, cluster[block][inside], scores[inside])
        likeliest[block] = np.argpartition(-scores, likeliest.shape[1] - 1)[:, : likeliest.shape[1]]
    word = sums.argmax(axis=1) if num_clusters else np.empty(0, np.int64)
    inside = cluster >= 0
    fits = (likeliest[inside] == word[cluster[inside]][:, None]).any(axis=1)
    counts = np.bincount(cluster[inside], minlength=num_clusters)
    fit = np.bincount(cluster[inside], fits, num_clusters) / np.maximum(counts, 1)
    return Names(word, fit)


@dataclass(frozen=True)
class Accuracy:
    """How well held-out predictions do in each cluster.

    Attributes:
        share: (num_clusters,) float64, of the labeled rows whose label is predicted; NaN for none
        low, high: its 95 % interval (Wilson)
        worse: (num_clusters,) bool, less than in all other clusters, beyond chance
    """

    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    worse: np.ndarray


# A cluster is worse than the rest if its p-value, adjusted for the number of clusters, is below
# this, and it loses at least this share.
MAX_P, MIN_LOSS = 0.01, 0.1


def cluster_accuracy(
    cluster: np.ndarray, num_clusters: int, labels: np.ndarray, predicted: np.ndarray
) -> Accuracy:
    """Compares the held-out predictions of each cluster with those of the rest.

    One-sided Fisher-like binomial test against the share of right predictions outside the cluster,
    adjusted after Benjamini and Hochberg.

    Args:
        cluster: (num_rows,) the cluster of each row, -1 in none
        num_clusters: how many clusters there are
        labels, predicted: (num_rows,) class numbers; labels -1 for none
    """
    from ._statistics import adjusted_p_values, binomial_tail, wilson_interval

    labeled = labels >= 0
    wrong = labeled & (predicted != labels)
    inside = labeled & (cluster >= 0)
    trials = np.bincount(cluster[inside], minlength=num_clusters).astype(np.float64)
    errors = np.bincount(cluster[inside], wrong[inside], num_clusters)
    rest = (wrong.sum() - errors) / np.maximum(labeled.sum() - trials, 1)
    low, high = wilson_interval(trials - errors, trials)
    share = np.divide(trials - errors, trials, out=np.full(num_clusters, np.nan), where=trials > 0)
    tail = binomial_tail(errors, trials, np.maximum(rest, 1e-9))
    p_values = adjusted_p_values(np.where(trials > 0, tail, 1.0), num_clusters)
    with np.errstate(invalid="ignore"):
        worse = (p_values < MAX_P) & (1 - rest - share >= MIN_LOSS)
    return Accuracy(share, low, high, worse)
