"""What stored runs know of one sample, the queue of a review, and decisions that stick."""

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone_embedding_quality.checks.evidence import latest_runs, read_evidence
from fiftyone_embedding_quality.checks.finding_reviews import removal_tag, review_finding
from fiftyone_embedding_quality.checks.queues import queue_of
from fiftyone_embedding_quality.checks.reviews import review_label_issues
from fiftyone_embedding_quality.errors import UserError
from fiftyone_embedding_quality.storage.few import few
from fiftyone_embedding_quality.storage.runs import read_run
from fiftyone_embedding_quality.storage.target import About
from sklearn.datasets import load_digits

SAMPLES, WRONG = 200, 12
BOXES = About(patches_field="things")


def _run(name: str, *args, **parameters):
    return foo.get_operator(f"@embedding/quality/{name}")(*args, **parameters)


@pytest.fixture(params=["samples", "patches"])
def doubted(request, dataset, digit_files):
    """200 digits or boxes around them, twelve with a wrong name, that their embeddings tell."""
    pixels = load_digits().data
    for index, (path, truth) in enumerate(digit_files):
        label = f"*{truth}*" if index >= WRONG else f"*{(int(truth) + 5) % 10}*"
        sample = fo.Sample(path, part="train" if index % 3 else "test", nr=index)
        vector = (pixels[index] + 40 * np.eye(64)[int(truth)]).astype(np.float32)
        if request.param == "samples":
            sample["kind"] = fo.Classification(label=label)
            sample["raw"] = vector
        else:
            box = fo.Detection(label=label, bounding_box=[0.1, 0.1, 0.8, 0.8], raw=vector)
            sample["things"] = fo.Detections(detections=[box])
        dataset.add_sample(sample)
    if request.param == "samples":
        _run("find_label_issues", dataset, embeddings="raw", label_field="kind")
        return dataset, About(), "kind.label"
    dataset.add_sample_field("things.detections.raw", fo.VectorField)
    _run(
        "find_label_issues", dataset, embeddings="raw", patches_field="things", label_field="things"
    )
    return dataset, BOXES, "things.detections.label"


def _labels(dataset, path) -> dict[int, str]:
    return {
        number: label[0] if isinstance(label, list) else label
        for number, label in zip(*dataset.values(["nr", path]))
    }


def test_the_evidence_for_a_flag_is_what_the_run_stored(doubted):
    dataset, about, _ = doubted
    runs = latest_runs(dataset, about)
    run = runs["find_label_issues"]
    queue = queue_of(dataset, run)
    view = dataset.load_saved_view("label_issues: flagged")
    assert [id_.partition("@")[0] for id_ in queue.ids] == view.values("id")
    assert queue.num_open == len(view) >= 8
    for id_, shown in zip(queue.ids, view):
        found = read_evidence(dataset, about, id_, runs)
        label = shown["kind" if about == About() else "things"]
        facts = found.label.facts
        assert found.seen.label == label.label and found.seen.filepath == shown.filepath
        assert (found.seen.box is None) == (about == About())
        suggested = shown["label_issues_suggested"].label if about == About() else (
            label["label_issues_suggested"]
        )  # fmt: skip
        assert facts["suggested"] == suggested != found.seen.label and facts["flagged"]
        assert 0 <= facts["suggested_confidence"] <= 1 and facts["probe"] is not None
        # What speaks against the label has another one.
        others = {other.label for other in found.label.others}
        assert others and found.seen.label not in others
        assert found.duplicate is None and found.outlier is None


def test_a_decision_moves_on_and_keeps_its_place(doubted):
    dataset, about, path = doubted
    before = _labels(dataset, path)
    run = latest_runs(dataset, about)["find_label_issues"]
    ids = queue_of(dataset, run).ids
    first, second, third = (few(dataset, about, [id_]) for id_ in ids[:3])
    suggested = read_evidence(dataset, about, ids[0], {run.operator: run}).label.facts["suggested"]
    assert review_label_issues(first, decision="accept")["changed"] == 1
    assert review_label_issues(second, decision="keep")["changed"] == 0
    review_label_issues(third, decision="set", label="*new*")
    queue = queue_of(dataset, run)
    # The order is as before, the decided ones in their places.
    assert queue.ids == ids and queue.decided == set(ids[:3])
    assert queue.after(ids[0]) == queue.after(ids[2]) == ids[3] == queue.after(None)
    assert queue.after(ids[-1]) == ids[3] and queue.before(ids[3]) == ids[2]
    assert queue.before(ids[0]) is None and queue.place("another") is None
    numbers = [dataset[id_.partition("@")[2] or id_]["nr"] for id_ in ids[:3]]
    after = _labels(dataset, path)
    expected = {**before, numbers[0]: suggested, numbers[2]: "*new*"}
    assert after == expected
    found = read_evidence(dataset, about, ids[0], {run.operator: run})
    assert (found.original, found.seen.label) == (before[numbers[0]], suggested)
    assert found.label.facts["review"] == "accepted"
    for target in (first, second, third):
        review_label_issues(target, decision="undo")
    assert _labels(dataset, path) == before and queue_of(dataset, run).num_open == len(ids)


def test_a_target_that_is_gone_is_an_error(doubted):
    dataset, about, _ = doubted
    gone = "0123456789abcdef01234567"
    with pytest.raises(UserError, match="no longer exists"):
        read_evidence(dataset, about, gone, latest_runs(dataset, about))


def test_a_label_id_on_two_images_is_told_apart_by_its_image(dataset, digit_files):
    box = fo.Detection(label="ink", bounding_box=[0.1, 0.1, 0.8, 0.8])
    for path, _ in digit_files[:2]:
        dataset.add_sample(fo.Sample(path, things=fo.Detections(detections=[box.copy()])))
    first, second = dataset
    second.things.detections[0]._id = first.things.detections[0]._id
    second.save()
    label_id = first.things.detections[0].id
    with pytest.raises(UserError, match="Several patches"):
        few(dataset, BOXES, [label_id])
    for sample in (first, second):
        target = few(dataset, BOXES, [f"{label_id}@{sample.id}"])
        assert list(target.sample_ids.values()) == [sample.id]


def test_no_duplicate_is_remembered_by_the_next_run(photos):
    split = ["test" if number % 2 else "train" for number in range(len(photos))]
    photos.set_values("fold", split)
    parameters = {"embeddings": "cnn", "split": "fold"}
    groups = _run("find_duplicates", photos, **parameters)
    run = read_run(photos, "duplicates")
    queue = queue_of(photos, run)
    assert queue.ids and not queue.decided
    redundant = {photos[id_].name: id_ for id_ in queue.ids}
    crop = redundant["crop"]
    found = read_evidence(photos, About(), crop, {run.operator: run})
    group = {other.id: other for other in found.duplicate.others}
    assert crop in group and found.duplicate.num_others == 2 == len(group)
    kept = found.duplicate.others[0]
    assert kept.facts["keep"] and kept.split == photos[kept.id]["fold"] and kept.label == "photo"

    review_finding(few(photos, About(), [crop]), run, "distinct")
    assert queue_of(photos, run).decided == {crop}
    assert crop not in photos.load_saved_view("duplicates: redundant").values("id")
    again = _run("find_duplicates", photos, **parameters)
    assert again["redundant"] == groups["redundant"] - 1
    photos.reload()
    assert photos[crop]["duplicates_group"] is None and photos[kept.id]["duplicates_group"] is None
    # An exact copy as well, if a person says so; and it comes back when that is undone.
    copy = redundant.get("copy") or redundant["photo-00"]
    review_finding(few(photos, About(), [copy]), read_run(photos, "duplicates"), "distinct")
    assert _run("find_duplicates", photos, **parameters)["redundant"] == groups["redundant"] - 2
    for id_ in (crop, copy):
        review_finding(few(photos, About(), [id_]), read_run(photos, "duplicates"), "undo")
    assert _run("find_duplicates", photos, **parameters)["redundant"] == groups["redundant"]
    _run("delete_run", photos, run_key="duplicates")
    assert not [name for name in photos.get_field_schema() if name.startswith("duplicates")]


def test_no_outlier_is_remembered_and_removal_is_a_tag_of_its_own(photos, tmp_path):
    from PIL import Image

    for number, sample in enumerate(photos.limit(2)):
        Image.new("RGB", (160, 142)).save(tmp_path / f"black{number}.png")
        sample.filepath = str(tmp_path / f"black{number}.png")
        sample.tags = ["remove"]
        sample.save()
    result = _run("find_outliers", photos, embeddings="cnn")
    run = read_run(photos, "outliers")
    queue = queue_of(photos, run)
    assert len(queue.ids) == result["flagged"] >= 2
    first, second = queue.ids[:2]
    review_finding(few(photos, About(), [first]), run, "typical")
    review_finding(few(photos, About(), [second]), run, "remove")
    queue = queue_of(photos, run)
    assert queue.decided == {first, second} and set(queue.ids) >= {first, second}
    assert photos.match_tags(removal_tag(run)).values("id") == [second]
    assert _run("find_outliers", photos, embeddings="cnn")["flagged"] == result["flagged"] - 1
    assert first not in photos.load_saved_view("outliers: flagged").values("id")
    # Another decision takes the earlier one back, and so does undo; the user's tag stays.
    run = read_run(photos, "outliers")
    review_finding(few(photos, About(), [second]), run, "typical")
    assert not photos.match_tags(removal_tag(run))
    for id_ in (first, second):
        review_finding(few(photos, About(), [id_]), run, "undo")
    photos.reload()
    assert photos.count_values("outliers_review") == {None: len(photos)}
    assert photos.count_values("outliers_flagged")[True] == result["flagged"]
    assert photos.count_sample_tags() == {"remove": 2}
    with pytest.raises(UserError, match="is not known here"):
        review_finding(few(photos, About(), [first]), run, "distinct")
    ordinary = photos.match(fo.ViewField("outliers_flagged") == False).first().id  # noqa: E712
    with pytest.raises(UserError, match="not flagged"):
        review_finding(few(photos, About(), [ordinary]), run, "typical")


def test_a_queue_sees_what_others_have_written(doubted):
    """It is read again only where samples were modified, whoever has done that."""
    dataset, about, _ = doubted
    run = latest_runs(dataset, about)["find_label_issues"]
    ids = queue_of(dataset, run).ids
    other = fo.Dataset._make_instance(name=dataset.name, _create=False)
    place = other[ids[1].partition("@")[2] or ids[1]]
    if about == About():
        place["label_issues_flagged"] = False
        place["label_issues_quality"] = None
    else:
        place.things.detections[0]["label_issues_flagged"] = False
    place.save()
    assert queue_of(dataset, run).ids == (ids[0], *ids[2:])
    dataset.delete_samples([ids[0].partition("@")[2] or ids[0]])
    assert queue_of(dataset, run).ids == ids[2:]
    # A sample whose flag comes back is at its place again.
    if about == About():
        place["label_issues_flagged"], place["label_issues_quality"] = True, 0.0
    else:
        place.things.detections[0]["label_issues_flagged"] = True
    place.save()
    assert set(queue_of(dataset, run).ids) == set(ids[1:])
