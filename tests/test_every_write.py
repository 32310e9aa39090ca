"""Operators that are killed at their writes: nothing is lost, and the same call ends well.

At every third one, ten seconds each; ``benchmarks/every_write.py`` kills all variants of all
operators at each.
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
def test_killed_at_every_third_write(killing, case):
    outcome = killing.run(case, only="2:1000:3")
    assert not outcome.faults, "\n".join(outcome.faults)
    # The counted writes differ by indexes that only the first call of a database makes.
    assert outcome.kills >= 3 and outcome.writes - 3 * outcome.kills <= 4
    assert outcome.repaired >= 2
