"""What every operator leaves: the same again the second time, and nothing when it is removed."""

import hashlib
from pathlib import Path

import fiftyone as fo
import fiftyone.core.odm as foo_odm
import pytest
from battery import called, operator, parameters_of, prepare, quick
from forms import dataset as labeled
from killing import State, _clean, differences
from killing_cases import of_patches

# What these operators do to what is the user's: that is what they are for.
CHANGES = {
    "review_label_issues": "species",
    "remove_redundant": "tags",
}

# What FiftyOne notes of a dataset when it is loaded, used and declared anew.
NOTED = ("last_loaded_at", "last_modified_at", "sample_fields", "frame_fields", "saved_views")
NOTED += ("runs", "brain_methods", "last_deletion_at")


def stored(dataset: fo.Dataset) -> dict:
    """The document of a dataset, without its runs, and with its fields by name."""
    document = foo_odm.get_db_conn().datasets.find_one({"_id": dataset._doc.id})
    fields = {one["name"]: one for one in document["sample_fields"]}
    views = foo_odm.get_db_conn().views.find({"_dataset_id": dataset._doc.id})
    return {
        "document": {key: one for key, one in document.items() if key not in NOTED},
        # FiftyOne makes the fields of metadata anew when it declares any field.
        "fields": {key: _clean(one) for key, one in fields.items()},
        "views": [_clean(view) for view in views],
    }


def users(dataset: fo.Dataset, names: set[str]) -> dict:
    """The user's values of each sample as the database holds them."""
    collection = foo_odm.get_db_conn()[dataset._sample_collection_name]
    return {
        str(one["_id"]): {key: value for key, value in one.items() if key in names}
        for one in collection.find()
    }


def sums(dataset: fo.Dataset) -> dict[str, str]:
    paths = set(dataset.values("filepath"))
    return {path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths}


def told(wanted: object, found: object) -> str:
    return "\n".join(differences(wanted, found))


@pytest.fixture(scope="module", params=quick(["samples", "patches"], ["samples"]))
def kept(request):
    """A dataset of the user's, with words, tags, views and a run of their own."""
    made = labeled() if request.param == "samples" else of_patches("boxes")
    made.limit(9).tag_samples("keep, please")
    made.info = {"from": "a shelf"}
    made.tags = ["of mine"]
    made.save_view("mine, worst first", made.sort_by("note", reverse=True).limit(7))
    made.register_run("my_training", made.init_run(method="training", epochs=3))
    if request.param == "patches":
        made.delete_samples(made.match(~fo.ViewField("boxes").exists()).values("id"))
    made.reload()
    yield made, "boxes" if request.param == "patches" else None
    made.delete()


@pytest.fixture
def clone(kept):
    made, patches = kept
    clone = made.clone()
    yield clone, patches
    clone.delete()


@pytest.mark.parametrize("name", quick(called(), {*called()} - {"audit", "update_audit"}))
def test_what_is_left(clone, name):
    dataset, patches = clone
    if patches:
        # One without a label, for what suggests some.
        first = dataset.first()
        first[patches].detections[0].label = None
        first.save()
    own = {one["db_field"] for one in stored(dataset)["fields"].values()} - {"last_modified_at"}
    own -= {CHANGES.get(name), *([patches] if patches else [])}
    pristine, about = State.of(dataset), stored(dataset)
    values, files = users(dataset, own), sums(dataset)

    assert not [one.fault for one in prepare(name, dataset, patches) if one.fault]
    parameters = parameters_of(name, dataset, patches)
    before = State.of(dataset)
    again = {"overwrite": True} if name == "export_report" else {}
    operator(name)(dataset, **parameters)
    dataset.reload()
    first = State.of(dataset)
    if name != "delete_run":
        operator(name)(dataset, **parameters, **again)
        assert told(first, State.of(dataset)) == ""
    if name in ("list_runs", "export_report"):
        assert told(before, first) == ""

    dataset.reload()
    assert sums(dataset) == files
    assert users(dataset, own) == values
    now = stored(dataset)
    # Among the fields of patches there are those of the run, too.
    kept = {"fields": {key: one for key, one in about["fields"].items() if key != patches}}
    kept |= {"document": about["document"], "views": about["views"]}
    now["fields"] = {key: now["fields"].get(key) for key in kept["fields"]}
    now["views"] = now["views"][: len(about["views"])]
    assert told(kept, now) == ""

    if name == "review_label_issues":
        operator(name)(dataset, decision="undo")
    if name == "remove_redundant":
        dataset.untag_samples("duplicates_remove")
        if patches:
            dataset.untag_labels("duplicates_remove")
    rows = operator("list_runs")(dataset, check=False)["runs"]
    for key in sorted(
        {row["run_key"]: row["operator"] for row in rows}, key=lambda key: "_graph_" in key
    ):
        if key in dataset.list_runs() or key in dataset.list_brain_runs():
            operator("delete_run")(dataset, run_key=key)
    dataset.reload()
    assert told(pristine, State.of(dataset)) == ""
    now = stored(dataset)
    assert told(about, now) == ""
    assert users(dataset, own) == values
    assert dataset.list_runs() == ["my_training"] and dataset.list_brain_runs() == []
