"""Separability on a real database: the stored run, comparison, slices, refusals, Caltech-101."""

import json
import random

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone_embedding_quality.storage.runs import read_run
from fiftyone_embedding_quality.storage.separability import read_separability
from sklearn.metrics import silhouette_score

CLASSES, NUMBER = ("apple", "pear", "plum", "fig"), 160


@pytest.fixture(scope="module")
def compute_separability():
    return foo.get_operator("@embedding/quality/compute_separability")


@pytest.fixture
def fruit(dataset):
    """Four classes, of which apples and pears overlap; a better and a useless embedding."""
    noise = np.random.default_rng(51)
    centers = noise.normal(size=(4, 16)) * 2
    centers[1] = centers[0] + noise.normal(size=16) * 0.3
    apart = noise.normal(size=(4, 16)) * 2
    samples = []
    for index in range(NUMBER):
        number = index % 4
        vector = centers[number] + noise.normal(size=16)
        camera = "left" if vector[0] > centers[number][0] else "right"
        samples.append(
            fo.Sample(
                f"/none/{index}.png",
                ground_truth=fo.Classification(label=CLASSES[number]),
                good=(apart[number] + noise.normal(size=16)).astype(np.float32),
                vec=vector.astype(np.float32),
                useless=noise.normal(size=16).astype(np.float32),
                camera=camera,
                bright=bool(index % 3),
                samples=fo.Detections(
                    detections=[
                        fo.Detection(
                            label=CLASSES[number],
                            bounding_box=[0, 0, 1, 1],
                            vec=vector.astype(np.float32),
                        )
                    ]
                ),
            )
        )
    dataset.add_samples(samples)
    dataset.add_sample_field("samples.detections.vec", fo.VectorField)
    return dataset


COMMON = {"embeddings": "vec", "label_field": "ground_truth"}


def test_the_pair_that_overlaps_is_named(fruit, compute_separability):
    result = compute_separability(fruit, **COMMON)
    json.dumps(result)
    rows = {row["label"]: row for row in result["classes"]}
    assert rows["apple"]["confused_with"] == "pear" and rows["pear"]["confused_with"] == "apple"
    assert rows["fig"]["recall"] > 0.9 > rows["apple"]["recall"]
    for row in rows.values():
        assert row["count"] == 40
        assert row["recall_low"] <= row["recall"] <= row["recall_high"]
        assert row["purity_expected"] == pytest.approx(39 / 159, abs=1e-4)
        assert row["label_issues"] is None and row["outliers"] is None
    assert {result["classes"][0]["label"], result["classes"][1]["label"]} == {"apple", "pear"}
    first = result["pairs"][0]
    assert {first["label"], first["other"]} == {"apple", "pear"} and first["above_chance"]
    boundary = fruit.select(first["boundary"], ordered=True)
    assert set(boundary.values("ground_truth.label")) == {first["label"]}
    overall = result["overall"]
    recalls = [row["recall"] for row in rows.values()]
    assert overall["balanced_accuracy"] == pytest.approx(np.mean(recalls), abs=1e-5)
    labels = fruit.values("ground_truth.label")
    expected = silhouette_score(np.stack(fruit.values("vec")), labels, metric="cosine")
    assert overall["silhouette"] == pytest.approx(expected, abs=1e-4)
    assert overall["map"] is None
    assert compute_separability.summary(result).startswith("**Balanced accuracy")
    # Nothing but a run is written.
    assert fruit.list_runs()[0].startswith("vec_graph") or "separability" in fruit.list_runs()
    assert not [name for name in fruit.get_field_schema() if name.startswith("separability")]


def test_what_other_runs_found_is_counted_by_class(fruit, compute_separability):
    foo.get_operator("@embedding/quality/find_label_issues")(fruit, **COMMON)
    foo.get_operator("@embedding/quality/find_outliers")(
        fruit, embeddings="vec", check_pictures=False
    )
    foo.get_operator("@embedding/quality/compute_visualization")(
        fruit, embeddings="vec", method="pca"
    )
    result = compute_separability(fruit, **COMMON)
    flagged = fruit.load_saved_view("label_issues: flagged")
    counts = flagged.count_values("ground_truth.label")
    assert {row["label"]: row["label_issues"] for row in result["classes"]} == {
        label: counts.get(label, 0) for label in CLASSES
    }
    assert result["label_issues_run"] == "label_issues"
    assert all(row["outliers"] is not None for row in result["classes"])
    assert result["overall"]["map"]["brain_key"] == "vec_pca"


@pytest.mark.parametrize("patches_field", [None, "samples"])
def test_flags_are_those_of_today_whatever_ran_first(fruit, compute_separability, patches_field):
    """A run that was stored before the flags, or before a review of them, tells them, too."""
    of = {"embeddings": "vec", "label_field": patches_field or "ground_truth"}
    of |= {"patches_field": patches_field} if patches_field else {}
    compute_separability(fruit, **of)
    run = read_run(fruit, "separability")
    flags = [row["label_issues"] for row in read_separability(fruit, run).report["classes"]]
    assert flags == [None] * 4
    foo.get_operator("@embedding/quality/find_label_issues")(fruit, **of)

    def told():
        return {
            row["label"]: row["label_issues"]
            for row in read_separability(fruit, run).report["classes"]
        }

    before, view = told(), fruit.load_saved_view("label_issues: flagged")
    path = f"{patches_field}.label" if patches_field else "ground_truth.label"
    assert sum(before.values()) > 1
    assert before == {label: view.count_values(path).get(label, 0) for label in CLASSES}
    review = foo.get_operator("@embedding/quality/review_label_issues")
    label = view.first()["samples"].label if patches_field else view.first().ground_truth.label
    review(view.limit(1), decision="keep", run_key="label_issues")
    assert told() == before | {label: before[label] - 1}


def test_several_embeddings_are_compared_on_the_same_samples(fruit, compute_separability):
    lost = fruit.first()
    lost["good"] = None
    lost.save()
    result = compute_separability(
        fruit, embeddings=["vec", "good", "useless"], label_field="ground_truth"
    )
    comparison = result["comparison"]
    assert [row["name"] for row in comparison["embeddings"]] == ["good", "vec", "useless"]
    best, _, worst = comparison["embeddings"]
    assert best["balanced_accuracy"] > 0.9 and worst["worse"]
    assert worst["difference_high"] < 0 < best["low"]
    assert comparison["samples"] == 159
    assert result["skipped"] == {"no embedding in all of the fields": 1}
    assert "good" in comparison["verdict"]


def test_slices_of_a_field_and_whether_the_vectors_tell_it(fruit, compute_separability):
    leak = compute_separability(fruit, by="camera", **COMMON)
    assert {row["value"] for row in leak["slices"]} == {"left", "right"}
    assert leak["field_prediction"]["low"] > 0.5
    fair = compute_separability(fruit, by="bright", **COMMON)
    assert fair["field_prediction"]["low"] < 0.5 + 0.1
    assert sum(row["count"] for row in fair["slices"]) == NUMBER


def test_objects(fruit, compute_separability):
    of_samples = compute_separability(fruit, **COMMON)
    result = compute_separability(
        fruit, embeddings="vec", label_field="samples", patches_field="samples"
    )
    assert result["things"] == "patches" and result["run_key"] == "separability_samples"
    assert result["overall"]["silhouette"] == pytest.approx(
        of_samples["overall"]["silhouette"], abs=1e-6
    )
    ids = fruit.values("samples.detections.id", unwind=True)
    assert set(result["pairs"][0]["boundary"]) <= set(ids)


def test_the_order_of_the_samples_does_not_matter(fruit, compute_separability):
    first = compute_separability(fruit, **COMMON)
    ids = fruit.values("id")
    random.Random(3).shuffle(ids)
    second = compute_separability(fruit.select(ids, ordered=True), **COMMON)
    assert second["classes"] == first["classes"] and second["pairs"] == first["pairs"]


def test_rare_classes_and_unlabeled_samples(fruit, compute_separability):
    alone, none = fruit[:2]
    alone["ground_truth"].label = "quince"
    none["ground_truth"] = None
    alone.save()
    none.save()
    result = compute_separability(fruit, **COMMON)
    quince = next(row for row in result["classes"] if row["label"] == "quince")
    assert quince["recall"] is None and "too few" in quince["verdict"]
    assert result["skipped"] == {"no label": 1} and result["judged"] == NUMBER - 1


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"embeddings": []}, "embeddings= must be the name of a field"),
        ({"embeddings": ["vec", "vec"]}, "names the same field twice"),
        ({"embeddings": "nothing"}, "embeddings='nothing': there is no such field"),
        ({"embeddings": ["vec", "nothing"]}, "embeddings='nothing': there is no such field"),
        ({"label_field": "nothing"}, "label_field='nothing': there is no such field"),
        ({"by": "nothing"}, "by='nothing': there is no such field"),
        ({"by": "filepath"}, "by='filepath' holds no slice per sample"),
        ({"by": "vec"}, r"holds no slice per sample \(its type is VectorField\)"),
        ({"run_key": "vec"}, "the dataset already has|cannot be|belongs"),
    ],
)
def test_refusals(fruit, compute_separability, parameters, message):
    if parameters == {"run_key": "vec"}:
        fruit.register_run("vec", fruit.init_run(method="mine"))
        message = "that this plugin did not create"
    with pytest.raises(ValueError, match=message):
        compute_separability(fruit, **{**COMMON, **parameters})
    assert not fruit.has_run("separability")


@pytest.mark.slow
def test_confusable_classes_of_caltech101(excerpt, dataset, compute_separability):
    folder = excerpt / "caltech101"
    stored = np.load(folder / "embeddings_efficientnet_lite0.npz")
    dataset.add_samples(
        [
            fo.Sample(
                str(folder / file),
                cnn=vector,
                ground_truth=fo.Classification(label=file.split("/")[1]),
            )
            for file, vector in zip(stored["files"], stored["embeddings"].astype(np.float32))
            if file.startswith("images/") and "BACKGROUND" not in file
        ]
    )
    clean = compute_separability(dataset, embeddings="cnn", label_field="ground_truth")
    mixed = {(pair["label"], pair["other"]) for pair in clean["pairs"] if pair["above_chance"]}
    for one, other in (
        ("crayfish", "lobster"),
        ("ketch", "schooner"),
        ("chair", "windsor_chair"),
        ("cougar_body", "cougar_face"),
    ):
        assert (one, other) in mixed or (other, one) in mixed

    # A fifth of one class gets the label of another: these two change, and no others.
    okapis = dataset.match(fo.ViewField("ground_truth.label") == "okapi")
    wrong = okapis[: len(okapis) // 5]
    wrong.set_values("ground_truth.label", ["dolphin"] * len(wrong))
    planted = compute_separability(dataset, embeddings="cnn", label_field="ground_truth")
    before, after = (
        {row["label"]: row["f1"] for row in result["classes"]} for result in (clean, planted)
    )
    moved = {label: before[label] - after[label] for label in before}
    assert min(moved["dolphin"], moved["okapi"]) > 0.04
    assert max(abs(moved[label]) for label in before if label not in ("dolphin", "okapi")) < 0.04


@pytest.mark.parametrize(
    "recalls, counts, weak",
    [
        ([0.6, 0.62, 0.58, 0.6, 0.61], [200] * 5, []),  # all are equally hard
        ([0.95, 0.97, 0.6, 0.96], [100] * 4, ["c2"]),
        ([1.0, 1.0, 0.8, 1.0], [5] * 4, []),  # one mistake of five
        ([0.98, 0.5, 0.97, 0.4], [300, 40, 300, 60], ["c1", "c3"]),
        ([0.9, None, 0.4], [50, 1, 50], ["c2"]),
        ([0.3], [50], []),
        ([0.99] + [0.85] * 15, [10_000] + [100] * 15, []),  # one large class is no yardstick
    ],
)
def test_weak_classes_are_those_that_differ_from_the_rest(recalls, counts, weak):
    from fiftyone_embedding_quality.checks.separability import weak_classes

    rows = [
        {"label": f"c{number}", "recall": recall, "count": count}
        for number, (recall, count) in enumerate(zip(recalls, counts))
    ]
    assert [row["label"] for row in weak_classes(rows)] == weak


def test_what_to_do_about_a_class():
    from fiftyone_embedding_quality.checks.verdicts import class_advice

    def row(label, count, recall, twin=None, flagged=None, rate=0.2, more=None):
        about = {"label": label, "count": count, "recall": recall, "confused_rate": rate}
        about["more"] = more
        return {**about, "confused_with": twin, "label_issues": flagged}

    rows = [
        row("wren", 90, 0.7, "robin", 5),
        row("robin", 90, 0.7, "finch", 1),
        row("finch", 80, 0.8, "robin"),
        row("heron", 12, 0.6),
        row("stork", 400, 0.7, "heron", more=0.01),
        row("crane", 30, 0.5, more=0.1),
        row("ibis", 30, 0.5, more=0.001),
        row("gull", 300, 0.97, None, 3),
        row("swan", 300, 0.99, "goose", rate=0.003),
        row("goose", 300, 0.99, "swan", rate=0.003),
    ]
    classes = {one["label"]: one for one in rows}
    assert [class_advice(one, classes) for one in rows] == [
        "fix labels first: 5 of 90 flagged",
        "merge, or clarify the boundary",
        "merge, or clarify the boundary",
        "collect more samples",
        "clarify the boundary",
        "collect more: 100 would add 5 to 20 points of recall",
        "",
        "",
        "",
        "",
    ]
