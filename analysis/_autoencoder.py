"""A small autoencoder that begins as PCA and learns what that leaves out.

Code and restored row are each a linear map, principal components at first, plus what a hidden layer
of rectified units adds, nothing at first (Hinton and Salakhutdinov, "Reducing the dimensionality of
data with neural networks", 2006, begin near a good solution as well). It stops when rows that it
does not learn from are no longer restored better, and goes back to its best state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..process import device_fault, one_torch_thread
from ..steps import ProgressCallback

if TYPE_CHECKING:
    import torch

    from .reduction import Encoder

logger = logging.getLogger(__name__)

# Hidden units on both sides, rows of a step, its size, and passes at most and without progress.
HIDDEN, BATCH, RATE, MAX_EPOCHS, PATIENCE = 256, 256, 1e-3, 60, 4

# Rows that are learned from at most, so that time and memory are bounded, rows of a pass, and rows
# that are held out: a tenth, so many at most.
MAX_ROWS, EPOCH_ROWS, HELD_OUT_SHARE, MAX_HELD_OUT = 50_000, 20_000, 0.1, 5000

# Progress of less than this share of the loss is none.
LEAST_GAIN = 1e-3


@dataclass(frozen=True)
class Trained:
    """An encoder, its counterpart, and the passes that it took.

    Attributes:
        encoder: rows to codes
        restore: codes (n, num_dims) to centered rows (n, dim), float32
        epochs: passes over the rows
    """

    encoder: Encoder
    restore: Callable[[np.ndarray], np.ndarray]
    epochs: int


def train_autoencoder(
    rows: np.ndarray,
    num_dims: int,
    seed: int | None = 51,
    progress: ProgressCallback | None = None,
) -> Trained:
    """Trains on a CUDA GPU if there is one, else, or where that is full, on the CPU.

    Args:
        rows: (n, dim) float32
        num_dims: of the codes, below n and at most dim
        seed: of the weights, the rows that are held out, and their order
        progress: called with the share of the work that is done, in [0, 1]
    """
    # Batches are small, and torch's own threads wait by spinning.
    with one_torch_thread():
        return _train_somewhere(rows, num_dims, seed, progress)


def _train_somewhere(
    rows: np.ndarray, num_dims: int, seed: int | None, progress: ProgressCallback | None
) -> Trained:
    import torch

    if torch.cuda.is_available():
        try:
            return _train(rows, num_dims, seed, progress, "cuda")
        except (RuntimeError, AssertionError) as error:
            if (fault := device_fault(error)) is None:
                raise
            logger.warning("The device 'cuda' %s: the autoencoder is trained on the CPU", fault)
    return _train(rows, num_dims, seed, progress, "cpu")


def _train(
    rows: np.ndarray,
    num_dims: int,
    seed: int | None,
    progress: ProgressCallback | None,
    device: str,
) -> Trained:
    import torch

    from .reduction import linear_encoder

    random = np.random.default_rng(seed)
    if len(rows) > MAX_ROWS:
        rows = rows[np.sort(random.permutation(len(rows))[:MAX_ROWS])]
    order = random.permutation(len(rows))
    num_held_out = max(1, min(int(len(rows) * HELD_OUT_SHARE), MAX_HELD_OUT))
    # Of these rows alone: components of all of them would look better on the others than they are.
    learned = np.sort(order[num_held_out:])
    start = linear_encoder(rows[learned], "pca", min(num_dims, len(learned) - 1))
    # Centered and so large that a step of the usual size suits them.
    centered = torch.from_numpy(rows - start.mean)
    scale = float(centered.square().mean().sqrt()) or 1.0
    held_out = (centered[order[:num_held_out]] / scale).to(device)
    weights = _first_weights(_padded(start.linear, num_dims), random, device)
    optimizer = torch.optim.Adam(weights, RATE)
    best = [one.detach().clone() for one in weights]
    least, since, epoch = _loss(weights, held_out).item(), 0, 0
    for epoch in range(1, MAX_EPOCHS + 1):
        for chosen in _batches(random.permutation(order[num_held_out:])[:EPOCH_ROWS]):
            optimizer.zero_grad()
            _loss(weights, (centered[chosen] / scale).to(device)).backward()
            optimizer.step()
        with torch.no_grad():
            loss = _loss(weights, held_out).item()
        since = 0 if loss < least * (1 - LEAST_GAIN) else since + 1
        if loss < least:
            least, best = loss, [one.detach().clone() for one in weights]
        if progress is not None:
            progress(epoch / MAX_EPOCHS)
        if since >= PATIENCE:
            break
    if progress is not None:
        progress(1.0)
    return _trained(best, start, scale, epoch)


def _batches(order: np.ndarray) -> Iterator[np.ndarray]:
    for begin in range(0, len(order), BATCH):
        yield order[begin : begin + BATCH]


def _padded(linear: np.ndarray, num_dims: int) -> np.ndarray:
    """Rows of zeros below, where few rows have fewer components than the code has numbers."""
    return np.pad(linear, ((0, num_dims - len(linear)), (0, 0)))


def _first_weights(
    start: np.ndarray, random: np.random.Generator, device: str
) -> list[torch.Tensor]:
    """Linear, inward, bias, outward of the encoder, and the same of its counterpart."""
    import torch

    num_dims, dim = start.shape
    arrays = [
        start,
        random.standard_normal((HIDDEN, dim)) / np.sqrt(dim),
        np.zeros(HIDDEN),
        np.zeros((num_dims, HIDDEN)),
        start.T,
        random.standard_normal((HIDDEN, num_dims)) / np.sqrt(num_dims),
        np.zeros(HIDDEN),
        np.zeros((dim, HIDDEN)),
    ]
    return [
        torch.tensor(np.ascontiguousarray(array, np.float32), device=device, requires_grad=True)
        for array in arrays
    ]


def _layer(inputs: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
    linear, inward, bias, outward = weights
    hidden = (inputs @ inward.T + bias).relu()
    return inputs @ linear.T + hidden @ outward.T


def _loss(weights: list[torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
    restored = _layer(_layer(rows, weights[:4]), weights[4:])
    return (restored - rows).square().mean()


def _trained(best: list[torch.Tensor], start: Encoder, scale: float, epochs: int) -> Trained:
    """The trained weights as arrays; the scale goes into them."""
    from .reduction import Encoder

    linear, inward, bias, outward, *back = (one.cpu().numpy() for one in best)
    # relu(a x / s + b) = relu(a x + s b) / s, and codes are in the unit of the rows.
    encoder = Encoder(start.mean, linear, inward, bias * np.float32(scale), outward)

    def restore(codes: np.ndarray) -> np.ndarray:
        hidden = np.maximum(codes @ back[1].T + back[2] * np.float32(scale), 0)
        return codes @ back[0].T + hidden @ back[3].T

    return Trained(encoder, restore, epochs)
