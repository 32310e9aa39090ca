"""The App's forms without a browser: what they show and refuse before anything is run."""

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone.operators.executor import ExecutionContext
from fiftyone_embedding_quality.embedding.names import full_name
from fiftyone_embedding_quality.operators import form_fields

PREFIX = "@embedding/quality/"

# What has to look at samples; the others only look at runs.
ON_SAMPLES = (
    "audit",
    "compute_embeddings",
    "compute_visualization",
    "reduce_embeddings",
    "describe_embeddings",
    "find_duplicates",
    "find_outliers",
    "find_caption_issues",
    "find_label_issues",
    "compute_separability",
    "select_samples",
    "suggest_labels",
)


def form(
    name: str, dataset: fo.Dataset, view=None, selected=(), open_sample=None, **params
) -> dict:
    """The fields of a form as the App gets them, by name."""
    request = {"dataset_name": dataset.name, "params": params, "selected": list(selected)}
    request["current_sample"] = open_sample
    if view is not None:
        request["view"] = view._serialize()
    context = ExecutionContext({**request, "operator_uri": PREFIX + name})
    return foo.get_operator(PREFIX + name).resolve_input(context).to_json()["type"]["properties"]


def offers_a_target(name: str, dataset: fo.Dataset) -> bool:
    request = {"dataset_name": dataset.name, "params": {}, "operator_uri": PREFIX + name}
    context = ExecutionContext(request)
    foo.get_operator(PREFIX + name).resolve_input(context)
    return context._view_target_resolved


def told(fields: dict) -> str:
    """The error of a form, or else its notice."""
    shown = fields.get("error") or fields["plan"]
    assert bool(shown["invalid"]) == ("error" in fields)
    return shown["view"]["label"]


@pytest.fixture
def judged(dataset):
    """40 samples of two classes with vectors, the first with a wrong label that is flagged."""
    random = np.random.default_rng(51)
    dataset.add_samples(
        [
            fo.Sample(
                f"/none/{index}.png",
                ground_truth=fo.Classification(label="ab"[index % 2 if index else 1]),
                vec=(random.normal(size=8) + 4 * (index % 2)).astype(np.float32),
            )
            for index in range(40)
        ]
    )
    foo.get_operator(PREFIX + "find_label_issues")(
        dataset, embeddings="vec", label_field="ground_truth"
    )
    assert dataset.load_saved_view("label_issues: flagged").values("id") == dataset.values("id")[:1]
    return dataset


@pytest.mark.parametrize("name", ON_SAMPLES)
def test_nothing_to_work_on(name, dataset):
    assert told(form(name, dataset)) == "This dataset has no samples yet; add some first"
    dataset.add_sample(fo.Sample("/none.png"))
    empty = dataset.limit(0)
    assert told(form(name, dataset, empty)).startswith("There are no samples in this view; choose")


@pytest.mark.parametrize(
    "name, message",
    [
        ("compute_visualization", "run 'Quality: compute embeddings'"),
        ("find_outliers", "run 'Quality: compute embeddings'"),
        ("find_label_issues", "run 'Quality: compute embeddings'"),
        ("compute_separability", "run 'Quality: compute embeddings'"),
        ("describe_embeddings", "no embeddings that were computed elsewhere"),
        ("select_samples", "run 'Quality: compute embeddings'"),
        ("suggest_labels", "run 'Quality: compute embeddings'"),
        ("review_label_issues", "run 'Quality: find label issues' first"),
        ("export_report", "nothing to report yet; run find_duplicates"),
        ("delete_run", "no runs on this dataset"),
    ],
)
def test_what_must_come_first_is_named(name, message, dataset):
    dataset.add_sample(fo.Sample("/none.png"))
    assert message in told(form(name, dataset))


def test_an_audit_offers_what_can_be_chosen(judged):
    fields = form("audit", judged)
    assert fields["label_field"]["default"] == "ground_truth"
    # Classes are no splits, and nobody has named any.
    assert fields["split"]["type"]["values"] == ["(none)", "tags"]
    assert fields["split"]["default"] == "(none)"
    assert told(fields).startswith("40 samples will be audited")
    assert told(form("audit", judged, judged.limit(1))).startswith("1 sample will be audited")


def test_an_audit_says_that_embeddings_come_first(dataset):
    dataset.add_sample(fo.Sample("/none.png"))
    text = told(form("audit", dataset))
    assert text.startswith("1 sample will be embedded and audited, which takes about 2")


def test_what_embeddings_take_depends_on_model_and_processor(monkeypatch):
    monkeypatch.setattr(form_fields.shutil, "which", lambda _: None)
    monkeypatch.setattr(form_fields, "num_cores", lambda: 2)
    clip, cnn = map(full_name, ("clip", "cnn"))
    monkeypatch.setattr(form_fields, "has_fast_16_bits", lambda: True)
    assert [round(form_fields.embedding_seconds(one, 1200)) for one in (clip, cnn)] == [29, 25]
    monkeypatch.setattr(form_fields, "has_fast_16_bits", lambda: False)
    assert [round(form_fields.embedding_seconds(one, 1200)) for one in (clip, cnn)] == [114, 35]
    assert form_fields.embedding_seconds(clip, 1200, rate=120) == 15


def test_a_review_of_nothing_says_so(judged):
    first, second = judged.values("id")[:2]
    assert told(form("review_label_issues", judged)).startswith("Select the samples or patches")
    assert told(form("review_label_issues", judged, selected=[second])) == (
        "Nothing will be reviewed; 1 skipped: not flagged"
    )
    assert told(form("review_label_issues", judged, decision="undo")) == (
        "Nothing will be undone; 40 skipped: not reviewed"
    )
    text = told(form("review_label_issues", judged, selected=[first]))
    assert text.startswith(
        "1 label will be reviewed, 1 of them changed (b → a). The originals stay"
    )


def test_a_review_is_of_the_open_sample_whatever_is_ticked(judged):
    first, second = judged.values("id")[:2]
    text = told(form("review_label_issues", judged, selected=[second], open_sample=first))
    assert text.startswith("Open sample: 1 label will be reviewed, 1 of them changed (b → a)")


def test_a_label_must_be_chosen_before_it_is_set(judged):
    first = judged.first().id
    fields = form("review_label_issues", judged, selected=[first], decision="set")
    assert fields["label"]["required"] and told(fields) == "Choose the label to set"
    fields = form("review_label_issues", judged, selected=[first], decision="set", label="new")
    assert "error" not in fields and "(b → new)" in told(fields)


@pytest.fixture
def boxed(dataset):
    """Four images with boxes, whose only texts name splits."""
    for index in range(4):
        box = fo.Detection(label="ab"[index % 2], bounding_box=[0.1, 0.1, 0.5, 0.5])
        sample = fo.Sample(f"/none/{index}.png", crates=fo.Detections(detections=[box]))
        sample["fold"] = ("train", "Val")[index % 2]
        dataset.add_sample(sample)
    return dataset


def test_an_audit_of_boxes_takes_no_split_for_the_classes(boxed):
    fields = form("audit", boxed)
    assert fields["patches_field"]["default"] == "crates" == fields["label_field"]["default"]
    assert fields["split"]["default"] == "fold" and told(fields).startswith("4 patches will be")
    # Of whole images there are no labels, unless somebody says so.
    fields = form("audit", boxed, patches_field="(none)")
    assert fields["label_field"]["default"] == "(none)" and told(fields).startswith("4 samples")
    assert fields["split"]["default"] == "fold"
    boxed.match({"fold": "Val"}).tag_samples("validation")
    assert form("audit", boxed)["split"]["default"] == "tags"
    # Only the images have embeddings: they are what is audited.
    boxed.set_values("vec", [np.ones(4, np.float32)] * 4)
    assert form("audit", boxed)["patches_field"]["default"] == "(none)"
    boxed.set_values("kind", [fo.Classification(label=name) for name in "abab"])
    fields = form("audit", boxed)
    assert fields["label_field"]["default"] == "kind"
    assert "kind" not in fields["split"]["type"]["values"]


def test_a_report_is_of_the_whole_dataset_unless_another_view_is_chosen(judged):
    view = judged.limit(3)
    fields = form("export_report", judged, view)
    assert fields["reported"]["default"] == "dataset"
    assert told(fields).startswith("Report on 40 of 40 samples: ")
    fields = form("export_report", judged, view, reported="view")
    assert told(fields).startswith("Report on 3 of 40 samples: ")
    assert "reported" not in form("export_report", judged)


def test_only_what_looks_at_samples_asks_for_some(judged):
    assert all(offers_a_target(name, judged) for name in ON_SAMPLES)
    others = ("list_runs", "delete_run", "export_report", "update_audit")
    assert not any(offers_a_target(name, judged) for name in others)


def test_a_result_leads_to_what_is_there(judged):
    delete_run = foo.get_operator(PREFIX + "delete_run")
    result = delete_run(judged, run_key="label_issues")
    assert "label_issues: flagged" in result["views"] and delete_run.links(result) == []


def test_what_will_be_replaced_or_removed_is_said(digits, compute_embeddings):
    compute_embeddings(digits, model="cnn")
    parameters = {"model": "cnn", "embeddings": "cnn"}
    assert "nothing will be computed" in told(form("compute_embeddings", digits, **parameters))
    text = told(form("compute_embeddings", digits, **parameters, overwrite=True))
    assert text.startswith("20 of 20 samples will be embedded, the embeddings in cnn are replaced")
    foo.get_operator(PREFIX + "find_outliers")(digits, embeddings="cnn", check_pictures=False)
    assert told(form("delete_run", digits, run_key="outliers")).startswith(
        "Will be deleted: outliers_score, outliers_flagged, outliers_reason, outliers_group, "
        "outliers: flagged"
    )
    field = form("find_outliers", digits)["run_key"]
    assert field["view"]["description"].startswith("Replaces the run 'outliers' of ")
    refused = form("find_outliers", digits, run_key="cnn")
    assert "belongs to a run of compute_embeddings" in told(refused)
    assert "Replaces" not in refused["run_key"]["view"]["description"]


@pytest.mark.parametrize("name", ["find_label_issues", "compute_separability"])
def test_vectors_of_zeros_are_refused_by_name(name, judged):
    judged.set_values("vec", [np.zeros(8, np.float32)] * len(judged))
    with pytest.raises(
        ValueError, match="embeddings='vec': all embeddings of labeled samples are z"
    ):
        foo.get_operator(PREFIX + name)(judged, embeddings="vec", label_field="ground_truth")


def test_the_form_of_reduction_follows_what_is_chosen(judged):
    judged.set_values("camera", ["left", "right"] * 20)
    fields = form("reduce_embeddings", judged, num_dims=4)
    assert told(fields).startswith("40 of 40 samples have embeddings and will be reduced")
    assert "none" not in fields["method"]["type"]["values"] and "update" not in fields
    assert told(fields).startswith("40 of 40 samples have embeddings")
    choices = fields["remove"]["view"]["choices"]
    assert "camera" in [choice["value"] for choice in choices]
    fields = form("reduce_embeddings", judged, remove="camera", method="none")
    assert "num_dims" not in fields and "none" in fields["method"]["type"]["values"]
    assert fields["field"]["view"]["placeholder"] == "vec_without_camera"
    assert "num_dims=0 must be" in told(form("reduce_embeddings", judged, num_dims=0))
    # Eight numbers each: what is offered at first can be computed, what cannot is refused here.
    assert form("reduce_embeddings", judged)["num_dims"]["default"] == 8
    assert form("reduce_embeddings", judged, judged[:5])["num_dims"]["default"] == 4
    too_many = told(form("reduce_embeddings", judged, num_dims=9))
    assert too_many == "num_dims=9 must be at most 8 here"
    operator = foo.get_operator(PREFIX + "reduce_embeddings")
    operator(judged, embeddings="vec", num_dims=4)
    assert "update" in form("reduce_embeddings", judged, num_dims=4)
    taken = told(form("reduce_embeddings", judged, field="ground_truth"))
    assert taken.startswith("field: the dataset already has a field 'ground_truth'")
    assert operator(judged, embeddings="vec", remove="camera", method="none")["dim"] == 8
