"""What speaks for pairs of duplicates: equal files, aligned pixels, or boxes that overlap.

The embeddings propose, the images verify; how far they must agree is read off the set itself.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..pictures.small_images import ImageOrPatch, SmallImages
from ..steps import ProgressCallback
from .duplicate_candidates import Candidates, entities
from .neighbors import NeighborGraph

# A pair stands out by its distance relative to how far the neighborhood of either reaches. Up to
# the first figure the embeddings speak for a pair, from the second on against it, and the details
# must agree better, by SURPRISE in Fisher's z (0.87 becomes 0.95). From the pairs of Caltech-101
# and CIFAR-10: known ones lie at 0.3 and 0.47 (medians), other neighbors at 0.7.
NEAR, FAR, SURPRISE = 0.3, 1.0, 0.2

# Without images, only a distance of a tenth of the neighborhood's is believed: no other pair of
# Caltech-101 comes below 0.12, and a third of the true ones do.
OVERWHELMING = 0.1

# What agreement means sameness depends on the images: digits aligned with their neighbors agree
# by 0.7 (median), images by 0.1. It is read off pairs of tenth neighbors, as the median plus this
# many times the way from there to the 90th percentile, in Fisher's z, within bounds. That gives the
# lower bound for CIFAR-10, 0.86 and 0.91 for two parts of Caltech-101, and the upper bound for
# digits; one agreement for all does worse (benchmarks/cross_validation.py). The draw of 2,000 pairs
# moves it by less than 0.01; that of 500 by 0.02, which cost CIFAR-10 up to 4 % of its recall. Of
# 60 pairs of CIFAR-10 at 0.86 to 0.90, looked at, nine in ten are one image; of 38 between the
# lower bound and 0.86, three in four.
CHANCE_PAIRS, CHANCE_RANK, CHANCE_REACH = 2000, 10, 4.0
CHANCE_BOUNDS = (0.82, 0.95)
DEFAULT_AGREEMENT = 0.86

# In smaller sets the tenth neighbor says little, and DEFAULT_AGREEMENT holds.
MIN_CHANCE_IMAGES = 100

# Overlap (intersection over union) of two boxes of one image that are one object, labeled alike or
# not known; and where they are labeled differently.
SAME_OBJECT_OVERLAP, SAME_BOX_OVERLAP = 0.75, 0.95

# The kinds of evidence that make two images, or two texts, exact copies of each other, and of a
# change that could not be measured.
COPIES, UNCLEAR = ("copy", "same pixels", "same text", "case and punctuation"), "unclear"

# The kind of evidence where an image cannot be read.
BY_EMBEDDING = "embedding"

# Agreement from which a pair may be the same though this set asks for more: a closer look decides.
WEAK_AGREEMENT = 0.6

# Relative distance up to which a turn is looked for; of 60 images that were turned by 15 to 75
# degrees, all lie below 0.8.
TURNED = 0.8


@dataclass(frozen=True)
class PairEvidence:
    """What speaks for pairs of duplicates.

    Attributes:
        pairs: (m, 2) int64 rows, the lower one first, sorted
        similarity: (m,) float32 cosine similarity of the embeddings; NaN without embeddings
        agreement: (m,) float32, agreement of the aligned images' details in [-1, 1]; NaN where
            they were not compared
        kind: m names of the change: "copy" (same bytes), "same pixels", "mirror", "rotation",
            "crop", "rescale", "gray", "tone", "blur", "recompression", "retouched", "unclear" (none
            of these was measured), "box" (the same object of one image twice), "embedding" (by the
            embeddings alone)
    """

    pairs: np.ndarray
    similarity: np.ndarray
    agreement: np.ndarray
    kind: tuple[str, ...]

    def pair(self, place: int) -> tuple[int, int]:
        """One pair of rows."""
        return tuple(self.pairs[place].tolist())

    def chosen(self, which: np.ndarray) -> PairEvidence:
        """The evidence for some of the pairs: (m,) bool."""
        kinds = tuple(kind for kind, one in zip(self.kind, which) if one)
        return PairEvidence(self.pairs[which], self.similarity[which], self.agreement[which], kinds)


def directed(pairs: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Pairs (m, 2) with the better one first; the other is aligned with it."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    worse_first = place[pairs[:, 0]] > place[pairs[:, 1]]
    return np.where(worse_first[:, None], pairs[:, ::-1], pairs)


def chance_agreement(small: SmallImages, graph: NeighborGraph) -> float:
    """The agreement from which images of this set are the same, read off their neighbors."""
    readable = np.flatnonzero(small.readable)
    if len(readable) < MIN_CHANCE_IMAGES or graph.k == 0:
        return DEFAULT_AGREEMENT
    from ._image_pairs import compare_pairs

    # By a hash of what they show: a random choice that depends neither on the order of the rows nor
    # on where the files lie.
    hashes = [zlib.crc32(small.gray[row]) for row in readable]
    chosen = readable[np.argsort(hashes, kind="stable")[:CHANCE_PAIRS]]
    partners = graph.indices[chosen, min(CHANCE_RANK, graph.k) - 1].astype(np.int64)
    sound = small.readable[partners]
    agreement, *_ = compare_pairs(small.gray, np.stack([chosen, partners], axis=1)[sound])
    z = np.arctanh(np.clip(agreement, -0.99, 0.9999))
    middle, high = np.quantile(z, [0.5, 0.9])
    return float(np.clip(np.tanh(middle + CHANCE_REACH * (high - middle)), *CHANCE_BOUNDS))


def confirm_pairs(
    small: SmallImages,
    candidates: Candidates,
    order: np.ndarray,
    threshold: float,
    with_weak: bool = False,
    progress: ProgressCallback | None = None,
) -> PairEvidence:
    """Compares the images of candidate pairs and keeps the pairs that are the same.

    A pair with an unreadable image is believed by its embeddings only when they are overwhelming.

    Args:
        small: the small versions of n images
        candidates: the pairs
        order: (n,) int64 rows, the best ones first; the better image is the one that the other
            is aligned with
        threshold: agreement from which a pair is believed that the embeddings do not speak against
        with_weak: weak pairs, too
        progress: called with the share of the pairs that is done

    Returns:
        the pairs that are the same; and weak ones, of kind ``UNCLEAR``, that must be looked at
    """
    from ._image_pairs import kinds_of_change

    pairs, relative = candidates.pairs, candidates.relative_distance
    readable = small.readable[pairs].all(axis=1)
    agreement = np.full(len(pairs), np.nan, np.float32)
    compared = np.flatnonzero(readable)
    better_first = directed(pairs, order)
    near = relative[compared] <= TURNED
    found = compare_upright_and_turned(small, better_first[compared], near, progress)
    agreement[compared] = found[0]
    against = np.clip((relative - NEAR) / (FAR - NEAR), 0, 1)
    needed = np.tanh(math.atanh(min(threshold, 0.999)) + SURPRISE * against)
    same = np.where(readable, agreement >= needed, relative <= OVERWHELMING)
    kinds = np.full(len(pairs), BY_EMBEDDING, object)
    confirmed = same[compared]
    kinds[compared[confirmed]] = kinds_of_change(
        small, better_first[compared[confirmed]], found[1][confirmed], found[2][confirmed]
    )
    weak = with_weak & readable & ~same & (agreement >= WEAK_AGREEMENT)
    kinds[weak] = UNCLEAR
    evidence = PairEvidence(pairs, candidates.similarity, agreement, tuple(kinds))
    return evidence.chosen(same | weak)


def compare_upright_and_turned(
    small: SmallImages,
    pairs: np.ndarray,
    turnable: np.ndarray | None = None,
    progress: ProgressCallback | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What ``compare_pairs`` gives; what does not agree so is compared turned by any angle.

    Args:
        turnable: (m,) bool, the pairs that are compared turned; None for all
    """
    from ._image_pairs import compare_pairs
    from ._turned_pairs import compare_turned

    found = compare_pairs(small.gray, pairs, not small.whole, progress)
    if small.whole:
        agreement, orientation, placed = found
        weak = agreement < WEAK_AGREEMENT
        unlike = np.flatnonzero(weak if turnable is None else weak & turnable)
        turned, maps = compare_turned(small, pairs[unlike])
        better = turned > agreement[unlike]
        agreement[unlike[better]], placed[unlike[better]] = turned[better], maps[better]
        orientation[unlike[better]] = 0
    return found


def same_boxes(
    images: Sequence[ImageOrPatch], rows: np.ndarray | None, labels: np.ndarray | None
) -> PairEvidence:
    """Pairs of boxes in one image that hold the same object, by their overlap.

    Objects without a box (an empty tuple) overlap with nothing.
    """
    numbers = image_numbers(images)
    assert numbers is not None, "boxes are compared"
    order = np.argsort(numbers, kind="stable")
    order = order[[images[row].box is None or len(images[row].box) > 0 for row in order]]
    parts = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
    found: list[tuple[int, int]] = []
    for part in parts:
        if len(part) < 2:
            continue
        boxes = np.array([images[row].box or (0, 0, 1, 1) for row in part], float)
        for place in range(len(part) - 1):
            overlap = _overlap(boxes[place], boxes[place + 1 :])
            others = part[place + 1 :]
            needed = np.full(len(others), SAME_OBJECT_OVERLAP)
            if labels is not None:
                mine, theirs = labels[part[place]], labels[others]
                needed[(mine >= 0) & (theirs >= 0) & (mine != theirs)] = SAME_BOX_OVERLAP
            found += [(part[place], other) for other in others[overlap >= needed]]
    pairs = np.sort(np.array(found, np.int64).reshape(-1, 2), axis=1)
    not_compared = np.full(len(pairs), np.nan, np.float32)
    return PairEvidence(pairs, _similarity(pairs, rows), not_compared, ("box",) * len(pairs))


def copy_evidence(
    copies: np.ndarray, small: SmallImages, rows: np.ndarray | None = None
) -> PairEvidence:
    """Exact copies as pairs, each with the first of its set."""
    entity = entities(copies)
    others = np.flatnonzero(entity != np.arange(len(copies)))
    pairs = np.stack([entity[others], others], axis=1)
    kinds = tuple(COPIES[not small.same_bytes(*pair)] for pair in pairs.tolist())
    return PairEvidence(pairs, _similarity(pairs, rows), np.ones(len(pairs), np.float32), kinds)


def merged(parts: Sequence[PairEvidence]) -> PairEvidence:
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


def without(evidence: PairEvidence, apart: np.ndarray) -> PairEvidence:
    """Evidence without the pairs (m, 2) that are known to be no duplicates."""
    if not len(apart):
        return evidence
    known = set(map(tuple, np.sort(apart, axis=1).tolist()))
    left = [place for place, pair in enumerate(evidence.pairs.tolist()) if tuple(pair) not in known]
    return PairEvidence(
        evidence.pairs[left],
        evidence.similarity[left],
        evidence.agreement[left],
        tuple(evidence.kind[place] for place in left),
    )


def copies_apart(copies: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Sets of exact copies (n,) without those that are known to be no duplicates of their set.

    Args:
        copies: (n,) int64 number of the set, -1 in none
        apart: (m, 2) int64 pairs, first the one that is set apart
    """
    copies = copies.copy()
    before = copies.copy()
    for row, other in apart:
        if before[row] == before[other]:
            copies[row] = -1
    alone = np.bincount(copies[copies >= 0], minlength=copies.max(initial=-1) + 1) == 1
    left = np.flatnonzero(copies >= 0)
    copies[left[alone[copies[left]]]] = -1
    return copies


def image_numbers(images: Sequence[ImageOrPatch]) -> np.ndarray | None:
    """The image of each object as a number; None for whole images."""
    if all(image.box is None for image in images):
        return None
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(image.path, len(numbers)) for image in images])


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
