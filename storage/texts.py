"""Texts of samples or patches, captions say."""

import fiftyone as fo
from fiftyone.core.fields import ListField, StringField

from ..errors import UserError
from .target import Target


def text_fields(target: Target) -> list[str]:
    """The fields of samples or patches that may hold texts, without FiftyOne's own."""
    own = {"id", "filepath", "tags", "sample_id", "label", "mask_path", "map_path"}
    if target.patches_field is None:
        schema = target.dataset.get_field_schema(ftype=StringField)
        return [name for name in schema if name not in own and not name.endswith("_error")]
    prefix = target.path("")
    names = target.dataset.get_field_schema(ftype=StringField, flat=True)
    inside = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    return [name for name in inside if "." not in name and name not in own]


def read_texts(target: Target, text_field: str) -> dict[str, str | None]:
    """The texts of a field, by id; several are joined into one.

    Args:
        target: the samples or patches
        text_field: a field of strings or lists of strings, of samples or attributes of patches

    Raises:
        UserError: if there is no such field, or it holds no texts
    """
    name = text_field.removeprefix(target.root) if target.root else text_field
    if not target.has_field(name):
        raise UserError(f"text_field={text_field!r}: there is no such field of these {target.noun}")
    field = target.all_samples.get_field(target.path(name))
    inner = field.field if isinstance(field, ListField) else field
    if not isinstance(inner, StringField) or isinstance(inner, fo.core.fields.ObjectIdField):
        raise UserError(
            f"text_field={text_field!r} is of type {type(field).__name__}; name a field of strings"
        )
    return {
        id_: ". ".join(value) if isinstance(value, list) else value
        for id_, (value,) in target.values(name).items()
    }
