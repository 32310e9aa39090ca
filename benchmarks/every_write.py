"""Kills every operator at each of its writes, in all variants, and prints what became of it.

    python benchmarks/every_write.py [part of a case's name ...]

One row for each case: how many writes it does, how many calls were killed, how many of those left
something else than the one before, and in how many places something of the user's was lost,
something half-finished was shown as finished, could not be listed, was not completed by the same
call, or was left after everything was deleted; the places are listed below.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

COUNTS = ("writes", "kills", "repaired")
FAULTS = ("lost", "half_finished", "unreadable", "not_completed", "left")


def main(parts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as home:
        plugins = Path(home) / "plugins" / "@embedding"
        plugins.mkdir(parents=True)
        (plugins / "quality").symlink_to(ROOT, target_is_directory=True)
        os.environ |= {
            "FIFTYONE_DATABASE_DIR": f"{home}/database",
            "FIFTYONE_PLUGINS_DIR": f"{home}/plugins",
            "FIFTYONE_DO_NOT_TRACK": "true",
            "FIFTYONE_SHOW_PROGRESS_BARS": "false",
        }
        from killing import Killing
        from killing_cases import CASES

        killing = Killing()
        chosen = [name for name in CASES if not parts or any(part in name for part in parts)]
        print("| case | " + " | ".join((*COUNTS, *FAULTS)) + " | seconds |")
        print("| --- " * (len(COUNTS) + len(FAULTS) + 2) + "|")
        faults = []
        for name in chosen:
            outcome = killing.run(name)
            counts = [getattr(outcome, count) for count in COUNTS]
            counts += [len(getattr(outcome, fault)) for fault in FAULTS]
            print(f"| {name} | {' | '.join(map(str, counts))} | {outcome.seconds} |", flush=True)
            faults += [f"{name}: {fault}" for fault in outcome.faults]
        killing.stop()
        print(*faults, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
