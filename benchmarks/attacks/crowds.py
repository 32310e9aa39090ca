"""Crowds: many processes and the App's server at once on one dataset.

Each does what comes to its mind: computes, finds, reviews, deletes, exports. In the end what is
finished equals what one process alone would have made of it, nothing of the user's has changed but
labels that were reviewed, no lock is left, and everything can be deleted.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .base import Tally
from .server import Server

KEYS = ("outliers", "duplicates", "label_issues", "vec_pca", "shades", "clusters")
LABELED = {"embeddings": "vec", "label_field": "species"}

# A longer answer of the App is told, in seconds.
SOON = 1.0


def attack(processes: int, seconds: float, seed: int, home: Path) -> Iterator[Tally]:
    """Lets so many processes work on one dataset for so long."""
    import fiftyone as fo
    import killing

    killing.ready()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count()))
    sys.modules[f"{killing._loaded_package()}.storage.locks"].ABANDONED_SECONDS = 20
    import killing_cases

    pristine = killing_cases.of_samples()
    dataset = pristine.clone(killing._name())
    name = dataset.name
    _act(dataset, np.random.default_rng(0), home, "find_label_issues")  # what is compiled, is
    server = Server()
    tally, ending = Tally(f"{processes} processes and the App"), time.time() + seconds
    children = {}
    for number in range(processes):
        if (child := os.fork()) == 0:
            _work(name, ending, seed + number, home)
        children[child] = number
    answers = _watch(server, name, ending, tally)
    _gather(tally, children, home)
    server.kill()
    _judge(tally, name, pristine)
    yield tally
    late = sum(one > SOON for one in answers)
    print(
        f"The App answered {len(answers)} times in {statistics.median(answers):.2f} s (median), "
        f"{max(answers):.2f} s at most, {late} times in more than {SOON:.0f} s"
    )
    fo.delete_dataset(name)


def _watch(server: Server, name: str, ending: float, tally: Tally) -> list[float]:
    """Opens the panel of findings again and again: how long each answer took."""
    server.panel("dataset_quality", name)  # imports the plugin
    took = []
    while time.time() < ending or not took:
        started = time.monotonic()
        answer = server.panel("dataset_quality", name)
        took.append(time.monotonic() - started)
        tally.tries += 1
        if '"error": null' in answer or '"error":null' in answer:
            tally.results += 1
        else:
            tally.fault("tracebacks", f"the panel: {answer[:300]}")
        time.sleep(0.5)
    return took


def _act(dataset: Any, rng: np.random.Generator, home: Path, what: str = "") -> tuple[str, Any]:
    """One call of a user's: its name, and what came of it."""
    from battery import call

    calls = {
        "compute_embeddings": {"embeddings": "shades", "model": "timm:shades8"},
        "find_outliers": {"embeddings": "vec"},
        "find_duplicates": {"embeddings": "vec"},
        "find_label_issues": LABELED,
        "find_clusters": {**LABELED, "names": "labels", "min_size": 3},
        "compute_visualization": {"embeddings": "vec", "method": "pca"},
        "review_label_issues": {"decision": str(rng.choice(["accept", "keep", "undo"]))},
        "delete_run": {"run_key": str(rng.choice(KEYS))},
        "export_report": {"path": f"{home}/report-{os.getpid()}-{time.monotonic_ns()}"},
        "list_runs": {},
    }
    what = what or str(rng.choice(list(calls)))
    return what, call(what, dataset, **calls[what])


def _work(name: str, ending: float, seed: int, home: Path) -> None:
    """One process of the crowd, to its end."""
    import fiftyone as fo

    rng = np.random.default_rng(seed)
    with open(home / f"crowd-{os.getpid()}", "w") as told, contextlib.suppress(BaseException):
        fo.Dataset._instances.pop(name, None)
        dataset = fo.load_dataset(name)
        while time.time() < ending:
            print(json.dumps(["starts"]), file=told, flush=True)
            dataset.reload()
            what, answer = _act(dataset, rng, home)
            print(json.dumps([what, answer.fault, answer.refusal]), file=told, flush=True)
    os._exit(0)


def _gather(tally: Tally, children: dict[int, int], home: Path) -> None:
    """Waits for the processes, two minutes at most, and counts what they tell."""
    deadline, running = time.monotonic() + 120, set(children)
    while running and time.monotonic() < deadline:
        running -= {one for one in running if os.waitpid(one, os.WNOHANG)[0]}
        time.sleep(0.1)
    for child in running:
        os.kill(child, 9)
        os.waitpid(child, 0)
        tally.fault("hung", f"process {children[child]}")
    for child in children:
        rows = [json.loads(line) for line in (home / f"crowd-{child}").read_text().splitlines()]
        for what, *told in rows:
            if what == "starts":
                tally.tries += 1
            elif told[0]:
                tally.fault("tracebacks", f"{what}: {' / '.join(told[0].splitlines()[-5:])}")
            elif told[1]:
                tally.errors += 1
            else:
                tally.results += 1
        if child not in running and len(rows) % 2:
            tally.fault("tracebacks", f"process {children[child]} ended within a call")


def _judge(tally: Tally, name: str, pristine: Any) -> None:
    import fiftyone as fo
    import fiftyone.core.odm as foo
    from battery import operator
    from killing import State, _without, differences

    fo.Dataset._instances.pop(name, None)
    dataset = fo.load_dataset(name)
    locks = foo.get_db_conn()["embedding_quality.locks"]
    for lock in locks.find():
        tally.fault("lost", f"the lock {lock} is left")
    rows = operator("list_runs")(dataset)["runs"]
    for row in rows:
        if not row["finished"]:
            tally.fault("lost", f"{row['run_key']} is not finished, and nobody works on it")
        elif row["run_key"] in ("outliers", "duplicates"):  # nobody has reviewed them
            # Outliers take duplicates into account where they are known.
            for serial in (_alone(pristine, row), _alone(pristine, row, "find_duplicates")):
                if all(dataset.values(path) == values for path, values in serial.items()):
                    break
            else:
                tally.fault("lost", f"{row['run_key']} is not what one process makes of it")
    for row in sorted(rows, key=lambda row: row["operator"] == "neighbor_graph"):
        with contextlib.suppress(ValueError):  # went with another one
            operator("delete_run")(dataset, run_key=row["run_key"])
    dataset.reload()
    was, is_ = vars(State.of(pristine)), vars(State.of(dataset))
    # Labels were reviewed: they are of the same classes, and all the rest is as it was.
    classes = set(pristine.distinct("species.label"))
    if not set(dataset.distinct("species.label")) <= classes:
        tally.fault("lost", f"labels are {dataset.distinct('species.label')}, not of {classes}")
    for state in (was, is_):
        state["samples"] = {
            id_: _without(one, ("species",)) for id_, one in state["samples"].items()
        }
    for text in differences(was, is_):
        tally.fault("lost", f"after all was deleted, {text}")


def _alone(pristine: Any, row: dict[str, Any], *before: str) -> dict[str, list]:
    """The values that the operator of a run stores where nobody else is about."""
    from battery import operator

    dataset = pristine.clone()
    for name in (*before, row["operator"]):
        operator(name)(dataset, embeddings="vec")
    dataset.reload()
    values = {path: dataset.values(path) for path in row["fields"]}
    dataset.delete()
    return values
