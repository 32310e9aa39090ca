"""Predictions of a user's own model: what cannot be what it claims to be is refused by name."""

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest

LABELS = ("fig", "plum", "pear")


@pytest.fixture
def orchard(dataset):
    random = np.random.default_rng(8)
    for index in range(60):
        vec = (np.eye(6)[index % 3] + 0.1 * random.normal(size=6)).astype(np.float32)
        label = LABELS[index % 3]
        boxes = [fo.Detection(label=label, bounding_box=[0.1, 0.1, 0.4, 0.4], vec=vec)]
        dataset.add_sample(
            fo.Sample(
                f"/nowhere/{index}.png",
                vec=vec,
                fruit=fo.Classification(label=label),
                seen=fo.Detections(detections=boxes),
            )
        )
    dataset.add_sample_field("seen.detections.vec", fo.VectorField)
    return dataset


def find(dataset, guess):
    """Label issues of the samples with predictions that ``guess`` makes of number and label."""
    dataset.set_values("guess", [guess(index, LABELS[index % 3]) for index in range(len(dataset))])
    operator = foo.get_operator("@embedding/quality/find_label_issues")
    return operator(dataset, embeddings="vec", label_field="fruit", predictions_field="guess")


def sure(label, confidence=0.8):
    return fo.Classification(label=label, confidence=confidence)


def scores(label, row):
    return fo.Classification(label=label, confidence=max(row), logits=np.array(row))


def soft(index, high=0.8, total=1.0):
    row = [(total - high) / 2] * 3
    row[index % 3] = high
    return row


@pytest.mark.parametrize(
    "guess, message",
    [
        (lambda i, label: sure(label, 97.0), "divide percentages by 100"),
        (lambda i, label: sure(label, -0.5 if i == 7 else 0.5), "of 1 of 60 predictions"),
        (lambda i, label: sure(label, float("nan")), "is not a number between 0 and 1"),
        (lambda i, label: sure(label.upper()), r"'FIG', 'PEAR', 'PLUM'\) is among the labels"),
        (lambda i, label: scores(label, [100 * one for one in soft(i)]), "percentages"),
        (lambda i, label: scores(label, soft(i, 0.9, 1.4)), "do not sum to 1"),
        (lambda i, label: scores(label, [np.nan, 0, 1]), "NaN"),
    ],
)
def test_refused_by_name(orchard, guess, message):
    with pytest.raises(ValueError, match=message) as error:
        find(orchard, guess)
    assert "predictions_field='guess'" in str(error.value) and orchard.list_runs() == [
        key for key in orchard.list_runs() if "graph" in key
    ]


def test_a_rounded_row_makes_no_logits_of_the_others(orchard):
    """Taken for logits, 0.8 and 0.1 would be hardly different: nothing would be told apart."""
    exact = find(orchard, lambda i, label: scores(label, soft(i if i else 1)))
    rounded = find(
        orchard, lambda i, label: scores(label, soft(i if i else 1, 0.8, 0.98 if i == 5 else 1))
    )
    assert exact["flagged"] == rounded["flagged"]
    assert orchard.first().label_issues_suggested.confidence > 0.7


def test_classes_that_no_label_has_are_told(orchard):
    result = find(orchard, lambda i, label: sure("kiwi" if i % 9 == 0 else label))
    assert "Predicted classes without any label: 'kiwi'" in result["warnings"]


def boxed(dataset, box=None, confidence=0.9, label=None):
    """Label issues of the patches beside a detector's boxes."""
    dataset.set_values(
        "found",
        [
            fo.Detections(
                detections=[
                    fo.Detection(
                        label=label or LABELS[index % 3],
                        bounding_box=box(index) if box else [0.1, 0.1, 0.4, 0.4],
                        confidence=confidence,
                    )
                ]
            )
            for index in range(len(dataset))
        ],
    )
    operator = foo.get_operator("@embedding/quality/find_label_issues")
    return operator(
        dataset,
        embeddings="vec",
        label_field="seen",
        patches_field="seen",
        predictions_field="found",
    )


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"box": lambda i: [10, 10, 20, 20]}, "divide pixels by the width"),
        ({"box": lambda i: [2, 2, 0.1, 0.1]}, "are not relative"),
        ({"box": lambda i: [float("nan")] * 4}, "are not relative"),
        ({"confidence": 97.0}, "divide percentages by 100"),
        ({"confidence": -0.5}, "is not a number between 0 and 1"),
        ({"label": "kiwi"}, "none of the predicted classes"),
    ],
)
def test_boxes_refused_by_name(orchard, parameters, message):
    with pytest.raises(ValueError, match=message):
        boxed(orchard, **parameters)


def test_single_broken_boxes_are_left_out(orchard):
    def box(index):
        return [30, 30, 20, 20] if index == 4 else [0.1, 0.1, 0.4, 0.4]

    result = boxed(orchard, box=box)
    assert any("1 of 60 boxes" in text and "skipped" in text for text in result["warnings"])
    assert result["judged"] == 60
