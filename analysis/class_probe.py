"""Held-out class probabilities from the embeddings alone: what a row's label would be without it.

Classifiers that fail differently are averaged:

- kernel ridge regression on the classes, on landmarks (Williams and Seeger, "Using the Nyström
  method to speed up kernel machines", 2001), which leaves out a row or a whole duplicate group in
  closed form (Rifkin and Lippert, "Notes on regularized least squares", 2007);
- cross-validated multinomial logistic regression on the same features;
- the vote of the nearest neighbors.

The neighbors vote twice: the second time, a label counts as much as ridge regression and the first
vote believe it. No classifier was best on all of Caltech-101 with label flips and CIFAR-10N; their
mean was.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from ..process import one_torch_thread
from ..steps import ProgressCallback
from ._exact_search import product_threads
from ._probe_blocks import row_blocks
from ._probe_features import ProbeRows, learn
from ._probe_logistic import Logistic
from ._probe_ridge import Ridge, group_members
from ._probe_votes import Voters, believed
from .likely_classes import Probabilities, empty_probabilities
from .neighbors import NeighborGraph
from .vectors import content_keys

# Share of the neighbors in the mean; the two probes have the rest. Without them, average
# precision is lower by up to 0.015, but not under the heaviest noise.
VOTE_SHARE = 0.25

# Evidence that is less than this much better than knowing the shares of the classes is none. By log
# loss, which the temperature of the evidence minimizes: embeddings without content reach the
# shares.
LEAST_GAIN = 0.02


@dataclass(frozen=True)
class ClassEvidence:
    """Held-out class probabilities of every row, and the classifiers they come from.

    A row's own label and those of its duplicate group played no part in its probabilities. (In the
    second vote they have a say in how far the other labels are believed.) Every row sums to 1.

    Each is an array, or of many rows and classes ``LikelyClasses``.

    Attributes:
        probabilities: (n, c) float32, calibrated; for unlabeled rows ordinary predictions
        probe: (n, c) float32, what ridge and logistic regression predict
        votes: (n, c) float32, what the neighbors vote for; uniform where none may vote
    """

    probabilities: Probabilities
    probe: Probabilities
    votes: Probabilities


def held_out_probabilities(
    rows: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    graph: NeighborGraph,
    groups: np.ndarray | None = None,
    seed: int | None = 51,
    progress: ProgressCallback | None = None,
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
        report(0.2)
        ridge = Ridge(known)
        ridge.tune()
        predictors = _Predictors(
            ridge, Voters.from_graph(graph, labels, groups), np.ones(len(rows), np.float32)
        )
        belief = np.empty(len(rows), np.float32)

        def believe(piece: _Piece) -> None:
            belief[piece.rows] = believed(*predictors.first(piece), labels[piece.rows])

        pieces = _pieces(known)
        _run(pool, believe, pieces, lambda share: report(0.2 + 0.2 * share))
        logistic = Logistic(known, ridge.values)
        report(0.7)
        evidence = ClassEvidence(*(empty_probabilities(labels, num_classes) for _ in range(3)))

        def predict(piece: _Piece) -> None:
            probe, votes = predictors.first(piece)
            probe += 0.5 * logistic.probabilities(piece.places)
            predictors.voters.add_votes(votes, 0.5, belief, piece.rows)
            mixed = (1 - VOTE_SHARE) * probe + VOTE_SHARE * votes
            mixed /= mixed.sum(axis=1, keepdims=True)
            evidence.probabilities[piece.rows] = mixed
            evidence.probe[piece.rows] = probe
            evidence.votes[piece.rows] = votes

        _run(pool, predict, pieces, lambda share: report(0.7 + 0.3 * share))
    return evidence


def separates_classes(evidence: ClassEvidence, labels: np.ndarray) -> bool:
    """Whether held-out evidence says more of the labels than the shares of the classes do.

    Args:
        evidence: of (n, c) rows and classes
        labels: (n,) integers, -1 = unlabeled
    """
    labeled = np.flatnonzero(labels >= 0)
    if len(labeled) == 0:
        return False
    given = evidence.probabilities[labeled, labels[labeled]].astype(np.float64)
    shares = np.bincount(labels[labeled]) / len(labeled)
    entropy = -(shares[shares > 0] * np.log(shares[shares > 0])).sum()
    loss = -np.log(np.maximum(given, 1e-12)).mean()
    return bool(loss < (1 - LEAST_GAIN) * entropy)


@dataclass(frozen=True)
class _Piece:
    """Some rows that are predicted at once.

    Attributes:
        rows: (r,) int64
        places: (r,) int64, or as a slice: where they stand in ``ProbeRows``
        members: (g, s) these places, of a duplicate group each that is left out as a whole; None
            where each row is left out by itself
    """

    rows: np.ndarray
    places: np.ndarray | slice
    members: np.ndarray | None = None


def _pieces(known: ProbeRows) -> list[_Piece]:
    pieces = [
        _Piece(known.order[members.ravel()], members.ravel(), members)
        for members in group_members(known.groups, known.labels)
    ]
    if not pieces:
        return [_Piece(known.order[part], part) for part in row_blocks(0, len(known.order))]
    alone = np.ones(len(known.order), bool)
    alone[np.concatenate([piece.places for piece in pieces])] = False
    places = np.flatnonzero(alone)
    for part in row_blocks(0, len(places)):
        pieces.append(_Piece(known.order[places[part]], places[part]))
    return pieces


@dataclass(frozen=True)
class _Predictors:
    """What predicts twice: at first, to know how far each label can be believed."""

    ridge: Ridge
    voters: Voters
    alike: np.ndarray  # (n,) float32 ones: at first, all labels are believed alike

    def first(self, piece: _Piece) -> tuple[np.ndarray, np.ndarray]:
        """Half of the probe and half of the votes: (r, c) float32 each."""
        probe = 0.5 * self.ridge.probabilities(piece.places, piece.members)
        votes = np.zeros_like(probe)
        self.voters.add_votes(votes, 0.5, self.alike, piece.rows)
        return probe, votes


def _run(
    pool: Executor, work: Callable[[_Piece], None], pieces: list[_Piece], report: ProgressCallback
) -> None:
    for number, _ in enumerate(pool.map(work, pieces), 1):
        report(number / len(pieces))


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
