"""What the labels of the nearest neighbors say of a row, and how far a label is believed."""

from __future__ import annotations

from concurrent.futures import Executor

import numpy as np

from ._exact_search import product_threads
from ._parallel import in_parts
from ._probe_blocks import row_blocks, run_blocks
from .neighbors import NeighborGraph

# A neighbor's vote counts exp(-distance / this).
VOTE_DISTANCE = 0.1

# A vote that is shared by all classes, so that one far neighbor does not decide alone.
VOTE_PRIOR = 1e-3

# What a label counts in the second vote when it is not believed at all.
LEAST_WEIGHT = 0.02


def neighbor_votes(
    graph: NeighborGraph,
    labels: np.ndarray,
    num_classes: int,
    weights: np.ndarray,
    groups: np.ndarray,
) -> np.ndarray:
    """What the labels of the nearest neighbors outside the own duplicate group say.

    Args:
        labels: (n,) int64, -1 = unlabeled
        weights: (n,) float32, what a row's label counts
        groups: (n,) int64, -1 = in none

    Returns:
        (n, c) float32, rows sum to 1; uniform where no neighbor may vote
    """
    votes = np.zeros((graph.num_rows, num_classes), np.float32)
    with product_threads(several=True) as pool:
        add_votes(votes, 1.0, graph, labels, weights, groups, pool)
    return votes


def add_votes(
    votes: np.ndarray,
    share: float,
    graph: NeighborGraph,
    labels: np.ndarray,
    weights: np.ndarray,
    groups: np.ndarray,
    pool: Executor,
) -> None:
    """Adds what ``neighbor_votes`` gives, times ``share``, to ``votes`` (n, c) float32."""
    from . import _probe_kernels

    heard = np.exp(graph.distances / np.float32(-VOTE_DISTANCE))

    def work(start: int, stop: int) -> None:
        _probe_kernels.add_votes(
            graph.indices, heard, labels, weights, groups, VOTE_PRIOR, share, votes, start, stop
        )

    in_parts(work, graph.num_rows, pool)


def believed(
    probe: np.ndarray, votes: np.ndarray, labels: np.ndarray, pool: Executor
) -> np.ndarray:
    """How likely the given label is beside the likeliest one, (n,) float32 in (0, 1]."""
    belief = np.empty(len(labels), np.float32)

    def work(part: slice) -> None:
        both = probe[part] + votes[part]
        given = both[np.arange(len(both)), np.maximum(labels[part], 0)]
        belief[part] = np.maximum(given / both.max(axis=1), LEAST_WEIGHT)

    run_blocks(pool, work, row_blocks(0, len(labels)))
    return belief
