"""Issues of objects beside a detector's predictions: COCO128 with planted errors, and cleanlab."""

import json
from dataclasses import replace

import numpy as np
import pytest
from fiftyone_embedding_quality.analysis.object_issues import Boxes, find_object_issues, iou

NUM_IMAGES, NUM_CLASSES = 128, 80
NAMES = ("image", "corners", "labels", "confidence")


@pytest.fixture(scope="module")
def truth(excerpt) -> Boxes:
    """The boxes of COCO128."""
    coco = json.loads((excerpt / "coco128" / "labels.json").read_text())
    images = {image["id"]: (row, image) for row, image in enumerate(coco["images"])}
    classes = {category["id"]: row for row, category in enumerate(coco["categories"])}
    image_rows, corners, labels = [], [], []
    for box in coco["annotations"]:
        row, image = images[box["image_id"]]
        left, top, width, height = box["bbox"]
        scale = np.array([image["width"], image["height"]] * 2)
        image_rows.append(row)
        corners.append(np.array([left, top, left + width, top + height]) / scale)
        labels.append(classes[box["category_id"]])
    return Boxes(np.array(image_rows), np.array(corners), np.array(labels))


@pytest.fixture(scope="module")
def detector(truth) -> Boxes:
    """What a good detector says: most boxes, a little off, some unsure, and some of nothing."""
    rng = np.random.default_rng(0)
    found = rng.random(len(truth.labels)) < 0.9
    sizes = np.tile(truth.corners[:, 2:] - truth.corners[:, :2], 2)
    corners = truth.corners + 0.04 * sizes * rng.standard_normal(truth.corners.shape)
    sure = rng.uniform(0, 0.7, len(sizes))
    sure[rng.random(len(sizes)) < 0.8] += 0.3
    low = rng.random((60, 2)) * 0.8
    nothing = np.concatenate([low, low + 0.05 + 0.15 * rng.random((60, 2))], axis=1)
    return Boxes(
        np.concatenate([truth.image[found], rng.integers(0, NUM_IMAGES, 60)]),
        np.concatenate([corners[found], nothing]).clip(0, 1),
        np.concatenate([truth.labels[found], rng.integers(0, NUM_CLASSES, 60)]),
        np.concatenate([sure[found], rng.uniform(0, 0.5, 60)]),
    )


@pytest.fixture(scope="module")
def planted(truth):
    """Each twentieth box of a wrong class, each twentieth half beside its object, or left out."""
    rng = np.random.default_rng(1)
    kind = rng.choice(4, len(truth.labels), p=[0.85, 0.05, 0.05, 0.05])
    labels = np.where(kind == 1, (truth.labels + 7) % NUM_CLASSES, truth.labels)
    corners = truth.corners.copy()
    width = corners[:, 2] - corners[:, 0]
    corners[kind == 2, 0] += 0.75 * width[kind == 2]
    kept = kind != 3
    return Boxes(truth.image[kept], corners[kept], labels[kept]), kind[kept], kind == 3


def images(boxes: Boxes, flagged: np.ndarray) -> np.ndarray:
    of = np.zeros(NUM_IMAGES, bool)
    of[boxes.image[flagged]] = True
    return of


def test_planted_errors_are_found(truth, detector, planted):
    given, kind, left_out = planted
    found = find_object_issues(given, detector)
    assert (kind == 1)[found.wrong].mean() > 0.9 and found.wrong[kind == 1].mean() > 0.35
    right = truth.labels[~left_out]
    assert (found.suggested == right)[found.wrong & (kind == 1)].all()
    assert (found.confidence[found.wrong] > 0.5).all()
    assert (found.suggested[~found.wrong] == -1).all()
    assert (kind == 2)[found.misplaced].mean() > 0.9 and found.misplaced[kind == 2].mean() > 0.35
    assert found.missing.sum() >= 20
    for image, corners, label in zip(
        *(getattr(detector, name)[found.missing] for name in NAMES[:3])
    ):
        same = left_out & (truth.image == image) & (truth.labels == label)
        assert same.any() and iou(corners[None], truth.corners[same]).max() > 0.5
    assert found.warning is None


@pytest.mark.slow
def test_flagged_images_beside_those_of_cleanlab(detector, planted):
    """On the same boxes, cleanlab by itself flags pictures in which the detector missed objects."""
    from cleanlab.object_detection.filter import find_label_issues

    given, kind, _ = planted
    found = find_object_issues(given, detector)
    ours = images(given, found.wrong | found.misplaced) | images(detector, found.missing)
    labels = [
        {"bboxes": given.corners[of] * 640, "labels": given.labels[of]}
        for of in (given.image == image for image in range(NUM_IMAGES))
    ]
    rows = np.column_stack([detector.corners * 640, detector.confidence])
    predictions = []
    for image in range(NUM_IMAGES):
        of_classes = np.empty(NUM_CLASSES, object)
        for label in range(NUM_CLASSES):
            of_classes[label] = rows[(detector.image == image) & (detector.labels == label)]
        predictions.append(of_classes)
    theirs = find_label_issues(labels, predictions)
    bad = images(given, kind > 0)
    assert bad[ours].mean() > bad[theirs].mean()
    assert bad[ours].sum() > bad[theirs].sum()


def test_confidence_counts_beside_that_of_predictions_that_agree(detector, planted):
    """A detector that is never surer than 0.5 finds the same."""
    given, *_ = planted
    found = find_object_issues(given, detector)
    unsure = find_object_issues(given, replace(detector, confidence=detector.confidence / 2))
    for name in ("wrong", "misplaced", "missing"):
        np.testing.assert_array_equal(getattr(unsure, name), getattr(found, name))


@pytest.mark.parametrize("confidence", [0.9, 0.3, 1 / 3])
def test_a_detector_that_is_always_equally_sure_finds_what_is_missing(confidence):
    """The mean of its confidences is rounded, and must not be above each of them."""
    corners = np.array([[0.1, 0.1, 0.3, 0.4], [0.5, 0.5, 0.8, 0.9], [0.2, 0.6, 0.4, 0.8]])
    images, labels = np.repeat(np.arange(60), 3), np.tile([0, 1, 2], 60)
    predicted = Boxes(images, np.tile(corners, (60, 1)), labels, np.full(180, confidence))
    labeled = images % 6 != 1
    given = Boxes(images[labeled], predicted.corners[labeled] + 0.01, labels[labeled])
    found = find_object_issues(given, predicted)
    np.testing.assert_array_equal(found.missing, ~labeled)


def test_the_order_of_boxes_does_not_matter(detector, planted):
    given, *_ = planted
    found = find_object_issues(given, detector)
    rng = np.random.default_rng(2)
    first, second = rng.permutation(len(given.labels)), rng.permutation(len(detector.labels))
    moved = find_object_issues(
        Boxes(*(getattr(given, name)[first] for name in NAMES[:3])),
        Boxes(*(getattr(detector, name)[second] for name in NAMES)),
    )
    for name in ("quality", "wrong", "misplaced", "suggested", "confidence"):
        np.testing.assert_array_equal(getattr(moved, name), getattr(found, name)[first])
    np.testing.assert_array_equal(moved.missing, found.missing[second])


def test_predictions_of_labels_seen_in_training_are_told(truth):
    seen = replace(truth, confidence=np.full(len(truth.labels), 0.99))
    found = find_object_issues(truth, seen)
    assert "In-sample" in found.warning
    assert not (found.wrong | found.misplaced | found.missing).any()


def boxes(image=(), corners=(), labels=(), confidence=None) -> Boxes:
    return Boxes(
        np.array(image, np.int64),
        np.array(corners, np.float64).reshape(-1, 4),
        np.array(labels, np.int64),
        None if confidence is None else np.array(confidence, np.float64),
    )


def test_images_without_boxes():
    """Of three pictures, one has only a given box, one only a predicted one, one neither."""
    given = boxes([0], [[0.1, 0.1, 0.5, 0.5]], [0])
    predicted = boxes([2], [[0.2, 0.2, 0.6, 0.6]], [1], [0.99])
    found = find_object_issues(given, predicted)
    assert found.quality.tolist() == [1.0] and not (found.wrong | found.misplaced).any()
    assert found.missing.tolist() == [True]
    assert find_object_issues(
        given, replace(predicted, confidence=np.array([0.6]))
    ).missing.tolist() == [False]
    nothing = boxes(confidence=[])
    assert find_object_issues(given, nothing).suggested.tolist() == [-1]
    assert find_object_issues(boxes(), predicted).missing.tolist() == [True]
    assert len(find_object_issues(boxes(), nothing).missing) == 0


def test_an_object_that_the_detector_missed_is_not_compared_with_its_neighbor():
    given = boxes([0, 0], [[0.1, 0.1, 0.5, 0.5], [0.4, 0.1, 0.8, 0.5]], [0, 0])
    predicted = boxes([0], [[0.1, 0.1, 0.5, 0.5]], [0], [0.9])
    assert find_object_issues(given, predicted).misplaced.tolist() == [False, False]


def test_predictions_need_a_confidence():
    given = boxes([0], [[0.1, 0.1, 0.5, 0.5]], [3])
    with pytest.raises(ValueError, match="confidence"):
        find_object_issues(given, given)
