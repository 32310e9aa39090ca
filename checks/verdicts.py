"""What measures mean, in plain words: the sentences beside the numbers of a result.

Stands apart from the analysis, which returns numbers only, so that words can change alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..analysis.label_issues import SMALL_CLASS, UNDETECTED_SHARE
from ..analysis.learning_curve import FACTOR, MORE
from ..analysis.separability import MIN_CONFUSION
from .progress import percent

if TYPE_CHECKING:
    from ..analysis.compare import EmbeddingComparison, FieldPrediction, Slices
    from ..analysis.label_issues import CheckedPredictions, LabelIssues
    from ..analysis.separability import ClassMeasures, Separability

# Fewer samples say nothing; nor does an interval that spans half of what is possible.
MIN_COUNT = 5
MAX_INTERVAL = 0.5

# With so many flags, labels are what to fix first; with fewer samples, more of them help most.
FEW_FLAGS, FLAGGED_SHARE, FEW_SAMPLES = 2, 0.05, 50

# The rise of recall that more samples must bring to be worth collecting.
WORTH_IT = 0.02

# Classes that a warning names.
MAX_NAMED = 5

# Recall and precision of nine in ten are good.
GOOD = 0.9

# Classes and their shares, the largest first.
Shares = list[tuple[str, float]]


def class_verdicts(separability: Separability) -> dict[str, str]:
    """What to make of each class, by its name; empty for classes without samples."""
    names, classes = separability.class_names, separability.classes
    outward: dict[int, Shares] = {}
    inward: dict[int, Shares] = {}
    pairs = separability.confusions
    for label, other, share in zip(
        pairs.label.tolist(), pairs.other.tolist(), pairs.predicted_share.tolist()
    ):
        outward.setdefault(label, []).append((names[other], share))
        inward.setdefault(other, []).append((names[label], share))
    alone = np.count_nonzero(classes.count) == 1
    verdicts = {}
    for i, (count, independent) in enumerate(
        zip(classes.count.tolist(), separability.independent.tolist())
    ):
        if count == 0:
            verdict = ""
        elif alone:
            verdict = "the only class: nothing to compare it with"
        elif count == 1:
            verdict = "too few samples (only one)"
        elif independent < MIN_COUNT:
            copies = ", without copies" if independent < count else ""
            verdict = f"too few samples (only {independent}{copies})"
        elif i in outward:
            verdict = _mixing(outward[i], inward.get(i, []))
        else:
            verdict = _apart(i, classes, names, inward.get(i, []))
        verdicts[names[i]] = verdict
    return verdicts


def class_advice(row: Mapping[str, Any], classes: Mapping[str, Mapping[str, Any]]) -> str:
    """What to do about a class, in a few words; empty where there is nothing to do.

    The class that it is confused with, which stands beside it, is the one to merge it with.

    Args:
        row: the class as it is stored: ``label``, ``count``, ``recall``, ``confused_with``,
            ``confused_rate``, ``label_issues``, ``more``
        classes: all of them, by their labels
    """
    flagged, count, twin = row.get("label_issues") or 0, row["count"], _twin(row)
    if flagged >= max(FEW_FLAGS, FLAGGED_SHARE * count):
        return f"fix labels first: {flagged:,} of {count:,} flagged"
    if twin is not None and twin in classes and _twin(classes[twin]) == row["label"]:
        return "merge, or clarify the boundary"
    more = row.get("more")
    if row["recall"] is not None and row["recall"] < GOOD:
        if more is not None and more >= WORTH_IT:
            return f"collect more: {MORE} would add {_between(more)} points of recall"
        if more is None and count < FEW_SAMPLES:
            return "collect more samples"
    return "clarify the boundary" if twin else ""


def _between(gain: float) -> str:
    """What is gained, as far as it can be determined, in points."""
    low, high = round(100 * gain / FACTOR), round(100 * gain * FACTOR)
    return f"{low} to {high}"


def more_sentence(row: Mapping[str, Any]) -> str:
    """What more samples would bring a class; empty where that cannot be determined."""
    more = row.get("more")
    if more is None or row["recall"] is None or row["recall"] >= GOOD:
        return ""
    if more < WORTH_IT:
        return f"{MORE} more samples per class would hardly raise its recall"
    return f"with {MORE} more samples per class, its recall would rise by {_between(more)} points"


def _twin(row: Mapping[str, Any]) -> str | None:
    """The class that this one is confused with often enough to do something about it."""
    often = row.get("confused_rate") is not None and row["confused_rate"] >= MIN_CONFUSION
    return row.get("confused_with") if often else None


def _mixing(outward: Shares, inward: Shares) -> str:
    """Of a class that is confused with others beyond chance."""
    (first, share), *further = outward
    verdict = f"confused with {first} ({percent(share)} of its held-out predictions)"
    verdict += "".join(f" and {other} ({percent(share)})" for other, share in further[:1])
    return f"{verdict}; {_received(inward)}" if inward else verdict


def _apart(i: int, classes: ClassMeasures, names: tuple[str, ...], inward: Shares) -> str:
    """Of class number ``i``, which is not confused with another one beyond chance."""
    recall, precision = classes.recall[i], classes.precision[i]
    low, high = classes.recall_low[i], classes.recall_high[i]
    if high - low > MAX_INTERVAL:
        return f"too few samples (recall between {percent(low)} and {percent(high)})"
    if recall >= GOOD:
        if inward:
            return f"recognized (recall {percent(recall)}), but {_received(inward)}"
        if precision >= GOOD:
            return f"well separated (recall {percent(recall)})"
        return (
            f"recognized (recall {percent(recall)}), but only {percent(precision)} of what is "
            "predicted as this class belongs to it"
        )
    rate = classes.confused_rate[i]
    if rate >= MIN_CONFUSION:
        partner = names[classes.confused_with[i]]
        verdict = f"recall {percent(recall)}: mostly predicted as {partner} ({percent(rate)})"
    else:
        verdict = f"recall {percent(recall)}: errors spread over several classes"
    return f"{verdict}; {_received(inward)}" if inward else verdict


def _received(inward: Shares) -> str:
    taken = [f"{percent(share)} of {other}" for other, share in inward[:2]]
    return f"{' and '.join(taken)} predicted as this class"


def comparison_verdict(comparison: EmbeddingComparison) -> str:
    """Which embedding separates the classes best, and how sure that is."""
    best, second = comparison.scores[:2]
    reached = f"balanced accuracy {percent(best.balanced_accuracy)}"
    level = [score.name for score in comparison.scores[1:] if not score.worse]
    if not level:
        return (
            f"{best.name} separates these classes best ({reached}, "
            f"{_points(-second.difference)} points more than {second.name})"
        )
    return (
        f"{best.name} ranks first ({reached}), but not significantly better than {', '.join(level)}"
    )


def slice_verdicts(slices: Slices) -> list[str]:
    """What to make of each slice."""
    return [_slice_verdict(slices, i) for i in range(len(slices.names))]


def _slice_verdict(slices: Slices, i: int) -> str:
    if slices.count[i] == 0:
        return "no samples with a label"
    if np.isnan(slices.difference[i]):
        return "shares no class with the other slices"
    points = f"{_points(abs(slices.difference[i]))} points"
    if slices.difference_high[i] < 0:
        worst = slices.class_names[slices.worst_class[i]]
        return f"worse than the other slices ({points} less on the same classes, most on {worst})"
    if slices.difference_low[i] > 0:
        return f"better than the other slices ({points} more on the same classes)"
    return "no difference from the other slices beyond chance"


def field_verdict(prediction: FieldPrediction, way_out: str | None = None) -> str:
    """Whether the embeddings predict a metadata field, and whether the classes do not do so alone.

    Args:
        prediction: how well it is predicted
        way_out (None): the call that takes it out of the embeddings
    """
    reached, known = percent(prediction.balanced_accuracy), prediction.from_classes
    chance = percent(prediction.chance)
    if prediction.low <= prediction.chance:
        return f"the embeddings do not predict it beyond chance ({reached}, chance {chance})"
    if not np.isnan(known) and prediction.low <= known:
        return (
            f"the embeddings predict it ({reached}, chance {chance}), but no better than the "
            f"class alone ({percent(known)})"
        )
    beyond = "" if np.isnan(known) else f", {percent(known)} from the class alone"
    advice = f"; to remove it from them, run {way_out}" if way_out else ""
    return f"the embeddings predict it ({reached}, chance {chance}{beyond}){advice}"


def in_sample_warning(predictions: CheckedPredictions) -> str | None:
    """A warning where the model seems to have seen the labels in training."""
    if not predictions.in_sample:
        return None
    return (
        f"The predictions agree with {100 * predictions.agreement:.1f} % of the labels, with "
        "more certainty than is plausible for samples not seen in training. In-sample predictions "
        "hide label errors; use cross-validated ones, or omit predictions_field"
    )


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


def evidence_warnings(
    found: LabelIssues, names: tuple[str, ...], count: int, confirmed: bool
) -> list[str]:
    """What the evidence cannot show about the labels, in plain words.

    Args:
        found: of classes with these names
        count: of labels that are flagged
        confirmed: whether reviews have shown that labels are wrong
    """
    warnings = []
    if count and not found.noise_detected:
        limit = f", at most {UNDETECTED_SHARE * 100:.0f} % of the labels and those where the "
        limit += "evidence is unanimous; more once reviews have confirmed some of them"
        warnings.append(
            "The share of correct flags cannot be estimated: the labels disagree with the "
            "embeddings no more than the classifier's own mistakes explain. Only labels against "
            f"which classifier and neighbors agree are flagged{'' if confirmed else limit}"
        )
    elif count and np.isnan(found.expected_precision):
        warnings.append(
            "The share of correct flags cannot be estimated: most flags are in classes with "
            f"fewer than {SMALL_CLASS} samples"
        )
    for classes, why in (
        (found.class_small, f"fewer than {SMALL_CLASS} samples, too few to evaluate their labels"),
        (found.class_unrecognized, "labels that the embeddings hardly predict"),
    ):
        few = [names[label] for label in np.flatnonzero(classes)]
        if few:
            listed = ", ".join(few[:MAX_NAMED]) + (", …" if len(few) > MAX_NAMED else "")
            what = "1 class has" if len(few) == 1 else f"{len(few):,} classes have"
            warnings.append(
                f"{what} {why}: only labels against which classifier and neighbors agree are "
                f"flagged ({listed})"
            )
    for pair in found.shared:
        warnings.append(
            f"{pair.count:,} of the {pair.looks:,} that look like {names[pair.label]!r} are "
            f"labeled {names[pair.other]!r}: they are mislabeled, or one class is part of the other"
        )
    return warnings
