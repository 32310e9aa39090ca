"""What a plot of embeddings is, whichever method laid it out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PlotLayout:
    """A plot of embeddings.

    Attributes:
        points: (num_rows, num_dims) float32
        notes: sentences on what was adapted to few or low-dimensional embeddings
    """

    points: np.ndarray
    notes: tuple[str, ...]
