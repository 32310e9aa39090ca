"""Fewer dimensions for embeddings: PCA, truncated SVD, or an autoencoder that begins as PCA.

What was learned is kept as plain arrays, so that samples that come later are placed alike. Rows are
of length 1: everything here compares directions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..steps import ProgressCallback
from ._statistics import mean_of_defined, means_by_class
from .erasure import Erasure
from .likely_classes import Probabilities
from .neighbors import NeighborGraph
from .vectors import BLOCK_ROWS

METHODS = ("pca", "svd", "autoencoder")

# Neighbors of each row that are compared.
COMPARED_NEIGHBORS = 15

# More of the randomized SVD's iterations than scikit-learn's 5: CLIP's spectra fall slowly.
SVD_ITERATIONS = 10


@dataclass(frozen=True)
class Encoder:
    """Rows to codes: a linear map, and beside it a hidden layer where there is one.

    Attributes:
        mean: (dim,) float32, taken off first; zeros for SVD
        linear: (num_dims, dim) float32
        inward, bias, outward: of the autoencoder, (hidden, dim), (hidden,), (num_dims, hidden)
            float32; of no rows otherwise
    """

    mean: np.ndarray
    linear: np.ndarray
    inward: np.ndarray
    bias: np.ndarray
    outward: np.ndarray

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Codes (n, num_dims) float32 of rows (n, dim) float32."""
        centered = rows - self.mean
        codes = centered @ self.linear.T
        if len(self.inward):
            codes += np.maximum(centered @ self.inward.T + self.bias, 0) @ self.outward.T
        return codes


@dataclass(frozen=True)
class Reducer:
    """What places rows: an erasure, an encoder, or one after the other."""

    erasure: Erasure | None = None
    encoder: Encoder | None = None

    def place(self, rows: np.ndarray) -> np.ndarray:
        """Reduced rows, (n, num_dims) float32; what has no direction, a row of zeros, has none.

        Args:
            rows: (n, dim) float32 unit rows, of the dim that it was learned on
        """
        parts = [part for part in (self.erasure, self.encoder) if part is not None]
        blocks = []
        # One block at a time: a row is placed alike in whatever company.
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS]
            directed = block.any(axis=1, keepdims=True)
            for part in parts:
                block = part.apply(block)
            blocks.append(block * directed)
        return np.concatenate(blocks).astype(np.float32, copy=False)

    def arrays(self) -> dict[str, np.ndarray]:
        """All that it consists of, by name."""
        return {
            f"{name}_{field.name}": getattr(part, field.name)
            for name, part in (("erasure", self.erasure), ("encoder", self.encoder))
            if part is not None
            for field in dataclasses.fields(part)
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Reducer:
        """The reducer of these arrays.

        Raises:
            KeyError: if some are missing
        """
        parts: dict[str, Any] = {
            name: kind(
                **{one.name: arrays[f"{name}_{one.name}"] for one in dataclasses.fields(kind)}
            )
            for name, kind in (("erasure", Erasure), ("encoder", Encoder))
            if any(key.startswith(f"{name}_") for key in arrays)
        }
        return cls(**parts)


@dataclass(frozen=True)
class FittedEncoder:
    """An encoder, and how much of the rows it keeps.

    Attributes:
        encoder: places rows
        explained: the share of the variance of the rows that can be restored from the codes, at
            most 1
        epochs: of the autoencoder; 0 otherwise
    """

    encoder: Encoder
    explained: float
    epochs: int = 0


def fit_encoder(
    rows: np.ndarray,
    method: str,
    num_dims: int,
    seed: int | None = 51,
    progress: ProgressCallback | None = None,
) -> FittedEncoder:
    """Learns to describe rows by fewer numbers.

    Args:
        rows: (n, dim) float32, finite
        method: ``pca``, ``svd`` (not centered, scikit-learn's TruncatedSVD) or ``autoencoder``
        num_dims: of the codes, below n and at most dim
        seed: of the SVD and the autoencoder
        progress: called with the share of the work that is done, in [0, 1]

    Raises:
        ValueError: if an argument is out of range

    Example:
        >>> from sklearn.datasets import load_digits
        >>> images = load_digits().data.astype(np.float32)
        >>> fitted = fit_encoder(images, "pca", 16)
        >>> fitted.encoder.apply(images).shape, round(fitted.explained, 2)
        ((1797, 16), 0.85)
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    if not 1 <= num_dims <= min(len(rows) - 1, rows.shape[1]):
        raise ValueError(f"num_dims={num_dims} does not fit rows of shape {rows.shape}")
    if method == "autoencoder":
        from ._autoencoder import train_autoencoder

        trained = train_autoencoder(rows, num_dims, seed, progress)
        return FittedEncoder(
            trained.encoder, _explained(rows, trained.encoder, trained.restore), trained.epochs
        )
    encoder = linear_encoder(rows, method, num_dims, seed)
    if progress is not None:
        progress(1.0)
    return FittedEncoder(encoder, _explained(rows, encoder, lambda codes: codes @ encoder.linear))


def linear_encoder(rows: np.ndarray, method: str, num_dims: int, seed: int | None = 51) -> Encoder:
    """Scikit-learn's PCA or TruncatedSVD of rows; arguments as of ``fit_encoder``."""
    from sklearn.decomposition import PCA, TruncatedSVD

    dim = rows.shape[1]
    if method == "pca":
        # Exact whatever the size, and so without chance.
        solver = "covariance_eigh" if len(rows) >= dim else "full"
        found = PCA(num_dims, svd_solver=solver).fit(rows)
        mean = found.mean_
    else:
        found = TruncatedSVD(num_dims, n_iter=SVD_ITERATIONS, random_state=seed).fit(rows)
        mean = np.zeros(dim)
    none = np.zeros((0, dim), np.float32)
    arrays = (mean, found.components_, none, none[:, 0], none[:, :num_dims].reshape(num_dims, 0))
    return Encoder(*(np.ascontiguousarray(array, np.float32) for array in arrays))


def _explained(
    rows: np.ndarray, encoder: Encoder, restore: Callable[[np.ndarray], np.ndarray]
) -> float:
    """1 - (what is lost) / (variance), block by block."""
    mean = rows.mean(axis=0, dtype=np.float64)
    lost = whole = 0.0
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        missing = (block - encoder.mean) - restore(encoder.apply(block))
        lost += float(np.square(missing, dtype=np.float64).sum())
        whole += float(np.square(block - mean).sum())
    return 1 - lost / whole if whole > 0 else 1.0


def balanced_accuracy(probabilities: Probabilities, labels: np.ndarray) -> float:
    """The mean recall of the classes by held-out probabilities; NaN without labels.

    Args:
        probabilities: (n, c)
        labels: (n,) integers, -1 for unlabeled
    """
    rows = np.flatnonzero(labels >= 0)
    right = (probabilities.argmax(axis=1) == labels)[rows].astype(np.float64)
    return mean_of_defined(means_by_class(right, labels[rows], probabilities.shape[1]))


def kept_neighbors(
    before: NeighborGraph, after: NeighborGraph, k: int = COMPARED_NEIGHBORS
) -> float:
    """The share of the k nearest neighbors that are among the k nearest afterwards, in [0, 1].

    NaN where there are no neighbors.

    Args:
        before, after: neighbors of the same rows
        k: fewer where the graphs have fewer
    """
    k = min(k, before.k, after.k)
    if k == 0:
        return float("nan")
    kept = 0
    for start in range(0, before.num_rows, BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        then, now = before.indices[part, :k], after.indices[part, :k]
        kept += int((then[:, :, None] == now[:, None, :]).any(axis=2).sum())
    return kept / (before.num_rows * k)
