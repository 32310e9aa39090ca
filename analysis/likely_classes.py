"""Class probabilities of many rows and classes: the likeliest classes of each row, and the rest.

At 1,280,000 rows and 1,000 classes, all of them are 5 GB. A probability is nearly all in a few
classes; what the others have together is kept as one number, and shared by them alike.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# All classes are kept up to so many of them, and up to so many values, 256 MB of them.
ALL_CLASSES = 128
ALL_VALUES = 2**26

# Classes that are kept of a row, its own among them. More than a row has neighbors, so that their
# votes are kept in full.
KEPT_CLASSES = 32

# Rows handled at once where all classes of them are needed.
BLOCK_ROWS = 2048


class LikelyClasses:
    """The likeliest classes of n rows, read like an array of (n, c) float32.

    ``table[rows]`` is an array of (rows, c), in which all classes that are not kept are equally
    likely; ``table[rows, classes]`` are single values, and ``table[rows] = block`` keeps what is
    likeliest in the block, and the class that a row is labeled with.

    Args:
        labels: (n,) int64, a class that is kept in any case, or -1
        num_classes: c, more than ``num_kept``
        num_kept: classes kept of each row

    Attributes:
        classes: (n, num_kept) int32, the likeliest first, equally likely ones in their order
        values: (n, num_kept) float32, their probabilities
        rest: (n,) float32, the probability of each other class
    """

    def __init__(self, labels: np.ndarray, num_classes: int, num_kept: int = KEPT_CLASSES) -> None:
        if not 0 < num_kept < num_classes:
            raise ValueError(f"{num_kept} of {num_classes} classes cannot be kept")
        self.labels = np.asarray(labels, np.int64)
        self.shape = (len(labels), num_classes)
        self.classes = np.zeros((len(labels), num_kept), np.int32)
        self.values = np.zeros((len(labels), num_kept), np.float32)
        self.rest = np.zeros(len(labels), np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    def __setitem__(self, rows: np.ndarray | slice, block: np.ndarray) -> None:
        from . import _probe_kernels

        kept = self.values.shape[1]
        classes = np.empty((len(block), kept), np.int32)
        values = np.empty((len(block), kept), np.float32)
        rest = np.empty(len(block), np.float32)
        _probe_kernels.keep_likeliest(block, self.labels[rows], classes, values, rest)
        self.classes[rows], self.values[rows], self.rest[rows] = classes, values, rest

    def __getitem__(self, which: np.ndarray | slice | tuple) -> np.ndarray:
        if not isinstance(which, tuple):
            return self._dense(which)
        rows, classes = which
        if isinstance(classes, slice):
            return self._columns(rows, *classes.indices(self.shape[1])[:2])
        kept, asked = self.classes[rows], np.asarray(classes)[:, None]
        there = kept == asked
        found = np.where(there, self.values[rows], 0).sum(axis=1)
        return np.where(there.any(axis=1), found, self.rest[rows])

    def argmax(self, axis: int = 1) -> np.ndarray:
        """The likeliest class of each row, the first one of equally likely ones: (n,) int64."""
        return self.classes[:, 0].astype(np.int64)

    def _dense(self, rows: np.ndarray | slice) -> np.ndarray:
        rest = self.rest[rows]
        block = np.repeat(rest[:, None], self.shape[1], axis=1)
        np.put_along_axis(block, self.classes[rows].astype(np.int64), self.values[rows], 1)
        return block

    def _columns(self, rows: np.ndarray | slice, start: int, stop: int) -> np.ndarray:
        columns = np.repeat(self.rest[rows][:, None], stop - start, axis=1)
        classes = self.classes[rows]
        row, place = np.nonzero((classes >= start) & (classes < stop))
        columns[row, classes[row, place] - start] = self.values[rows][row, place]
        return columns


# What is read by blocks of rows is one or the other.
Probabilities = np.ndarray | LikelyClasses


def empty_probabilities(labels: np.ndarray, num_classes: int) -> Probabilities:
    """Where the probabilities of n rows are put: all of them while they are few.

    Args:
        labels: (n,) int64, -1 = unlabeled
        num_classes: c
    """
    if num_classes <= ALL_CLASSES or len(labels) * num_classes <= ALL_VALUES:
        return np.zeros((len(labels), num_classes), np.float32)
    return LikelyClasses(labels, num_classes)


def of_rows(probabilities: Probabilities, rows: np.ndarray) -> Probabilities:
    """The probabilities of some rows, kept as they were.

    Args:
        rows: (r,) integers
    """
    if isinstance(probabilities, np.ndarray):
        return probabilities[rows]
    taken = LikelyClasses.__new__(LikelyClasses)
    taken.shape = (len(rows), probabilities.shape[1])
    for name in ("labels", "classes", "values", "rest"):
        setattr(taken, name, getattr(probabilities, name)[rows])
    return taken


def of_classes(probabilities: Probabilities, classes: np.ndarray) -> Probabilities:
    """The probabilities of some classes, in their order, which have these numbers from then on.

    Args:
        classes: (k,) integers, ascending
    """
    if len(classes) == probabilities.shape[1]:
        return probabilities
    if isinstance(probabilities, np.ndarray):
        return probabilities[:, classes]
    number = np.full(probabilities.shape[1], -1)
    number[classes] = np.arange(len(classes))
    labels = np.where(probabilities.labels >= 0, number[probabilities.labels], -1)
    taken = empty_probabilities(labels, len(classes))
    for part in blocks(probabilities):
        taken[part] = np.ascontiguousarray(probabilities[part][:, classes])
    return taken


def blocks(probabilities: Probabilities) -> Iterator[slice]:
    """Slices of a few of the rows."""
    for start in range(0, len(probabilities), BLOCK_ROWS):
        yield slice(start, start + BLOCK_ROWS)
