"""The check ``find_label_issues``: labels that are likely wrong, on held-out evidence."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
from fiftyone import ViewField as F
from fiftyone.core.expressions import ViewExpression

from ..errors import UserError
from ..storage.arrays import encode
from ..storage.findings import Column, Values, Views, matching_view, plan_findings, store_findings
from ..storage.fingerprints import GROUPS
from ..storage.labels import label_set_text, read_label_sets
from ..storage.predictions import ReadBoxes, read_boxes, read_predictions
from ..storage.reviews import REVIEW_COLUMNS, Reviews, read_reviews
from ..storage.runs import Run, read_run
from ..storage.targets import Target
from .contract import EMBEDDINGS, FLAGGED, LABELS, Check, Finding, values_of
from .inputs import Inputs
from .progress import counted
from .verdicts import in_sample_warning

if TYPE_CHECKING:
    from ..analysis.label_issues import LabelIssues

# Pairs of classes that get a saved view, and the flags that a pair needs for it.
MAX_PAIR_VIEWS, MIN_PAIR_FLAGS = 5, 3

# Entries of the noise matrix, and pairs of overlapping classes, that the result lists.
MAX_LISTED = 50

# Flags from which the share of real ones is estimated.
MIN_ESTIMATED = 10

_A_LABEL = {"embedded_doc_type": fo.Classification}
_A_LIST = {"subfield": fo.StringField}

QUALITY = Column(
    "quality", fo.FloatField, "How well the label is supported, from 0 (wrong) to 1 (right)"
)
SUGGESTED, PROBE, NEIGHBORS = (
    Column(name, fo.EmbeddedDocumentField, meaning, _A_LABEL)
    for name, meaning in (
        ("suggested", "The label that the evidence prefers to the present one"),
        ("probe", "The likeliest label to the held-out classifier alone"),
        ("neighbors", "The likeliest label to the nearest neighbors alone"),
    )
)
AGAINST = Column(
    "against", fo.ListField, "The ids of the neighbors that speak against the label", _A_LIST
)
CONFIDENCE = Column("confidence", fo.FloatField, "Of the suggested label, from 0 to 1")
REASON = Column("reason", fo.StringField, "What is likely wrong: class, box")
WRONG = Column("wrong", fo.ListField, "Labels that are likely wrong", _A_LIST)
ABSENT = Column("missing", fo.ListField, "Labels that are likely missing", _A_LIST)
# A field of the samples, although the check is of patches.
UNLABELED_BOXES = Column(
    "missing",
    fo.EmbeddedDocumentField,
    "Predicted boxes of objects that likely lack a label",
    {"embedded_doc_type": fo.Detections},
    of_samples=True,
)


def _of_patches(column: Column) -> Column:
    """A label cannot be an attribute of a patch, which has the name of the class instead."""
    if column.options == _A_LABEL:
        return replace(column, field_type=fo.StringField, options={})
    return column


ONE_LABEL = (QUALITY, FLAGGED, SUGGESTED, PROBE, NEIGHBORS, AGAINST)
SEVERAL_LABELS = (QUALITY, FLAGGED, WRONG, ABSENT)
OF_PATCHES = (*map(_of_patches, ONE_LABEL), CONFIDENCE)
OF_DETECTOR = (*OF_PATCHES, REASON, UNLABELED_BOXES)


def columns_of(target: Target, several: bool = False, detector: bool = False) -> tuple[Column, ...]:
    """The fields that the check writes on a target."""
    if several:
        return SEVERAL_LABELS
    if target.patches_field is None:
        return ONE_LABEL
    return OF_DETECTOR if detector else OF_PATCHES


def _reported(found: Target, run: Run) -> list[dict[str, Any]]:
    """The columns of a report, whatever kind of labels was evaluated."""
    names = ["quality", "review", "reason", "confidence", "wrong", "missing"]
    part = "" if found.patches_field is not None else ".label"
    witnesses = {name: f"{name}{part}" for name in ("suggested", "probe", "neighbors")}
    sure = "confidence" if found.patches_field is not None else "suggested.confidence"
    rows = values_of(found, run, [*names, *witnesses.values(), sure])
    for row in rows:
        told = [
            f"{what}: {', '.join(row[what])}"
            for what in ("wrong", "missing")
            if isinstance(row[what], list) and row[what]
        ]
        row["reason"] = row["reason"] or "; ".join(told) or None
        row["suggestion"] = row[witnesses["suggested"]]
        row["confidence"] = row[sure]
        row |= {name: row[witnesses[name]] for name in ("probe", "neighbors")}
    return [{name: row.get(name) for name in REPORTED} for row in rows]


REPORTED = ("quality", "reason", "suggestion", "confidence", "review", "probe", "neighbors")

LABEL_ISSUES = Check(
    name="find_label_issues",
    needs=frozenset({EMBEDDINGS, LABELS}),
    columns=(*ONE_LABEL, CONFIDENCE, REASON, WRONG, ABSENT, UNLABELED_BOXES, *REVIEW_COLUMNS),
    views={
        "flagged": "Labels that are likely wrong, the worst first",
        "missing": "Images with predicted boxes of objects that likely lack a label",
    },
    finding=Finding(
        kind="label issue",
        column="flagged",
        order=(("quality", 1),),
        reported=REPORTED,
        read=_reported,
    ),
    would_find="wrong labels",
    count=("flagged", "flagged"),
)


@dataclass
class Found:
    """What was found, before it is stored.

    Attributes:
        result: what is special to this check in its result
        values: of the fields
        results: what is stored beside the facts
        pairs: label and suggestion that are confused most often, with their number
        unlabeled: how many have no label
    """

    result: dict[str, Any]
    values: Values
    results: dict[str, Any]
    pairs: dict[tuple[str, str], int] = field(default_factory=dict)
    unlabeled: int = 0


def find_label_issues(
    inputs: Inputs, *, predictions_field: str | None = None, run_key: str | None = None
) -> dict[str, Any]:
    """Finds label issues among the inputs, stores them, and returns what was found.

    Args:
        inputs: what is evaluated
        predictions_field, run_key: as of the operator

    Raises:
        UserError: if the input is at fault; an earlier run of the name then stays
    """
    started = time.monotonic()
    target, several = inputs.target, inputs.label_kind.several
    detector = predictions_field is not None and target.patches_field is not None
    columns = columns_of(target, several, detector)
    views = ["flagged", "missing"] if detector else ["flagged"]
    run = plan_findings(target, LABEL_ISSUES.name, run_key, (*columns, *REVIEW_COLUMNS), views)
    reviews = _reviews_before(inputs, run)
    if several and predictions_field is not None:
        raise UserError(
            f"predictions_field= is for one label per sample; {inputs.label_field!r} holds several"
        )
    found = _judge_sets(inputs, reviews) if several else _judge(inputs, predictions_field, reviews)
    inputs.progress.say("Storing the findings")
    facts = inputs.facts({"predictions_field": predictions_field}, GROUPS)
    special = {
        "duplicates": inputs.duplicates.run_key if inputs.duplicates else None,
        "reviews": reviews.counts(),
        **found.result,
    }
    facts = replace(
        facts,
        judged=facts.judged - found.unlabeled,
        skipped=facts.skipped | ({"no label": found.unlabeled} if found.unlabeled else {}),
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
    # Saved views that FiftyOne cannot tell apart are numbered, so their names are known only now.
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
    if reviews.decisions and labels is not None and labels != inputs.label_field:
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
    target, told = inputs.target, LABEL_ISSUES.views
    condition = F(f"{run.key}_flagged") == True  # noqa: E712
    worst = [(f"{run.key}_quality", 1)]
    views = {"flagged": (matching_view(target, condition, worst), told["flagged"])}
    if detector:
        some = F(f"{run.key}_missing.detections").length() > 0
        views["missing"] = (matching_view(target.of_samples, some, []), told["missing"])
    suggested = f"{run.key}_suggested" + ("" if target.patches_field else ".label")
    kind = inputs.label_kind
    for label, other in pairs:
        # A label may look like the name of a field to the database.
        given = F(kind.path) == ViewExpression.literal(kind.value(label))
        pair = condition & given & (F(suggested) == ViewExpression.literal(other))
        shows = f"Labeled {label}, but more like {other}, the worst first"
        views[f"{label} → {other}"] = (matching_view(target, pair, worst), shows)
    return views


# One label each


def _judge(inputs: Inputs, predictions_field: str | None, reviews: Reviews) -> Found:
    """Issues of one label each."""
    from ..analysis.label_issues import find_label_issues as issues_of
    from ..analysis.label_issues import tells_classes_apart

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
    found = issues_of(codes, evidence, inputs.graph, inputs.groups, outliers)
    from_embeddings = predictions_field is None or boxes is not None
    if from_embeddings and len(names) > 1 and not tells_classes_apart(evidence, codes):
        found = replace(found, flagged=np.zeros(len(codes), bool))
        warnings.append(
            f"The vectors in {inputs.embeddings!r} do not tell these classes apart, or there are "
            "too few samples of each: they flag no label. Other embeddings may"
        )
    more: dict[str, Any] = {}
    of_detector: dict[str, Mapping[str, Any]] = {}
    if boxes is not None:
        found, names, more, of_detector = _with_detector(inputs, found, boxes)
        warnings += more.pop("warnings")
    flagged = found.flagged & ~reviews.settled(inputs.ids, inputs.labels)
    given = evidence.probabilities[np.arange(len(codes)), np.maximum(codes, 0)]
    pairs = _pairs(names, codes, found.suggested, flagged)
    return Found(
        result=_result(inputs, names, found, flagged) | {"warnings": warnings} | more,
        values={**_values(inputs, names, found, flagged, given), **of_detector},
        results={"class_names": list(inputs.class_names), "noise": encode(found.noise)},
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
        "classes": [
            {"label": name, "count": int(count), "flagged": int(number)}
            for name, count, number in zip(inputs.class_names, found.class_counts, of_class)
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
    told = [row for row in labeled if flagged[row] or found.confidence[row] > given[row]]
    of_patches = inputs.target.patches_field is not None

    def classes(which: np.ndarray, confidence: np.ndarray) -> dict[str, Any]:
        chosen = {ids[row]: row for row in told if which[row] >= 0}
        if of_patches:
            return {id_: names[which[row]] for id_, row in chosen.items()}
        return {
            id_: fo.Classification(
                label=names[which[row]], confidence=round(float(confidence[row]), 4)
            )
            for id_, row in chosen.items()
        }

    values: dict[str, Mapping[str, Any]] = {
        "quality": _numbers(ids, found.quality, labeled),
        "flagged": {ids[row]: bool(flagged[row]) for row in labeled},
        "suggested": classes(found.suggested, found.confidence),
        "probe": classes(found.probe_suggested, found.probe_confidence),
        "neighbors": classes(found.neighbors_suggested, found.neighbors_confidence),
        "against": {
            ids[row]: [ids[other] for other in found.against[row].tolist() if other >= 0]
            for row in told
        },
    }
    if of_patches:
        values["confidence"] = _numbers(ids, found.confidence, told)
    return values


def _numbers(ids: tuple[str, ...], values: np.ndarray, rows: list[int]) -> dict[str, float]:
    return {ids[row]: round(float(values[row]), 6) for row in rows}


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


# A detector's boxes


def _with_detector(
    inputs: Inputs, found: "LabelIssues", boxes: ReadBoxes
) -> tuple["LabelIssues", tuple[str, ...], dict[str, Any], dict[str, Mapping[str, Any]]]:
    """Adds what a detector's boxes say: issues, names of their classes, result, and fields."""
    from ..analysis.object_issues import find_object_issues

    told = find_object_issues(boxes.given, boxes.predicted)
    # Classes that only the detector knows have numbers beyond those of the labels.
    more = sorted(set(boxes.class_names) - set(inputs.class_names))
    names = (*inputs.class_names, *more)
    numbers = np.array([names.index(name) for name in boxes.class_names], np.int64)
    places = {id_: row for row, id_ in enumerate(inputs.ids)}
    judged = [(places[id_], box) for box, id_ in enumerate(boxes.given_ids) if id_ in places]
    rows, of = np.array(judged, np.int64).reshape(-1, 2).T
    quality, flagged = found.quality.copy(), found.flagged.copy()
    suggested, confidence = found.suggested.copy(), found.confidence.copy()
    # Whatever speaks against a box counts.
    quality[rows] = np.fmin(quality[rows], told.quality[of])
    wrong = told.wrong[of]
    reasons = {inputs.ids[row]: ["class"] for row in np.flatnonzero(found.flagged)}
    for row in rows[wrong & ~flagged[rows]]:
        reasons[inputs.ids[row]] = ["class"]
    for row in rows[told.misplaced[of]]:
        reasons.setdefault(inputs.ids[row], []).append("box")
    flagged[rows] |= wrong | told.misplaced[of]
    suggested[rows[wrong]] = numbers[told.suggested[of[wrong]]]
    confidence[rows[wrong]] = told.confidence[of[wrong]]
    # A box is moved, not given another class.
    suggested[[row for row in rows if reasons.get(inputs.ids[row]) == ["box"]]] = -1
    found = replace(
        found,
        quality=quality,
        flagged=flagged,
        suggested=suggested,
        confidence=confidence,
        expected_precision=float("nan"),
    )
    warnings = [text for text in (boxes.warning, told.warning) if text]
    if boxes.num_unpredicted:
        warnings.append(
            f"{counted(boxes.num_unpredicted, 'sample')} without predictions judged by the vectors "
            "alone"
        )
    values = {
        "reason": {id_: " and ".join(why) for id_, why in reasons.items()},
        "missing": _unlabeled_boxes(boxes, told.missing),
    }
    result = {
        "misplaced": int(told.misplaced[of].sum()),
        "missing": int(told.missing.sum()),
        "warnings": warnings,
    }
    return found, names, result, values


def _unlabeled_boxes(boxes: ReadBoxes, missing: np.ndarray) -> dict[str, fo.Detections]:
    """The predicted boxes of objects without a label, by sample."""
    predicted = boxes.predicted
    of_sample: dict[str, list[fo.Detection]] = {}
    for box in np.flatnonzero(missing).tolist():
        left, top, right, bottom = predicted.corners[box].tolist()
        detection = fo.Detection(
            label=boxes.class_names[predicted.labels[box]],
            bounding_box=[left, top, right - left, bottom - top],
            confidence=float(predicted.confidence[box]),
        )
        of_sample.setdefault(boxes.sample_ids[predicted.picture[box]], []).append(detection)
    return {id_: fo.Detections(detections=found) for id_, found in of_sample.items()}


# Several labels each


def _judge_sets(inputs: Inputs, reviews: Reviews) -> Found:
    """Issues of samples with several labels."""
    from ..analysis.label_issues import find_multilabel_issues

    sets = read_label_sets(inputs.target, inputs.label_field, inputs.ids)
    texts = [None if labels is None else label_set_text(labels) for labels in sets]
    names = tuple(sorted(set().union(*filter(None, sets))))
    places = {name: place for place, name in enumerate(names)}
    has = np.zeros((len(sets), len(names)), bool)
    for row, labels in enumerate(sets):
        for label in labels or ():
            has[row, places[label]] = True
    skipped = np.array([labels is None for labels in sets])
    inputs.progress.say(f"Evaluating {counted(len(names), 'label')} each")
    found = find_multilabel_issues(
        has, inputs.rows, inputs.graph, inputs.groups, skipped, inputs.seed
    )
    ids = inputs.ids
    judged = np.flatnonzero(~skipped).tolist()
    is_flagged = found.flagged & ~reviews.settled(ids, texts)
    flagged = np.flatnonzero(is_flagged).tolist()

    def chosen(which: np.ndarray) -> dict[str, list[str]]:
        rows = {row: [names[c] for c in np.flatnonzero(which[row])] for row in flagged}
        return {ids[row]: labels for row, labels in rows.items() if labels}

    result = {
        "flagged": len(flagged),
        "expected_precision": None,
        "classes": [
            {
                "label": name,
                "count": int(has[:, place].sum()),
                "flagged": int(found.wrong[flagged, place].sum()),
                "missing": int(found.missing[flagged, place].sum()),
            }
            for name, place in places.items()
        ],
        "noise": [],
        "overlaps": [],
        "warnings": [],
    }
    values = {
        "quality": _numbers(ids, found.quality, judged),
        "flagged": {ids[row]: bool(is_flagged[row]) for row in judged},
        "wrong": chosen(found.wrong),
        "missing": chosen(found.missing),
    }
    return Found(
        result=result,
        values=values,
        results={"class_names": list(names)},
        unlabeled=int(skipped.sum()),
    )
