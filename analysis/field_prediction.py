"""How well embeddings predict a metadata field: a bias or leak where they should not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ._statistics import as_json, class_weights, effective_number, unit_numbers, wilson_interval
from .likely_classes import Probabilities, blocks
from .slices import checked_values


@dataclass(frozen=True)
class FieldPrediction:
    """How well a metadata field can be predicted from the embeddings.

    Attributes:
        balanced_accuracy, low, high: mean held-out recall of the field's values
        chance: what guessing reaches: 1 / number of values
        from_classes: what knowing the class of a sample, and not its embedding, reaches: above
            chance where classes are unevenly spread over the values; NaN without classes
        values: number of values
        samples: number of samples evaluated
    """

    balanced_accuracy: float
    low: float
    high: float
    chance: float
    from_classes: float
    values: int
    samples: int

    def as_dict(self) -> dict[str, Any]:
        """JSON types; None for what is not defined."""
        return {key: as_json(value) for key, value in vars(self).items()}


def measure_field_prediction(
    probabilities: Probabilities,
    values: np.ndarray,
    value_names: tuple[str, ...],
    labels: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> FieldPrediction:
    """Measures how well a metadata field can be predicted: a bias or leak when it should not be.

    Rare values count as much as frequent ones: the predicted value is the one whose probability is
    largest against its share of the samples.

    Args:
        probabilities: (num_rows, num_values) of each value of the field, held out
        values: (num_rows,) value numbers, -1 for none
        value_names: their names
        labels: (num_rows,) class numbers, -1 for unlabeled, to know how much of it comes from
            classes that are unevenly spread over the values
        groups: (num_rows,) duplicate group numbers, -1 for none

    Raises:
        ValueError: if the arrays do not fit each other, or there are fewer than two values
    """
    values = checked_values(values, len(probabilities), value_names)
    present = np.unique(values[values >= 0])
    if len(present) < 2:
        raise ValueError("A field needs at least two values to be predicted")
    units = unit_numbers(len(values), groups)
    weights = class_weights(values, units, values >= 0)
    share = np.bincount(values[values >= 0], minlength=len(value_names)) / (values >= 0).sum()
    beside = np.where(share > 0, share, np.inf)
    predicted = np.concatenate(
        [(probabilities[part] / beside).argmax(axis=1) for part in blocks(probabilities)]
    )
    accuracy = float(weights @ (predicted == values))
    effective = effective_number(weights, units)
    low, high = wilson_interval(accuracy * effective, effective)
    known = np.nan
    if labels is not None:
        known = float(weights @ _right_by_class(values, labels, units, len(value_names)))
    return FieldPrediction(
        balanced_accuracy=accuracy,
        low=float(low),
        high=float(high),
        chance=1 / len(present),
        from_classes=known,
        values=len(present),
        samples=int((values >= 0).sum()),
    )


def _right_by_class(
    values: np.ndarray, labels: np.ndarray, units: np.ndarray, num_values: int
) -> np.ndarray:
    """How surely the value of a row is guessed from the values of the others of its class.

    The guess is the value of which the class holds the largest share.

    Returns:
        (num_rows,) float64, 1 for a right guess, less where several values are equally likely
    """
    right = np.zeros(len(values))
    rows = np.flatnonzero(values >= 0)
    # Rows without a label make up a class of their own.
    value, label = values[rows], labels[rows] + 1
    table = np.zeros((int(label.max()) + 1, num_values))
    np.add.at(table, (label, value), 1)
    _, cell, sizes = np.unique(
        np.stack([units[rows], label, value]), axis=1, return_inverse=True, return_counts=True
    )
    copies = sizes[cell.ravel()]
    totals = table.sum(axis=0)
    shares = table / np.maximum(totals, 1)
    own = (table[label, value] - copies) / np.maximum(totals[value] - copies, 1)
    order = np.argsort(shares, axis=1)
    first, second = order[:, -1], order[:, -2]
    rival = np.where(first[label] == value, second[label], first[label])
    other = shares[label, rival]
    right[rows] = np.where(own > other, 1.0, np.where(own == other, 0.5, 0.0))
    nothing_known = (own == 0) & (other == 0)
    right[rows[nothing_known]] = 1 / np.count_nonzero(totals)
    return right
