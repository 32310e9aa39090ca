"""The operator on a real database: scripts, executor, delegated runs, every kind of view."""

import asyncio
import os
import signal
import subprocess
import sys
import time

import fiftyone as fo
import fiftyone.brain as fob
import fiftyone.operators as foo
import numpy as np
import pytest
from bson import ObjectId
from conftest import read_rows
from fiftyone import ViewField as F
from PIL import Image

URI = "@embedding/quality/compute_embeddings"


def _vectors(samples, field="cnn") -> dict[str, np.ndarray]:
    return dict(zip(*samples.values(["id", field])))


def _snapshot(dataset) -> dict:
    """All that belongs to the user: documents without our fields."""
    documents = dataset._sample_collection.find({}, {"cnn": 0, "cnn_error": 0})
    return {doc.pop("_id"): {**doc, "last_modified_at": None} for doc in documents}


def test_the_plugin_loads_without_errors():
    assert foo.OperatorRegistry().list_errors() == []
    assert foo.get_operator(URI).uri == URI


def test_call(digits, compute_embeddings):
    before = _snapshot(digits)
    result = compute_embeddings(digits, model="cnn")
    assert result["run_key"] == result["embeddings"] == "cnn"
    assert (result["read"], result["computed"], result["reused"], result["failed"]) == (
        20,
        20,
        0,
        0,
    )
    vectors = _vectors(digits)
    assert all(
        vector.shape == (1280,) and vector.dtype == np.float32 for vector in vectors.values()
    )
    assert isinstance(digits.get_field("cnn"), fo.VectorField)
    assert _snapshot(digits) == before
    assert digits.list_runs() == ["cnn"]

    again = compute_embeddings(digits, model="cnn")
    assert (again["computed"], again["reused"]) == (0, 20)


def test_vectors_do_not_depend_on_company_or_order(digits, compute_embeddings):
    compute_embeddings(digits, model="cnn")
    whole = _vectors(digits)
    compute_embeddings(digits.skip(13), embeddings="other", model="cnn")
    compute_embeddings(digits.shuffle(seed=1), embeddings="other", model="cnn")
    for id_, vector in _vectors(digits, "other").items():
        assert np.array_equal(vector, whole[id_])


def test_stored_vectors_of_caltech101_are_reproduced(shared, dataset, compute_embeddings):
    folder = shared / "data" / "caltech101"
    files = [row["file"] for row in read_rows(folder / "samples.csv")][::60]
    dataset.add_samples([fo.Sample(str(folder / file)) for file in files])
    compute_embeddings(dataset, model="cnn")
    stored = np.load(folder / "embeddings_efficientnet_lite0.npz")
    expected = dict(zip(stored["files"].tolist(), stored["embeddings"].astype(np.float32)))
    for path, vector in zip(*dataset.values(["filepath", "cnn"])):
        reference = expected[os.path.relpath(path, folder)]
        norms = np.linalg.norm(vector) * np.linalg.norm(reference)
        assert vector @ reference / norms > 0.98, path


def test_bad_files_cost_their_neighbors_nothing(digits, compute_embeddings, tmp_path):
    compute_embeddings(digits, model="cnn")
    expected = _vectors(digits)
    good = digits.first().filepath
    truncated = tmp_path / "truncated.png"
    with open(good, "rb") as file:
        truncated.write_bytes(file.read()[:60])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a picture")
    bad = ["missing.png", "missing2.png", "truncated.png", "empty.png", "text.png"]
    digits.add_samples([fo.Sample(str(tmp_path / name)) for name in bad])

    result = compute_embeddings(digits, model="cnn", overwrite=True)
    assert (result["computed"], result["failed"]) == (20, 5)
    assert [failure["count"] for failure in result["failures"]] == [2, 1, 1, 1]
    assert result["failures"][0]["reason"] == "file not found"
    reasons = dict(zip(*digits.values(["filepath", "cnn_error"])))
    assert reasons[str(tmp_path / "empty.png")] == "file is empty"
    assert "not an image" in reasons[str(tmp_path / "text.png")]
    assert "damaged" in reasons[str(truncated)]
    vectors = _vectors(digits)
    assert sum(vector is None for vector in vectors.values()) == 5
    assert all(np.array_equal(vectors[id_], vector) for id_, vector in expected.items())

    # A file that has come back gets its vector, and its reason goes.
    Image.open(good).save(tmp_path / "missing.png")
    result = compute_embeddings(digits, model="cnn")
    assert (result["computed"], result["reused"], result["failed"]) == (1, 20, 4)
    assert digits.count("cnn_error") == 4


def test_all_files_failing_is_an_error(dataset, compute_embeddings):
    dataset.add_samples([fo.Sample(f"/nowhere/{index}.jpg") for index in range(5)])
    with pytest.raises(
        ValueError, match=r"None of the 5 samples.*5 times\): file not found.*0\.jpg"
    ):
        compute_embeddings(dataset, model="cnn")


def test_models_never_mix(digits, compute_embeddings, tiny_clip):
    architecture, weights = tiny_clip
    compute_embeddings(digits, embeddings="vectors", model="cnn")
    before = _vectors(digits, "vectors")
    other = {"embeddings": "vectors", "model": f"open_clip:{architecture}", "weights": weights}
    with pytest.raises(ValueError, match=r"tf_efficientnet_lite0.*tiny-clip.*overwrite=True"):
        compute_embeddings(digits, **other)
    assert all(np.array_equal(_vectors(digits, "vectors")[id_], v) for id_, v in before.items())

    # Replaced on a view, the vectors of the first model are gone from all samples.
    compute_embeddings(digits[:5], overwrite=True, **other)
    assert [v is not None and v.shape for v in digits.values("vectors")] == [(32,)] * 5 + [
        False
    ] * 15


def test_same_name_other_weights(digits, compute_embeddings, tiny_clip, tmp_path):
    import torch

    architecture, weights = tiny_clip
    state = torch.load(weights, weights_only=True)
    torch.save({**state, "logit_scale": state["logit_scale"] + 1}, tmp_path / "other.pt")
    model = {"embeddings": "vectors", "model": f"open_clip:{architecture}"}
    compute_embeddings(digits, weights=weights, **model)
    with pytest.raises(ValueError, match=r"hash \w+.*not of.*other\.pt"):
        compute_embeddings(digits, weights=str(tmp_path / "other.pt"), **model)


def test_fields_of_the_user_are_refused(digits, compute_embeddings):
    digits.add_sample_field("mine", fo.VectorField)
    for name in ("ground_truth", "mine", "filepath"):
        with pytest.raises(ValueError, match=f"already has a field '{name}'.*another name"):
            compute_embeddings(digits, embeddings=name, model="cnn", overwrite=True)
    config = digits.init_run(method="somebody/else")
    digits.register_run("theirs", config)
    with pytest.raises(ValueError, match="'theirs' that this plugin did not create"):
        compute_embeddings(digits, embeddings="theirs", model="cnn")


@pytest.mark.slow
def test_what_another_process_made_is_refused_too(digits, compute_embeddings):
    """FiftyOne keeps one object per dataset in a process, which does not see what others add."""
    script = (
        "import sys, fiftyone as fo\n"
        "fo.load_dataset(sys.argv[1]).add_sample_field('mine', fo.VectorField)"
    )
    subprocess.run([sys.executable, "-c", script, digits.name], check=True)
    assert "mine" not in digits.get_field_schema()
    with pytest.raises(ValueError, match="already has a field 'mine'"):
        compute_embeddings(digits, embeddings="mine", model="cnn", overwrite=True)


def test_undeclared_attributes_of_objects_are_refused(digits, compute_embeddings):
    sample = digits.first()
    sample["objects"] = fo.Detections(
        detections=[fo.Detection(label="ink", bounding_box=[0, 0, 1, 1], area=3.5)]
    )
    sample.save()
    assert digits.get_field("objects.detections.area") is None
    with pytest.raises(ValueError, match=r"already has a field 'objects\.detections\.area'"):
        compute_embeddings(
            digits, patches_field="objects", embeddings="area", model="cnn", overwrite=True
        )
    assert digits.first().objects.detections[0].area == 3.5


def test_a_field_that_was_deleted_by_hand_is_free_again(digits, compute_embeddings, tiny_clip):
    architecture, weights = tiny_clip
    compute_embeddings(digits, embeddings="vectors", model="cnn")
    digits.delete_sample_field("vectors")
    other = {"model": f"open_clip:{architecture}", "weights": weights}
    assert compute_embeddings(digits, embeddings="vectors", **other)["computed"] == 20


def test_a_file_that_is_away_keeps_its_earlier_vector(digits, compute_embeddings):
    compute_embeddings(digits, model="cnn")
    before = _vectors(digits)
    sample = digits.first()
    sample.filepath = "/nowhere/picture.png"
    sample.save()
    assert compute_embeddings(digits, model="cnn", overwrite=True)["failed"] == 1
    assert np.array_equal(digits.first().cnn, before[sample.id])
    assert digits.first().cnn_error == "file not found"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"modell": "cnn"}, "no parameter 'modell'; it has embeddings"),
        ({"model": 3}, "model=3 must be str, not int"),
        ({"batch_size": "8"}, "batch_size='8' must be int or None"),
        ({"batch_size": True}, "batch_size=True must be int or None"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"overwrite": 1}, "overwrite=1 must be bool"),
        ({"embeddings": "my field"}, "'my field' cannot be the name of a field"),
        ({"patches_field": "nope"}, "patches_field='nope': there is no such field"),
        ({"patches_field": "ground_truth"}, "'ground_truth' holds no Detections or Polylines"),
        ({"similarity_index": "my index"}, "similarity_index='my index' cannot be the name"),
    ],
)
def test_wrong_parameters(digits, compute_embeddings, parameters, message):
    for call in (
        lambda: compute_embeddings(digits, **parameters),
        lambda: foo.execute_operator(URI, dict(dataset=digits), params=parameters),
    ):
        with pytest.raises(Exception, match=message):
            call()
    assert digits.list_runs() == []
    assert "clip" not in digits.get_field_schema()


def test_wrong_samples(dataset, compute_embeddings):
    for empty in (dataset, dataset.match(F("filepath") == "none")):
        with pytest.raises(ValueError, match="This dataset has no samples yet"):
            compute_embeddings(empty)
    with pytest.raises(ValueError, match="takes a FiftyOne dataset or view first, not str"):
        compute_embeddings("digits")
    dataset.add_sample(fo.Sample("/nowhere/video.mp4"))
    with pytest.raises(ValueError, match="to_frames"):
        compute_embeddings(dataset)


def test_views_and_selected_samples(digits, compute_embeddings):
    compute_embeddings(digits.select_fields("ground_truth")[:5], model="cnn")
    assert len(digits.exists("cnn")) == 5
    chosen = digits[10:13].values("id")
    result = foo.execute_operator(
        URI,
        dict(dataset=digits, selected=chosen, view_target="SELECTED_SAMPLES"),
        params={"model": "cnn"},
    ).result
    assert (result["read"], result["computed"]) == (3, 3)
    assert set(chosen) <= set(digits.exists("cnn").values("id"))


def test_a_call_on_a_view_leaves_what_the_run_says_of_the_rest(
    digits, compute_embeddings, tmp_path
):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    digits.add_sample(fo.Sample(str(broken)))
    compute_embeddings(digits, embeddings="emb", model="cnn")
    again = compute_embeddings(digits[:3], embeddings="emb", model="cnn")
    assert (again["read"], again["reused"], again["failed"]) == (3, 3, 0)

    def row():
        (found,) = foo.get_operator("@embedding/quality/list_runs")(digits)["runs"]
        return found["judged"], found["read"], sum(found["skipped"].values()), found["reasons"]

    assert row() == (20, 21, 1, [])
    digits.add_samples([fo.Sample(str(tmp_path / f"{name}.png")) for name in "ab"])
    compute_embeddings(digits[:3], embeddings="emb", model="cnn")
    assert row() == (20, 21, 1, ["2 samples have no embedding yet"])


def test_grouped_datasets(dataset, digit_files, compute_embeddings):
    dataset.add_group_field("group", default="left")
    for (left, _), (right, _) in zip(digit_files[:4], digit_files[4:8]):
        group = fo.Group()
        dataset.add_samples(
            [
                fo.Sample(left, group=group.element("left")),
                fo.Sample(right, group=group.element("right")),
                fo.Sample("/nowhere/scan.pcd", group=group.element("scan")),
            ]
        )
    assert compute_embeddings(dataset, model="cnn")["computed"] == 4
    assert len(dataset.select_group_slices("right").exists("cnn")) == 0
    flat = dataset.select_group_slices(["left", "right"])
    result = compute_embeddings(flat, model="cnn")
    assert (result["computed"], result["reused"]) == (4, 4)
    dataset.group_slice = "scan"
    with pytest.raises(ValueError, match=r"'scan' is of type 'point-cloud'.*left, right"):
        compute_embeddings(dataset, model="cnn")


def test_dynamically_grouped_view(digits, compute_embeddings):
    result = compute_embeddings(digits.group_by("ground_truth.label"), model="cnn")
    assert result["computed"] == 20


def test_frames_view(dataset, digit_files, compute_embeddings, tmp_path):
    import cv2

    writer = cv2.VideoWriter(
        str(tmp_path / "video.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (48, 48)
    )
    for path, _ in digit_files[:6]:
        writer.write(cv2.imread(path))
    writer.release()
    sample = fo.Sample(str(tmp_path / "video.mp4"))
    for number, (path, _) in enumerate(digit_files[:6], start=1):
        sample.frames[number] = fo.Frame(filepath=path)
    dataset.add_sample(sample)

    frames = dataset.to_frames()
    result = compute_embeddings(frames[:4], model="cnn")
    assert result["computed"] == 4
    result = compute_embeddings(frames, model="cnn")
    assert (result["computed"], result["reused"]) == (2, 4)
    # They are the dataset's own: a new view of the frames has them too.
    assert dataset.count("frames.cnn") == 6
    assert compute_embeddings(dataset.to_frames(), model="cnn")["reused"] == 6


def _boxes():
    return {
        "whole": [0.0, 0.0, 1.0, 1.0],
        "corner": [0.75, 0.75, 0.25, 0.25],
        "beyond": [0.8, 0.8, 0.5, 0.5],
        "tiny": [0.5, 0.5, 0.02, 0.02],
        "zero": [0.5, 0.5, 0.0, 0.1],
        "outside": [1.5, 0.5, 0.1, 0.1],
    }


@pytest.mark.parametrize("kind", ["detections", "polylines"])
def test_objects(digits, compute_embeddings, kind):
    first, second, third = digits[:3].values("id")
    with_objects = digits.select([first, second])
    if kind == "detections":
        objects = [fo.Detection(label=label, bounding_box=box) for label, box in _boxes().items()]
        with_objects.set_values(
            "objects", [fo.Detections(detections=[o.copy() for o in objects]) for _ in range(2)]
        )
    else:
        objects = [
            fo.Polyline(label=label, points=[[(x, y), (x + w, y), (x + w, y + h), (x, y + h)]])
            for label, (x, y, w, h) in _boxes().items()
        ]
        with_objects.set_values(
            "objects", [fo.Polylines(polylines=[o.copy() for o in objects]) for _ in range(2)]
        )
    digits.select([third]).set_values("filepath", ["/nowhere.png"])
    digits.select([third]).set_values(
        "objects", [type(digits[first].objects)(**{kind: [objects[0].copy()]})]
    )

    result = compute_embeddings(digits, patches_field="objects", model="cnn")
    assert result["run_key"] == f"objects_{kind}_cnn"
    assert (result["read"], result["computed"], result["failed"]) == (13, 8, 5)
    assert result["small_objects"] == 2
    root = f"objects.{kind}"
    labels, vectors, reasons = (
        digits.values(f"{root}.{name}", unwind=True) for name in ("label", "cnn", "cnn_error")
    )
    for label, vector, reason in zip(labels, vectors, reasons):
        if label in ("zero", "outside"):
            assert vector is None
            assert {"zero": "zero size", "outside": "outside"}[label] in reason
        elif vector is None:
            assert reason == "file not found"
        else:
            assert vector.shape == (1280,)
            assert reason is None
    # The object that is the whole image has the image's vector.
    compute_embeddings(digits, model="cnn", embeddings="whole")
    assert np.array_equal(vectors[0], digits[first].whole)

    again = compute_embeddings(digits, patches_field="objects", model="cnn")
    assert (again["computed"], again["reused"], again["failed"]) == (0, 8, 5)


def test_patches_view_stands_for_its_objects(digits, compute_embeddings):
    for sample in digits.iter_samples(autosave=True):
        sample["objects"] = fo.Detections(
            detections=[
                fo.Detection(label=label, bounding_box=box) for label, box in _boxes().items()
            ]
        )
    patches = digits.to_patches("objects").match(F("objects.label") == "corner")
    result = compute_embeddings(patches, model="cnn")
    assert (result["patches_field"], result["read"], result["computed"]) == ("objects", 20, 20)
    filled = digits.filter_labels("objects", F("cnn").exists())
    assert filled.distinct("objects.detections.label") == ["corner"]


def test_views_of_evaluations_are_refused(digits, compute_embeddings):
    for sample in digits.iter_samples(autosave=True):
        for field in ("objects", "found"):
            box = fo.Detection(label="ink", bounding_box=[0, 0, 1, 1], confidence=0.5)
            sample[field] = fo.Detections(detections=[box])
    digits.evaluate_detections("found", gt_field="objects", eval_key="evaluation")
    with pytest.raises(ValueError, match="Evaluation patches show two fields at once"):
        compute_embeddings(digits.to_evaluation_patches("evaluation"), model="cnn")


def test_inside_a_running_event_loop(digits, compute_embeddings):
    async def notebook():
        queued = compute_embeddings(digits, model="cnn", delegate=True)
        return compute_embeddings(digits, model="cnn"), queued

    result, queued = asyncio.run(notebook())
    assert result["computed"] == 20
    assert queued["delegated"]


def test_executor_and_delegated_run(digits, compute_embeddings):
    result = foo.execute_operator(URI, dict(view=digits[:3]), params={"model": "cnn"}).result
    assert result["computed"] == 3

    from fiftyone.operators.delegated import DelegatedOperationService

    assert "delegate (False): " in compute_embeddings.__call__.__doc__
    queued = compute_embeddings(digits[:7], model="cnn", delegate=True)
    service = DelegatedOperationService()
    service.execute_queued_operations(dataset_name=digits.name)
    operation = service.get(ObjectId(queued["operation_id"]))
    assert operation.run_state == "completed"
    assert operation.result.result["computed"] == 4
    assert operation.status.progress == 1

    with pytest.raises(Exception, match="already has a field 'ground_truth'"):
        compute_embeddings(digits, embeddings="ground_truth", delegate=True)

    digits.set_values("filepath", [f"/nowhere/{index}.png" for index in range(20)])
    queued = compute_embeddings(digits, model="cnn", embeddings="other", delegate=True)
    service.execute_queued_operations(dataset_name=digits.name)
    operation = service.get(ObjectId(queued["operation_id"]))
    assert operation.run_state == "failed"
    assert "None of the 20 samples could be embedded" in str(operation.result.error)


def test_progress_goes_from_nothing_to_all(digits, compute_embeddings):
    from fiftyone.plugins.orgs.embedding.quality.checks.progress import Progress

    reports = []
    progress = Progress(lambda fraction, text: reports.append((fraction, text)))
    compute_embeddings.run(digits, progress, model="cnn", batch_size=4)
    fractions = [fraction for fraction, _ in reports]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert reports[-1][1].startswith("Embedding: 20 of 20 samples (")


def test_an_interrupt_loses_no_finished_batch(digits, compute_embeddings, monkeypatch):
    module = sys.modules[type(compute_embeddings).__module__]

    def interrupt(fraction, text):
        if fraction > 0.3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        progress = module.Progress(interrupt)
        monkeypatch.setattr(sys.modules[module.Progress.__module__], "REPORT_EVERY", 0)
        compute_embeddings.run(digits, progress, model="cnn", batch_size=4)
    assert len(digits.exists("cnn")) == 8
    assert not digits.get_run_info("cnn").config.finished


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(dataset, digit_files, compute_embeddings):
    dataset.add_samples([fo.Sample(path) for path, _ in digit_files])
    script = (
        "import sys, fiftyone as fo, fiftyone.operators as foo\n"
        f"foo.get_operator({URI!r})(fo.load_dataset(sys.argv[1]), model='cnn', batch_size=8)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, dataset.name])
    deadline = time.monotonic() + 600
    while not (done := dataset._sample_collection.count_documents({"cnn": {"$ne": None}})):
        assert process.poll() is None, "the process ended before it stored a vector"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    dataset.reload()
    done = len(dataset.exists("cnn"))
    assert 0 < done < len(digit_files)
    assert not dataset.get_run_info("cnn").config.finished

    result = compute_embeddings(dataset, model="cnn", batch_size=8)
    assert (result["reused"], result["computed"]) == (done, len(digit_files) - done)
    assert dataset.get_run_info("cnn").config.finished
    compute_embeddings(dataset, model="cnn", embeddings="uninterrupted", batch_size=8)
    for resumed, whole in zip(*dataset.values(["cnn", "uninterrupted"])):
        assert np.array_equal(resumed, whole)


def test_text_search_uses_the_weights_of_the_vectors(digits, compute_embeddings, tiny_clip):
    import open_clip
    import torch

    architecture, weights = tiny_clip
    parameters = {"model": f"open_clip:{architecture}", "weights": weights, "embeddings": "tiny"}
    compute_embeddings(digits, similarity_index="text", **parameters)
    assert digits.get_brain_info("text").config.supports_prompts

    model = open_clip.create_model(architecture, pretrained=weights).eval()
    tokens = open_clip.get_tokenizer(architecture)(["A photo of the number seven"])
    with torch.inference_mode():
        text = model.encode_text(tokens).numpy()[0]
    ids, vectors = digits.values(["id", "tiny"])
    vectors = np.stack(vectors)
    scores = vectors @ text / np.linalg.norm(vectors, axis=1)
    expected = [ids[index] for index in np.argsort(-scores)]
    found = digits.sort_by_similarity("the number seven", brain_key="text").values("id")
    assert found == expected

    # New vectors go into the index too.
    digits.add_sample(fo.Sample(digits.first().filepath))
    compute_embeddings(digits, **parameters)
    assert len(digits.load_brain_results("text").sample_ids) == 21
    # A run with nothing to do does not lose sight of it.
    compute_embeddings(digits, **parameters)
    digits.add_sample(fo.Sample(digits.first().filepath))
    compute_embeddings(digits, **parameters)
    assert len(digits.load_brain_results("text").sample_ids) == 22
    fob.compute_visualization(digits, points=np.zeros((22, 2)), brain_key="theirs")
    with pytest.raises(ValueError, match=r"'theirs'.*did not create"):
        compute_embeddings(digits, similarity_index="theirs", **parameters)
    # Vectors of another model take the index with them.
    compute_embeddings(digits, embeddings="tiny", model="cnn", overwrite=True)
    assert digits.list_brain_runs() == ["theirs"]


def test_image_search_follows_the_vectors(digits, compute_embeddings):
    result = compute_embeddings(digits, model="cnn", similarity_index="like")
    assert (result["similarity_index"], result["text_search"]) == ("like", False)
    assert not digits.get_brain_info("like").config.supports_prompts
    twin = fo.Sample(digits.first().filepath)
    digits.add_sample(twin)
    compute_embeddings(digits, model="cnn")
    found = digits.sort_by_similarity(digits.first().id, k=2, brain_key="like").values("id")
    assert set(found) == {digits.first().id, twin.id}
    operator = foo.get_operator("@embedding/quality/delete_run")
    assert operator(digits, run_key="cnn")["brain_runs"] == ["like"]
