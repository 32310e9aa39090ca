"""Comparisons of how well classes can be told apart: between embeddings and between slices.

All intervals are 95 % and in closed form, so that they depend on no seed. Copies of a sample count
once, and classes count alike, by the effective number of samples (Kish, "Survey Sampling", 1965).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._statistics import as_json, mean_of_defined, unit_numbers, wilson_interval
from .separability import SampleMeasures, Separability


@dataclass(frozen=True)
class EmbeddingScore:
    """How well one of several embeddings separates the classes, on the samples that all have.

    Attributes:
        name: of the embedding
        balanced_accuracy, low, high: mean held-out recall of the classes, with its interval
        purity, silhouette: means over the samples. Only comparable in part: a silhouette depends on
            how narrow the cone is in which a model's vectors lie
        difference, difference_low, difference_high: of the balanced accuracy to that of the best
            embedding, on the same samples, with its interval, which allows for the number of
            embeddings that are compared; 0 for the best itself
        only_this: samples that this embedding gets right and the best one does not
        only_best: samples that the best embedding gets right and this one does not
        recall: (num_classes,) of each class; NaN where it is not defined
    """

    name: str
    balanced_accuracy: float
    low: float
    high: float
    purity: float
    silhouette: float
    difference: float
    difference_low: float
    difference_high: float
    only_this: int
    only_best: int
    recall: np.ndarray

    @property
    def worse(self) -> bool:
        """The best embedding is better than this one beyond chance."""
        return bool(self.difference_high < 0)


@dataclass(frozen=True)
class EmbeddingComparison:
    """Several embeddings of the same samples.

    Attributes:
        scores: by balanced accuracy, the best first, equal ones by name
        class_names: the names of the classes
        samples: number of samples compared
        verdict: which one separates the classes best, and how sure that is, in plain words
    """

    scores: tuple[EmbeddingScore, ...]
    class_names: tuple[str, ...]
    samples: int
    verdict: str

    def as_dict(self) -> dict[str, Any]:
        """JSON types; None for what is not defined."""
        embeddings = [
            {key: as_json(value) for key, value in vars(score).items() if key != "recall"}
            | {"worse": score.worse}
            for score in self.scores
        ]
        recalls = zip(*(score.recall for score in self.scores))
        classes = [
            {"label": label, "recall": {s.name: as_json(r) for s, r in zip(self.scores, recall)}}
            for label, recall in zip(self.class_names, recalls)
            if not np.isnan(recall).all()
        ]
        return {
            "embeddings": embeddings,
            "classes": classes,
            "samples": self.samples,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Slices:
    """How well the classes can be told apart within slices; all arrays are (num_slices,).

    Attributes:
        names: the value of each slice
        count: int64, judged samples
        balanced_accuracy, low, high: mean held-out recall of the classes in the slice
        purity, silhouette: means over its samples; both look at all samples, not at the slice alone
        difference, difference_low, difference_high: of the accuracy to that of the other slices on
            the same classes; NaN where no class is in both. The interval allows for the number of
            slices
        worst_class: int64, the class that loses most against the other slices, weighted by its
            samples; -1 where none does
        verdict: what to make of it, in plain words
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
    verdict: tuple[str, ...]
    class_names: tuple[str, ...]

    def as_dicts(self) -> list[dict[str, Any]]:
        """One dict of JSON types per slice; None for what is not defined."""
        labels = dict(enumerate(self.class_names))
        columns = {
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


@dataclass(frozen=True)
class FieldPrediction:
    """How well a metadata field can be predicted from the vectors.

    Attributes:
        balanced_accuracy, low, high: mean held-out recall of the field's values
        chance: what guessing reaches: 1 / number of values
        from_classes: what knowing the class of a sample, and not its vector, reaches: above chance
            where classes are unevenly spread over the values; NaN without classes
        values: number of values
        samples: number of samples judged
        verdict: what to make of it, in plain words
    """

    balanced_accuracy: float
    low: float
    high: float
    chance: float
    from_classes: float
    values: int
    samples: int
    verdict: str

    def as_dict(self) -> dict[str, Any]:
        """JSON types; None for what is not defined."""
        return {key: as_json(value) for key, value in vars(self).items()}


def compare_embeddings(separabilities: Mapping[str, Separability]) -> EmbeddingComparison:
    """Tells which of several embeddings of the same samples separates their classes best.

    By the balanced accuracy of the held-out predictions. The interval of a difference is that of
    Bonett and Price, "Adjusted Wald confidence interval for a difference of binomial proportions
    based on paired data" (2012).

    Args:
        separabilities: of each embedding, by its name; with the same rows, labels and groups

    Raises:
        ValueError: if there are fewer than two, or they are not of the same rows and labels
    """
    if len(separabilities) < 2:
        raise ValueError("At least two embeddings are needed to compare")
    first = next(iter(separabilities.values()))
    judged = _judged_by_all(list(separabilities.values()))
    weights = _class_weights(first.samples.label, first.samples.unit, judged)
    effective = _effective_number(weights, first.samples.unit)

    accuracy = {name: float(weights @ s.samples.correct) for name, s in separabilities.items()}
    names = sorted(separabilities, key=lambda name: (-accuracy[name], name))
    best = separabilities[names[0]].samples.correct
    scores = []
    for name in names:
        samples = separabilities[name].samples
        low, high = wilson_interval(accuracy[name] * effective, effective)
        only_this, only_best = samples.correct & ~best, best & ~samples.correct
        difference = (0.0, 0.0, 0.0)
        if name != names[0]:
            difference = _paired_difference(
                weights @ only_this, weights @ only_best, effective, len(names) - 1
            )
        scores.append(
            EmbeddingScore(
                name,
                accuracy[name],
                float(low),
                float(high),
                mean_of_defined(samples.purity[judged]),
                mean_of_defined(samples.silhouette[judged]),
                *difference,
                only_this=int((only_this & judged).sum()),
                only_best=int((only_best & judged).sum()),
                recall=_recalls(samples, weights, len(first.class_names)),
            )
        )
    return EmbeddingComparison(
        tuple(scores), first.class_names, int(judged.sum()), _comparison_verdict(scores)
    )


def measure_slices(
    separability: Separability, values: np.ndarray, value_names: tuple[str, ...]
) -> Slices:
    """Measures how well the classes can be told apart within each slice of a metadata field.

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
    values = _checked_values(values, len(samples.label), value_names)
    learnable = ~np.isnan(separability.classes.recall)
    judged = (samples.label >= 0) & (values >= 0) & learnable[samples.label]
    columns: dict[str, list] = {}
    for number in range(len(value_names)):
        inside = judged & (values == number)
        weights = _class_weights(samples.label, samples.unit, inside, least=1)
        effective = _effective_number(weights, samples.unit)
        accuracy = float(weights @ samples.correct) if inside.any() else np.nan
        low, high = wilson_interval(accuracy * effective, effective)
        difference, worst = _slice_difference(
            samples, inside, judged & ~inside, len(learnable), len(value_names)
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
        row["verdict"] = _slice_verdict(row, separability.class_names)
        for key, value in row.items():
            columns.setdefault(key, []).append(value)
    arrays = {key: np.array(column) for key, column in columns.items() if key != "verdict"}
    return Slices(
        names=tuple(value_names),
        **arrays,
        verdict=tuple(columns["verdict"]),
        class_names=separability.class_names,
    )


def measure_field_prediction(
    probabilities: np.ndarray,
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
        labels: (num_rows,) class numbers, -1 for unlabeled, to tell how much of it comes from
            classes that are unevenly spread over the values
        groups: (num_rows,) duplicate group numbers, -1 for none

    Raises:
        ValueError: if the arrays do not fit each other, or there are fewer than two values
    """
    values = _checked_values(values, len(probabilities), value_names)
    present = np.unique(values[values >= 0])
    if len(present) < 2:
        raise ValueError("A field needs at least two values to be predicted")
    units = unit_numbers(len(values), groups)
    weights = _class_weights(values, units, values >= 0)
    share = np.bincount(values[values >= 0], minlength=len(value_names)) / (values >= 0).sum()
    predicted = (probabilities / np.where(share > 0, share, np.inf)).argmax(axis=1)
    accuracy = float(weights @ (predicted == values))
    effective = _effective_number(weights, units)
    low, high = wilson_interval(accuracy * effective, effective)
    known = np.nan
    if labels is not None:
        known = float(weights @ _right_by_class(values, labels, units, len(value_names)))
    prediction = {
        "balanced_accuracy": accuracy,
        "low": float(low),
        "high": float(high),
        "chance": 1 / len(present),
        "from_classes": known,
        "values": len(present),
        "samples": int((values >= 0).sum()),
    }
    return FieldPrediction(**prediction, verdict=_field_verdict(prediction))


def _judged_by_all(separabilities: list[Separability]) -> np.ndarray:
    first = separabilities[0]
    refused = ValueError("The embeddings must be of the same samples with the same labels")
    if any(
        other.class_names != first.class_names
        or len(other.samples.label) != len(first.samples.label)
        for other in separabilities
    ):
        raise refused
    labels = np.stack([other.samples.label for other in separabilities])
    judged = (labels >= 0).all(axis=0)
    if (labels != labels[0])[:, judged].any():
        raise refused
    return judged


def _class_weights(
    labels: np.ndarray, units: np.ndarray, judged: np.ndarray, least: int = 2
) -> np.ndarray:
    """Weights of the rows with which classes count alike: (num_rows,) float64, of sum 1.

    0 for rows that are not judged, and for classes of fewer than ``least`` units.
    """
    weights = np.zeros(len(labels))
    rows = np.flatnonzero(judged)
    if len(rows) == 0:
        return weights
    num_classes = int(labels[rows].max()) + 1
    cells = np.unique(units[rows] * num_classes + labels[rows])
    independent = np.bincount(cells % num_classes, minlength=num_classes)
    rows = rows[independent[labels[rows]] >= least]
    count = np.bincount(labels[rows], minlength=num_classes)
    weights[rows] = 1 / (count[labels[rows]] * max(np.count_nonzero(count), 1))
    return weights


def _effective_number(weights: np.ndarray, units: np.ndarray) -> float:
    """How many equally weighted independent samples are worth as much; 0 without any."""
    by_unit = np.bincount(units, weights)
    squares = np.square(by_unit).sum()
    return float(by_unit.sum() ** 2 / squares) if squares > 0 else 0.0


def _paired_difference(
    gain: float, loss: float, number: float, comparisons: int
) -> tuple[float, float, float]:
    """The difference of two paired shares, and its interval.

    Args:
        gain, loss: share of the samples that only the first, or only the second, gets right
        number: of samples
        comparisons: for all of which together the interval is to hold (Bonferroni)
    """
    more, less = (gain * number + 1) / (number + 2), (loss * number + 1) / (number + 2)
    half = _quantile(comparisons) * np.sqrt((more + less - (more - less) ** 2) / (number + 2))
    return gain - loss, max(-1.0, more - less - half), min(1.0, more - less + half)


def _quantile(comparisons: int) -> float:
    """Of the normal distribution, for intervals of 95 % that hold together."""
    from scipy.special import ndtri

    return float(ndtri(1 - 0.025 / comparisons))


def _recalls(samples: SampleMeasures, weights: np.ndarray, num_classes: int) -> np.ndarray:
    used = weights > 0
    count = np.bincount(samples.label[used], minlength=num_classes)
    right = np.bincount(samples.label[used & samples.correct], minlength=num_classes)
    return right / np.where(count > 0, count, np.nan)


def _comparison_verdict(scores: list[EmbeddingScore]) -> str:
    best, second = scores[:2]
    reached = f"balanced accuracy {_percent(best.balanced_accuracy)}"
    level = [score.name for score in scores[1:] if not score.worse]
    if not level:
        return (
            f"{best.name} separates these classes best ({reached}, "
            f"{_points(-second.difference)} points more than {second.name})"
        )
    return (
        f"{best.name} comes first ({reached}), but the samples do not prove it better than "
        f"{', '.join(level)}"
    )


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
    half = _quantile(num_slices) * np.sqrt((weight**2 * (variance + other_variance)).sum())
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


def _slice_verdict(row: dict[str, Any], class_names: tuple[str, ...]) -> str:
    if row["count"] == 0:
        return "no samples with a label"
    if np.isnan(row["difference"]):
        return "shares no class with the other slices"
    points = f"{_points(abs(row['difference']))} points"
    if row["difference_high"] < 0:
        worst = class_names[row["worst_class"]]
        return f"worse than the other slices ({points} less on the same classes, most on {worst})"
    if row["difference_low"] > 0:
        return f"better than the other slices ({points} more on the same classes)"
    return "no difference to the other slices beyond chance"


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


def _field_verdict(prediction: dict[str, Any]) -> str:
    reached = _percent(prediction["balanced_accuracy"])
    chance, known = _percent(prediction["chance"]), prediction["from_classes"]
    if prediction["low"] <= prediction["chance"]:
        return f"the vectors do not tell it beyond chance ({reached}, chance {chance})"
    if not np.isnan(known) and prediction["low"] <= known:
        return (
            f"the vectors tell it ({reached}, chance {chance}), but no better than the class does "
            f"({_percent(known)})"
        )
    beyond = "" if np.isnan(known) else f", {_percent(known)} from the class alone"
    return f"the vectors tell it ({reached}, chance {chance}{beyond})"


def _checked_values(values: np.ndarray, num_rows: int, value_names: tuple[str, ...]) -> np.ndarray:
    values = np.asarray(values, np.int64)
    if values.shape != (num_rows,):
        raise ValueError(f"values must have one entry for each of {num_rows} rows")
    if num_rows and (values.min() < -1 or values.max() >= len(value_names)):
        raise ValueError(f"values must be -1 or below the number of names, {len(value_names)}")
    return values


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
