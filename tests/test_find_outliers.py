"""Outliers on a real database and real pictures: scores, flags, reasons, views, refusals."""

import importlib

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from conftest import read_rows
from fiftyone_embedding_quality.checks.thresholds import move_threshold
from PIL import Image
from sklearn.metrics import roc_auc_score

URI = "@embedding/quality/find_outliers"


@pytest.fixture(scope="module")
def find_outliers():
    return foo.get_operator(URI)


@pytest.fixture(scope="module")
def _mixed(digit_files, photo_tiles, compute_embeddings, tmp_path_factory):
    """150 digits, three photos and a black picture among them, with vectors, once."""
    folder = tmp_path_factory.mktemp("strange")
    dataset = fo.Dataset()
    dataset.add_samples(
        [
            fo.Sample(path, name="digit", ground_truth=fo.Classification(label=label))
            for path, label in digit_files[:150]
        ]
    )
    strange = {f"photo-{index}": photo_tiles[index] for index in (2, 16, 20)}
    for name, image in (strange | {"black": Image.new("RGB", (160, 142))}).items():
        image.resize((48, 48)).save(folder / f"{name}.png")
        label = fo.Classification(label="3")
        dataset.add_sample(fo.Sample(str(folder / f"{name}.png"), name=name, ground_truth=label))
    compute_embeddings(dataset, model="cnn")
    yield dataset
    dataset.delete()


@pytest.fixture
def mixed(_mixed):
    dataset = _mixed.clone()
    yield dataset
    dataset.delete()


@pytest.mark.parametrize("label_field", [None, "ground_truth"])
def test_what_is_strange_is_flagged_and_stands_first(mixed, find_outliers, label_field):
    result = find_outliers(mixed, embeddings="cnn", label_field=label_field)
    flagged = mixed.load_saved_view("outliers: flagged")
    assert result["flagged"] == len(flagged) <= 12
    assert set(flagged[:4].values("name")) == {"photo-2", "photo-16", "photo-20", "black"}
    scores = flagged.values("outliers_score")
    assert scores == sorted(scores, reverse=True) and min(scores) >= 0 and max(scores) <= 1
    reasons = dict(zip(*flagged.values(["name", "outliers_reason"])))
    assert reasons["black"] == "dark" and reasons["photo-16"] == "unlike the rest of the dataset"
    assert mixed.count("outliers_score") == 154
    assert sum(result["reasons"].values()) == result["flagged"]


def test_pixels_are_left_alone_if_one_wants(mixed, find_outliers):
    result = find_outliers(mixed, embeddings="cnn", check_pictures=False)
    assert set(result["reasons"]) <= {"unlike the rest of the dataset"}


def test_copies_of_a_strange_image_are_still_strange(mixed, find_outliers):
    photo = mixed.match(fo.ViewField("name") == "photo-16").first()
    vector = photo["cnn"]
    mixed.add_samples(
        [fo.Sample(photo.filepath, name="copy", cnn=vector * (1 + i / 100)) for i in range(40)]
    )
    alone = find_outliers(mixed, embeddings="cnn", check_pictures=False)
    assert alone["duplicates"] is None
    assert not any(mixed.match(fo.ViewField("name") == "copy").values("outliers_flagged"))
    foo.get_operator("@embedding/quality/find_duplicates")(mixed)
    result = find_outliers(mixed, embeddings="cnn", check_pictures=False)
    assert result["duplicates"] == "duplicates"
    assert all(mixed.match(fo.ViewField("name") == "copy").values("outliers_flagged"))


def test_what_cannot_be_judged_is_counted(mixed, find_outliers, tmp_path):
    lost, nan, bare = mixed[:3]
    lost.filepath = str(tmp_path / "lost.png")
    nan["cnn"] = nan["cnn"] * np.nan
    bare["cnn"] = None
    for sample in (lost, nan, bare):
        sample.save()
    result = find_outliers(mixed, embeddings="cnn")
    assert (result["read"], result["judged"]) == (154, 152)
    assert result["skipped"] == {
        "no embedding": 1,
        "embedding with NaN or infinity": 1,
        "pixels not evaluated: file not found": 1,
    }
    assert mixed[:3].values("outliers_score")[1:] == [None, None]
    assert mixed[:3].values("outliers_score")[0] is not None


def test_objects_are_judged_and_found_again(dataset, photo_tiles, find_outliers, digit_files):
    random = np.random.default_rng(51)
    for index, (path, label) in enumerate(digit_files[:60]):
        vector = random.normal(size=16) + (10 if index != 7 else -10) * np.eye(16)[0]
        box = fo.Detection(label=label, bounding_box=[0, 0, 1, 1], vec=vector.astype(np.float32))
        dataset.add_sample(fo.Sample(path, ground_truth=fo.Detections(detections=[box])))
    dataset.add_sample_field("ground_truth.detections.vec", fo.VectorField)
    result = find_outliers(dataset, embeddings="vec", patches_field="ground_truth")
    flagged = dataset.load_saved_view("outliers: flagged")
    assert flagged.first()["sample_id"] == dataset.values("id")[7]
    assert result["things"] == "patches"
    # The name is taken: findings on the samples get another one, and both stay.
    dataset.set_values("vec", [boxes[0] for boxes in dataset.values("ground_truth.detections.vec")])
    assert find_outliers(dataset, embeddings="vec")["run_key"] == "outliers_samples"
    assert dataset.count("ground_truth.detections.outliers_score") == 60
    with pytest.raises(ValueError, match="run_key='outliers' holds findings for the patches"):
        find_outliers(dataset, embeddings="vec", run_key="outliers")


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"embeddings": "nothing"}, "embeddings='nothing': there is no such field"),
        ({"embeddings": "name"}, "is of type StringField, not embeddings"),
        ({"label_field": "cnn"}, "holds no class per sample"),
        ({"threshold": 0}, 'must be "auto" or a number between 0 and 1'),
        ({"lable_field": "ground_truth"}, "no parameter 'lable_field'"),
    ],
)
def test_refusals(mixed, find_outliers, parameters, message):
    with pytest.raises(ValueError, match=message):
        find_outliers(mixed, **{"embeddings": "cnn", **parameters})
    assert not mixed.has_run("outliers") and mixed.list_saved_views() == []


def test_few_samples_and_one_class(digits, find_outliers):
    digits.set_values("vec", list(np.eye(20, dtype=np.float32)))
    assert find_outliers(digits, embeddings="vec")["flagged"] <= 1
    assert find_outliers(digits[:1], embeddings="vec")["judged"] == 1
    one_class = digits[:5]
    one_class.set_values("ground_truth.label", ["a"] * 5)
    assert find_outliers(one_class, embeddings="vec", label_field="ground_truth")["judged"] == 5


def test_a_group_of_another_kind_is_one_finding(dataset, digit_files, find_outliers):
    """It has a view and a number, its members are no outliers, and labels can explain it."""
    from test_foreign_groups import classes, strangers

    rows = np.concatenate([classes(num_classes=6, per_class=20), strangers(12)])
    dataset.add_samples(
        [
            fo.Sample(path, vec=row, kind=fo.Classification(label=f"kind {place // 20}"))
            for place, ((path, _), row) in enumerate(zip(digit_files, rows))
        ]
    )
    result = find_outliers(dataset, embeddings="vec", check_pictures=False)
    assert [(one["group"], one["count"]) for one in result["groups"]] == [(1, 12)]
    view = dataset.load_saved_view("outliers: groups")
    assert set(view.values("id")) == set(dataset[120:].values("id"))
    assert dataset.values("outliers_group") == [None] * 120 + [1] * 12
    assert not any(dataset[120:].values("outliers_flagged"))
    assert "a group of 12" in find_outliers.summary(result)
    move_threshold(dataset, "outliers", 0.001)
    assert not any(dataset[120:].values("outliers_flagged"))
    # The last label names the group: a class is nothing to tell.
    known = find_outliers(dataset, embeddings="vec", label_field="kind", check_pictures=False)
    assert known["groups"] == [] and not dataset.has_saved_view("outliers: groups")


@pytest.mark.slow
def test_clutter_among_real_photos(excerpt, dataset, find_outliers):
    folder = excerpt / "caltech101"
    rows = read_rows(folder / "qa_samples.csv")
    stored = np.load(folder / "embeddings_efficientnet_lite0.npz")
    vectors = dict(zip(stored["files"], stored["embeddings"].astype(np.float32)))
    dataset.add_samples(
        [
            fo.Sample(
                str(folder / row["file"]),
                issue=row["issue"],
                cnn=vectors[row["file"]],
                ground_truth=fo.Classification(label=row["given_label"]),
            )
            for row in rows
        ]
    )
    find_outliers(dataset, embeddings="cnn", label_field="ground_truth", check_pictures=False)
    issues, scores, flagged = dataset.values(["issue", "outliers_score", "outliers_flagged"])
    clutter = np.array(issues) == "outlier"
    assert roc_auc_score(clutter, scores) >= 0.975
    hits = np.sum(clutter & np.array(flagged))
    assert 2 * hits / (sum(flagged) + clutter.sum()) >= 0.6


def test_frames(dataset, digit_files, find_outliers, compute_embeddings, tmp_path):
    """Frames of a video, judged and found again; their run is removed with all it wrote."""
    import cv2

    video = cv2.VideoWriter(
        str(tmp_path / "video.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (48, 48)
    )
    for path, _ in digit_files[:12]:
        video.write(cv2.imread(path))
    video.release()
    sample = fo.Sample(str(tmp_path / "video.mp4"))
    for number, (path, label) in enumerate(digit_files[:12], start=1):
        sample.frames[number] = fo.Frame(filepath=path, label=fo.Classification(label=label))
    dataset.add_sample(sample)
    frames = dataset.to_frames()
    compute_embeddings(frames, model="cnn")
    result = find_outliers(frames, embeddings="cnn", check_pictures=False)
    assert result["judged"] == 12 and dataset.count("frames.outliers_score") == 12
    foo.get_operator("@embedding/quality/find_duplicates")(frames, embeddings="cnn")
    view = dataset.load_saved_view("outliers: flagged")
    assert len(view) == result["flagged"]
    foo.get_operator("@embedding/quality/delete_run")(dataset, run_key="outliers")
    assert "outliers_score" not in dataset.get_frame_field_schema()


def test_a_grouped_dataset_stands_for_its_active_slice(dataset, digit_files, find_outliers):
    dataset.add_group_field("group", default="left")
    for index in range(20):
        group = fo.Group()
        for name in ("left", "right"):
            vector = np.float32([index % 3, 1, index == 7]) if name == "left" else None
            path = digit_files[index][0]
            dataset.add_sample(fo.Sample(path, group=group.element(name), vec=vector))
    result = find_outliers(dataset, embeddings="vec", check_pictures=False)
    assert result["judged"] == result["read"] == 20
    assert len(dataset.load_saved_view("outliers: flagged")) == result["flagged"]
    assert dataset.select_group_slices("left").count("outliers_score") == 20


def test_objects_on_frames(dataset, digit_files, find_outliers, tmp_path):
    import cv2

    video = cv2.VideoWriter(
        str(tmp_path / "video.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (48, 48)
    )
    sample = fo.Sample(str(tmp_path / "video.mp4"))
    for number, (path, label) in enumerate(digit_files[:12], start=1):
        video.write(cv2.imread(path))
        vector = np.float32([number % 3, 1, 0])
        box = fo.Detection(label=label, bounding_box=[0, 0, 1, 1], vec=vector)
        boxes = fo.Detections(detections=[box])
        sample.frames[number] = fo.Frame(filepath=path, boxes=boxes)
    video.release()
    dataset.add_sample(sample)
    dataset.add_frame_field("boxes.detections.vec", fo.VectorField)
    result = find_outliers(dataset.to_frames(), embeddings="vec", patches_field="boxes")
    assert result["judged"] == 12
    assert dataset.count("frames.boxes.detections.outliers_score") == 12


def test_a_threshold_is_moved_without_computing_anew(mixed, find_outliers):
    """What was decided and what is flagged for its pixels stay; Reset is what the run found."""
    package = type(find_outliers).__module__.partition(".operators")[0]
    thresholds = importlib.import_module(f"{package}.checks.thresholds")
    move = thresholds.move_threshold
    own = find_outliers(mixed, embeddings="cnn", run_key="odd")
    view = mixed.load_saved_view("odd: flagged")
    names = view.values("name")
    scores = dict(zip(*mixed.values(["name", "odd_score"])))
    # The black image is flagged for its pixels.
    most = {name for name, score in scores.items() if score >= 0.999} | {"black"}
    assert move(mixed, "odd", 0.999) == {"flagged": len(most), "before": own["flagged"]}
    assert set(mixed.load_saved_view("odd: flagged").values("name")) == most
    assert 1 <= len(most) < own["flagged"]
    low = sorted(mixed.values("odd_score"))[-40]
    done = move(mixed, "odd", low)
    assert done["flagged"] == 40 + (scores["black"] < low)
    row = next(
        one
        for one in foo.get_operator("@embedding/quality/list_runs")(mixed)["runs"]
        if one["run_key"] == "odd"
    )
    assert row["reasons"] == []
    assert mixed.get_run_info("odd").config.facts["flagged"] == done["flagged"]
    # The next run keeps the threshold that was chosen, until it is put back.
    assert mixed.get_run_info("odd").config.facts["parameters"]["threshold"] == low
    assert move(mixed, "odd", None)["flagged"] == own["flagged"]
    assert mixed.load_saved_view("odd: flagged").values("name") == names
    assert mixed.get_run_info("odd").config.facts["parameters"]["threshold"] == "auto"
    for bad in (0, 1.5, "much"):
        with pytest.raises(ValueError, match="threshold="):
            move(mixed, "odd", bad)
    with pytest.raises(ValueError, match="run_key='even'"):
        move(mixed, "even", 0.5)


def test_a_threshold_counts_as_it_flags(dataset, find_outliers):
    """Scores that are exactly a hundredth are flagged from there, and counted there."""
    random = np.random.default_rng(4)
    rows = random.normal(size=(101, 6)).astype(np.float32)
    dataset.add_samples([fo.Sample(f"/no/{place}.png", vec=row) for place, row in enumerate(rows)])
    find_outliers(dataset, embeddings="vec", check_pictures=False, run_key="far")
    dataset.set_values("far_score", [place / 100 for place in range(101)])
    package = type(find_outliers).__module__.partition(".operators")[0]
    thresholds = importlib.import_module(f"{package}.checks.thresholds")
    read_run = importlib.import_module(f"{package}.storage.runs").read_run
    scores = thresholds.read_scores(dataset, read_run(dataset, "far"))
    assert scores.counts[:99] == (1,) * 99 and scores.counts[99] == 2
    for hundredths in (1, 7, 29, 58, 99):
        flagged = thresholds.move_threshold(dataset, "far", hundredths / 100)["flagged"]
        assert flagged == scores.flags(hundredths / 100).sum() == 101 - hundredths
