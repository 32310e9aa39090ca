"""Scores to probabilities: the softmax, and the temperature at which they are as sure as right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def temperature_of(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """The log loss of softmax(factor * scores) at its best factor, and that factor.

    Guo et al., "On calibration of modern neural networks" (2017).
    """
    from scipy.optimize import minimize_scalar

    own = scores[np.arange(len(labels)), labels][:, None]
    beyond = (scores - own).astype(np.float32)

    def loss(log_factor: float) -> float:
        logits = np.float32(np.exp(log_factor)) * beyond
        highest = logits.max(axis=1, keepdims=True)
        return float((np.log(np.exp(logits - highest).sum(axis=1)) + highest[:, 0]).mean())

    found = minimize_scalar(loss, bounds=(-3, 5), method="bounded", options={"xatol": 0.01})
    return float(found.fun), float(np.exp(found.x))


def softmax(scores: torch.Tensor, factor: float) -> torch.Tensor:
    """Probabilities (n, c) float32; the scores are overwritten."""
    return scores.mul_(factor).softmax(dim=1)
