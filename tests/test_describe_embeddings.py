"""Embeddings that were computed elsewhere: what made them is told, and nothing else is touched."""

import json
import re

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from test_forms import form, told

PREFIX = "@embedding/quality/"
NUMBER, LENGTH = 30, 12


def operator(name):
    return foo.get_operator(PREFIX + name)


def panel(dataset):
    """What the panel Dataset quality shows, as one text."""
    call = {"panel_id": "any", "__method__": "on_load", "panel_state": {}}
    result = foo.execute_operator(PREFIX + "dataset_quality", {"dataset": dataset}, params=call)
    return json.dumps([request.to_json() for request in result.executor._requests])


def _samples(seed=0, length=LENGTH):
    """Harbors and meadows, whose embeddings point to two sides."""
    random = np.random.default_rng(seed)
    for index in range(NUMBER):
        side = np.full(length, 1 - 2 * (index % 2))
        yield fo.Sample(
            f"/none/{seed}-{index}.png",
            far=(random.normal(size=length) + side).astype(np.float32),
            place=fo.Classification(label=("harbor", "meadow")[index % 2]),
        )


@pytest.fixture
def places(dataset):
    dataset.add_samples(_samples())
    return dataset


@pytest.fixture
def other_places():
    dataset = fo.Dataset()
    dataset.add_samples(_samples(seed=7))
    yield dataset
    dataset.delete()


def test_what_made_them_is_told_everywhere_and_forgotten_again(places, tmp_path):
    before = places.values("far")
    fields, info = places.get_field_schema(flat=True).keys(), places.get_field("far").info
    result = operator("describe_embeddings")(
        places[:4], embeddings="far", model="gull-large 2", of="images", text_side="gull text"
    )
    json.dumps(result)
    assert (result["run_key"], result["model"], result["dim"]) == ("far", "gull-large 2", LENGTH)
    # Of all that the field holds, whatever view it was called on.
    assert (result["read"], result["judged"], result["skipped"]) == (NUMBER, NUMBER, {})
    assert "with **gull-large 2**" in operator("describe_embeddings").summary(result)
    separability = operator("compute_separability")(places, embeddings="far", label_field="place")
    assert separability["model"] == "gull-large 2"
    reduced = operator("reduce_embeddings")(places, embeddings="far", num_dims=3)
    assert reduced["model"].startswith("gull-large 2 reduced to 3")
    listed = operator("list_runs")(places)
    rows = {row["run_key"]: row for row in listed["runs"]}
    assert rows["far"]["model"] == rows["separability"]["model"] == "gull-large 2"
    assert rows["far"]["reasons"] == [] and rows["far"]["found"] == "30 embeddings, 12 dimensions"
    assert "gull-large 2" in operator("list_runs").summary(listed)
    assert "gull-large 2" in panel(places)
    operator("export_report")(places, path=str(tmp_path))
    page = next(tmp_path.rglob("*.html")).read_text()
    assert "gull-large 2" in page

    removed = operator("delete_run")(places, run_key="far")
    assert removed["fields"] == [] and removed["brain_runs"] == []
    assert np.array_equal(places.values("far"), before)
    assert places.get_field("far").info == info
    operator("delete_run")(places, run_key="far_pca")
    assert places.get_field_schema(flat=True).keys() == fields


def test_embeddings_of_two_models_are_not_compared(places, other_places):
    describe, compare = operator("describe_embeddings"), operator("compare_datasets")
    call = {"embeddings": "far", "other": other_places.name, "check_pictures": False}
    # What neither has described may be of one model.
    assert compare(places, **call)["compared_with"] == NUMBER
    describe(places, embeddings="far", model="gull")
    describe(other_places, embeddings="far", model="tern")
    with pytest.raises(ValueError, match="are of tern, and those here are of gull"):
        compare(places, **call)
    describe(other_places, embeddings="far", model="gull")
    assert compare(places, **call)["model"] == "gull"


def test_a_known_model_is_called_as_the_plugin_calls_it(places, digits, compute_embeddings):
    compute_embeddings(digits, model="cnn", embeddings="mine")
    operator("describe_embeddings")(digits, embeddings="far", model="cnn")
    runs = {row["run_key"]: row["model"] for row in operator("list_runs")(digits)["runs"]}
    assert runs["far"] == runs["mine"]


def test_nothing_is_computed_into_what_is_described(digits, places, compute_embeddings):
    operator("describe_embeddings")(places, embeddings="far", model="gull")
    for call in ({"model": "cnn"}, {"model": "cnn", "overwrite": True}):
        with pytest.raises(ValueError, match=r"of gull that were computed elsewhere.*choose"):
            compute_embeddings(places, embeddings="far", **call)
    places.delete_sample_field("far")
    row = operator("list_runs")(places)["runs"][0]
    assert row["stale"] and "no such field" in row["reasons"][0]
    with pytest.raises(ValueError, match=re.escape("delete_run(run_key='far')")):
        compute_embeddings(places, embeddings="far", model="cnn")
    operator("delete_run")(places, run_key="far")
    compute_embeddings(places, embeddings="far", model="cnn")
    with pytest.raises(ValueError, match="filled by compute_embeddings with timm:"):
        operator("describe_embeddings")(places, embeddings="far", model="gull")


def test_patches_are_described_apart_from_their_samples(dataset):
    random = np.random.default_rng(3)
    for sample in _samples():
        boxes = [
            fo.Detection(label="boat", bounding_box=[0.1, 0.1, 0.2, 0.2], far=random.normal(size=5))
            for _ in range(2)
        ]
        sample["boats"] = fo.Detections(detections=boxes)
        dataset.add_sample(sample, dynamic=True)
    dataset.add_sample_field("boats.detections.far", fo.VectorField)
    result = operator("describe_embeddings")(
        dataset, embeddings="far", model="tern", of="patches", patches_field="boats"
    )
    assert result["run_key"] == "boats_detections_far" and result["dim"] == 5
    assert result["judged"] == 2 * NUMBER and result["things"] == "patches"
    found = operator("find_outliers")(
        dataset, embeddings="far", patches_field="boats", check_pictures=False
    )
    assert found["model"] == "tern"
    assert (
        operator("find_outliers")(dataset, embeddings="far", check_pictures=False)["model"] is None
    )


def test_embeddings_within_a_document(places):
    rows = places.values("far")
    places.add_sample_field(
        "deep", fo.EmbeddedDocumentField, embedded_doc_type=fo.DynamicEmbeddedDocument
    )
    places.set_values("deep.sea", [row[:7] for row in rows], dynamic=True)
    places.add_sample_field("deep.sea", fo.VectorField)
    call = {"embeddings": "deep.sea", "model": "squid"}
    result = operator("describe_embeddings")(places, **call, similarity_index="find")
    assert (result["run_key"], result["dim"]) == ("deep_sea", 7)
    found = operator("find_outliers")(places, embeddings="deep.sea", check_pictures=False)
    assert found["model"] == "squid"
    assert places.load_brain_results("find").total_index_size == NUMBER
    # Another field whose run would have the same name.
    places.set_values("deep_sea", rows)
    with pytest.raises(ValueError, match="is already described under the same name 'deep_sea'"):
        operator("describe_embeddings")(places, embeddings="deep_sea", model="kelp")


def test_what_cannot_be_of_one_model_is_refused(places):
    first, second = places[:2]
    first["far"] = np.ones(5, np.float32)
    first.save()
    with pytest.raises(
        ValueError, match="not from one model: 1 × embedding of length 5, where most"
    ):
        operator("describe_embeddings")(places, embeddings="far", model="gull")
    assert places.list_runs() == []
    first["far"] = np.full(LENGTH, np.nan, np.float32)
    second["far"] = None
    first.save()
    second.save()
    result = operator("describe_embeddings")(places, embeddings="far", model="gull")
    assert result["skipped"] == {"embedding with NaN or infinity": 1, "no embedding": 1}
    # Embeddings of another length in their place are not those that were described.
    places.set_values("far", [np.ones(4, np.float32)] * NUMBER)
    (row,) = operator("list_runs")(places)["runs"]
    assert row["reasons"] == ["the embeddings now have length 4, was 12; describe them again"]


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"embeddings": "place"}, "embeddings='place' is of type EmbeddedDocumentField"),
        ({"embeddings": "none"}, "embeddings='none': there is no such field"),
        ({"model": " "}, "model='' is empty; pass a value"),
        ({"model": "two\nlines"}, "model= must be one line of at most 500 characters"),
        ({"of": "x" * 501}, "of= must be one line"),
        ({"metric": "hamming"}, "metric='hamming' is not known; choose 'cosine', 'dot', 'euclid"),
        ({"text_side": "open_clip:ViT-B-32", "similarity_index": "find"}, "text_side='open_clip"),
        ({"similarity_index": "two words"}, "similarity_index='two words' cannot be the name"),
        ({"similarity_index": "theirs"}, "similarity_index='theirs': the dataset already has"),
    ],
)
def test_wrong_parameters(places, parameters, message):
    import fiftyone.brain as fob

    fob.compute_visualization(places, points=np.zeros((NUMBER, 2)), brain_key="theirs")
    with pytest.raises(ValueError, match=message):
        operator("describe_embeddings")(
            places, **{"embeddings": "far", "model": "gull", **parameters}
        )
    assert places.list_runs() == [] and places.list_brain_runs() == ["theirs"]


def test_the_form_asks_for_the_model_alone(places, digits, compute_embeddings):
    fields = form("describe_embeddings", places)
    assert fields["model"]["required"] and "error" not in fields
    assert told(fields).startswith("30 embeddings in far will be read and not changed")
    assert "similarity_index" not in fields
    fields = form("describe_embeddings", places, model="gull", searchable=True)
    assert fields["similarity_index"]["view"]["placeholder"] == "far_similarity"
    made = operator("describe_embeddings")(places, embeddings="far", model="gull")
    assert "which currently names 'gull'" in told(form("describe_embeddings", places, model="tern"))
    operator("delete_run")(places, run_key=made["run_key"])
    places.delete_sample_field("far")
    compute_embeddings(places, model="cnn")
    assert "no embeddings that were computed elsewhere" in told(form("describe_embeddings", places))


def test_a_form_is_executed_as_it_stands(places):
    context = {
        "dataset_name": places.name,
        "operator_uri": PREFIX + "describe_embeddings",
        "params": {"embeddings": "far", "model": "gull", "of": "images", "searchable": True},
    }
    from fiftyone.operators.executor import ExecutionContext, Executor

    shown = list(operator("describe_embeddings").execute(ExecutionContext(context, Executor())))
    assert shown
    assert places.list_brain_runs() == ["far_similarity"] and places.list_runs() == ["far"]
