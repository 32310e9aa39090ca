"""What a check works on: the samples of a view, or the patches on them.

Everything that differs between plain datasets, grouped datasets, frames views, patches views and
patches is settled here once, so that the rest reads ids and files and writes values by id.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import fiftyone as fo
import fiftyone.core.clips as foc
import fiftyone.core.patches as fop
import fiftyone.core.video as fovi
from fiftyone import ViewField as F

from ..errors import UserError
from .locks import guard
from .paths import is_patches, list_name, patches_fields, patches_root

# Patches of one image that are read, and so decoded, together.
MAX_PATCHES_PER_READ = 16

# Two patches of different samples may have the same id (labels that were copied with their ids);
# such a patch is called by its id and its sample.
SEPARATOR = "@"


@dataclass(frozen=True)
class About:
    """What a run is about.

    Attributes:
        frames: whether the samples are frames of videos
        patches_field: the field of the patches, or None for the samples themselves
    """

    frames: bool = False
    patches_field: str | None = None

    @property
    def noun(self) -> str:
        """What one counts: ``samples``, ``frames`` or ``patches``."""
        if self.patches_field is not None:
            return "patches"
        return "frames" if self.frames else "samples"

    @property
    def path(self) -> str:
        """The place in the dataset: ``samples``, ``frames``, ``dogs`` or ``frames.dogs``."""
        if self.patches_field is None:
            return self.noun
        return f"frames.{self.patches_field}" if self.frames else self.patches_field

    @property
    def words(self) -> str:
        """As in a message: ``the samples``, ``the patches of 'dogs'``."""
        if self.patches_field is None:
            return f"the {self.noun}"
        return f"the patches of {self.path!r}"


@dataclass(frozen=True)
class Item:
    """One sample, or some patches on one sample.

    Attributes:
        sample_id: the sample
        filepath: its image
        ids: the sample's id, or the ids of the patches
        boxes: None, or the relative ``(x, y, width, height)`` of each patch; a patch without a
            usable geometry has an empty one
    """

    sample_id: str
    filepath: str
    ids: tuple[str, ...]
    boxes: tuple[tuple[float, ...], ...] | None


@dataclass(frozen=True)
class Target:
    """The samples, or the patches of ``patches_field``, of a flat view of images.

    What a target holds is read once, when it is first asked for.

    Attributes:
        dataset: the dataset that holds runs and fields
        view: the samples, without groups
        patches_field: the field of the patches, or None
        chosen: the (sample, label) ids that a patches view is made of, or None for all
    """

    dataset: fo.Dataset
    view: Any
    patches_field: str | None
    chosen: frozenset[tuple[str, str]] | None = None

    @property
    def is_frames(self) -> bool:
        return isinstance(self.view, fovi.FramesView)

    @property
    def about(self) -> About:
        return About(self.is_frames, self.patches_field)

    @property
    def noun(self) -> str:
        return self.about.noun

    # Paths

    @property
    def root(self) -> str:
        """The path under which fields of the target are found, as a prefix."""
        return patches_root(self.view, self.patches_field)

    def path(self, field: str) -> str:
        """The full path of a field of the target in its view."""
        return self.root + field

    def dataset_path(self, field: str) -> str:
        """The full path of a field of the target in the dataset."""
        return ("frames." if self.is_frames else "") + self.path(field)

    def has_field(self, field: str) -> bool:
        """Whether the dataset declares a field of the target, which a view may hide."""
        return self.all_samples.get_field(self.path(field)) is not None

    # Ids

    @cached_property
    def sample_ids(self) -> dict[str, str]:
        """The sample of each sample or patch, by id, in the order of the ids."""
        if self.patches_field is None:
            return {id_: id_ for id_ in sorted(set(self.view.values("id")))}
        names = self._names
        found = {
            names.of(sample_id, label_id): sample_id
            for sample_id, label_ids in self._labels_of_samples(self.view)
            for label_id in label_ids
            if label_id is not None
            and (self.chosen is None or (sample_id, label_id) in self.chosen)
            and not names.is_ambiguous(sample_id, label_id)
        }
        return dict(sorted(found.items()))

    @cached_property
    def num_ambiguous(self) -> int:
        """Patches that nothing can tell apart: two on one sample that have the same id."""
        if self.patches_field is None:
            return 0
        return sum(
            self._names.is_ambiguous(sample_id, label_id)
            and (self.chosen is None or (sample_id, label_id) in self.chosen)
            for sample_id, label_ids in dict(self._labels_of_samples(self.view)).items()
            for label_id in label_ids
        )

    def ids(self, having: str | None = None) -> list[str]:
        """The ids of the samples or patches, in their own order.

        Args:
            having (None): only those that have a value in this field, if there is such a field
        """
        if having is None:
            return list(self.sample_ids)
        if not self.has_field(having):
            return []
        if self.patches_field is None:
            present = set(self.view.exists(having).values("id"))
            return [id_ for id_ in self.sample_ids if id_ in present]
        view = self.view.filter_labels(self.patches_field, F(having).exists())
        present = {
            self._names.of(sample_id, label_id)
            for sample_id, label_ids in self._labels_of_samples(view)
            for label_id in label_ids
            if label_id is not None
        }
        return [id_ for id_ in self.sample_ids if id_ in present]

    def label_ids(self, ids: Sequence[str]) -> list[str]:
        """The ids by which FiftyOne knows samples or patches."""
        return [id_.partition(SEPARATOR)[0] for id_ in ids]

    def name_of(self, sample_id: str, label_id: str) -> str:
        """The id of a patch here: that of its label, unless another sample has that one, too."""
        return self._names.of(sample_id, label_id)

    @cached_property
    def _names(self) -> "_Names":
        return _Names(self._labels_of_samples(self.all_samples))

    def _labels_of_samples(self, view: Any) -> Iterator[tuple[str, list[str | None]]]:
        """The label ids of each sample of a view."""
        for sample_id, label_ids in zip(*view.values(["id", self.path("id")])):
            yield sample_id, label_ids if isinstance(label_ids, list) else [label_ids]

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the dataset is left out."""
        if self.chosen is not None or len(set(self.view.values("id"))) != len(self.all_samples):
            return False
        if self.patches_field is None:
            return True
        return len(self.sample_ids) == len(self.everything.sample_ids)

    @cached_property
    def everything(self) -> "Target":
        """The same field of all samples of the dataset."""
        return replace(self, view=self.all_samples, chosen=None)

    @property
    def of_samples(self) -> "Target":
        """The samples themselves, without the patches."""
        return replace(self, patches_field=None, chosen=None)

    def only(self, ids: Sequence[str]) -> "Target":
        """These of the samples or patches."""
        samples = sorted({self.everything.sample_ids[id_] for id_ in ids})
        view = self.all_samples.select(samples)
        if self.patches_field is None:
            return replace(self, view=view, chosen=None)
        sample_of = self.everything.sample_ids
        chosen = frozenset(zip((sample_of[id_] for id_ in ids), self.label_ids(ids)))
        return replace(self, view=view, chosen=chosen)

    def view_of(self, ids: Sequence[str]) -> Any:
        """A view of these samples, or of these patches."""
        samples, field = self.all_samples, self.patches_field
        if field is None:
            return samples.select(list(ids))
        label_ids = self.label_ids(ids)
        if not any(SEPARATOR in id_ for id_ in ids):
            return samples.select_labels(ids=label_ids, fields=field).to_patches(field)
        sample_of = self.everything.sample_ids
        labels = [
            {"sample_id": sample_of[id_], "label_id": label_id, "field": field}
            for id_, label_id in zip(ids, label_ids)
        ]
        return samples.select_labels(labels=labels).to_patches(field)

    # Reading and writing

    def values(self, *fields: str) -> dict[str, tuple[Any, ...]]:
        """Values of fields of the target, by id; what has none has None there.

        Args:
            fields: of the samples or patches, hidden by the view or not; subfields of a sample
                that lie in a list come as lists
        """
        declared = [field for field in fields if self.has_field(field)]
        view = self.view
        if any(view.get_field(self.path(field)) is None for field in declared):
            # The view hides one of them.
            view = self.all_samples.select(sorted(set(view.values("id"))))
        if self.patches_field is None:
            columns = view.values(["id", *declared])
            rows = {id_: dict(zip(declared, values)) for id_, *values in zip(*columns)}
        else:
            rows = {}
            paths = [self.path(field) for field in declared]
            for sample_id, ids, *values in zip(*view.values(["id", self.path("id"), *paths])):
                if not isinstance(ids, list):
                    ids, values = [ids], [[value] for value in values]
                # A sample without labels has no values either.
                for place, label_id in enumerate(ids):
                    row = {name: one[place] for name, one in zip(declared, values) if one}
                    rows[self._names.of(sample_id, label_id)] = row
        return {
            id_: tuple(rows.get(id_, {}).get(field) for field in fields) for id_ in self.sample_ids
        }

    def items(self, ids: set[str]) -> Iterator[Item]:
        """The given samples or patches with their files, in the order of the samples' ids."""
        if self.patches_field is None:
            files = dict(zip(*self.view.values(["id", "filepath"])))
            for sample_id, filepath in sorted(files.items()):
                if sample_id in ids:
                    yield Item(sample_id, filepath, (sample_id,), None)
            return
        geometry = "points" if self._label_type in (fo.Polyline, fo.Polylines) else "bounding_box"
        shapes = self.values(geometry)
        files = dict(zip(*self.view.values(["id", "filepath"])))
        of_samples: dict[str, list[str]] = {}
        for id_, sample_id in self.sample_ids.items():
            if id_ in ids:
                of_samples.setdefault(sample_id, []).append(id_)
        for sample_id, wanted in sorted(of_samples.items()):
            for start in range(0, len(wanted), MAX_PATCHES_PER_READ):
                chunk = tuple(wanted[start : start + MAX_PATCHES_PER_READ])
                boxes = tuple(_box(shapes[id_][0]) for id_ in chunk)
                yield Item(sample_id, files[sample_id], chunk, boxes)

    def write(self, field: str, values: Mapping[str, Any]) -> None:
        """Writes values of a field that the dataset already has.

        Args:
            field: the field of the samples or patches
            values: the value of each, by id
        """
        if not values:
            return
        if self.patches_field is None:
            samples = self.all_samples.select(list(values))
            samples.set_values(field, dict(values), key_field="id")
            return
        sample_of = self.sample_ids
        if not values.keys() <= sample_of.keys():
            sample_of = self.everything.sample_ids
        samples = self.all_samples.select(sorted({sample_of[id_] for id_ in values}))
        samples.set_label_values(
            self.path(field),
            [
                {
                    "sample_id": sample_of[id_],
                    "frame_id": sample_of[id_],
                    "label_id": label_id,
                    "value": value,
                }
                for (id_, value), label_id in zip(values.items(), self.label_ids(list(values)))
            ],
            dynamic=True,
        )

    def clear(self, field: str) -> None:
        """Removes the values of a field from the whole dataset, not only from the view."""
        if self.is_frames:
            self.dataset.clear_frame_field(self.path(field))
            self.view._dataset.clear_sample_field(self.path(field))
        else:
            self.dataset.clear_sample_field(self.path(field))

    def declare(self, field: str, field_type: type, **options: Any) -> None:
        """Adds a field to the dataset, unless it has it; options as of ``add_sample_field``."""
        if self.is_frames:
            self.dataset.add_frame_field(self.path(field), field_type, **options)
            self.view._dataset.add_sample_field(self.path(field), field_type, **options)
        else:
            self.dataset.add_sample_field(self.path(field), field_type, **options)

    @property
    def _label_type(self) -> type:
        return self.all_samples.get_field(self.patches_field).document_type

    @property
    def all_samples(self) -> Any:
        """All samples, in a form in which any of the view's can be selected and written."""
        if self.is_frames:
            return self.view._base_view
        if self.dataset.media_type == fo.core.media.GROUP:
            media_types = self.dataset.group_media_types
            return self.dataset.select_group_slices(
                [name for name, media_type in media_types.items() if media_type == "image"]
            )
        return self.dataset


class _Names:
    """What patches are called: by their ids, and their samples where an id is not unique."""

    def __init__(self, labels_of_samples: Iterator[tuple[str, list[str | None]]]) -> None:
        pairs = Counter(
            (sample_id, label_id)
            for sample_id, label_ids in labels_of_samples
            for label_id in label_ids
        )
        samples = Counter(label_id for _, label_id in pairs)
        self._shared = {label_id for label_id, count in samples.items() if count > 1}
        self._ambiguous = {pair for pair, count in pairs.items() if count > 1 and pair[1]}

    def of(self, sample_id: str, label_id: str) -> str:
        return f"{label_id}{SEPARATOR}{sample_id}" if label_id in self._shared else label_id

    def is_ambiguous(self, sample_id: str, label_id: str | None) -> bool:
        return bool(self._ambiguous) and (sample_id, label_id) in self._ambiguous


def resolve_target(samples: Any, patches_field: str | None = None) -> Target:
    """Settles what to work on.

    A grouped dataset stands for its active slice, a dynamically grouped view for all of its
    samples, and a patches view for the patches that it shows. A sample that a view holds twice
    counts once.

    Args:
        samples: a ``Dataset`` or ``DatasetView`` of images
        patches_field (None): the field of the patches to work on, instead of the samples

    Returns:
        a ``Target``

    Raises:
        UserError: if there is nothing to work on, or not images, or no such patches
    """
    # Another process, the App's server say, may have changed fields and runs since.
    with guard:
        samples._root_dataset.reload()
    _check_kind(samples)
    chosen = None
    if isinstance(samples, fop.PatchesView):
        samples, patches_field, chosen = _shown_patches(samples, patches_field)

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
        raise UserError(f"These samples are of type {view.media_type!r}; only images are evaluated")
    if patches_field is not None:
        patches_field = _checked_patches_field(view, patches_field)
    return Target(view._root_dataset, view, patches_field, chosen)


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
            "Trajectories are objects of videos; pass a view of the frames, for example "
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
            f"patches_field={patches_field!r} holds no Detections or Polylines; "
            f"fields with patches: {available}"
        )
    return name


def _active_slice(view: Any) -> Any:
    name = view.group_slice
    media_type = view.group_media_types.get(name)
    if media_type != "image":
        images = [key for key, value in view.group_media_types.items() if value == "image"]
        raise UserError(
            f"The active group slice {name!r} is of type {media_type!r}; choose a slice of images "
            f"({', '.join(images) or 'this dataset has none'}) as dataset.group_slice, or pass "
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


def about_of(dataset: fo.Dataset, about: About) -> Target:
    """All of what a run is about.

    Raises:
        UserError: if there is nothing of it, or it cannot be looked at
    """
    samples: Any = dataset.to_frames() if about.frames else dataset
    return resolve_target(samples, about.patches_field).everything
