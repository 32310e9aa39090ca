"""Paths of fields: what a name stands for, wherever FiftyOne keeps it."""

import os
import re
from typing import Any

import fiftyone as fo

from ..errors import UserError

# Folders that are no dataset's own: there, people and machines have theirs.
EVERYBODYS = re.compile(r"|/home|/Users|[A-Z]:|[A-Z]:[\\/]Users|\w+:", re.IGNORECASE)

PATCH_TYPES = (fo.Detection, fo.Detections, fo.Polyline, fo.Polylines)


def document_type(field: Any) -> type | None:
    """The class of a field of embedded documents, or None."""
    return getattr(field, "document_type", None)


def is_patches(field: Any) -> bool:
    return issubclass(document_type(field) or object, PATCH_TYPES)


def patches_fields(samples: Any) -> list[str]:
    """The fields of a dataset or view that hold patches."""
    schema = samples.get_field_schema(ftype=fo.EmbeddedDocumentField)
    return [name for name, field in schema.items() if is_patches(field)]


def list_name(samples: Any, path: str) -> str:
    """The label field that a path leads into: ``dogs`` for ``dogs.detections.label``.

    A path that leads into no label field stands for itself.
    """
    parts = path.split(".")
    for count in range(1, len(parts)):
        name = ".".join(parts[:count])
        if issubclass(document_type(samples.get_field(name)) or object, fo.Label):
            return name
    return path


def patches_root(view: Any, patches_field: str | None) -> str:
    """The path under which the fields of patches are found, as a prefix."""
    if patches_field is None:
        return ""
    field = view.get_field(patches_field)
    inner = getattr(document_type(field), "_LABEL_LIST_FIELD", None)
    return f"{patches_field}.{inner}." if inner else f"{patches_field}."


def frame_field(dataset: fo.Dataset, path: str) -> str | None:
    """The name within the frames of a video of a path of the dataset, or None.

    A dataset of images may have a field of its own that is called ``frames``.
    """
    if path.startswith("frames.") and dataset._has_frame_fields():
        return path.removeprefix("frames.")
    return None


def delete_field(dataset: fo.Dataset, path: str) -> None:
    """Deletes a field, if the dataset has it, although it was made read-only."""
    field = dataset.get_field(path)
    if field is None:
        return
    if field.read_only:
        field.read_only = False
        field.save()
    if (inner := frame_field(dataset, path)) is not None:
        dataset.delete_frame_field(inner)
    else:
        dataset.delete_sample_field(path)


def check_writable(dataset: fo.Dataset, parameter: str, path: str) -> None:
    """Refuses a field that the user has made read-only, it or what it lies in.

    Raises:
        UserError: that names the field and the way out
    """
    parts = path.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        field = dataset.get_field(name)
        if field is not None and field.read_only:
            raise UserError(
                f"{parameter}: the field {name!r} is read-only, so nothing is written; to allow "
                f"it: field = dataset.get_field({name!r}); field.read_only = False; field.save()"
            )


def common_folder(dataset: fo.Dataset) -> str | None:
    """The folder that all files share; None if only one in which different people have theirs."""
    # They have an index; what the first and the last begin with, all begin with.
    first, last = (
        dataset._sample_collection.find_one(sort=[("filepath", order)])["filepath"]
        for order in (1, -1)
    )
    shared = os.path.commonprefix([first, last])  # noqa: RUF071
    folder = shared[: max(map(shared.rfind, "/\\")) + 1].rstrip("/\\")
    return None if EVERYBODYS.fullmatch(folder) else folder
