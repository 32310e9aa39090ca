"""Suggested labels on a real database: fields, views, warnings, patches, forms, refusals."""

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from sklearn.datasets import load_digits
from test_forms import form, told
from test_selection import blobs

PREFIX = "@embedding/quality/"


def operator(name):
    return foo.get_operator(PREFIX + name)


@pytest.fixture(scope="module")
def suggest_labels():
    return operator("suggest_labels")


@pytest.fixture(scope="module")
def _sorted_mail():
    """800 digits with their pixels as embeddings; each fifth has its label in ``read``."""
    digits = load_digits()
    dataset = fo.Dataset()
    dataset.add_samples(
        [
            fo.Sample(
                f"/none/{index}.png",
                pixels=row.astype(np.float32),
                true=f"digit {target}",
                read=fo.Classification(label=f"digit {target}") if index % 5 == 0 else None,
            )
            for index, (row, target) in enumerate(zip(digits.data[:800], digits.target))
        ]
    )
    yield dataset
    dataset.delete()


@pytest.fixture
def mail(_sorted_mail):
    dataset = _sorted_mail.clone()
    yield dataset
    dataset.delete()


def test_fields_views_and_result(mail, suggest_labels):
    before = mail.values("read.label")
    result = suggest_labels(mail, embeddings="pixels", label_field="read")
    assert (result["labeled"], result["suggested"] + result["abstained"]) == (160, 640)
    accepted = mail.load_saved_view("suggestions: accepted")
    assert len(accepted) == result["suggested"] > 320
    pairs = zip(*accepted.values(["suggestions_label.label", "true"]))
    assert np.mean([label == true for label, true in pairs]) >= 0.95
    sure = accepted.values("suggestions_label.confidence")
    assert sure == sorted(sure) and min(sure) >= 0.5 and max(sure) <= 1
    assert np.mean(sure) == pytest.approx(result["expected_precision"], abs=1e-3)
    rest = mail.load_saved_view("suggestions: to review")
    assert len(rest) == result["abstained"] - result["unlike"]
    assert mail.count("suggestions_accepted") == 640
    assert mail.exists("read").count("suggestions_label") == 0
    assert mail.values("read.label") == before
    assert sum(result["classes"].values()) == result["suggested"]
    counts = [row["suggested"] for row in result["at_precision"]]
    assert counts == sorted(counts, reverse=True)
    assert result["held_out"] == 160 and result["warnings"] == []
    summary = operator("suggest_labels").summary(result)
    assert f"**{result['suggested']:,} labels** suggested for the 640 samples" in summary


def test_the_order_of_samples_does_not_matter(mail, suggest_labels):
    def stored():
        paths = ["id", "suggestions_label.label", "suggestions_label.confidence"]
        return sorted(zip(*mail.values([*paths, "suggestions_accepted"])), key=lambda row: row[0])

    suggest_labels(mail, embeddings="pixels", label_field="read")
    first = stored()
    suggest_labels(mail.shuffle(seed=1), embeddings="pixels", label_field="read")
    assert stored() == first


def test_few_labels_are_told_and_accept_little(mail, suggest_labels):
    keep = {label: id_ for id_, label in zip(*mail.exists("read").values(["id", "read.label"]))}
    mail.exclude(list(keep.values())).clear_sample_field("read")
    result = suggest_labels(mail, embeddings="pixels", label_field="read")
    assert result["labeled"] == 10 and result["held_out"] == 0
    assert result["held_out_accuracy"] is None
    assert "Only 0 labels could be predicted" in result["warnings"][0]
    assert result["suggested"] < 0.2 * result["abstained"]
    labels = mail.exists("suggestions_label")
    pairs = zip(*labels.values(["suggestions_label.label", "true"]))
    assert np.mean([label == true for label, true in pairs]) > 0.75
    assert "Only 0 labels" in operator("suggest_labels").summary(result)


def test_more_precision_fewer_labels_and_replaced_whole(mail, suggest_labels):
    loose = suggest_labels(mail, embeddings="pixels", label_field="read", precision=0.8)
    strict = suggest_labels(mail, embeddings="pixels", label_field="read", precision=0.995)
    assert strict["suggested"] < loose["suggested"]
    assert len(mail.load_saved_view("suggestions: accepted")) == strict["suggested"]
    assert len(mail.list_saved_views()) == 2
    rows = {row["run_key"]: row for row in operator("list_runs")(mail)["runs"]}
    assert rows["suggestions"]["stale"] is False
    assert rows["suggestions"]["found"] == f"{strict['suggested']} suggested"
    mail.first().read = fo.Classification(label="digit 9")
    mail.first().save()
    mail.match({"read": None}).limit(1).set_values("read", [fo.Classification(label="digit 9")])
    rows = {row["run_key"]: row for row in operator("list_runs")(mail)["runs"]}
    assert "labels in read have changed" in rows["suggestions"]["reasons"][0]
    operator("delete_run")(mail, run_key="suggestions")
    assert not [name for name in mail.get_field_schema() if name.startswith("suggestions")]
    assert mail.list_saved_views() == []


def test_images_of_no_class_get_no_label(dataset, suggest_labels):
    rows, of = blobs([80] * 6, spread=0.6)
    dataset.add_samples(
        [
            fo.Sample(
                f"/none/{index}.jpg",
                features=row.astype(np.float32),
                foreign=bool(number >= 4),
                kind=f"kind {number}" if index % 80 < 12 and number < 4 else None,
            )
            for index, (row, number) in enumerate(zip(rows, of))
        ]
    )
    result = suggest_labels(dataset, embeddings="features", label_field="kind")
    foreign = dataset.match(fo.ViewField("foreign"))
    assert sum(foreign.values("suggestions_accepted")) <= 8
    assert foreign.count("suggestions_label") <= 16
    assert result["unlike"] >= 144
    assert result["suggested"] >= 0.7 * 272


def test_patches_without_a_label(dataset, suggest_labels):
    rows, of = blobs([60, 60], spread=0.5)
    for index, (row, number) in enumerate(zip(rows, of)):
        label = ("bolt", "nut")[number] if index % 4 == 0 else None
        box = fo.Detection(label=label, bounding_box=[0, 0, 1, 1], features=row.astype(np.float32))
        dataset.add_sample(fo.Sample(f"/none/{index}.jpg", parts=fo.Detections(detections=[box])))
    dataset.add_sample_field("parts.detections.features", fo.VectorField)
    before = dataset.get_field_schema(flat=True).keys()
    result = suggest_labels(
        dataset, embeddings="features", patches_field="parts", label_field="parts"
    )
    assert (result["things"], result["labeled"]) == ("patches", 30)
    view = dataset.load_saved_view("suggestions: accepted")
    assert len(view) == result["suggested"] > 45
    names = view.values("parts.suggestions_label")
    files = view.values("filepath")
    assert [("bolt", "nut")[int(path[6:-4]) >= 60] for path in files] == names
    sure = view.values("parts.suggestions_confidence")
    assert sure == sorted(sure)
    operator("delete_run")(dataset, run_key="suggestions")
    assert dataset.get_field_schema(flat=True).keys() == before


def test_the_report_shows_the_accepted(photos, suggest_labels, tmp_path):
    for index, sample in enumerate(photos):
        number = int(sample["cnn"][0] > np.median([s["cnn"][0] for s in photos]))
        sample["side"] = f"side {number}" if index < 28 else None
        sample.save()
    result = suggest_labels(photos, embeddings="cnn", label_field="side", precision=0.5)
    report = operator("export_report")(photos, path=str(tmp_path / "page"))
    assert report["findings"].get("suggestion", 0) == result["suggested"]
    assert "Suggested labels" in (tmp_path / "page" / "report.html").read_text()


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"precision": 1.0}, "precision=1.0 must be between 0 and 1"),
        ({"label_field": "true"}, "all of these samples have a label"),
        ({"label_field": "nothing"}, "there is no such field"),
        ({"embeddings": "read"}, "not embeddings"),
        ({"precisoin": 0.9}, "no parameter 'precisoin'"),
    ],
)
def test_refusals(mail, suggest_labels, parameters, message):
    with pytest.raises(ValueError, match=message):
        suggest_labels(mail, **{"embeddings": "pixels", "label_field": "read", **parameters})
    assert not mail.has_run("suggestions") and mail.list_saved_views() == []


def test_one_class_and_zero_vectors_are_refused(mail, suggest_labels):
    one = mail.clone()
    one.exists("read").set_values("read.label", ["a"] * 160)
    with pytest.raises(ValueError, match="holds only the class 'a'"):
        suggest_labels(one, embeddings="pixels", label_field="read")
    one.delete()
    mail.set_values("pixels", [np.zeros(64, np.float32)] * 800)
    with pytest.raises(ValueError, match="are zero in all classes but one"):
        suggest_labels(mail, embeddings="pixels", label_field="read")


def test_the_form(mail):
    fields = form("suggest_labels", mail)
    assert told(fields).startswith("800 of 800 samples have embeddings")
    assert fields["precision"]["default"] == 0.95
    assert "read" in fields["label_field"]["type"]["values"]
    assert "must be between 0 and 1" in told(form("suggest_labels", mail, precision=2))


def test_through_fiftyones_executor(mail):
    found = foo.execute_operator(
        PREFIX + "suggest_labels",
        {"dataset": mail},
        params={"embeddings": "pixels", "label_field": "read"},
    ).result
    assert found["suggested"] > 320
    found = foo.execute_operator(
        PREFIX + "select_samples",
        {"dataset": mail},
        params={"embeddings": "pixels", "num_samples": 7, "start_from": "read"},
    ).result
    assert found["selected"] == 7 and found["strategy"] == "uncertain"


def test_suggestions_become_labels_and_are_taken_back(mail, suggest_labels):
    """Through FiftyOne's executor; what is accepted leaves the view, also after another run."""
    before = mail.values("read.label")
    result = suggest_labels(mail, embeddings="pixels", label_field="read")

    def review(samples, **params):
        kind = "dataset" if isinstance(samples, fo.Dataset) else "view"
        name = PREFIX + "review_suggestions"
        return foo.execute_operator(name, {kind: samples}, params=params).result

    some = mail.load_saved_view("suggestions: accepted")[:200]
    ids, expected = some.values(["id", "suggestions_label.label"])
    done = review(mail.select(ids), decision="accept")
    assert done["changed"] == done["accepted"] == 200 and sum(done["classes"].values()) == 200
    assert mail.select(ids, ordered=True).values("read.label") == expected
    assert isinstance(mail[ids[0]]["read"], fo.Classification)
    assert len(mail.load_saved_view("suggestions: accepted")) == result["suggested"] - 200
    rest = review(mail, decision="accept")
    assert rest["changed"] == result["suggested"] - 200
    assert rest["skipped"]["labeled already"] == 160 + 200
    assert f"**{rest['changed']} labels** written to `read`" in operator(
        "review_suggestions"
    ).summary(rest)
    # Labels that were there, or were edited since, stay as they are.
    mail.select(ids[:1]).set_values("read.label", ["digit 77"])
    again = suggest_labels(mail, embeddings="pixels", label_field="read")
    assert again["labeled"] == 160 + result["suggested"]
    back = review(mail, decision="undo")
    assert back["changed"] == result["suggested"] - 1
    assert back["skipped"]["the label was edited after it was accepted"] == 1
    mail.select(ids[:1]).set_values("read", [None])
    assert mail.values("read.label") == before and mail.count("read") == 160
    suggest_labels(mail, embeddings="pixels", label_field="read", precision=0.995)
    few = mail.load_saved_view("suggestions: to review")[:3]
    assert review(few, decision="accept")["skipped"] == {"not sure enough": 3}
    assert review(few, decision="accept", unsure=True)["changed"] == 3
    assert operator("delete_run")(mail, run_key="suggestions")
    assert mail.count("read") == 163 and "suggestions_review" not in mail.get_field_schema()


def test_suggestions_of_patches_and_of_texts_become_labels(dataset):
    rows, of = blobs([40, 40], spread=0.5)
    for index, (row, number) in enumerate(zip(rows, of)):
        label = ("bolt", "nut")[number] if index % 4 == 0 else None
        row = row.astype(np.float32)
        box = fo.Detection(label=label, bounding_box=[0, 0, 1, 1], features=row)
        parts = fo.Detections(detections=[box])
        dataset.add_sample(fo.Sample(f"/none/{index}.jpg", parts=parts, features=row, kind=label))
    dataset.add_sample_field("parts.detections.features", fo.VectorField)
    accept = operator("review_suggestions")
    for given, path in (
        ({"patches_field": "parts", "label_field": "parts"}, "parts.detections.label"),
        ({"label_field": "kind", "run_key": "kinds"}, "kind"),
    ):
        before = dataset.values(path)
        result = operator("suggest_labels")(dataset, embeddings="features", **given)
        key = result["run_key"]
        done = accept(dataset, decision="accept", run_key=key)
        assert done["changed"] == result["suggested"] > 25
        labels = dataset.values(path, unwind=True)
        right = [("bolt", "nut")[number] for number in of]
        assert all(label in (None, true) for label, true in zip(labels, right))
        assert accept(dataset, decision="undo", run_key=key)["changed"] == done["changed"]
        assert dataset.values(path) == before
    for given, message in (
        ({"decision": "perhaps"}, "choose 'accept' or 'undo'"),
        ({"decision": "undo", "run_key": "other"}, "there are: kinds, suggestions"),
    ):
        with pytest.raises(ValueError, match=message):
            accept(dataset, **given)
