"""How much label noise there is, beside the mistakes that the evidence itself makes.

A held-out prediction disagrees with a label because the label is wrong or because the prediction
is. Predictions err where they are unsure, and labels anywhere: that distinguishes them. So the
labels are modeled as a mixture, as psychometrics fits lapses (Wichmann and Hill, "The psychometric
function: I", 2001) and anchor points fit noise (Patrini et al., "Making deep neural networks robust
to label noise", 2017): drawn from the predicted probabilities at the sharpness that suits best, or,
for a share of the rows that is the same however sure the prediction, from noise: any class, one
that is similar to the image, or one that is often given for the likeliest class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .likely_classes import Probabilities

# Probabilities are sharpened by these powers. Less than the first would explain noise away: that
# the surest predictions are often wrong.
SHARPNESS = np.exp(np.linspace(np.log(0.7), np.log(4), 14))

# Noise is detected where the log likelihood gains so much from noise of any class and of similar
# ones. On 390 clean sets the most was 7.7, and 5.9 with a share of noise above this one;
# probabilities are not so exact that less could be detected in sets of thousands. 5 % of wrong
# labels gain so much in about 300 rows that are recognized well.
LEAST_GAIN, CLEAR_GAIN, CLEAR_SHARE = 7.0, 20.0, 0.015

# What the similarity to the image counts for the class that is often given, in rows.
SIMILAR_ROWS = 2.0

# Share of any class in the noise of any class and of similar ones. People's mistakes have some of
# both kinds, and are made on hard images above all; noise that is drawn by chance is of one kind,
# and as likely anywhere.
HUMAN_SHARES, HUMAN = (0.1, 0.25, 0.55, 0.68), (0, 1, 1, 0)

# Share of the rows, the surest ones, whose disagreement counts as the noise of all where people
# labeled: the surest tenth has too little of it.
SUREST_SHARE = 1 / 3

# How far the truth was outside of the range between both assumptions on sets with planted noise.
RANGE_MARGIN = 0.1

# Strata of rows that are alike sure, in which no more flags can be right than labels are wrong.
STRATA = 10

# Values of (rows, classes) from which the mixture is fitted on some of the rows.
MAX_VALUES = 4_000_000

MAX_STEPS = 200


@dataclass(frozen=True)
class LabelNoise:
    """How much of the disagreement between labels and evidence is noise.

    Attributes:
        share: of the rows whose labels are noise, in [0, 1], as likely on every row
        detected: whether the evidence shows that there is noise at all
        surest: share of the surest rows whose labels disagree: the noise where people labeled
        human: in [0, 1], how far the noise is like that of people, more frequent on hard rows
        wrong: (n,) float64, probability that a row's label is noise; 0 where the evidence agrees.
            In weak classes, no more than the noise elsewhere lets expect
        at_most: (n,) float64, the same without that bound
        sureness: (n,) float32, probability of the likeliest class
    """

    share: float
    detected: bool
    surest: float
    human: float
    wrong: np.ndarray
    at_most: np.ndarray
    sureness: np.ndarray

    @property
    def expected(self) -> float:
        """The expected number of wrong labels."""
        least, most = float(self.wrong.sum()), self.surest * len(self.wrong)
        return least + self.human * max(most - least, 0.0)

    def expected_of(self, rows: np.ndarray) -> float:
        """The expected number of wrong labels of some rows, from ``wrong`` alone."""
        return float(self.wrong[rows].sum())

    def precision(self, flagged: np.ndarray) -> tuple[float, float, float]:
        """The expected share of flagged labels that are wrong, and the range that it lies in.

        Args:
            flagged: (n,) bool, at least one of them

        Returns:
            estimate, lowest and highest, each in [0, 1]
        """
        low = float(self.wrong[flagged].mean())
        order = np.argsort(-self.sureness, kind="stable")
        strata = np.array_split(flagged[order], min(STRATA, len(order)))
        right = sum(min(self.surest * len(part), part.sum()) for part in strata)
        high = max(float(right / flagged.sum()), low)
        estimate = low + self.human * (high - low)
        high = max(high, float(self.at_most[flagged].mean()))
        return estimate, max(low - RANGE_MARGIN, 0.0), min(high + RANGE_MARGIN, 1.0)


def estimate_noise(
    probabilities: Probabilities,
    labels: np.ndarray,
    weights: np.ndarray | None = None,
    weak: np.ndarray | None = None,
) -> LabelNoise:
    """Fits the mixture by expectation maximization, at each sharpness.

    Args:
        probabilities: (n, c) float32, held-out, n and c at least 1
        labels: (n,) int64
        weights: (n,) floats, what a row counts; None: all alike
        weak: (c,) bool, classes from whose labels no noise is estimated, unless there are no others
    """
    num_rows, num_classes = probabilities.shape
    weights = np.ones(num_rows) if weights is None else weights
    reliable = np.ones(num_rows, bool)
    if weak is not None and not weak[labels].all():
        reliable = ~weak[labels]
        weights = weights * reliable
    said = probabilities.argmax(axis=1)
    sureness = probabilities[np.arange(num_rows), said]
    disagrees = said != labels
    order = np.argsort(-sureness, kind="stable")
    surest = order[reliable[order]]
    surest = surest[: max(1, round(len(surest) * SUREST_SHARE))]
    noises = np.zeros((3, num_rows))
    noises[0] = 1 / num_classes
    rows = np.flatnonzero(disagrees)
    given = probabilities[rows, labels[rows]].astype(np.float64)
    noises[1, rows] = given / np.maximum(1 - sureness[rows], 1e-7)
    noises[2, rows] = _often_given(
        said[rows], labels[rows], weights[rows], noises[1, rows], num_classes
    )

    # Every so many of the rows by sureness, whatever their order.
    kept = order[:: max(1, round(num_rows * num_classes / MAX_VALUES))]
    drawn = [_sharpened(probabilities, labels, kept, sharp) for sharp in SHARPNESS]
    _, gain, first = _best_fit(drawn, noises[:2, kept], weights[kept])
    sharpness, _, shares = _best_fit(drawn, noises[:, kept], weights[kept])
    share = float(shares.sum())
    wrong = np.zeros(num_rows)
    noise = shares @ noises[:, rows]
    unsure = (1 - share) * _sharpened(probabilities, labels, rows, sharpness)
    wrong[rows] = noise / np.maximum(unsure + noise, 1e-12)
    at_most = wrong.copy()
    if not reliable.all():
        # As many labels of any class as a reliable class has, and as large a share of the others.
        of_any = shares[0] * reliable.sum() / np.count_nonzero(np.bincount(labels[reliable]))
        most = of_any + shares[1:].sum() * np.bincount(labels, minlength=num_classes)
        believed = np.bincount(labels, wrong, minlength=num_classes)
        scale = np.minimum(most / np.maximum(believed, 1e-12), 1)
        wrong[~reliable] *= scale[labels[~reliable]]
    detected = gain >= CLEAR_GAIN or (gain >= LEAST_GAIN and first.sum() >= CLEAR_SHARE)
    of_any = first[0] / max(first.sum(), 1e-12)
    return LabelNoise(
        share=share,
        detected=bool(detected),
        surest=float(np.average(disagrees[surest], weights=weights[surest])),
        # Of two classes, the other one is both any and the similar one.
        human=float(np.interp(of_any, HUMAN_SHARES, HUMAN)) if num_classes > 2 else 0.5,
        wrong=wrong,
        at_most=at_most,
        sureness=sureness,
    )


def _often_given(
    said: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    similar: np.ndarray,
    num_classes: int,
) -> np.ndarray:
    """How often the other rows of the same likeliest class that disagree have a row's label.

    Args:
        said, labels: (m,) int64 of rows that disagree
        weights: (m,) floats, what a row counts
        similar: (m,) float64, what is used instead where there are few such rows

    Returns:
        (m,) float64 in [0, 1]
    """
    _, cell = np.unique(said * num_classes + labels, return_inverse=True)
    same = np.bincount(cell, weights)[cell] - weights if len(cell) else np.zeros(0)
    every = np.bincount(said, weights, minlength=num_classes)[said] - weights
    return (same + SIMILAR_ROWS * similar) / (every + SIMILAR_ROWS)


def _sharpened(
    probabilities: Probabilities, labels: np.ndarray, rows: np.ndarray, sharpness: float
) -> np.ndarray:
    """The probability of the labels of some rows, all raised to a power: (r,) float64."""
    drawn = np.empty(len(rows))
    step = max(1, MAX_VALUES // (8 * probabilities.shape[1]))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        block = np.maximum(probabilities[part], 1e-7) ** np.float32(sharpness)
        own = block[np.arange(len(block)), labels[part]]
        drawn[start : start + step] = own / block.sum(axis=1)
    return drawn


def _best_fit(
    drawn: list[np.ndarray], noises: np.ndarray, weights: np.ndarray
) -> tuple[float, float, np.ndarray]:
    """The sharpness of the likeliest mixture, its gain over the best one without noise, its shares.

    Args:
        drawn: (n,) float64 for each sharpness, the probability of each label
        noises: (kinds, n) float64, its probability by each kind of noise
        weights: (n,) floats, what a row counts
    """
    fits = [_fit(probability, noises, weights) for probability in drawn]
    without = max(float(weights @ np.log(np.maximum(one, 1e-12))) for one in drawn)
    best = int(np.argmax([likelihood for likelihood, _ in fits]))
    return float(SHARPNESS[best]), fits[best][0] - without, fits[best][1]


def _fit(drawn: np.ndarray, noises: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """Log likelihood of the best mixture, and the shares of the kinds of noise in it."""
    shares = np.full(len(noises), 0.05)
    total = weights.sum()
    for _ in range(MAX_STEPS):
        mixed = np.maximum((1 - shares.sum()) * drawn + shares @ noises, 1e-12)
        found = shares * (noises @ (weights / mixed)) / total
        moved = np.abs(found - shares).sum()
        shares = found
        if moved < 1e-5:
            break
    return float(weights @ np.log(mixed)), shares
