"""Texts of samples or patches, captions say."""

import fiftyone as fo
from fiftyone.core.fields import ListField, StringField

from ..errors import UserError
from .ownership import mark_of
from .runs import REDUCING, Run, embeddings_run
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


def text_field_of(target: Target, embeddings: str | None) -> str | None:
    """The field of the texts whose embeddings a field holds; None if they are not of texts.

    Those that were reduced are of what they were reduced from.
    """
    if embeddings is None:
        return None
    if (run := computing_run(target, embeddings)) is not None:
        name = run.facts.parameters.get("text_field")
    else:
        # In the clone of a view there are no runs.
        name = mark_of(target.dataset, target.dataset_path(embeddings)).get("text_field")
    return text_name(target, name) if name is not None else None


def computing_run(target: Target, embeddings: str) -> Run | None:
    """The run that computed a field of embeddings, or those that it was reduced from."""
    if (run := embeddings_run(target, embeddings)) is not None:
        return run
    reduced = embeddings_run(target, embeddings, REDUCING)
    source = reduced.facts.parameters.get("embeddings") if reduced is not None else None
    return computing_run(target, source) if source not in (None, embeddings) else None


def text_name(target: Target, text_field: str) -> str:
    """The name of a field of texts on the target, also if its full path is given."""
    return text_field.removeprefix(target.root) if target.root else text_field


def read_texts(target: Target, text_field: str) -> dict[str, str | None]:
    """The texts of a field, by id; several are joined into one.

    Args:
        target: the samples or patches
        text_field: a field of strings or lists of strings, of samples or attributes of patches

    Raises:
        UserError: if there is no such field, or it holds no texts
    """
    name = text_name(target, text_field)
    if not target.has_field(name):
        raise UserError(f"text_field={text_field!r}: there is no such field on these {target.noun}")
    field = target.all_samples.get_field(target.path(name))
    inner = field.field if isinstance(field, ListField) else field
    if not isinstance(inner, StringField) or isinstance(inner, fo.core.fields.ObjectIdField):
        raise UserError(
            f"text_field={text_field!r} is of type {type(field).__name__}; choose a field of "
            "strings"
        )
    return {
        id_: ". ".join(value) if isinstance(value, list) else value
        for id_, (value,) in target.values(name).items()
    }
