"""Stored runs of ``compute_separability``: the report, whether it is stale, and the views it names.

What the panel reads. Nothing is computed again: a report is read once and kept, and a view is made
of the ids and fields that a run has stored.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import fiftyone as fo
import numpy as np
from fiftyone import ViewField as F
from fiftyone.core.expressions import ViewExpression

from ..errors import UserError
from .arrays import decode
from .class_flags import flag_runs, with_flags
from .kept import Kept
from .labels import LabelField, label_field_of, label_fields
from .paths import patches_fields
from .runs import Run, plugin_runs, required_results
from .staleness import Reader, last_touched, stale_reasons
from .target import Target
from .targets import about_of, resolve_target
from .vectors import vector_fields
from .visualizations import latest_trust

OPERATOR = "compute_separability"

# Up to so many samples of a class are selected by id. That needs no index on the labels, without
# which each of the App's queries goes through all samples.
MAX_SELECTED = 2_000


@dataclass(frozen=True)
class StoredSeparability:
    """A finished run of ``compute_separability``.

    Attributes:
        run: the run, with its parameters as ``run.facts["parameters"]``
        report: ``overall``, ``classes``, ``pairs``, ``order``, …, as the operator returned them,
            with the label issues and outliers of each class that are flagged now
        ids: the samples or patches that were read
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
        return self.run.facts.embeddings[0]

    @property
    def patches_field(self) -> str | None:
        return self.run.facts.about.patches_field

    @property
    def noun(self) -> str:
        return self.run.facts.about.noun

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


# The two reports that are compared, of two datasets.
_kept_reports = Kept(4)
_kept_counts = Kept(4)
_kept_changes = Kept(16)


def separability_runs(dataset: fo.Dataset) -> list[Run]:
    """The finished runs, the latest first."""
    runs = [run for run in plugin_runs(dataset, OPERATOR) if run.finished]
    return sorted(runs, key=lambda run: (run.written_at, run.key), reverse=True)


def read_separability(dataset: fo.Dataset, run: Run) -> StoredSeparability:
    """What a run has stored; kept in memory, because large reports take long to read.

    Raises:
        UserError: if nothing is stored
    """
    name = (dataset._doc.id, run.key, run.written_at)
    stored = _kept_reports.get(name, lambda: _read_report(dataset, run))
    flags = flag_runs(dataset, run.facts.about, stored.report["label_field"])
    written = tuple(flag.written_at if flag else None for flag in flags.values())

    def count() -> StoredSeparability:
        if stored.codes is None:
            return stored
        labels = zip(stored.ordered_ids, stored.codes.tolist())
        of_class = {id_: stored.class_names[code] for id_, code in labels if code >= 0}
        return replace(stored, report=with_flags(dataset, run.facts.about, stored.report, of_class))

    return _kept_counts.get((*name, last_touched(dataset), written), count)


def _read_report(dataset: fo.Dataset, run: Run) -> StoredSeparability:
    results = required_results(dataset, run)
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
    """What ``compute_separability`` could read: whole samples first, patches otherwise.

    Raises:
        UserError: if the dataset holds nothing that it could read
    """
    vectors = False
    for field in (None, *patches_fields(dataset)):
        target = resolve_target(dataset, field, reload=False)
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
        label = getattr(progress, "label", None) or "running"
        return f"{label} ({100 * share:.0f} %)" if share else label
    if "queued" in states or "scheduled" in states:
        return "waiting to start"
    return None


def changes(
    dataset: fo.Dataset, stored: StoredSeparability, compare: bool = True
) -> list[str] | None:
    """What has changed since a run was stored, in words; empty if it still holds.

    Embeddings and labels are compared only if samples were modified or deleted since, so that this
    takes no time on a dataset at rest.

    Args:
        dataset: the dataset
        stored: the run
        compare (True): whether to compare if need be; of 100,000 samples that takes seconds

    Returns:
        None if there is something to compare first
    """
    run = stored.run
    touched = last_touched(dataset)
    written = datetime.datetime.fromisoformat(run.written_at) if run.written_at else None
    if written is not None and touched < written and _has_its_fields(dataset, run):
        return []
    name = (dataset._doc.id, run.key, run.written_at, touched)
    if not compare and name not in _kept_changes:
        return None
    return _kept_changes.get(name, lambda: stale_reasons(run, Reader(dataset)))


def _has_its_fields(dataset: fo.Dataset, run: Run) -> bool:
    """Whether the fields that a run has read still exist, which touches no sample."""
    about = run.facts.about
    prefix = "frames." if about.frames else ""
    names: list[str | None] = [*run.facts.embeddings] if about.patches_field is None else []
    names += [about.patches_field or run.facts.label_field]
    return all(dataset.get_field(prefix + name) is not None for name in names if name)


# Views


def class_view(dataset: fo.Dataset, stored: StoredSeparability, label: str) -> Any:
    """What the run has read of a class.

    Raises:
        UserError: if there is nothing left of it
    """
    target = about_of(dataset, stored.run.facts.about)
    return _labeled_view(target, stored, label, None)


def flagged_view(dataset: fo.Dataset, stored: StoredSeparability, label: str, kind: str) -> Any:
    """The label issues or the outliers of a class.

    Args:
        dataset: the dataset
        stored: the run
        label: the class
        kind: ``"label_issues"`` or ``"outliers"``

    Raises:
        UserError: if there are none, or their run no longer exists
    """
    target = about_of(dataset, stored.run.facts.about)
    run_key = stored.report.get(f"{kind}_run")
    field = f"{run_key}_flagged"
    if run_key is None or not target.has_field(field):
        raise UserError(f"The run that found the {kind.replace('_', ' ')} no longer exists")
    return _labeled_view(target, stored, label, field)


def pair_view(dataset: fo.Dataset, stored: StoredSeparability, label: str, other: str) -> Any:
    """What of class ``label`` lies on the boundary to ``other``, most like ``other`` first.

    Raises:
        UserError: if the two do not mix, or nothing of the boundary is left
    """
    pair = stored.pairs.get((label, other))
    if pair is None or not pair["boundary"]:
        raise UserError(f"No {label} is close to {other}")
    target = about_of(dataset, stored.run.facts.about)
    view = target.view_of(pair["boundary"])
    if len(view) == 0:
        raise UserError(f"The {stored.noun} between {label} and {other} no longer exist")
    # An order by place in a list is put on what is left, not on the whole dataset.
    return view.select(target.label_ids(pair["boundary"]), ordered=True)


def visualization_key(dataset: fo.Dataset, stored: StoredSeparability) -> str | None:
    """The latest plot of the embeddings, or else any plot of the dataset; None if there is none."""
    trust = latest_trust(dataset, stored.run.facts.about, stored.embeddings)
    if trust is not None:
        return trust["brain_key"]
    return next(iter(dataset.list_brain_runs(type="visualization")), None)


def ids_of(view: Any) -> list[str]:
    """The ids by which the App selects what a view shows."""
    return view.values("id")


def tag(view: Any, name: str, add: bool = True) -> int:
    """Tags the samples, or the patches of a patches view; returns how many there are.

    Args:
        view: what is tagged
        name: the tag
        add (True): whether it is added, or taken away

    Raises:
        UserError: if the name is empty
    """
    if not name.strip():
        raise UserError("Type a tag first")
    if isinstance(view, fo.core.patches.PatchesView):
        change = view.tag_labels if add else view.untag_labels
        change(name.strip(), label_fields=view.patches_field)
    else:
        (view.tag_samples if add else view.untag_samples)(name.strip())
    return len(view)


def view_of_stages(dataset: fo.Dataset, stages: Sequence[dict[str, Any]]) -> Any:
    """The view that ``stages_of`` described."""
    return fo.DatasetView._build(dataset, list(stages))


def stages_of(view: Any) -> list[dict[str, Any]]:
    """What makes a view, as JSON types."""
    return view._serialize(include_uuids=False)


def _labels_of(target: Target, stored: StoredSeparability) -> LabelField:
    """Where the labels of the run are.

    Raises:
        UserError: if they no longer exist
    """
    return label_field_of(target, stored.report["label_field"])


def _labeled_view(target: Target, stored: StoredSeparability, label: str, flag: str | None) -> Any:
    labels = _labels_of(target, stored)
    condition = F(labels.path) == ViewExpression.literal(labels.value(label))
    if flag is not None:
        condition &= F(flag) == True  # noqa: E712
    read = stored.ids_of(label)
    if read is not None and len(read) > MAX_SELECTED:
        read = None
    samples = target.all_samples
    if target.patches_field is None:
        # Selected by id, they spare the search through all samples.
        view = (samples if read is None else samples.select(read)).match(condition)
        present = view.values("id")
    else:
        view = samples.filter_labels(target.patches_field, condition)
        present = replace(target, view=view, chosen=None).ids()
    # A large class is its label: what has been given it since is shown as well.
    known = stored.ids if read is None else set(read)
    wanted = [id_ for id_ in present if id_ in known]
    if not wanted:
        what = "flagged" if flag is not None else "left"
        raise UserError(f"Nothing of {label} is {what}")
    if len(wanted) < len(present) or len(wanted) <= MAX_SELECTED:
        return target.view_of(wanted)
    return view if target.patches_field is None else view.to_patches(target.patches_field)
