"""The App's forms without a browser: what they show and refuse before anything is run."""

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone.operators.executor import ExecutionContext

PREFIX = "@embedding/quality/"

# What has to look at samples; the others only look at runs.
ON_SAMPLES = (
    "audit",
    "compute_embeddings",
    "compute_visualization",
    "find_duplicates",
    "find_outliers",
    "find_label_issues",
    "compute_separability",
    "select_samples",
    "suggest_labels",
)


def form(name: str, dataset: fo.Dataset, view=None, selected=(), **params) -> dict:
    """The fields of a form as the App gets them, by name."""
    request = {"dataset_name": dataset.name, "params": params, "selected": list(selected)}
    if view is not None:
        request["view"] = view._serialize()
    context = ExecutionContext({**request, "operator_uri": PREFIX + name})
    return foo.get_operator(PREFIX + name).resolve_input(context).to_json()["type"]["properties"]


def offers_a_target(name: str, dataset: fo.Dataset) -> bool:
    context = ExecutionContext({"dataset_name": dataset.name, "params": {}})
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
    assert {"tags", "ground_truth"} <= set(fields["split"]["type"]["values"])
    assert told(fields).startswith("40 samples will be audited")
    assert told(form("audit", judged, judged.limit(1))).startswith("1 sample will be audited")


def test_a_review_of_nothing_says_so(judged):
    first, second = judged.values("id")[:2]
    assert told(form("review_label_issues", judged)).startswith("Select the samples or objects")
    assert told(form("review_label_issues", judged, selected=[second])) == (
        "Nothing will be reviewed; 1 left as they are: not flagged"
    )
    assert told(form("review_label_issues", judged, decision="undo")) == (
        "Nothing will be taken back; 40 left as they are: not reviewed"
    )
    text = told(form("review_label_issues", judged, selected=[first]))
    assert text.startswith("1 label will be reviewed, 1 of them changed. The originals stay")


def test_only_what_looks_at_samples_asks_for_some(judged):
    assert all(offers_a_target(name, judged) for name in (*ON_SAMPLES, "export_report"))
    assert not any(offers_a_target(name, judged) for name in ("list_runs", "delete_run"))


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
        "Will be removed: outliers_score, outliers_flagged, outliers_reason, outliers: flagged"
    )
    field = form("find_outliers", digits)["run_key"]
    assert field["view"]["description"].startswith("Replaces the run 'outliers' of ")
    refused = form("find_outliers", digits, run_key="cnn")
    assert "belongs to a run of compute_embeddings" in told(refused)
    assert "Replaces" not in refused["run_key"]["view"]["description"]


@pytest.mark.parametrize("name", ["find_label_issues", "compute_separability"])
def test_vectors_of_zeros_are_refused_by_name(name, judged):
    judged.set_values("vec", [np.zeros(8, np.float32)] * len(judged))
    with pytest.raises(ValueError, match="embeddings='vec': all vectors of labeled samples are z"):
        foo.get_operator(PREFIX + name)(judged, embeddings="vec", label_field="ground_truth")
