"""Properties of images that go with errors, or with a label: dark, small, gray, of one source.

Two questions that clusters of embeddings do not answer:

- where held-out predictions and labels disagree more often than elsewhere: among the dark images
  of a class, say (slice discovery; the slices are named by their property, as cleanlab's Datalab
  does not);
- which label a property predicts all by itself, so that a classifier may learn the property instead
  (spurious correlation, as of cleanlab's Datalab).

A numeric property is cut at quantiles of the whole set. Slices are tested by Fisher's exact test
within a class, corrected for all that were looked at (Bonferroni); of several that hold the same
errors, the one that is least likely by chance among all samples is reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..pictures.measures import FileMeasures

# What the lower and the upper end of each property is called.
LEVELS = {
    "brightness": ("dark", "bright"),
    "saturation": ("gray", "colorful"),
    "warmth": ("bluish", "reddish"),
    "sharpness": ("blurred", "sharp"),
    "size": ("small", "large"),
    "aspect ratio": ("tall", "wide"),
}

# Shares of the set that lie beyond the places where a property is cut.
TAILS = (0.02, 0.05, 0.1, 0.2, 0.3)

# A slice has so many errors at least, so much more of them than the rest of its class, and twice
# as many; by chance, one is reported in 5 % of sets at most.
MIN_ERRORS, MIN_LOSS, MIN_FACTOR, MAX_P = 5, 0.1, 2.0, 0.05

# A slice of whose errors a smaller part is new, beside those of slices before it, is the same one.
MIN_NEW = 0.5

# A property predicts a label if it ranks its samples above or below all others in this share of
# pairs, in classes of so many distinct samples.
MIN_AUC, MIN_CLASS = 0.9, 10

OF_LABEL, OF_PREDICTION, OF_ALL = "label", "prediction", "all"


@dataclass(frozen=True)
class Slice:
    """Samples with one property among which predictions and labels disagree.

    Attributes:
        scope: the samples of a label, those that are predicted as a class, or all
        label: the class, -1 for all
        prop, level: the property, and which end or value of it
        limit: where a numeric property is cut; NaN of another one
        rows: (count,) int64, the samples, those that disagree first
        errors: how many disagree, of distinct ones
        share, rest: share that disagrees, within the slice and in the rest of its class
        p_value: adjusted
    """

    scope: str
    label: int
    prop: str
    level: str
    limit: float
    rows: np.ndarray
    errors: int
    share: float
    rest: float
    p_value: float


@dataclass(frozen=True)
class Correlated:
    """A label that a property predicts: how often it ranks such a sample beyond another one."""

    label: int
    prop: str
    level: str
    auc: float


@dataclass(frozen=True)
class _Trait:
    prop: str
    level: str
    limit: float
    known: np.ndarray
    inside: np.ndarray


def image_properties(measures: FileMeasures) -> dict[str, np.ndarray]:
    """Numeric properties of n images or patches: (n,) float64 each, NaN where not known.

    Brightness, saturation and warmth (red against blue) are those of the mean image; size is the
    logarithm of the number of pixels, as is the aspect ratio, width by height, one.
    """
    width = np.where(measures.measured, measures.width, np.nan)
    height = np.where(measures.measured, measures.height, np.nan)
    return {
        "brightness": measures.brightness,
        "saturation": measures.saturation,
        "warmth": measures.warmth,
        "sharpness": measures.sharpness,
        "size": np.log(width * height),
        "aspect ratio": np.log(width / height),
    }


def find_slices(
    properties: Mapping[str, np.ndarray],
    fields: Mapping[str, Sequence[str | None]],
    labels: np.ndarray,
    predicted: np.ndarray,
    num_classes: int,
    groups: np.ndarray | None = None,
) -> list[Slice]:
    """Finds properties of images among which predictions and labels disagree.

    Args:
        properties: (n,) floats each, NaN where not known; names of ``LEVELS``
        fields: values of other properties, a source say, None where not known
        labels: (n,) class numbers, -1 = unlabeled
        predicted: (n,) class numbers of held-out predictions
        num_classes: c
        groups: (n,) duplicate groups, -1 in none, of which one sample counts; None: none known

    Returns:
        the surest first
    """
    evaluated = (labels >= 0) & _first_of_groups(groups, len(labels))
    wrong = predicted != labels
    views = {OF_LABEL: labels, OF_PREDICTION: predicted, OF_ALL: np.zeros(len(labels), np.int64)}
    tests, found = 0, []
    for trait in _traits(properties, fields):
        for scope, numbers in views.items():
            size = 1 if scope == OF_ALL else num_classes
            some, more = _candidates(trait, scope, numbers, size, evaluated, wrong)
            found += some
            tests += more
    limit = np.log(MAX_P) - np.log(max(tests, 1))
    slices, explained = [], np.zeros(len(labels), bool)
    for one in sorted((one for one in found if one.log_p <= limit), key=_Candidate.order):
        member = one.trait.inside & (labels >= 0)
        if one.label >= 0:
            member &= views[one.scope] == one.label
        errors = member & wrong
        if (errors & ~explained).sum() < MIN_NEW * errors.sum():
            continue
        explained |= errors
        rows = np.flatnonzero(member)
        slices.append(
            Slice(
                *(one.scope, one.label, one.trait.prop, one.trait.level, one.trait.limit),
                rows=rows[np.argsort(~wrong[rows], kind="stable")],
                errors=one.errors,
                share=one.share,
                rest=one.rest,
                p_value=float(min(np.exp(one.log_p) * tests, 1)),
            )
        )
    return slices


@dataclass(frozen=True)
class _Candidate:
    """A trait within a class; log p-values within the class, and among all samples."""

    trait: _Trait
    scope: str
    label: int
    errors: int
    share: float
    rest: float
    log_p: float
    log_p_of_all: float

    def order(self) -> tuple:
        """The least likely by chance first; of equal ones, that with the larger loss."""
        return (
            *(self.log_p_of_all, self.rest - self.share),
            *(self.trait.prop, self.trait.level, self.scope, self.label),
        )


def _candidates(
    trait: _Trait,
    scope: str,
    numbers: np.ndarray,
    size: int,
    evaluated: np.ndarray,
    wrong: np.ndarray,
) -> tuple[list[_Candidate], int]:
    """The classes in which a trait has many errors, and how many classes were looked at."""
    from scipy.stats import hypergeom

    used = evaluated & trait.known
    count, errors, inside, hits = (
        np.bincount(numbers[used & which], minlength=size)
        for which in (True, wrong, trait.inside, trait.inside & wrong)
    )
    share = hits / np.maximum(inside, 1)
    rest = (errors - hits) / np.maximum(count - inside, 1)
    looked_at = (inside > 0) & (inside < count)
    worse = looked_at & (hits >= MIN_ERRORS) & (share >= MIN_FACTOR * rest)
    found = []
    for number in np.flatnonzero(worse & (share - rest >= MIN_LOSS)).tolist():
        drawn = hits[number] - 1, inside[number]
        log_p, log_p_of_all = (
            float(hypergeom.logsf(drawn[0], total, bad, drawn[1]))
            for total, bad in (
                (count[number], errors[number]),
                (evaluated.sum(), (evaluated & wrong).sum()),
            )
        )
        label = -1 if scope == OF_ALL else number
        measures = int(hits[number]), float(share[number]), float(rest[number])
        found.append(_Candidate(trait, scope, label, *measures, log_p, log_p_of_all))
    return found, int(looked_at.sum())


def find_correlated(
    properties: Mapping[str, np.ndarray],
    fields: Mapping[str, Sequence[str | None]],
    labels: np.ndarray,
    num_classes: int,
    groups: np.ndarray | None = None,
) -> list[Correlated]:
    """Finds labels that one property predicts all by itself.

    By the area under the ROC curve of the property for one class against all others; for a value
    of a field this is the mean of the shares that it gets right within and outside the class.

    Args:
        properties, fields, labels, num_classes, groups: as of ``find_slices``

    Returns:
        the strongest first, one for each label and property
    """
    from scipy.stats import rankdata

    evaluated = (labels >= 0) & _first_of_groups(groups, len(labels))
    found = []
    for prop, values in properties.items():
        rows = np.flatnonzero(evaluated & ~np.isnan(values))
        count = np.bincount(labels[rows], minlength=num_classes)
        ranks = np.bincount(labels[rows], rankdata(values[rows]), num_classes)
        for label in np.flatnonzero((count >= MIN_CLASS) & (count < len(rows))).tolist():
            above = ranks[label] / count[label] - (count[label] + 1) / 2
            auc = above / (len(rows) - count[label])
            found.append(Correlated(label, prop, LEVELS[prop][int(auc > 0.5)], max(auc, 1 - auc)))
    for trait in _of_fields(fields):
        used = evaluated & trait.known
        count = np.bincount(labels[used], minlength=num_classes)
        inside = np.bincount(labels[used & trait.inside], minlength=num_classes)
        for label in np.flatnonzero((count >= MIN_CLASS) & (count < used.sum())).tolist():
            outside = (inside.sum() - inside[label]) / (used.sum() - count[label])
            auc = (inside[label] / count[label] + 1 - outside) / 2
            found.append(Correlated(label, trait.prop, trait.level, float(auc)))
    found = [one for one in found if one.auc >= MIN_AUC]
    return sorted(found, key=lambda one: (-one.auc, one.label, one.prop))


def _first_of_groups(groups: np.ndarray | None, num_rows: int) -> np.ndarray:
    """(n,) bool: the first of each duplicate group, and what is in none."""
    if groups is None:
        return np.ones(num_rows, bool)
    first = groups < 0
    members = np.flatnonzero(~first)
    first[members[np.unique(groups[members], return_index=True)[1]]] = True
    return first


def _traits(
    properties: Mapping[str, np.ndarray], fields: Mapping[str, Sequence[str | None]]
) -> Iterator[_Trait]:
    """The ends of each numeric property, and the values of each other one."""
    for prop, values in properties.items():
        known = ~np.isnan(values)
        if not known.any():
            continue
        seen = set()
        for upper in (False, True):
            shares = [1 - tail for tail in TAILS] if upper else TAILS
            for limit in np.quantile(values[known], shares).tolist():
                # NaN is neither above nor below.
                inside = values >= limit if upper else values <= limit
                if (limit, upper) not in seen and 0 < inside.sum() < known.sum():
                    seen.add((limit, upper))
                    yield _Trait(prop, LEVELS[prop][upper], limit, known, inside)
    yield from _of_fields(fields)


def _of_fields(fields: Mapping[str, Sequence[str | None]]) -> Iterator[_Trait]:
    for name, texts in fields.items():
        known = np.array([text is not None for text in texts], bool)
        for value in sorted({text for text in texts if text is not None}):
            inside = np.array([text == value for text in texts], bool)
            yield _Trait(name, value, float("nan"), known, inside)
