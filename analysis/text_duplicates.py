"""Duplicates of texts: the same normalized text, or texts that differ in a few words only.

The embeddings' neighbor graph proposes pairs, and comparing the words verifies them. A group is a
representative, and texts that each resemble it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import cast

import numpy as np

from ..steps import ProgressCallback, part_of
from .duplicate_candidates import near_candidates, representative_pairs
from .duplicate_evidence import PairEvidence, copies_apart
from .duplicate_groups import find_conflicts, find_leaks, group_duplicates, order_by
from .duplicates import REPRESENTATIVE_ROUNDS, Duplicates
from .neighbors import NeighborGraph
from .text_pairs import TextSet, Words, change_of, read_words

# How far the words of two texts must agree is read off the set: of 2,000 pairs of tenth neighbors
# the median and this many times the way from there to the 90th percentile, within bounds. Texts
# that a template made agree by 0.8 without being the same. Of docstrings of the standard library,
# most pairs that agree by 0.70 to 0.79 and were looked at say different things.
CHANCE_PAIRS, CHANCE_RANK, CHANCE_REACH = 2000, 10, 4.0
CHANCE_BOUNDS = (0.8, 0.95)

# In smaller sets the tenth neighbor says little.
DEFAULT_AGREEMENT, MIN_CHANCE_TEXTS = 0.8, 100

NO_TEXT = "there is no text"


def find_text_duplicates(
    texts: Sequence[str | None],
    rows: np.ndarray | None = None,
    graph: NeighborGraph | None = None,
    *,
    threshold: float | None = None,
    labels: np.ndarray | None = None,
    splits: Sequence[str | None] | None = None,
    preference: np.ndarray | None = None,
    apart: np.ndarray | None = None,
    progress: ProgressCallback | None = None,
) -> Duplicates:
    """Finds texts that are the same, and texts that differ in a few words only.

    Of a group the longest text is kept, labeled ones first, within a split. The evidence is of each
    text with the one that is kept; its kinds are those of ``text_pairs.change_of``.

    Args:
        texts: n texts; None, or nothing but spaces, for none
        rows: (n, dim) float32 unit rows; None finds the same normalized text only
        graph: their neighbor graph
        threshold: agreement of the words, in (0, 1), from which texts are duplicates that do not
            contradict each other (see ``TextSet``); None reads it off the set
        labels: (n,) int64 class numbers, -1 unlabeled
        splits: n names of splits, None for none
        preference: (n,) floats, the lowest of a group is kept, within a split
        apart: (m, 2) int64 pairs that are no duplicates, whatever speaks for it
        progress: called with the share of the work that is done

    Raises:
        ValueError: if the arguments do not match, or threshold is out of range

    Example:
        >>> found = find_text_duplicates(["A cat on a mat.", "a cat, on a mat", "Two dogs", None])
        >>> found.group.tolist(), found.keep.tolist(), found.skipped
        ([0, 0, -1, -1], [True, False, True, True], {3: 'there is no text'})
    """
    given = {"rows": rows, "labels": labels, "splits": splits, "preference": preference}
    for name, value in given.items():
        if value is not None and len(value) != len(texts):
            raise ValueError(f"{len(texts)} texts, but {len(value)} {name}")
    if threshold is not None and not 0 < threshold < 1:
        raise ValueError(f"threshold must lie between 0 and 1, not be {threshold}")
    apart = np.empty((0, 2), np.int64) if apart is None else apart
    words = [read_words(text) if text and text.strip() else None for text in texts]
    text_set = TextSet.from_texts(found for found in words if found is not None)
    copies = copies_apart(same_texts(words), apart)
    order = order_by(
        [text or "" for text in texts],
        [np.array([-len(text or "") for text in texts])],
        labels,
        splits,
        preference,
    )
    base, links = threshold or DEFAULT_AGREEMENT, np.empty((0, 2), np.int64)
    if rows is not None and graph is not None and graph.k > 0:
        base = threshold or chance_agreement(words, text_set, graph)
        links = _near_links(words, text_set, graph, copies, order, base, apart, progress)
    group, keep = group_duplicates(len(texts), links, copies, order)
    leaks, leaking = find_leaks(group, splits)
    if progress is not None:
        progress(1.0)
    return Duplicates(
        group=group,
        exact=copies >= 0,
        keep=keep,
        evidence=_evidence(words, text_set, rows, group, keep),
        threshold=float(base),
        leaks=leaks,
        leaking=leaking,
        conflicts=find_conflicts(group, labels),
        skipped={row: NO_TEXT for row, found in enumerate(words) if found is None},
    )


def same_texts(words: Sequence[Words | None]) -> np.ndarray:
    """The number of the set of texts that are the same when normalized, (n,) int64, -1 in none."""
    rows: dict[str, list[int]] = {}
    for row, found in enumerate(words):
        if found is not None:
            rows.setdefault(found.normalized, []).append(row)
    copies = np.full(len(words), -1, np.int64)
    for number, members in enumerate(some for some in rows.values() if len(some) > 1):
        copies[members] = number
    return copies


def chance_agreement(
    words: Sequence[Words | None], text_set: TextSet, graph: NeighborGraph
) -> float:
    """The agreement from which texts of this set are the same, read off their tenth neighbors."""
    known = {row: found for row, found in enumerate(words) if found is not None}
    present = list(known)
    if len(present) < MIN_CHANCE_TEXTS:
        return DEFAULT_AGREEMENT
    # By a hash of the text: a random choice that does not depend on the order of the rows.
    present.sort(key=lambda row: (zlib.crc32(known[row].normalized.encode()), row))
    rank = min(CHANCE_RANK, graph.k) - 1
    pairs = [(row, int(graph.indices[row, rank])) for row in present[:CHANCE_PAIRS]]
    agreement = [
        text_set.agreement(known[one], known[other])
        for one, other in pairs
        if other in known and known[one].all != known[other].all
    ]
    if not agreement:
        return DEFAULT_AGREEMENT
    middle, high = np.quantile(agreement, [0.5, 0.9])
    return float(np.clip(middle + CHANCE_REACH * (high - middle), *CHANCE_BOUNDS))


def _near_links(
    words: Sequence[Words | None],
    text_set: TextSet,
    graph: NeighborGraph,
    copies: np.ndarray,
    order: np.ndarray,
    threshold: float,
    apart: np.ndarray,
    progress: ProgressCallback | None,
) -> np.ndarray:
    """Pairs (m, 2) of texts that are alike: among neighbors, then with representatives."""
    pairs = np.concatenate([near_candidates(graph, copies).pairs, _same_sentences(words, copies)])
    pairs = np.unique(pairs, axis=0)
    links: np.ndarray = np.empty((0, 2), np.int64)
    compared = links
    forbidden = set(map(tuple, np.sort(apart, axis=1).tolist()))
    for round_ in range(REPRESENTATIVE_ROUNDS + 1):
        step = None if round_ else part_of(progress, 0.0, 0.9)
        alike = _alike(words, text_set, pairs, threshold, step)
        found = [pair for pair in pairs[alike].tolist() if tuple(pair) not in forbidden]
        links = np.concatenate([links, np.array(found, np.int64).reshape(-1, 2)])
        compared = np.concatenate([compared, pairs])
        if round_ and not found:
            break
        group, keep = group_duplicates(len(words), links, copies, order)
        pairs = representative_pairs(group, keep, copies, links, graph, compared)
    return links


def _same_sentences(words: Sequence[Words | None], copies: np.ndarray) -> np.ndarray:
    """Pairs (m, 2) of texts of the same sentences in another order, each with the first of them."""
    first: dict[tuple, int] = {}
    pairs = []
    for row, found in enumerate(words):
        if found is None or len(found.sentences) < 2:
            continue
        other = first.setdefault(tuple(sorted(found.sentences)), row)
        if other != row and (copies[row] < 0 or copies[row] != copies[other]):
            pairs.append((other, row))
    return np.array(pairs, np.int64).reshape(-1, 2)


def _alike(
    words: Sequence[Words | None],
    text_set: TextSet,
    pairs: np.ndarray,
    threshold: float,
    progress: ProgressCallback | None,
) -> np.ndarray:
    """Which pairs (m, 2) agree by the threshold and do not contradict each other: (m,) bool."""
    alike = np.zeros(len(pairs), bool)
    for place, (one, other) in enumerate(pairs.tolist()):
        mine, theirs = words[one], words[other]
        if mine is not None and theirs is not None:
            agree = text_set.agreement(mine, theirs) >= threshold
            alike[place] = agree and not text_set.contradict(mine, theirs)
        if progress is not None and place % 1000 == 0:
            progress(place / len(pairs))
    return alike


def _evidence(
    words: Sequence[Words | None],
    text_set: TextSet,
    rows: np.ndarray | None,
    group: np.ndarray,
    keep: np.ndarray,
) -> PairEvidence:
    """What each member of a group is like, beside the one that is kept."""
    kept = {int(group[row]): int(row) for row in np.flatnonzero(keep & (group >= 0))}
    pairs = sorted(
        tuple(sorted((kept[int(group[row])], row))) for row in np.flatnonzero(~keep).tolist()
    )
    # Only texts with words are in groups.
    known = cast(Sequence[Words], words)
    compared = [(known[one], known[other]) for one, other in pairs]
    array = np.array(pairs, np.int64).reshape(-1, 2)
    similarity = np.full(len(pairs), np.nan, np.float32)
    if rows is not None:
        similarity = np.einsum("ij,ij->i", rows[array[:, 0]], rows[array[:, 1]])
    agreement = np.array([text_set.agreement(one, two) for one, two in compared], np.float32)
    changes = tuple(change_of(one, two) for one, two in compared)
    return PairEvidence(array, similarity, agreement, changes)
