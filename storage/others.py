"""A second dataset, or a saved view, that a dataset is compared with."""

from typing import Any

import fiftyone as fo

from ..errors import UserError
from .runs import model_of
from .target import Target
from .targets import resolve_target
from .vectors import VectorSet, embeddings_field, read_vectors


def resolve_other(target: Target, other: str) -> Target:
    """What a dataset is compared with.

    Args:
        target: the samples or patches that are compared
        other: the name of a saved view of the dataset, or of another dataset

    Raises:
        UserError: if there is neither
    """
    dataset = target.dataset
    samples: Any
    if dataset.has_saved_view(other):
        samples = dataset.load_saved_view(other)
    elif other != dataset.name and fo.dataset_exists(other):
        samples = fo.load_dataset(other)
    else:
        views = ", ".join(dataset.list_saved_views()) or "none"
        raise UserError(
            f"other={other!r} is not another dataset or a saved view of this one; saved "
            f"views: {views}; fo.list_datasets() lists the datasets"
        )
    if target.is_frames and not samples._is_frames:
        samples = samples.to_frames()
    return resolve_target(samples, target.patches_field)


def apart(target: Target, other: Target) -> tuple[Target, Target]:
    """Two targets without what is in both: taken from the one that holds all of the other.

    Raises:
        UserError: if nothing is left
    """
    if other.dataset.name != target.dataset.name:
        return target, other
    mine, theirs = set(target.ids()), set(other.ids())
    if theirs < mine:
        return target.only(sorted(mine - theirs)), other
    if rest := theirs - mine:
        return target, other.only(sorted(rest))
    raise UserError(f"Both hold the same {target.noun}; compare with another view or dataset")


def read_other(target: Target, found: Target, other: str, embeddings: str) -> VectorSet:
    """The embeddings of what a dataset is compared with.

    Args:
        target: what is compared
        found: what it is compared with, of ``apart``
        other: its name, for messages
        embeddings: the field, of both

    Raises:
        UserError: if there is no such field, or its embeddings are of another model
    """
    name = embeddings_field(found, embeddings)
    models = model_of(target, embeddings), model_of(found, name)
    if None not in models and models[0] != models[1]:
        raise UserError(
            f"other={other!r}: its embeddings {embeddings!r} are of {models[1]}, and those here "
            f"are of {models[0]}; compute both with the same model"
        )
    return read_vectors(found, name)
