"""Compiled loops of the probe: hashes of rows, and the votes of neighbors."""

import numpy as np

from ._parallel import compiled


@compiled
def content_keys(rows, factors, keys, start, stop):
    """A number per row that depends on its values only, and on all of them.

    Args:
        rows: (n, d) uint32, the bits of float32 values
        factors: (d,) uint64, odd and random
        keys: (n,) uint64, receives the numbers of rows ``start`` to ``stop``
    """
    for row in range(start, stop):
        key = np.uint64(0)
        for column in range(rows.shape[1]):
            bits = rows[row, column]
            # Both zeros of floating point are equal.
            if bits == np.uint32(0x80000000):
                bits = np.uint32(0)
            key += np.uint64(bits) * factors[column]
        keys[row] = key ^ (key >> np.uint64(31))


@compiled
def add_votes(indices, heard, labels, weights, groups, prior, share, rows, votes):
    """Adds the shares of the classes in the votes of each row's neighbors, times ``share``.

    Args:
        indices: (n, k) int32, the neighbors
        heard: (n, k) float32, how much each of their votes counts
        labels, groups: (n,) int64, -1 = none
        weights: (n,) float32, how much a row's label counts
        prior: a vote that all classes share
        rows: (r,) int64, the rows that are asked for
        votes: (r, c) float32, added to
    """
    num_classes = votes.shape[1]
    for place in range(len(rows)):
        row = rows[place]
        total = np.float32(prior)
        for column in range(indices.shape[1]):
            neighbor = indices[row, column]
            if labels[neighbor] >= 0 and (groups[row] < 0 or groups[neighbor] != groups[row]):
                total += heard[row, column] * weights[neighbor]
        unit = np.float32(share) / total
        for label in range(num_classes):
            votes[place, label] += np.float32(prior) / num_classes * unit
        for column in range(indices.shape[1]):
            neighbor = indices[row, column]
            if labels[neighbor] >= 0 and (groups[row] < 0 or groups[neighbor] != groups[row]):
                votes[place, labels[neighbor]] += heard[row, column] * weights[neighbor] * unit


@compiled
def keep_likeliest(block, labels, classes, values, rest):
    """The likeliest classes of each row, and what each of the others has in the mean.

    Args:
        block: (r, c) float32
        labels: (r,) int64, a class that is kept in any case, or -1
        classes: (r, k) int32, k < c, receives the likeliest first, then by number
        values: (r, k) float32, receives their values
        rest: (r,) float32, receives the mean of all others
    """
    num_rows, num_classes = block.shape
    kept = classes.shape[1]
    for row in range(num_rows):
        total = 0.0
        held = 0
        for label in range(num_classes):
            value = block[row, label]
            total += value
            if held == kept and value <= values[row, kept - 1]:
                continue
            if held < kept:
                held += 1
            place = held - 1
            while place > 0 and values[row, place - 1] < value:
                values[row, place] = values[row, place - 1]
                classes[row, place] = classes[row, place - 1]
                place -= 1
            values[row, place] = value
            classes[row, place] = label
        own = labels[row]
        if own >= 0:
            there = False
            for place in range(kept):
                there = there or classes[row, place] == own
            if not there:
                classes[row, kept - 1] = own
                values[row, kept - 1] = block[row, own]
        for place in range(kept):
            total -= values[row, place]
        rest[row] = max(total, 0.0) / (num_classes - kept)
