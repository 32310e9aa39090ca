"""Near-duplicates, looked at closely: pairs that hold groups together must show the same content.

Images that agree when small may show other words, digits or colors. Looking closely costs fifty
times as much, so only the pairs of a representative and its members are looked at, and those that
agree less than this set asks for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..pictures.small_pictures import SmallPictures
from .duplicate_candidates import entities
from .duplicate_evidence import UNCLEAR, PairEvidence, directed
from .duplicate_groups import group_duplicates

# Pixels of an image that shows no more closely than when small: nothing speaks for a weak pair.
FEWEST_PIXELS = 96 * 96


@dataclass(frozen=True)
class Verdict:
    """What looking closely tells of pairs.

    Attributes:
        same: (m,) bool, no other content was seen
        strong: (m,) bool, enough was seen to tell the same content by itself
        kind: m names of the change
    """

    same: np.ndarray
    strong: np.ndarray
    kind: list[str]


def look_at_pairs(small: SmallPictures, pairs: np.ndarray, order: np.ndarray) -> Verdict:
    """Looks at pairs (m, 2), the better image of each as the original."""
    from ._closer_look import look_closely
    from ._picture_pairs import compare_pairs, kinds_of_change, threads

    pairs = directed(pairs, order)
    _, orientation, placed = compare_pairs(small.grey, pairs, not small.whole)
    kinds = kinds_of_change(small, pairs, orientation, placed)

    def look(place: int) -> tuple[bool, bool, str]:
        left, right = (small.frames(row) for row in pairs[place].tolist())
        if not left or not right:
            return True, False, UNCLEAR
        if len(left) != len(right):
            return False, False, kinds[place]
        way = int(orientation[place]), placed[place]
        looks = [look_closely(mine, theirs, *way) for mine, theirs in zip(left, right)]
        kind = kinds[place]
        if kind in ("recompression", "retouched"):
            kind = "retouched" if any(one.different > 2 for one in looks) else kind
        same = all(one.same_content for one in looks)
        return same, same and looks[0].strong, kind

    with threads() as pool:
        found = list(pool.map(look, range(len(pairs))))
    same, strong, kind = zip(*found) if found else ((), (), ())
    return Verdict(np.array(same, bool), np.array(strong, bool), list(kind))


def strong_pairs(small: SmallPictures, weak: PairEvidence, order: np.ndarray) -> PairEvidence:
    """Those of pairs that agree too little for this set which show the same content closely."""
    large = (small.num_pixels[weak.pairs] >= FEWEST_PIXELS).all(axis=1)
    weak = weak.chosen(large & (small.frames is not None))
    verdict = look_at_pairs(small, weak.pairs, order)
    return replace(weak, kind=tuple(verdict.kind)).chosen(verdict.strong)


def settled(
    small: SmallPictures,
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
    if small.frames is None:
        return near
    entity = entities(copies)
    while True:
        links = np.concatenate([known.pairs, near.pairs])
        group, keep = group_duplicates(len(copies), links, copies, order)
        kept = np.zeros(len(copies), bool)
        kept[entity[keep & (group >= 0)]] = True
        one, other = near.pairs.T
        star = (group[one] == group[other]) & (group[one] >= 0) & (kept[one] | kept[other])
        new = [
            place
            for place in np.flatnonzero(star).tolist()
            if tuple(near.pairs[place].tolist()) not in seen
        ]
        if not new:
            break
        asked = near.pairs[new]
        verdict = look_at_pairs(small, asked, order)
        seen.update(zip(map(tuple, asked.tolist()), zip(verdict.same.tolist(), verdict.kind)))
        stays = [seen.get(tuple(pair), (True,))[0] for pair in near.pairs.tolist()]
        near = near.chosen(np.array(stays, bool))
    pairs = map(tuple, near.pairs.tolist())
    kinds = tuple(seen.get(pair, (True, kind))[1] for pair, kind in zip(pairs, near.kind))
    return replace(near, kind=kinds)
