"""The labels of a target, one for each sample or object, and the splits of its samples."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import fiftyone as fo
import numpy as np

from ..errors import UserError
from .runs import plugin_runs
from .targets import Target

# Values of a field by which a set is sliced.
MAX_SLICES = 50

# Tags that name splits. A sample with several belongs to the first.
SPLIT_TAGS = ("test", "testing", "val", "valid", "validation", "train", "training")


def label_fields(target: Target) -> list[str]:
    """The fields of a target that hold one label each; of objects, the patches field itself.

    Classifications come before strings, and what the plugin wrote itself is left out.
    """
    if target.patches_field is not None:
        return [target.patches_field]
    names = _value_fields(target)
    schema = target.view.get_field_schema()
    return sorted(names, key=lambda name: isinstance(schema[name], fo.StringField))


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
        if getattr(field, "document_type", None) in (fo.Segmentation, fo.Heatmap):
            raise UserError(
                f"label_field={label_field!r} holds segmentations, which are not supported: labels "
                "of whole images and of objects are"
            )
        if path is None:
            raise UserError(
                f"label_field={label_field!r} holds no Classification or string per sample; "
                f"fields with labels: {available}"
            )
    values = dict(zip(*target.view.values([id_path, path], unwind=True)))
    # An empty text is no label.
    labels = [values.get(id_) or None for id_ in ids]
    if not any(label is not None for label in labels):
        raise UserError(
            f"label_field={label_field!r} holds no labels for these {target.things}; choose "
            "another field, or other samples"
        )
    return labels


def value_path(target: Target, label_field: str) -> str | None:
    """The path of the label itself: ``ground_truth.label``, or the field if it holds strings."""
    return _value_path(label_field, target.view.get_field(label_field))


def _value_fields(target: Target) -> list[str]:
    """The fields of the samples with a text each that the user, not the plugin, wrote."""
    own = {path for run in plugin_runs(target.dataset) for path in run.fields}
    schema = target.view.get_field_schema()
    return [
        name
        for name, field in schema.items()
        if _value_path(name, field) is not None and target.dataset_path(name) not in own
    ]


def _value_path(name: str, field: fo.Field) -> str | None:
    if isinstance(field, fo.StringField) and name != "filepath":
        return name
    if getattr(field, "document_type", None) is fo.Classification:
        return f"{name}.label"
    return None


def labels_fingerprint(ids: Sequence[str], labels: Sequence[str | None]) -> str:
    """A hash of labels and of what they belong to."""
    text = "\n".join(f"{id_} {label}" for id_, label in zip(ids, labels))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def is_multilabel(target: Target, label_field: str) -> bool:
    """Whether a field holds several labels for each sample (Classifications)."""
    field = None if target.patches_field else target.view.get_field(label_field)
    return getattr(field, "document_type", None) is fo.Classifications


def multilabel_fields(target: Target) -> list[str]:
    """The fields of a target that hold several labels each."""
    if target.patches_field is not None:
        return []
    return [name for name in target.view.get_field_schema() if is_multilabel(target, name)]


def read_label_sets(
    target: Target, label_field: str, ids: Sequence[str]
) -> list[frozenset[str] | None]:
    """The labels of samples that have any number of them; None where the field is empty.

    Raises:
        UserError: if no sample has any
    """
    columns = target.view.values(["id", f"{label_field}.classifications.label"])
    sets = {
        id_: None if labels is None else frozenset(filter(None, labels))
        for id_, labels in zip(*columns)
    }
    found = [sets.get(id_) for id_ in ids]
    if not any(found):
        raise UserError(
            f"label_field={label_field!r} holds no labels for these {target.things}; choose "
            "another field, or other samples"
        )
    return found


def label_set_text(labels: frozenset[str]) -> str:
    """Several labels as one text, which is the same whatever their order: a JSON list."""
    return json.dumps(sorted(labels), ensure_ascii=False)


def read_predictions(
    target: Target, predictions_field: str, ids: Sequence[str], class_names: Sequence[str]
) -> np.ndarray:
    """The predictions of the user's own model as one row of numbers for each sample.

    Logits are taken as they are. Their order is that of ``dataset.classes[predictions_field]`` or
    ``dataset.default_classes``; without these, the labels of the predictions tell it, each being
    the class of its largest logit. Without logits, the confidence goes to the predicted class and
    what is left of it evenly to the others.

    Args:
        target: samples
        predictions_field: a Classification field
        ids: the samples, all of which need a prediction
        class_names: the classes of the columns

    Returns:
        ``(num_ids, num_classes)`` float64: logits, or probabilities

    Raises:
        UserError: if the field or its values are not usable, with the way out
    """
    name = f"predictions_field={predictions_field!r}"
    schema = target.view.get_field_schema(ftype=fo.EmbeddedDocumentField)
    fields = [name for name, field in schema.items() if field.document_type is fo.Classification]
    if predictions_field not in fields:
        raise UserError(
            f"{name}: there is no such Classification field; there are: "
            f"{', '.join(fields) or 'none'}"
        )
    paths = [f"{predictions_field}.{part}" for part in ("label", "confidence", "logits")]
    columns = dict((id_, rest) for id_, *rest in zip(*target.view.values(["id", *paths])))
    rows = [columns[id_] for id_ in ids]
    missing = sum(label is None for label, _, _ in rows)
    if missing:
        raise UserError(
            f"{name}: {missing:,} of {len(rows):,} samples have no prediction; pass a view of "
            "those that have one"
        )
    if all(logits is not None for _, _, logits in rows):
        return _logits(target.dataset, name, predictions_field, rows, class_names)
    if any(confidence is None for _, confidence, _ in rows):
        raise UserError(f"{name}: the predictions have neither logits nor confidences")
    places = {label: place for place, label in enumerate(class_names)}
    values = np.empty((len(rows), len(class_names)))
    for row, (label, confidence, _) in enumerate(rows):
        rest = (1 - confidence) / max(len(class_names) - 1, 1)
        values[row] = rest
        if label in places:
            values[row, places[label]] = confidence
        else:  # a class that nobody has labeled speaks against all of them
            values[row] = 1 / len(class_names)
    return values


def _logits(
    dataset: fo.Dataset,
    name: str,
    predictions_field: str,
    rows: Sequence[tuple[str, float, Any]],
    class_names: Sequence[str],
) -> np.ndarray:
    if len({len(logits) for _, _, logits in rows}) > 1:
        raise UserError(f"{name}: the logits are not all of one length")
    logits = np.array([np.asarray(logits, np.float64) for _, _, logits in rows])
    broken = int((~np.isfinite(logits).all(axis=1)).sum())
    if broken:
        raise UserError(
            f"{name}: the logits of {broken:,} of {len(rows):,} samples hold NaN or infinity; pass "
            "a view without these"
        )
    order = dataset.classes.get(predictions_field) or dataset.default_classes
    if not order:
        told = dict(zip(logits.argmax(axis=1).tolist(), (label for label, _, _ in rows)))
        order = [told.get(place) for place in range(logits.shape[1])]
    places = {label: place for place, label in enumerate(order)}
    unknown = [label for label in class_names if label not in places]
    if unknown or len(order) != logits.shape[1]:
        raise UserError(
            f"{name}: which logit belongs to which class is not known (for example to "
            f"{', '.join(map(repr, unknown[:3])) or 'any'}); set "
            f"dataset.classes[{predictions_field!r}] to the list of the {logits.shape[1]} classes "
            "in the order of the logits"
        )
    return logits[:, [places[label] for label in class_names]]


def read_slices(
    target: Target, field: str, ids: Sequence[str], sample_ids: Sequence[str]
) -> list[str | None]:
    """The value of a metadata field of samples, or of an attribute of objects, as text.

    Args:
        target: the samples or objects
        field: a string, boolean, integer or Classification field, ``"tags"`` (those that name
            splits), or such an attribute of the objects
        ids: the samples or objects
        sample_ids: the sample of each

    Raises:
        UserError: if there is no such field, or it has one value only, or too many
    """
    if field == "tags":
        return _few(field, read_splits(target, field, sample_ids), target)
    view, of_object = target.view, False
    found = view.get_field(field)
    if target.patches_field is not None and view.get_field(target.path(field)) is not None:
        found, of_object = view.get_field(target.path(field)), True
    if found is None:
        raise UserError(
            f"by={field!r}: there is no such field on the {target.things}; name a field of "
            "strings, booleans, integers or Classifications"
        )
    path = target.path(field) if of_object else field
    if isinstance(found, fo.EmbeddedDocumentField) and found.document_type is fo.Classification:
        path += ".label"
    elif not isinstance(found, (fo.StringField, fo.BooleanField, fo.IntField)):
        raise UserError(
            f"by={field!r} is of type {type(found).__name__}; name a field of strings, booleans, "
            "integers or Classifications"
        )
    id_path, wanted = (target.path("id"), ids) if of_object else ("id", sample_ids)
    values = dict(zip(*view.values([id_path, path], unwind=True)))
    texts = [None if (value := values.get(id_)) is None else str(value) for id_ in wanted]
    return _few(field, texts, target)


def _few(field: str, texts: list[str | None], target: Target) -> list[str | None]:
    number = len(set(texts) - {None})
    if not 2 <= number <= MAX_SLICES:
        raise UserError(
            f"by={field!r} has {number:,} different values on these {target.things}; name a field "
            f"with 2 to {MAX_SLICES}"
        )
    return texts


def split_fields(target: Target) -> list[str]:
    """The fields of the samples that may name a split: strings, Classifications and ``tags``."""
    return ["tags", *_value_fields(target)]


def read_splits(
    target: Target, split: str | list[str], sample_ids: Sequence[str]
) -> list[str | None]:
    """The split (train, test, …) of each sample.

    Args:
        target: the samples or objects
        split: a Classification or string field of the samples; ``"tags"`` for tags that are named
            like splits; or a list of tags
        sample_ids: the samples whose splits are wanted

    Returns:
        a name, or None, for each sample id

    Raises:
        UserError: if there is no such field, it holds something else, or no sample has a split
    """
    view = target.view
    if not isinstance(split, str) and not (split and all(isinstance(tag, str) for tag in split)):
        raise UserError(f"split={split!r} must be the name of a field, or a list of tags")
    if split == "tags" or not isinstance(split, str):
        wanted = SPLIT_TAGS if split == "tags" else tuple(split)
        tags = dict(zip(*view.values(["id", "tags"])))
        found = {id_: [tag for tag in wanted if tag in (tags[id_] or ())] for id_ in tags}
        names = {id_: matching[0] if matching else None for id_, matching in found.items()}
        what = (
            f"no sample has one of the tags {', '.join(wanted)}; name a field that holds the "
            "split, or pass a list of your tags"
        )
    else:
        field = view.get_field(split)
        path = _value_path(split, field) if field is not None else None
        if path is None:
            problem = "there is no such field" if field is None else "it holds no names of splits"
            raise UserError(
                f"split={split!r}: {problem}; name a string or Classification field of the "
                'samples, "tags", or a list of tags'
            )
        names = dict(zip(*view.values(["id", path])))
        what = "the field is empty on these samples; name another one, or leave split out"
    splits = [names.get(id_) for id_ in sample_ids]
    if not any(name is not None for name in splits):
        raise UserError(f"split={split!r}: {what}")
    return splits
