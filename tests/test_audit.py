"""One pass over a dataset: what it finds, what it leaves out, and that it shares its inputs."""

import json

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest


@pytest.fixture(scope="module")
def audit():
    return foo.get_operator("@embedding/quality/audit")


@pytest.fixture
def labeled(photos):
    """The photos in two classes, one of the mirrored pair in the other split and class."""
    for sample in photos:
        flower = sample["name"] in {f"photo-{index}" for index in range(12, 24)}
        sample["ground_truth"].label = "flower" if flower else "temple"
        sample.tags = ["test" if sample["name"] == "mirror" else "train"]
        sample.save()
    return photos


def test_everything_is_found_and_ranked(labeled, audit):
    mirror = labeled.match(fo.ViewField("name") == "mirror").first()
    mirror["ground_truth"].label = "flower"
    mirror.save()
    result = audit(labeled)  # the tags are the splits: nobody has to say so
    json.dumps(result)
    assert set(result["steps"]) == {
        "find_duplicates",
        "find_outliers",
        "find_label_issues",
        "compute_visualization",
        "compute_separability",
        "find_clusters",
    }
    assert result["left_out"] == {} and result["embeddings"] == "cnn"
    assert (result["read"], result["judged"], result["skipped"]) == (30, 30, {})
    findings = [finding["what"] for finding in result["findings"]]
    assert findings[:4] == [
        "1 group of duplicates across test and train",
        "1 group of duplicates with different labels",
        "2 groups of exact copies",
        "4 groups of near-duplicates",
    ]
    for finding in result["findings"]:
        if finding["view"]:
            assert len(labeled.load_saved_view(finding["view"])) >= finding["count"]
    assert {"duplicates", "outliers", "label_issues", "separability"} <= set(labeled.list_runs())
    summary = audit.summary(result)
    assert summary.startswith("**Audit of 30 samples** with `cnn`\n\nLook at first:\n1. ")
    assert "1. **1 group of duplicates across test and train**" in summary
    # What is found apart is found in the pass as well.
    alone = foo.get_operator("@embedding/quality/find_label_issues")(
        labeled, embeddings="cnn", label_field="ground_truth"
    )
    assert alone["flagged"] == result["steps"]["find_label_issues"]["flagged"]


def test_a_model_that_is_not_to_be_had_is_said_first(photos, audit):
    photos.delete_sample_field("cnn")
    result = audit(photos, model="timm:tf_efficientnet_lite0", embeddings="own", label_field="none")
    assert set(result["steps"]) == {"find_duplicates"}
    lines = audit.summary(result).splitlines()
    assert lines[2].startswith("**Incomplete: 5 checks skipped, without embeddings.** ")
    assert "could not be loaded" in lines[2]
    assert sum("could not be loaded" in line for line in lines) == 1


def test_without_labels_vectors_or_files(dataset, audit):
    random = np.random.default_rng(51)
    dataset.add_samples([fo.Sample(f"/none/{index}.png") for index in range(30)])
    with pytest.raises(ValueError, match="None of the 30 samples could be embedded"):
        audit(dataset, model="cnn", check_pictures=False)
    dataset.set_values("vec", list(random.normal(size=(30, 8)).astype(np.float32)))
    result = audit(dataset, embeddings="vec")
    assert set(result["steps"]) == {
        "find_duplicates",
        "find_outliers",
        "compute_visualization",
        "find_clusters",
    }
    assert "no field holds a Classification" in result["left_out"]["find_label_issues"]
    assert result["steps"]["find_duplicates"]["skipped"] == {"file not found": 30}
    assert "skipped: `find_label_issues`, `compute_separability`: no field" in audit.summary(result)


@pytest.mark.slow
def test_what_was_not_judged_is_said(labeled, audit):
    samples = list(labeled)
    samples[0]["cnn"] = None
    samples[0].filepath = "/none/missing.png"
    samples[1]["ground_truth"] = None
    for sample in samples[:2]:
        sample.save()
    result = audit(labeled, embeddings="cnn")
    assert (result["read"], result["judged"]) == (30, 29)
    assert result["skipped"] == {"no embedding": 1, "no label": 1}
    summary = audit.summary(result)
    assert "- 1 sample skipped: no embedding" in summary
    assert "- 1 sample skipped: no label" in summary
    assert "- reasons for missing embeddings: field `cnn_error`" in summary


def test_without_vectors_what_needs_them_is_said(labeled, audit):
    labeled.delete_sample_field("cnn")
    labeled.delete_sample_field("cnn_error")
    labeled.delete_run("cnn")
    result = audit(labeled, model="timm:nothing")
    assert set(result["steps"]) == {"find_duplicates"} and result["judged"] == 30
    needs = {
        "find_outliers",
        "find_label_issues",
        "compute_visualization",
        "compute_separability",
        "find_clusters",
    }
    assert {n for n, why in result["left_out"].items() if why == "there are no embeddings"} == needs
    assert audit.summary(result).count("there are no embeddings") == 1


def test_missing_vectors_are_computed_with_their_own_model(labeled, audit):
    first = labeled.first()
    first["cnn"] = None
    first.save()
    result = audit(labeled, label_field="none", check_pictures=False)
    assert result["steps"]["compute_embeddings"]["computed"] == 1
    assert result["steps"]["find_outliers"]["judged"] == 30
    assert "was passed" in result["left_out"]["find_label_issues"]


def test_objects(dataset, audit, digit_files):
    random = np.random.default_rng(51)
    centers = random.normal(size=(10, 16)) * 3
    for path, label in digit_files[:80]:
        vector = (centers[int(label)] + random.normal(size=16)).astype(np.float32)
        box = fo.Detection(label=label, bounding_box=[0, 0, 1, 1], vec=vector)
        dataset.add_sample(fo.Sample(path, objects=fo.Detections(detections=[box])))
    dataset.add_sample_field("objects.detections.vec", fo.VectorField)
    result = audit(dataset, patches_field="objects")
    assert result["left_out"] == {} and result["things"] == "patches"
    assert dataset.count("objects.detections.outliers_score") == 80


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"patches_field": "nothing"}, "patches_field='nothing': there is no such field"),
        ({"seed": -1}, "seed=-1"),
        ({"labels": "x"}, "no parameter 'labels'"),
    ],
)
def test_refusals(labeled, audit, parameters, message):
    with pytest.raises(ValueError, match=message):
        audit(labeled, **parameters)


def test_a_wrong_label_field_is_an_error_not_an_omission(labeled, audit):
    with pytest.raises(ValueError, match="label_field='nothing': there is no such field"):
        audit(labeled, label_field="nothing")
    with pytest.raises(ValueError, match="split='nothing': there is no such field"):
        audit(labeled, split="nothing")
    assert labeled.list_saved_views() == []


def test_embeddings_of_a_killed_process_are_completed(digits, audit, compute_embeddings):
    """What it had computed stays; the audit computes the rest with the same model."""
    compute_embeddings(digits, model="cnn", embeddings="features")
    samples = list(digits)
    for sample in samples[:5]:
        sample["features"] = None
        sample.save()
    config = digits.get_run_info("features").config
    config.finished = False
    digits.update_run_config("features", config)
    result = audit(digits, label_field="none", check_pictures=False)
    step = result["steps"]["compute_embeddings"]
    assert (step["computed"], step["reused"], step["model"]) == (
        5,
        15,
        "timm:tf_efficientnet_lite0",
    )
    assert result["embeddings"] == "features" and result["judged"] == 20
