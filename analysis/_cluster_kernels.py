"""The compiled loop of the clusters. Import inside functions: numba takes time."""

from __future__ import annotations

import numpy as np

from ._parallel import compiled


@compiled
def shared_neighbors(ordered, near):
    """The Jaccard similarity of the neighborhoods of the two ends of each edge.

    A row belongs to its own neighborhood, so that mutual neighbors share at least each other.

    Args:
        ordered: (num_rows, k) int32, the neighbors of each row, ascending
        near: (num_rows, k) int32, the same in any order

    Returns:
        (num_rows, k) float32 in [0, 1], for the edges in the order of ``near``
    """
    num_rows, k = near.shape
    found = np.zeros((num_rows, k), np.float32)
    for i in range(num_rows):
        for place in range(k):
            j = near[i, place]
            one = 0
            other = 0
            common = 0
            mutual = False
            while one < k and other < k:
                a = ordered[i, one]
                b = ordered[j, other]
                if a == b:
                    common += 1
                    one += 1
                    other += 1
                elif a < b:
                    one += 1
                else:
                    other += 1
            for rank in range(k):
                if ordered[j, rank] == i:
                    mutual = True
            # Each end is in its own neighborhood: j is in both, and i as well if it is j's.
            common += 2 if mutual else 1
            found[i, place] = common / (2 * (k + 1) - common)
    return found
