"""Layouts by principal components: linear, so new samples are placed by the same projection."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class PcaMap:
    """A projection on the directions of largest variance.

    Attributes:
        points: (num_rows, num_dims) float32, in the unit of the embeddings
        mean: (dim,) float32, the embedding that lies at the origin
        components: (num_dims, dim) float32, orthonormal rows, by descending variance; the largest
            entry of each is positive. Rows of zeros where there are fewer directions
        variance_share: (num_dims,) float32 in [0, 1], the share of the variance along each
        notes: sentences on what was adapted to few or low-dimensional embeddings
    """

    points: np.ndarray
    mean: np.ndarray
    components: np.ndarray
    variance_share: np.ndarray
    notes: tuple[str, ...]

    def place(self, vectors: np.ndarray) -> np.ndarray:
        """Where new embeddings (num_new, dim) lie in this plot: (num_new, num_dims) float32."""
        return _float32((np.asarray(vectors, np.float64) - self.mean) @ self.components.T)


def _float32(values: np.ndarray) -> np.ndarray:
    """Values as float32; those beyond its range become the largest one."""
    reach = np.finfo(np.float32).max
    return np.clip(values, -reach, reach).astype(np.float32)


def pca_layout(vectors: np.ndarray, num_dims: int = 2) -> PcaMap:
    """Projects embeddings on their first principal components. Deterministic.

    Args:
        vectors: (num_rows, dim) finite floats, taken as they are, not scaled
        num_dims: dimensions of the plot
    """
    from scipy.linalg import eigh

    vectors = np.asarray(vectors, np.float32)
    num_rows, dim = vectors.shape
    # Squares of very large or small values would overflow or vanish; a power of two rounds nothing.
    largest = float(np.abs(vectors).max()) if vectors.size else 0.0
    scale = 2.0 ** np.floor(np.log2(largest)) if largest > 0 else 1.0
    if not 1e-10 < scale < 1e10:
        scaled = pca_layout((vectors / scale).astype(np.float32), num_dims)
        points, mean = scaled.points.astype(np.float64), scaled.mean.astype(np.float64)
        return replace(scaled, points=_float32(points * scale), mean=_float32(mean * scale))
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32) if num_rows else np.zeros(dim)
    components = np.zeros((num_dims, dim), np.float32)
    variance_share = np.zeros(num_dims, np.float32)
    found = min(num_dims, num_rows - 1, dim)
    notes: tuple[str, ...] = ()
    if found < num_dims:
        found = max(found, 0)
        note = (
            f"{num_rows} samples of {dim} dimensions vary in at most {found} directions; the "
            "other coordinates of the plot are 0."
        )
        notes = (note,)
    centered = vectors - mean.astype(np.float32)
    if found:
        # The smaller of the two products has the same eigenvalues.
        by_rows = num_rows < dim
        product = centered @ centered.T if by_rows else centered.T @ centered
        product = product.astype(np.float64)
        size = len(product)
        values, directions = eigh(product, subset_by_index=[size - found, size - 1])
        values, directions = values[::-1], directions[:, ::-1].T
        if by_rows:
            directions = directions @ centered
            length = np.linalg.norm(directions, axis=1, keepdims=True)
            # Directions without variance come out as rounding noise.
            enough = length > 1e-6 * max(length.max(), np.finfo(np.float32).tiny)
            directions = np.where(enough, directions / np.where(enough, length, 1), 0)
        largest = np.abs(directions).argmax(axis=1)
        signs = np.where(directions[np.arange(found), largest] < 0, -1, 1)
        components[:found] = directions * signs[:, None]
        variance_share[:found] = np.clip(values / max(np.trace(product), 1e-300), 0, 1)
    return PcaMap(
        centered @ components.T, mean.astype(np.float32), components, variance_share, notes
    )
