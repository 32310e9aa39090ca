"""Operators that are killed at each of their writes: nothing is lost, and the same call ends well.

Half a minute each; all variants of all operators are in ``benchmarks/every_write.py``.
"""

import pytest
from killing import Killing

# The cheapest cases that meet each way of writing.
CASES = ("delete_run visualization", "compute_embeddings patches", "review accept patches")


@pytest.fixture(scope="module")
def killing():
    process = Killing()
    yield process
    process.stop()


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_killed_at_every_write(killing, case):
    outcome = killing.run(case)
    assert not outcome.faults, "\n".join(outcome.faults)
    # The counted writes differ by indexes that only the first call of a database makes.
    assert outcome.kills >= 10 and outcome.writes - outcome.kills <= 2
    assert outcome.repaired >= 5
