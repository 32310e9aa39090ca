"""Runs on a real database: listed, seen to be stale, removed with all they wrote, kept apart."""

import subprocess
import sys
import threading

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone_embedding_quality.storage import locks
from fiftyone_embedding_quality.storage.runs import (
    Run,
    plugin_runs,
    read_results,
    write_results,
    write_run,
)

PREFIX = "@embedding/quality/"


def operator(name):
    return foo.get_operator(PREFIX + name)


@pytest.fixture
def clustered(dataset):
    """120 samples with vectors of four classes, on the samples and on an object each."""
    random = np.random.default_rng(51)
    centers = random.normal(size=(4, 16)) * 3
    labels = [f"class {index % 4}" for index in range(120)]
    vectors = [
        (centers[index % 4] + random.normal(size=16)).astype(np.float32) for index in range(120)
    ]
    dataset.add_samples(
        [
            fo.Sample(
                f"/none/{index}.png",
                vec=vector,
                ground_truth=fo.Classification(label=label),
                samples=fo.Detections(
                    detections=[fo.Detection(label=label, bounding_box=[0, 0, 1, 1], vec=vector)]
                ),
            )
            for index, (label, vector) in enumerate(zip(labels, vectors))
        ]
    )
    dataset.add_sample_field("samples.detections.vec", fo.VectorField)
    return dataset


OF_SAMPLES = {"embeddings": "vec", "label_field": "ground_truth"}
OF_OBJECTS = {"embeddings": "vec", "label_field": "samples", "patches_field": "samples"}


def run_all(samples, common):
    find = {"embeddings": common["embeddings"], "patches_field": common.get("patches_field")}
    operator("find_duplicates")(samples, **common)
    operator("find_outliers")(samples, check_pictures=False, **common)
    operator("find_label_issues")(samples, **common)
    operator("compute_separability")(samples, **common)
    operator("compute_visualization")(samples, method="pca", **find)


def state(dataset) -> tuple:
    """All that a run could have written."""
    dataset.reload()
    return (
        sorted(dataset.get_field_schema(flat=True)),
        sorted(dataset.list_saved_views()),
        sorted(dataset.list_runs()),
        sorted(dataset.list_brain_runs()),
        [sample.to_dict() | {"last_modified_at": None} for sample in dataset],
    )


def num_locks(dataset) -> int:
    """The locks of a dataset; killed processes of other tests leave those of others."""
    collection = dataset._sample_collection.database[locks.COLLECTION]
    return collection.count_documents({"_id": {"$regex": f"^{dataset._doc.id} "}})


def listed(dataset) -> dict[str, dict]:
    return {row["run_key"]: row for row in operator("list_runs")(dataset)["runs"]}


@pytest.mark.parametrize("common", [OF_SAMPLES, OF_OBJECTS], ids=["of samples", "of patches"])
def test_deleting_all_runs_leaves_the_dataset_as_it_was(clustered, common):
    before = state(clustered)
    run_all(clustered, common)
    rows = listed(clustered)
    assert len(rows) == 6  # the neighbor graph is one
    assert all(row["finished"] and not row["stale"] for row in rows.values()), rows
    delete_run = operator("delete_run")
    for key in rows:
        removed = delete_run(clustered, run_key=key)
        assert removed["run_key"] == key
        for path in removed["fields"]:
            assert clustered.get_field(path) is None
    assert state(clustered) == before
    assert listed(clustered) == {}


def test_deleting_one_run_leaves_the_others(clustered):
    run_all(clustered, OF_SAMPLES)
    views, fields = clustered.list_saved_views(), clustered.get_field_schema(flat=True)
    operator("delete_run")(clustered, run_key="outliers")
    gone = set(fields) - set(clustered.get_field_schema(flat=True))
    assert gone == {f"outliers_{what}" for what in ("score", "flagged", "reason", "group")}
    assert set(views) - set(clustered.list_saved_views()) == {"outliers: flagged"}
    assert not listed(clustered)["label_issues"]["stale"]


def test_deleting_vectors_takes_their_graph_and_error_field_along(digits, compute_embeddings):
    before = sorted(digits.get_field_schema(flat=True))
    compute_embeddings(digits, model="cnn")
    operator("find_outliers")(digits, embeddings="cnn", check_pictures=False)
    operator("delete_run")(digits, run_key="cnn")
    row = listed(digits)["outliers"]
    assert row["stale"] and "the embeddings cnn no longer exist" in row["reasons"]
    operator("delete_run")(digits, run_key="outliers")
    assert sorted(digits.get_field_schema(flat=True)) == before and digits.list_runs() == []


@pytest.mark.parametrize("change", ["label", "vector", "added", "removed"])
@pytest.mark.parametrize("common", [OF_SAMPLES, OF_OBJECTS], ids=["of samples", "of patches"])
def test_what_has_changed_since_is_told(clustered, common, change):
    operator("find_label_issues")(clustered, **common)
    operator("find_outliers")(clustered, embeddings="vec", check_pictures=False)
    assert not listed(clustered)["label_issues"]["stale"]
    sample = clustered.first()
    thing = sample.samples.detections[0] if "patches_field" in common else sample
    if change == "label":
        (sample.ground_truth if thing is sample else thing).label = "class 2"
        sample.save()
    elif change == "vector":
        thing["vec"] = thing["vec"] * 2 + 1
        sample.save()
    elif change == "added":
        copy = sample.copy()
        copy.filepath = "/none/new.png"
        clustered.add_sample(copy)
    else:
        clustered.delete_samples([sample.id])
    rows = listed(clustered)
    assert rows["label_issues"]["stale"]
    noun = "patches" if "patches_field" in common else "samples"
    assert (
        rows["label_issues"]["reasons"][0]
        == {
            "label": f"labels in {common['label_field']} have changed (class 0 30 → 29, "
            "class 2 30 → 31)",
            "vector": "the embeddings in vec have changed",
            "added": f"1 {noun} were added",
            "removed": f"1 {noun} were removed",
        }[change]
    )
    if change == "label":
        assert not rows["outliers"]["stale"]


def test_runs_on_a_view_do_not_ask_for_the_rest(clustered):
    operator("find_label_issues")(clustered[:60], **OF_SAMPLES)
    assert clustered.count("label_issues_quality") == 60
    assert not listed(clustered)["label_issues"]["stale"]
    operator("find_label_issues")(clustered[60:], **OF_SAMPLES)
    # The same key again replaces the run, also where it had been before.
    assert clustered[:60].count("label_issues_quality") == 0


@pytest.mark.slow
def test_a_clone_has_its_own_runs(clustered):
    run_all(clustered, OF_SAMPLES)
    clone = clustered.clone()
    try:
        before = state(clustered)
        assert not any(row["stale"] for row in listed(clone).values())
        operator("delete_run")(clone, run_key="label_issues")
        operator("find_outliers")(clone[:50], embeddings="vec", check_pictures=False)
        assert state(clustered) == before
    finally:
        clone.delete()


def test_a_run_that_fails_half_way_is_listed_as_unfinished(clustered, monkeypatch):
    operator("find_outliers")(clustered, embeddings="vec", check_pictures=False)
    module = sys.modules[
        type(operator("find_outliers")).__module__.replace(
            "operators.find_outliers", "storage.findings"
        )
    ]

    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(module, "write_columns", fail)
    with pytest.raises(OSError):
        operator("find_outliers")(clustered, embeddings="vec", check_pictures=False)
    monkeypatch.undo()
    row = listed(clustered)["outliers"]
    assert not row["finished"] and "unfinished" in row["reasons"][0]
    assert not clustered.has_saved_view("outliers: flagged")
    operator("find_outliers")(clustered, embeddings="vec", check_pictures=False)
    assert listed(clustered)["outliers"]["finished"]


@pytest.mark.slow
def test_a_killed_process_leaves_an_unfinished_run(clustered, monkeypatch):
    clustered.persistent = True
    script = (
        "import os, signal, sys, fiftyone as fo, fiftyone.operators as foo\n"
        "operator = foo.get_operator('@embedding/quality/find_outliers')\n"
        "package = type(operator).__module__.rsplit('.operators.', 1)[0]\n"
        "findings = sys.modules[package + '.storage.findings']\n"
        "findings.write_columns = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "operator(fo.load_dataset(sys.argv[1]), embeddings='vec', check_pictures=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, clustered.name], capture_output=True)
    assert done.returncode == -9, done.stderr.decode()
    clustered.reload()
    assert not listed(clustered)["outliers"]["finished"]
    # Its lock does not keep others out for ever.
    assert num_locks(clustered) == 1
    package = type(operator("delete_run")).__module__.rsplit(".operators.", 1)[0]
    monkeypatch.setattr(sys.modules[f"{package}.storage.locks"], "ABANDONED_SECONDS", 0.5)
    removed = operator("delete_run")(clustered, run_key="outliers")
    assert removed["fields"] and listed(clustered).keys() == {key for key in clustered.list_runs()}
    assert clustered.get_field("outliers_score") is None


@pytest.mark.slow
def test_two_at_once_do_not_mix(clustered):
    """Two operators of one name on halves of the dataset: one of them stands in the end, whole."""
    halves = [clustered[:60], clustered[60:]]
    failures = []

    def work(half):
        try:
            for _ in range(3):
                operator("find_label_issues")(half, **OF_SAMPLES)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(half,)) for half in halves]
    for thread in threads:
        thread.start()
    other = operator("find_outliers")(clustered, embeddings="vec", check_pictures=False)
    for thread in threads:
        thread.join()
    assert not failures
    clustered.reload()
    judged = [half.count("label_issues_quality") for half in halves]
    assert sorted(judged) == [0, 60]
    assert clustered.count("outliers_score") == 120 and other["judged"] == 120
    rows = listed(clustered)
    assert rows["label_issues"]["finished"] and rows["outliers"]["finished"]


@pytest.mark.parametrize(
    "key, message",
    [
        ("nothing", "no run with this name on this dataset; there are: "),
        ("mine", "a run 'mine' that this plugin did not create"),
        ("similar", "is a brain run that this plugin did not create"),
    ],
)
def test_what_is_not_the_plugins_is_not_deleted(clustered, key, message):
    clustered.register_run("mine", clustered.init_run(method="mine"))
    import fiftyone.brain as fob

    fob.compute_visualization(
        clustered, points=np.zeros((120, 2)), brain_key="similar", progress=False
    )
    with pytest.raises(ValueError, match=message):
        operator("delete_run")(clustered, run_key=key)
    assert clustered.has_run("mine") and clustered.has_brain_run("similar")


@pytest.mark.slow
def test_summaries(clustered):
    assert "no runs" in operator("list_runs").summary(operator("list_runs")(clustered))
    run_all(clustered, OF_SAMPLES)
    summary = operator("list_runs").summary(operator("list_runs")(clustered))
    assert "| `label_issues` | find_label_issues |" in summary and "up to date" in summary
    removed = operator("delete_run")(clustered, run_key="outliers")
    assert "`outliers_score`" in operator("delete_run").summary(removed)


COUNTS = ("read", "judged", "skipped")


def test_how_many_were_judged_is_listed(clustered):
    clustered.set_values("vec", [None, *clustered.values("vec")[1:]])
    clustered.set_values("ground_truth", [*clustered.values("ground_truth")[:-1], None])
    run_all(clustered, OF_SAMPLES)
    rows = listed(clustered)
    counts = [rows["label_issues"][name] for name in COUNTS]
    assert counts == [120, 118, {"no embedding": 1, "no label": 1}]
    assert [rows["vec_pca"][name] for name in COUNTS] == [120, 119, {"no embedding": 1}]
    assert "| 118 of 120 |" in operator("list_runs").summary({"runs": list(rows.values())})


def test_that_nothing_was_left_to_compute_makes_the_vectors_no_fewer(
    digits, compute_embeddings, tmp_path
):
    digits.add_sample(fo.Sample(str(tmp_path / "missing.png")))
    compute_embeddings(digits, model="cnn")
    compute_embeddings(digits, model="cnn")
    row = listed(digits)["cnn"]
    assert row["found"] == "20 embeddings"
    assert [row[name] for name in COUNTS] == [21, 20, {"file not found": 1}]


def test_a_view_that_hides_fields_hides_no_old_values(clustered):
    operator("find_outliers")(clustered, embeddings="vec", check_pictures=False)
    bare = clustered.limit(50).select_fields(["vec", "ground_truth"])
    operator("find_outliers")(bare, embeddings="vec", check_pictures=False)
    assert clustered.count("outliers_score") == 50


def test_saved_views_of_one_address_are_refused(clustered):
    clustered.save_view("Outliers flagged", clustered.limit(3))
    with pytest.raises(ValueError, match="saved view 'Outliers flagged'"):
        operator("find_outliers")(clustered, embeddings="vec", check_pictures=False)
    assert clustered.get_field("outliers_score") is None


def test_looking_for_missing_vectors_outdates_nothing(digits, compute_embeddings):
    compute_embeddings(digits, model="cnn")
    operator("find_outliers")(digits[:10], embeddings="cnn", check_pictures=False)
    compute_embeddings(digits, model="cnn")
    assert not listed(digits)["outliers"]["stale"]


def test_a_stale_graph_is_told(clustered):
    operator("find_outliers")(clustered, embeddings="vec", check_pictures=False)
    clustered.delete_samples(clustered.first().id)
    (graph,) = [row for row in listed(clustered).values() if row["operator"] == "neighbor_graph"]
    assert graph["stale"] and graph["parameters"]["embeddings"] == "vec"


def test_the_lock_of_a_slow_writer_is_not_taken(clustered, monkeypatch):
    monkeypatch.setattr(locks, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(locks, "ABANDONED_SECONDS", 0.5)
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 1.0)
    with locks.writing(clustered, "slow"):
        with (
            pytest.raises(ValueError, match="The run 'slow' is being written"),
            locks.writing(clustered, "slow"),
        ):
            pass
        assert num_locks(clustered) == 1
    with locks.writing(clustered, "slow"):
        pass


def test_runs_are_stored_while_the_server_reloads_the_dataset(dataset):
    done = threading.Event()

    def reload() -> None:
        while not done.is_set():
            dataset.reload()

    server = threading.Thread(target=reload)
    server.start()
    try:
        for number in range(10):
            run = Run(f"run{number}", "find_outliers", ())
            write_run(dataset, run)
            write_results(dataset, run.key, scores=[number])
    finally:
        done.set()
        server.join()
    dataset.reload()
    assert [run.key for run in plugin_runs(dataset)] == [f"run{number}" for number in range(10)]
    assert read_results(dataset, "run7").scores == [7]


def test_a_stored_run_leaves_what_the_caller_has_not_saved(dataset):
    dataset.add_sample(fo.Sample("held.png"))
    held = dataset.first()
    held.tags, dataset.info["note"] = ["mine"], "mine"
    write_run(dataset, Run("run", "find_outliers", ()))
    write_results(dataset, "run", scores=[1])
    assert held.tags == ["mine"] and dataset.info == {"note": "mine"}
    assert dataset.load_run_results("run").scores == [1]
    write_results(dataset, "run", scores=[2])
    assert dataset.load_run_results("run").scores == [2]
