"""The check ``find_label_issues``: labels that are likely wrong, on held-out evidence."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
from fiftyone import ViewField as F
from fiftyone.core.expressions import ViewExpression

from ..errors import UserError
from ..storage.arrays import encode
from ..storage.findings import Values, Views, matching_view, plan_findings, store_findings
from ..storage.fingerprints import GROUPS, PREDICTIONS
from ..storage.predictions import read_boxes, read_predictions
from ..storage.reviews import REVIEW_COLUMNS, Reviews, read_reviews
from ..storage.runs import Run, read_run
from ..storage.target import Target
from .detector_issues import with_detector
from .found_issues import FoundIssues, numbers
from .inputs import Inputs
from .label_issue_columns import LABEL_ISSUES, columns_of
from .multilabel_issues import evaluate_sets
from .parameters import checked_threshold
from .verdicts import evidence_warnings, in_sample_warning

if TYPE_CHECKING:
    from ..analysis.label_issues import LabelIssues

# Pairs of classes that get a saved view, and the flags that a pair needs for it.
MAX_PAIR_VIEWS, MIN_PAIR_FLAGS = 5, 3

# Entries of the noise matrix, and pairs of overlapping classes, that the result lists.
MAX_LISTED = 50

# Flags from which the share of real ones is estimated.
MIN_ESTIMATED = 10


def find_label_issues(
    inputs: Inputs,
    *,
    predictions_field: str | None = None,
    threshold: str | float = "auto",
    run_key: str | None = None,
) -> dict[str, Any]:
    """Finds label issues among the inputs, stores them, and returns what was found.

    Args:
        inputs: what is evaluated
        predictions_field, threshold, run_key: as of the operator

    Raises:
        UserError: if the input is at fault; an earlier run of the name then stays
    """
    started = time.monotonic()
    target, several = inputs.target, inputs.label_kind.several
    wanted = checked_threshold(threshold)
    detector = predictions_field is not None and target.patches_field is not None
    columns = columns_of(target, several, detector)
    views = ["flagged", "missing"] if detector else ["flagged"]
    run = plan_findings(target, LABEL_ISSUES.name, run_key, (*columns, *REVIEW_COLUMNS), views)
    reviews = _reviews_before(inputs, run)
    if several and predictions_field is not None:
        raise UserError(
            f"predictions_field= needs one label per sample; {inputs.label_field!r} holds several"
        )
    if several and wanted is not None:
        raise UserError(
            f"threshold= needs one label per sample; {inputs.label_field!r} holds several"
        )
    if several:
        found = evaluate_sets(inputs, reviews)
    else:
        found = _evaluate_labels(inputs, predictions_field, wanted, reviews)
    inputs.progress.say("Storing the findings")
    parameters = {"predictions_field": predictions_field, "threshold": threshold}
    facts = inputs.facts(parameters, GROUPS, PREDICTIONS)
    special = {
        "duplicates": inputs.duplicates.run_key if inputs.duplicates else None,
        "reviews": reviews.counts(),
        **found.result,
    }
    facts = replace(
        facts,
        evaluated=len(inputs.ids) - found.unlabeled,
        skipped={**facts.skipped, **({"no label": found.unlabeled} if found.unlabeled else {})},
        seconds=round(time.monotonic() - started, 2),
        special=special,
    )
    saved = store_findings(
        target,
        run,
        columns,
        lambda: _heeding_reviews(target, run, found.values, reviews),
        lambda: _views(inputs, run, found.pairs, detector),
        facts,
        results={**found.results, "ids": " ".join(inputs.ids)},
        kept=REVIEW_COLUMNS,
    )
    # Saved views that FiftyOne cannot distinguish are numbered, so their names are known only now.
    named = saved[len(saved) - len(found.pairs) :]
    pair_views = [
        {"name": name, "label": label, "suggested": other, "count": count}
        for name, ((label, other), count) in zip(named, found.pairs.items())
    ]
    return {
        "run_key": run.key,
        **facts.as_dict(),
        "pair_views": pair_views,
        "views": list(saved),
    }


def _reviews_before(inputs: Inputs, run: Run) -> Reviews:
    """The reviews that the run holds.

    Raises:
        UserError: if they are of other labels
    """
    before = read_run(inputs.target.dataset, run.key)
    reviews = read_reviews(inputs.target, run)
    labels = before.facts.label_field if before is not None else None
    if (
        (reviews.decisions or reviews.originals)
        and labels is not None
        and labels != inputs.label_field
    ):
        raise UserError(
            f"run_key={run.key!r} holds reviews of {labels!r}; choose another run_key, undo the "
            "reviews, or delete that run"
        )
    return reviews


def _heeding_reviews(target: Target, run: Run, values: Values, reviews: Reviews) -> Values:
    """The values, without flags on what was reviewed while the labels were evaluated."""
    new = read_reviews(target, run).decisions.keys() - reviews.decisions.keys()
    flags = {id_: flag and id_ not in new for id_, flag in values["flagged"].items()}
    return {**values, "flagged": flags}


def _views(inputs: Inputs, run: Run, pairs: Mapping[tuple[str, str], int], detector: bool) -> Views:
    target, texts = inputs.target, LABEL_ISSUES.views
    condition = F(f"{run.key}_flagged") == True  # noqa: E712
    worst = [(f"{run.key}_quality", 1)]
    views = {"flagged": (matching_view(target, condition, worst), texts["flagged"])}
    if detector:
        some = F(f"{run.key}_missing.detections").length() > 0
        views["missing"] = (matching_view(target.of_samples, some, []), texts["missing"])
    suggested = f"{run.key}_suggested" + ("" if target.patches_field else ".label")
    kind = inputs.label_kind
    for label, other in pairs:
        # A label may look like the name of a field to the database.
        given = F(kind.path) == ViewExpression.literal(kind.value(label))
        pair = condition & given & (F(suggested) == ViewExpression.literal(other))
        shows = f"Labeled {label}, but closer to {other}, worst first"
        views[f"{label} → {other}"] = (matching_view(target, pair, worst), shows)
    return views


# One label each


def _evaluate_labels(
    inputs: Inputs, predictions_field: str | None, threshold: float | None, reviews: Reviews
) -> FoundIssues:
    """Issues of one label each."""
    from ..analysis.class_probe import separates_classes
    from ..analysis.label_issues import find_label_issues as issues_of

    target, names, codes = inputs.target, inputs.class_names, inputs.codes
    boxes = None
    if predictions_field is not None and target.patches_field is not None:
        boxes = read_boxes(target, predictions_field)
    elif len(names) < 2:
        raise UserError(
            f"label_field={inputs.label_field!r} holds only the class {names[0]!r} for these "
            f"{target.noun}; label issues need at least two"
        )
    evidence, warnings = _evidence(inputs, predictions_field if boxes is None else None)
    inputs.progress.say("Evaluating the labels")
    # What is like nothing in the set is an outlier, and no other label suits it better.
    outliers = inputs.outliers.flagged
    found = issues_of(codes, evidence, inputs.graph, inputs.groups, outliers, reviews.confirm_noise)
    from_embeddings = predictions_field is None or boxes is not None
    apart = not from_embeddings or len(names) < 2 or separates_classes(evidence, codes)
    if not apart:
        found = replace(found, flagged=np.zeros(len(codes), bool))
        warnings.append(
            f"The embeddings in {inputs.embeddings!r} do not separate these classes, or there "
            "are too few samples of each: no label is flagged. Other embeddings may separate them"
        )
    more: dict[str, Any] = {}
    of_detector: dict[str, Mapping[str, Any]] = {}
    if boxes is not None:
        found, names, more, of_detector = with_detector(inputs, found, boxes)
        warnings += more.pop("warnings")
    given = evidence.probabilities[np.arange(len(codes)), np.maximum(codes, 0)]
    if threshold is not None:
        # As in the panel: where the label itself is the likeliest, nothing speaks against it.
        below = (found.quality <= np.float32(threshold)) & (found.confidence > given)
        unknown = float("nan")
        found = replace(
            found, flagged=below, expected_precision=unknown, precision_range=(unknown, unknown)
        )
    flagged = found.flagged & ~reviews.settled(inputs.ids, inputs.stored_labels)
    if apart:
        warnings += evidence_warnings(found, names, int(flagged.sum()), reviews.confirm_noise)
    pairs = _pairs(names, codes, found.suggested, flagged)
    return FoundIssues(
        result=_result(inputs, names, found, flagged)
        | {"warnings": warnings, "threshold": threshold}
        | more,
        values={**_values(inputs, names, found, flagged, given), **of_detector},
        results={
            "class_names": list(inputs.class_names),
            "noise": encode(found.noise),
            "flags": encode(np.packbits(found.flagged)),
        },
        pairs=dict(list(pairs.items())[:MAX_PAIR_VIEWS]),
        unlabeled=int((codes < 0).sum()),
    )


def _evidence(inputs: Inputs, predictions_field: str | None) -> tuple[Any, list[str]]:
    """Class probabilities, held out or of the user's own model, and what speaks against them."""
    from ..analysis.label_issues import check_predictions

    evidence = inputs.evidence
    if predictions_field is None:
        return evidence, []
    read = read_predictions(inputs.target, predictions_field, inputs.ids, inputs.class_names)
    try:
        checked = check_predictions(read.values, inputs.codes, evidence)
    except ValueError as error:
        raise UserError(f"predictions_field={predictions_field!r}: {error}") from None
    warnings = (read.warning, in_sample_warning(checked))
    return checked.evidence, [text for text in warnings if text]


def _pairs(
    names: tuple[str, ...], codes: np.ndarray, suggested: np.ndarray, flagged: np.ndarray
) -> dict[tuple[str, str], int]:
    """How often a label is flagged in favor of another one, the most frequent pairs first."""
    pairs = Counter(
        (names[codes[row]], names[suggested[row]])
        for row in np.flatnonzero(flagged).tolist()
        if suggested[row] >= 0
    )
    ordered = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return {pair: count for pair, count in ordered if count >= MIN_PAIR_FLAGS}


def _result(
    inputs: Inputs, names: tuple[str, ...], found: "LabelIssues", flagged: np.ndarray
) -> dict[str, Any]:
    precision = found.expected_precision
    estimated = flagged.sum() >= MIN_ESTIMATED and not np.isnan(precision)
    of_class = np.bincount(inputs.codes[flagged], minlength=len(found.class_counts))
    return {
        "flagged": int(flagged.sum()),
        "expected_precision": round(float(precision), 3) if estimated else None,
        "precision_range": [round(end, 3) for end in found.precision_range] if estimated else None,
        "classes": [
            {
                "label": name,
                "count": int(found.class_counts[code]),
                "flagged": int(of_class[code]),
                "too_few": bool(found.class_small[code]),
                "unrecognized": bool(found.class_unrecognized[code]),
            }
            for code, name in enumerate(inputs.class_names)
        ],
        "shared": [
            {
                "label": names[pair.label],
                "other": names[pair.other],
                "count": pair.count,
                "looks": pair.looks,
            }
            for pair in found.shared
        ],
        "noise": _noise(found.noise, names),
        "overlaps": [
            {
                "label": names[pair.first],
                "other": names[pair.second],
                "count": pair.count,
                "share": round(float(pair.share), 5),
            }
            for pair in found.overlaps[:MAX_LISTED]
        ],
    }


def _values(
    inputs: Inputs,
    names: tuple[str, ...],
    found: "LabelIssues",
    flagged: np.ndarray,
    given: np.ndarray,
) -> dict[str, Mapping[str, Any]]:
    ids, codes = inputs.ids, inputs.codes
    labeled = np.flatnonzero(codes >= 0).tolist()
    # Where the label itself is the likeliest, another one is no suggestion.
    suggesting = [row for row in labeled if flagged[row] or found.confidence[row] > given[row]]
    of_patches = inputs.target.patches_field is not None

    def classes(which: np.ndarray, confidence: np.ndarray) -> dict[str, Any]:
        chosen = {ids[row]: row for row in suggesting if which[row] >= 0}
        if of_patches:
            return {id_: names[which[row]] for id_, row in chosen.items()}
        return {
            id_: fo.Classification(
                label=names[which[row]], confidence=round(float(confidence[row]), 4)
            )
            for id_, row in chosen.items()
        }

    values: dict[str, Mapping[str, Any]] = {
        "quality": numbers(ids, found.quality, labeled),
        "flagged": {ids[row]: bool(flagged[row]) for row in labeled},
        "suggested": classes(found.suggested, found.confidence),
        "probe": classes(found.probe_suggested, found.probe_confidence),
        "neighbors": classes(found.neighbors_suggested, found.neighbors_confidence),
        "against": {
            ids[row]: [ids[other] for other in found.against[row].tolist() if other >= 0]
            for row in suggesting
        },
    }
    if of_patches:
        values["confidence"] = numbers(ids, found.confidence, suggesting)
    return values


def _noise(matrix: np.ndarray, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The largest entries of the noise matrix off its diagonal."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    largest = np.argsort(-wrong, axis=None, kind="stable")[:MAX_LISTED]
    entries = [(*np.unravel_index(place, wrong.shape), wrong.flat[place]) for place in largest]
    return [
        {"true": names[true], "given": names[given], "share": round(float(share), 4)}
        for true, given, share in entries
        if share > 0
    ]
