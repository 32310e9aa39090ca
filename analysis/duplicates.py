"""Duplicates: copies of files, and images that show the same image after some change.

The embeddings' neighbor graph proposes pairs, and comparing the images verifies them. A group is a
representative, the one image to keep, and images that each resemble it; links alone do not
chain images into a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..pictures.small_images import SmallImages
from ..steps import ProgressCallback, part_of
from .duplicate_candidates import (
    alike_candidates,
    entities,
    near_candidates,
    pair_candidates,
    representative_pairs,
)
from .duplicate_evidence import (
    DEFAULT_AGREEMENT,
    PairEvidence,
    chance_agreement,
    confirm_pairs,
    copies_apart,
    copy_evidence,
    image_numbers,
    merged,
    same_boxes,
    without,
)
from .duplicate_groups import find_conflicts, find_leaks, group_duplicates, keep_order
from .duplicate_looks import settled
from .neighbors import NeighborGraph

# How often representatives are compared with what may belong to them.
REPRESENTATIVE_ROUNDS = 4


@dataclass(frozen=True)
class Duplicates:
    """Groups of duplicates.

    Attributes:
        group: (n,) int64 number of the group, from 0 in the order of first rows; -1 in none
        exact: (n,) bool, the same bytes or pixels as another row
        keep: (n,) bool, the representative of its group; also True in no group
        evidence: the pairs that hold the groups together
        threshold: agreement from which a pair that the embeddings do not speak against was believed
        leaks: number of groups with members in both splits, by pair of splits, most first
        leaking: numbers of the groups that span splits
        conflicts: numbers of the groups whose members have different labels
        skipped: why an image could not be compared, by its row
    """

    group: np.ndarray
    exact: np.ndarray
    keep: np.ndarray
    evidence: PairEvidence
    threshold: float
    leaks: dict[tuple[str, str], int]
    leaking: np.ndarray
    conflicts: np.ndarray
    skipped: dict[int, str]


def find_duplicates(
    small: SmallImages,
    copies: np.ndarray,
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
    """Finds exact and near-duplicates.

    Args:
        small: n images, or n objects, as ``read_small_images`` reads them
        copies: (n,) int64 number of the set of exact copies, -1 in none: ``exact_copies(small)``
        rows: (n, dim) float32 unit rows; None finds exact copies only
        graph: their neighbor graph
        threshold: agreement of details, in (0, 1), from which a pair is believed; None reads it off
            the images
        labels: (n,) int64 class numbers, -1 unlabeled
        splits: n names of splits, None for none
        preference: (n,) floats: of a group, the member with the lowest is kept, within a split;
            NaN comes last. None prefers labeled ones, then the largest
        apart: (m, 2) int64 pairs that are no duplicates, whatever speaks for it
        progress: called with the share of the work that is done

    Raises:
        ValueError: if the arguments do not match, or threshold is out of range
    """
    _check(len(small.images), copies, rows, graph, threshold, labels, splits, preference)
    order = keep_order(small, labels, splits, preference)
    apart = np.empty((0, 2), np.int64) if apart is None else apart
    copies = copies_apart(copies, apart)
    parts = [copy_evidence(copies, small, rows)]
    if not small.whole:
        parts.append(same_boxes(small.images, rows, labels))
    base = threshold or DEFAULT_AGREEMENT
    if rows is not None and graph is not None and graph.k > 0:
        if threshold is None:
            base = chance_agreement(small, graph)
        asked = base, threshold is None
        parts += _near_evidence(small, copies, rows, graph, order, asked, parts, apart, progress)
    evidence = without(merged(parts), apart)
    group, keep = group_duplicates(len(copies), evidence.pairs, copies, order)
    leaks, leaking = find_leaks(group, splits)
    if progress is not None:
        progress(1.0)
    return Duplicates(
        group=group,
        exact=copies >= 0,
        keep=keep,
        evidence=evidence,
        threshold=float(base),
        leaks=leaks,
        leaking=leaking,
        conflicts=find_conflicts(group, labels),
        skipped=small.reasons,
    )


def _near_evidence(
    small: SmallImages,
    copies: np.ndarray,
    rows: np.ndarray,
    graph: NeighborGraph,
    order: np.ndarray,
    asked: tuple[float, bool],
    known: list[PairEvidence],
    apart: np.ndarray,
    progress: ProgressCallback | None,
) -> list[PairEvidence]:
    """Near-duplicates: among neighbors, then of what has come to represent a group.

    Args:
        order: (n,) int64 rows, the best ones first
        asked: agreement from which a pair is believed, and whether looking closely decides
        known: what speaks for other pairs
        apart: (m, 2) int64 pairs that are no duplicates
    """
    candidates = near_candidates(graph, copies, image_numbers(small.images))
    if small.whole:
        alone = small.readable & (entities(copies) == np.arange(len(copies)))
        others = alike_candidates(small.gray, alone, candidates.pairs)
        candidates = candidates.with_others(pair_candidates(others, rows, graph))
    compared = candidates.pairs
    standing = merged(known)
    seen: dict[tuple[int, int], tuple[bool, str]] = {}

    def shown(alike: PairEvidence) -> PairEvidence:
        return settled(small, standing, alike, copies, order, seen) if asked[1] else alike

    comparing = part_of(progress, 0.0, 0.5)
    alike = confirm_pairs(small, candidates, order, *asked, comparing)
    near = shown(alike)
    for _ in range(REPRESENTATIVE_ROUNDS):
        links = without(merged([*known, near]), apart).pairs
        group, keep = group_duplicates(len(copies), links, copies, order)
        others = representative_pairs(group, keep, copies, links, graph, compared)
        found = confirm_pairs(small, pair_candidates(others, rows, graph), order, *asked)
        if len(found.pairs) == 0:
            break
        alike = merged([alike, found])
        near = shown(alike)
        compared = np.concatenate([compared, others])
    return [near]


def _check(num_images, copies, rows, graph, threshold, labels, splits, preference) -> None:
    given = {"copies": copies, "rows": rows, "labels": labels, "splits": splits}
    given["preference"] = preference
    for name, value in given.items():
        if value is not None and len(value) != num_images:
            raise ValueError(f"{num_images} images, but {len(value)} {name}")
    if (rows is None) != (graph is None):
        raise ValueError("rows and graph come together: pass both or none")
    if graph is not None and graph.num_rows != num_images:
        raise ValueError(f"{num_images} images, but a graph of {graph.num_rows} rows")
    if threshold is not None and not 0 < threshold < 1:
        raise ValueError(f"threshold must lie between 0 and 1, not be {threshold}")
