"""Kills an operator at each of its writes, and looks at what is left from another process.

A child is forked for each write: it does the call, and is killed when that write starts, before it
is sent. The parent then looks at the dataset as anybody would, calls the operator again, and
deletes what it wrote. It may compute on one thread only, since others do not survive a fork:
``Killing`` starts such a parent, which reads names of cases and tells what it has found.
"""

import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)

# Commands of MongoDB that change what is stored, and the stages by which an aggregation does.
WRITES = frozenset(
    [
        "insert",
        "update",
        "delete",
        "findAndModify",
        "create",
        "createIndexes",
        "drop",
        "dropIndexes",
        "collMod",
        "renameCollection",
        "dropDatabase",
    ]
)
WRITING_STAGES = ("$merge", "$out")

# What differs from call to call: what a killed call has embedded is not computed again.
VOLATILE = frozenset(
    [
        "_id",
        "last_modified_at",
        "created_at",
        "last_loaded_at",
        "written_at",
        "history",  # what the same call had found when it was killed after its last write
        "stored_at",
        "timestamp",
        "seconds",
        "images_per_second",
        "computed",
        "reused",
        "placed",
        "_dataset_id",
    ]
)


@dataclass
class Outcome:
    """What became of the calls of a case that were killed.

    Attributes:
        case: its name
        writes: how many writes the call does
        kills: how many calls were killed
        repaired: how many left something else than the one before, so that it was repaired, too
        lost: what of the user's is gone or changed, or cannot be undone
        half_finished: what is shown as finished and is not, or is not shown at all
        unreadable: what could not be listed or reported
        not_completed: where the same call did not end as one that nobody killed
        left: what is left after everything was deleted
        seconds: what it took
    """

    case: str
    writes: int = 0
    kills: int = 0
    repaired: int = 0
    lost: list[str] = field(default_factory=list)
    half_finished: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    not_completed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def faults(self) -> list[str]:
        kinds = ("lost", "half_finished", "unreadable", "not_completed", "left")
        return [f"{kind}, {text}" for kind in kinds for text in getattr(self, kind)]


class Killing:
    """The process that kills: ``run`` a case there."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **ONE_THREAD},
            text=True,
        )

    def run(self, case: str, only: str = "") -> Outcome:
        print(case, only, sep="\t", file=self._process.stdin, flush=True)
        for line in self._process.stdout:  # FiftyOne prints hints of its own
            if line.startswith("{"):
                return Outcome(**json.loads(line))
        raise RuntimeError(f"The process that kills has ended during {case}")

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.wait(30)


# What follows runs in that process


@dataclass(frozen=True)
class Case:
    """One call that is killed.

    Attributes:
        data: makes the dataset
        call: the call that is killed
        before: what the plugin did before
        labels: the path of the labels that the call may change
        undo: takes back what the call did to labels
        deletes: whether the call is to remove what was there
    """

    data: Callable[[], Any]
    call: Callable[[Any], Any]
    before: Callable[[Any], Any] | None = None
    labels: str | None = None
    undo: Callable[[Any], Any] | None = None
    deletes: bool = False


class Killer:
    """Counts the writes of this process, and ends it at one of them."""

    def __init__(self) -> None:
        self._counting = False
        self._at: int | None = None
        self._guard = threading.Lock()
        self.writes: list[str] = []

    def arm(self, at: int | None) -> None:
        self.writes, self._at, self._counting = [], at, True

    def disarm(self) -> None:
        self._counting = False

    def saw(self, event: Any) -> None:
        if not self._counting or not _is_write(event):
            return
        with self._guard:
            self.writes.append(f"{event.command_name} {_collection(event)}")
            if len(self.writes) == self._at:
                os.kill(os.getpid(), signal.SIGKILL)


def _collection(event: Any) -> str:
    return str(event.command.get(event.command_name))


def _is_write(event: Any) -> bool:
    command = event.command
    if event.command_name == "aggregate":
        stages = command.get("pipeline") or [{}]
        return any(stage in stages[-1] for stage in WRITING_STAGES)
    if _collection(event) == "embedding_quality.locks":
        # A heartbeat comes when it comes.
        updates = command.get("updates") or [{}]
        return event.command_name in WRITES and "$inc" not in updates[0].get("u", {})
    return event.command_name in WRITES


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def kill_at_every_write(
    name: str, case: Case, killer: Killer, only: range | None = None
) -> Outcome:
    """Kills the call of a case at each of its writes, and tells what was left each time."""
    import fiftyone as fo

    started = time.monotonic()
    outcome = Outcome(name)

    def counted(dataset: Any) -> None:
        killer.arm(None)
        case.call(dataset)
        killer.disarm()

    pristine, base, states = before_and_after(case, counted)
    outcome.writes = len(killer.writes)
    last: State | None = None
    for number in only or range(1, outcome.writes + 1):
        dataset = base.clone(_name())
        dataset_name = dataset.name
        if not _killed(dataset_name, case.call, killer, number):
            dataset.delete()
            break
        outcome.kills += 1
        what = killer.writes[number - 1] if number <= len(killer.writes) else "?"
        where = f"killed at write {number} ({what.replace(base._sample_collection_name, 'C')})"
        del dataset
        try:
            now = _look(fo, dataset_name, case, states, outcome, where)
            if now != last:  # or the same as before has been repaired already
                outcome.repaired += 1
                _repair(fo, dataset_name, case, states, outcome, where)
            last = now
        except Exception:
            outcome.not_completed.append(f"{where}: {traceback.format_exc(limit=-4)}")
        _afresh(fo, dataset_name).delete()
    base.delete()
    pristine.delete()
    outcome.seconds = round(time.monotonic() - started, 1)
    return outcome


def before_and_after(case: Case, call: Callable[[Any], Any] | None = None) -> tuple:
    """The user's dataset alone, as it is before the call of a case, and all three states.

    Args:
        case: the case
        call (None): does what the case calls, and something beside it
    """
    pristine = case.data()
    base = pristine.clone(_name())
    if case.before is not None:
        case.before(base)
    # A view that the user has saved meanwhile, so that it lies between those of the plugin.
    for dataset in (pristine, base):
        dataset.save_view("mine, later", dataset.limit(3))
    undisturbed = base.clone(_name())
    (call or case.call)(undisturbed)
    states = _States(State.of(pristine), State.of(base), State.of(undisturbed))
    undisturbed.delete()
    return pristine, base, states


def _name() -> str:
    return f"killed-{uuid.uuid4().hex[:8]}"


def _killed(dataset_name: str, call: Callable[[Any], Any], killer: Killer, at: int) -> bool:
    """Whether the call of a child was killed at that write."""
    import fiftyone as fo

    sys.stdout.flush()
    with _quiet():
        child = os.fork()
    if child == 0:
        status = 1
        try:
            dataset = _afresh(fo, dataset_name)
            killer.arm(at)
            call(dataset)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"the call that was to be killed at write {at} failed")
    return False


def _afresh(fo: Any, name: str) -> Any:
    """The dataset as a process sees it that has not seen it before."""
    fo.Dataset._instances.pop(name, None)
    return fo.load_dataset(name)


def _look(
    fo: Any, name: str, case: Case, states: "_States", outcome: Outcome, where: str
) -> "State":
    """Looks at what a killed call has left as another process does."""
    dataset = _afresh(fo, name)
    rows = None
    try:
        rows = _operator("list_runs")(dataset)["runs"]
        if any(row["finished"] for row in rows):
            with tempfile.TemporaryDirectory() as folder:
                _operator("export_report")(dataset, path=f"{folder}/report")
    except Exception as error:
        if not _nothing_to_report(error):
            text = traceback.format_exc(limit=-3)
            outcome.unreadable.append(f"{where}: {type(error).__name__}: {error}\n{text}")
    now = State.of(_afresh(fo, name))
    outcome.lost += [f"{where}: {text}" for text in states.lost(now, case.labels)]
    if rows is not None:
        faults = states.half_finished(now, rows, case)
        outcome.half_finished += [f"{where}: {text}" for text in faults]
    return now


def _repair(
    fo: Any, name: str, case: Case, states: "_States", outcome: Outcome, where: str
) -> None:
    """Takes reviews back in a copy, does the call again, and deletes what it wrote."""
    if case.undo is not None:
        _check_undo(_afresh(fo, name), case, states, outcome, where)
    dataset = _afresh(fo, name)
    try:
        case.call(dataset)
    except ValueError as error:
        # What was removed but for the lock cannot be removed again.
        if not (case.deletes and "no run with this name" in str(error)):
            raise
    again = State.of(_afresh(fo, name))
    faults = differences(states.undisturbed, again)
    outcome.not_completed += [f"{where}, then the same call: {text}" for text in faults]
    _check_nothing_left(fo, name, case, states, outcome, where)


def _nothing_to_report(error: Exception) -> bool:
    return isinstance(error, ValueError) and "othing" in str(error)


def _check_undo(dataset: Any, case: Case, states: "_States", outcome: Outcome, where: str) -> None:
    copy = dataset.clone(_name())
    try:
        try:
            case.undo(copy)
        except ValueError as error:
            if "run it again first" not in str(error):
                raise
            case.call(copy)
            case.undo(copy)
        now = State.of(copy)
        for text in differences(states.pristine.labels(case.labels), now.labels(case.labels)):
            outcome.lost.append(f"{where}, then undo: {text}")
    except Exception as error:
        outcome.lost.append(f"{where}, then undo: {type(error).__name__}: {error}")
    finally:
        copy.delete()


def _check_nothing_left(
    fo: Any, name: str, case: Case, states: "_States", outcome: Outcome, where: str
) -> None:
    dataset = _afresh(fo, name)
    if case.undo is not None:
        case.undo(dataset)
    # Graphs last: what deletes embeddings deletes theirs.
    rows = _operator("list_runs")(dataset, check=False)["runs"]
    rows.sort(key=lambda row: row["operator"] == "neighbor_graph")
    for row in rows:
        try:
            _operator("delete_run")(dataset, run_key=row["run_key"])
        except ValueError as error:  # went with another one
            if "no run with this name" not in str(error):
                raise
    after = State.of(_afresh(fo, name))
    faults = differences(states.pristine, after)
    outcome.left += [f"{where}, then all deleted: {text}" for text in faults]


# What is stored, and how it differs


@dataclass(frozen=True)
class State:
    """Everything that is stored of a dataset, without what differs from call to call.

    Attributes:
        samples, frames: the documents, by id
        schema: the type of each field, by path
        views: the ids that each saved view shows
        runs: custom runs and brain runs by key: configuration and results
        more: names of collections beside those of the dataset, and references that are broken
    """

    samples: Mapping[str, Any]
    frames: Mapping[str, Any]
    schema: Mapping[str, str]
    views: Mapping[str, list[str]]
    runs: Mapping[str, Any]
    more: tuple[str, ...]

    @classmethod
    def of(cls, dataset: Any) -> "State":
        import fiftyone.core.odm as foo

        database = foo.get_db_conn()
        own = dataset._sample_collection_name
        stored = database.datasets.find_one({"_id": dataset._doc.id})
        frames = dataset._frame_collection_name
        schema = {
            path: type(one).__name__ for path, one in dataset.get_field_schema(flat=True).items()
        }
        if dataset._has_frame_fields():
            schema |= {
                f"frames.{path}": type(one).__name__
                for path, one in dataset.get_frame_field_schema(flat=True).items()
            }
        views = {}
        for name in dataset.list_saved_views():
            view = dataset.load_saved_view(name)
            views[name] = view.values("id")
        return cls(
            samples={str(one["_id"]): _clean(one) for one in database[own].find()},
            frames={str(one["_id"]): _clean(one) for one in database[frames].find()}
            if frames
            else {},
            schema=schema,
            views=views,
            runs=_runs(database, stored),
            more=_more(database, stored, own),
        )

    def labels(self, path: str) -> dict[str, Any]:
        """The values at a path of all samples."""
        return {id_: _at(one, path.split(".")) for id_, one in self.samples.items()}


def _at(value: Any, parts: list[str]) -> Any:
    if isinstance(value, list):
        return [_at(one, parts) for one in value]
    if not parts or value is None:
        return value
    return _at(value.get(parts[0]), parts[1:])


def _runs(database: Any, stored: Mapping[str, Any]) -> dict[str, Any]:
    import gridfs
    from bson import json_util

    files = gridfs.GridFS(database)
    found = {}
    for kind in ("runs", "brain_methods"):
        for key, id_ in (stored.get(kind) or {}).items():
            run = database.runs.find_one({"_id": id_})
            if run is None:
                continue
            results = None
            if run.get("results"):
                try:
                    results = _clean(json_util.loads(files.get(run["results"]).read().decode()))
                except gridfs.errors.NoFile:
                    results = "no such file"
            found[f"{kind} {key}"] = {"config": _clean(run["config"]), "results": results}
    return found


def _more(database: Any, stored: Mapping[str, Any], own: str) -> tuple[str, ...]:
    more = [
        f"collection {name.replace(own, 'C')}"
        for name in database.list_collection_names()
        if name.startswith(f"{own}.")
    ]
    views = [one["_id"] for one in database.views.find({"_dataset_id": stored["_id"]}, {"_id": 1})]
    runs = [one["_id"] for one in database.runs.find({"_dataset_id": stored["_id"]}, {"_id": 1})]
    named = [*(stored.get("runs") or {}).items(), *(stored.get("brain_methods") or {}).items()]
    more += [f"view {id_} is not stored" for id_ in stored["saved_views"] if id_ not in views]
    more += [f"run {key} is not stored" for key, id_ in named if id_ not in runs]
    held = {id_ for _, id_ in named} | set(stored.get("evaluations", {}).values())
    more += ["view without dataset" for id_ in views if id_ not in stored["saved_views"]]
    more += ["run without dataset" for id_ in runs if id_ not in held]
    return tuple(sorted(more))


def _clean(value: Any) -> Any:
    """Without what differs from call to call, and without empty values."""
    if isinstance(value, Mapping):
        cleaned = {key: _clean(one) for key, one in value.items() if key not in VOLATILE}
        # A field that was cleared is there and empty, also on patches: the same as none.
        return {key: one for key, one in cleaned.items() if not _is_empty(one)}
    if isinstance(value, (list, tuple)):
        return [_clean(one) for one in value]
    return value


def _is_empty(value: Any) -> bool:
    if isinstance(value, (Mapping, list)):
        return all(map(_is_empty, value if isinstance(value, list) else value.values()))
    return value is None


def differences(wanted: Any, found: Any, path: str = "") -> list[str]:
    """Where two things differ, the first few places."""
    if isinstance(wanted, State):
        wanted, found = vars(wanted), vars(found)
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        told = []
        for key in sorted(wanted.keys() | found.keys()):
            where = f"{path}.{key}" if path else str(key)
            if key not in found:
                told.append(f"{where} is missing")
            elif key not in wanted:
                told.append(f"{where} is there")
            else:
                told += differences(wanted[key], found[key], where)
        return told[:6]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        told = []
        for place, (one, other) in enumerate(zip(wanted, found)):
            told += differences(one, other, f"{path}.{place}")
        return told[:6]
    same = wanted == found or (wanted != wanted and found != found)
    return [] if same else [f"{path} is {str(found)[:80]}, not {str(wanted)[:80]}"]


@dataclass(frozen=True)
class _States:
    """The dataset of the user alone, before the call, and after a call that nobody killed."""

    pristine: State
    base: State
    undisturbed: State

    def lost(self, now: State, labels: str | None) -> list[str]:
        """What of the user's is not as it was."""
        told = [
            f"view {name}"
            for name, ids in self.pristine.views.items()
            if now.views.get(name) != ids
        ]
        told += [
            f"field {path}"
            for path, kind in self.pristine.schema.items()
            if now.schema.get(path) != kind
        ]
        reviewed = tuple(labels.split(".")) if labels else None
        for part in ("samples", "frames"):
            before, after = getattr(self.base, part), getattr(self.undisturbed, part)
            for id_, document in getattr(self.pristine, part).items():
                found = getattr(now, part).get(id_)
                told += (
                    _not_kept(document, found, (), id_)[:3]
                    if reviewed is None
                    else (
                        _neither(before[id_], after[id_], found, reviewed, id_)
                        + _not_kept(
                            _without(document, reviewed), _without(found, reviewed), (), id_
                        )
                    )[:3]
                )
        return told[:6]

    def half_finished(self, now: State, rows: list[dict[str, Any]], case: Case) -> list[str]:
        """What does not say that it is unfinished."""
        told = []
        before, after = self.base, self.undisturbed
        said = {row["run_key"]: row for row in rows}
        open_ = {
            key
            for key, row in said.items()
            if not row["finished"] or any("interrupted" in why for why in row["reasons"] or ())
        }
        for path in sorted(before.schema.keys() | now.schema.keys()):
            if path in self.pristine.schema:
                continue
            values, there = _column(now, path), path in now.schema
            if there == (path in before.schema) and values == _column(before, path):
                continue
            owners = [key for key, row in said.items() if _owns(row["fields"], path)]
            done = there == (path in after.schema) and values == _column(after, path)
            if any(key in open_ for key in owners):
                continue
            if case.deletes and not there and done:
                if not any(_owned_before(before, path, key) for key in said):
                    continue
                told.append(f"the field {path} is gone, and its run is listed as finished")
            elif not owners or not done:
                who = f"the finished run {owners[0]}" if owners else "no run that is listed"
                told.append(f"the field {path} of {who} is neither as before nor as after")
        for name in sorted(before.views.keys() | now.views.keys()):
            if name in self.pristine.views or now.views.get(name) == before.views.get(name):
                continue
            owner = name.partition(": ")[0]
            if owner in open_ or (
                now.views.get(name) == after.views.get(name) and (owner in said or case.deletes)
            ):
                continue
            told.append(f"the view {name} is neither as before nor as after")
        for full in sorted(before.runs.keys() | now.runs.keys()):
            key = full.partition(" ")[2]
            run = now.runs.get(full)
            if key in open_ or run == before.runs.get(full) or run == after.runs.get(full):
                continue
            if run is None:
                told.append(f"the run {key} no longer exists")
            else:
                told += [
                    f"the finished run {key}: {text}"
                    for text in differences(after.runs.get(full, {}), run)
                ]
        for row in rows:
            if row["finished"] and row["run_key"] not in open_:
                told += [
                    f"the finished run {row['run_key']} lacks its field {path}"
                    for path in row["fields"]
                    if path not in now.schema and path in after.schema
                ]
                told += [
                    f"the finished run {row['run_key']} lacks its view {name}"
                    for name in row["views"]
                    if name not in now.views
                ]
        return told[:8]


def _owns(fields: list[str], path: str) -> bool:
    """Whether a field is one of these, or lies in one."""
    return any(path == one or path.startswith(f"{one}.") for one in fields)


def _owned_before(before: State, path: str, key: str) -> bool:
    """Whether a run of that key owned a field."""
    run = before.runs.get(f"runs {key}")
    return run is not None and _owns(run["config"].get("fields", []), path)


def _column(state: State, path: str) -> dict[str, Any]:
    documents, parts = state.samples, path.split(".")
    if parts[0] == "frames" and state.frames:
        documents, parts = state.frames, parts[1:]
    return {id_: _at(one, parts) for id_, one in documents.items()}


def _not_kept(wanted: Any, found: Any, path: tuple, id_: str) -> list[str]:
    """What is in the first and not the same in the second, which may hold more."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return [
            text
            for key, one in wanted.items()
            for text in _not_kept(one, found.get(key), (*path, key), id_)
        ]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        return [
            text for one, other in zip(wanted, found) for text in _not_kept(one, other, path, id_)
        ]
    if wanted == found:
        return []
    return [f"{id_} {'.'.join(path)} is {str(found)[:60]}, not {str(wanted)[:60]}"]


def _neither(before: Any, after: Any, now: Any, path: tuple, id_: str) -> list[str]:
    """Labels that are neither as before nor as reviewed."""
    parts = list(path)
    was, becomes, is_ = (_at(one, parts) for one in (before, after, now))
    if isinstance(was, list) and isinstance(is_, list) and len(was) == len(is_) == len(becomes):
        good = all(one in pair for one, *pair in zip(is_, was, becomes))
    else:
        good = is_ in (was, becomes)
    return [] if good else [f"{id_} {'.'.join(path)} is {is_}, not {was} or {becomes}"]


def _without(value: Any, path: tuple) -> Any:
    if isinstance(value, list):
        return [_without(one, path) for one in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: _without(one, path[1:]) if key == path[0] else one
        for key, one in value.items()
        if not (key == path[0] and len(path) == 1)
    }


@functools.cache
def _operator(name: str) -> Any:
    import fiftyone.operators as foo

    return foo.get_operator(f"@embedding/quality/{name}")


def _loaded_package() -> str:
    """The plugin as FiftyOne has loaded it: not the package that Python imports."""
    return type(_operator("list_runs")).__module__.partition(".operators")[0]


def ready() -> Killer:
    """Makes this process one that forks and kills, before FiftyOne is imported."""
    import pymongo.monitoring

    killer = Killer()

    class Listener(pymongo.monitoring.CommandListener):
        def started(self, event: Any) -> None:
            killer.saw(event)

        def succeeded(self, event: Any) -> None:
            pass

        def failed(self, event: Any) -> None:
            pass

    # Before FiftyOne connects: clients know the listeners that there are when they are made.
    pymongo.monitoring.register(Listener())
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import torch

    torch.set_num_threads(1)
    import killing_cases

    package = _loaded_package()
    locks, background = (
        sys.modules[f"{package}.storage.{name}"] for name in ("locks", "background")
    )
    # The killed leave their locks behind; nobody else is about.
    locks.ABANDONED_SECONDS = 0.15
    background.INTERVAL = 0
    killing_cases.prepare(package)
    return killer


def main() -> None:
    """Reads names of cases, with the writes to kill at (``2:9:3``), and prints their outcomes."""
    killer = ready()
    from killing_cases import CASES

    # ``datasets`` are made once: children of a fork have theirs in memory.
    for line in sys.stdin:
        name, _, only = line.strip().partition("\t")
        chosen = range(*map(int, only.split(":"))) if only else None
        try:
            outcome = kill_at_every_write(name, CASES[name], killer, chosen)
        except Exception:
            outcome = Outcome(name, not_completed=[traceback.format_exc()])
        print(json.dumps(asdict(outcome)), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
