"""``find_label_issues``: labels that are likely wrong, by cleanlab on held-out evidence."""

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import fiftyone.operators.types as types
import numpy as np
from fiftyone import ViewField as F
from fiftyone.core.expressions import ViewExpression

from ..errors import UserError
from ..storage.arrays import encode
from ..storage.boxes import ReadBoxes, prediction_fields, read_boxes
from ..storage.findings import Column, matching_view, plan_findings, store_findings
from ..storage.labels import (
    is_multilabel,
    label_set_text,
    multilabel_fields,
    read_label_sets,
    read_predictions,
)
from ..storage.reviews import COLUMNS as REVIEW_COLUMNS
from ..storage.reviews import Reviews, read_reviews
from ..storage.runs import read_run
from ..storage.targets import Target, resolve_target
from .base import (
    QualityOperator,
    choice_input,
    embeddings_input,
    judging_notice,
    labels_input,
    patches_input,
    run_key_input,
    skipped_lines,
)
from .inputs import Inputs
from .progress import Progress, counted, duration

if TYPE_CHECKING:
    from ..analysis.label_issues import LabelIssues

VIEWS = ("flagged",)
COLUMNS = ("quality", "flagged", "suggested", "probe", "neighbors", "against")
OBJECT_COLUMNS = (*COLUMNS, "confidence")
DETECTOR_COLUMNS = (*OBJECT_COLUMNS, "reason")
# The field of the samples, and the view of them, with predicted boxes of unlabeled objects.
MISSING = "missing"
MULTILABEL_COLUMNS = ("quality", "flagged", "wrong", "missing")

# Pairs of classes that get a saved view, and the flags that a pair needs for it.
MAX_PAIR_VIEWS, MIN_PAIR_FLAGS = 5, 3

# Entries of the noise matrix, and pairs of overlapping classes, that the result lists.
MAX_LISTED = 50

# Flags from which the share of real ones is estimated.
MIN_ESTIMATED = 10

# Reviews from which the measured precision is told.
MIN_REVIEWS = 30

# For the forecast in the form, on two cores.
SECONDS_PER_VECTOR, STARTING_SECONDS = 2e-4, 4


class FindLabelIssues(QualityOperator):
    name = "find_label_issues"
    label = "Quality: find label issues"
    description = (
        "Find labels that are likely wrong: cleanlab on held-out predictions from the embeddings, "
        "or on your own model's; ranks them, suggests the right label and says what speaks for it"
    )
    icon = "label_off"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        embeddings: str,
        label_field: str,
        patches_field: str | None = None,
        predictions_field: str | None = None,
        run_key: str | None = None,
        seed: int = 51,
    ) -> dict[str, Any]:
        """Finds labels that are likely wrong. No label is changed.

        Every sample is judged by what was learned without it and without its duplicates, if
        ``find_duplicates`` was run before. Labels that ``review_label_issues`` has confirmed are
        not flagged again.

        Args:
            samples: a dataset or view
            embeddings: the field of the vectors
            label_field: the labels to judge: a Classification, Classifications or string field; of
                objects, the patches field
            patches_field (None): the field of the objects whose labels are judged
            predictions_field (None): the predictions of your own model, made out of sample: a
                Classification field with logits or confidences, used in place of what the vectors
                predict; for objects, a Detections field with confidences, of which cleanlab's
                ``object_detection`` tells wrong classes, badly placed boxes and missing ones,
                beside what the vectors tell
            run_key (None): the name of the run, by default ``label_issues``
            seed (51): of everything random

        Returns:
            a dict with ``flagged``, ``expected_precision`` (the share of the flags that are
            estimated to be real), ``classes``, ``noise``, ``overlaps``, ``warnings``, …; with
            predicted boxes, ``misplaced`` and ``missing``

        Raises:
            UserError: if the input is at fault; an earlier run of the name then stays
        """
        inputs = Inputs(
            samples,
            progress,
            embeddings=embeddings,
            patches_field=patches_field,
            label_field=label_field,
            seed=seed,
        )
        return find_and_store(inputs, predictions_field=predictions_field, run_key=run_key)

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        patches_field = patches_input(ctx, samples, inputs, "Judge")
        target = resolve_target(samples, patches_field)
        embeddings = embeddings_input(ctx, target, inputs)
        several = multilabel_fields(target)
        fields = labels_input(target, inputs, "The labels to judge", more=several)
        predictions = [name for name in fields if _holds_predictions(target, name)]
        if patches_field is not None:
            predictions = prediction_fields(target)
        if predictions:
            choice_input(
                inputs,
                "predictions_field",
                predictions,
                label="Predictions",
                description="Of your own model, made out of sample",
                none="None: learn from the vectors",
            )
        columns = (*_columns_of(target, detector=True), *REVIEW_COLUMNS)
        run_key_input(ctx, target, self.name, columns, VIEWS, inputs)
        judging_notice(target, embeddings, inputs, STARTING_SECONDS, SECONDS_PER_VECTOR)

    def summary(self, result: dict[str, Any]) -> str:
        things, key = result["things"], result["run_key"]
        count = counted(result["flagged"], "label issue")
        lines = [f"**{count}** flagged among the labels of {result['judged']:,} {things}"]
        if result["flagged"]:
            lines[0] += f": saved view `{key}: flagged`, worst first"
        if result["expected_precision"] is not None:
            lines.append(
                f"- about **{round(result['flagged'] * result['expected_precision']):,}** of them "
                f"are expected to be real ({result['expected_precision']:.0%}); review the first "
                "ones with `Quality: review label issues`"
            )
        reviews = result["reviews"]
        if reviews["flags_reviewed"] >= MIN_REVIEWS:
            lines.append(
                f"- {reviews['measured_precision']:.0%} of {reviews['flags_reviewed']:,} reviewed "
                "flags were real"
            )
        if result.get("misplaced"):
            lines.append(f"- {counted(result['misplaced'], 'box')} badly placed")
        if result.get("missing"):
            lines.append(
                f"- {counted(result['missing'], 'object')} likely without a label: saved view "
                f"`{key}: missing`, boxes in the field `{key}_missing`"
            )
        for view in result["pair_views"]:
            lines.append(
                f"- {view['count']:,} labeled {view['label']} look like {view['suggested']} "
                f"(saved view `{view['name']}`)"
            )
        lines += [f"- **{warning}**" for warning in result["warnings"]]
        lines += skipped_lines(result)
        lines.append(f"- {duration(result['seconds'])} in all")
        return "\n".join(lines)


def find_and_store(
    inputs: Inputs, *, predictions_field: str | None, run_key: str | None
) -> dict[str, Any]:
    """Finds label issues among the inputs, stores them, and returns the operator's result."""
    started = time.monotonic()
    target = inputs.target
    several = is_multilabel(target, inputs.label_field)
    detector = predictions_field is not None and target.patches_field is not None
    columns = MULTILABEL_COLUMNS if several else _columns_of(target, detector)
    names = (*columns, *REVIEW_COLUMNS)
    on_samples = (MISSING,) if detector else ()
    views_of = (*VIEWS, *on_samples)
    run = plan_findings(target, FindLabelIssues.name, run_key, names, views_of, on_samples)
    before = read_run(target.dataset, run.key)
    reviews = read_reviews(target, before)
    if reviews.decisions and before.facts["parameters"]["label_field"] != inputs.label_field:
        raise UserError(
            f"run_key={run.key!r} holds reviews of {before.facts['parameters']['label_field']!r}; "
            "choose another run_key, take the reviews back, or delete that run"
        )
    if several:
        if predictions_field is not None:
            raise UserError(
                f"predictions_field= is for one label per sample; {inputs.label_field!r} holds "
                "several"
            )
        result, columns, more, pairs, labels = _find_multilabel(inputs, reviews)
    else:
        result, columns, more, pairs, labels = _find(inputs, predictions_field, reviews)
    inputs.progress.say("Storing the findings")
    facts = inputs.facts(run, {"predictions_field": predictions_field}, labels)
    unlabeled = result.pop("unlabeled")
    result = {
        **facts,
        "judged": facts["judged"] - unlabeled,
        "skipped": facts["skipped"] | ({"no label": unlabeled} if unlabeled else {}),
        "duplicates": inputs.duplicates[0],
        "reviews": reviews.counts(),
        **result,
        "pair_views": [
            {
                "name": f"{run.key}: {label} → {other}",
                "label": label,
                "suggested": other,
                "count": n,
            }
            for (label, other), n in pairs.items()
        ],
        "seconds": round(time.monotonic() - started, 2),
    }
    names = (f"{run.key}_{what}" for what in ("flagged", "quality", "suggested"))
    flagged, quality, suggested = names

    def views() -> dict[str, Any]:
        condition = F(flagged) == True  # noqa: E712
        worst = [(quality, 1)]
        made = {"flagged": matching_view(target, condition, worst)}
        if detector:
            some = F(f"{run.key}_{MISSING}.detections").length() > 0
            made[MISSING] = matching_view(target.of_samples, some, [])
        path = suggested if target.patches_field else f"{suggested}.label"
        given = "label" if target.patches_field else inputs.label_path
        for label, other in pairs:
            # A label may look like the name of a field to the database.
            names = [ViewExpression.literal(name) for name in (label, other)]
            pair = condition & (F(given) == names[0]) & (F(path) == names[1])
            made[f"{label} → {other}"] = matching_view(target, pair, worst)
        return made

    def heeding_reviews() -> dict[str, Column]:
        """The fields, without flags on what was reviewed while the labels were judged."""
        now = read_reviews(target, read_run(target.dataset, run.key))
        new = now.decisions.keys() - reviews.decisions.keys()
        flags = columns["flagged"].values
        kept = {id_: flag and id_ not in new for id_, flag in flags.items()}
        return {**columns, "flagged": Column(fo.BooleanField, kept)}

    saved = store_findings(
        target,
        run,
        heeding_reviews,
        inputs.sample_ids,
        views,
        result,
        results=more,
        kept=REVIEW_COLUMNS,
    )
    return {**result, "views": list(saved)}


Found = tuple[
    dict[str, Any], dict[str, Column], dict[str, Any], dict[tuple[str, str], int], list[str | None]
]


def _find(inputs: Inputs, predictions_field: str | None, reviews: Reviews) -> Found:
    """Issues of one label each: result, fields, stored results, pairs of classes, labels."""
    from ..analysis.label_issues import (
        check_predictions,
        find_label_issues,
        tells_classes_apart,
    )
    from ..checks.verdicts import in_sample_warning

    target, names, codes = inputs.target, inputs.class_names, inputs.codes
    boxes = None
    if predictions_field is not None and target.patches_field is not None:
        boxes = read_boxes(target, predictions_field)
    elif len(names) < 2:
        raise UserError(
            f"label_field={inputs.label_field!r} holds only the class {names[0]!r} for these "
            f"{target.things}; label issues need at least two"
        )
    evidence, warning = inputs.evidence, None
    if predictions_field is not None and boxes is None:
        predictions = read_predictions(target, predictions_field, inputs.ids, names)
        checked = check_predictions(predictions, codes, evidence)
        evidence, warning = checked.evidence, in_sample_warning(checked)
    inputs.progress.say("Judging the labels")
    # What is like nothing in the set is an outlier, and no other label suits it better.
    outliers = inputs.outliers.flagged
    found = find_label_issues(codes, evidence, inputs.graph, inputs.groups, outliers)
    warnings = [warning] if warning else []
    from_vectors = predictions_field is None or boxes is not None
    if from_vectors and len(names) > 1 and not tells_classes_apart(evidence, codes):
        found = replace(found, flagged=np.zeros(len(codes), bool))
        warnings.append(
            f"The vectors in {inputs.embeddings!r} do not tell these classes apart, or there are "
            "too few samples of each: they flag no label. Other embeddings may"
        )
    told, of_detector = {}, {}
    if boxes is not None:
        found, names, told, of_detector = _with_detector(inputs, found, boxes)
        warnings += told.pop("warnings")
    flagged = found.flagged & ~reviews.settled(inputs.ids, inputs.labels)
    pairs = Counter(
        (names[codes[row]], names[found.suggested[row]])
        for row in np.flatnonzero(flagged).tolist()
        if found.suggested[row] >= 0
    )
    pairs = {
        pair: count
        for pair, count in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
        if count >= MIN_PAIR_FLAGS
    }
    precision = found.expected_precision
    estimated = flagged.sum() >= MIN_ESTIMATED and not np.isnan(precision)
    noise = _noise(found.noise, names)
    result = {
        "flagged": int(flagged.sum()),
        "expected_precision": round(float(precision), 3) if estimated else None,
        "classes": [
            {"label": name, "count": int(count), "flagged": int(number)}
            for name, count, number in zip(
                inputs.class_names,
                found.class_counts,
                np.bincount(codes[flagged], minlength=len(found.class_counts)),
            )
        ],
        "noise": noise,
        "overlaps": [
            {
                "label": names[pair.first],
                "other": names[pair.second],
                "count": pair.count,
                "share": round(float(pair.share), 5),
            }
            for pair in found.overlaps[:MAX_LISTED]
        ],
        "warnings": warnings,
        "unlabeled": int((codes < 0).sum()),
        **told,
    }
    largest = dict(list(pairs.items())[:MAX_PAIR_VIEWS])
    stored = {"class_names": list(inputs.class_names), "noise": encode(found.noise)}
    given = evidence.probabilities[np.arange(len(codes)), np.maximum(codes, 0)]
    columns = {**_columns(inputs, names, found, flagged, given), **of_detector}
    return result, columns, stored, largest, inputs.labels


def _with_detector(
    inputs: Inputs, found: "LabelIssues", boxes: ReadBoxes
) -> tuple["LabelIssues", tuple[str, ...], dict[str, Any], dict[str, Column]]:
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
    warnings = [told.warning] if told.warning else []
    if boxes.num_unpredicted:
        warnings.append(
            f"{counted(boxes.num_unpredicted, 'sample')} without predictions judged by the vectors "
            "alone"
        )
    missing: dict[str, list[fo.Detection]] = {}
    predicted = boxes.predicted
    for box in np.flatnonzero(told.missing).tolist():
        left, top, right, bottom = predicted.corners[box].tolist()
        detection = fo.Detection(
            label=boxes.class_names[predicted.labels[box]],
            bounding_box=[left, top, right - left, bottom - top],
            confidence=float(predicted.confidence[box]),
        )
        missing.setdefault(boxes.sample_ids[predicted.picture[box]], []).append(detection)
    columns = {
        "reason": Column(fo.StringField, {id_: " and ".join(why) for id_, why in reasons.items()}),
        MISSING: Column(
            fo.EmbeddedDocumentField,
            {id_: fo.Detections(detections=found) for id_, found in missing.items()},
            {"embedded_doc_type": fo.Detections},
            of_samples=True,
        ),
    }
    result = {
        "misplaced": int(told.misplaced[of].sum()),
        "missing": int(told.missing.sum()),
        "warnings": warnings,
    }
    return found, names, result, columns


def _find_multilabel(inputs: Inputs, reviews: Reviews) -> Found:
    from ..analysis.label_issues import find_multilabel_issues

    target = inputs.target
    sets = read_label_sets(target, inputs.label_field, inputs.ids)
    texts = [None if labels is None else label_set_text(labels) for labels in sets]
    names = tuple(sorted(set().union(*filter(None, sets))))
    places = {name: place for place, name in enumerate(names)}
    has = np.zeros((len(sets), len(names)), bool)
    for row, labels in enumerate(sets):
        for label in labels or ():
            has[row, places[label]] = True
    skipped = np.array([labels is None for labels in sets])
    inputs.progress.say(f"Judging {counted(len(names), 'label')} each")
    found = find_multilabel_issues(
        has, inputs.rows, inputs.graph, inputs.groups, skipped, inputs.seed
    )
    ids = inputs.ids
    judged = np.flatnonzero(~skipped).tolist()
    is_flagged = found.flagged & ~reviews.settled(ids, texts)
    flagged = np.flatnonzero(is_flagged).tolist()
    listed = {"subfield": fo.StringField}

    def chosen(which: np.ndarray) -> dict[str, list[str]]:
        rows = {row: [names[c] for c in np.flatnonzero(which[row])] for row in flagged}
        return {ids[row]: labels for row, labels in rows.items() if labels}

    columns = {
        "quality": _numbers(ids, found.quality, judged),
        "flagged": Column(fo.BooleanField, {ids[row]: bool(is_flagged[row]) for row in judged}),
        "wrong": Column(fo.ListField, chosen(found.wrong), listed),
        "missing": Column(fo.ListField, chosen(found.missing), listed),
    }
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
        "unlabeled": int(skipped.sum()),
    }
    return result, columns, {"class_names": list(names)}, {}, texts


def _columns_of(target: Target, detector: bool) -> tuple[str, ...]:
    if target.patches_field is None:
        return COLUMNS
    return DETECTOR_COLUMNS if detector else OBJECT_COLUMNS


def _columns(
    inputs: Inputs,
    names: tuple[str, ...],
    found: "LabelIssues",
    flagged: np.ndarray,
    given: np.ndarray,
) -> dict[str, Column]:
    ids, codes = inputs.ids, inputs.codes
    labeled = np.flatnonzero(codes >= 0).tolist()
    # Where the label itself is the likeliest, another one is no suggestion.
    told = [row for row in labeled if flagged[row] or found.confidence[row] > given[row]]
    of_objects = inputs.target.patches_field is not None

    def classes(which: np.ndarray, confidence: np.ndarray) -> Column:
        chosen = {ids[row]: row for row in told if which[row] >= 0}
        # A label cannot be an attribute of an object.
        if of_objects:
            return Column(fo.StringField, {id_: names[which[row]] for id_, row in chosen.items()})
        return Column(
            fo.EmbeddedDocumentField,
            {
                id_: fo.Classification(
                    label=names[which[row]], confidence=round(float(confidence[row]), 4)
                )
                for id_, row in chosen.items()
            },
            {"embedded_doc_type": fo.Classification},
        )

    columns = {
        "quality": _numbers(ids, found.quality, labeled),
        "flagged": Column(fo.BooleanField, {ids[row]: bool(flagged[row]) for row in labeled}),
        "suggested": classes(found.suggested, found.confidence),
        "probe": classes(found.probe_suggested, found.probe_confidence),
        "neighbors": classes(found.neighbors_suggested, found.neighbors_confidence),
        "against": Column(
            fo.ListField,
            {
                ids[row]: [ids[other] for other in found.against[row].tolist() if other >= 0]
                for row in told
            },
            {"subfield": fo.StringField},
        ),
    }
    if of_objects:
        columns["confidence"] = _numbers(ids, found.confidence, told)
    return columns


def _numbers(ids: tuple[str, ...], values: np.ndarray, rows: list[int]) -> Column:
    return Column(fo.FloatField, {ids[row]: round(float(values[row]), 6) for row in rows})


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


def _holds_predictions(target: Any, name: str) -> bool:
    field = target.view.get_field(name)
    if getattr(field, "document_type", None) is not fo.Classification:
        return False
    return target.view.exists(f"{name}.confidence").limit(1).count() > 0
