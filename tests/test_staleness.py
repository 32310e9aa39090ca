"""One rule for what makes a run stale, whatever the check and whatever it was run on."""

import os

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest

PREFIX = "@embedding/quality/"


def operator(name):
    return foo.get_operator(PREFIX + name)


def reasons(dataset, key) -> list[str]:
    rows = {row["run_key"]: row for row in operator("list_runs")(dataset)["runs"]}
    return rows[key]["reasons"]


@pytest.fixture
def leaves(dataset, tmp_path):
    """40 images of two kinds with two fields of embeddings, and a split."""
    from PIL import Image

    random = np.random.default_rng(2)
    for index in range(40):
        path = str(tmp_path / f"{index:02}.png")
        Image.fromarray(random.integers(0, 256, (24, 24, 3), np.uint8)).save(path)
        center = np.eye(8)[index % 2]
        dataset.add_sample(
            fo.Sample(
                path,
                one=(center + 0.1 * random.normal(size=8)).astype(np.float32),
                two=(center + 0.3 * random.normal(size=8)).astype(np.float32),
                kind=fo.Classification(label=("oak", "elm")[index % 2]),
                part=("train", "test")[index % 3 == 0],
                tags=["keep"],
            )
        )
    return dataset


def replace_embedding(dataset, field):
    sample = dataset.first()
    sample[field] = sample[field] + 1
    sample.save()


def test_comparisons_of_several_embeddings(leaves):
    operator("compute_separability")(leaves, embeddings=["one", "two"], label_field="kind")
    assert reasons(leaves, "separability") == []
    replace_embedding(leaves, "two")
    assert reasons(leaves, "separability") == ["the embeddings in two have changed"]


def test_a_field_by_which_was_sliced(leaves):
    operator("compute_separability")(leaves, embeddings="one", label_field="kind", by="part")
    leaves.set_values("part", ["train"] * 20 + ["test"] * 20)
    assert reasons(leaves, "separability") == ["the slices in part have changed"]


def test_duplicates_by_files_alone(leaves):
    operator("find_duplicates")(leaves)
    assert reasons(leaves, "duplicates") == []
    path = leaves.first().filepath
    os.utime(path, (1, 1))
    assert reasons(leaves, "duplicates") == ["files were modified or replaced since"]
    operator("find_duplicates")(leaves)
    assert reasons(leaves, "duplicates") == []
    os.remove(path)
    assert reasons(leaves, "duplicates") == ["files were modified or replaced since"]


def test_files_that_were_moved_are_the_same(leaves, tmp_path):
    operator("find_duplicates")(leaves)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for sample in leaves:
        moved = folder / os.path.basename(sample.filepath)
        os.rename(sample.filepath, moved)
        sample.filepath = str(moved)
        sample.save()
    assert reasons(leaves, "duplicates") == []


def test_splits(leaves):
    operator("find_duplicates")(leaves, embeddings="one", split="part")
    leaves.set_values("part", ["train"] * 40)
    assert reasons(leaves, "duplicates") == ["the splits have changed"]


def test_runs_on_a_view_know_their_samples(leaves):
    view = leaves[:20]
    operator("find_label_issues")(view, embeddings="one", label_field="kind")
    replace_embedding(leaves[20:], "one")
    leaves.delete_samples(leaves[30:])
    assert reasons(leaves, "label_issues") == []
    replace_embedding(leaves, "one")
    assert reasons(leaves, "label_issues") == ["the embeddings in one have changed"]
    leaves.delete_samples(leaves[:2])
    assert reasons(leaves, "label_issues") == ["2 samples were removed"]


def test_what_had_no_embedding_and_has_one_now(leaves):
    sample = leaves.first()
    kept, sample["one"] = sample["one"], None
    sample.save()
    assert operator("find_outliers")(leaves, embeddings="one", check_pictures=False)["judged"] == 39
    assert reasons(leaves, "outliers") == []
    sample["one"] = kept
    sample.save()
    assert reasons(leaves, "outliers") == ["1 samples have new embeddings"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.clear_sample_field("one"),
        lambda d: d.delete_sample_field("one"),
        lambda d: d.set_values("one", [np.full(8, np.nan)] * len(d)),
        lambda d: d.set_values("one", [np.ones(8 - index % 2) for index in range(len(d))]),
    ],
    ids=["cleared", "deleted", "all NaN", "of two lengths"],
)
def test_spoilt_embeddings_cost_only_their_runs(leaves, tmp_path, spoil):
    operator("find_outliers")(leaves, embeddings="one", check_pictures=False)
    operator("find_label_issues")(leaves, embeddings="two", label_field="kind")
    spoil(leaves)
    assert reasons(leaves, "outliers") == ["the embeddings one no longer exist"]
    assert reasons(leaves, "label_issues") == []
    report = operator("export_report")(leaves, path=str(tmp_path / "report"))
    assert {"outliers", "label_issues"} <= set(report["runs"]) and report["left_out"] == {}


def test_new_samples_are_not_placed_among_changed_embeddings(leaves):
    operator("compute_visualization")(leaves[:30], embeddings="one", method="pca")
    leaves.delete_samples(leaves[:1])
    replace_embedding(leaves, "one")
    with pytest.raises(ValueError, match="1 embeddings of the samples shown have changed"):
        operator("compute_visualization")(leaves, embeddings="one", method="pca", update=True)


def test_new_samples_are_placed_after_an_old_one_was_deleted(leaves):
    operator("compute_visualization")(leaves[:30], embeddings="one", method="pca")
    leaves.delete_samples(leaves[:1])
    result = operator("compute_visualization")(leaves, embeddings="one", method="pca", update=True)
    assert (result["added"], result["num_points"]) == (10, 39)
    assert reasons(leaves, "one_pca") == []


def test_embeddings_are_read_once_for_all_their_runs(leaves, monkeypatch):
    import sys

    for number in range(3):
        operator("find_outliers")(
            leaves, embeddings="one", check_pictures=False, run_key=f"run{number}"
        )
    module = sys.modules["fiftyone.plugins.orgs.embedding.quality.storage.staleness"]
    read, calls = module.read_vectors, []
    monkeypatch.setattr(
        module, "read_vectors", lambda *given: calls.append(given[1]) or read(*given)
    )
    operator("list_runs")(leaves)
    assert calls == ["one"]


def test_predictions_that_changed(leaves):
    guesses = [
        fo.Classification(label=label, confidence=0.8) for label in leaves.values("kind.label")
    ]
    leaves.set_values("guess", guesses)
    operator("find_label_issues")(
        leaves, embeddings="one", label_field="kind", predictions_field="guess"
    )
    assert reasons(leaves, "label_issues") == []
    leaves.set_values("guess.confidence", [0.8] * 39 + [0.7])
    assert reasons(leaves, "label_issues") == ["the predictions in guess have changed"]


def test_predicted_boxes_that_changed(leaves):
    random = np.random.default_rng(3)
    for sample in leaves.iter_samples(autosave=True):
        boxes = [[0.1 * place, 0.2, 0.1, 0.3] for place in range(3)]
        sample["trees"] = fo.Detections(
            detections=[
                fo.Detection(
                    label=sample.kind.label, bounding_box=box, emb=sample.one + 0.01 * place
                )
                for place, box in enumerate(boxes)
            ]
        )
        sample["told"] = fo.Detections(
            detections=[
                fo.Detection(label=sample.kind.label, bounding_box=box, confidence=random.random())
                for box in boxes
            ]
        )
    leaves.add_sample_field("trees.detections.emb", fo.VectorField)
    operator("find_label_issues")(
        leaves.take(30, seed=1),
        patches_field="trees",
        embeddings="emb",
        label_field="trees",
        predictions_field="told",
    )
    assert reasons(leaves, "label_issues") == []
    read = leaves.select(leaves.take(30, seed=1).values("id"))
    sample = read.first()
    sample.told.detections.pop()
    sample.save()
    assert reasons(leaves, "label_issues") == ["the predictions in told have changed"]


def test_a_view_of_vectors_of_another_length_than_most(leaves):
    few = leaves.limit(12)
    few.set_values("one", [np.append(row, 1.0).astype(np.float32) for row in few.values("one")])
    operator("find_outliers")(few, embeddings="one")
    assert reasons(leaves, "outliers") == []
    replace_embedding(leaves, "one")
    assert reasons(leaves, "outliers") == ["the embeddings in one have changed"]


def test_groups_whose_active_slice_is_no_image(dataset):
    random = np.random.default_rng(5)
    dataset.add_group_field("pair", default="photo")
    for index in range(30):
        group = fo.Group()
        dataset.add_samples(
            [
                fo.Sample(f"/no/{index}.png", pair=group.element("photo"), one=random.random(8)),
                fo.Sample(f"/no/{index}.pcd", pair=group.element("lidar")),
            ]
        )
    dataset.add_sample_field("one", fo.VectorField)
    operator("find_outliers")(dataset, embeddings="one")
    dataset.group_slice = "lidar"
    assert reasons(dataset, "outliers") == []


def test_the_panel_sees_what_changed_in_frames(dataset, tmp_path):
    from fiftyone_embedding_quality.storage import separability as store

    random = np.random.default_rng(6)
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"no video")
    sample = fo.Sample(str(path), metadata=fo.VideoMetadata(total_frame_count=40))
    for number in range(1, 41):
        vector = (np.eye(8)[number % 2] + 0.1 * random.normal(size=8)).astype(np.float32)
        label = fo.Classification(label=("sun", "rain")[number % 2])
        sample.frames[number] = fo.Frame(filepath=f"/no/{number}.png", sky=label, emb=vector)
    dataset.add_sample(sample)
    dataset.add_frame_field("emb", fo.VectorField)
    operator("compute_separability")(dataset.to_frames(), embeddings="emb", label_field="sky")
    dataset.reload()

    def changes():
        (run,) = store.separability_runs(dataset)
        return store.changes(dataset, store.read_separability(dataset, run))

    assert changes() == []
    dataset.set_values("frames.sky.label", [["sun"] * 40])
    assert any("labels in sky have changed" in reason for reason in changes())
