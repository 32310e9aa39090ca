"""Fields, classes and runs of any name: they work, or are refused by name."""

import uuid

import fiftyone as fo
import pytest
from battery import call, called, having, known, parameters_of, prepare, quick
from forms import dataset as labeled
from killing_cases import of_patches

NAMES = (
    *("ground_truth", "detections", "samples", "frames", "patches", "label", "id_", "metadata_"),
    *(
        "with space",
        "a,b",
        "$x",
        "été",
        "日本",
        "<b>bold</b>",
        "_x",
        "1st",
        "a-b",
        "%s",
        "{}",
        "`c`",
    ),
    *("x" * 120, "support", "sample_id", "frame_number", "outliers", "outliers_score", "null"),
)

QUICK = ("<b>bold</b>",)


def renamed(name: str, of_boxes: bool) -> fo.Dataset | None:
    """A dataset whose fields have that name, or None if FiftyOne has none of that name."""
    made = of_patches("boxes") if of_boxes else labeled()
    try:
        made.rename_sample_field("boxes" if of_boxes else "species", name)
        if not of_boxes:
            made.rename_sample_field("vec", f"{name}_vec")
        made.reload()
        made.values(name)
    except Exception:
        made.delete()
        return None
    return made


@pytest.fixture(scope="module", params=quick(NAMES, QUICK))
def labels_called(request):
    made = renamed(request.param, of_boxes=False)
    if made is None:
        pytest.skip(f"FiftyOne has no field {request.param!r}")
    yield made, request.param
    made.delete()


@pytest.fixture(scope="module", params=quick(NAMES, ()))
def boxes_called(request):
    made = renamed(request.param, of_boxes=True)
    if made is None:
        pytest.skip(f"FiftyOne has no field {request.param!r}")
    yield made, request.param
    made.delete()


def check(dataset, name, given, patches, *hard):
    for one in prepare(name, dataset, patches):
        assert one.fault is None, one.fault
    answer = call(name, dataset, **given)
    assert answer.fault is None, answer.fault
    if answer.refusal is not None:
        assert any(repr(one) in answer.refusal or one in answer.refusal for one in hard), (
            answer.refusal
        )


@pytest.mark.parametrize("name", having("label_field"))
def test_names_of_fields(labels_called, name):
    dataset, hard = labels_called
    given = parameters_of(name, dataset) | {"label_field": hard, "embeddings": f"{hard}_vec"}
    check(dataset, name, given, None, hard, "label_field=")


@pytest.mark.parametrize("name", having("patches_field"))
def test_names_of_patches(boxes_called, name):
    dataset, hard = boxes_called
    check(dataset, name, parameters_of(name, dataset, hard), hard, hard)


CLASSES = ("<b>bold</b>", "a, b", "$x", "a.b", "été", " ", "None", "[1]", "`|*_", "x" * 3000, "\0")


@pytest.fixture(scope="module")
def classes():
    made = labeled()
    made.set_values(
        "species", [fo.Classification(label=CLASSES[n % len(CLASSES)]) for n in range(24)]
    )
    made.limit(3).set_values("species", [None] * 3)
    yield made
    made.delete()


@pytest.mark.battery
@pytest.mark.parametrize("name", called())
def test_names_of_classes(classes, name):
    check(classes, name, parameters_of(name, classes), None)


@pytest.fixture(scope="module")
def plain():
    made = labeled()
    yield made
    made.delete()


@pytest.mark.parametrize("hard", quick(NAMES, QUICK))
@pytest.mark.parametrize(
    "name", [name for name in called() if {"run_key", "brain_key"} & known(name).keys()]
)
def test_names_of_runs(plain, name, hard):
    parameter = "run_key" if "run_key" in known(name) else "brain_key"
    check(plain, name, {**parameters_of(name, plain), parameter: hard}, None, hard, parameter)


@pytest.mark.battery
@pytest.mark.parametrize("hard", ["<b>", "a, b: c", "été/../x", "%s {}"])
def test_names_of_datasets(hard):
    made = labeled()
    made.name = f"{hard} {uuid.uuid4().hex[:4]}"
    for name in called():
        check(made, name, parameters_of(name, made), None)
    made.delete()
