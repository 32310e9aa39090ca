"""Objects that are labeled wrongly, badly placed or missing, by what a detector predicts.

Tkachenko, Thyagarajan and Mueller, "ObjectLab: automated diagnosis of mislabeled images in object
detection data" (2023), through the scores of cleanlab. What is ours is that each given box is
compared with the one prediction that it is matched with, as an image of its own: in crowded
images, ObjectLab compares an object that the detector missed with a neighbor's prediction, and
takes no object for missing that touches a labeled one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# cleanlab measures distances in pixels; boxes are scaled to images of this size.
IMAGE_SIZE = 640

# Boxes that overlap less have nothing to do with each other.
LEAST_OVERLAP = 0.1

# What the same class is worth beside the overlap (IoU) when boxes are matched.
SAME_CLASS = 0.5

# A score below this is flagged: two boxes are the same from here on, as on COCO and Pascal VOC.
FLAGGED = 0.5

# cleanlab's, where no prediction agrees with a label from which it can be learned.
SURE = 0.95

# No detector meets more of the labels than this share, this closely, on images it has not seen.
IN_SAMPLE_SHARE, IN_SAMPLE_OVERLAP = 0.99, 0.9


@dataclass(frozen=True)
class Boxes:
    """Boxes on several images.

    Attributes:
        image: (n,) int64, the image of each
        corners: (n, 4) float64 in [0, 1], left, top, right and bottom
        labels: (n,) int64, class numbers
        confidence: (n,) float64 in [0, 1], of predicted ones; None for given ones
    """

    image: np.ndarray
    corners: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray | None = None


@dataclass(frozen=True)
class ObjectIssues:
    """What a detector's predictions say against the given boxes.

    Attributes:
        quality: (n,) float32 in [0, 1], of each given box, the lower one of its two scores
        wrong: (n,) bool, given boxes whose class is likely another one
        misplaced: (n,) bool, given boxes that likely do not fit the object
        suggested: (n,) int64, the class that is predicted for a wrong one, -1 for others
        confidence: (n,) float32, of that prediction; NaN for others
        missing: (m,) bool, predicted boxes of objects that are likely there and have no label
        warning: that the detector seems to have seen these labels in training, or None
    """

    quality: np.ndarray
    wrong: np.ndarray
    misplaced: np.ndarray
    suggested: np.ndarray
    confidence: np.ndarray
    missing: np.ndarray
    warning: str | None


def find_object_issues(given: Boxes, predicted: Boxes) -> ObjectIssues:
    """Compares given boxes with those that a detector predicts, which has not seen the images.

    A prediction speaks against a label when it is as sure as those that agree with labels are on
    average, as in confident learning.

    Raises:
        ValueError: if the predicted boxes have no confidence
    """
    from cleanlab.object_detection import rank

    if predicted.confidence is None:
        raise ValueError("Predicted boxes need a confidence")
    match, overlap = _matched(given, predicted)
    rows = np.flatnonzero(match >= 0)
    matched = match[rows]
    same = given.labels[rows] == predicted.labels[matched]
    agree = same & (overlap[rows] >= FLAGGED)
    sure = float(predicted.confidence[matched[agree]].mean()) if agree.any() else SURE
    # A mean of equal numbers may be rounded up; and cleanlab asks for more than the threshold.
    sure -= 1e-9

    swap, place = np.ones(len(match)), np.ones(len(match))
    if len(rows):
        pairs = _pairs(given, rows, predicted, matched)
        swap[rows] = np.concatenate(
            rank.compute_swap_box_scores(**pairs, high_probability_threshold=sure)
        )
        place[rows] = np.concatenate(
            rank.compute_badloc_box_scores(**pairs, low_probability_threshold=sure)
        )
    wrong = swap < FLAGGED
    suggested, confidence = np.full(len(match), -1), np.full(len(match), np.nan, np.float32)
    suggested[wrong] = predicted.labels[match[wrong]]
    confidence[wrong] = predicted.confidence[match[wrong]]
    missing = ~_covered(given, predicted) & (predicted.confidence >= sure)
    missing[matched] = False
    return ObjectIssues(
        quality=np.minimum(swap, place).astype(np.float32),
        wrong=wrong,
        misplaced=place < FLAGGED,
        suggested=suggested,
        confidence=confidence,
        missing=missing,
        warning=_in_sample_warning(overlap[rows][same], len(match)),
    )


def _pairs(
    given: Boxes, rows: np.ndarray, predicted: Boxes, columns: np.ndarray
) -> dict[str, list]:
    """Pairs of boxes as cleanlab wants them, one in each image; class 0 is that of the label."""
    assert predicted.confidence is not None, "checked before"
    table = np.column_stack([predicted.corners * IMAGE_SIZE, predicted.confidence])[columns]
    nothing, predictions = np.zeros((0, 5)), []
    for row, same in zip(table[:, None], given.labels[rows] == predicted.labels[columns]):
        of_classes = np.empty(2, object)
        of_classes[:] = (row, nothing) if same else (nothing, row)
        predictions.append(of_classes)
    label = np.zeros(1, np.int64)
    corners = given.corners[rows, None] * IMAGE_SIZE
    return {
        "labels": [{"bboxes": box, "labels": label} for box in corners],
        "predictions": predictions,
    }


def _matched(given: Boxes, predicted: Boxes) -> tuple[np.ndarray, np.ndarray]:
    """One prediction at most for each given box, by overlap and class (Hungarian algorithm).

    Returns:
        (n,) int64, the prediction, -1 for none; (n,) float64, its overlap
    """
    from scipy.optimize import linear_sum_assignment

    match, overlap = np.full(len(given.labels), -1), np.zeros(len(given.labels))
    for rows, columns, shared in _overlaps(given, predicted):
        worth = shared + SAME_CLASS * (given.labels[rows][:, None] == predicted.labels[columns])
        worth[shared < LEAST_OVERLAP] = 0
        row, column = linear_sum_assignment(worth, maximize=True)
        kept = worth[row, column] > 0
        row, column = row[kept], column[kept]
        match[rows[row]], overlap[rows[row]] = columns[column], shared[row, column]
    return match, overlap


def _covered(given: Boxes, predicted: Boxes) -> np.ndarray:
    """(m,) bool, predictions at the place of some given box."""
    covered = np.zeros(len(predicted.labels), bool)
    for _, columns, shared in _overlaps(given, predicted):
        covered[columns] = shared.max(axis=0) >= FLAGGED
    return covered


def _overlaps(boxes: Boxes, others: Boxes) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The rows of both on each image that has some of both, and their overlaps."""
    parts = []
    shared = np.intersect1d(boxes.image, others.image)
    for some in (boxes, others):
        order = np.argsort(some.image, kind="stable")
        starts = np.searchsorted(some.image[order], shared)
        stops = np.searchsorted(some.image[order], shared, side="right")
        parts.append([order[start:stop] for start, stop in zip(starts, stops)])
    return [
        (rows, columns, iou(boxes.corners[rows], others.corners[columns]))
        for rows, columns in zip(*parts)
    ]


def iou(corners: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of each of ``(n, 4)`` boxes with each of ``(m, 4)``."""
    low = np.maximum(corners[:, None, :2], others[:, :2])
    high = np.minimum(corners[:, None, 2:], others[:, 2:])
    both = np.clip(high - low, 0, None).prod(axis=2)
    area, other_area = ((box[:, 2:] - box[:, :2]).prod(axis=1) for box in (corners, others))
    return both / np.maximum(area[:, None] + other_area - both, 1e-12)


def _in_sample_warning(overlap: np.ndarray, num_given: int) -> str | None:
    met = (overlap >= IN_SAMPLE_OVERLAP).sum() / max(num_given, 1)
    if met < IN_SAMPLE_SHARE:
        return None
    return (
        f"{100 * met:.1f} % of the boxes are predicted almost exactly, which is not plausible "
        "for images not seen in training. In-sample predictions hide label "
        "errors; use cross-validated ones, or omit predictions_field"
    )
