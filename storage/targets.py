"""Settles what to work on: a dataset or view of whatever kind as a flat target."""

from typing import Any

import fiftyone as fo
import fiftyone.core.clips as foc
import fiftyone.core.patches as fop
import fiftyone.core.video as fovi
from pymongo.errors import OperationFailure

from ..errors import UserError
from .locks import guard
from .paths import is_patches, list_name, patches_fields
from .target import About, Target, image_slices


def resolve_target(samples: Any, patches_field: str | None = None, reload: bool = True) -> Target:
    """Settles what to work on.

    A grouped dataset stands for its active slice, a dynamically grouped view for all of its
    samples, and a patches view for the patches that it shows. A sample that a view holds twice
    counts once.

    Args:
        samples: a ``Dataset`` or ``DatasetView`` of images
        patches_field (None): the field of the patches to work on, instead of the samples
        reload (True): whether to read the fields of the dataset again, which waits while another
            thread changes them

    Returns:
        a ``Target``

    Raises:
        UserError: if there is nothing to work on, or not images, or no such patches
    """
    # Another process, the App's server say, may have changed fields and runs since.
    if reload:
        with guard:
            samples._root_dataset.reload()
    _check_kind(samples)
    chosen = None
    if isinstance(samples, fop.PatchesView):
        samples, patches_field, chosen = _shown_patches(samples, patches_field)

    view = samples.view()
    if view.media_type == fo.core.media.GROUP and view._is_dynamic_groups:
        view = view.flatten()
    # What was grouped may be groups itself.
    if view.media_type == fo.core.media.GROUP:
        view = _active_slice(view)
    if len(view) == 0:
        if not len(samples._root_dataset):
            raise UserError("This dataset has no samples yet; add some first")
        raise UserError("There are no samples in this view; choose another one")
    if view.media_type == fo.core.media.VIDEO:
        raise UserError(
            "These samples are videos; pass a view of their frames, for example "
            "dataset.to_frames(sample_frames=True)"
        )
    if view.media_type != fo.core.media.IMAGE:
        raise UserError(f"These samples are of type {view.media_type!r}; only images are supported")
    if patches_field is not None:
        patches_field = _checked_patches_field(view, patches_field)
    target = Target(view._root_dataset, view, patches_field, chosen)
    if any(isinstance(stage, fo.Mongo) for stage in view._all_stages):
        _check_readable(target)
    return target


def _check_readable(target: Target) -> None:
    """Refuses a view whose own stages make something else of the samples.

    Raises:
        UserError: with what the database says
    """
    try:
        target.ids()
        others = set(target.view.values("id")) - set(target.all_samples.values("id"))
    except OperationFailure as error:
        why = f"{error.args[0]:.120}…"
    else:
        if not others:
            return
        why = f"{len(others):,} of its samples are not in the dataset"
    raise UserError(
        f"The stages of this view transform the samples ({why}); "
        "pass a view without mongo() stages, or one that only matches and sorts"
    )


def _check_kind(samples: Any) -> None:
    """Refuses views that stand for something else than samples, with the way out."""
    if isinstance(samples, fop.EvaluationPatchesView):
        names = [name for name in patches_fields(samples._source_collection)]
        raise UserError(
            "Evaluation patches show two fields at once; pass dataset.to_patches(field), or the "
            f"dataset with patches_field=, with one of {', '.join(names)}"
        )
    if isinstance(samples, foc.TrajectoriesView):
        raise UserError(
            "Trajectories are objects in videos; pass a view of the frames, for example "
            "dataset.to_frames(sample_frames=True), with patches_field= for their objects"
        )
    if isinstance(samples, foc.ClipsView):
        raise UserError(
            "Clips are parts of videos; pass a view of their frames: clips.to_frames("
            "sample_frames=True)"
        )
    if samples._is_generated and not isinstance(samples, (fop.PatchesView, fovi.FramesView)):
        raise UserError(
            f"A view of type {type(samples).__name__} is not supported; pass the dataset, with "
            "patches_field= for its patches"
        )


def _shown_patches(
    view: Any, patches_field: str | None
) -> tuple[Any, str, frozenset[tuple[str, str]]]:
    """The samples, the field and the (sample, label) ids that a patches view shows."""
    field = view.patches_field
    if patches_field is not None and list_name(view, patches_field) != field:
        raise UserError(
            f"patches_field={patches_field!r}, but the view shows the patches of {field!r}"
        )
    source = view._source_collection
    sample_id = "frame_id" if isinstance(source, fovi.FramesView) else "sample_id"
    chosen = frozenset(zip(*view.values([sample_id, f"{field}.id"])))
    return source.select(sorted({sample for sample, _ in chosen})), field, chosen


def _checked_patches_field(view: Any, patches_field: str) -> str:
    """The name of a field with patches, however it was given."""
    name = list_name(view, patches_field)
    available = ", ".join(patches_fields(view)) or "none"
    field = view.get_field(name)
    if field is None:
        raise UserError(
            f"patches_field={patches_field!r}: there is no such field; "
            f"fields with patches: {available}"
        )
    if not is_patches(field):
        raise UserError(
            f"patches_field={patches_field!r} holds no Detections or Polylines; fields with "
            f"patches: {available}"
        )
    return name


def _active_slice(view: Any) -> Any:
    name = view.group_slice
    media_type = view.group_media_types.get(name)
    if media_type != "image":
        images = ", ".join(image_slices(view)) or "this dataset has none"
        raise UserError(
            f"The active group slice {name!r} is of type {media_type!r}; choose a slice of images "
            f"({images}) as dataset.group_slice, or pass dataset.select_group_slices(...)"
        )
    return view.select_group_slices(name)


def about_of(dataset: fo.Dataset, about: About) -> Target:
    """All of what a run is about, in the dataset as its holder has loaded it.

    Raises:
        UserError: if there is nothing of it, or it cannot be looked at
    """
    samples: Any = dataset
    if about.frames:
        samples = dataset.to_frames()
    elif dataset.media_type == fo.core.media.GROUP and (names := image_slices(dataset)):
        samples = dataset.select_group_slices(names)  # whichever slice is active
    return resolve_target(samples, about.patches_field, reload=False).everything
