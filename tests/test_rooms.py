"""The rooms keep to what they are for: who may open files, and who may know FiftyOne."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {room: sorted((ROOT / room).glob("*.py")) for room in ("analysis", "pictures")}


def imported(path):
    """The modules that a file imports anywhere, relative ones from the root of the plugin."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            folder = ["", path.parent.name, ""][node.level] if node.level < 3 else ""
            start = ".".join(filter(None, (folder, node.module)))
            yield from (f"{start}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", MODULES)
def test_neither_room_knows_fiftyone(room):
    assert len(MODULES[room]) > 3
    for path in MODULES[room]:
        names = {name.split(".")[0] for name in imported(path)}
        assert not names & {"fiftyone", "storage", "operators", "panels", "checks"}, path


def test_analysis_opens_no_file():
    """It takes from ``pictures`` what was read, not what reads."""
    readers = {"open", "load_image", "read_small_images", "exact_copies", "measure_files"}
    for path in MODULES["analysis"]:
        names = set(imported(path))
        assert not {"os", "io", "pathlib", "tempfile", "PIL"} & {n.split(".")[0] for n in names}
        assert not readers & {name.split(".")[-1] for name in names}, path
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if type(node) is ast.Call]
        called = {node.func.id for node in calls if isinstance(node.func, ast.Name)}
        assert not readers & called, path


def test_what_reads_files_needs_no_analysis():
    for path in MODULES["pictures"]:
        assert not any(name.startswith("analysis.") for name in imported(path)), path
