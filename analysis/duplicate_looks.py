"""Near-duplicates, looked at closely: pairs that hold groups together must show the same content.

Images that agree when small may show other words, digits or colors. Looking closely costs fifty
times as much, so only the pairs of a representative and its members are looked at, and those that
agree less than this set asks for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..pictures.small_images import SmallImages
from .duplicate_candidates import entities
from .duplicate_evidence import (
    BY_EMBEDDING,
    UNCLEAR,
    PairEvidence,
    compare_upright_and_turned,
    directed,
)
from .duplicate_groups import group_duplicates

# Pixels of an image that shows no more closely than when small: nothing speaks for a weak pair.
FEWEST_PIXELS = 96 * 96


@dataclass(frozen=True)
class Verdict:
    """What a closer look at pairs shows.

    Attributes:
        same: (m,) bool, no other content was seen
        strong: (m,) bool, enough was seen to recognize the same content by itself
        kind: m names of the change
    """

    same: np.ndarray
    strong: np.ndarray
    kind: list[str]


def look_at_pairs(small: SmallImages, pairs: np.ndarray, order: np.ndarray) -> Verdict:
    """Looks at pairs (m, 2), the better image of each as the original."""
    from ._closer_look import look_closely
    from ._image_pairs import kinds_of_change, threads

    pairs = directed(pairs, order)
    readable = small.readable[pairs].all(axis=1)
    orientation = np.zeros(len(pairs), np.int8)
    placed = np.zeros((len(pairs), 2, 3), np.float32)
    _, orientation[readable], placed[readable] = compare_upright_and_turned(small, pairs[readable])
    kinds = np.full(len(pairs), BY_EMBEDDING, object)
    kinds[readable] = kinds_of_change(
        small, pairs[readable], orientation[readable], placed[readable]
    )

    def look(place: int) -> tuple[bool, bool, str]:
        if not readable[place] or small.frames is None:
            return True, False, BY_EMBEDDING
        left, right = (small.frames(row) for row in pairs[place].tolist())
        if not left or not right:
            return True, False, UNCLEAR
        if len(left) != len(right):
            return False, False, kinds[place]
        way = int(orientation[place]), placed[place]
        looks = [look_closely(mine, theirs, *way) for mine, theirs in zip(left, right)]
        kind = kinds[place]
        if kind in ("recompression", "retouched"):
            kind = "retouched" if any(one.differences.sure for one in looks) else kind
        same = all(one.same_content for one in looks)
        return same, same and looks[0].strong, kind

    with threads() as pool:
        found = list(pool.map(look, range(len(pairs))))
    same, strong, kind = zip(*found) if found else ((), (), ())
    return Verdict(np.array(same, bool), np.array(strong, bool), list(kind))


def settled(
    small: SmallImages,
    known: PairEvidence,
    near: PairEvidence,
    copies: np.ndarray,
    order: np.ndarray,
    seen: dict[tuple[int, int], tuple[bool, str]],
) -> PairEvidence:
    """The near-duplicates among pairs, without those that show other content when looked at.

    Args:
        small: the small versions of n images
        known: evidence that stands: copies, boxes
        near: pairs that agree when small
        copies: (n,) int64 number of the set of exact copies, -1 in none
        order: (n,) int64 rows, the best ones first
        seen: what was looked at before, by pair; is added to

    Returns:
        ``near`` without the pairs that were refuted; every pair that links a member with its
        representative has been looked at
    """
    weak = np.array([kind == UNCLEAR for kind in near.kind], bool)
    if small.frames is None or not small.whole:
        return near.chosen(~weak)
    large = (small.num_pixels[near.pairs] >= FEWEST_PIXELS).all(axis=1)
    near = near.chosen(~weak | large)
    stands = [seen.get(near.pair(place), (True,))[0] for place in range(len(near.pairs))]
    near = near.chosen(np.array(stands, bool))
    entity = entities(copies)
    while True:
        links = np.concatenate([known.pairs, near.pairs])
        group, keep = group_duplicates(len(copies), links, copies, order)
        kept = np.zeros(len(copies), bool)
        kept[entity[keep & (group >= 0)]] = True
        one, other = near.pairs.T
        star = (group[one] == group[other]) & (group[one] >= 0) & (kept[one] | kept[other])
        new = [place for place in np.flatnonzero(star).tolist() if near.pair(place) not in seen]
        if not new:
            break
        asked = near.chosen(np.isin(np.arange(len(near.pairs)), new))
        verdict = look_at_pairs(small, asked.pairs, order)
        weak = np.array([kind == UNCLEAR for kind in asked.kind], bool)
        stays = np.where(weak, verdict.strong, verdict.same).tolist()
        for pair, same, kind in zip(asked.pairs.tolist(), stays, verdict.kind):
            seen[tuple(pair)] = same, kind
        looked = [seen.get(near.pair(place), (True,))[0] for place in range(len(near.pairs))]
        near = near.chosen(np.array(looked, bool))
    verdicts = [seen.get(near.pair(place)) for place in range(len(near.pairs))]
    kinds = [one[1] if one else kind for one, kind in zip(verdicts, near.kind)]
    near = replace(near, kind=tuple(kinds))
    # A weak pair that no group needs stays unproven.
    proven = [bool(one) or kind != UNCLEAR for one, kind in zip(verdicts, near.kind)]
    return near.chosen(np.array(proven, bool))
