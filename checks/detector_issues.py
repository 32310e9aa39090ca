"""What the boxes of a user's detector add to the label issues of patches."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np

from ..storage.predictions import ReadBoxes
from .inputs import Inputs
from .progress import counted

if TYPE_CHECKING:
    from ..analysis.label_issues import LabelIssues


def with_detector(
    inputs: Inputs, found: "LabelIssues", boxes: ReadBoxes
) -> tuple["LabelIssues", tuple[str, ...], dict[str, Any], dict[str, Mapping[str, Any]]]:
    """Adds what a detector's boxes say: issues, names of their classes, result, and fields."""
    from ..analysis.object_issues import find_object_issues

    issues = find_object_issues(boxes.given, boxes.predicted)
    # Classes that only the detector knows have numbers beyond those of the labels.
    more = sorted(set(boxes.class_names) - set(inputs.class_names))
    names = (*inputs.class_names, *more)
    numbers = np.array([names.index(name) for name in boxes.class_names], np.int64)
    places = {id_: row for row, id_ in enumerate(inputs.ids)}
    pairs = [(places[id_], box) for box, id_ in enumerate(boxes.given_ids) if id_ in places]
    rows, boxes_of_rows = np.array(pairs, np.int64).reshape(-1, 2).T
    quality, flagged = found.quality.copy(), found.flagged.copy()
    suggested, confidence = found.suggested.copy(), found.confidence.copy()
    # Whatever speaks against a box counts.
    quality[rows] = np.fmin(quality[rows], issues.quality[boxes_of_rows])
    wrong = issues.wrong[boxes_of_rows]
    reasons = {inputs.ids[row]: ["class"] for row in np.flatnonzero(found.flagged)}
    for row in rows[wrong & ~flagged[rows]]:
        reasons[inputs.ids[row]] = ["class"]
    for row in rows[issues.misplaced[boxes_of_rows]]:
        reasons.setdefault(inputs.ids[row], []).append("box")
    flagged[rows] |= wrong | issues.misplaced[boxes_of_rows]
    suggested[rows[wrong]] = numbers[issues.suggested[boxes_of_rows[wrong]]]
    confidence[rows[wrong]] = issues.confidence[boxes_of_rows[wrong]]
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
    warnings = [*boxes.warnings, *filter(None, [issues.warning])]
    if boxes.num_unpredicted:
        warnings.append(
            f"{counted(boxes.num_unpredicted, 'sample')} without predictions evaluated on the "
            "embeddings alone"
        )
    values: dict[str, Mapping[str, Any]] = {
        "reason": {id_: " and ".join(why) for id_, why in reasons.items()},
        "missing": _unlabeled_boxes(boxes, issues.missing),
    }
    result: dict[str, Any] = {
        "misplaced": int(issues.misplaced[boxes_of_rows].sum()),
        "missing": int(issues.missing.sum()),
        "warnings": warnings,
    }
    return found, names, result, values


def _unlabeled_boxes(boxes: ReadBoxes, missing: np.ndarray) -> dict[str, fo.Detections]:
    """The predicted boxes of objects without a label, by sample."""
    predicted, confidence = boxes.predicted, boxes.predicted.confidence
    of_sample: dict[str, list[fo.Detection]] = {}
    for box in np.flatnonzero(missing).tolist():
        left, top, right, bottom = predicted.corners[box].tolist()
        detection = fo.Detection(
            label=boxes.class_names[predicted.labels[box]],
            bounding_box=[left, top, right - left, bottom - top],
            confidence=None if confidence is None else float(confidence[box]),
        )
        of_sample.setdefault(boxes.sample_ids[predicted.image[box]], []).append(detection)
    return {id_: fo.Detections(detections=found) for id_, found in of_sample.items()}
