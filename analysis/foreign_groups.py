"""Groups of alike rows that are unlike the rest of the set: images of another kind among photos.

Neighbors tell nothing of them, for the members of such a group are each other's neighbors. Every
class of an ordinary set is a cluster far from the others, too. What sets a foreign group apart is
that it lacks what all others have in common: embeddings of one kind of images share a direction,
that of the mean of their clusters, and those of another kind (drawings, screens, scans among
photos) do not point there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._class_geometry import class_means
from ._outlier_distance import UPPER_TENTH

# Distinct rows that make a group, and the largest share of the set that is unlike the rest.
FEWEST_MEMBERS, LARGEST_SHARE = 10, 0.1

# Clusters that the rest must have: of fewer, nobody knows what they have in common.
FEWEST_OTHERS = 3

# How much less the median member has of what the others have in common than their median row does,
# in deviations of theirs.
FAR = 2.1

# And less than the other clusters' medians, in deviations of these; of few clusters these are
# little known, and more is asked. Chosen on half of Caltech-101's classes and CIFAR-10's animals,
# alone (2.4 at most) and with 30 digits, screens, forms or chats (5.0 at least).
BEYOND, BEYOND_FEW = 4.0, 8.0

# Cosine of the others' median row with that direction; less is none that a group could lack.
LEAST_COMMON = 0.2

# Clusters that are compared with all rows at once.
BLOCK_CLUSTERS = 32


@dataclass(frozen=True)
class ForeignGroups:
    """Groups unlike the rest.

    Attributes:
        group: (num_rows,) int64, the number of each row's group, 0 for the one that is farthest
            from the rest; -1 in none
        distance: (num_groups,) float64, how far each is, in deviations of the rest
    """

    group: np.ndarray
    distance: np.ndarray


def find_foreign_groups(rows: np.ndarray, cluster: np.ndarray) -> ForeignGroups:
    """Finds clusters that are unlike all others.

    For a cluster, its mean and that of a row's own cluster are left out of what the others have in
    common, so that no cluster is alike to it by being part of it.

    Args:
        rows: (num_rows, dim) float32 unit rows
        cluster: (num_rows,) the cluster of each row, -1 in none; clusters of at least
            ``FEWEST_MEMBERS`` distinct rows, as of ``find_clusters``
    """
    num_clusters = int(cluster.max(initial=-1)) + 1
    group = np.full(len(rows), -1)
    if num_clusters <= FEWEST_OTHERS:
        return ForeignGroups(group, np.empty(0))
    sizes = np.bincount(cluster[cluster >= 0], minlength=num_clusters)
    candidates = np.flatnonzero(sizes <= LARGEST_SHARE * len(rows))
    far = np.zeros(num_clusters)
    far[candidates], medians = _distances(rows, cluster, candidates)
    usual = medians[far <= FAR]
    if len(usual) < FEWEST_OTHERS:
        return ForeignGroups(group, np.empty(0))
    beyond = (medians - np.median(usual)) / max(usual.std(ddof=1), 1e-6)
    chosen = np.flatnonzero((far > FAR) & (beyond > BEYOND + BEYOND_FEW / len(usual)))
    chosen = chosen[np.argsort(-far[chosen], kind="stable")]
    for number, one in enumerate(chosen):
        group[cluster == one] = number
    return ForeignGroups(group, far[chosen])


def _distances(
    rows: np.ndarray, cluster: np.ndarray, candidates: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How far clusters are from what the others have in common.

    Returns:
        (num_candidates,) float64 in deviations of the rest's rows, and of all clusters the median
        of minus the cosine, (num_clusters,) float64
    """
    num_clusters = int(cluster.max()) + 1
    means = class_means(rows, cluster, num_clusters).astype(np.float64)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    inside = cluster >= 0
    clustered, own = rows[inside], cluster[inside]
    total = means.sum(axis=0)
    # Of each row with the sum of all means but its own cluster's.
    common = clustered @ total.astype(np.float32)
    common -= np.einsum("ij,ij->i", clustered, means[own].astype(np.float32))
    gram = means @ means.T
    sums = gram.sum(axis=1)
    far = np.zeros(len(candidates))
    for start in range(0, len(candidates), BLOCK_CLUSTERS):
        block = candidates[start : start + BLOCK_CLUSTERS]
        products = clustered @ means[block].T.astype(np.float32)
        for place, one in enumerate(block):
            squared = sums.sum() - 2 * sums - 2 * sums[one] + 2 * gram[one] + gram.diagonal() + 1
            squared[one] = sums.sum() - 2 * sums[one] + 1
            member = own == one
            unlike = -np.where(member, common, common - products[:, place])
            unlike /= np.sqrt(np.maximum(squared, 1e-12))[own]
            median, tenth = np.quantile(unlike[~member], [0.5, 0.9])
            if -median < LEAST_COMMON:
                continue
            deviation = max((tenth - median) / UPPER_TENTH, 1e-6)
            far[start + place] = (np.median(unlike[member]) - median) / deviation
    alone = np.sqrt(np.maximum(sums.sum() - 2 * sums + gram.diagonal(), 1e-12))
    unlike = -common / alone[own]
    medians = [np.median(unlike[own == one]) for one in range(num_clusters)]
    return far, np.array(medians)
