"""What a check works on: the samples of a view, or the patches on them.

Everything that differs between plain datasets, grouped datasets, frames views, patches views and
patches is settled here once, so that the rest reads ids and files and writes values by id.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import fiftyone as fo
import fiftyone.core.video as fovi
from fiftyone import ViewField as F

from .patch_names import SEPARATOR, PatchNames
from .paths import patches_root

# Patches of one image that are read, and so decoded, together.
MAX_PATCHES_PER_READ = 16

# Stages that choose and sort samples, or hide fields, without changing a value that is shown.
CHOOSING = (
    *(fo.Exclude, fo.ExcludeBy, fo.ExcludeFields, fo.ExcludeGroups, fo.Exists, fo.Limit, fo.Match),
    *(fo.MatchLabels, fo.MatchTags, fo.Select, fo.SelectBy, fo.SelectFields, fo.SelectGroups),
    *(fo.SelectGroupSlices, fo.Shuffle, fo.Skip, fo.SortBy, fo.SortBySimilarity, fo.Take),
    *(fo.ToFrames, fo.GeoNear, fo.GeoWithin, fo.Flatten, fo.GroupBy),
)


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
            names.name_of(sample_id, label_id): sample_id
            for sample_id, label_ids in self._labels_of_samples(self.view)
            for label_id in label_ids
            if label_id is not None
            and (self.chosen is None or (sample_id, label_id) in self.chosen)
            and not names.is_ambiguous(sample_id, label_id)
        }
        return dict(sorted(found.items()))

    @cached_property
    def num_ambiguous(self) -> int:
        """Patches that nothing distinguishes: two on one sample that have the same id."""
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
            return sorted(set(self.showing(having).exists(having).values("id")))
        samples = self.showing(self.path(having))
        view = samples.filter_labels(self.patches_field, F(having).exists())
        present = {
            self._names.name_of(sample_id, label_id)
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
        return self._names.name_of(sample_id, label_id)

    @cached_property
    def _names(self) -> PatchNames:
        return PatchNames(self._labels_of_samples(self.all_samples))

    def knowing(self, labels_of_samples: Sequence[tuple[str, list[str | None]]]) -> "Target":
        """The same patches, called by what these samples alone hold, so that no others are read.

        Args:
            labels_of_samples: the label ids of all samples that hold one of these patches' ids
        """
        limited = replace(self)
        limited.__dict__["_names"] = PatchNames(iter(labels_of_samples))
        return limited

    def _labels_of_samples(self, view: Any) -> Iterator[tuple[str, list[str | None]]]:
        """The label ids of each sample of a view."""
        for sample_id, label_ids in zip(*view.values(["id", self.path("id")])):
            yield sample_id, label_ids if isinstance(label_ids, list) else [label_ids]

    @cached_property
    def is_whole(self) -> bool:
        """Whether nothing of the dataset is skipped."""
        if self.chosen is not None:
            return False
        if self.patches_field is None:
            return len(self.sample_ids) == len(self.all_samples)
        if len(set(self.view.values("id"))) != len(self.all_samples):
            return False
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
        if self.patches_field is None:
            return replace(self, view=self.all_samples.select(sorted(ids)), chosen=None)
        samples = sorted({self.everything.sample_ids[id_] for id_ in ids})
        view = self.all_samples.select(samples)
        sample_of = self.everything.sample_ids
        chosen = frozenset(zip((sample_of[id_] for id_ in ids), self.label_ids(ids)))
        return replace(self, view=view, chosen=chosen)

    def view_of(self, ids: Sequence[str], ordered: bool = False) -> Any:
        """A view of these samples, in this order if wanted, or of these patches."""
        samples, field = self.all_samples, self.patches_field
        if field is None:
            return samples.select(list(ids), ordered=ordered)
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

    def showing(self, *paths: str) -> Any:
        """The samples of the view with all of these fields, also where the view hides one."""
        if all(self.view.get_field(path) is not None for path in paths):
            return self.view
        return self.all_samples.select(sorted(set(self.view.values("id"))))

    @property
    def shows_stored_values(self) -> bool:
        """Whether the view only chooses, sorts and hides: what it shows is what is stored."""
        return all(isinstance(stage, CHOOSING) for stage in self.view._all_stages)

    def values(self, *fields: str) -> dict[str, tuple[Any, ...]]:
        """Values of fields of the target, by id; what has none has None there.

        Args:
            fields: of the samples or patches, hidden by the view or not; subfields of a sample
                that lie in a list come as lists
        """
        declared = [field for field in fields if self.has_field(field)]
        view = self.showing(*map(self.path, declared))
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
                    rows[self._names.name_of(sample_id, label_id)] = row
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

    def write(self, field: str, values: Mapping[str, Any], sample_ids: Mapping[str, str]) -> None:
        """Writes values of a field that the dataset already has.

        Args:
            field: the field of the samples or patches
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
                    "label_id": label_id,
                    "value": value,
                }
                for (id_, value), label_id in zip(values.items(), self.label_ids(list(values)))
            ],
            dynamic=True,
        )

    def clear(self, field: str) -> None:
        """Removes the values of a field from the whole dataset, not only from the view."""
        path = self.path(field)
        if not self.is_frames:
            self.dataset.clear_sample_field(path)
            return
        # A frames view has samples of its own, with the fields of when it was made.
        if self.dataset.get_field(self.dataset_path(field)) is not None:
            self.dataset.clear_frame_field(path)
        self.view._dataset.clear_sample_field(path)

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
            return self.dataset.select_group_slices(image_slices(self.dataset))
        return self.dataset


def image_slices(samples: Any) -> list[str]:
    """The slices of a grouped dataset or view that hold images."""
    types = samples.group_media_types
    return [name for name, media_type in types.items() if media_type == "image"]


def _box(shape: Any) -> tuple[float, ...]:
    """A bounding box, or the one around a polyline's shapes; empty where it is none."""
    if not shape:
        return ()
    if not isinstance(shape[0], (list, tuple)):
        return tuple(shape) if len(shape) == 4 else ()
    points = [point for part in shape for point in part]
    if not points:
        return ()
    xs, ys = zip(*points)
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
