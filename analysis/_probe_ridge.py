"""Ridge regression on the classes, which leaves out a row or a duplicate group in closed form.

Rifkin and Lippert, "Notes on regularized least squares" (2007).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._probe_blocks import BLOCK_ROWS, row_blocks, total_of
from ._probe_calibration import softmax, temperature_of
from ._probe_features import ProbeRows

if TYPE_CHECKING:
    import torch

# Penalties that ridge regression tries, in units of the mean variance of a feature.
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0)


class Ridge:
    """Ridge regression on the classes, its intercept not penalised."""

    def __init__(self, known: ProbeRows) -> None:
        import torch

        self.known = known
        self.labels = torch.from_numpy(known.labels)
        features, num_labeled = known.features, known.num_labeled

        def sums(part: slice) -> tuple[torch.Tensor, torch.Tensor]:
            block = features[part].float()
            of_class = torch.zeros((known.num_classes, features.shape[1]))
            return block.square().sum(dim=0), of_class.index_add_(0, self.labels[part], block)

        self.values, of_classes = total_of(known.pool, sums, row_blocks(0, num_labeled))
        counts = torch.bincount(self.labels[:num_labeled], minlength=known.num_classes)
        self.share = counts.float() / num_labeled
        self.products = of_classes.T - torch.outer(of_classes.sum(dim=0), self.share)

    def tune(self) -> None:
        """Chooses the penalty that predicts the labels best, and its temperature."""
        _, self.temperature, self.penalty = min(self._tuned(penalty) for penalty in PENALTIES)

    def probabilities(
        self, places: np.ndarray | slice, members: np.ndarray | None = None
    ) -> np.ndarray:
        """Held-out probabilities (places, c) float32, once it is tuned.

        Args:
            places: the rows
            members: (g, s) the same places, of a duplicate group each, that are left out together
        """
        if members is None:
            scores = self.held_out(self.penalty, places)
        else:
            scores = self.held_out_groups(self.penalty, members).flatten(0, 1)
        return softmax(scores, self.temperature).numpy()

    def held_out(self, penalty: float, places: np.ndarray | slice) -> torch.Tensor:
        """Scores by all labels but the own one: (places, c) float32."""
        import torch

        scale = self._scale(penalty)
        known, labels = self.known.features[places].float(), self.labels[places]
        scores = (known @ (self.products * scale[:, None])).add_(self.share)
        leverage = known.square() @ scale + 1 / self.known.num_labeled
        leverage[labels < 0] = 0
        scores[torch.arange(len(labels)), labels.clamp(min=0)] -= leverage
        # A leverage of 1 means that nothing is left to learn from.
        return scores.div_((1 - leverage).clamp_(min=1e-5)[:, None])

    def held_out_groups(self, penalty: float, members: np.ndarray) -> torch.Tensor:
        """Scores of labeled rows by all labels but those of their group.

        Args:
            members: (g, s) places, of a group each

        Returns:
            (g, s, c) float32
        """
        import torch

        size, scale = members.shape[1], self._scale(penalty)
        known = self.known.features[members].float()
        fitted = (known @ (self.products * scale[:, None]) + self.share).numpy().astype(np.float64)
        targets = np.zeros_like(fitted)
        np.put_along_axis(targets, self.known.labels[members][..., None], 1, axis=2)
        # (I - H)^-1 (fitted - H targets), through the smaller of the two sides of H, to which the
        # intercept adds one column.
        intercept = np.full((*members.shape, 1), self.known.num_labeled**-0.5)
        sides = np.concatenate([(known * scale.sqrt()).numpy(), intercept], axis=2)
        across = sides.transpose(0, 2, 1)
        if size <= sides.shape[2]:
            leverage = sides @ across
            left = np.linalg.pinv(np.eye(size) - leverage, rcond=1e-6)
            scores = left @ (fitted - leverage @ targets)
        else:
            residual = fitted - sides @ (across @ targets)
            left = np.linalg.pinv(np.eye(sides.shape[2]) - across @ sides, rcond=1e-6)
            scores = residual + sides @ (left @ (across @ residual))
        return torch.from_numpy(scores.astype(np.float32))

    def _tuned(self, penalty: float) -> tuple[float, float, float]:
        tuning = self.known.tuning
        scores = self.held_out(penalty, tuning).numpy()
        return (*temperature_of(scores, self.known.labels[tuning]), penalty)

    def _scale(self, penalty: float) -> torch.Tensor:
        return 1 / (self.values + penalty * max(float(self.values.mean()), 1e-6))


def group_members(groups: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """The labeled rows of duplicate groups that have at least two of them, some groups at once.

    Returns:
        arrays (g, s), a row per group; s is the number of its labeled rows
    """
    grouped = np.flatnonzero((groups >= 0) & (labels >= 0))
    grouped = grouped[np.argsort(groups[grouped], kind="stable")]
    _, first, sizes = np.unique(groups[grouped], return_index=True, return_counts=True)
    batches = []
    for size in np.unique(sizes[sizes > 1]):
        members = grouped[first[sizes == size, None] + np.arange(size)]
        batches += np.array_split(members, -(-members.size // BLOCK_ROWS))
    return [batch for batch in batches if len(batch)]
