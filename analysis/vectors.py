"""Embeddings as cosine distance sees them: checked, and scaled to length 1."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ..cores import num_cores
from ._parallel import in_parts

# Rows scaled at once: a few megabytes, whatever the number of embeddings.
BLOCK_ROWS = 4096


@dataclass(frozen=True)
class UnitRows:
    """Embeddings scaled to length 1.

    Attributes:
        rows: (num_rows, dim) float32, C-contiguous, of length 1, or 0 where the vector was zero
        zero: (num_rows,) bool, the vector was zero and has no direction
    """

    rows: np.ndarray
    zero: np.ndarray

    def take(self, selected: np.ndarray) -> UnitRows:
        """These rows, by index."""
        return UnitRows(self.rows[selected], self.zero[selected])


def unit_rows(vectors: np.ndarray) -> UnitRows:
    """Checks embeddings and scales them to length 1.

    Args:
        vectors: (num_rows, dim) floats or integers of any width

    Raises:
        ValueError: if the array is not two-dimensional or not numeric, has no columns, or holds
            NaN or infinite values

    Example:
        >>> units = unit_rows([[3, 4], [0, 0]])
        >>> units.rows.tolist(), units.zero.tolist()
        ([[0.6000000238418579, 0.800000011920929], [0.0, 0.0]], [False, True])
    """
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise ValueError(
            "Embeddings must be numbers in an array of shape (samples, dimensions), not "
            f"{vectors.dtype} of shape {vectors.shape}"
        )
    num_rows, dim = vectors.shape
    if dim == 0:
        raise ValueError("Embeddings must have at least one dimension")

    wide = vectors.dtype.kind != "f" or vectors.dtype.itemsize > 4
    rows = np.empty((num_rows, dim), np.float32)
    zero = np.zeros(num_rows, bool)
    broken = np.zeros(num_rows, bool)
    for start in range(0, num_rows, BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        block: np.ndarray = vectors[part].astype(np.float64 if wide else np.float32)
        # The largest value is divided out first: squares of very large or small ones would
        # overflow or vanish.
        largest = np.abs(block).max(axis=1)
        broken[part] = ~np.isfinite(largest)
        zero[part] = largest == 0
        largest[~(largest > 0) | broken[part]] = 1
        block /= largest[:, None]
        with np.errstate(invalid="ignore"):
            length = np.sqrt(np.einsum("ij,ij->i", block, block))
            length[zero[part]] = 1
            rows[part] = block / length[:, None]
    if broken.any():
        raise ValueError(
            f"{broken.sum()} of {num_rows} embeddings hold NaN or infinite values, first in row "
            f"{int(broken.argmax())}; recompute these embeddings or exclude them"
        )
    return UnitRows(rows, zero)


def content_keys(rows: np.ndarray, seed: int | None, pool: Executor) -> np.ndarray:
    """A random number per row that depends on what it holds, not on where it stands: (n,) uint64.

    Args:
        rows: (n, dim) float32
        seed: of the hash, a multilinear one of 64 bits
        pool: threads to compute it in
    """
    from . import _probe_kernels

    factors = np.random.default_rng(seed).integers(1, 2**63, rows.shape[1], np.uint64)
    factors |= np.uint64(1)
    bits = np.ascontiguousarray(rows, np.float32).view(np.uint32)
    keys = np.empty(len(rows), np.uint64)

    def work(start: int, stop: int) -> None:
        _probe_kernels.content_keys(bits, factors, keys, start, stop)

    in_parts(work, len(rows), pool)
    return keys


def order_of_content(rows: np.ndarray) -> np.ndarray:
    """An order of rows that follows from what they hold, not from where they stand.

    Chance that goes by this order gives the same result for the same rows, however they were
    imported. Equal rows stay as they stand.

    Args:
        rows: (num_rows, dim) float32

    Returns:
        (num_rows,) int64 permutation
    """
    with ThreadPoolExecutor(num_cores()) as pool:
        return np.argsort(content_keys(rows, 0, pool), kind="stable")
