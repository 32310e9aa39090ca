"""Fields of patches may be called anything, also what the code calls something else."""

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest

PREFIX = "@embedding/quality/"

# What FiftyOne and the plugin call fields, views and kinds of views by.
NAMES = ("ground_truth", "detections", "samples", "frames")


def operator(name):
    return foo.get_operator(PREFIX + name)


def fill(samples, name, seed=3):
    """Two patches of two classes on each image or frame; every ninth label is wrong."""
    centers = np.random.default_rng(3).normal(size=(2, 12)) * 2
    random = np.random.default_rng(seed)
    for number, sample in enumerate(samples):
        patches = []
        for place in range(2):
            true = (number + place) % 2
            given = 1 - true if (2 * number + place) % 9 == 0 else true
            features = (centers[true] + 0.4 * random.normal(size=12)).astype(np.float32)
            box = [0.1 + 0.4 * place, 0.2, 0.3, 0.5]
            label = ("mug", "fork")[given]
            patches.append(fo.Detection(label=label, bounding_box=box, features=features))
        sample[name] = fo.Detections(detections=patches)


@pytest.fixture
def image_files(tmp_path):
    from PIL import Image

    random = np.random.default_rng(5)
    paths = [str(tmp_path / f"{number:02}.png") for number in range(30)]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    return paths


def check_all(dataset, samples, name, tmp_path):
    """Every operator on the patches of a field: what each finds is told by all the others."""
    common = {"embeddings": "features", "patches_field": name}
    audited = operator("audit")(samples, **common)
    assert audited["left_out"] == {} and audited["things"] == "patches"
    flagged = audited["steps"]["find_label_issues"]["flagged"]
    assert audited["judged"] == 60 and flagged >= 1
    operator("select_samples")(samples, **common, num_samples=9, by=name)
    chosen = dataset.load_saved_view("selection: selected")
    assert chosen.values(f"{name}.selection_rank") == list(range(1, 10))
    rows = {row["run_key"]: row for row in operator("list_runs")(dataset)["runs"]}
    stale = {key: row["reasons"] for key, row in rows.items() if row["stale"]}
    assert stale == {} and {"label_issues", "outliers", "duplicates", "separability"} <= rows.keys()
    view = dataset.load_saved_view("label_issues: flagged")
    assert len(view) == flagged

    report = operator("export_report")(samples, path=str(tmp_path / "all"))
    assert report["left_out"] == {} and report["findings"]["label issue"] == flagged
    report = operator("export_report")(view, path=str(tmp_path / "flagged"))
    assert report["findings"]["label issue"] == flagged

    before = dict(zip(*view.values(["id", f"{name}.label"])))
    done = operator("review_label_issues")(view, decision="accept")
    assert done["reviewed"] == done["changed"] == flagged
    reviewed = samples.to_patches(name).select(list(before))
    assert all(before[id_] != new for id_, new in zip(*reviewed.values(["id", f"{name}.label"])))
    assert operator("review_label_issues")(samples, decision="undo")["changed"] == flagged
    restored = samples.to_patches(name).select(list(before))
    assert dict(zip(*restored.values(["id", f"{name}.label"]))) == before
    for key in rows:
        operator("delete_run")(dataset, run_key=key)
    dataset.reload()
    assert dataset.list_runs() == dataset.list_saved_views() == dataset.list_brain_runs() == []


@pytest.mark.parametrize(
    "name", [NAMES[0], *(pytest.param(n, marks=pytest.mark.slow) for n in NAMES[1:])]
)
def test_patches_of_images(dataset, image_files, tmp_path, name):
    samples = [fo.Sample(path) for path in image_files]
    fill(samples, name)
    dataset.add_samples(samples)
    del samples  # FiftyOne reads those that are alive again whenever a field comes or goes
    dataset.add_sample_field(f"{name}.detections.features", fo.VectorField)
    before = sorted(dataset.get_field_schema(flat=True))
    check_all(dataset, dataset, name, tmp_path)
    assert sorted(dataset.get_field_schema(flat=True)) == before
    computed = operator("compute_embeddings")(dataset, model="cnn", patches_field=name)
    assert computed["computed"] == 60
    operator("delete_run")(dataset, run_key=computed["run_key"])
    assert sorted(dataset.get_field_schema(flat=True)) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["samples", *(pytest.param(n, marks=pytest.mark.battery) for n in NAMES[:2])]
)
def test_patches_of_frames(dataset, image_files, tmp_path, name):
    for video in range(2):
        frames = {
            number + 1: fo.Frame(filepath=path)
            for number, path in enumerate(image_files[video * 15 : video * 15 + 15])
        }
        fill([frames[number] for number in sorted(frames)], name, seed=video)
        path = tmp_path / f"{video}.mp4"
        path.write_bytes(b"no video")
        sample = fo.Sample(str(path), metadata=fo.VideoMetadata(total_frame_count=15))
        sample.frames.update(frames)
        dataset.add_sample(sample)
    dataset.add_frame_field(f"{name}.detections.features", fo.VectorField)
    before = sorted(dataset.get_frame_field_schema(flat=True))
    check_all(dataset, dataset.to_frames(), name, tmp_path)
    assert sorted(dataset.get_frame_field_schema(flat=True)) == before
