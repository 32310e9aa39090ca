"""Stored runs of ``compute_separability``: the report, whether it is stale, and the views it names.

What the panel reads. Nothing is computed anew: a report is read once and kept, and a view is made
of the ids and fields that a run has stored.
"""

import datetime
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import fiftyone as fo
import numpy as np
from bson import ObjectId
from fiftyone import ViewField as F
from fiftyone.core.expressions import ViewExpression

from ..errors import UserError
from .arrays import decode
from .labels import label_fields
from .maps import latest_trust
from .runs import Run, plugin_runs, read_results, read_run
from .targets import Target, patches_fields, resolve_target
from .vectors import vector_fields

OPERATOR = "compute_separability"

# Names of classes in a message.
NAMED = 3

# Up to so many samples of a class are selected by id. That needs no index on the labels, without
# which each of the App's queries goes through all samples.
MAX_SELECTED = 2_000


@dataclass(frozen=True)
class StoredSeparability:
    """A finished run of ``compute_separability``.

    Attributes:
        run: the run, with its parameters as ``run.facts["parameters"]``
        report: ``overall``, ``classes``, ``pairs``, ``order``, …, as the operator returned them
        ids: the samples or objects that were read
        ordered_ids: the same in the order in which their labels were hashed
        codes: ``(n,)`` int32, their labels then, as places in ``class_names``, -1 for none; None
            for runs of a version that did not store them
        class_names: the names of the classes
    """

    run: Run
    report: dict[str, Any]
    ids: frozenset[str]
    ordered_ids: tuple[str, ...]
    codes: np.ndarray | None = None
    class_names: tuple[str, ...] = ()

    @property
    def embeddings(self) -> str:
        return self.run.facts["embeddings"]

    @property
    def patches_field(self) -> str | None:
        return self.run.facts["patches_field"]

    @property
    def things(self) -> str:
        return "samples" if self.patches_field is None else "objects"

    @cached_property
    def classes(self) -> dict[str, dict[str, Any]]:
        """The measures of each class, the worst first."""
        return {row["label"]: row for row in self.report["classes"]}

    @cached_property
    def pairs(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The measures of each ordered pair that mixes, the least due to chance first."""
        return {(row["label"], row["other"]): row for row in self.report["pairs"]}

    def ids_of(self, label: str) -> list[str] | None:
        """The ids of what was read as a class; None if the run did not store them."""
        if self.codes is None:
            return None
        if label not in self.class_names:
            return []
        rows = np.flatnonzero(self.codes == self.class_names.index(label))
        return [self.ordered_ids[row] for row in rows]


@dataclass(frozen=True)
class Prospect:
    """What a first run could read: parameters of the operator, or what is missing for one.

    Attributes:
        parameters: of ``compute_separability``; None if something is missing
        missing: ``"vectors"``, ``"labels"`` or None
    """

    parameters: dict[str, Any] | None
    missing: str | None


class _Kept:
    """The results of the latest calls, by name."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, name: Hashable) -> bool:
        return name in self._values

    def get(self, name: Hashable, make: Callable[[], Any]) -> Any:
        with self._lock:
            if name in self._values:
                self._values.move_to_end(name)
                return self._values[name]
        value = make()
        with self._lock:
            self._values[name] = value
            while len(self._values) > self._size:
                self._values.popitem(last=False)
        return value


# The two reports that are compared, of two datasets.
_kept_reports = _Kept(4)
_kept_changes = _Kept(16)


def separability_runs(dataset: fo.Dataset) -> list[Run]:
    """The finished runs, the latest first."""
    runs = [run for run in plugin_runs(dataset, OPERATOR) if run.finished]
    return sorted(runs, key=lambda run: (run.written_at, run.key), reverse=True)


def read_separability(dataset: fo.Dataset, run: Run) -> StoredSeparability:
    """What a run has stored; kept in memory, because large reports take long to read.

    Raises:
        UserError: if nothing is stored
    """
    return _kept_reports.get(
        (dataset._doc.id, run.key, run.written_at), lambda: _read_report(dataset, run)
    )


def _read_report(dataset: fo.Dataset, run: Run) -> StoredSeparability:
    results = read_results(dataset, run.key)
    if results is None:
        raise UserError(f"The run {run.key!r} has no results; compute it again")
    ids = tuple(results.ids.split())
    codes = getattr(results, "codes", None)
    return StoredSeparability(
        run,
        dict(results.report),
        frozenset(ids),
        ids,
        decode(codes) if codes is not None else None,
        tuple(getattr(results, "class_names", ())),
    )


def prospect(dataset: fo.Dataset) -> Prospect:
    """What ``compute_separability`` could read: whole samples first, objects otherwise.

    Raises:
        UserError: if the dataset holds nothing that it could read
    """
    vectors = False
    for field in (None, *patches_fields(dataset)):
        target = resolve_target(dataset, field)
        embeddings = vector_fields(target)
        labels = label_fields(target)
        vectors = vectors or bool(embeddings)
        if embeddings and labels:
            parameters = {"embeddings": embeddings[0], "label_field": labels[0]}
            if field is not None:
                parameters["patches_field"] = field
            return Prospect(parameters, None)
    return Prospect(None, "labels" if vectors else "vectors")


def running(dataset: fo.Dataset, operator_uri: str) -> str | None:
    """How far a delegated run of an operator on this dataset is, in words; None if there is none.

    Runs from the operator's form show their progress there.
    """
    from fiftyone.operators.delegated import DelegatedOperationService

    operations = DelegatedOperationService().list_operations(
        operator=operator_uri, dataset_name=dataset.name
    )
    states = {str(operation.run_state): operation for operation in operations}
    if (operation := states.get("running")) is not None:
        progress = operation.status
        share = getattr(progress, "progress", None)
        label = getattr(progress, "label", None) or "at work"
        return f"{label} ({100 * share:.0f} %)" if share else label
    if "queued" in states or "scheduled" in states:
        return "waiting for its turn"
    return None


# Staleness


def changes(
    dataset: fo.Dataset, stored: StoredSeparability, compare: bool = True
) -> list[str] | None:
    """What has changed since a run was stored, in words; empty if it still holds.

    The labels are compared only if samples were modified or deleted since, so that this takes no
    time on a dataset at rest.

    Args:
        dataset: the dataset
        stored: the run
        compare (True): whether to compare the labels if need be; of 100,000 samples that takes a
            second

    Returns:
        None if the labels have to be compared first
    """
    try:
        target = resolve_target(dataset, stored.patches_field)
    except UserError as error:
        return [str(error)]
    found = []
    if target.view.get_field(target.path(stored.embeddings)) is None:
        found.append(f"the vectors in {stored.embeddings!r} are gone")
    elif _vectors_are_newer(target, stored):
        found.append(f"the vectors in {stored.embeddings!r} were computed anew")
    label_path = _label_path(target, stored)
    if label_path is None:
        return [*found, f"the labels in {stored.report['label_field']!r} are gone"]
    touched = _last_touched(dataset)
    if touched >= datetime.datetime.fromisoformat(stored.run.written_at):
        name = (dataset._doc.id, stored.run.key, stored.run.written_at, touched)
        if not compare and name not in _kept_changes:
            return None
        found += _kept_changes.get(name, lambda: _changed_labels(target, stored, label_path))
    return found


def _vectors_are_newer(target: Target, stored: StoredSeparability) -> bool:
    key = target.dataset_path(stored.embeddings).replace(".", "_")
    if not target.dataset.has_run(key):
        return False
    try:
        run = read_run(target.dataset, key)
    except UserError:
        return False
    # Stages of a run that found nothing to compute leave the vectors as they were.
    return run.written_at > stored.run.written_at and bool(run.facts.get("computed", True))


def _last_touched(dataset: fo.Dataset) -> datetime.datetime:
    """When a sample was last added, modified or deleted."""
    view = dataset.view()
    if dataset.media_type == fo.core.media.GROUP:
        view = view.select_group_slices(_allow_mixed=True)
    # The field has an index, which makes this quicker than its maximum.
    times = view.sort_by("last_modified_at", reverse=True).limit(1).values("last_modified_at")
    times = [time for time in (*times, dataset.last_deletion_at) if time is not None]
    return max(map(_aware, times), default=_aware(datetime.datetime.min))


def _changed_labels(target: Target, stored: StoredSeparability, label_path: str) -> list[str]:
    paths = [target.path("id"), label_path]
    # Not asked to unwind, the values of 100,000 samples come in 1.0 s instead of 1.7.
    now = dict(zip(*target.all_samples.values(paths, unwind=target.patches_field is not None)))
    removed = len(stored.ids - now.keys())
    since = datetime.datetime.fromisoformat(stored.run.written_at)
    added = sum(
        1
        for id_ in now.keys() - stored.ids
        if id_ is not None and ObjectId(id_).generation_time >= since
    )
    found = []
    if removed:
        found.append(f"{removed:,} {stored.things} were removed")
    if added:
        found.append(f"{added:,} {stored.things} were added")
    if not removed and _labels_fingerprint(stored, now) != stored.run.facts["labels_fingerprint"]:
        found.append("labels were changed" + _examples(stored, now))
    return found


def _labels_fingerprint(stored: StoredSeparability, now: dict[str, str | None]) -> str:
    text = "\n".join(f"{id_} {now[id_]}" for id_ in stored.ordered_ids)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _examples(stored: StoredSeparability, now: dict[str, str | None]) -> str:
    """The classes whose counts have changed most."""
    counts = dict.fromkeys(stored.classes, 0)
    for id_ in stored.ids:
        counts[now[id_]] = counts.get(now[id_], 0) + 1
    before = {label: row["count"] for label, row in stored.classes.items()}
    differing = [
        (abs(count - before.get(label, 0)), label, before.get(label, 0), count)
        for label, count in counts.items()
        if label is not None and count != before.get(label, 0)
    ]
    differing.sort(key=lambda entry: (-entry[0], entry[1]))
    texts = [f"{label} {old:,} → {new:,}" for _, label, old, new in differing[:NAMED]]
    return f" ({', '.join(texts)})" if texts else ""


def _aware(time: datetime.datetime) -> datetime.datetime:
    return time if time.tzinfo is not None else time.replace(tzinfo=datetime.timezone.utc)


# Views


def class_view(dataset: fo.Dataset, stored: StoredSeparability, label: str) -> Any:
    """What the run has read of a class.

    Raises:
        UserError: if there is nothing left of it
    """
    target = resolve_target(dataset, stored.patches_field)
    return _labeled_view(target, stored, label, None)


def flagged_view(dataset: fo.Dataset, stored: StoredSeparability, label: str, kind: str) -> Any:
    """The label issues or the outliers of a class.

    Args:
        dataset: the dataset
        stored: the run
        label: the class
        kind: ``"label_issues"`` or ``"outliers"``

    Raises:
        UserError: if there are none, or their run is gone
    """
    target = resolve_target(dataset, stored.patches_field)
    run_key = stored.report.get(f"{kind}_run")
    field = f"{run_key}_flagged"
    if run_key is None or target.view.get_field(target.path(field)) is None:
        raise UserError(f"The run that found the {kind.replace('_', ' ')} is gone")
    return _labeled_view(target, stored, label, field)


def pair_view(dataset: fo.Dataset, stored: StoredSeparability, label: str, other: str) -> Any:
    """What of class ``label`` lies on the boundary to ``other``, most like ``other`` first.

    Raises:
        UserError: if the two do not mix, or nothing of the boundary is left
    """
    pair = stored.pairs.get((label, other))
    if pair is None or not pair["boundary"]:
        raise UserError(f"No {label} comes near to {other}")
    target = resolve_target(dataset, stored.patches_field)
    view = _chosen(target, pair["boundary"])
    if len(view) == 0:
        raise UserError(f"The {stored.things} between {label} and {other} are gone")
    # An order by place in a list is put on what is left, not on the whole dataset.
    return view.select(pair["boundary"], ordered=True)


def map_key(dataset: fo.Dataset, stored: StoredSeparability) -> str | None:
    """The latest map of the vectors, or else any map of the dataset; None if there is none."""
    target = resolve_target(dataset, stored.patches_field)
    trust = latest_trust(target, stored.embeddings)
    if trust is not None:
        return trust["brain_key"]
    return next(iter(dataset.list_brain_runs(type="visualization")), None)


def ids_of(view: Any) -> list[str]:
    """The ids by which the App selects what a view shows."""
    return view.values("id")


def tag(view: Any, name: str) -> int:
    """Tags the samples, or the objects of a patches view; returns how many there are.

    Raises:
        UserError: if the name is empty
    """
    if not name.strip():
        raise UserError("Type a tag first")
    if isinstance(view, fo.core.patches.PatchesView):
        view.tag_labels(name.strip(), label_fields=view.patches_field)
    else:
        view.tag_samples(name.strip())
    return len(view)


def view_of_stages(dataset: fo.Dataset, stages: Sequence[dict[str, Any]]) -> Any:
    """The view that ``stages_of`` described."""
    return fo.DatasetView._build(dataset, list(stages))


def stages_of(view: Any) -> list[dict[str, Any]]:
    """What makes a view, as JSON types."""
    return view._serialize(include_uuids=False)


def _label_path(target: Target, stored: StoredSeparability) -> str | None:
    if target.patches_field is not None:
        return target.path("label")
    name = stored.report["label_field"]
    field = target.view.get_field(name)
    if field is None:
        return None
    return name if isinstance(field, fo.StringField) else f"{name}.label"


def _labeled_view(target: Target, stored: StoredSeparability, label: str, flag: str | None) -> Any:
    samples, field = target.all_samples, target.patches_field
    path = _label_path(target, stored)
    if path is None:
        raise UserError(f"The labels in {stored.report['label_field']!r} are gone")
    read = stored.ids_of(label)
    if read is not None and len(read) > MAX_SELECTED:
        read = None
    if field is None:
        condition = F(path) == ViewExpression.literal(label)
        if flag is not None:
            condition &= F(flag) == True  # noqa: E712
        if read is not None:
            samples = samples.select(read)  # spares the search through all samples
        view = samples.match(condition)
    else:
        condition = F("label") == ViewExpression.literal(label)
        if flag is not None:
            condition &= F(flag) == True  # noqa: E712
        view = samples.filter_labels(field, condition)
    present = view.values(target.path("id"), unwind=field is not None)
    # A large class is its label: what has been given it since is shown as well.
    read = stored.ids if read is None else set(read)
    wanted = [id_ for id_ in present if id_ in read]
    if not wanted:
        what = "flagged" if flag is not None else "left"
        raise UserError(f"Nothing of {label} is {what}")
    if len(wanted) < len(present) or len(wanted) <= MAX_SELECTED:
        return _chosen(target, wanted)
    return view if field is None else view.to_patches(field)


def _chosen(target: Target, ids: Sequence[str]) -> Any:
    if target.patches_field is None:
        return target.all_samples.select(list(ids))
    return target.all_samples.select_labels(ids=list(ids), fields=target.patches_field).to_patches(
        target.patches_field
    )
