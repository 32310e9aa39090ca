"""Small pieces of statistics that the measures of classes share."""

from __future__ import annotations

from typing import Any

import numpy as np


def wilson_interval(
    successes: np.ndarray | float, trials: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95 % score interval of a share; NaN without trials."""
    from scipy.special import ndtri

    z = ndtri(0.975)
    trials = np.where(trials > 0, trials, np.nan)
    share = successes / trials
    center = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(share * (1 - share) / trials + (z / trials / 2) ** 2)
    return np.clip(center - half, 0, share), np.clip(center + half, share, 1)


def binomial_tail(successes: np.ndarray, trials: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The probability of so many successes or more, for numbers that need not be whole."""
    from scipy.special import betainc

    some = successes > 0
    tail = np.ones(len(successes))
    failures = np.maximum(trials - successes, 0)
    tail[some] = betainc(successes[some], failures[some] + 1, np.minimum(share[some], 1))
    return tail


def adjusted_p_values(p_values: np.ndarray, tests: int) -> np.ndarray:
    """Benjamini and Hochberg's adjustment, where the tests that are not given have p = 1."""
    from scipy.stats import false_discovery_control

    if len(p_values) == 0:
        return p_values
    return np.minimum(false_discovery_control(p_values) * tests / len(p_values), 1)


def mean_of_defined(values: np.ndarray) -> float:
    """The mean of the values that are defined, or NaN."""
    defined = values[~np.isnan(values)]
    return float(defined.mean(dtype=np.float64)) if len(defined) else float("nan")


def means_by_class(values: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """The mean of the values of each class's rows; NaN values do not count, NaN without any."""
    defined = ~np.isnan(values)
    number = np.bincount(labels[defined], minlength=num_classes)
    total = np.bincount(labels[defined], values[defined].astype(np.float64), minlength=num_classes)
    return total / np.where(number > 0, number, np.nan)


def unit_numbers(num_rows: int, groups: np.ndarray | None) -> np.ndarray:
    """Numbers of what is held out together: duplicate groups and single rows."""
    single = np.arange(num_rows)
    if groups is None:
        return single
    numbers = np.where(groups >= 0, groups, groups.max(initial=-1) + 1 + single)
    return np.unique(numbers, return_inverse=True)[1]


def class_weights(
    labels: np.ndarray, units: np.ndarray, evaluated: np.ndarray, least: int = 2
) -> np.ndarray:
    """Weights of the rows with which classes count alike: (num_rows,) float64, of sum 1.

    0 for rows that are not evaluated, and for classes of fewer than ``least`` units.
    """
    weights = np.zeros(len(labels))
    rows = np.flatnonzero(evaluated)
    if len(rows) == 0:
        return weights
    num_classes = int(labels[rows].max()) + 1
    cells = np.unique(units[rows] * num_classes + labels[rows])
    independent = np.bincount(cells % num_classes, minlength=num_classes)
    rows = rows[independent[labels[rows]] >= least]
    count = np.bincount(labels[rows], minlength=num_classes)
    weights[rows] = 1 / (count[labels[rows]] * max(np.count_nonzero(count), 1))
    return weights


def effective_number(weights: np.ndarray, units: np.ndarray) -> float:
    """How many equally weighted independent samples are worth as much; 0 without any."""
    by_unit = np.bincount(units, weights)
    squares = np.square(by_unit).sum()
    return float(by_unit.sum() ** 2 / squares) if squares > 0 else 0.0


def joint_quantile(comparisons: int) -> float:
    """Of the normal distribution, for intervals of 95 % that hold together."""
    from scipy.special import ndtri

    return float(ndtri(1 - 0.025 / comparisons))


def as_json(value: Any) -> Any:
    """A number to six digits, None for NaN; integers and texts as they are."""
    if isinstance(value, (float, np.floating)):
        return None if np.isnan(value) else float(f"{value:.6g}")
    return int(value) if isinstance(value, np.integer) else value
