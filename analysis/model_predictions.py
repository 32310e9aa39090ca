"""The predictions of a user's own model as evidence, and whether it has seen the labels before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .class_probe import ClassEvidence

# The predictions of the user's own model look in-sample when their mean doubt of the given labels
# is below this share of the doubt that the held-out probe has.
IN_SAMPLE_DOUBT = 0.1


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
        predictions: (n, c) floats, probabilities, or logits, of which the softmax is taken: what
            holds negative values or does not sum to 1
        labels: (n,) integers, -1 = unlabeled
        evidence: held-out, of the same rows; its votes are kept as the second witness

    Raises:
        ValueError: if the shape is wrong, or values are NaN or infinite
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
            f"values, the first one in row {int(broken.argmax())}"
        )
    if len(values) and ((values < 0).any() or (np.abs(values.sum(axis=1) - 1) > 0.01).any()):
        values = np.exp(values - values.max(axis=1, keepdims=True))
    values /= values.sum(axis=1, keepdims=True)
    probabilities = values.astype(np.float32)
    labels = np.asarray(labels, np.int64)
    taken = ClassEvidence(probabilities, probabilities, evidence.votes)
    return CheckedPredictions(taken, *_agreement(values, evidence.probabilities, labels))


def _agreement(
    predicted: np.ndarray, held_out: np.ndarray, labels: np.ndarray
) -> tuple[float, bool]:
    """The share of the labels that are predicted, and whether that looks in-sample."""
    labeled = np.flatnonzero(labels >= 0)
    if len(labeled) == 0:
        return float("nan"), False
    doubt = 1 - given_probabilities(predicted[labeled], labels[labeled]).mean()
    expected = 1 - given_probabilities(held_out[labeled], labels[labeled]).mean()
    agreement = float((predicted[labeled].argmax(axis=1) == labels[labeled]).mean())
    return agreement, bool(doubt < IN_SAMPLE_DOUBT * expected and agreement >= 0.99)


def given_probabilities(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The probability of each row's label: (n,) of (n, c) and (n,) class numbers."""
    return probabilities[np.arange(len(labels)), labels]
