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
def add_votes(indices, heard, labels, weights, groups, prior, share, votes, start, stop):
    """Adds the shares of the classes in the votes of each row's neighbors, times ``share``.

    Args:
        indices: (n, k) int32, the neighbors
        heard: (n, k) float32, how much each of their votes counts
        labels, groups: (n,) int64, -1 = none
        weights: (n,) float32, how much a row's label counts
        prior: a vote that all classes share
        votes: (n, c) float32, added to for rows ``start`` to ``stop``
    """
    num_classes = votes.shape[1]
    for row in range(start, stop):
        total = np.float32(prior)
        for column in range(indices.shape[1]):
            neighbor = indices[row, column]
            if labels[neighbor] >= 0 and (groups[row] < 0 or groups[neighbor] != groups[row]):
                total += heard[row, column] * weights[neighbor]
        unit = np.float32(share) / total
        for label in range(num_classes):
            votes[row, label] += np.float32(prior) / num_classes * unit
        for column in range(indices.shape[1]):
            neighbor = indices[row, column]
            if labels[neighbor] >= 0 and (groups[row] < 0 or groups[neighbor] != groups[row]):
                votes[row, labels[neighbor]] += heard[row, column] * weights[neighbor] * unit
