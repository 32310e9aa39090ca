"""Duplicates on a real database and real images: groups, what is kept, leaks, views, refusals."""

import random
import uuid

import cv2
import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from PIL import Image

URI = "@embedding/quality/find_duplicates"

COPIES = {
    "copy": ("photo-00", "copy"),
    "same-pixels": ("photo-01", "same pixels"),
    "mirror": ("photo-02", "mirror"),
    "half": ("photo-03", "rescale"),
    "gray": ("photo-04", "gray"),
    "crop": ("photo-05", "crop"),
}


@pytest.fixture(scope="module")
def find_duplicates():
    return foo.get_operator(URI)


def _groups(dataset, key="duplicates") -> set[frozenset[str]]:
    members: dict[int, set[str]] = {}
    for name, group in zip(*dataset.values(["name", f"{key}_group"])):
        if group is not None:
            members.setdefault(group, set()).add(name)
    return {frozenset(names) for names in members.values()}


def test_the_largest_is_kept_where_that_is_asked_for(photos, find_duplicates):
    large = photos.match({"name": "photo-03"}).first()
    large["ground_truth"] = None
    large.save()
    for keep, kept in ({}, "half"), ({"keep": "largest"}, "photo-03"):
        find_duplicates(photos, embeddings="cnn", label_field="ground_truth", **keep)
        told = dict(zip(*photos.values(["name", "duplicates_keep"])))
        assert {name for name in ("half", "photo-03") if told[name]} == {kept}
    assert photos.get_run_info("duplicates").config.facts["parameters"]["keep"] == "largest"


def test_the_oldest_or_newest_is_kept_by_the_date_of_its_file(dataset, find_duplicates, tmp_path):
    """Original before digitized before changed; fractions count; a file without a date is last."""
    pixels = Image.fromarray(np.random.default_rng(3).integers(0, 255, (40, 50, 3), np.uint8))
    dates = {
        "evening": {0x9003: "2021:05:01 20:15:00"},
        "morning": {0x9003: "2021:05:01 08:15:00", 0x9291: "5"},
        "just_before": {0x9003: "2021:05:01 08:15:00", 0x9291: "25"},
        "scanned": {0x9004: "1999:12:31 23:59:59"},
        "undated": {},
        "nonsense": {0x9003: "    :  :     :  :  "},
    }
    for name, entries in dates.items():
        exif = Image.Exif()
        exif[0x0132] = "2030:01:01 00:00:00"
        if not entries or name == "nonsense":
            del exif[0x0132]
        exif.get_ifd(0x8769).update(entries)
        pixels.save(tmp_path / f"{name}.jpg", quality=95, exif=exif)
        part = "exam" if name == "undated" else "study"
        dataset.add_sample(fo.Sample(str(tmp_path / f"{name}.jpg"), who=name, part=part))
    order = []
    for keep in ("oldest", "newest"):
        result = find_duplicates(dataset, keep=keep)
        assert result["exact_groups"] == 1 and result["redundant"] == 5
        assert result["notes"] == ["2 of 6 without an EXIF date, ranked last"]
        order.append(dataset.match({"duplicates_keep": True}).values("who"))
    assert order == [["scanned"], ["evening"]]
    of_morning = dataset.match({"who": {"$in": ["morning", "just_before"]}})
    find_duplicates(of_morning, keep="oldest", run_key="pair")
    assert dataset.match({"pair_keep": True}).values("who") == ["just_before"]
    dataset.match({"part": "exam"}).tag_samples("test")
    dataset.match({"part": "study"}).tag_samples("train")
    find_duplicates(dataset, keep="newest", split=["train", "test"], run_key="parted")
    assert dataset.match({"parted_keep": True}).values("who") == ["undated"]


def test_every_copy_is_found_and_told_what_it_is(photos, find_duplicates):
    before = photos.values("ground_truth.label")
    result = find_duplicates(photos, embeddings="cnn", label_field="ground_truth")
    assert _groups(photos) == {frozenset((copy, of)) for copy, (of, _) in COPIES.items()}
    assert (result["exact_groups"], result["near_groups"], result["redundant"]) == (2, 4, 6)
    changes = dict(zip(*photos.exists("duplicates_change").values(["name", "duplicates_change"])))
    redundant = dict(zip(*photos.values(["name", "duplicates_keep"])))
    for copy, (original, change) in COPIES.items():
        # Of equals, either may stay; of others, the larger or less compressed one.
        one = copy if redundant[copy] is False else original
        assert changes[one] == change
    assert redundant["photo-03"] and redundant["photo-05"]
    assert redundant["photo-20"] is None
    assert photos.values("ground_truth.label") == before
    groups, extra = (
        photos.load_saved_view(f"duplicates: {name}") for name in ("groups", "redundant")
    )
    assert len(groups) == 12 and len(extra) == 6
    numbers = groups.values("duplicates_group")
    assert numbers == sorted(numbers)
    assert groups.values("duplicates_keep") == [True, False] * 6
    assert not photos.has_saved_view("duplicates: leaks")
    run = photos.get_run_info("duplicates").config
    assert run.facts["inputs"]["files"] and run.facts["libraries"]["fiftyone"] == fo.__version__


def test_exact_copies_need_no_vectors(photos, find_duplicates):
    result = find_duplicates(photos)
    assert _groups(photos) == {
        frozenset(("copy", "photo-00")),
        frozenset(("same-pixels", "photo-01")),
    }
    assert (result["exact_groups"], result["near_groups"]) == (2, 0)
    assert set(photos.distinct("duplicates_kind")) == {"exact"}


@pytest.mark.parametrize("how", ["tags", "list of tags", "field"])
def test_leaks_between_splits_come_first_and_the_test_member_stays(photos, find_duplicates, how):
    for sample in photos:
        split = "test" if sample["name"] in ("half", "mirror") else "train"
        sample["part"] = split
        sample.tags = ["reviewed", split]
        sample.save()
    split = {"tags": "tags", "list of tags": ["train", "test"], "field": "part"}[how]
    result = find_duplicates(photos, embeddings="cnn", split=split)
    assert result["leaks"] == [{"splits": ["test", "train"], "groups": 2}]
    leaks = photos.load_saved_view("duplicates: leaks")
    assert set(leaks.values("name")) == {"half", "photo-03", "mirror", "photo-02"}
    assert set(leaks.values("duplicates_group")) == {0, 1}
    kept = dict(zip(*photos.values(["name", "duplicates_keep"])))
    # Although it is the smaller one.
    assert kept["half"] and kept["photo-03"] is False


def test_labels_that_disagree_are_counted_and_a_labeled_member_stays(photos, find_duplicates):
    mirror, gray = (
        photos.match(fo.ViewField("name") == name).first() for name in ("mirror", "gray")
    )
    mirror["ground_truth"].label = "other"
    mirror.save()
    original = photos.match(fo.ViewField("name") == "photo-04").first()
    original["ground_truth"] = None
    original.save()
    result = find_duplicates(photos, embeddings="cnn", label_field="ground_truth")
    assert result["conflicts"] == 1
    disagreeing = photos.load_saved_view("duplicates: conflicts")
    assert set(disagreeing.values("name")) == {"mirror", "photo-02"}
    assert photos[gray.id]["duplicates_keep"] is True
    first = photos.load_saved_view("duplicates: groups").first()
    assert first["name"] in ("mirror", "photo-02")


def test_unreadable_files_cost_nobody_else_anything(photos, find_duplicates, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    vector = photos.first()["cnn"]
    photos.add_samples(
        [
            fo.Sample(str(tmp_path / name), name=name, cnn=vector[::-1] * (index + 1))
            for index, name in enumerate(("missing.png", "broken.png"))
        ]
    )
    result = find_duplicates(photos, embeddings="cnn")
    assert {frozenset((copy, of)) for copy, (of, _) in COPIES.items()} <= _groups(photos)
    assert sum(result["skipped"].values()) == 2 and "file not found" in result["skipped"]
    assert result["judged"] == 30 and result["read"] == 32


def test_the_order_of_the_samples_does_not_matter(photos, find_duplicates):
    find_duplicates(photos, embeddings="cnn")
    first = {sample["name"]: sample["duplicates_keep"] for sample in photos}
    samples = [
        fo.Sample(sample.filepath, name=sample["name"], cnn=sample["cnn"]) for sample in photos
    ]
    random.Random(3).shuffle(samples)
    other = fo.Dataset()
    other.add_samples(samples)
    find_duplicates(other, embeddings="cnn")
    assert _groups(other) == _groups(photos)
    assert {sample["name"]: sample["duplicates_keep"] for sample in other} == first
    other.delete()


def test_the_same_name_again_replaces_and_another_stands_beside(photos, find_duplicates):
    find_duplicates(photos, embeddings="cnn")
    find_duplicates(photos, run_key="exact")
    find_duplicates(photos[:2])
    assert photos.count("duplicates_group") == 0
    assert photos.count("exact_group") == 4
    assert len(photos.load_saved_view("exact: groups")) == 4
    assert len(photos.load_saved_view("duplicates: groups")) == 0


def test_what_is_the_users_is_not_overwritten(photos, find_duplicates):
    photos.add_sample_field("duplicates_keep", fo.BooleanField)
    with pytest.raises(ValueError, match=r"'duplicates_keep'.*did not\s+write"):
        find_duplicates(photos)
    photos.save_view("mine: groups", photos.view())
    with pytest.raises(ValueError, match="saved view 'mine: groups'"):
        find_duplicates(photos, run_key="mine")
    assert not photos.has_run("duplicates") and not photos.has_run("mine")


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"embeddings": "nothing"}, "embeddings='nothing': there is no such field"),
        ({"split": "nothing"}, "split='nothing': there is no such field"),
        ({"split": "cnn"}, "holds no split per sample"),
        ({"split": "tags"}, "no sample has one of the tags test"),
        ({"label_field": "nothing"}, "label_field='nothing': there is no such field"),
        ({"threshold": 2}, 'must be "auto" or a number between 0 and 1'),
        (
            {"keep": "biggest"},
            "keep='biggest' must be one of 'auto', 'largest'",
        ),
        ({"threshold": "high"}, 'must be "auto" or a number between 0 and 1'),
        ({"run_key": "a b"}, "run_key='a b' cannot be the name of a field"),
        ({"run_key": "cnn"}, "belongs to a run of compute_embeddings"),
        ({"patches_field": "ground_truth"}, "holds no Detections or Polylines"),
        ({"seed": -1}, "seed=-1 must be between"),
    ],
)
def test_refusals_name_the_parameter_and_change_nothing(
    photos, find_duplicates, parameters, message
):
    schema, runs = photos.get_field_schema(flat=True).keys(), photos.list_runs()
    with pytest.raises(ValueError, match=message):
        find_duplicates(photos, **parameters)
    assert photos.get_field_schema(flat=True).keys() == schema
    assert photos.list_runs() == runs and photos.list_saved_views() == []


def test_objects_within_an_image_and_across_images(
    dataset, photo_tiles, find_duplicates, compute_embeddings, tmp_path
):
    canvas = Image.new("RGB", (640, 142))
    for place in range(4):
        canvas.paste(photo_tiles[place], (160 * place, 0))
    canvas.save(tmp_path / "row.png")
    other = Image.new("RGB", (640, 142), "gray")
    other.paste(photo_tiles[2], (300, 0))
    other.paste(photo_tiles[9], (0, 0))
    other.save(tmp_path / "other.png")

    def box(left, label="tile"):
        return fo.Detection(label=label, bounding_box=[left / 640, 0, 0.25, 1])

    boxes = [box(0), box(160), box(320), box(480), box(322)]
    row = fo.Sample(str(tmp_path / "row.png"), frames=fo.Detections(detections=boxes))
    boxes = [box(300), box(0), fo.Detection(label="none", bounding_box=[0.5, 0.5, 0, 0])]
    last = fo.Sample(str(tmp_path / "other.png"), frames=fo.Detections(detections=boxes))
    dataset.add_samples([row, last])
    compute_embeddings(dataset, model="cnn", patches_field="frames")
    result = find_duplicates(dataset, embeddings="cnn", patches_field="frames")
    groups = dataset.values("frames.detections.duplicates_group")
    assert groups == [[None, None, 0, None, 0], [0, None, None]]
    assert result["things"] == "patches" and result["skipped"] == {"no embedding": 1}
    assert len(dataset.load_saved_view("duplicates: groups")) == 3
    assert "box" in dataset.distinct("frames.detections.duplicates_change")


def test_through_the_executor_and_its_summary(photos, find_duplicates):
    result = foo.execute_operator(URI, {"dataset": photos}, params={"embeddings": "cnn"}).result
    summary = find_duplicates.summary(result)
    assert "**6 groups of duplicates** among 30 samples: 2 exact, 4 near" in summary
    assert "`duplicates: redundant`" in summary


def test_numbers_beyond_8_bits_are_told(find_duplicates, compute_embeddings, tmp_path):
    """Values to 300 in 16-bit files: seen, told, and no copies of each other."""
    rng = np.random.default_rng(0)
    dataset = fo.Dataset(f"deep-{uuid.uuid4().hex[:8]}")
    try:
        for name in range(12):
            values = rng.integers(0, 300, (6, 6)).astype(np.float32)
            values = cv2.resize(values, (96, 96), interpolation=cv2.INTER_CUBIC).clip(0, 300)
            cv2.imwrite(str(tmp_path / f"{name}.png"), values.astype(np.uint16))
            dataset.add_sample(fo.Sample(str(tmp_path / f"{name}.png")))
        note = "12 samples: more than 8 bits, scaled by the image's own range"
        embedded = compute_embeddings(dataset, embeddings="rays", model="cnn")
        assert embedded["notes"] == [note]
        found = find_duplicates(dataset, embeddings="rays")
        assert found["notes"] == [note]
        assert found["redundant"] == 0
    finally:
        dataset.delete()
