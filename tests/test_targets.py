"""Paths, ids and views as users have them: understood, or refused with the way out."""

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone import ViewField as F

PREFIX = "@embedding/quality/"


def operator(name):
    return foo.get_operator(PREFIX + name)


def features(number, classes=2, seed=0, dim=12):
    random = np.random.default_rng(seed)
    centers = random.normal(size=(classes, dim)) * 2
    rows = [centers[index % classes] + 0.4 * random.normal(size=dim) for index in range(number)]
    return [row.astype(np.float32) for row in rows]


@pytest.fixture
def shelf(dataset):
    """30 samples: labels and embeddings of the samples, in a document, and of two patches each."""
    rows = features(90)
    for index in range(30):
        name = ("cup", "pot")[index % 2]
        patches = [
            fo.Detection(
                label=("cup", "pot")[(index + place) % 2],
                bounding_box=[0.1, 0.1, 0.5, 0.5],
                emb=rows[(index + place) % 2 + 2 * ((index + place) // 2)],
            )
            for place in range(2)
        ]
        dataset.add_sample(
            fo.Sample(
                f"/nowhere/{index:02}.png",
                vec=rows[index],
                item=fo.Classification(label=name),
                several=fo.Classifications(
                    classifications=[fo.Classification(label=name)]
                    + [fo.Classification(label="blue")] * (index % 3 == 0)
                ),
                words=[name, "x"] if index % 2 else [name],
                count=index % 2,
                flag=bool(index % 2),
                meta=fo.DynamicEmbeddedDocument(clip=rows[index], room=name),
                boxes=fo.Detections(detections=patches),
            )
        )
    dataset.add_dynamic_sample_fields()
    dataset.add_sample_field("boxes.detections.emb", fo.VectorField)
    dataset.add_sample_field("meta.clip", fo.VectorField)
    return dataset


@pytest.mark.parametrize("path", ["item", "item.label", "meta.room", "count", "flag"])
def test_labels_are_those_of_their_samples(shelf, path):
    result = operator("find_label_issues")(shelf, embeddings="vec", label_field=path)
    assert [row["count"] for row in result["classes"]] == [15, 15]
    assert result["flagged"] == 0
    sample = shelf.first()
    other = {"count": "1", "flag": "True"}.get(path, "pot")
    done = operator("review_label_issues")(shelf[:1], decision="set", label=other, unflagged=True)
    assert done["changed"] == 1
    sample.reload()
    value = sample.item.label if path.startswith("item") else sample[path]
    assert str(value) == other and type(value) is {"count": int, "flag": bool}.get(path, str)
    assert operator("review_label_issues")(shelf, decision="undo")["changed"] == 1
    sample.reload()
    value = sample.item.label if path.startswith("item") else sample[path]
    assert str(value) == {"count": "0", "flag": "False"}.get(path, "cup")


@pytest.mark.parametrize("path", ["several", "several.classifications.label", "words"])
def test_several_labels_by_field_and_path(shelf, path):
    before = shelf.values("several.classifications.label"), shelf.values("words")
    result = operator("find_label_issues")(shelf, embeddings="vec", label_field=path)
    names = {row["label"] for row in result["classes"]}
    assert names == ({"cup", "pot", "x"} if path == "words" else {"cup", "pot", "blue"})
    done = operator("review_label_issues")(
        shelf[:2], decision="set", label=["New York, NY", "cup"], unflagged=True
    )
    assert done["changed"] == 2
    values = shelf[:2].values("words" if path == "words" else "several.classifications.label")
    assert [set(labels) for labels in values] == [{"New York, NY", "cup"}] * 2
    rows = {row["run_key"]: row for row in operator("list_runs")(shelf)["runs"]}
    assert "have changed" in rows["label_issues"]["reasons"][0]
    operator("review_label_issues")(shelf, decision="undo")
    assert before == (shelf.values("several.classifications.label"), shelf.values("words"))
    rows = {row["run_key"]: row for row in operator("list_runs")(shelf)["runs"]}
    assert rows["label_issues"]["reasons"] == []


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"label_field": "boxes.detections.label"}, "pass patches_field='boxes', label_field="),
        ({"label_field": "item.confidence"}, "does not name labels; the labels of this field are"),
        ({"label_field": "nothing.at.all"}, "there is no such field"),
        ({"embeddings": "boxes.detections.emb"}, "pass patches_field='boxes', embeddings='emb'"),
        ({"embeddings": "meta.room"}, "is of type StringField, not embeddings"),
        ({"label_field": "words", "predictions_field": "item"}, "holds several"),
    ],
)
def test_paths_that_lead_elsewhere_name_the_way_out(shelf, parameters, message):
    given = {"embeddings": "vec", "label_field": "item", **parameters}
    with pytest.raises(ValueError, match=message):
        operator("find_label_issues")(shelf, **given)
    assert shelf.list_runs() == []


@pytest.mark.parametrize(
    "parameters",
    [
        {"embeddings": "meta.clip"},
        {"embeddings": "boxes.detections.emb", "patches_field": "boxes"},
        {"embeddings": "emb", "patches_field": "boxes.detections"},
    ],
)
def test_embeddings_by_their_full_path(shelf, parameters):
    result = operator("find_outliers")(shelf, check_pictures=False, **parameters)
    assert result["judged"] == (60 if "patches_field" in parameters else 30)
    rows = {row["run_key"]: row for row in operator("list_runs")(shelf)["runs"]}
    assert rows["outliers"]["reasons"] == []


@pytest.mark.slow
def test_slices_and_splits_of_every_kind(shelf):
    for by in ("count", "flag", "words", "several", "meta.room", "item.label"):
        result = operator("compute_separability")(
            shelf, embeddings="vec", label_field="item", by=by, run_key="by_it"
        )
        assert len(result["slices"]) >= 2, by


# Ids


@pytest.fixture
def pasted(shelf):
    """A patch of the first sample that was pasted, with its id, onto the second."""
    first, second = shelf.first(), shelf[1:2].first()
    patch = first.boxes.detections[0].copy()
    patch._id = first.boxes.detections[0]._id
    patch.label, patch["emb"] = "lid", first.boxes.detections[1]["emb"]
    second.boxes.detections.append(patch)
    second.save()
    return shelf


def labels(dataset):
    return [[patch.label for patch in sample.boxes.detections] for sample in dataset]


def test_patches_that_share_an_id_are_two(pasted):
    of = {"embeddings": "emb", "patches_field": "boxes"}
    before = labels(pasted)
    result = operator("find_label_issues")(pasted, label_field="boxes", **of)
    assert result["read"] == result["judged"] == 61
    assert {row["label"]: row["count"] for row in result["classes"]}["lid"] == 1
    second = pasted[1:2]
    operator("review_label_issues")(second, decision="set", label="jar", unflagged=True)
    pasted.reload()
    after = labels(pasted)
    assert after[1] == ["jar"] * 3 and after[0] == before[0] and after[2:] == before[2:]
    operator("review_label_issues")(second, decision="undo")
    pasted.reload()
    assert labels(pasted) == before


def test_patches_that_nothing_tells_apart_are_left_out(shelf):
    sample = shelf.first()
    twin = sample.boxes.detections[0].copy()
    twin._id = sample.boxes.detections[0]._id
    sample.boxes.detections.append(twin)
    sample.save()
    result = operator("find_outliers")(
        shelf, embeddings="emb", patches_field="boxes", check_pictures=False
    )
    assert (result["read"], result["judged"]) == (61, 59)
    assert result["skipped"] == {"label id shared with another patch of its sample": 2}


def test_a_view_that_holds_samples_twice_counts_them_once(shelf):
    view = shelf[:20].concat(shelf[10:])
    result = operator("find_outliers")(view, embeddings="vec", check_pictures=False)
    assert (result["read"], result["judged"], result["whole"]) == (30, 30, True)
    patches = shelf.to_patches("boxes")
    twice = patches[:20].concat(patches[:30])
    result = operator("find_outliers")(twice, embeddings="emb", check_pictures=False, run_key="p")
    assert (result["read"], result["judged"]) == (30, 30)


# Views


@pytest.fixture
def video(dataset, tmp_path):
    from PIL import Image

    rows = features(24, seed=4)
    path = tmp_path / "film.mp4"
    path.write_bytes(b"no video")
    sample = fo.Sample(str(path), metadata=fo.VideoMetadata(total_frame_count=24))
    for number in range(1, 25):
        image = str(tmp_path / f"{number}.png")
        Image.new("RGB", (8, 8), (number, 0, 0)).save(image)
        label = ("car", "van")[(number - 1) % 2]
        patch = fo.Detection(label=label, bounding_box=[0, 0, 1, 1], index=1, emb=rows[number - 1])
        cars = fo.Detections(detections=[patch])
        sample.frames[number] = fo.Frame(filepath=image, cars=cars, vec=rows[number - 1])
    sample["events"] = fo.TemporalDetections(
        detections=[fo.TemporalDetection(label="turn", support=[3, 12])]
    )
    dataset.add_sample(sample)
    dataset.add_frame_field("cars.detections.emb", fo.VectorField)
    dataset.add_frame_field("vec", fo.VectorField)
    return dataset


def test_patches_of_frames(video):
    patches = video.to_frames().to_patches("cars")
    result = operator("find_label_issues")(patches, embeddings="emb", label_field="cars")
    assert result["judged"] == 24 and result["things"] == "patches"
    done = operator("review_label_issues")(patches[:3], decision="set", label="bus", unflagged=True)
    assert done["changed"] == 3
    assert video.count_values("frames.cars.detections.label")["bus"] == 3
    operator("review_label_issues")(patches, decision="undo")
    assert "bus" not in video.count_values("frames.cars.detections.label")


@pytest.mark.parametrize(
    "view, message",
    [
        (lambda d: d, "pass a view of their frames"),
        (lambda d: d.to_clips("events"), r"clips\.to_frames\("),
        (lambda d: d.to_trajectories("frames.cars"), "with patches_field= for their objects"),
    ],
)
def test_views_of_videos_name_what_to_pass(video, view, message):
    with pytest.raises(ValueError, match=message):
        operator("find_outliers")(view(video), embeddings="vec")


def test_frames_of_clips(video):
    frames = video.to_clips("events").to_frames()
    result = operator("find_outliers")(frames, embeddings="vec", check_pictures=False)
    assert result["judged"] == 10


def test_evaluation_patches_name_what_to_pass(shelf):
    shelf.set_values("found", [boxes.copy() for boxes in shelf.values("boxes")])
    shelf.set_values("found.detections.confidence", [[0.9] * 2] * 30)
    shelf.evaluate_detections("found", gt_field="boxes", eval_key="eval")
    with pytest.raises(ValueError, match=r"dataset\.to_patches\(field\)"):
        operator("find_outliers")(shelf.to_evaluation_patches("eval"), embeddings="emb")


def test_stages_that_make_something_else_of_the_samples(shelf):
    view = shelf.mongo([{"$unwind": "$boxes.detections"}])
    with pytest.raises(ValueError, match=r"pass a view without mongo\(\) stages"):
        operator("find_outliers")(view, embeddings="emb", patches_field="boxes")
    matching = shelf.mongo([{"$match": {"count": 1}}])
    assert operator("find_outliers")(matching, embeddings="vec", check_pictures=False)["read"] == 15


def test_groups_of_groups(dataset):
    dataset.add_group_field("rig", default="left")
    for index, row in enumerate(features(24)):
        group = fo.Group()
        for side in ("left", "right"):
            path = f"/nowhere/{index}-{side}.png"
            scene = str(index % 4)
            dataset.add_sample(fo.Sample(path, rig=group.element(side), vec=row, scene=scene))
    result = operator("find_outliers")(
        dataset.group_by("scene"), embeddings="vec", check_pictures=False
    )
    assert result["judged"] == 24


def test_a_filtered_patches_view(shelf):
    view = shelf.to_patches("boxes").match(F("boxes.label") == "cup")
    result = operator("find_outliers")(view, embeddings="emb", check_pictures=False)
    assert result["judged"] == 30 and not result["whole"]


@pytest.mark.parametrize("path, text", [("flag", "true"), ("count", "01"), ("words", ["  pan "])])
def test_what_was_typed_is_what_is_read(shelf, path, text):
    """A review is known again by what is stored, so that it can be undone."""
    before = shelf.values(path)
    operator("find_label_issues")(shelf, embeddings="vec", label_field=path)
    done = operator("review_label_issues")(shelf, decision="set", label=text, unflagged=True)
    assert done["reviewed"] == 30 and shelf.values(path) != before
    operator("review_label_issues")(shelf, decision="undo")
    assert shelf.values(path) == before


@pytest.mark.slow
def test_views_that_hide_fields_show_the_same(shelf, tmp_path):
    hidden = shelf.select_fields("item")
    result = operator("find_label_issues")(hidden, embeddings="vec", label_field="several")
    assert result["judged"] == 30
    operator("find_duplicates")(hidden, split="words")
    operator("compute_separability")(hidden, embeddings="vec", label_field="count")
    report = operator("export_report")(hidden, path=str(tmp_path / "hidden"))
    whole = operator("export_report")(shelf, path=str(tmp_path / "whole"))
    assert report["findings"] == whole["findings"] and report["left_out"] == {}
