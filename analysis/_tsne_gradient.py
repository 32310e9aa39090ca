"""The gradient of t-SNE in two dimensions, several times faster than openTSNE's.

Repulsion is interpolated on a grid by fast Fourier transforms: Linderman et al., "Fast
interpolation-based t-SNE for improved visualization of single-cell RNA-seq data" (2019). Here the
grid holds the three fields that are wanted, in single precision, so that one transform forward
and three back do. Import inside functions: numba takes time.
"""

from __future__ import annotations

from concurrent.futures import Executor

import numpy as np
from scipy.fft import irfft2, next_fast_len, rfft2

from ..cores import num_cores
from ._parallel import compiled, in_parts

# The kernel varies over distances of about 1; cubic interpolation at this spacing is within 2 %.
SPACING = 1 / 3

# A small plot has at least this many intervals, for its forces are small differences.
MIN_INTERVALS = 24

# Grids grow in steps of this many nodes, so that the kernels are rarely transformed again.
GRID_STEP = 32

# Transforms of smaller grids are faster in one thread.
MIN_SHARED_GRID = 512


class TsneGradient:
    """The objective function for openTSNE's optimization of a two-dimensional plot."""

    def __init__(self, pool: Executor) -> None:
        self.pool = pool
        self.grid: tuple | None = None

    def __call__(self, embedding: np.ndarray, P, **_: object) -> tuple[float, np.ndarray]:
        """Computes the gradient.

        Args:
            embedding: (n, 2) float64
            P: (n, n) sparse symmetric affinities

        Returns:
            0 in place of the divergence, which is not needed, and the gradient (n, 2) float64
        """
        points = np.ascontiguousarray(embedding, np.float64)
        gradient = np.empty_like(points)
        fields = self._fields(points)

        def work(start: int, stop: int) -> None:
            attract(start, stop, P.indptr, P.indices, P.data, points, gradient)

        in_parts(work, len(points), self.pool)
        total = fields[0].sum() - len(points)
        gradient -= fields[1:].T / total
        # Without the factor 4, which openTSNE leaves to the learning rate.
        return 0.0, gradient

    def _fields(self, points: np.ndarray) -> np.ndarray:
        """At each point the sum over all of 1/(1+d^2), and of (dx, dy)/(1+d^2)^2: (3, n)."""
        # One node of margin below and two above for cubic interpolation.
        from_corner = points - points.min(axis=0)
        spacing = min(SPACING, max(from_corner.max() / MIN_INTERVALS, 1e-12))
        places = from_corner / spacing + 1
        shape = np.ceil((places.max(axis=0) + 3) / GRID_STEP).astype(int) * GRID_STEP
        if self.grid != (*shape, spacing):
            self._transform_kernels(shape, spacing)
            self.grid = (*shape, spacing)
        density = np.zeros(shape, np.float32)
        spread(places, density)
        workers = num_cores() if min(self.padded) >= MIN_SHARED_GRID else 1
        spectrum = rfft2(density, self.padded, workers=workers)
        grids = irfft2(self.kernels * spectrum, self.padded, workers=workers)
        fields = np.empty((3, len(points)), np.float64)

        def work(start: int, stop: int) -> None:
            gather(start, stop, places, grids, fields)

        in_parts(work, len(points), self.pool)
        return fields

    def _transform_kernels(self, shape: np.ndarray, spacing: float) -> None:
        self.padded = tuple(next_fast_len(2 * size, real=True) for size in shape)
        # Distances wrap around: the second half of the grid holds the negative ones.
        x, y = (spacing * size * np.fft.fftfreq(size) for size in self.padded)
        x, y = x[:, None], y[None, :]
        kernel = 1 / (1 + x * x + y * y)
        kernels = np.stack([kernel, x * kernel**2, y * kernel**2]).astype(np.float32)
        self.kernels = rfft2(kernels)


@compiled
def attract(start, stop, offsets, neighbors, weights, points, forces):
    """Sums, for points ``start`` to ``stop``, weight * difference / (1 + d^2) over neighbors."""
    for i in range(start, stop):
        x, y = points[i, 0], points[i, 1]
        sum_x = sum_y = 0.0
        for edge in range(offsets[i], offsets[i + 1]):
            j = neighbors[edge]
            dx, dy = x - points[j, 0], y - points[j, 1]
            force = weights[edge] / (1 + dx * dx + dy * dy)
            sum_x += force * dx
            sum_y += force * dy
        forces[i, 0], forces[i, 1] = sum_x, sum_y


@compiled
def _weights(t, weights):
    """Cubic Lagrange weights of the nodes -1, 0, 1, 2 for a place ``t`` in [0, 1)."""
    weights[0] = -t * (t - 1) * (t - 2) / 6
    weights[1] = (t + 1) * (t - 1) * (t - 2) / 2
    weights[2] = -(t + 1) * t * (t - 2) / 2
    weights[3] = (t + 1) * t * (t - 1) / 6


@compiled
def spread(places, density):
    """Adds every point to the 16 grid nodes around it."""
    along_x, along_y = np.empty(4), np.empty(4)
    for i in range(places.shape[0]):
        row, column = int(places[i, 0]), int(places[i, 1])
        _weights(places[i, 0] - row, along_x)
        _weights(places[i, 1] - column, along_y)
        for p in range(4):
            for q in range(4):
                density[row + p - 1, column + q - 1] += along_x[p] * along_y[q]


@compiled
def gather(start, stop, places, grids, fields):
    """Interpolates each of the grids at points ``start`` to ``stop``."""
    along_x, along_y = np.empty(4), np.empty(4)
    for i in range(start, stop):
        row, column = int(places[i, 0]), int(places[i, 1])
        _weights(places[i, 0] - row, along_x)
        _weights(places[i, 1] - column, along_y)
        for g in range(grids.shape[0]):
            total = 0.0
            for p in range(4):
                for q in range(4):
                    total += along_x[p] * along_y[q] * grids[g, row + p - 1, column + q - 1]
            fields[g, i] = total
