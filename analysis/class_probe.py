"""Held-out class probabilities from the vectors alone: what a row's label would be without it.

Witnesses that fail differently are asked, and averaged:

- kernel ridge regression on the classes, on landmarks (Williams and Seeger, "Using the Nyström
  method to speed up kernel machines", 2001), which leaves out a row or a whole duplicate group in
  closed form (Rifkin and Lippert, "Notes on regularized least squares", 2007);
- cross-validated multinomial logistic regression on the same features;
- the vote of the nearest neighbors.

The neighbors vote twice: the second time, a label counts as much as ridge regression and the first
vote believe it. No witness was best on all of Caltech-101 with label flips and CIFAR-10N; their
mean was.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from ..process import one_torch_thread
from ..steps import Progress
from ._exact_search import product_threads
from ._probe_blocks import row_blocks, run_blocks
from ._probe_features import learn
from ._probe_logistic import Logistic
from ._probe_ridge import Ridge
from ._probe_votes import add_votes, believed
from .neighbors import NeighborGraph
from .vectors import content_keys

# Share of the neighbors in the mean; the two probes have the rest. Without them, average
# precision is lower by up to 0.015, but not under the heaviest noise.
VOTE_SHARE = 0.25


@dataclass(frozen=True)
class ClassEvidence:
    """Held-out class probabilities of every row, and the witnesses they come from.

    A row's own label and those of its duplicate group played no part in its probabilities. (In the
    second vote they have a say in how far the other labels are believed.) Every row sums to 1.

    Attributes:
        probabilities: (n, c) float32, calibrated; for unlabeled rows ordinary predictions
        probe: (n, c) float32, what the vectors say through ridge and logistic regression
        votes: (n, c) float32, what the neighbors say; uniform where none may vote
    """

    probabilities: np.ndarray
    probe: np.ndarray
    votes: np.ndarray


def held_out_probabilities(
    rows: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    graph: NeighborGraph,
    groups: np.ndarray | None = None,
    seed: int | None = 51,
    progress: Progress | None = None,
) -> ClassEvidence:
    """Predicts the class of every row from the other rows.

    A class all of whose members are in one duplicate group, or that has one member, cannot be
    learned when they are held out: they get a low probability of their own label. Zero rows have
    no direction: they teach nothing and get the shares of the classes.

    Args:
        rows: (n, d) float32 unit rows, zero rows allowed
        labels: (n,) integers, class numbers below ``num_classes``, -1 = unlabeled
        num_classes: c, at least 1
        graph: neighbors of the same rows
        groups: (n,) integers, duplicate group numbers, -1 = in none; None: no groups known
        seed: of the landmarks and the folds
        progress: called with the share of the work that is done, in [0, 1]

    Raises:
        ValueError: if the arrays do not fit each other, or no row that has a direction is labeled
    """
    labels, groups = _checked(rows, labels, num_classes, graph, groups)
    directed = np.any(rows, axis=1)
    labels = np.where(directed, labels, -1)
    if not (labels >= 0).any():
        raise ValueError("No embedding has a label")
    report = progress or (lambda share: None)

    with product_threads(several=True) as pool, one_torch_thread():
        keys = content_keys(rows, seed, pool)
        known = learn(rows, directed, labels, num_classes, groups, keys, pool)
        report(0.3)
        probe = np.zeros((len(rows), num_classes), np.float32)
        votes = np.zeros_like(probe)
        ridge = Ridge(known)
        ridge.add_probabilities(probe)
        weights = np.ones(len(rows), np.float32)
        add_votes(votes, 0.5, graph, labels, weights, groups, pool)
        weights = believed(probe, votes, labels, pool)
        add_votes(votes, 0.5, graph, labels, weights, groups, pool)
        report(0.6)
        Logistic(known, ridge.values).add_probabilities(probe)
        probabilities = _mixed(probe, votes, pool)
    report(1.0)
    return ClassEvidence(probabilities, probe, votes)


def _mixed(probe: np.ndarray, votes: np.ndarray, pool: Executor) -> np.ndarray:
    mixed = np.empty_like(probe)

    def work(part: slice) -> None:
        block = np.multiply(probe[part], 1 - VOTE_SHARE, out=mixed[part])
        block += VOTE_SHARE * votes[part]
        block /= block.sum(axis=1, keepdims=True)

    run_blocks(pool, work, row_blocks(0, len(probe)))
    return mixed


def _checked(
    rows: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    graph: NeighborGraph,
    groups: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    num_rows = len(rows)
    labels = np.asarray(labels)
    groups = np.full(num_rows, -1) if groups is None else np.asarray(groups)
    for name, array in (("labels", labels), ("groups", groups)):
        if array.shape != (num_rows,) or array.dtype.kind not in "iu":
            raise ValueError(f"{name} must be {num_rows} integers, not {array.dtype} {array.shape}")
    if graph.num_rows != num_rows:
        raise ValueError(f"The graph has {graph.num_rows} rows, the embeddings {num_rows}")
    if num_rows and not -1 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(f"Labels must lie between -1 and {num_classes - 1}")
    return labels.astype(np.int64), groups.astype(np.int64)
