"""What the panel "Dataset quality" does: thresholds of label issues, tags of what a card shows."""

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone_embedding_quality.checks.card_actions import tag_view
from fiftyone_embedding_quality.checks.overview import read_cards
from fiftyone_embedding_quality.checks.thresholds import (
    has_threshold,
    move_threshold,
    read_scores,
)
from fiftyone_embedding_quality.storage.runs import read_run
from sklearn.datasets import load_digits

NUMBER = 400


def run(name, dataset, **parameters):
    return foo.get_operator(f"@embedding/quality/{name}")(dataset, **parameters)


@pytest.fixture
def figures(dataset):
    """Digits of which every twentieth has the next one's name, as images and as patches."""
    digits = load_digits()
    names = digits.target[:NUMBER].copy()
    names[::20] = (names[::20] + 1) % 10
    dataset.add_samples(
        [
            fo.Sample(
                f"/none/{row}.png",
                figure=fo.Classification(label=f"n{names[row]}"),
                raster=digits.data[row].astype(np.float32),
                marks=fo.Detections(
                    detections=[
                        fo.Detection(
                            label=f"n{names[row]}",
                            bounding_box=[0, 0, 1, 1],
                            raster=digits.data[row].astype(np.float32),
                        )
                    ]
                ),
            )
            for row in range(NUMBER)
        ]
    )
    dataset.add_sample_field("marks.detections.raster", fo.VectorField)
    return dataset


def of_images(dataset):
    names = ("id", "doubt_quality", "doubt_flagged", "doubt_suggested.label", "figure.label")
    return dict(zip(dataset.values("id"), zip(*dataset.values(names[1:]))))


def of_patches(dataset):
    names = ("id", "doubt_quality", "doubt_flagged", "doubt_suggested", "label")
    columns = dataset.values([f"marks.detections.{name}" for name in names])
    return {row[0]: row[1:] for of_sample in zip(*columns) for row in zip(*of_sample)}


@pytest.mark.parametrize(
    ("parameters", "read"),
    [
        ({"label_field": "figure"}, of_images),
        ({"label_field": "marks", "patches_field": "marks"}, of_patches),
    ],
    ids=["images", "patches"],
)
def test_flags_follow_the_threshold_and_come_back(figures, parameters, read):
    parameters |= {"embeddings": "raster", "run_key": "doubt"}
    found = run("find_label_issues", figures, **parameters)
    own = {id_ for id_, row in read(figures).items() if row[1]}
    assert found["threshold"] is None and len(own) == found["flagged"] >= 15

    def below(threshold):
        return {
            id_ for id_, row in read(figures).items() if row[0] <= threshold and row[2] is not None
        }

    scores = read_scores(figures, read_run(figures, "doubt"))
    assert scores.low and not scores.moved and sum(scores.counts) == len(below(1))
    # Where the slider stands at first, about as many are flagged as the run has flagged.
    assert abs(len(below(scores.nearest())) - len(own)) <= 3
    for threshold in (0.4, 0.02):
        expected = below(threshold)
        assert int(scores.flags(threshold).sum()) == len(expected)
        assert move_threshold(figures, "doubt", threshold)["flagged"] == len(expected)
        assert {id_ for id_, row in read(figures).items() if row[1]} == expected
        view = figures.load_saved_view("doubt: flagged")
        assert set(view.values("id")) == expected
    special = read_run(figures, "doubt").facts.special
    assert special["expected_precision"] is None and special["precision_range"] is None
    told = {row["label"]: row["flagged"] for row in special["classes"]}
    labels = [read(figures)[id_][3] for id_ in expected]
    assert told == {name: labels.count(name) for name in told}
    (card,) = read_cards(figures)
    assert (card.found.count, card.found.how_sure) == (len(expected), "of quality 0.02 or less")

    # The same, asked of the operator; and update_audit asks so.
    again = run("find_label_issues", figures, **parameters, threshold=0.02)
    assert (again["flagged"], again["expected_precision"]) == (len(expected), None)
    assert {id_ for id_, row in read(figures).items() if row[1]} == expected

    run("find_label_issues", figures, **parameters)
    move_threshold(figures, "doubt", 0.4)
    assert move_threshold(figures, "doubt", None)["flagged"] == len(own)
    assert {id_ for id_, row in read(figures).items() if row[1]} == own
    facts = read_run(figures, "doubt").facts
    assert facts.parameters["threshold"] == "auto" and facts.special["flagged"] == len(own)
    for name in ("expected_precision", "precision_range", "classes"):
        assert facts.special[name] == found[name]


def test_what_was_decided_stays_decided(figures):
    of = {"embeddings": "raster", "label_field": "figure", "run_key": "doubt"}
    own = run("find_label_issues", figures, **of)["flagged"]
    view = figures.load_saved_view("doubt: flagged")
    kept, accepted = view.values("id")[:2]
    run("review_label_issues", figures.select(kept), decision="keep", run_key="doubt")
    run("review_label_issues", figures.select(accepted), decision="accept", run_key="doubt")
    label = figures[accepted].figure.label
    rows = of_images(figures)
    move_threshold(figures, "doubt", 0.9)
    expected = {id_ for id_, row in rows.items() if row[0] <= 0.9 and row[2] is not None}
    assert {id_ for id_, row in of_images(figures).items() if row[1]} == expected - {kept, accepted}
    assert not figures[kept].doubt_flagged and not figures[accepted].doubt_flagged
    assert figures[accepted].figure.label == label
    move_threshold(figures, "doubt", None)
    assert len(figures.load_saved_view("doubt: flagged")) == own - 2


def test_an_update_repeats_what_was_chosen(figures):
    of = {"embeddings": "raster", "label_field": "figure", "run_key": "doubt"}
    run("find_label_issues", figures, **of)
    move_threshold(figures, "doubt", 0.3)
    figures.delete_samples(figures.limit(3))
    result = run("update_audit", figures)["updated"]["doubt"]
    assert result["parameters"]["threshold"] == result["threshold"] == 0.3
    quality = figures.values(["doubt_quality", "doubt_flagged"])
    assert all(value <= 0.3 for value, flag in zip(*quality) if flag)


def test_several_labels_have_no_threshold(figures):
    figures.set_values("all", [[one] for one in figures.values("figure.label")])
    of = {"embeddings": "raster", "label_field": "all", "run_key": "many"}
    with pytest.raises(ValueError, match="threshold= needs one label per sample"):
        run("find_label_issues", figures, **of, threshold=0.5)
    run("find_label_issues", figures, **of)
    assert not has_threshold(read_run(figures, "many"))
    with pytest.raises(ValueError, match="run_key='many' is not a finished run"):
        move_threshold(figures, "many", 0.5)


@pytest.mark.parametrize("bad", [0, 1.5, "much", True])
def test_thresholds_out_of_range_are_refused(figures, bad):
    of = {"embeddings": "raster", "label_field": "figure"}
    with pytest.raises(ValueError, match="threshold="):
        run("find_label_issues", figures, **of, threshold=bad)
    assert figures.list_runs() == []


@pytest.mark.parametrize(
    ("parameters", "path"),
    [
        ({"label_field": "figure"}, "tags"),
        ({"label_field": "marks", "patches_field": "marks"}, "marks.detections.tags"),
    ],
    ids=["images", "patches"],
)
def test_a_finding_is_tagged_and_untagged(figures, parameters, path):
    found = run("find_label_issues", figures, embeddings="raster", run_key="doubt", **parameters)
    first = figures.first()
    first.tags = first.marks.detections[0].tags = ["mine", "doubt_flagged"]
    first.save()
    told = ("doubt_flagged", found["flagged"])
    for _ in range(2):  # an event of the App's can come twice
        assert tag_view(figures, "doubt: flagged", True) == told
        counts = figures.count_values(path)
        assert counts["doubt_flagged"] in (told[1], told[1] + 1) and counts["mine"] == 1
    for _ in range(2):
        assert tag_view(figures, "doubt: flagged", False) == told
        assert figures.count_values(path).get("doubt_flagged", 0) <= 1
    with pytest.raises(ValueError, match="'gone' no longer exists"):
        tag_view(figures, "gone", True)
