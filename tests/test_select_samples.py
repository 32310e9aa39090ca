"""Choosing samples on a real database: ranks, views, starts, balance, forms, refusals."""

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone import ViewField as F
from test_forms import form, told
from test_selection import blobs

PREFIX = "@embedding/quality/"
SIZES = [60, 40, 20, 20, 10, 10]


def operator(name):
    return foo.get_operator(PREFIX + name)


@pytest.fixture(scope="module")
def select_samples():
    return operator("select_samples")


@pytest.fixture
def fruit(dataset):
    """160 samples in six clusters, the first of each labeled; no files."""
    rows, of = blobs(SIZES)
    firsts = set(np.unique(of, return_index=True)[1].tolist())
    dataset.add_samples(
        [
            fo.Sample(
                f"/none/{index}.jpg",
                features=row.astype(np.float32),
                cluster=int(number),
                kind=fo.Classification(label=f"fruit {number}") if index in firsts else None,
                farm="north" if index % 5 else "south",
                tags=["seen"] if number < 2 else [],
            )
            for index, (row, number) in enumerate(zip(rows, of))
        ]
    )
    return dataset


def test_ranks_views_and_result(fruit, select_samples):
    result = select_samples(fruit, embeddings="features", num_samples=12)
    view = fruit.load_saved_view("selection: selected")
    assert view.values("selection_rank") == list(range(1, 13))
    assert set(view[:6].values("cluster")) == set(range(6))
    assert fruit.count("selection_rank") == result["selected"] == 12
    assert fruit.count("selection_distance") == result["judged"] == 160
    assert result["strategy"] == "representative" and result["run_key"] == "selection"
    assert [point["selected"] for point in result["coverage"]] == [1, 2, 5, 10, 12]
    far = fruit.load_saved_view("selection: uncovered")
    distances = far.values("selection_distance")
    assert len(far) == result["uncovered"] and distances == sorted(distances, reverse=True)
    assert min(distances) > result["radius"] - 1e-3
    covered = 1 - len(far) / 160
    assert covered == pytest.approx(result["coverage"][-1]["covered"], abs=0.01)
    summary = operator("select_samples").summary(result)
    assert "**12 samples** of 160 chosen" in summary and "selection: selected" in summary


def test_a_share_and_more_than_there_are(fruit, select_samples):
    assert select_samples(fruit, embeddings="features", num_samples=0.2)["selected"] == 32
    result = select_samples(fruit[:20], embeddings="features", num_samples=50)
    assert (result["selected"], result["wanted"]) == (20, 50)
    assert fruit.count("selection_rank") == 20


def test_the_order_of_samples_does_not_matter(fruit, select_samples):
    select_samples(fruit, embeddings="features", num_samples=20)
    first = dict(zip(*fruit.values(["id", "selection_rank"])))
    select_samples(fruit.shuffle(seed=3), embeddings="features", num_samples=20)
    assert dict(zip(*fruit.values(["id", "selection_rank"]))) == first


def test_what_is_labeled_is_a_start(fruit, select_samples):
    result = select_samples(fruit, embeddings="features", num_samples=10, start_from="kind")
    assert result["started_with"] == 6
    chosen = fruit.load_saved_view("selection: selected")
    assert chosen.count("kind") == 0
    assert fruit.exists("kind").bounds("selection_distance")[1] < 1e-4
    operator("delete_run")(fruit, run_key="selection")
    result = select_samples(fruit, embeddings="features", num_samples=8, start_from="seen")
    assert result["started_with"] == 100
    assert min(fruit.load_saved_view("selection: selected")[:4].values("cluster")) >= 2


def test_an_empty_label_field_is_no_start_and_no_fault(fruit, select_samples):
    fruit.add_sample_field("todo", fo.EmbeddedDocumentField, embedded_doc_type=fo.Classification)
    result = select_samples(fruit, embeddings="features", num_samples=5, start_from="todo")
    assert (result["started_with"], result["selected"]) == (0, 5)


def test_doubt_is_learned_from_the_labels(fruit, select_samples):
    """Between two labeled clusters lies what a classifier doubts."""
    rows, of = blobs([80, 80])
    between = rows[:20] + rows[80:100]
    fruit.delete_samples(fruit.values("id"))
    fruit.add_samples(
        [
            fo.Sample(
                f"/none/{index}.jpg",
                features=(row / np.linalg.norm(row)).astype(np.float32),
                between=index >= 160,
                kind=fo.Classification(label="ab"[of[index]]) if index in labeled else None,
            )
            for labeled in [{*range(10), *range(80, 90)}]
            for index, row in enumerate([*rows, *between])
        ]
    )
    result = select_samples(fruit, embeddings="features", num_samples=10, start_from="kind")
    assert result["strategy"] == "uncertain"
    assert sum(fruit.load_saved_view("selection: selected").values("between")) >= 8
    again = select_samples(
        fruit, embeddings="features", num_samples=5, strategy="representative", start_from="kind"
    )
    assert again["strategy"] == "representative"


def test_around_a_saved_view_a_tag_and_ids(fruit, select_samples):
    failures = fruit.match(F("cluster") == 3)[:4]
    fruit.save_view("failures", failures)
    failures.tag_samples("failed")
    for around in ("failures", "failed", failures.values("id")):
        result = select_samples(fruit, embeddings="features", num_samples=10, around=around)
        assert result["strategy"] == "around"
        chosen = fruit.load_saved_view("selection: selected")
        assert set(chosen.values("cluster")) == {3}
        assert not set(chosen.values("id")) & set(failures.values("id"))


def test_balance_over_a_field(fruit, select_samples):
    result = select_samples(fruit, embeddings="features", num_samples=20, by="farm")
    farms = fruit.load_saved_view("selection: selected").values("farm")
    assert farms.count("north") == farms.count("south") == 10
    assert result["by"] == {"field": "farm", "values": 2, "least": 10, "most": 10}
    assert {*farms[:2]} == {*farms[2:4]} == {"north", "south"}


def test_one_of_each_duplicate_group(photos, select_samples):
    found = operator("find_duplicates")(photos, embeddings="cnn")
    result = select_samples(photos, embeddings="cnn", num_samples=30)
    assert result["duplicates"] == "duplicates"
    groups = photos.load_saved_view("selection: selected").exists("duplicates_group")
    numbers = groups.values("duplicates_group")
    assert len(numbers) == len(set(numbers)) == found["exact_groups"] + found["near_groups"]
    assert result["selected"] == 30 - found["redundant"]


def test_patches_by_label_and_back(dataset, select_samples):
    rows, of = blobs([40, 20])
    for index, (row, number) in enumerate(zip(rows, of)):
        box = fo.Detection(label=("cup", "pot")[number], bounding_box=[0, 0, 1, 1])
        box["features"] = row.astype(np.float32)
        dataset.add_sample(fo.Sample(f"/none/{index}.jpg", things=fo.Detections(detections=[box])))
    dataset.add_sample_field("things.detections.features", fo.VectorField)
    before = dataset.get_field_schema(flat=True).keys()
    common = {"embeddings": "features", "patches_field": "things"}
    result = select_samples(dataset, **common, num_samples=10, by="things")
    view = dataset.load_saved_view("selection: selected")
    assert result["things"] == "patches" and len(view) == 10
    assert view.values("things.selection_rank") == list(range(1, 11))
    assert view.count_values("things.label") == {"cup": 5, "pot": 5}
    around = view.match(F("things.label") == "pot").values("id")
    result = select_samples(dataset, **common, num_samples=6, around=around)
    view = dataset.load_saved_view("selection: selected")
    assert set(view.values("things.label")) == {"pot"} and not set(view.values("id")) & set(around)
    operator("delete_run")(dataset, run_key="selection")
    assert dataset.get_field_schema(flat=True).keys() == before
    assert dataset.list_saved_views() == []


def test_stale_after_labels_and_removed_whole(fruit, select_samples):
    select_samples(fruit, embeddings="features", num_samples=10, start_from="kind")
    row = {r["run_key"]: r for r in operator("list_runs")(fruit)["runs"]}["selection"]
    assert row["stale"] is False and row["found"] == "10 selected"
    chosen = fruit.load_saved_view("selection: selected")
    chosen.set_values("kind", [fo.Classification(label="fruit 0")] * len(chosen))
    row = {r["run_key"]: r for r in operator("list_runs")(fruit)["runs"]}["selection"]
    assert any("labels in kind have changed" in reason for reason in row["reasons"])
    operator("delete_run")(fruit, run_key="selection")
    assert not [name for name in fruit.get_field_schema() if name.startswith("selection")]
    assert fruit.list_saved_views() == []


def test_the_report_shows_the_choice(photos, select_samples, tmp_path):
    select_samples(photos, embeddings="cnn", num_samples=5)
    report = operator("export_report")(photos, path=str(tmp_path / "page"))
    assert report["findings"] == {"selected": 5}
    page = (tmp_path / "page" / "report.html").read_text()
    assert "Selected samples" in page and "Selected first" in page


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"num_samples": 0}, "must be a whole number, or a share"),
        ({"num_samples": 2.5}, "must be a whole number, or a share"),
        ({"num_samples": "ten"}, "num_samples='ten' must be int or float"),
        ({"strategy": "best"}, "strategy='best' must be one of auto, representative"),
        ({"strategy": "around"}, "needs around="),
        ({"strategy": "diverse", "around": "seen"}, 'goes with strategy="around"'),
        ({"around": "nowhere"}, "around: none of these samples matches the tag or saved view"),
        ({"start_from": []}, "start_from: none of these samples matches the ids"),
        ({"strategy": "uncertain"}, "needs labels: pass"),
        ({"by": "cluster_"}, "there is no such field"),
        ({"start_from": "farm"}, "Nothing is left to select"),
        ({"embeddings": "kind"}, "not embeddings"),
    ],
)
def test_refusals(fruit, select_samples, parameters, message):
    with pytest.raises(ValueError, match=message):
        select_samples(fruit, **{"embeddings": "features", "num_samples": 5, **parameters})
    assert not fruit.has_run("selection") and fruit.list_saved_views() == []


def test_the_form(fruit):
    fields = form("select_samples", fruit)
    assert told(fields).startswith("160 of 160 samples have embeddings")
    assert {"kind", "farm", "seen"} <= set(fields["start_from"]["type"]["values"])
    assert "around" not in fields
    assert "seen" in form("select_samples", fruit, strategy="around")["around"]["type"]["values"]
    assert "must be a whole number" in told(form("select_samples", fruit, num_samples=1.5))
    fruit.untag_samples("seen")
    assert "Save a view" in told(form("select_samples", fruit, strategy="around"))


def test_from_the_apps_form(fruit):
    """As the App sends it: with choices that the form no longer shows."""
    given = {"embeddings": "features", "num_samples": 0.1, "strategy": "auto", "around": "seen"}
    parameters = operator("select_samples")._parameters(given, from_form=True)
    assert parameters["num_samples"] == 0.1 and parameters["around"] is None
    del given["num_samples"]
    assert operator("select_samples")._parameters(given, from_form=True)["num_samples"] == 100
