"""Groups of duplicates: which row represents one, who belongs to it, and what is wrong with it.

A group is a representative and rows that are each linked with it; links alone do not chain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..pictures.small_images import SmallImages
from .duplicate_candidates import entities

# Splits whose member of a group stays, the first one first; others follow in alphabetical order.
SPLIT_ORDER = ("test", "testing", "val", "valid", "validation")


def keep_order(
    small: SmallImages,
    labels: np.ndarray | None = None,
    splits: Sequence[str | None] | None = None,
    preference: np.ndarray | None = None,
) -> np.ndarray:
    """Rows (n,) int64 in the order in which they are worth keeping.

    Test before validation before the rest, then what is preferred, labeled before unlabeled, then
    by pixels, then by the bytes of the file, which is less compressed; last by name, so that the
    order of the rows does not matter.

    Args:
        small: the n images
        labels, splits: as of ``find_duplicates``
        preference: (n,) floats, the lowest ones are kept; NaN comes last; None: none
    """
    names = [(image.path, image.box or ()) for image in small.images]
    sizes = (-small.num_bytes, -small.num_pixels)
    return order_by(names, sizes, labels, splits, preference)


def order_by(
    names: Sequence[Any],
    sizes: Sequence[np.ndarray],
    labels: np.ndarray | None = None,
    splits: Sequence[str | None] | None = None,
    preference: np.ndarray | None = None,
) -> np.ndarray:
    """Rows (n,) int64 in the order in which they are worth keeping: see ``keep_order``.

    Args:
        names: n values that sort what nothing else does
        sizes: (n,) numbers each, the lowest ones first; the last array counts most
        labels, splits, preference: as of ``keep_order``
    """
    by_name = np.empty(len(names), np.int64)
    by_name[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    unlabeled = np.zeros(len(names), bool) if labels is None else np.asarray(labels) < 0
    split_place = _split_places(splits, len(names))
    preferred = (
        np.zeros(len(names)) if preference is None else np.nan_to_num(preference, nan=np.inf)
    )
    return np.lexsort((by_name, *sizes, unlabeled, preferred, split_place))


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
    entity = entities(copies)
    links = entity[pairs]
    links = np.concatenate([links, links[:, ::-1]])
    links = np.unique(links[links[:, 0] != links[:, 1]], axis=0)
    starts = np.searchsorted(links[:, 0], np.arange(num_rows + 1))
    representative = np.full(num_rows, -1, np.int64)
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
        representative[mine] = mine
        representative[linked] = mine
    group = representative[entity]
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
        for row in np.flatnonzero(group >= 0).tolist():
            if (split := splits[row]) is not None:
                spanned.setdefault(int(group[row]), set()).add(split)
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


def _split_places(splits: Sequence[str | None] | None, num_rows: int) -> np.ndarray:
    if splits is None:
        return np.zeros(num_rows, np.int64)
    names = sorted({name for name in splits if name is not None})
    known = [name for usual in SPLIT_ORDER for name in names if name.lower() == usual]
    ordered = known + [name for name in names if name not in known]
    places: dict[str | None, int] = {name: place for place, name in enumerate(ordered)}
    return np.array([places.get(name, len(ordered)) for name in splits], np.int64)
