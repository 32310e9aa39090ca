"""Death: of a call, of the App's server during one, of the database, of memory and of the disk.

Afterwards nothing of the user's is lost, nothing half-finished is shown as finished, and the same
call completes: ``tests/killing.py`` looks, repairs and deletes after every death.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .base import Database, Tally
from .server import PATIENCE, Server

# What Python, the system and the database's client say when there is no memory left.
OUT_OF_MEMORY = ("MemoryError", "can't start new thread", "Cannot allocate memory", "bad_alloc")


def attack(ways: str, cases: str, kills: int, seed: int, home: Path) -> Iterator[Tally]:
    """Lets each case die so often in each way.

    Args:
        ways: keys of ``WAYS``, "server" or "disk", with commas between them
        cases: names of ``killing_cases.CASES``, with commas between them; "" for all
        kills: of each case in each way; of all together with "server" and "disk"
        seed: of the moments
        home: a folder
    """
    import killing

    killing.ready()
    from killing_cases import CASES

    rng = np.random.default_rng(seed)
    chosen = {name: CASES[name] for name in (cases.split(",") if cases else CASES)}
    for kind in ways.split(","):
        if kind == "server":
            yield _servers(chosen, kills, rng)
        elif kind == "disk":
            yield _full_disks(chosen, kills, rng, home)
        else:
            words, die = WAYS[kind]
            tally = Tally(words)
            for name, case in chosen.items():
                _case(tally, name, case, die, kills, rng)
            yield tally


# What is told by a child that was not killed


@dataclass
class End:
    """How a child ended: ``killed``, ``result``, ``refused``, ``raised`` or ``hung``, and why."""

    how: str
    why: str = ""


def _child(name: str, call: Callable[[Any], Any], before: Callable[[], None]) -> tuple[int, int]:
    """Starts a call in a fork of this process: its id, and a pipe from which its end is read."""
    import fiftyone as fo
    import killing

    read, write = os.pipe()
    sys.stdout.flush()
    with killing._quiet():
        child = os.fork()
    if child:
        os.close(write)
        return child, read
    warnings.simplefilter("ignore")  # about connections that were made before
    try:
        dataset = killing._afresh(fo, name)
    except BaseException:  # FiftyOne's, before anything of the plugin's
        os._exit(0)
    try:
        before()
        # An audit goes on, and says what of it was interrupted.
        told = str((call(dataset) or {}).get("left_out"))
        end = End("refused", told) if "run it again" in told else End("result")
    except BaseException as error:
        refused = type(error).__name__ == "UserError" or _told_by_panels(call, error)
        text = f"{type(error).__name__}: {error}"
        where = traceback.extract_tb(error.__traceback__)[-1]
        end = End(
            "refused" if refused else "raised", f"{text[:300]} at {where.filename}:{where.lineno}"
        )
    with contextlib.suppress(BaseException):
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
    with contextlib.suppress(BaseException):
        os.write(write, pickle.dumps(end))
    os._exit(0)


def _told_by_panels(call: Any, error: BaseException) -> bool:
    """Whether an error comes to a panel, which says it in plain words, not to an operator."""
    import killing

    process = sys.modules[f"{killing._loaded_package()}.process"]
    return not hasattr(call, "operator") and process.machine_fault(error) is not None


def _ended(child: int, read: int) -> End:
    deadline = time.monotonic() + PATIENCE
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGUSR1)  # says where it hangs
            time.sleep(1)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return End("hung")
        time.sleep(0.005)
    with os.fdopen(read, "rb") as pipe:
        content = pipe.read()
    return pickle.loads(content) if content else End("killed")


# Ways to die: each starts the call, disturbs it, and tells how it ended


def _kill(name: str, call: Callable, seconds: float, rng: np.random.Generator) -> End:
    child, read = _child(name, call, lambda: None)
    time.sleep(rng.random() * seconds)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return _ended(child, read)


def _little_memory(name: str, call: Callable, seconds: float, rng: np.random.Generator) -> End:
    more = int(2 ** rng.uniform(12, 24))

    def limit() -> None:
        with open("/proc/self/statm") as file:
            held = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + more, resource.RLIM_INFINITY))

    return _ended(*_child(name, call, limit))


def _database_dies(name: str, call: Callable, seconds: float, rng: np.random.Generator) -> End:
    import fiftyone.core.odm as foo

    database = Database.current
    foo.get_db_conn().client.admin.command("fsync")
    child, read = _child(name, call, lambda: None)
    time.sleep(rng.random() * seconds)
    database.kill()
    time.sleep(rng.random())
    database.start()
    end = _ended(child, read)
    _reconnected()
    return end


WAYS: dict[str, tuple[str, Callable[..., End]]] = {
    "kill": ("kill -9 at a random moment", _kill),
    "memory": ("a limit of memory", _little_memory),
    "database": ("the database killed and started again", _database_dies),
}


def _reconnected() -> None:
    """Waits until this process's own connections have found the database again."""
    import fiftyone.core.odm as foo
    from pymongo.errors import PyMongoError

    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            foo.get_db_conn().client.admin.command("ping")
            return
        except PyMongoError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _case(
    tally: Tally, name: str, case: Any, die: Callable, kills: int, rng: np.random.Generator
) -> None:
    import killing

    pristine, base, states = killing.before_and_after(case)
    # The second call: what is read and compiled only once is there.
    dataset = base.clone(killing._name())
    started = time.monotonic()
    case.call(dataset)
    took = time.monotonic() - started
    dataset.delete()
    seen: list[Any] = []
    for number in range(kills):
        dataset = base.clone(killing._name())
        dataset_name = dataset.name
        del dataset
        end = die(dataset_name, case.call, 1.1 * took, rng)
        _count(tally, f"{name}, death {number}", end)
        where = f"{name}, death {number}"
        _look_and_repair(tally, dataset_name, case, states, where, end, seen)
    base.delete()
    pristine.delete()


def _count(tally: Tally, where: str, end: End) -> None:
    tally.tries += 1
    if end.how == "result":
        tally.results += 1
    elif end.how == "refused" or any(one in end.why for one in OUT_OF_MEMORY):
        tally.errors += 1
    elif end.how == "raised":
        tally.fault("tracebacks", f"{where}: {end.why}")
    elif end.how == "hung":
        tally.fault("hung", where)


def _look_and_repair(
    tally: Tally, name: str, case: Any, states: Any, where: str, end: End, seen: list
) -> None:
    """Counts what was lost, and repairs what was not left like that before."""
    import fiftyone as fo
    import killing

    outcome = killing.Outcome(name)
    try:
        now = killing._look(fo, name, case, states, outcome, where)
        if end.how == "result":  # what is told to be done is done
            faults = killing.differences(states.undisturbed, now)
            outcome.half_finished += [f"{where}, a result: {text}" for text in faults]
        if now not in seen:
            seen.append(now)
            killing._repair(fo, name, case, states, outcome, where)
    except Exception:
        outcome.not_completed.append(f"{where}: {traceback.format_exc(limit=-4)}")
    for text in outcome.faults:
        tally.fault("lost", f"{text} ({end.how} {end.why})")
    killing._afresh(fo, name).delete()


# The App's server


def _servers(chosen: dict[str, Any], kills: int, rng: np.random.Generator) -> Tally:
    """So many kills in all, over those cases that are the call of one operator."""
    import killing

    tally = Tally("kill -9 of the App's server during an operator")
    # In the App, patches are reviewed in a view of theirs alone.
    names = [
        name
        for name, case in chosen.items()
        if hasattr(case.call, "operator") and not ("review" in name and "patches" in name)
    ]
    for name, number in _shared(names, kills):
        case, seconds = chosen[name], 0.0
        pristine, base, states = killing.before_and_after(case)
        for death in range(number):
            where = f"{name} in the server, death {death}"
            server, dataset = Server(forked=True), base.clone(killing._name())
            try:
                seconds = seconds or _seconds(tally, server, base, case.call)
                call = threading.Thread(
                    target=_executed, args=(server, dataset, case.call), daemon=True
                )
                call.start()
                time.sleep(rng.random() * 1.1 * seconds)
            finally:
                server.kill()
            call.join(PATIENCE)
            end = End("hung" if call.is_alive() else "killed")
            _count(tally, where, end)
            _look_and_repair(tally, dataset.name, case, states, where, end, [])
        base.delete()
        pristine.delete()
    return tally


def _seconds(tally: Tally, server: Server, base: Any, call: Any) -> float:
    """How long an operator takes that nobody kills, once it has loaded what it needs."""
    import killing

    for _ in range(2):
        dataset = base.clone(killing._name())
        started = time.monotonic()
        told = _executed(server, dataset, call)
        seconds = time.monotonic() - started
        if "Traceback" in told or "HTTP Error" in told:
            tally.fault("tracebacks", f"{call.operator} in the server: {told[-1000:]}")
        dataset.delete()
    return seconds


def _executed(server: Server, dataset: Any, call: Any) -> str:
    # What is reviewed is what is selected there.
    selected = dataset.values("id") if call.operator.startswith("review") else []
    return server.execute(
        call.operator, dataset.name, call.parameters, quiet=True, selected=selected
    )


def _shared(names: list[str], kills: int) -> Iterator[tuple[str, int]]:
    """So many kills in all, shared out to cases."""
    for place, name in enumerate(names[:kills]):
        yield name, len(range(place, kills, len(names)))


# The disk

# What writes much on many samples.
LARGE = (
    *("find_label_issues", "reduce_embeddings", "compute_visualization", "find_duplicates"),
    *("find_outliers", "find_clusters", "select_samples", "suggest_labels", "audit"),
    *("compute_separability", "describe_embeddings", "compute_visualization index again"),
)


def _full_disks(chosen: dict[str, Any], kills: int, rng: np.random.Generator, home: Path) -> Tally:
    """So many full disks in all, over the cases in ``LARGE``."""
    import fiftyone as fo
    import killing

    tally = Tally("the disk full while the database writes")
    disk = home / "disk"
    disk.mkdir()
    usual = Database.current
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700m", "tmpfs", str(disk)], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"A small disk cannot be mounted here ({error})", file=sys.stderr)
        return tally
    try:
        usual.kill()  # the small disk takes its place, under the same address
        usual.folder, before = disk, usual.folder
        usual.options = ("--syncdelay", "1", "--wiredTigerCacheSizeGB", "0.25")
        usual.start()
        _reconnected()
        deaths = 0
        for name, number in _shared([name for name in LARGE if name in chosen], kills):
            case = _larger(chosen[name])
            pristine, base, states = killing.before_and_after(case)
            for _ in range(number):
                dataset = base.clone(killing._name())
                fo.core.odm.get_db_conn().client.admin.command("fsync")
                left = int(rng.uniform(0, 100_000))
                _fill(disk / "filler", left)
                where = f"{name}, {left:,} bytes left"
                child, read = _child(dataset.name, case.call, lambda: None)
                end, died = _on_a_full_disk(child, read, disk, usual)
                deaths += died
                _count(tally, where, end)
                _look_and_repair(tally, dataset.name, case, states, where, end, [])
            base.delete()
            pristine.delete()
    finally:
        usual.kill()
        subprocess.run(["umount", str(disk)], check=False)
    print(f"The database died of the full disk {deaths} times", flush=True)
    usual.folder, usual.options = before, ()
    usual.start()
    _reconnected()
    return tally


def _fill(path: Path, left: int) -> None:
    """Makes a file so large that its disk has only so many bytes left."""
    with open(path, "wb", buffering=0) as filler:
        with contextlib.suppress(OSError):  # the disk is full
            while True:
                filler.write(bytes(2**16))
        filler.truncate(max(0, filler.tell() - left))


def _on_a_full_disk(child: int, read: int, disk: Path, database: Database) -> tuple[End, bool]:
    """Lets a call run into the full disk, and makes room: how it ended, whether the database did.

    What is written reaches the disk within some seconds, perhaps after the call.
    """
    ended: list[End] = []
    waiting = threading.Thread(target=lambda: ended.append(_ended(child, read)))
    waiting.start()
    until = time.monotonic() + PATIENCE
    while (died := database.process.poll() is not None) is False and time.monotonic() < until:
        if not waiting.is_alive():
            until = min(until, time.monotonic() + 3)
        time.sleep(0.02)
    (disk / "filler").unlink()
    if died:
        database.start()
    waiting.join()
    _reconnected()
    return ended[0], died


def _larger(case: Any) -> Any:
    """A case on more samples, which are more to write."""
    from dataclasses import replace

    def data() -> Any:
        made = case.data()
        for _ in range(5):
            made.add_samples([one.copy() for one in made])
        return made

    return replace(case, data=data)
