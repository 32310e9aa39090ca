"""The compiled loops of UMAP. Import inside functions: numba takes time.

McInnes, Healy and Melville, "UMAP: Uniform Manifold Approximation and Projection for Dimension
Reduction" (2018), as umap-learn implements it; written again because importing umap-learn and its
first call cost about 17 s of compilation in every process.
"""

from __future__ import annotations

import numpy as np

from ._parallel import compiled

# As in umap-learn.
SEARCH_STEPS = 64
TOLERANCE = 1e-5
MIN_SCALE = 1e-3
MAX_FORCE = np.float32(4.0)
NEGATIVE_SAMPLES = 5


@compiled
def memberships(distances, to_nearest, mean_distance, strengths):
    """How strongly each row belongs with each of its neighbors (umap's ``smooth_knn_dist``).

    Args:
        distances: (n, k) float32, ascending. The first is left out of the sum by which a row's
            scale is found: in a plot of all rows it is the row itself
        to_nearest: measure distances from the nearest other row on, as in a plot of all rows; not
            for rows that are placed into a plot
        mean_distance: the mean of all distances
        strengths: (n, k) float32 in [0, 1], filled by this function
    """
    num_rows, k = distances.shape
    target = np.log2(k)
    for i in range(num_rows):
        row = distances[i]
        nearest = 0.0
        if to_nearest:
            for j in range(k):
                if row[j] > 0:
                    nearest = float(row[j])
                    break
        low, high, scale = 0.0, np.inf, 1.0
        for _ in range(SEARCH_STEPS):
            total = 0.0
            for j in range(1, k):
                beyond = row[j] - nearest
                total += np.exp(-beyond / scale) if beyond > 0 else 1.0
            if abs(total - target) < TOLERANCE:
                break
            if total > target:
                high = scale
                scale = (low + high) / 2
            else:
                low = scale
                scale = scale * 2 if high == np.inf else (low + high) / 2
        mean = mean_distance
        if nearest > 0:
            mean = 0.0
            for j in range(k):
                mean += row[j] / k
        scale = max(scale, MIN_SCALE * mean)
        for j in range(k):
            beyond = row[j] - nearest
            strengths[i, j] = np.exp(-beyond / scale) if beyond > 0 and scale > 0 else 1.0


@compiled
def layout_step(
    start, stop, points, anchors, moved, offsets, neighbors, rates, epoch, learning_rate, pull,
    push, seed,
):  # fmt: skip
    """Moves points ``start`` to ``stop`` by one epoch of UMAP's stochastic gradient descent.

    Every point moves by its own edges and negative samples only, while all others stay where
    they were, and draws its random numbers from the seed, the epoch and its own row. So the
    outcome does not depend on the number of threads or their timing.

    Args:
        points: (n, 3) float32, where the points are; two-dimensional plots leave the third 0
        anchors: (m, 3) float32, what the edges lead to and what pushes: ``points`` or a fixed plot
        moved: (n, 3) float32, filled between ``start`` and ``stop``
        offsets: (n + 1,) int64, the edges of point i are ``offsets[i]`` to ``offsets[i + 1]``
        neighbors: (num_edges,) int32, rows of ``anchors``
        rates: (num_edges,) int64, the share of epochs in which an edge pulls times 2^32
        epoch: from 1
        pull, push: (32768,) float32, the forces over the squared distance, see ``force_tables``
    """
    num_anchors = np.uint64(anchors.shape[0])
    for i in range(start, stop):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        # splitmix64 over (seed, epoch, row), then xorshift64 for the draws.
        state = np.uint64(seed) + np.uint64(epoch) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ np.uint64(i + 1)) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = (state ^ (state >> np.uint64(31))) | np.uint64(1)
        for edge in range(offsets[i], offsets[i + 1]):
            rate = rates[edge]
            if (epoch * rate) >> 32 == ((epoch - 1) * rate) >> 32:
                continue
            j = np.int64(neighbors[edge])
            for draw in range(NEGATIVE_SAMPLES + 1):
                dx, dy, dz = x - anchors[j, 0], y - anchors[j, 1], z - anchors[j, 2]
                squared = dx * dx + dy * dy + dz * dz
                place = np.float32(squared).view(np.int32) >> 16
                force = pull[place] if draw == 0 else push[place]
                x += learning_rate * min(max(force * dx, -MAX_FORCE), MAX_FORCE)
                y += learning_rate * min(max(force * dy, -MAX_FORCE), MAX_FORCE)
                z += learning_rate * min(max(force * dz, -MAX_FORCE), MAX_FORCE)
                state ^= state << np.uint64(13)
                state ^= state >> np.uint64(7)
                state ^= state << np.uint64(17)
                j = np.int64(((state >> np.uint64(32)) * num_anchors) >> np.uint64(32))
        moved[i, 0], moved[i, 1], moved[i, 2] = x, y, z


def force_tables(a: float, b: float) -> tuple[np.ndarray, np.ndarray]:
    """UMAP's gradients by the upper 16 bits of the squared distance as float32.

    That is a resolution of 0.8 %, without a power and a division, which took most of the time.

    Args:
        a, b: the curve 1 / (1 + a d^(2b)) of similarity over distance in the plot

    Returns:
        attraction and repulsion, (32768,) float32 each, to be multiplied with the difference
    """
    # Beyond the largest float, 0x7F7F in the upper bits, lie the bits of infinity and NaN.
    upper = np.minimum(np.arange(32768, dtype=np.uint32), 0x7F7F)
    squared = ((upper << 16) | 0x8000).view(np.float32).astype(np.float64)
    power = squared**b
    pull = -2 * a * b * power / (squared * (a * power + 1))
    push = 2 * b / ((0.001 + squared) * (a * power + 1))
    return pull.astype(np.float32), push.astype(np.float32)
