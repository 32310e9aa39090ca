"""What the labels of the nearest neighbors say of a row, and how far a label is believed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .neighbors import NeighborGraph

# A neighbor's vote counts exp(-distance / this).
VOTE_DISTANCE = 0.1

# A vote that is shared by all classes, so that one far neighbor does not decide alone.
VOTE_PRIOR = 1e-3

# What a label counts in the second vote when it is not believed at all.
LEAST_WEIGHT = 0.02


@dataclass(frozen=True)
class Voters:
    """The neighbors of n rows, and what their votes count.

    Attributes:
        graph: of the rows
        labels, groups: (n,) int64, -1 = none
        heard: (n, k) float32, what a neighbor's vote counts by its distance
    """

    graph: NeighborGraph
    labels: np.ndarray
    groups: np.ndarray
    heard: np.ndarray

    @classmethod
    def from_graph(cls, graph: NeighborGraph, labels: np.ndarray, groups: np.ndarray) -> Voters:
        return cls(graph, labels, groups, np.exp(graph.distances / np.float32(-VOTE_DISTANCE)))

    def add_votes(
        self, votes: np.ndarray, share: float, weights: np.ndarray, rows: np.ndarray
    ) -> None:
        """Adds what the neighbors outside the own duplicate group say, times ``share``.

        What they say sums to 1, and is the same for all classes where none may vote.

        Args:
            votes: (r, c) float32, added to
            weights: (n,) float32, what a row's label counts
            rows: (r,) int64
        """
        from . import _probe_kernels

        _probe_kernels.add_votes(
            self.graph.indices,
            self.heard,
            self.labels,
            weights,
            self.groups,
            VOTE_PRIOR,
            share,
            rows,
            votes,
        )


def believed(probe: np.ndarray, votes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How likely the given label is beside the likeliest one, (r,) float32 in (0, 1].

    Args:
        probe, votes: (r, c) float32
        labels: (r,) int64, -1 = unlabeled
    """
    both = probe + votes
    given = both[np.arange(len(both)), np.maximum(labels, 0)]
    return np.maximum(given / both.max(axis=1), LEAST_WEIGHT)
