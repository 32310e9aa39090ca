"""Boxes of objects: the given ones and those that a detector of the user's predicts."""

from dataclasses import dataclass
from typing import Any

import fiftyone as fo
import numpy as np

from ..analysis.object_issues import Boxes
from ..errors import UserError
from .targets import Target, patches_fields


@dataclass(frozen=True)
class ReadBoxes:
    """The boxes of the pictures on which a detector has been run.

    Attributes:
        given, predicted: of the same pictures and classes
        given_ids: the object of each given box
        sample_ids: the sample of each picture
        class_names: of given and predicted labels
        num_unpredicted: pictures on which the detector has not been run
    """

    given: Boxes
    predicted: Boxes
    given_ids: list[str]
    sample_ids: list[str]
    class_names: tuple[str, ...]
    num_unpredicted: int


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
    """The labeled boxes of the pictures of a target, and the predicted ones.

    All boxes of a picture are read, also those that the view leaves out, which are not missing.

    Args:
        target: objects
        predictions_field: a Detections field with confidences

    Raises:
        UserError: if the fields do not hold boxes, or the predictions have no confidence
    """
    name = f"predictions_field={predictions_field!r}"
    way_out = f"fields with predicted boxes: {', '.join(prediction_fields(target)) or 'none'}"
    if target.view.get_field(predictions_field) is None:
        raise UserError(f"{name}: there is no such field; {way_out}")
    for field in (predictions_field, target.patches_field):
        if not _holds_detections(target, field):
            raise UserError(
                f"{name}: predictions for objects are boxes, but {field!r} holds none; {way_out}"
            )
    if predictions_field == target.patches_field:
        raise UserError(f"{name} holds the labels themselves; {way_out}")
    view = target.all_samples.select(target.view.values("id"))
    given = _read(view, target.patches_field)
    predicted = _read(view, predictions_field)
    sample_ids = sorted(id_ for id_, boxes in predicted.items() if boxes is not None)
    if not sample_ids:
        raise UserError(f"{name} holds no predictions for these samples; {way_out}")
    labeled = [box for id_ in sample_ids for box in given[id_] or () if box[1]]
    found = [box for id_ in sample_ids for box in predicted[id_] if box[1]]
    if any(confidence is None for *_, confidence in found):
        raise UserError(f"{name}: the predictions have no confidence; {way_out}")
    class_names = tuple(sorted({label for _, label, *_ in (*labeled, *found)}))
    numbers = {label: number for number, label in enumerate(class_names)}

    def boxes(of: dict[str, Any], confident: bool) -> Boxes:
        rows = [
            (picture, numbers[label], *box, confidence)
            for picture, id_ in enumerate(sample_ids)
            for _, label, box, confidence in of[id_] or ()
            if label
        ]
        table = np.array(rows, np.float64).reshape(-1, 7)
        corners = np.concatenate([table[:, 2:4], table[:, 2:4] + table[:, 4:6]], axis=1)
        return Boxes(
            picture=table[:, 0].astype(np.int64),
            corners=corners.clip(0, 1),
            labels=table[:, 1].astype(np.int64),
            confidence=table[:, 6] if confident else None,
        )

    return ReadBoxes(
        given=boxes(given, confident=False),
        predicted=boxes(predicted, confident=True),
        given_ids=[id_ for id_, *_ in labeled],
        sample_ids=sample_ids,
        class_names=class_names,
        num_unpredicted=len(predicted) - len(sample_ids),
    )


def _holds_detections(target: Target, name: str) -> bool:
    return getattr(target.view.get_field(name), "document_type", None) is fo.Detections


def _read(view: Any, field: str) -> dict[str, list[tuple] | None]:
    """Id, label, relative box and confidence of all objects of each sample; None where empty."""
    parts = [f"{field}.detections.{part}" for part in ("id", "label", "bounding_box", "confidence")]
    return {
        sample_id: None if columns[0] is None else list(zip(*columns))
        for sample_id, *columns in zip(*view.values(["id", *parts]))
    }
