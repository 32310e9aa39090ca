"""The predictions of a user's own model: classes of whole samples, and boxes of a detector.

Values that cannot be what they claim to be are refused by name: a confidence of 97, a box in
pixels, classes that no label has.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fiftyone as fo
import numpy as np

from ..analysis.object_issues import Boxes
from ..errors import UserError
from .paths import document_type, list_name, patches_fields
from .target import Target

# Boxes may reach beyond the image by rounding, or because objects do; none is larger than this.
MAX_SIZE = 2.0

# Classes that a message names.
NAMED = 3


@dataclass(frozen=True)
class Predictions:
    """The predictions of a classifier.

    Attributes:
        values: ``(num_ids, num_classes)`` float64: logits, or probabilities
        warning: what of it speaks against using them, or None
    """

    values: np.ndarray
    warning: str | None


def read_predictions(
    target: Target, predictions_field: str, ids: Sequence[str], class_names: Sequence[str]
) -> Predictions:
    """The predictions of the user's own model as one row of numbers for each sample.

    Logits are taken as they are. Their order is that of ``dataset.classes[predictions_field]`` or
    ``dataset.default_classes``; without these, the labels of the predictions show it, each being
    the class of its largest logit. Without logits, the confidence goes to the predicted class and
    what is left of it evenly to the others.

    Args:
        target: samples
        predictions_field: a Classification field
        ids: the samples, all of which need a prediction
        class_names: the classes of the columns

    Raises:
        UserError: if the field or its values are not usable, with the way out
    """
    name = f"predictions_field={predictions_field!r}"
    field = list_name(target.all_samples, predictions_field)
    schema = target.view.get_field_schema(ftype=fo.EmbeddedDocumentField)
    fields = [one for one, type_ in schema.items() if document_type(type_) is fo.Classification]
    if document_type(target.all_samples.get_field(field)) is not fo.Classification:
        raise UserError(
            f"{name}: there is no such Classification field; there are: "
            f"{', '.join(fields) or 'none'}"
        )
    columns = target.values(*(f"{field}.{part}" for part in ("label", "confidence", "logits")))
    rows = [columns[id_] for id_ in ids]
    missing = sum(label is None for label, _, _ in rows)
    if missing:
        raise UserError(
            f"{name}: {missing:,} of {len(rows):,} samples have no prediction; pass a view of "
            "those that have one"
        )
    if all(logits is not None for _, _, logits in rows):
        values = _logits(target.dataset, name, field, rows, class_names)
        return Predictions(values, None)
    if any(confidence is None for _, confidence, _ in rows):
        raise UserError(f"{name}: the predictions have neither logits nor confidences")
    _check_confidences(name, (confidence for _, confidence, _ in rows))
    warning = _check_classes(name, (label for label, _, _ in rows), class_names)
    return Predictions(_spread(rows, class_names), warning)


def _spread(rows: Sequence[tuple[str, float, Any]], class_names: Sequence[str]) -> np.ndarray:
    """Confidences as rows of probabilities."""
    places = {label: place for place, label in enumerate(class_names)}
    values = np.empty((len(rows), len(class_names)))
    for row, (label, confidence, _) in enumerate(rows):
        if label in places:
            values[row] = (1 - confidence) / max(len(class_names) - 1, 1)
            values[row, places[label]] = confidence
        else:  # a class that nobody has labeled speaks against all of them
            values[row] = 1 / len(class_names)
    # A single class leaves nothing for others.
    return values / np.maximum(values.sum(axis=1, keepdims=True), 1e-12)


def _check_confidences(name: str, confidences: Iterable[float]) -> None:
    values = np.array([np.nan if one is None else one for one in confidences], np.float64)
    wrong = ~((values >= 0) & (values <= 1))
    if not wrong.any():
        return
    example = values[wrong.argmax()]
    hint = "; divide percentages by 100" if np.nanmax(values) > 1 and np.nanmin(values) >= 0 else ""
    raise UserError(
        f"{name}: the confidence of {wrong.sum():,} of {len(values):,} predictions is not a "
        f"number between 0 and 1, for example {example:g}{hint}"
    )


def _check_classes(name: str, predicted: Iterable[str], class_names: Sequence[str]) -> str | None:
    """Refuses predictions none of whose classes is a label; a warning where some are not.

    Raises:
        UserError: that names classes of both sides
    """
    given, known = {label for label in predicted if label}, set(class_names)
    unknown = sorted(given - known)
    if not unknown or not known:
        return None
    named = ", ".join(map(repr, unknown[:NAMED])) + (", …" if len(unknown) > NAMED else "")
    if not given & known:
        labels = ", ".join(map(repr, sorted(known)[:NAMED])) + (", …" if len(known) > NAMED else "")
        raise UserError(
            f"{name}: none of the predicted classes ({named}) is among the labels ({labels}); "
            "rename them, for example with view.map_labels(...)"
        )
    return f"Predicted classes without any label: {named}"


def _logits(
    dataset: fo.Dataset,
    name: str,
    predictions_field: str,
    rows: Sequence[tuple[str, float, Any]],
    class_names: Sequence[str],
) -> np.ndarray:
    if len({len(logits) for _, _, logits in rows}) > 1:
        raise UserError(f"{name}: the logits differ in length")
    logits = np.array([np.asarray(logits, np.float64) for _, _, logits in rows])
    broken = int((~np.isfinite(logits).all(axis=1)).sum())
    if broken:
        raise UserError(
            f"{name}: the logits of {broken:,} of {len(rows):,} samples hold NaN or infinity; "
            "pass a view without them"
        )
    order = dataset.classes.get(predictions_field) or dataset.default_classes
    if not order:
        likeliest = dict(zip(logits.argmax(axis=1).tolist(), (label for label, _, _ in rows)))
        order = [likeliest.get(place) for place in range(logits.shape[1])]
    places = {label: place for place, label in enumerate(order)}
    unknown = [label for label in class_names if label not in places]
    if unknown or len(order) != logits.shape[1]:
        raise UserError(
            f"{name}: the class of each logit is not known (for example of "
            f"{', '.join(map(repr, unknown[:3])) or 'any'}); set "
            f"dataset.classes[{predictions_field!r}] to the list of the {logits.shape[1]} classes "
            "in the order of the logits"
        )
    return logits[:, [places[label] for label in class_names]]


def prediction_texts(target: Target, predictions_field: str, ids: Sequence[str]) -> dict[str, str]:
    """All that checks read of predictions as one text for each sample, as the dataset holds it.

    Args:
        target: the samples or patches
        predictions_field: the field of the predictions
        ids: the samples, or the patches on whose images boxes were predicted

    Raises:
        UserError: if there is no such field
    """
    field = list_name(target.all_samples, predictions_field)
    if target.all_samples.get_field(field) is None:
        raise UserError(f"predictions_field={predictions_field!r}: there is no such field")
    samples = target.of_samples
    if target.patches_field is not None:
        known = target.everything.sample_ids
        samples = samples.only(sorted({known[id_] for id_ in ids}))
        given, predicted = _read(samples, target.patches_field), _read(samples, field)
        return {id_: f"{given[id_]} {predicted[id_]}" for id_ in samples.ids()}
    parts = [f"{field}.{part}" for part in ("label", "confidence", "logits")]
    rows = samples.only(ids).values(*parts)
    return {
        id_: f"{label} {confidence} {None if logits is None else np.asarray(logits).tolist()}"
        for id_, (label, confidence, logits) in rows.items()
    }


# Boxes


@dataclass(frozen=True)
class ReadBoxes:
    """The boxes of the images on which a detector has been run.

    Attributes:
        given, predicted: of the same images and classes
        given_ids: the patch of each given box
        sample_ids: the sample of each image
        class_names: of given and predicted labels
        num_unpredicted: images on which the detector has not been run
        warnings: what speaks against the predictions
    """

    given: Boxes
    predicted: Boxes
    given_ids: list[str]
    sample_ids: list[str]
    class_names: tuple[str, ...]
    num_unpredicted: int
    warnings: list[str]


@dataclass(frozen=True)
class _Box:
    id: str
    label: str | None
    box: Sequence[float] | None
    confidence: float | None


def prediction_fields(target: Target) -> list[str]:
    """The other fields of the samples with boxes that have a confidence."""
    return [
        name
        for name in patches_fields(target.view)
        if name != target.patches_field
        and _holds_detections(target, name)
        and target.view.exists(f"{name}.detections.confidence").limit(1).count() > 0
    ]


def read_boxes(target: Target, predictions_field: str) -> ReadBoxes:
    """The labeled boxes of the images of a target, and the predicted ones.

    All boxes of an image are read, also those that the view leaves out, which are not missing.

    Args:
        target: patches
        predictions_field: a Detections field with confidences

    Raises:
        UserError: if the fields do not hold boxes, or the predictions have no confidence
    """
    name = f"predictions_field={predictions_field!r}"
    predictions_field = list_name(target.all_samples, predictions_field)
    way_out = f"fields with predicted boxes: {', '.join(prediction_fields(target)) or 'none'}"
    if target.view.get_field(predictions_field) is None:
        raise UserError(f"{name}: there is no such field; {way_out}")
    assert target.patches_field is not None, "the target has patches"
    for field in (predictions_field, target.patches_field):
        if not _holds_detections(target, field):
            raise UserError(
                f"{name}: predictions for patches must be boxes, but {field!r} holds none; "
                f"{way_out}"
            )
    if predictions_field == target.patches_field:
        raise UserError(f"{name} holds the labels themselves; {way_out}")
    images = sorted(set(target.view.values("id")))
    given = _read(target.of_samples.only(images), target.patches_field)
    predicted = _read(target.of_samples.only(images), predictions_field)
    sample_ids = sorted(id_ for id_, boxes in predicted.items() if boxes is not None)
    if not sample_ids:
        raise UserError(f"{name} holds no predictions for these samples; {way_out}")
    labeled, broken_labels = _usable(f"patches_field={target.patches_field!r}", given, sample_ids)
    found, broken = _usable(name, predicted, sample_ids)
    if not found and any(predicted.values()):
        raise UserError(f"{name}: the predicted boxes have no labels; {way_out}")
    if any(box.confidence is None for box in found):
        raise UserError(f"{name}: the predictions have no confidence; {way_out}")
    _check_confidences(name, [box.confidence for box in found if box.confidence is not None])
    unlabeled_classes = _check_classes(
        name,
        [box.label for box in found if box.label],
        sorted({box.label for box in labeled if box.label}),
    )
    warnings = [text for text in (unlabeled_classes, broken, broken_labels) if text]
    class_names = tuple(sorted({box.label for box in (*labeled, *found) if box.label}))
    given_ids = [
        target.name_of(id_, box.id) for id_ in sample_ids for box in given[id_] or () if box.label
    ]
    return ReadBoxes(
        given=_table(given, sample_ids, class_names, confident=False),
        predicted=_table(predicted, sample_ids, class_names, confident=True),
        given_ids=given_ids,
        sample_ids=sample_ids,
        class_names=class_names,
        num_unpredicted=len(predicted) - len(sample_ids),
        warnings=warnings,
    )


def _table(
    boxes: Mapping[str, list[_Box] | None],
    sample_ids: Sequence[str],
    class_names: Sequence[str],
    confident: bool,
) -> Boxes:
    numbers = {label: number for number, label in enumerate(class_names)}
    rows = [
        (image, numbers[box.label], *box.box, box.confidence)
        for image, id_ in enumerate(sample_ids)
        for box in boxes[id_] or ()
        if box.label and box.box
    ]
    table = np.array(rows, np.float64).reshape(-1, 7)
    corners = np.concatenate([table[:, 2:4], table[:, 2:4] + table[:, 4:6]], axis=1)
    return Boxes(
        image=table[:, 0].astype(np.int64),
        corners=corners.clip(0, 1),
        labels=table[:, 1].astype(np.int64),
        confidence=table[:, 6] if confident else None,
    )


def _usable(
    name: str, boxes: dict[str, list[_Box] | None], sample_ids: Sequence[str]
) -> tuple[list[_Box], str | None]:
    """The labeled boxes of the images; those that are none are taken out of ``boxes``.

    Returns:
        the boxes, and a warning about those that were taken out, or None

    Raises:
        UserError: if most are no boxes, in pixels say
    """
    labeled = [box for id_ in sample_ids for box in boxes[id_] or () if box.label]
    broken = [box for box in labeled if not _is_relative(box.box)]
    if not broken:
        return labeled, None
    example = list(broken[0].box or ())
    text = (
        f"{name}: {len(broken):,} of {len(labeled):,} boxes are not relative [x, y, width, "
        f"height] within the image, for example {example}"
    )
    if 2 * len(broken) > len(labeled):
        raise UserError(f"{text}; divide pixels by the width and height of the image")
    left_out = {id(box) for box in broken}
    for id_ in sample_ids:
        boxes[id_] = [box for box in boxes[id_] or () if id(box) not in left_out]
    kept = [box for box in labeled if id(box) not in left_out]
    return kept, f"{text}; they are skipped"


def _is_relative(box: Sequence[float] | None) -> bool:
    """Whether a box lies at least partly within the image, and not far beyond it."""
    if box is None or len(box) != 4 or not np.isfinite(box).all():
        return False
    x, y, width, height = box
    inside = min(x + width, y + height) > 0 and max(x, y) < 1
    return width >= 0 and height >= 0 and inside and max(width, height) <= MAX_SIZE


def _holds_detections(target: Target, name: str) -> bool:
    return document_type(target.all_samples.get_field(name)) is fo.Detections


def _read(images: Target, field: str) -> dict[str, list[_Box] | None]:
    """All boxes of each sample; None where the field is empty."""
    parts = [f"{field}.detections.{part}" for part in ("id", "label", "bounding_box", "confidence")]
    return {
        sample_id: None if ids is None else [_Box(*box) for box in zip(ids, *columns)]
        for sample_id, (ids, *columns) in images.values(*parts).items()
    }
