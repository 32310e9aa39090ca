"""The labels of a target, wherever FiftyOne keeps them, as texts: one or several for each."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fiftyone as fo

from ..errors import UserError
from .ownership import owner_of
from .paths import document_type, is_patches, list_name
from .runs import plugin_runs
from .target import Target

# Fields that every sample has and that name no class.
NO_LABELS = {"id", "filepath", "sample_id", "frame_id", "_media_type", "tags"}

SCALARS = (fo.StringField, fo.BooleanField, fo.IntField)


@dataclass(frozen=True)
class LabelField:
    """Where labels are kept and how they become texts, and texts labels.

    Attributes:
        name: as runs name it: ``ground_truth``, ``meta.breed``; of patches, their field
        path: what is written: ``ground_truth.label``, or the field itself
        kind: ``label`` (an attribute of a label or patch), ``scalar``, ``labels``
            (Classifications) or ``texts`` (a list of strings)
        scalar: of scalars: ``str``, ``bool`` or ``int``
    """

    name: str
    path: str
    kind: str
    scalar: type = str

    @property
    def several(self) -> bool:
        """Whether a sample has any number of labels."""
        return self.kind in ("labels", "texts")

    def text(self, value: Any) -> str | None:
        """One stored label as a text; None for none. An empty text is no label."""
        return None if value is None or value == "" else str(value)

    def value(self, text: str) -> Any:
        """A text as it is stored.

        Raises:
            UserError: if the field cannot hold it
        """
        if self.scalar is bool:
            if text.lower() not in ("true", "false"):
                raise UserError(f"{self.name!r} holds booleans: {text!r} must be True or False")
            return text.lower() == "true"
        if self.scalar is int:
            try:
                return int(text)
            except ValueError:
                raise UserError(
                    f"{self.name!r} holds whole numbers, and {text!r} is not one"
                ) from None
        return text


# Which fields hold labels


def label_fields(target: Target, several: bool = False) -> list[str]:
    """The fields of a target that hold labels; of patches, the patches field itself.

    What the plugin wrote itself is skipped. Classifications come first, then texts and booleans,
    then numbers, which may count something.

    Args:
        target: the samples or patches
        several (False): those with several labels for each sample, instead of those with one
    """
    if target.patches_field is not None:
        return [] if several else [target.patches_field]
    own = _own_fields(target)
    found = []
    for name, field in target.view.get_field_schema().items():
        if target.dataset_path(name) in own or name in NO_LABELS:
            continue
        described = _described(name, field)
        if described is not None and described.several == several:
            order = {"label": 0, "labels": 0}.get(described.kind, 1 + (described.scalar is int))
            found.append((order, name))
    return [name for _, name in sorted(found, key=lambda entry: entry[0])]


def _own_fields(target: Target) -> set[str]:
    """The fields that the plugin wrote, whether their runs are still there or not."""
    written = {path for run in plugin_runs(target.dataset) for path in run.fields}
    paths = map(target.dataset_path, target.view.get_field_schema())
    return written | {path for path in paths if owner_of(target.dataset, path) is not None}


def label_field_of(target: Target, name: str, parameter: str = "label_field") -> LabelField:
    """What holds the labels that a user has named.

    Args:
        target: the samples or patches
        name: a field, or the path of its labels; of patches, their field
        parameter ("label_field"): the parameter that named it, for messages

    Raises:
        UserError: if it holds no labels of the target, with the way out
    """
    argument = f"{parameter}={name!r}"
    field_name = list_name(target.all_samples, name) if name else name
    if target.patches_field is not None:
        if field_name != target.patches_field:
            raise UserError(
                f"{argument}: patches have their own labels; use "
                f"{parameter}={target.patches_field!r}"
            )
        if name != field_name:
            field = target.all_samples.get_field(field_name)
            if not _leads_to_labels(field, name[len(field_name) :]):
                raise UserError(
                    f"{argument} does not name labels; the labels of these patches are "
                    f"{parameter}={field_name!r}"
                )
        return LabelField(target.patches_field, "label", "label")
    field = target.all_samples.get_field(field_name) if field_name.strip(".$") else None
    if (
        field is not None
        and name != field_name
        and not _leads_to_labels(field, name[len(field_name) :])
    ):
        raise UserError(
            f"{argument} does not name labels; the labels of this field are "
            f"{parameter}={field_name!r}"
        )
    if field is None:
        raise UserError(
            f"{argument}: there is no such field; fields with labels: {_available(target)}"
        )
    found = _described(field_name, field) if field_name not in NO_LABELS - {"tags"} else None
    if found is not None:
        return found
    if is_patches(field):
        raise UserError(
            f"{argument} holds the labels of patches; pass patches_field={field_name!r}, "
            f"{parameter}={field_name!r} to evaluate them, with embeddings= of the patches"
        )
    if document_type(field) in (fo.Segmentation, fo.Heatmap):
        raise UserError(
            f"{argument} holds segmentations, which are not supported; use labels of whole images "
            "or of patches"
        )
    what = {"by": "slice", "split": "split"}.get(parameter, "class")
    raise UserError(
        f"{argument} holds no {what} per sample (its type is {_type_name(field)}); fields with "
        f"labels: {_available(target)}"
    )


def _available(target: Target) -> str:
    return ", ".join([*label_fields(target), *label_fields(target, several=True)]) or "none"


def _leads_to_labels(field: Any, rest: str) -> bool:
    """Whether what follows the name of a field in a path leads to its labels."""
    inner = getattr(document_type(field), "_LABEL_LIST_FIELD", None)
    paths = [f".{inner}", f".{inner}.label"] if inner else [".label"]
    return rest in paths


def _type_name(field: Any) -> str:
    return (document_type(field) or type(field)).__name__


def _described(name: str, field: Any) -> LabelField | None:
    if document_type(field) is fo.Classification:
        return LabelField(name, f"{name}.label", "label")
    if document_type(field) is fo.Classifications:
        return LabelField(name, name, "labels")
    if isinstance(field, fo.ListField) and isinstance(field.field, fo.StringField):
        return LabelField(name, name, "texts")
    if isinstance(field, fo.FrameNumberField) or not isinstance(field, SCALARS):
        return None
    scalar = {fo.BooleanField: bool, fo.IntField: int}
    kind = next((python for one, python in scalar.items() if isinstance(field, one)), str)
    return LabelField(name, name, "scalar", kind)


# Reading


def read_labels(target: Target, label_field: str, ids: Sequence[str]) -> list[str | None]:
    """The labels of samples or patches, one each.

    Args:
        target: the samples or patches
        label_field: a Classification, string, integer or boolean field; of patches, their field
        ids: the ids whose labels are wanted

    Returns:
        a label, or None, for each id

    Raises:
        UserError: if there is no such field, or it holds something else, or no labels at all
    """
    field = label_field_of(target, label_field)
    if field.several:
        raise UserError(
            f"label_field={label_field!r} holds several labels per sample; only "
            "find_label_issues supports these"
        )
    values = target.values(field.path)
    labels = [field.text(values[id_][0]) if id_ in values else None for id_ in ids]
    return _some(target, label_field, labels)


def read_label_sets(
    target: Target, label_field: str, ids: Sequence[str]
) -> list[frozenset[str] | None]:
    """The labels of samples that have any number of them; None where the field is empty.

    Raises:
        UserError: if no sample has any
    """
    field = label_field_of(target, label_field)
    path = f"{field.path}.classifications.label" if field.kind == "labels" else field.path
    columns = target.showing(path).values(["id", path])
    sets = {
        id_: None if labels is None else frozenset(filter(None, labels))
        for id_, labels in zip(*columns)
    }
    return _some(target, label_field, [sets.get(id_) for id_ in ids])


def _some(target: Target, label_field: str, labels: list[Any]) -> list[Any]:
    if not any(labels):
        raise UserError(
            f"label_field={label_field!r} holds no labels for these {target.noun}; choose "
            "another field, or other samples"
        )
    return labels


def read_label_texts(target: Target, label_field: str, ids: Sequence[str]) -> list[str | None]:
    """The labels of samples or patches as one text each, also where there are several.

    What runs remember and compare: a label, or the JSON list of several; None for none.
    """
    if not label_field_of(target, label_field).several:
        return read_labels(target, label_field, ids)
    sets = read_label_sets(target, label_field, ids)
    return [None if labels is None else label_set_text(labels) for labels in sets]


def label_set_text(labels: Iterable[str]) -> str:
    """Several labels as one text, which is the same whatever their order: a JSON list."""
    return json.dumps(sorted(labels), ensure_ascii=False)


def labels_of_text(text: str) -> list[str]:
    """The labels that ``label_set_text`` made a text of."""
    return json.loads(text)


def shown_text(text: str | None) -> str | None:
    """A label text as people read it: several labels with commas between them.

    >>> shown_text('["dog", "wet"]'), shown_text("[1]"), shown_text("[dog")
    ('dog, wet', '[1]', '[dog')
    """
    if text is None or not text.startswith("["):
        return text
    try:
        labels = json.loads(text)
    except ValueError:
        return text
    # One label may look like a list of something else.
    several = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    return ", ".join(labels) if several else text


def split_labels(text: str, known: Iterable[str]) -> list[str]:
    """The labels that a person typed with commas between them.

    A label may have a comma itself: known ones are recognized, others stand in double quotes.

    >>> split_labels('New York, NY, fur', {"New York, NY", "fur"})
    ['New York, NY', 'fur']
    >>> split_labels('"Rome, GA",fur', set())
    ['Rome, GA', 'fur']
    """
    known = set(known)
    try:
        parts = next(csv.reader([text], skipinitialspace=True))
    except csv.Error as error:
        raise UserError(f"label={text!r} cannot be read ({error}); pass a list of labels") from None
    labels, start = [], 0
    while start < len(parts):
        stop = len(parts)
        while stop > start + 1 and ", ".join(map(str.strip, parts[start:stop])) not in known:
            stop -= 1
        labels.append(", ".join(map(str.strip, parts[start:stop])))
        start = stop
    return list(dict.fromkeys(filter(None, labels)))


def class_codes(labels: Sequence[str | None]) -> tuple[tuple[str, ...], list[int]]:
    """The names of the classes, in order, and the place of each label among them, -1 for none."""
    names = tuple(sorted({label for label in labels if label is not None}))
    places: Mapping[str, int] = {name: place for place, name in enumerate(names)}
    return names, [places[label] if label is not None else -1 for label in labels]
