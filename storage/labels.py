"""The labels of a target, one for each sample or object."""

from collections.abc import Sequence

import fiftyone as fo

from ..errors import UserError
from .targets import Target


def label_fields(target: Target) -> list[str]:
    """The fields of a target that hold one label each; of objects, the patches field itself."""
    if target.patches_field is not None:
        return [target.patches_field]
    schema = target.view.get_field_schema()
    return [name for name, field in schema.items() if _value_path(name, field) is not None]


def read_labels(target: Target, label_field: str, ids: Sequence[str]) -> list[str | None]:
    """The labels of samples or objects.

    Args:
        target: the samples or objects
        label_field: a Classification or string field; of objects, the patches field
        ids: the ids whose labels are wanted

    Returns:
        a label, or None, for each id

    Raises:
        UserError: if there is no such field, or it holds something else, or no labels at all
    """
    if target.patches_field is not None:
        if label_field != target.patches_field:
            raise UserError(
                f"label_field={label_field!r}: objects bring their labels themselves; "
                f"use label_field={target.patches_field!r}"
            )
        id_path, path = target.path("id"), target.path("label")
    else:
        field = target.view.get_field(label_field)
        available = ", ".join(label_fields(target)) or "none"
        if field is None:
            raise UserError(
                f"label_field={label_field!r}: there is no such field; fields with labels: "
                f"{available}"
            )
        id_path, path = "id", _value_path(label_field, field)
        if path is None:
            raise UserError(
                f"label_field={label_field!r} holds no Classification or string per sample; "
                f"fields with labels: {available}"
            )
    values = dict(zip(*target.view.values([id_path, path], unwind=True)))
    labels = [values.get(id_) for id_ in ids]
    if not any(label is not None for label in labels):
        raise UserError(f"label_field={label_field!r} holds no labels for these {target.things}")
    return labels


def _value_path(name: str, field: fo.Field) -> str | None:
    if isinstance(field, fo.StringField) and name != "filepath":
        return name
    if getattr(field, "document_type", None) is fo.Classification:
        return f"{name}.label"
    return None
