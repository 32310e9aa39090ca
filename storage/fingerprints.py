"""Fingerprints of what a check has read: what a run remembers, and what staleness compares."""

import hashlib
import os
from collections.abc import Iterable, Sequence

from .groups import DuplicateGroups
from .metadata import read_splits
from .predictions import prediction_texts
from .target import Target

# Names of the fingerprints of a run; those of fields are followed by the field.
EMBEDDINGS, LABELS, SPLITS, SLICES = "embeddings", "labels", "splits", "slices"
FILES, GROUPS, PREDICTIONS, OTHER = "files", "duplicates", "predictions", "other"
TEXTS, ORDER = "texts", "values"


def texts_fingerprint(ids: Sequence[str], texts: Iterable[str | None]) -> str:
    """A hash of texts, labels say, and of what they belong to."""
    joined = "\n".join(f"{id_} {text}" for id_, text in zip(ids, texts))
    return hashlib.blake2b(joined.encode(), digest_size=16).hexdigest()


def files_fingerprint(items: Iterable[tuple[str, str, Sequence[float] | None]]) -> str:
    """A hash of the sizes and times of files, and of the boxes in them.

    Where the files lie does not count: a dataset that has moved is the same.

    Args:
        items: the id, the file and the box, or None, of each sample or patch
    """
    digest = hashlib.blake2b(digest_size=16)
    states: dict[str, str] = {}
    for id_, filepath, box in items:
        if filepath not in states:
            states[filepath] = _state(filepath)
        digest.update(f"{id_} {states[filepath]} {box}\n".encode())
    return digest.hexdigest()


def _state(filepath: str) -> str:
    try:
        found = os.stat(filepath)
    except (OSError, ValueError):  # what is no path, as one with a zero byte
        return "missing"
    return f"{found.st_size} {int(found.st_mtime)}"


def splits_fingerprint(target: Target, split: str | list[str], ids: Sequence[str]) -> str:
    """A hash of the splits of samples or patches."""
    samples = [target.sample_ids[id_] for id_ in ids]
    return texts_fingerprint(ids, read_splits(target, split, samples))


def predictions_fingerprint(target: Target, predictions_field: str, ids: Sequence[str]) -> str:
    """A hash of the predictions of a user's model for samples, or for the images of patches."""
    texts = prediction_texts(target, predictions_field, ids)
    return texts_fingerprint(list(texts), texts.values())


def groups_fingerprint(groups: DuplicateGroups | None) -> str:
    """A hash of which samples or patches are duplicates of each other, ``none`` for none."""
    if groups is None or not (groups.numbers >= 0).any():
        return "none"
    return groups.fingerprint
