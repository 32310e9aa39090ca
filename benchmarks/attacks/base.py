"""What all attacks share: a database of their own, the table, and a deadline for each call."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TESTS = (ROOT / "tests", ROOT / "tests" / "battery")

COLUMNS = ("tries", "results", "errors", "tracebacks", "lost", "hung")


@dataclass
class Tally:
    """What came of one attack.

    Attributes:
        attack: what was done
        tries: how often
        results: how often there was a result
        errors: how often it was refused or reported in plain words
        tracebacks: how often the interface was a traceback
        lost: how often something of the user's, or of a neighbor's, was lost, or something
            half-finished was shown as finished
        hung: how often a call did not end in time
        faults: the last three in words
    """

    attack: str
    tries: int = 0
    results: int = 0
    errors: int = 0
    tracebacks: int = 0
    lost: int = 0
    hung: int = 0
    faults: list[str] = field(default_factory=list)

    def fault(self, kind: str, text: str) -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        self.faults.append(f"{self.attack}, {kind}: {text}")
        print(self.faults[-1], file=sys.stderr, flush=True)


def print_table(tallies: Iterable[Tally]) -> list[Tally]:
    """Prints a row for each attack as soon as it is over, and then the faults."""
    print("| attack | " + " | ".join(COLUMNS) + " | seconds |")
    print("| --- " * (len(COLUMNS) + 2) + "|", flush=True)
    done, started = [], time.monotonic()
    for one in tallies:
        counts = " | ".join(f"{getattr(one, column):,}" for column in COLUMNS)
        print(f"| {one.attack} | {counts} | {time.monotonic() - started:.0f} |", flush=True)
        done.append(one)
        started = time.monotonic()
    print(*(text for one in done for text in one.faults), sep="\n", flush=True)
    return done


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Database:
    """A database server that can be killed and started again on what it has stored."""

    current: Database

    def __init__(self, folder: Path) -> None:
        self.folder, self.options, self.port = folder, (), free_port()
        self.start()
        Database.current = self

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}"

    def start(self) -> None:
        import importlib.util

        package = importlib.util.find_spec("fiftyone").submodule_search_locations[0]
        program = next((Path(package) / "db" / "bin").glob("mongod*"))
        options = ["--dbpath", str(self.folder), "--port", str(self.port), "--quiet"]
        self.process = subprocess.Popen(
            [str(program), *options, *self.options, "--bind_ip", "127.0.0.1"],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the database in {self.folder} does not start")
            time.sleep(0.05)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def surroundings() -> Iterator[Path]:
    """A folder, a database and a plugins folder of the campaign's own, before FiftyOne is read."""
    sys.path[:0] = [str(path) for path in TESTS]
    with tempfile.TemporaryDirectory(prefix="campaign-") as home:
        folder = Path(home)
        folder.chmod(0o755)
        plugins = folder / "plugins" / "@embedding"
        plugins.mkdir(parents=True)
        (plugins / "quality").symlink_to(ROOT, target_is_directory=True)
        os.environ |= {
            "FIFTYONE_PLUGINS_DIR": f"{home}/plugins",
            "FIFTYONE_DEFAULT_DATASET_DIR": f"{home}/datasets",
            "FIFTYONE_DO_NOT_TRACK": "true",
            "FIFTYONE_SHOW_PROGRESS_BARS": "false",
        }
        (folder / "database").mkdir()
        database = Database(folder / "database")
        os.environ["FIFTYONE_DATABASE_URI"] = database.uri
        try:
            yield folder
        finally:
            database.kill()


def within(seconds: float, work: Callable[[], Any]) -> tuple[bool, Any]:
    """Does something in a thread: whether it ended in time, and what it returned.

    Raises:
        Exception: what the work has raised
    """
    ended: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        try:
            ended.append((work(), None))
        except BaseException as error:
            ended.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not ended:
        return False, where(thread)
    result, error = ended[0]
    if error is not None:
        raise error
    return True, result


def where(thread: threading.Thread) -> str:
    """What a thread does at this moment."""
    frame = sys._current_frames().get(thread.ident)
    return " < ".join(line.strip() for line in traceback.format_stack(frame)[-1:-4:-1])


def ask(tally: Tally, name: str, samples: Any, seconds: float = 120, **parameters: Any) -> Any:
    """Calls an operator under a deadline, counts what came of it, and returns its answer."""
    from battery import call

    tally.tries += 1
    about = f"{name}({', '.join(f'{key}={str(one)[:60]!r}' for key, one in parameters.items())})"
    done, answer = within(seconds, lambda: call(name, samples, **parameters))
    if not done:
        tally.fault("hung", f"{about} at {answer}")
        return None
    if answer.fault is not None:
        tally.fault("tracebacks", f"{about}: {' / '.join(answer.fault.splitlines()[-5:])}")
    elif answer.refusal is not None:
        tally.errors += 1
    else:
        tally.results += 1
    return answer
