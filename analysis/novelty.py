"""One set of embeddings against another: what is new in it, what it lacks, and whether it differs.

What is new is tested by conformal p-values: how many embeddings of the other set are as far from
their own set (Bates et al., "Testing for outliers with conformal p-values", 2023), adjusted after
Benjamini and Hochberg. Whether the sets differ, and where, is decided by neighbors (Schilling's
test) and by clusters of both together; how far they differ, by a classifier on rows that it has not
seen (Lopez-Paz and Oquab, "Revisiting classifier two-sample tests", 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._statistics import adjusted_p_values
from .clusters import find_clusters
from .neighbors import nearest_rows, neighbor_graph
from .vectors import order_of_content, unit_rows

# Nearest neighbors whose mean distance says how far something is from a set.
NEIGHBORS = 5

# Share of what is reported as new that may be so by chance.
FALSE_SHARE = 0.05

# Rows that the classifier is asked about: more add nothing.
MAX_CLASSIFIED, FOLDS = 10_000, 5

# Permutations of which set the rows are of: p-values down to 0.001.
PERMUTATIONS = 999

# A cluster is lacking in a set that has at most this share of what it should have of it.
LACKING = 0.2

# Two tests look for a difference: each may err in this share of equal sets.
ALARM = 0.025


@dataclass(frozen=True)
class Novelty:
    """How far the rows of one set are from another set.

    Attributes:
        score: (num_rows,) float64 in [0, 1], the share of the other set's rows that are nearer to
            their own set
        new: (num_rows,) bool, farther than chance explains; at most ``FALSE_SHARE`` of them are
            expected to be so by chance
        nearest: (num_rows, k) int32, the nearest rows of the other set, nearest first
        distances: (num_rows, k) float32, their cosine distances
    """

    score: np.ndarray
    new: np.ndarray
    nearest: np.ndarray
    distances: np.ndarray


def find_new(rows: np.ndarray, others: np.ndarray) -> Novelty:
    """Finds the rows that are farther from another set than its own rows are from each other.

    Args:
        rows: (num_rows, dim) floats
        others: (num_others, dim) floats, at least two

    Raises:
        ValueError: if there are fewer than two others, or the dimensions differ

    Example:
        >>> from sklearn.datasets import load_digits
        >>> images, digits = load_digits(return_X_y=True)
        >>> ones, twos = images[digits == 1], images[digits == 2]
        >>> find_new(np.concatenate([ones[:2], twos[:2]]), ones[2:]).new.tolist()
        [False, False, True, True]
    """
    if len(others) < 2:
        raise ValueError("novelty needs at least two reference embeddings")
    k = min(NEIGHBORS, len(others) - 1)
    near = nearest_rows(rows, others, k)
    own = neighbor_graph(others, k).distances.mean(axis=1)
    own = np.sort(own)
    far = near.distances.mean(axis=1)
    # Equal distances differ by rounding: they are no evidence.
    below = np.searchsorted(own, far - 1e-6)
    p_values = (1 + len(own) - below) / (1 + len(own))
    new = adjusted_p_values(p_values, len(p_values)) <= FALSE_SHARE
    return Novelty(below / len(own), new, near.indices, near.distances)


@dataclass(frozen=True)
class Drift:
    """Whether two sets differ, and where.

    Attributes:
        auc: area under the ROC curve of held-out predictions of the set a row is of, 0.5 if the
            sets do not differ
        low, high: its 95 % interval (DeLong)
        p_value: of Schilling's test: whether neighbors are of the same set more often than chance
        cluster: (num_rows + num_others,) int64, clusters of both sets together, -1 in none
        share: (num_clusters,) float64, which part of each cluster is of ``rows``
        more, less: (num_clusters,) bool, whether that is more or less than chance explains
        differ: whether the sets differ; of two halves of one set in 5 % of cases at most
    """

    auc: float
    low: float
    high: float
    p_value: float
    cluster: np.ndarray
    share: np.ndarray
    more: np.ndarray
    less: np.ndarray
    differ: bool

    def only_in(self, first: bool, num_rows: int) -> np.ndarray:
        """(num_rows,) or (num_others,) bool: in a cluster that hardly exists in the other set.

        Args:
            first: whether the rows are asked, or the others
            num_rows: how many rows the first set has
        """
        base = num_rows / len(self.cluster)
        beyond = self.more if first else self.less
        other, expected = (1 - self.share, 1 - base) if first else (self.share, base)
        lacking = beyond & (other <= LACKING * expected)
        cluster = self.cluster[:num_rows] if first else self.cluster[num_rows:]
        found = np.zeros(len(cluster), bool)
        found[cluster >= 0] = lacking[cluster[cluster >= 0]]
        return found


def measure_drift(rows: np.ndarray, others: np.ndarray, seed: int = 51) -> Drift:
    """Measures whether two sets differ, and in which clusters.

    Args:
        rows: (num_rows, dim) floats
        others: (num_others, dim) floats
        seed: of everything random
    """
    both = unit_rows(np.concatenate([rows, others])).rows
    # What is drawn, permuted and put into folds does not depend on how samples were imported; of
    # equal rows, those of the first set come first.
    order = order_of_content(both)
    both, is_new = both[order], order < len(rows)
    graph = neighbor_graph(both)
    found = find_clusters(both, graph, seed=seed)
    share, more, less, least = _clusters_apart(found.cluster, found.num_clusters, is_new)
    p_value = _same_neighbors(graph.indices[:, :NEIGHBORS], is_new, seed)
    auc, low, high = _classified(both, is_new, seed)
    differ = p_value <= ALARM or least <= ALARM
    cluster = np.empty_like(found.cluster)
    cluster[order] = found.cluster
    return Drift(auc, low, high, p_value, cluster, share, more, less, bool(differ))


def _clusters_apart(
    cluster: np.ndarray, num_clusters: int, is_new: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Which clusters hold more or less of a set than chance explains, and the least p-value.

    Hypergeometric tests in both directions, adjusted together: clusters were found without
    knowing which set a row is of.
    """
    from scipy.stats import hypergeom

    inside = cluster >= 0
    sizes = np.bincount(cluster[inside], minlength=num_clusters)
    counts = np.bincount(cluster[inside & is_new], minlength=num_clusters)
    if num_clusters == 0:
        return np.empty(0), np.empty(0, bool), np.empty(0, bool), 1.0
    total, new = len(cluster), int(is_new.sum())
    above = hypergeom.sf(counts - 1, total, new, sizes)
    below = hypergeom.cdf(counts, total, new, sizes)
    p_values = adjusted_p_values(np.concatenate([above, below]), 2 * num_clusters)
    more, less = p_values[:num_clusters] <= FALSE_SHARE, p_values[num_clusters:] <= FALSE_SHARE
    return counts / sizes, more, less, float(p_values.min())


def _same_neighbors(near: np.ndarray, is_new: np.ndarray, seed: int) -> float:
    """The p-value of Schilling's test, by permuting which set the rows are of.

    Schilling, "Multivariate two-sample tests based on nearest neighbors", 1986: of two equal sets,
    neighbors are of one set as often as any two rows.
    """
    random = np.random.default_rng(seed)

    def same(labels: np.ndarray) -> int:
        return int((labels[near] == labels[:, None]).sum())

    observed, least = same(is_new), 1
    for _ in range(PERMUTATIONS):
        least += same(random.permutation(is_new)) >= observed
    return least / (1 + PERMUTATIONS)


def _classified(both: np.ndarray, is_new: np.ndarray, seed: int) -> tuple[float, float, float]:
    """The area under the ROC curve of held-out predictions, with its interval."""
    from scipy.special import ndtri
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    random = np.random.default_rng(seed)
    some = np.sort(random.permutation(len(both))[:MAX_CLASSIFIED])
    rows, labels = both[some], is_new[some]
    folds = min(FOLDS, int(labels.sum()), int((~labels).sum()))
    if folds < 2:
        return float("nan"), float("nan"), float("nan")
    areas, variances = [], []
    # Within each fold: predictions of different models do not compare.
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(rows, labels):
        model = LogisticRegression(class_weight="balanced", max_iter=200)
        model.fit(rows[train], labels[train])
        area, variance = _auc(model.decision_function(rows[test]), labels[test])
        areas.append(area)
        variances.append(variance)
    auc, half = float(np.mean(areas)), float(ndtri(0.975) * np.sqrt(np.mean(variances) / folds))
    return auc, max(auc - half, 0.0), min(auc + half, 1.0)


def _auc(scores: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """The area under the ROC curve and its variance.

    DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver
    operating characteristic curves", 1988.
    """
    from scipy.stats import rankdata

    high, low = scores[positive], scores[~positive]
    ranks = rankdata(np.concatenate([high, low]))
    above = (ranks[: len(high)] - rankdata(high)) / len(low)
    below = 1 - (ranks[len(high) :] - rankdata(low)) / len(high)
    variance = above.var() / len(high) + below.var() / len(low)
    return float(above.mean()), float(variance)
