"""Every operator on every kind of labels and embeddings: a result, or a refusal that names it."""

import datetime
import uuid

import fiftyone as fo
import numpy as np
import pytest
from battery import call, having, parameters_of, prepare, quick
from forms import dataset as labeled
from killing_cases import of_patches

NUMBER = 24


def _each(make):
    return [make(index) for index in range(NUMBER)]


def _name(index: int) -> str:
    return ("elm", "oak", "ash")[index % 3]


def _box(index: int, **more) -> fo.Detection:
    return fo.Detection(label=_name(index), bounding_box=[0, 0, 0.5, 0.5], **more)


LABELS = {
    "classification": _each(lambda n: fo.Classification(label=_name(n))),
    "classification without label": _each(lambda n: fo.Classification(confidence=0.5)),
    "some of it": _each(lambda n: fo.Classification(label=_name(n)) if n % 2 else None),
    "one class": _each(lambda n: fo.Classification(label="elm")),
    "a class each": _each(lambda n: fo.Classification(label=str(n))),
    "one label": _each(lambda n: fo.Classification(label="elm") if n == 3 else None),
    "classifications": _each(
        lambda n: fo.Classifications(classifications=[fo.Classification(label=_name(n))] * (n % 3))
    ),
    "detections": _each(lambda n: fo.Detections(detections=[_box(n)] * (n % 2))),
    "polylines": _each(
        lambda n: fo.Polylines(
            polylines=[fo.Polyline(label=_name(n), points=[[(0, 0), (0.5, 0.5), (0, 1)]])]
        )
    ),
    "detection": _each(_box),
    "keypoints": _each(
        lambda n: fo.Keypoints(keypoints=[fo.Keypoint(label=_name(n), points=[(0.1, 0.1)])])
    ),
    "segmentation": _each(lambda n: fo.Segmentation(mask=np.zeros((4, 4), np.uint8))),
    "regression": _each(lambda n: fo.Regression(value=n / 7)),
    "strings": _each(_name),
    "empty strings": _each(lambda n: ""),
    "padded strings": _each(lambda n: f" {_name(n)}\n"),
    "integers": _each(lambda n: n % 3 - 1),
    "booleans": _each(lambda n: n % 2 == 0),
    "floats": _each(lambda n: n / 7),
    "dates": _each(lambda n: datetime.datetime(2020, 1, 1 + n % 3)),
    "lists of strings": _each(lambda n: [_name(n), "tree"][: n % 3]),
    "lists of integers": _each(lambda n: [n % 3]),
    "dictionaries": _each(lambda n: {"tree": _name(n)}),
    "none": None,
}

_rows = np.random.default_rng(5).normal(size=(NUMBER, 8))
_rows += 3 * (np.arange(NUMBER) % 3)[:, None]


def _with(row, place: int = 3) -> list:
    return [row if index == place else one for index, one in enumerate(_rows)]


EMBEDDINGS = {
    "lists": [row.tolist() for row in _rows],
    "lists of integers": [np.round(row).astype(int).tolist() for row in _rows],
    "half": list(_rows.astype(np.float16)),
    "double": list(_rows),
    "integers": list(np.round(_rows).astype(np.int64)),
    "complex": list(_rows.astype(complex)),
    "not a number": _with(np.full(8, np.nan)),
    "infinite": _with(np.full(8, np.inf)),
    "huge": _with(np.full(8, 1e300)),
    "another length": _with(np.ones(5)),
    "no length": _with(np.zeros(0)),
    "a matrix": _with(np.ones((2, 4))),
    "zeros in one": _with(np.zeros(8)),
    "all zeros": [np.zeros(8)] * NUMBER,
    "all equal": [_rows[0]] * NUMBER,
    "only not numbers": [np.full(8, np.nan)] * NUMBER,
    "of one number": list(_rows[:, :1]),
    "two lengths": [row[: 4 + 4 * (n % 2)] for n, row in enumerate(_rows)],
    "one only": [row if n == 3 else None for n, row in enumerate(_rows)],
    "matrices": [row.reshape(2, 4) for row in _rows],
    "none": None,
    "texts": [str(n) for n in range(NUMBER)],
}


def _field(kind: str) -> str:
    return kind.replace(" ", "_")


@pytest.fixture(scope="module")
def kinds():
    """A dataset with a field for each kind of labels and of embeddings."""
    made = labeled()
    made.name = f"kinds-{uuid.uuid4().hex[:8]}"
    made.add_sample_field("of_none", fo.EmbeddedDocumentField, embedded_doc_type=fo.Classification)
    for kind, values in LABELS.items():
        if values is not None:
            made.set_values(f"of_{_field(kind)}", values)
    made.add_sample_field("in_none", fo.VectorField)
    for kind, values in EMBEDDINGS.items():
        if values is None:
            continue
        if kind not in ("lists", "lists of integers", "texts"):
            matrices = kind in ("a matrix", "matrices")
            made.add_sample_field(
                f"in_{_field(kind)}", fo.ArrayField if matrices else fo.VectorField
            )
        made.set_values(f"in_{_field(kind)}", values)
    yield made
    made.delete()


def check(dataset, name, parameter, field):
    given = {**parameters_of(name, dataset), parameter: field}
    for answer in prepare(name, dataset):
        assert answer.fault is None, answer.fault
    answer = call(name, dataset, **given)
    assert answer.fault is None, answer.fault
    if answer.refusal is not None:
        # Those that are left may be too few, or of one class.
        named = (parameter, field, "for these samples")
        assert any(one in answer.refusal for one in named), answer.refusal


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("name", quick(having("label_field"), ["find_label_issues"]))
def test_kinds_of_labels(kinds, name, kind):
    check(kinds, name, "label_field", f"of_{_field(kind)}")


@pytest.mark.parametrize("kind", EMBEDDINGS)
@pytest.mark.parametrize("name", quick(having("embeddings"), ["find_outliers"]))
def test_kinds_of_embeddings(kinds, name, kind):
    check(kinds, name, "embeddings", f"in_{_field(kind)}")


@pytest.mark.battery
@pytest.mark.parametrize("parameter", ["by", "split", "predictions_field", "start_from"])
@pytest.mark.parametrize("kind", LABELS)
def test_kinds_of_slices(kinds, parameter, kind):
    for name in having(parameter):
        check(kinds, name, parameter, f"of_{_field(kind)}")


BOXES = {
    "three numbers": [0.1, 0.1, 0.5],
    "five numbers": [0.1, 0.1, 0.5, 0.5, 0.5],
    "no numbers": [],
    "no box": None,
    "not a number": [float("nan"), 0.1, 0.5, 0.5],
    "infinite": [0.1, 0.1, float("inf"), 0.5],
    "huge": [1e308, 0.1, 1e308, 0.5],
    "backwards": [0.5, 0.5, -0.2, -0.2],
    "no size": [0.5, 0.5, 0.0, 0.0],
    "in pixels": [12.0, 3.0, 10.0, 10.0],
}


@pytest.mark.parametrize("kind", BOXES)
@pytest.mark.parametrize("name", quick(having("patches_field"), ["find_duplicates"]))
def test_kinds_of_boxes(patches, name, kind):
    """One is broken; the others have their results."""
    dataset = patches.clone()
    place = {"$set": {"boxes.detections.0.bounding_box": BOXES[kind]}}
    dataset._sample_collection.update_one({"boxes": {"$ne": None}}, place)
    dataset.reload()
    for answer in prepare(name, dataset, "boxes"):
        assert answer.fault is None, answer.fault
    answer = call(name, dataset, **parameters_of(name, dataset, "boxes"))
    dataset.delete()
    assert answer.fault is None and answer.refusal is None, answer


@pytest.fixture(scope="module")
def patches():
    made = of_patches("boxes")
    yield made
    made.delete()
