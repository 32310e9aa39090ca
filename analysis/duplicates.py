"""Duplicates: copies of files, and pictures that show the same photo after some change.

The vectors' neighbour graph proposes pairs, and comparing the pictures proves them. A group is a
representative, the one picture to keep, and pictures that each resemble it; links alone do not
chain pictures into a group.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ._exact_search import Progress
from .file_copies import exact_copies
from .neighbors import NeighborGraph
from .small_pictures import Picture, SmallPictures, read_small_pictures

# Neighbours of each picture that are compared. On CIFAR-10 the first finds 75 % of the known
# same-photo pairs, four find 93 %, eight 98 %.
COMPARED_NEIGHBORS = 4

# A pair stands out by its distance relative to how far the neighbourhood of either reaches. Up to
# the first figure the vectors speak for a pair, from the second on against it, and the details must
# agree better, by SURPRISE in Fisher's z (0.87 becomes 0.95). From the pairs of Caltech-101 and
# CIFAR-10: known ones lie at 0.3 and 0.47 (medians), other neighbours at 0.7.
NEAR, FAR, SURPRISE = 0.3, 1.0, 0.2

# How often representatives are compared with what may belong to them, and with how many duplicates
# of each duplicate.
REPRESENTATIVE_ROUNDS, MOST_ASKED = 4, 50

# Without pictures, only a distance of a tenth of the neighbourhood's is believed: no other pair of
# Caltech-101 comes below 0.12, and a third of the true ones do.
OVERWHELMING = 0.1

# What agreement means sameness depends on the pictures: digits aligned with their neighbours agree
# by 0.7 (median), photos by 0.1. It is read off pairs of tenth neighbours, as the median plus this
# many times the way from there to the 90th percentile, in Fisher's z, within bounds. That gives the
# lower bound for CIFAR-10, 0.86 and 0.91 for two parts of Caltech-101, and the upper bound for
# digits; one agreement for all does worse (benchmarks/cross_validation.py). The draw of 2,000 pairs
# moves it by less than 0.01; that of 500 by 0.02, which cost CIFAR-10 up to 4 % of its recall. Of
# 60 pairs of CIFAR-10 at 0.86 to 0.90, looked at, nine in ten are one photo; of 38 between the
# lower bound and 0.86, three in four.
CHANCE_PAIRS, CHANCE_RANK, CHANCE_REACH = 2000, 10, 4.0
CHANCE_BOUNDS = (0.82, 0.95)
DEFAULT_AGREEMENT = 0.86
# In smaller sets the tenth neighbour says little, and DEFAULT_AGREEMENT holds.
MIN_CHANCE_PICTURES = 100

# Overlap (intersection over union) of two boxes of one image that are one object, labeled alike or
# not known; and where they are labeled differently.
SAME_OBJECT_OVERLAP, SAME_BOX_OVERLAP = 0.75, 0.95

# Splits whose member of a group stays, the first one first; others follow in alphabetical order.
SPLIT_ORDER = ("test", "testing", "val", "valid", "validation")


@dataclass(frozen=True)
class Candidates:
    """Pairs of pictures that may show the same.

    Attributes:
        pairs: (m, 2) int64 rows, the lower one first, sorted
        similarity: (m,) float32 cosine similarity
        relative_distance: (m,) float32, cosine distance as a share of how far the neighbourhoods
            reach; 0 for equal vectors, about 0.7 for ordinary neighbours
    """

    pairs: np.ndarray
    similarity: np.ndarray
    relative_distance: np.ndarray


@dataclass(frozen=True)
class PairEvidence:
    """What speaks for pairs of duplicates.

    Attributes:
        pairs: (m, 2) int64 rows, the lower one first, sorted
        similarity: (m,) float32 cosine similarity of the vectors; NaN without vectors
        agreement: (m,) float32, agreement of the aligned pictures' details in [-1, 1]; NaN where
            they were not compared
        kind: m names of the change: "copy" (same bytes), "same pixels", "mirror", "rotation",
            "crop", "rescale", "gray", "tone", "blur", "recompression", "retouched", "box" (the same
            object of one image twice), "embedding" (by the vectors alone)
    """

    pairs: np.ndarray
    similarity: np.ndarray
    agreement: np.ndarray
    kind: tuple[str, ...]


@dataclass(frozen=True)
class Duplicates:
    """Groups of duplicates.

    Attributes:
        group: (n,) int64 number of the group, from 0 in the order of first rows; -1 in none
        exact: (n,) bool, the same bytes or pixels as another row
        keep: (n,) bool, the representative of its group; also True in no group
        evidence: the pairs that hold the groups together
        threshold: agreement from which a pair that the vectors do not speak against was believed
        leaks: number of groups with members in both splits, by pair of splits, most first
        leaking: numbers of the groups that span splits
        conflicts: numbers of the groups whose members have different labels
        skipped: why a picture could not be compared, by its row
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
    pictures: Sequence[Picture],
    rows: np.ndarray | None = None,
    graph: NeighborGraph | None = None,
    threshold: float | None = None,
    labels: np.ndarray | None = None,
    splits: Sequence[str | None] | None = None,
    progress: Progress | None = None,
) -> Duplicates:
    """Finds exact and near-duplicates.

    Args:
        pictures: n pictures, or n objects
        rows: (n, dim) float32 unit rows; None finds exact copies only
        graph: their neighbour graph
        threshold: agreement of details, in (0, 1), from which a pair is believed; None reads it off
            the pictures
        labels: (n,) int64 class numbers, -1 unlabeled
        splits: n names of splits, None for none
        progress: called with the share of the work that is done

    Raises:
        ValueError: if the arguments do not match, or threshold is out of range
    """
    num_pictures = len(pictures)
    _check(num_pictures, rows, graph, threshold, labels, splits)
    whole = all(picture.box is None for picture in pictures)
    small = read_small_pictures(pictures, _part(progress, 0.0, 0.6))
    if whole:
        copies = exact_copies(pictures, small, _part(progress, 0.6, 0.7))
    else:
        copies = np.full(num_pictures, -1, np.int64)
    order = keep_order(pictures, small, labels, splits)
    parts = [copy_evidence(copies, small, rows)]
    base = threshold or DEFAULT_AGREEMENT
    if not whole:
        parts.append(same_boxes(pictures, rows, labels))
    if rows is not None and graph is not None and graph.k > 0:
        if threshold is None:
            base = chance_agreement(small, graph)
        candidates = near_candidates(graph, copies, _images(pictures))
        tested = confirm_pairs(pictures, small, candidates, order, base, _part(progress, 0.7, 0.95))
        parts.append(tested)
        compared = candidates.pairs
        for _ in range(REPRESENTATIVE_ROUNDS):
            group, keep = group_duplicates(num_pictures, _merged(parts).pairs, copies, order)
            asked = representative_pairs(group, keep, copies, _merged(parts).pairs, graph, compared)
            found = confirm_pairs(pictures, small, pair_candidates(asked, rows, graph), order, base)
            if len(found.pairs) == 0:
                break
            parts.append(found)
            compared = np.concatenate([compared, asked])
    evidence = _merged(parts)
    group, keep = group_duplicates(num_pictures, evidence.pairs, copies, order)
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


def near_candidates(
    graph: NeighborGraph, copies: np.ndarray | None = None, images: np.ndarray | None = None
) -> Candidates:
    """Pairs to be compared: the first few neighbours that are not copies, where that is mutual.

    Rank, not distance, decides: a gray or blurred copy is far away, but still the nearest. A pair
    must be among the first four of one row, and in the list of the other, or stand out.

    Args:
        graph: k neighbours of n rows
        copies: (n,) int64 number of the set of exact copies, -1 in none; one of each set stands for
            the others
        images: (n,) int64, the image in which an object lies; two of one image are no candidates
    """
    num_rows, k = graph.indices.shape
    if k == 0:
        return Candidates(np.empty((0, 2), np.int64), *np.empty((2, 0), np.float32))
    apart = graph.indices != np.arange(num_rows)[:, None]
    neighbors = graph.indices.astype(np.int64)
    if copies is not None and (copies >= 0).any():
        entity = _entities(copies)
        neighbors = entity[neighbors]
        apart = (neighbors != entity[:, None]) & (entity == np.arange(num_rows))[:, None]
        for column in range(1, k):
            apart[:, column] &= (neighbors[:, :column] != neighbors[:, column, None]).all(axis=1)
    if images is not None:
        apart &= images[neighbors] != images[:, None]
    first = apart & (np.cumsum(apart, axis=1) <= COMPARED_NEIGHBORS)
    row, column = np.nonzero(first)
    other, distance = neighbors[row, column], graph.distances[row, column]
    relative = _relative_distance(distance, row, other, graph)
    mutual = (neighbors[other] == row[:, None]).any(axis=1)
    chosen = mutual | (relative < 0.5)
    low, high = np.minimum(row, other)[chosen], np.maximum(row, other)[chosen]
    _, once = np.unique(low * num_rows + high, return_index=True)
    pairs = np.stack([low[once], high[once]], axis=1)
    return Candidates(pairs, 1 - distance[chosen][once], relative[chosen][once])


def pair_candidates(pairs: np.ndarray, rows: np.ndarray, graph: NeighborGraph) -> Candidates:
    """The given pairs (m, 2) with what the vectors say about them."""
    left, right = pairs.T
    distance = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), 4096):
        part = slice(start, start + 4096)
        distance[part] = ((rows[left[part]] - rows[right[part]]) ** 2).sum(axis=1) / 2
    return Candidates(pairs, 1 - distance, _relative_distance(distance, left, right, graph))


def representative_pairs(
    group: np.ndarray,
    keep: np.ndarray,
    copies: np.ndarray,
    links: np.ndarray,
    graph: NeighborGraph,
    compared: np.ndarray,
) -> np.ndarray:
    """Pairs (m, 2) of representatives with pictures that may belong to them, not compared yet.

    A large group is not found by four neighbours each. Its representative, and no other member, is
    compared with all its neighbours and with the duplicates of its duplicates.

    Args:
        group, keep: of ``group_duplicates``
        copies: (n,) int64 number of the set of exact copies, -1 in none
        links: (l, 2) int64 confirmed pairs
        compared: (c, 2) int64 pairs that were compared before
    """
    entity = _entities(copies)
    linked: dict[int, list[int]] = {}
    for one, other in entity[links].tolist():
        linked.setdefault(one, []).append(other)
        linked.setdefault(other, []).append(one)
    known = set(map(tuple, entity[compared].tolist()))
    known.update((one, other) for one, others in linked.items() for other in others)
    wanted = set()
    for row in entity[np.flatnonzero(keep & (group >= 0))].tolist():
        others = set(entity[graph.indices[row]].tolist())
        for direct in linked.get(row, ())[:MOST_ASKED]:
            others.update(linked[direct][:MOST_ASKED])
        others.discard(row)
        wanted.update((min(row, other), max(row, other)) for other in others)
    return np.array(sorted(wanted - known), np.int64).reshape(-1, 2)


def chance_agreement(small: SmallPictures, graph: NeighborGraph) -> float:
    """The agreement from which pictures of this set are the same, read off their neighbours."""
    readable = np.flatnonzero(small.readable)
    if len(readable) < MIN_CHANCE_PICTURES or graph.k == 0:
        return DEFAULT_AGREEMENT
    from ._picture_pairs import compare_pairs

    # By a hash of what they show: a random choice that depends neither on the order of the rows nor
    # on where the files lie.
    hashes = [zlib.crc32(small.grey[row]) for row in readable]
    chosen = readable[np.argsort(hashes, kind="stable")[:CHANCE_PAIRS]]
    partners = graph.indices[chosen, min(CHANCE_RANK, graph.k) - 1].astype(np.int64)
    sound = small.readable[partners]
    agreement, *_ = compare_pairs(small.grey, np.stack([chosen, partners], axis=1)[sound])
    z = np.arctanh(np.clip(agreement, -0.99, 0.9999))
    middle, high = np.quantile(z, [0.5, 0.9])
    return float(np.clip(np.tanh(middle + CHANCE_REACH * (high - middle)), *CHANCE_BOUNDS))


def confirm_pairs(
    pictures: Sequence[Picture],
    small: SmallPictures,
    candidates: Candidates,
    order: np.ndarray,
    threshold: float,
    progress: Progress | None = None,
) -> PairEvidence:
    """Compares the pictures of candidate pairs and keeps the pairs that are the same.

    A pair with an unreadable picture is believed by its vectors only when they are overwhelming.

    Args:
        pictures, small: n pictures and their small versions
        candidates: the pairs
        order: (n,) int64 rows, the best ones first; the better picture is the one that the other
            is aligned with
        threshold: agreement from which a pair is believed that the vectors do not speak against
        progress: called with the share of the pairs that is done
    """
    from ._picture_pairs import compare_pairs, kinds_of_change

    pairs, relative = candidates.pairs, candidates.relative_distance
    readable = small.readable[pairs].all(axis=1)
    agreement = np.full(len(pairs), np.nan, np.float32)
    compared = np.flatnonzero(readable)
    of_objects = any(picture.box is not None for picture in pictures)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    worse_first = place[pairs[:, 0]] > place[pairs[:, 1]]
    directed = np.where(worse_first[:, None], pairs[:, ::-1], pairs)
    found = compare_pairs(small.grey, directed[compared], of_objects, progress)
    agreement[compared] = found[0]
    against = np.clip((relative - NEAR) / (FAR - NEAR), 0, 1)
    needed = np.tanh(math.atanh(min(threshold, 0.999)) + SURPRISE * against)
    same = np.where(readable, agreement >= needed, relative <= OVERWHELMING)
    kinds = np.full(len(pairs), "embedding", object)
    confirmed = same[compared]
    kinds[compared[confirmed]] = kinds_of_change(
        small, directed[compared[confirmed]], found[1][confirmed], found[2][confirmed]
    )
    similarity = candidates.similarity[same]
    return PairEvidence(pairs[same], similarity, agreement[same], tuple(kinds[same]))


def same_boxes(
    pictures: Sequence[Picture], rows: np.ndarray | None, labels: np.ndarray | None
) -> PairEvidence:
    """Pairs of boxes in one image that hold the same object, by their overlap.

    Objects without a box (an empty tuple) overlap with nothing.
    """
    images = _images(pictures)
    order = np.argsort(images, kind="stable")
    order = order[[pictures[row].box is None or len(pictures[row].box) > 0 for row in order]]
    parts = np.split(order, np.flatnonzero(np.diff(images[order])) + 1)
    pairs = []
    for part in parts:
        if len(part) < 2:
            continue
        boxes = np.array([pictures[row].box or (0, 0, 1, 1) for row in part], float)
        for place in range(len(part) - 1):
            overlap = _overlap(boxes[place], boxes[place + 1 :])
            others = part[place + 1 :]
            needed = np.full(len(others), SAME_OBJECT_OVERLAP)
            if labels is not None:
                mine, theirs = labels[part[place]], labels[others]
                needed[(mine >= 0) & (theirs >= 0) & (mine != theirs)] = SAME_BOX_OVERLAP
            pairs += [(part[place], other) for other in others[overlap >= needed]]
    pairs = np.sort(np.array(pairs, np.int64).reshape(-1, 2), axis=1)
    not_compared = np.full(len(pairs), np.nan, np.float32)
    return PairEvidence(pairs, _similarity(pairs, rows), not_compared, ("box",) * len(pairs))


def copy_evidence(
    copies: np.ndarray, small: SmallPictures, rows: np.ndarray | None = None
) -> PairEvidence:
    """Exact copies as pairs, each with the first of its set."""
    entity = _entities(copies)
    others = np.flatnonzero(entity != np.arange(len(copies)))
    pairs = np.stack([entity[others], others], axis=1)
    same_size = small.num_bytes[pairs[:, 0]] == small.num_bytes[pairs[:, 1]]
    kinds = tuple("copy" if same else "same pixels" for same in same_size)
    return PairEvidence(pairs, _similarity(pairs, rows), np.ones(len(pairs), np.float32), kinds)


def keep_order(
    pictures: Sequence[Picture],
    small: SmallPictures,
    labels: np.ndarray | None = None,
    splits: Sequence[str | None] | None = None,
) -> np.ndarray:
    """Rows (n,) int64 in the order in which they are worth keeping.

    Test before validation before the rest, labeled before unlabeled, then by pixels, then by the
    bytes of the file, which is less compressed; last by name, so that the order of the rows does
    not matter.
    """
    names = [(picture.path, picture.box or ()) for picture in pictures]
    by_name = np.empty(len(names), np.int64)
    by_name[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    unlabeled = np.zeros(len(names), bool) if labels is None else np.asarray(labels) < 0
    split_place = _split_places(splits, len(names))
    return np.lexsort((by_name, -small.num_bytes, -small.num_pixels, unlabeled, split_place))


def group_duplicates(
    num_rows: int, pairs: np.ndarray, copies: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Groups without chains: each member is linked with its representative directly.

    The rows are taken in the given order. One that is in no group yet represents a new one, of all
    rows linked with it that are in none. Exact copies count as one.

    Args:
        num_rows: number of rows
        pairs: (m, 2) int64 links
        copies: (n,) int64 number of the set of exact copies, -1 in none
        order: (n,) int64 rows, the best ones first

    Returns:
        group (n,) int64, -1 in none, and keep (n,) bool
    """
    entity = _entities(copies)
    links = entity[pairs]
    links = np.concatenate([links, links[:, ::-1]])
    links = np.unique(links[links[:, 0] != links[:, 1]], axis=0)
    starts = np.searchsorted(links[:, 0], np.arange(num_rows + 1))
    of = np.full(num_rows, -1, np.int64)
    keep = np.ones(num_rows, bool)
    seen = np.zeros(num_rows, bool)
    involved = np.zeros(num_rows, bool)
    involved[links[:, 0]] = True
    involved[entity[copies >= 0]] = True
    # The best copy of a set stands for it.
    for row in order[involved[entity[order]]]:
        mine = entity[row]
        if seen[mine]:
            keep[row] = False
            continue
        linked = links[starts[mine] : starts[mine + 1], 1]
        linked = linked[~seen[linked]]
        if len(linked) == 0 and copies[row] < 0:
            seen[mine] = True
            continue
        seen[mine] = True
        seen[linked] = True
        of[mine] = mine
        of[linked] = mine
    group = of[entity]
    keep[group < 0] = True
    # Numbered in the order of their first rows.
    members = np.flatnonzero(group >= 0)
    _, first, inverse = np.unique(group[members], return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    group[members] = number[inverse]
    return group, keep


def find_leaks(
    group: np.ndarray, splits: Sequence[str | None] | None
) -> tuple[dict[tuple[str, str], int], np.ndarray]:
    """Groups that span splits: their number by pair of splits, most first, and which they are."""
    counts: Counter[tuple[str, str]] = Counter()
    leaking = []
    if splits is not None:
        spanned: dict[int, set[str]] = {}
        for row in np.flatnonzero(group >= 0):
            if splits[row] is not None:
                spanned.setdefault(int(group[row]), set()).add(splits[row])
        for number, names in sorted(spanned.items()):
            if len(names) > 1:
                leaking.append(number)
                ordered = sorted(names)
                counts.update(
                    (one, other) for i, one in enumerate(ordered) for other in ordered[i + 1 :]
                )
    by_count = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return dict(by_count), np.array(leaking, np.int64)


def find_conflicts(group: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """Numbers of the groups whose labeled members have different labels."""
    if labels is None:
        return np.empty(0, np.int64)
    rows = np.flatnonzero((group >= 0) & (np.asarray(labels) >= 0))
    different = np.unique(np.stack([group[rows], np.asarray(labels)[rows]], axis=1), axis=0)
    numbers, counts = np.unique(different[:, 0], return_counts=True)
    return numbers[counts > 1]


def _relative_distance(
    distance: np.ndarray, left: np.ndarray, right: np.ndarray, graph: NeighborGraph
) -> np.ndarray:
    """Distance as a share of how far the two neighbourhoods reach.

    Half of the usual reach at least: a crowd of copies has nothing but copies for neighbours.
    """
    reach = graph.distances[:, -1]
    scale = np.maximum(np.maximum(reach[left], reach[right]), np.median(reach) / 2)
    return (distance / np.maximum(scale, 1e-7)).astype(np.float32)


def _entities(copies: np.ndarray) -> np.ndarray:
    """The row that stands for each row: the first of its exact copies, else itself."""
    entity = np.arange(len(copies))
    rows = np.flatnonzero(copies >= 0)
    _, first, inverse = np.unique(copies[rows], return_index=True, return_inverse=True)
    entity[rows] = rows[first][inverse]
    return entity


def _images(pictures: Sequence[Picture]) -> np.ndarray | None:
    """The image of each object as a number; None for whole pictures."""
    if all(picture.box is None for picture in pictures):
        return None
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(picture.path, len(numbers)) for picture in pictures])


def _overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a relative box (4,) with others (m, 4)."""
    corner = np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:])
    common = np.prod(np.clip(corner - np.maximum(box[:2], others[:, :2]), 0, None), axis=1)
    union = box[2] * box[3] + others[:, 2] * others[:, 3] - common
    return common / np.maximum(union, 1e-12)


def _similarity(pairs: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    if rows is None:
        return np.full(len(pairs), np.nan, np.float32)
    return np.einsum("ij,ij->i", rows[pairs[:, 0]], rows[pairs[:, 1]])


def _split_places(splits: Sequence[str | None] | None, num_rows: int) -> np.ndarray:
    if splits is None:
        return np.zeros(num_rows, np.int64)
    names = sorted({name for name in splits if name is not None})
    known = [name for usual in SPLIT_ORDER for name in names if name.lower() == usual]
    ordered = known + [name for name in names if name not in known]
    places = {name: place for place, name in enumerate(ordered)}
    return np.array([places.get(name, len(ordered)) for name in splits], np.int64)


def _merged(parts: Sequence[PairEvidence]) -> PairEvidence:
    """All evidence, sorted by pair."""
    pairs = np.concatenate([part.pairs for part in parts])
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    kinds = [kind for part in parts for kind in part.kind]
    return PairEvidence(
        pairs[order],
        np.concatenate([part.similarity for part in parts])[order],
        np.concatenate([part.agreement for part in parts])[order],
        tuple(kinds[place] for place in order),
    )


def _part(progress: Progress | None, start: float, stop: float) -> Progress | None:
    """A progress of a step as the progress of the whole."""
    if progress is None:
        return None
    return lambda share: progress(start + share * (stop - start))


def _check(num_pictures, rows, graph, threshold, labels, splits) -> None:
    for name, value in (("rows", rows), ("labels", labels), ("splits", splits)):
        if value is not None and len(value) != num_pictures:
            raise ValueError(f"{num_pictures} pictures, but {len(value)} {name}")
    if (rows is None) != (graph is None):
        raise ValueError("rows and graph come together: pass both or none")
    if graph is not None and graph.num_rows != num_pictures:
        raise ValueError(f"{num_pictures} pictures, but a graph of {graph.num_rows} rows")
    if threshold is not None and not 0 < threshold < 1:
        raise ValueError(f"threshold must lie between 0 and 1, not be {threshold}")
