"""Comparisons of how well classes are separated: between embeddings and between slices.

All intervals are 95 % and in closed form, so that they depend on no seed. Copies of a sample count
once, and classes count alike, by the effective number of samples (Kish, "Survey Sampling", 1965).
"""

from __future__ import annotations

from collections.abc import Mapping
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
from .field_prediction import FieldPrediction, measure_field_prediction
from .slices import Slices, measure_slices

__all__ = [
    "EmbeddingComparison",
    "EmbeddingScore",
    "FieldPrediction",
    "Slices",
    "compare_embeddings",
    "measure_field_prediction",
    "measure_slices",
]


@dataclass(frozen=True)
class EmbeddingScore:
    """How well one of several embeddings separates the classes, on the samples that all have.

    Attributes:
        name: of the embedding
        balanced_accuracy, low, high: mean held-out recall of the classes, with its interval
        purity, silhouette: means over the samples. Only comparable in part: a silhouette depends on
            how narrow the cone is in which a model's embeddings lie
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
    """

    scores: tuple[EmbeddingScore, ...]
    class_names: tuple[str, ...]
    samples: int

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
        return {"embeddings": embeddings, "classes": classes, "samples": self.samples}


def compare_embeddings(separabilities: Mapping[str, Separability]) -> EmbeddingComparison:
    """Finds which of several embeddings of the same samples separates their classes best.

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
    evaluated = _evaluated_by_all(list(separabilities.values()))
    weights = class_weights(first.samples.label, first.samples.unit, evaluated)
    effective = effective_number(weights, first.samples.unit)

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
                mean_of_defined(samples.purity[evaluated]),
                mean_of_defined(samples.silhouette[evaluated]),
                *difference,
                only_this=int((only_this & evaluated).sum()),
                only_best=int((only_best & evaluated).sum()),
                recall=_recalls(samples, weights, len(first.class_names)),
            )
        )
    return EmbeddingComparison(tuple(scores), first.class_names, int(evaluated.sum()))


def _evaluated_by_all(separabilities: list[Separability]) -> np.ndarray:
    first = separabilities[0]
    refused = ValueError("The embeddings must be of the same samples with the same labels")
    if any(
        other.class_names != first.class_names
        or len(other.samples.label) != len(first.samples.label)
        for other in separabilities
    ):
        raise refused
    labels = np.stack([other.samples.label for other in separabilities])
    evaluated = np.all(labels >= 0, axis=0)
    if (labels != labels[0])[:, evaluated].any():
        raise refused
    return evaluated


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
    half = joint_quantile(comparisons) * np.sqrt((more + less - (more - less) ** 2) / (number + 2))
    return gain - loss, max(-1.0, more - less - half), min(1.0, more - less + half)


def _recalls(samples: SampleMeasures, weights: np.ndarray, num_classes: int) -> np.ndarray:
    used = weights > 0
    count = np.bincount(samples.label[used], minlength=num_classes)
    right = np.bincount(samples.label[used & samples.correct], minlength=num_classes)
    return right / np.where(count > 0, count, np.nan)
