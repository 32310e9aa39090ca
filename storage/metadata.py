"""What is known of samples beside their labels: splits, and the slices of a metadata field."""

from collections.abc import Iterable, Sequence
from typing import Any

import fiftyone as fo

from ..errors import UserError
from .labels import SCALARS, LabelField, label_field_of, label_fields
from .paths import document_type
from .target import Target

# Values of a field by which a set is sliced.
MAX_SLICES = 50

# Tags that name splits. A sample with several belongs to the first.
SPLIT_TAGS = ("test", "testing", "val", "valid", "validation", "train", "training")


# Values that a field of splits may have, in small letters, and how many are looked at first.
SPLIT_NAMES, FIRST = {*SPLIT_TAGS, "dev", "eval", "holdout"}, 100


def read_slices(
    target: Target,
    field: str,
    ids: Sequence[str],
    sample_ids: Sequence[str],
    most: int = MAX_SLICES,
    parameter: str = "by",
) -> list[str | None]:
    """The value of a metadata field of samples, or of an attribute of patches, as text.

    Args:
        target: the samples or patches
        field: a field of strings, booleans, integers, Classifications or lists of them (whose
            values together are one), ``"tags"`` (those that name splits), or such an attribute of
            the patches
        ids: the samples or patches
        sample_ids: the sample of each
        most (50): different values
        parameter ("by"): the parameter that named the field, for messages

    Raises:
        UserError: if there is no such field, or it has one value only, or too many
    """
    if field == "tags":
        texts = read_splits(target, field, sample_ids, parameter)
        return _few(field, texts, target, most, parameter)
    attribute = field.removeprefix(target.root)
    if target.patches_field is not None and target.has_field(attribute):
        found = target.all_samples.get_field(target.path(attribute))
        if document_type(found) is fo.Classification:
            attribute += ".label"
        elif not isinstance(found, SCALARS):
            raise UserError(
                f"{parameter}={field!r} is of type {type(found).__name__}; choose a field of "
                "strings, booleans, integers or Classifications"
            )
        values = target.values(attribute)
        texts = [None if (value := values[id_][0]) is None else str(value) for id_ in ids]
        return _few(field, texts, target, most, parameter)
    samples = target.of_samples
    described = label_field_of(samples, field, parameter)
    return _few(field, _texts(samples, described, sample_ids), target, most, parameter)


def _texts(samples: Target, field: LabelField, sample_ids: Sequence[str]) -> list[str | None]:
    """The value of each sample as text; several values together are one."""
    if field.several:
        values = _several(samples, field)
        return [", ".join(sorted(values[id_])) or None for id_ in sample_ids]
    found = samples.values(field.path)
    return [field.text(found[id_][0]) if id_ in found else None for id_ in sample_ids]


def _several(samples: Target, field: LabelField) -> dict[str, list[str]]:
    """The values of samples that have any number of them."""
    path = f"{field.name}.classifications.label" if field.kind == "labels" else field.path
    found: dict[str, Any] = dict(zip(*samples.showing(path).values(["id", path])))
    return {id_: [value for value in values or () if value] for id_, values in found.items()}


def _few(
    field: str, texts: list[str | None], target: Target, most: int, parameter: str
) -> list[str | None]:
    number = len(set(texts) - {None})
    if not 2 <= number <= most:
        raise UserError(
            f"{parameter}={field!r} has {number:,} different values for these {target.noun}; "
            f"choose a field with 2 to {most:,}"
        )
    return texts


def names_splits(target: Target, field: str) -> bool:
    """Whether all values of a field of the samples are names of splits: train, test, …"""
    path = label_field_of(target.of_samples, field).path
    if label_field_of(target.of_samples, field).several:
        return False
    samples = target.all_samples
    # A field of many different values, of names say, need not be read to its end.
    first = {value for value in samples.limit(FIRST).values(path) if value is not None}
    if not first or not _are_splits(first):
        return False
    return _are_splits(samples.distinct(path))


def _are_splits(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) and value.lower() in SPLIT_NAMES for value in values)


def split_fields(target: Target) -> list[str]:
    """What may name a split of the samples: ``tags``, and fields that hold no classes.

    A Classification is offered only if its values are names of splits.
    """
    samples = target.of_samples
    schema = target.all_samples.get_field_schema()
    fields = [
        name
        for name in label_fields(samples)
        if document_type(schema[name]) is not fo.Classification or names_splits(target, name)
    ]
    return ["tags", *fields]


def default_split(target: Target) -> str | None:
    """What names train, test, … of the samples: ``"tags"`` or a field; None if nothing does."""
    if {tag for tag in target.all_samples.distinct("tags") if tag in SPLIT_TAGS}:
        return "tags"
    names = label_fields(target.of_samples)
    return next((name for name in names if names_splits(target, name)), None)


def read_splits(
    target: Target, split: str | list[str], sample_ids: Sequence[str], parameter: str = "split"
) -> list[str | None]:
    """The split (train, test, …) of each sample.

    Args:
        target: the samples or patches
        split: a Classification, string, integer, boolean or list field of the samples (of several
            values, the first that names a split, or the first); ``"tags"`` for tags that are named
            like splits; or a list of tags
        sample_ids: the samples whose splits are wanted
        parameter ("split"): the parameter that named it, for messages

    Returns:
        a name, or None, for each sample id

    Raises:
        UserError: if there is no such field, it holds something else, or no sample has a split
    """
    if not isinstance(split, str) and not (split and all(isinstance(tag, str) for tag in split)):
        raise UserError(f"split={split!r} must be the name of a field or a list of tags")
    samples = target.of_samples
    if split == "tags" or not isinstance(split, str):
        wanted = SPLIT_TAGS if split == "tags" else tuple(split)
        tags = samples.values("tags")
        names = {id_: _first(wanted, found) for id_, (found,) in tags.items()}
        what = (
            f"no sample has one of the tags {', '.join(wanted)}; pass a field that holds the "
            "split, or a list of your tags"
        )
    else:
        names = _splits_of(samples, split)
        what = "the field is empty for these samples; choose another one, or omit split"
    splits = [names.get(id_) for id_ in sample_ids]
    if not any(name is not None for name in splits):
        raise UserError(f"{parameter}={split!r}: {what}")
    return splits


def _splits_of(samples: Target, split: str) -> dict[str, str | None]:
    field = label_field_of(samples, split, "split")
    if not field.several:
        return {id_: field.text(value) for id_, (value,) in samples.values(field.path).items()}
    return {
        id_: _first(SPLIT_TAGS, values) or next(iter(values), None)
        for id_, values in _several(samples, field).items()
    }


def _first(wanted: Sequence[str], among: Sequence[str] | None) -> str | None:
    return next((name for name in wanted if name in (among or ())), None)
