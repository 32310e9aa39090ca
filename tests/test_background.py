"""Values reach the database once they were handed over, and few of them wait for it."""

import signal
import subprocess
import sys
import threading
import time

import pytest
from fiftyone_embedding_quality.storage import background
from fiftyone_embedding_quality.storage.background import BackgroundWriter


@pytest.fixture(autouse=True)
def short_times(monkeypatch):
    monkeypatch.setattr(background, "INTERVAL", 0.01)
    monkeypatch.setattr(background, "PAUSE", 0.01)


def test_the_computation_waits_for_a_slower_database(monkeypatch):
    monkeypatch.setattr(background, "MAX_WAITING", 50)
    stored, behind = {}, []

    def write(values):
        time.sleep(0.05)
        stored.update(values)

    with BackgroundWriter(write) as writer:
        for start in range(0, 1000, 10):
            writer.put({str(number): number for number in range(start, start + 10)})
            behind.append(start + 10 - len(stored))
    assert stored == {str(number): number for number in range(1000)}
    # What is being written, what waits, and what has just come.
    assert 50 < max(behind) <= 50 + 50 + 10


def test_the_computation_goes_on_while_a_write_does():
    writing, go_on = threading.Event(), threading.Event()

    def write(values):
        writing.set()
        assert go_on.wait(10)

    with BackgroundWriter(write) as writer:
        time.sleep(0.02)
        writer.put({"a": 1})
        assert writing.wait(10)
        time.sleep(0.02)
        writer.put({"b": 2})
        go_on.set()


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_database_that_is_away_for_a_while_costs_nothing(failing):
    """Told, if it lasts; but every value is written in the end."""
    stored, failures = {}, []

    def write(values):
        if len(failures) < failing:
            failures.append(values)
            raise OSError("connection refused")
        stored.update(values)

    given = {}
    try:
        with BackgroundWriter(write) as writer:
            for number in range(50):
                given[number] = str(number)
                writer.put({number: str(number)})
                time.sleep(0.005)
    except OSError:
        assert failing > 1
    assert len(failures) == failing
    assert stored == given


def test_a_database_that_stays_away_is_an_error():
    def write(values):
        raise OSError("connection refused")

    with pytest.raises(OSError, match="refused"), BackgroundWriter(write) as writer:
        writer.put({"a": 1})


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_an_error_of_the_computation_loses_nothing(error):
    stored = {}
    with pytest.raises(error), BackgroundWriter(stored.update) as writer:
        for number in range(7):
            writer.put({number: number})
        raise error
    assert stored == {number: number for number in range(7)}


@pytest.mark.slow
def test_interrupts_lose_nothing_even_while_the_rest_is_written():
    """Three times Ctrl-C, the last ones while the block is left."""
    # A process that is started in the background ignores interrupts, by inheritance.
    script = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from fiftyone_embedding_quality.storage import background
background.INTERVAL = 0.1
stored, given = set(), set()
def write(values):
    time.sleep(0.7)
    stored.update(values)
import atexit
atexit.register(lambda: print(stored >= given and len(given) > 2, flush=True))
with background.BackgroundWriter(write) as writer:
    print("begun", flush=True)
    for number in range(10**6):
        writer.put({number: number})
        given.add(number)
        time.sleep(0.01)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "begun\n"
        time.sleep(1)
        for _ in range(3):
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert output == "True\n" and "KeyboardInterrupt" in errors
