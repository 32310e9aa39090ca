"""Writes slow.txt: the tests that `make check` leaves out, because they take too long.

    make test PYTEST_ADDOPTS=--durations=0 | python tests/list_slow.py

Of all variants of a test the mean counts, with what is set up for it.
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

# Seconds, on two cores of an AVX2 processor that three tests at a time share.
LONGEST = 0.4

# What stays although it is long, so that every operator runs at least once.
KEPT = {
    "tests/battery/test_battery_traces.py::test_what_is_left",
    "tests/test_delegated.py::test_progress_of_every_step_is_reported",
}

if __name__ == "__main__":
    seconds: dict[str, float] = defaultdict(float)
    for line in sys.stdin:
        if found := re.match(r"([0-9.]+)s (?:call|setup|teardown) +(tests/\S+::.+)", line):
            seconds[found[2]] += float(found[1])
    variants = defaultdict(list)
    for test, took in seconds.items():
        variants[test.partition("[")[0]].append(took)
    slow = {name for name, took in variants.items() if sum(took) / len(took) > LONGEST} - KEPT
    Path(__file__).with_name("slow.txt").write_text("\n".join(sorted(slow)) + "\n")
