"""The examples in docstrings run, and give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

PACKAGE, ROOT = "fiftyone_embedding_quality", Path(__file__).parents[1]
WITH_EXAMPLES = sorted(
    ".".join((PACKAGE, *path.relative_to(ROOT).with_suffix("").parts))
    for path in [*ROOT.glob("*.py"), *ROOT.glob("[a-z]*/*.py")]
    if path.parent.name not in ("tests", "benchmarks") and ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_give_what_they_say(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0 and result.failed == 0
