"""The predictions of a user's own model as evidence, and whether it has seen the labels before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .class_probe import ClassEvidence
from .likely_classes import LikelyClasses, Probabilities, blocks

# The predictions of the user's own model look in-sample when their mean doubt of the given labels
# is below this share of the doubt that the held-out probe has.
IN_SAMPLE_DOUBT = 0.1

# How far the sum of probabilities may be from 1: two decimals of some classes.
MAX_ROUNDING = 0.05


@dataclass(frozen=True)
class CheckedPredictions:
    """The predictions of a user's own model, and how they agree with the labels.

    Attributes:
        evidence: the predictions as probabilities, in place of the held-out probe
        agreement: share of the labels that the model predicts, in [0, 1]; NaN without labels
        in_sample: the model is surer than is plausible for samples that it has not seen in training
    """

    evidence: ClassEvidence
    agreement: float
    in_sample: bool


def check_predictions(
    predictions: np.ndarray, labels: np.ndarray, evidence: ClassEvidence
) -> CheckedPredictions:
    """Takes the predictions of a user's own model as evidence in place of the held-out probe.

    Args:
        predictions: (n, c) floats: probabilities, whose rows sum to 1 within ``MAX_ROUNDING``, or
            logits, some of which lie outside of 0 to 1, and of which the softmax is taken
        labels: (n,) integers, -1 = unlabeled
        evidence: held-out, of the same rows; its votes are kept as the second classifier

    Raises:
        ValueError: if the shape is wrong, values are NaN or infinite, or they are neither
            probabilities nor logits
    """
    values = np.asarray(predictions)
    shape = evidence.probabilities.shape
    if values.shape != shape or values.dtype.kind not in "fiu":
        raise ValueError(
            f"Predictions must be numbers of shape {shape}, one per sample and class, not "
            f"{values.dtype} of shape {values.shape}"
        )
    values = values.astype(np.float64)
    broken = ~np.isfinite(values).all(axis=1)
    if broken.any():
        raise ValueError(
            f"The predictions of {broken.sum()} of {len(values)} samples hold NaN or infinite "
            f"values, first in row {int(broken.argmax())}"
        )
    values = _as_probabilities(values)
    probabilities: Probabilities = values.astype(np.float32)
    labels = np.asarray(labels, np.int64)
    if isinstance(evidence.probabilities, LikelyClasses):
        kept = LikelyClasses(labels, shape[1])
        for part in blocks(kept):
            kept[part] = probabilities[part]
        probabilities = kept
    taken = ClassEvidence(probabilities, probabilities, evidence.votes)
    return CheckedPredictions(taken, *_agreement(values, evidence.probabilities, labels))


def _as_probabilities(values: np.ndarray) -> np.ndarray:
    """Probabilities or logits, ``(n, c)`` float64, as rows that sum to 1.

    Which of the two they are is a property of all of them: one row that was rounded does not make
    logits of the others.
    """
    sums = values.sum(axis=1)
    if (values < 0).any() or (values > 1).any():
        if (values >= 0).all() and (np.abs(sums / 100 - 1) < MAX_ROUNDING).all():
            raise ValueError("The predictions are percentages that sum to 100; divide them by 100")
        values = np.exp(values - values.max(axis=1, keepdims=True))
        return values / values.sum(axis=1, keepdims=True)
    wrong = np.abs(sums - 1) > MAX_ROUNDING
    if wrong.any():
        raise ValueError(
            f"The predictions of {wrong.sum()} of {len(values)} samples lie between 0 and 1, as "
            "probabilities do, but do not sum to 1, for example in row "
            f"{int(wrong.argmax())} ({sums[wrong][0]:.3g}); normalize them, or pass logits"
        )
    return values / sums[:, None]


def _agreement(
    predicted: np.ndarray, held_out: Probabilities, labels: np.ndarray
) -> tuple[float, bool]:
    """The share of the labels that are predicted, and whether that looks in-sample."""
    labeled = np.flatnonzero(labels >= 0)
    if len(labeled) == 0:
        return float("nan"), False
    doubt = 1 - predicted[labeled, labels[labeled]].mean()
    expected = 1 - held_out[labeled, labels[labeled]].mean()
    agreement = float((predicted.argmax(axis=1) == labels)[labeled].mean())
    return agreement, bool(doubt < IN_SAMPLE_DOUBT * expected and agreement >= 0.99)


def given_probabilities(probabilities: Probabilities, labels: np.ndarray) -> np.ndarray:
    """The probability of each row's label: (n,) of (n, c) and (n,) class numbers."""
    return probabilities[np.arange(len(labels)), labels]
