"""``compute_embeddings(engine="ray")`` on a cluster of two workers, one of which is killed."""

import importlib
import os
import signal
import sys
import threading
import time

import fiftyone as fo
import numpy as np
import psutil
import pytest
from fiftyone_embedding_quality.embedding import ray_workers

NUM_FILES = 160


@pytest.fixture
def files(dataset, digit_files, tmp_path):
    """Digits, and one file that is no image."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + 40 * b"\0")
    paths = [path for path, _ in digit_files[:NUM_FILES]]
    dataset.add_samples([fo.Sample(path) for path in [*paths, str(broken)]])
    return dataset


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one core each, beside a head without any."""
    pytest.importorskip("ray.data", reason="needs Ray: pip install 'ray[data]'")
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def workers() -> list[psutil.Process]:
    """The processes of Ray's actors that hold the model."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "_Worker" in process.name() or "MapWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def same_embeddings(dataset) -> bool:
    ours, theirs = (np.stack(dataset.exists("here").values(name)) for name in ("here", "there"))
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return bool(((ours * theirs).sum(axis=1) / lengths > 0.9999).all())


@pytest.mark.battery
def test_a_killed_worker_costs_nothing(files, cluster, compute_embeddings, monkeypatch):
    operators = type(compute_embeddings).__module__.rpartition(".operators.")
    module = importlib.import_module(f"{operators[0]}.embedding.ray_workers")
    monkeypatch.setattr(module, "BLOCK_INPUTS", 8)
    here = compute_embeddings(files, model="cnn", embeddings="here")
    killed, most = [], []

    def kill_one():
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and not killed:
            most.append(len(workers()))
            if files.has_field("there") and files.count("there") >= 8:
                victim = workers()[0]
                os.kill(victim.pid, signal.SIGKILL)
                killed.append(files.count("there"))
            time.sleep(0.02)

    killer = threading.Thread(target=kill_one)
    killer.start()
    there = compute_embeddings(files, model="cnn", embeddings="there", engine="ray")
    killer.join()
    assert max(most) == 2 and killed and killed[0] < NUM_FILES
    assert there["computed"] == here["computed"] == NUM_FILES
    assert there["failures"] == here["failures"] and there["failed"] == 1
    assert files.values("there_error") == files.values("here_error")
    assert same_embeddings(files)

    # What is stored stays, and only what is missing is computed.
    some = files.values("id")[:5]
    files.set_values("there", dict.fromkeys(some), key_field="id")
    again = compute_embeddings(files, model="cnn", embeddings="there", engine="ray")
    assert again["computed"] == 5 and again["reused"] == NUM_FILES - 5
    assert same_embeddings(files)


@pytest.mark.battery
def test_patches_are_embedded_as_without_ray(files, cluster, compute_embeddings):
    boxes = [fo.Detection(label="n", bounding_box=[x, 0, 0.5, 1]) for x in (0, 0.5)]
    view = files.limit(9)
    for sample in view.iter_samples(autosave=True):
        sample["halves"] = fo.Detections(detections=[box.copy() for box in boxes])
    calls = {"patches_field": "halves", "model": "cnn"}
    compute_embeddings(files, embeddings="here", **calls)
    result = compute_embeddings(files, embeddings="there", engine="ray", **calls)
    assert result["computed"] == 18
    ours, theirs = (
        np.array(files.values(f"halves.detections.{n}", unwind=True)) for n in ("here", "there")
    )
    assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(ours, theirs))


@pytest.mark.battery
def test_a_worker_with_another_model_ends_the_run(files, cluster):
    """Mixed embeddings would be worse than none."""
    request = ray_workers.ModelRequest("cnn", None, None, "another hash")
    inputs = [ray_workers.WorkerInput(sample.filepath, (sample.id,), None) for sample in files[:40]]
    with pytest.raises(ValueError, match=r"a worker failed: .*weights of the model on this worker"):
        list(ray_workers.embed_with_ray(request, inputs))


def test_an_engine_that_is_unknown_or_of_no_use_is_refused(files, compute_embeddings):
    with pytest.raises(ValueError, match="engine='dask' is not known; omit it"):
        compute_embeddings(files, model="cnn", engine="dask")
    pytest.importorskip("ray", reason="needs Ray: pip install 'ray[data]'")
    files.set_values("said", ["a word"] * len(files))
    with pytest.raises(ValueError, match="engine='ray' embeds images only"):
        compute_embeddings(files, model="clip", text_field="said", engine="ray")


def test_without_ray_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "ray.data", raising=False)
    with pytest.raises(ValueError, match=r"needs Ray, here and on its workers: pip install 'ray"):
        ray_workers.check_engine("ray")


def test_blocks_hold_whole_images():
    ids = tuple(f"part {number}" for number in range(90))
    inputs = [ray_workers.WorkerInput(str(number), ids, None) for number in range(7)]
    blocks = list(ray_workers._blocks(inputs, 256))
    assert [len(block) for block in blocks] == [3, 3, 1]
    assert [path for block in blocks for path, _, _ in block] == list("0123456")
