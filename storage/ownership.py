"""Marks on what the plugin writes, which travel with clones, merges, exports and imports.

A run says which fields and saved views are its own, but it stays behind when a view is cloned, two
datasets are merged, or FiftyOne's own ``delete_run`` is called. So each field carries the name of
its run in ``field.info``, each saved view in its description, each brain run in its configuration.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import fiftyone as fo

# The key in ``field.info``, and the attribute of the configuration of a brain run.
MARK = "embedding_quality"

# The method of a custom run, without the operator's name.
METHOD_PREFIX = "@embedding/quality/"


def mark(operator: str, run_key: str, path: str, **more: Any) -> dict[str, Any]:
    """What ``field.info`` says of the field of a run at a path."""
    return {MARK: {"operator": operator, "run": run_key, "path": path, **more}}


def mark_of(dataset: fo.Dataset, path: str) -> Mapping[str, Any]:
    """The plugin's mark on a field; empty if there is none.

    A field that the user has copied or renamed is the user's.
    """
    field = dataset.get_field(path)
    found = (getattr(field, "info", None) or {}).get(MARK)
    return found if isinstance(found, Mapping) and found.get("path") == path else {}


def owner_of(dataset: fo.Dataset, path: str) -> tuple[str, str] | None:
    """The operator and the key of the run that wrote a field, as its mark says."""
    found = mark_of(dataset, path)
    return (found["operator"], found["run"]) if {"operator", "run"} <= found.keys() else None


def marked_fields(dataset: fo.Dataset) -> Iterator[tuple[str, str, str]]:
    """The path, the operator and the run key of every field that carries a mark."""
    schemas = {"": dataset.get_field_schema(flat=True)}
    if dataset._has_frame_fields():
        schemas["frames."] = dataset.get_frame_field_schema(flat=True)
    for prefix, schema in schemas.items():
        for path in schema:
            if (owner := owner_of(dataset, prefix + path)) is not None:
                yield (prefix + path, *owner)


def view_description(text: str, operator: str, run_key: str) -> str:
    """The description of a saved view of a run, with its mark."""
    return f"{text} {_view_mark(operator, run_key)}".strip()


def owner_of_view(name: str, description: str | None) -> tuple[str, str] | None:
    """The operator and the key of the run that saved a view of that description."""
    _, _, mark_ = (description or "").rpartition("(@embedding/quality/")
    operator, separator, run_key = mark_.rstrip(")").partition(", run ")
    return (operator, run_key) if separator and name.startswith(f"{run_key}: ") else None


def marked_views(dataset: fo.Dataset) -> Iterator[tuple[str, str, str]]:
    """The name, the operator and the run key of every saved view that carries a mark."""
    for info in dataset.list_saved_views(info=True):
        if (owner := owner_of_view(info["name"], info["description"])) is not None:
            yield (info["name"], *owner)


def _view_mark(operator: str, run_key: str) -> str:
    return f"(@embedding/quality/{operator}, run {run_key})"
