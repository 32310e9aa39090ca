"""What an operator works on: the samples of a view, or the objects on them.

Everything that differs between plain datasets, grouped datasets, frames views, patches views and
objects is settled here once, so that the rest reads ids and files and writes values by id.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import fiftyone as fo
import fiftyone.core.patches as fop
import fiftyone.core.video as fovi
from fiftyone import ViewField as F

from ..errors import UserError
from .locks import guard

# Objects of one picture that are read, and so decoded, together.
MAX_OBJECTS_PER_READ = 16

PATCH_TYPES = (fo.Detection, fo.Detections, fo.Polyline, fo.Polylines)


@dataclass(frozen=True)
class Item:
    """One sample, or some objects on one sample.

    Attributes:
        sample_id: the sample
        filepath: its picture
        ids: the sample's id, or the ids of the objects
        boxes: None, or the relative ``(x, y, width, height)`` of each object; an object without
            a usable geometry has an empty one
    """

    sample_id: str
    filepath: str
    ids: tuple[str, ...]
    boxes: tuple[tuple[float, ...], ...] | None


@dataclass(frozen=True)
class Target:
    """The samples, or the objects of ``patches_field``, of a flat view of pictures.

    Attributes:
        dataset: the dataset that holds runs and fields
        view: the samples, without groups
        patches_field: the field of the objects, or None
        object_ids: the objects that a patches view is made of, or None for all
    """

    dataset: fo.Dataset
    view: Any
    patches_field: str | None
    object_ids: frozenset[str] | None

    @property
    def things(self) -> str:
        return "samples" if self.patches_field is None else "objects"

    @property
    def about(self) -> str:
        """What a run on it is about: ``samples``, ``frames``, or the field of the objects."""
        frames = isinstance(self.view, fovi.FramesView)
        if self.patches_field is not None:
            return f"frames.{self.patches_field}" if frames else self.patches_field
        return "frames" if frames else "samples"

    @property
    def root(self) -> str:
        """The path under which fields of the target are found, as a prefix."""
        if self.patches_field is None:
            return ""
        _, path = self.view._get_label_field_path(self.patches_field)
        return f"{path}."

    def path(self, field: str) -> str:
        """The full path of a field of the target in its view."""
        return self.root + field

    def dataset_path(self, field: str) -> str:
        """The full path of a field of the target in the dataset."""
        frames = "frames." if isinstance(self.view, fovi.FramesView) else ""
        return frames + self.path(field)

    def ids(self, having: str | None = None) -> list[str]:
        """The ids of the samples or objects, in their own order.

        Args:
            having (None): only those that have a value in this field, if there is such a field
        """
        if having is not None and self.view.get_field(self.path(having)) is None:
            return []
        if self.patches_field is None:
            view = self.view if having is None else self.view.exists(having)
            return sorted(view.values("id"))
        view = self.view
        if having is not None:
            view = view.filter_labels(self.patches_field, F(having).exists())
        ids = view.values(self.path("id"), unwind=True)
        if self.object_ids is not None:
            ids = [id_ for id_ in ids if id_ in self.object_ids]
        return sorted(id_ for id_ in ids if id_ is not None)

    def sample_ids(self) -> dict[str, str]:
        """The sample of each sample or object, by id."""
        if self.patches_field is None:
            ids = self.view.values("id")
            return dict(zip(ids, ids))
        found = {}
        for sample_id, object_ids in zip(*self.view.values(["id", self.path("id")])):
            if not isinstance(object_ids, list):
                object_ids = [] if object_ids is None else [object_ids]
            found.update(dict.fromkeys(object_ids, sample_id))
        return found

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the dataset is left out."""
        if self.object_ids is not None or len(self.view) != len(self.all_samples):
            return False
        if self.patches_field is None:
            return True
        return self.view.count(self.path("id")) == self.everything().view.count(self.path("id"))

    def everything(self) -> "Target":
        """The same field of all samples of the dataset."""
        return replace(self, view=self.all_samples, object_ids=None)

    @property
    def of_samples(self) -> "Target":
        """The samples themselves, without the objects."""
        return replace(self, patches_field=None, object_ids=None)

    def items(self, ids: set[str]) -> Iterator[Item]:
        """The given samples or objects with their files, in the order of the samples' ids."""
        if self.patches_field is None:
            for sample_id, filepath in sorted(zip(*self.view.values(["id", "filepath"]))):
                if sample_id in ids:
                    yield Item(sample_id, filepath, (sample_id,), None)
            return
        geometry = "points" if self._label_type in (fo.Polyline, fo.Polylines) else "bounding_box"
        columns = self.view.values(["id", "filepath", self.path("id"), self.path(geometry)])
        for sample_id, filepath, object_ids, shapes in sorted(
            zip(*columns), key=lambda row: row[0]
        ):
            if self._label_type in (fo.Detection, fo.Polyline):
                object_ids, shapes = [object_ids], [shapes]
            wanted = [
                (id_, _box(shape))
                for id_, shape in zip(object_ids or (), shapes or ())
                if id_ in ids
            ]
            for start in range(0, len(wanted), MAX_OBJECTS_PER_READ):
                chunk_ids, boxes = zip(*wanted[start : start + MAX_OBJECTS_PER_READ])
                yield Item(sample_id, filepath, chunk_ids, boxes)

    def write(self, field: str, values: Mapping[str, Any], sample_ids: Mapping[str, str]) -> None:
        """Writes values of a field that the dataset already has.

        Args:
            field: the field of the samples or objects
            values: the value of each, by id
            sample_ids: the sample of each, by id
        """
        if not values:
            return
        if self.patches_field is None:
            samples = self.all_samples.select(list(values))
            samples.set_values(field, dict(values), key_field="id")
            return
        samples = self.all_samples.select(sorted({sample_ids[id_] for id_ in values}))
        samples.set_label_values(
            self.path(field),
            [
                {
                    "sample_id": sample_ids[id_],
                    "frame_id": sample_ids[id_],
                    "label_id": id_,
                    "value": value,
                }
                for id_, value in values.items()
            ],
            dynamic=True,
        )

    def clear(self, field: str) -> None:
        """Removes the values of a field from the whole dataset, not only from the view."""
        if isinstance(self.view, fovi.FramesView):
            self.dataset.clear_frame_field(self.path(field))
            self.view._dataset.clear_sample_field(self.path(field))
        else:
            self.dataset.clear_sample_field(self.path(field))

    def declare(self, field: str, field_type: type, **options: Any) -> None:
        """Adds a field to the dataset, unless it has it; options as of ``add_sample_field``."""
        if isinstance(self.view, fovi.FramesView):
            self.dataset.add_frame_field(self.path(field), field_type, **options)
            self.view._dataset.add_sample_field(self.path(field), field_type, **options)
        else:
            self.dataset.add_sample_field(self.path(field), field_type, **options)

    @property
    def _label_type(self) -> type:
        return self.view.get_field(self.patches_field).document_type

    @property
    def all_samples(self) -> Any:
        """All samples, in a form in which any of the view's can be selected and written."""
        if isinstance(self.view, fovi.FramesView):
            return self.view._base_view
        if self.dataset.media_type == fo.core.media.GROUP:
            media_types = self.dataset.group_media_types
            return self.dataset.select_group_slices(
                [name for name, media_type in media_types.items() if media_type == "image"]
            )
        return self.dataset


def resolve_target(samples: Any, patches_field: str | None = None) -> Target:
    """Settles what to work on.

    A grouped dataset stands for its active slice, a dynamically grouped view for all of its
    samples, and a patches view for the objects that it shows.

    Args:
        samples: a ``Dataset`` or ``DatasetView`` of pictures
        patches_field (None): the field of the objects to work on, instead of the samples

    Returns:
        a ``Target``

    Raises:
        UserError: if there is nothing to work on, or not pictures, or no such objects
    """
    # Another process, the App's server say, may have changed fields and runs since.
    with guard:
        samples._root_dataset.reload()
    object_ids = None
    if samples._is_generated and type(samples) not in (fop.PatchesView, fovi.FramesView):
        raise UserError(
            f"A view of type {type(samples).__name__} is not supported; pass the dataset, with "
            "patches_field= for its objects"
        )
    if isinstance(samples, fop.PatchesView):
        field = samples.patches_field
        if patches_field not in (None, field):
            raise UserError(
                f"patches_field={patches_field!r}, but the view shows the objects of {field!r}"
            )
        patches_field = field
        object_ids = frozenset(samples.values(f"{field}.id"))
        samples = samples._source_collection.select(samples.values("sample_id"))

    view = samples.view()
    if view.media_type == fo.core.media.GROUP:
        view = view.flatten() if view._is_dynamic_groups else _active_slice(view)
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
        raise UserError(f"These samples are of type {view.media_type!r}; only images are judged")

    if patches_field is not None:
        _check_patches_field(view, patches_field)
    return Target(view._root_dataset, view, patches_field, object_ids)


def patches_fields(samples: Any) -> list[str]:
    """The fields of a dataset or view that hold objects."""
    schema = samples.get_field_schema(ftype=fo.EmbeddedDocumentField)
    return [name for name, field in schema.items() if issubclass(field.document_type, PATCH_TYPES)]


def _check_patches_field(view: Any, patches_field: str) -> None:
    available = ", ".join(patches_fields(view)) or "none"
    field = view.get_field(patches_field)
    if field is None:
        raise UserError(
            f"patches_field={patches_field!r}: there is no such field; "
            f"fields with objects: {available}"
        )
    if not issubclass(getattr(field, "document_type", None) or object, PATCH_TYPES):
        raise UserError(
            f"patches_field={patches_field!r} holds no Detections or Polylines; "
            f"fields with objects: {available}"
        )


def _active_slice(view: Any) -> Any:
    name = view.group_slice
    media_type = view.group_media_types.get(name)
    if media_type != "image":
        pictures = [key for key, value in view.group_media_types.items() if value == "image"]
        raise UserError(
            f"The active group slice {name!r} is of type {media_type!r}; choose a slice of images "
            f"({', '.join(pictures) or 'this dataset has none'}) as dataset.group_slice, or pass "
            "dataset.select_group_slices(...)"
        )
    return view.select_group_slices(name)


def _box(shape: Any) -> tuple[float, ...]:
    """A bounding box, or the one around a polyline's shapes, as it is stored."""
    if not shape:
        return ()
    if not isinstance(shape[0], (list, tuple)):
        return tuple(shape)
    points = [point for part in shape for point in part]
    if not points:
        return ()
    xs, ys = zip(*points)
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
