"""Cross-validated multinomial logistic regression on the features of the probe."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from ._probe_blocks import row_blocks, total_of
from ._probe_calibration import softmax, temperature_of
from ._probe_features import ProbeRows

if TYPE_CHECKING:
    import torch

# The logistic regression stops early, which regularises: more steps learn the noise.
LOGISTIC_STEPS = 5
LOGISTIC_PENALTY = 0.1

# What its steps assume for the curvature p (1 - p) of the softmax; 0.5 always is an upper bound
# (Böhning, "Multinomial logistic regression algorithm", 1992), and wastes steps.
LOGISTIC_CURVATURE = 0.15


class Logistic:
    """Cross-validated multinomial logistic regression, duplicate groups held together.

    A few accelerated steps (Nesterov) of fixed curvature from the shares of the classes. On
    uncorrelated features the curvature is diagonal, so a step costs two products.
    """

    def __init__(self, known: ProbeRows, values: torch.Tensor) -> None:
        self.known = known
        self.values = values
        edges = np.searchsorted(known.fold, np.arange(known.fold[known.num_labeled - 1] + 2))
        self.folds = [slice(*pair) for pair in itertools.pairwise(edges.tolist())]
        self.fitted = [self._fit(held_out) for held_out in self.folds]
        scores, labels = self.held_out(known.tuning).numpy(), known.labels[known.tuning]
        _, self.temperature = temperature_of(scores, labels)

    def probabilities(self, places: np.ndarray | slice) -> np.ndarray:
        """Held-out probabilities (places, c) float32; of unlabeled rows, by the folds' mean."""
        return softmax(self.held_out(places), self.temperature).numpy()

    def held_out(self, places: np.ndarray | slice) -> torch.Tensor:
        """Scores by the folds that a row is not in: (places, c) float32."""
        import torch

        known, fold = self.known.features[places].float(), self.known.fold[places]
        scores = torch.empty((len(known), self.known.num_classes))
        for number in np.unique(fold):
            coefficients, start = self._of_fold(number)
            members = np.flatnonzero(fold == number)
            scores[members] = known[members] @ coefficients + start
        return scores

    def _of_fold(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        if number < len(self.fitted):
            return self.fitted[number]
        coefficients, starts = zip(*self.fitted)
        return sum(coefficients) / len(coefficients), sum(starts) / len(starts)

    def _fit(self, held_out: slice) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        features, num_labeled = self.known.features, self.known.num_labeled
        train = row_blocks(0, held_out.start) + row_blocks(held_out.stop, num_labeled)
        labels = torch.from_numpy(self.known.labels)
        none = torch.zeros(self.known.num_classes, dtype=torch.int64)
        counts = sum((torch.bincount(labels[part], minlength=len(none)) for part in train), none)
        size = max(int(counts.sum()), 1)
        # A class that is not seen counts as half a row.
        start = (counts.clamp(min=0.5) / size).log()
        step = 1 / (LOGISTIC_CURVATURE * size / num_labeled * self.values + LOGISTIC_PENALTY)
        ahead = torch.zeros((features.shape[1], self.known.num_classes))

        def gradient(part: slice) -> torch.Tensor:
            known = features[part]
            missing = softmax((known @ rounded).float().add_(start), 1.0).neg_()
            missing[torch.arange(len(known)), labels[part]] += 1
            return (known.T @ missing.to(known.dtype)).float()

        previous, momentum = ahead, 1.0
        for _ in range(LOGISTIC_STEPS if train else 0):
            rounded = ahead.to(features.dtype)
            reached = total_of(self.known.pool, gradient, train).sub_(ahead, alpha=LOGISTIC_PENALTY)
            reached = ahead + step[:, None] * reached
            faster = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ahead = reached + (momentum - 1) / faster * (reached - previous)
            previous, momentum = reached, faster
        return ahead, start
