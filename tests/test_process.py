"""Settings of the process are restored exactly, whoever leaves last; quotas of containers count."""

import functools
import itertools
import logging
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from fiftyone_embedding_quality import process
from fiftyone_embedding_quality.cores import has_fast_16_bits, num_cores
from pymongo.errors import AutoReconnect


def _torch_threads_of_a_new_thread() -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


def _settings() -> dict:
    from huggingface_hub import constants
    from huggingface_hub.utils import logging as _hub_logging  # noqa: F401  (sets a level)

    loggers = [logging.getLogger(), *map(logging.getLogger, ("huggingface_hub", "open_clip"))]
    return {
        "torch": torch.get_num_threads(),
        "torch, of new threads": _torch_threads_of_a_new_thread(),
        "OpenCV": cv2.getNumThreads(),
        "switch interval": sys.getswitchinterval(),
        "offline": constants.HF_HUB_OFFLINE,
        "levels": [logger.level for logger in loggers],
        "filters": [list(logger.filters) for logger in loggers],
    }


@pytest.fixture(autouse=True)
def unusual():
    """Values that no default is, so that none is restored by chance."""
    before = _settings()
    torch.set_num_threads(3)
    cv2.setNumThreads(3)
    sys.setswitchinterval(0.004)
    yield _settings()
    torch.set_num_threads(before["torch"])
    cv2.setNumThreads(before["OpenCV"])
    sys.setswitchinterval(before["switch interval"])


COUNTED = {
    process.short_turns: (sys.getswitchinterval, 0.0005, sys.setswitchinterval, 0.002),
    process.one_opencv_thread: (cv2.getNumThreads, 1, cv2.setNumThreads, 2),
}


@pytest.mark.parametrize("leaving", itertools.permutations(range(3)))
@pytest.mark.parametrize("needed", COUNTED)
def test_whoever_leaves_last_restores(needed, leaving, unusual):
    read, ours, *_ = COUNTED[needed]
    before = read()
    holders = [needed() for _ in range(3)]
    for holder in holders:
        holder.__enter__()
    for number in leaving[:2]:
        holders[number].__exit__(None, None, None)
        assert read() == pytest.approx(ours)
    with pytest.raises(KeyError):
        holders[leaving[2]].__exit__(KeyError, KeyError(), None)
        raise KeyError
    assert read() == before
    assert _settings() == unusual


@pytest.mark.parametrize("needed", COUNTED)
def test_what_the_user_sets_meanwhile_stays(needed):
    read, _, write, theirs = COUNTED[needed]
    with needed():
        with needed():
            write(theirs)
        assert read() == pytest.approx(theirs)
    assert read() == pytest.approx(theirs)


def test_two_copies_of_the_plugin_count_together(unusual):
    """FiftyOne imports it under a name of its own beside the package."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("another_copy", process.__file__)
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    first, second = process.short_turns(), copy.short_turns()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert sys.getswitchinterval() == pytest.approx(0.0005)
    second.__exit__(None, None, None)
    assert _settings() == unusual


TORCHS_THREADS = """
from concurrent.futures import ThreadPoolExecutor
import torch
from fiftyone_embedding_quality import process

def of_a_new_thread():
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()

torch.set_num_threads(3)
existing = ThreadPoolExecutor(1)
assert existing.submit(torch.get_num_threads).result() == 3
with ThreadPoolExecutor(2, initializer=process.use_one_torch_thread) as workers:
    assert list(workers.map(lambda _: torch.get_num_threads(), range(4))) == [1] * 4
    with process.one_torch_thread():
        assert torch.get_num_threads() == 1
        assert existing.submit(torch.get_num_threads).result() == 3
        assert of_a_new_thread() == 3
try:
    with process.one_torch_thread():
        raise KeyError
except KeyError:
    pass
assert torch.get_num_threads() == of_a_new_thread() == 3
existing.shutdown()
"""


TORCHS_THREADS_AT_ONCE = """
import threading
import torch
from fiftyone_embedding_quality import process

torch.set_num_threads(3)
in_new_thread, restoring, go_on = process._in_new_thread, threading.Event(), threading.Event()

def slowly(function):
    if function is not torch.get_num_threads and not restoring.is_set():
        restoring.set()
        go_on.wait(1)
    return in_new_thread(function)

process._in_new_thread = slowly
first = threading.Thread(target=process.use_one_torch_thread)
first.start()
restoring.wait()
# This thread asks torch for the first time while what is told to new threads is 1.
with process.one_torch_thread():
    assert torch.get_num_threads() == 1
assert torch.get_num_threads() == 3
first.join()
"""


@pytest.mark.parametrize("script", [TORCHS_THREADS, TORCHS_THREADS_AT_ONCE])
def test_torchs_threads_are_one_threads_own(script):
    """Neither a thread that was there before nor one that starts meanwhile is slowed.

    In a process of its own, in which nothing else has used torch's threads before.
    """
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_torch_computes_in_one_thread_there():
    """What counts: no other thread of the process computes."""

    def others_share() -> float:
        left = torch.rand(700, 700)
        left @ left
        whole, own = time.process_time(), time.thread_time()
        for _ in range(20):
            left @ left
        whole, own = time.process_time() - whole, time.thread_time() - own
        return (whole - own) / whole

    with ThreadPoolExecutor(1, initializer=process.use_one_torch_thread) as pool:
        assert pool.submit(others_share).result() < 0.2


def test_many_threads_overlap_at_random(unusual):
    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(15):
            managers = rng.permutation(
                [process.short_turns, process.one_opencv_thread, process.one_torch_thread]
            )
            try:
                with managers[0](), managers[1]():
                    time.sleep(rng.random() * 0.002)
                    if rng.random() < 0.3:
                        raise KeyError
            except KeyError:
                pass

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _settings() == unusual


def test_two_operators_that_overlap_restore_everything(digits, photos, compute_embeddings, unusual):
    """Embedding with a real model and comparing images, twice each at once."""
    import fiftyone.operators as foo

    find_duplicates = foo.get_operator("@embedding/quality/find_duplicates")
    clones = [digits.clone(), photos.clone()]
    work = [
        lambda: compute_embeddings(digits, model="cnn"),
        lambda: compute_embeddings(clones[0], model="cnn", batch_size=4),
        lambda: find_duplicates(photos, embeddings="cnn"),
        lambda: find_duplicates(clones[1], embeddings="cnn"),
    ]
    with ThreadPoolExecutor(4) as pool:
        results = [future.result() for future in [pool.submit(call) for call in work]]
    for clone in clones:
        clone.delete()
    assert [result.get("computed") for result in results[:2]] == [20, 20]
    assert results[2]["near_groups"] == results[3]["near_groups"] > 0
    assert _settings() == unusual


def test_two_loads_without_a_hub_leave_no_trace(monkeypatch, unusual, caplog):
    """Nothing listens on the port. The root logger belongs to the user all the while."""
    from fiftyone_embedding_quality.embedding.registry import load_model
    from fiftyone_embedding_quality.errors import UserError
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", "/nonexistent")
    levels = set()
    with ThreadPoolExecutor(2) as pool:
        loads = [pool.submit(load_model, name) for name in ("clip", "timm:resnet18.a1_in1k")]
        while not all(load.done() for load in loads):
            levels.add(logging.getLogger().level)
            time.sleep(0.001)
    assert all(isinstance(load.exception(), UserError) for load in loads)
    assert len(levels) == 1
    assert not [record for record in caplog.records if "download" in record.message.lower()]
    assert _settings() == unusual


FIRST_LOADS = """
from concurrent.futures import ThreadPoolExecutor
from fiftyone_embedding_quality.embedding.registry import load_model
from huggingface_hub import constants

constants.ENDPOINT, constants.HF_HUB_CACHE = "http://127.0.0.1:9", "/nonexistent"
with ThreadPoolExecutor(2) as pool:
    loads = [pool.submit(load_model, name) for name in ("clip", "timm:resnet18.a1_in1k")]
    print(*(type(load.exception()).__name__ for load in loads))
"""


@pytest.mark.slow
def test_libraries_that_two_threads_import_at_once():
    """In a process in which nobody has imported them."""
    done = subprocess.run([sys.executable, "-c", FIRST_LOADS], capture_output=True, text=True)
    assert done.stdout.split() == ["UserError", "UserError"], done.stderr


def test_messages_are_dropped_in_this_thread_only(caplog):
    """open_clip logs by the root logger, the hub by its own; both as if from their files."""

    def log(place: str, name: str | None, text: str) -> None:
        logger = logging.getLogger(name)
        logger.handle(logger.makeRecord(logger.name, 40, f"/x/{place}/f.py", 1, text, (), None))

    with process.without_messages(("open_clip", "huggingface_hub")):
        log("open_clip", None, "dropped")
        log("huggingface_hub", "huggingface_hub.file_download", "dropped")
        log("mine", None, "mine")
        log("mine", "mine.module", "mine")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(log, "open_clip", None, "another thread's").result()
            pool.submit(log, "x", "huggingface_hub.y", "another thread's").result()
    log("open_clip", None, "after")
    assert [record.message for record in caplog.records] == [
        "mine",
        "mine",
        "another thread's",
        "another thread's",
        "after",
    ]


def _files(root, files: dict[str, str]) -> str:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return str(root)


HOST_PATH = "/kubepods.slice/pod12.slice/cri-34.scope"
V1 = "12:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n1:name=systemd:/docker/ab\n"
QUOTAS = {
    # Name: (files, cores that the quota allows)
    "none": ({}, None),
    "v2, no limit": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
    "v2, container": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"},
        2,
    ),
    "v2, rounded up": ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "150000 100000"}, 2),
    "v2, a tenth": ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "10000 100000"}, 1),
    "v2, a parent's": (
        {
            "proc/self/cgroup": f"0::{HOST_PATH}\n",
            f"sys/fs/cgroup{HOST_PATH}/cpu.max": "400000 100000",
            "sys/fs/cgroup/kubepods.slice/pod12.slice/cpu.max": "300000 100000",
            "sys/fs/cgroup/kubepods.slice/cpu.max": "max 100000",
        },
        3,
    ),
    "v2, another group's": (
        {
            "proc/self/cgroup": f"0::{HOST_PATH}\n",
            "sys/fs/cgroup/kubepods.slice/pod13.slice/cpu.max": "100000 100000",
        },
        None,
    ),
    "v2, path outside the container": (
        {"proc/self/cgroup": "0::/../../init", "sys/fs/cgroup/cpu.max": "300000 100000"},
        3,
    ),
    "v1": (
        {
            "proc/self/cgroup": V1,
            "sys/fs/cgroup/cpu,cpuacct/docker/ab/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu,cpuacct/docker/ab/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
        3,
    ),
    "v1, the container's own mount": (
        {
            "proc/self/cgroup": V1,
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "50000",
        },
        1,
    ),
    "unreadable": ({"proc/self/cgroup": "nonsense\n0::/", "sys/fs/cgroup/cpu.max": "a b c"}, None),
    "empty": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": ""}, None),
}


@pytest.mark.parametrize("name", QUOTAS)
def test_quota_of_a_container(name, tmp_path, monkeypatch):
    files, expected = QUOTAS[name]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert num_cores(_files(tmp_path, files)) == (expected or 8)


def test_affinity_counts_beside_a_larger_quota(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    files = {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "400000 100000"}
    assert num_cores(_files(tmp_path, files)) == 1


@pytest.mark.parametrize("flags", ["fpu avx2 amx_bf16 amx_tile", "fpu avx2", None])
def test_16_bit_arithmetic_is_read_from_the_processor(flags, tmp_path):
    files = {} if flags is None else {"proc/cpuinfo": f"processor : 0\nflags\t\t: {flags}\n"}
    assert has_fast_16_bits(_files(tmp_path, files)) == ("amx" in (flags or ""))


def _no_disk() -> None:
    with open("/dev/full", "wb", buffering=0) as file:
        file.write(b"one")


def _no_database() -> None:
    import pymongo

    # Nothing listens on the port.
    pymongo.MongoClient("127.0.0.1", 9, serverSelectionTimeoutMS=50).admin.command("ping")


FAULTS = {
    "the disk is full": _no_disk,
    "not enough memory": lambda: np.empty(2**58, np.uint8),
    "the database does not answer": _no_database,
}


@pytest.mark.parametrize("words", FAULTS)
def test_what_the_machine_lacks_is_told_by_the_operator(words, digits, monkeypatch):
    import fiftyone.operators as foo

    operator = foo.get_operator("@embedding/quality/list_runs")
    # What is remembered of its signature is that of the real one, for the tests that follow.
    like_run = functools.wraps(type(operator).run)
    monkeypatch.setattr(type(operator), "run", like_run(lambda *_, **__: FAULTS[words]()))
    with pytest.raises(ValueError, match=f"list_runs was interrupted: .*{words}.*run it again"):
        operator(digits)
    monkeypatch.setattr(type(operator), "run", like_run(lambda *_, **__: {}["a defect"]))
    with pytest.raises(KeyError):
        operator(digits)


def test_a_panel_tells_a_database_that_is_away_from_a_defect():
    told = process.unexpected(AutoReconnect("127.0.0.1:1: connection closed"))
    assert "the database does not answer" in told and "AutoReconnect" not in told
    assert "KeyError: 'vec'; the server's log" in process.unexpected(KeyError("vec"))
