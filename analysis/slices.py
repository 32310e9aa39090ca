"""Comparisons between slices of a metadata field: how well classes are separated in each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._class_measures import SampleMeasures, Separability
from ._statistics import (
    as_json,
    class_weights,
    effective_number,
    joint_quantile,
    mean_of_defined,
    wilson_interval,
)


@dataclass(frozen=True)
class Slices:
    """How well the classes are separated within slices; all arrays are (num_slices,).

    Attributes:
        names: the value of each slice
        count: int64, evaluated samples
        balanced_accuracy, low, high: mean held-out recall of the classes in the slice
        purity, silhouette: means over its samples; both look at all samples, not at the slice alone
        difference, difference_low, difference_high: of the accuracy to that of the other slices on
            the same classes; NaN where no class is in both. The interval allows for the number of
            slices
        worst_class: int64, the class that loses most against the other slices, weighted by its
            samples; -1 where none does
    """

    names: tuple[str, ...]
    count: np.ndarray
    balanced_accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray
    purity: np.ndarray
    silhouette: np.ndarray
    difference: np.ndarray
    difference_low: np.ndarray
    difference_high: np.ndarray
    worst_class: np.ndarray
    class_names: tuple[str, ...]

    def as_dicts(self) -> list[dict[str, Any]]:
        """One dict of JSON types per slice; None for what is not defined."""
        labels = dict(enumerate(self.class_names))
        columns: dict[str, Iterable[Any]] = {
            key: [as_json(value) for value in values]
            for key, values in vars(self).items()
            if key not in ("names", "class_names", "worst_class")
        }
        columns = {
            "value": self.names,
            **columns,
            "worst_class": [labels.get(number) for number in self.worst_class.tolist()],
        }
        return [dict(zip(columns, values)) for values in zip(*columns.values())]


def measure_slices(
    separability: Separability, values: np.ndarray, value_names: tuple[str, ...]
) -> Slices:
    """Measures how well the classes are separated within each slice of a metadata field.

    The predictions are those for all samples; only which are counted differs. Slices may hold
    different classes, so a slice is compared with the others class by class (weights of Mantel and
    Haenszel; variances after Agresti and Caffo, 2000).

    Args:
        separability: of all samples
        values: (num_rows,) slice numbers, -1 for none
        value_names: their names

    Raises:
        ValueError: if values do not fit the samples or the names
    """
    samples = separability.samples
    values = checked_values(values, len(samples.label), value_names)
    learnable = ~np.isnan(separability.classes.recall)
    evaluated = (samples.label >= 0) & (values >= 0) & learnable[samples.label]
    columns: dict[str, list] = {}
    for number in range(len(value_names)):
        inside = evaluated & (values == number)
        weights = class_weights(samples.label, samples.unit, inside, least=1)
        effective = effective_number(weights, samples.unit)
        accuracy = float(weights @ samples.correct) if inside.any() else np.nan
        low, high = wilson_interval(accuracy * effective, effective)
        difference, worst = _slice_difference(
            samples, inside, evaluated & ~inside, len(learnable), len(value_names)
        )
        row = {
            "count": int(((samples.label >= 0) & (values == number)).sum()),
            "balanced_accuracy": accuracy,
            "low": float(low),
            "high": float(high),
            "purity": mean_of_defined(samples.purity[inside]),
            "silhouette": mean_of_defined(samples.silhouette[inside]),
            "difference": difference[0],
            "difference_low": difference[1],
            "difference_high": difference[2],
            "worst_class": worst,
        }
        for key, value in row.items():
            columns.setdefault(key, []).append(value)
    arrays = {key: np.array(column) for key, column in columns.items()}
    return Slices(tuple(value_names), **arrays, class_names=separability.class_names)


def _slice_difference(
    samples: SampleMeasures,
    inside: np.ndarray,
    outside: np.ndarray,
    num_classes: int,
    num_slices: int,
) -> tuple[tuple[float, float, float], int]:
    """The difference in accuracy on the same classes with its interval, and the worst class."""
    parts = [_by_class(samples, rows, num_classes) for rows in (inside, outside)]
    (count, share, variance), (other_count, other_share, other_variance) = parts
    both = (count > 0) & (other_count > 0)
    if not both.any():
        return (np.nan, np.nan, np.nan), -1
    weight = np.where(both, count * other_count / np.maximum(count + other_count, 1), 0)
    weight /= weight.sum()
    loss = weight * (share - other_share)
    difference = float(loss.sum())
    half = joint_quantile(num_slices) * np.sqrt((weight**2 * (variance + other_variance)).sum())
    worst = int(loss.argmin())
    low, high = max(-1.0, difference - half), min(1.0, difference + half)
    return (difference, float(low), float(high)), worst if loss[worst] < 0 else -1


def _by_class(
    samples: SampleMeasures, rows: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number of rows, share that is right, and variance of that share, of each class."""
    labels = samples.label[rows]
    count = np.bincount(labels, minlength=num_classes)
    right = np.bincount(labels[samples.correct[rows]], minlength=num_classes)
    share = right / np.maximum(count, 1)
    cells = np.unique(samples.unit[rows] * num_classes + labels)
    units = np.bincount(cells % num_classes, minlength=num_classes)
    smoothed = (share * units + 1) / (units + 2)
    return count, share, smoothed * (1 - smoothed) / (units + 2)


def checked_values(values: np.ndarray, num_rows: int, value_names: tuple[str, ...]) -> np.ndarray:
    values = np.asarray(values, np.int64)
    if values.shape != (num_rows,):
        raise ValueError(f"values must have one entry for each of {num_rows} rows")
    if num_rows and (values.min() < -1 or values.max() >= len(value_names)):
        raise ValueError(f"values must be -1 or below the number of names, {len(value_names)}")
    return values
