"""Exact copies: files with the same bytes, or the same pixels in another container.

Works without embeddings. Bytes are compared by size, then by the end of the file, then by a hash of
the whole; pixels only of images whose small versions are equal, and then in full: all channels,
bits and frames (``file_pixels``). What cannot be compared in full is no copy.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..cores import num_cores
from ..steps import ProgressCallback
from .file_pixels import pixel_digest
from .images import LARGE_PIXELS
from .small_images import SmallImages

# Bytes at the end of a file that distinguish most files of one size.
END_BYTES = 4096

# Gray levels by which small versions of the same pixels differ at most where a large JPEG was
# decoded at a fraction of its size and another container was not.
SMALL_DIFFERENCE = 4


def exact_copies(small: SmallImages, progress: ProgressCallback | None = None) -> np.ndarray:
    """Finds sets of images with the same bytes or the same pixels.

    Args:
        small: the small versions of n images
        progress: called with the share of the work that is done

    Returns:
        (n,) int64, the first row of an image's set, -1 where no other is the same. Unreadable
        files are copies if their bytes are the same. -1 for all where objects are among them,
        whose files say nothing about them
    """
    images = small.images
    if not small.whole:
        return np.full(len(images), -1, np.int64)
    first = np.arange(len(images))
    with ThreadPoolExecutor(num_cores()) as pool:

        def split(sets: Iterable[list[int]], key: Callable[[int], Hashable]) -> list[list[int]]:
            return _split(sets, key, pool)

        same_bytes = split([list(range(len(images)))], lambda row: _size(images[row].path))
        same_bytes = split(same_bytes, lambda row: _end(images[row].path))
        same_bytes = split(same_bytes, lambda row: _digest(images[row].path))
        for rows in same_bytes:
            first[rows] = rows[0]
        if progress is not None:
            progress(0.5)
        different = [row for row in np.flatnonzero(small.readable).tolist() if first[row] == row]
        alike = _alike(small, different)
        for rows in split(alike, lambda row: pixel_digest(images[row].path)):
            first[np.isin(first, rows)] = rows[0]
    if progress is not None:
        progress(1.0)
    counts = np.bincount(first, minlength=len(first))
    return np.where(counts[first] > 1, first, -1)


def _split(sets, key, pool) -> list[list[int]]:
    """Splits sets of rows by a key, None being no key, and drops what is alone."""
    rows = [row for rows in sets if len(rows) > 1 for row in rows]
    number = [place for place, rows in enumerate(sets) if len(rows) > 1 for _ in rows]
    found = defaultdict(list)
    for place, row, value in zip(number, rows, pool.map(key, rows)):
        if value is not None:
            found[place, value].append(row)
    return [rows for rows in found.values() if len(rows) > 1]


def _alike(small: SmallImages, rows: list[int]) -> list[list[int]]:
    """Sets of images of one size that may have the same pixels, by their small versions."""
    equal: dict[int, dict[bytes, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        digest = hashlib.blake2b(small.gray[row].tobytes(), digest_size=16).digest()
        equal[int(small.num_pixels[row])][digest].append(row)
    sets: list[list[int]] = []
    for num_pixels, same in equal.items():
        # Decoded at one size, the same pixels have the same small version.
        if num_pixels <= LARGE_PIXELS:
            sets += same.values()
            continue
        with_first = {rows[0]: rows for rows in same.values()}
        first = np.array(list(with_first))
        reduced = None if small.reduced is None else small.reduced[first]
        for linked in _nearly_equal(small.gray, first, reduced):
            sets.append([row for one in linked for row in with_first[one]])
    return sets


def _nearly_equal(
    gray: np.ndarray, rows: np.ndarray, reduced: np.ndarray | None = None
) -> list[list[int]]:
    """Sets of rows whose small images are linked by differences of at most SMALL_DIFFERENCE.

    Args:
        gray: (n, 64, 64) uint8
        rows: (m,) int64
        reduced: (m,) bool, decoded at a fraction of the size; only such are compared with others
            that are not. None where it is not known: all are compared
    """
    from scipy.spatial import KDTree

    sets = np.arange(len(rows))
    if reduced is not None and (reduced.all() or not reduced.any()):
        return [[row] for row in rows.tolist()]
    # Means of 4 x 4 blocks differ no more than the pixels do, and rule nearly all pairs out.
    means = np.array([gray[row].reshape(4, 16, 4, 16).mean(axis=(1, 3)).ravel() for row in rows])
    tree = KDTree(means)
    for place, mean in enumerate(means):
        others = np.array(tree.query_ball_point(mean, SMALL_DIFFERENCE, p=np.inf))
        others = others[others > place]
        if reduced is not None:
            others = others[reduced[others] != reduced[place]]
        if len(others) == 0:
            continue
        mine = gray[rows[place]].astype(np.int16)
        for other in others:
            # What is linked already needs no second link: frames of one scene are all alike.
            linked = sets[other] == sets[place]
            if not linked and np.abs(gray[rows[other]] - mine).max() <= SMALL_DIFFERENCE:
                sets[sets == sets[other]] = sets[place]
    found = defaultdict(list)
    for number, row in zip(sets.tolist(), rows.tolist()):
        found[number].append(row)
    return list(found.values())


def _size(path: str) -> int | None:
    try:
        return os.path.getsize(path) or None
    except (OSError, ValueError):  # what is no path, as one with a zero byte
        return None


def _end(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            file.seek(max(os.path.getsize(path) - END_BYTES, 0))
            return file.read()
    except OSError:
        return None


def _digest(path: str) -> bytes | None:
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open(path, "rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    except OSError:
        return None
    return digest.digest()
