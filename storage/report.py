"""What a report tells of a dataset: its finished runs, each with what it found, and its maps.

Only what was found is read, not the rest of the dataset. A run is about samples, frames or the
objects of one field; what cannot be read in the terms of the given view is left out with a reason.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import fiftyone as fo
import numpy as np
from fiftyone import ViewField as F

from ..errors import UserError
from .findings import read_values
from .labels import is_multilabel, label_fields, read_label_sets, read_labels, read_splits
from .maps import FACTS, read_map, stored_maps
from .runs import Run, plugin_runs
from .separability import read_separability
from .staleness import stale_reasons
from .targets import Target, resolve_target

DUPLICATE, OUTLIER, LABEL_ISSUE = "duplicate", "outlier", "label issue"
WHAT = {
    "find_duplicates": DUPLICATE,
    "find_label_issues": LABEL_ISSUE,
    "find_outliers": OUTLIER,
}
SEPARABILITY = "compute_separability"

# Folders that are no dataset's own: there, people and machines have theirs.
EVERYBODYS = re.compile(r"|/home|/Users|[A-Z]:|[A-Z]:[\\/]Users|\w+:", re.IGNORECASE)

# Points of a map that a report draws, and the seed of their choice.
MAX_POINTS, SEED = 5000, 51


@dataclass(frozen=True)
class Finding:
    """One sample or object that a run flagged or grouped; None for what does not apply.

    Attributes:
        what: ``duplicate``, ``outlier`` or ``label issue``
        run_key: the run
        rank: 1 for what to look at first
        id: the sample or object
        sample_id: the sample
        filepath: its picture
        label: the label now
        score: outliers: 0 typical to 1
        quality: label issues: 0 wrong to 1
        reason: outliers: why; label issues: with several labels, what is wrong or missing
        suggestion: label issues: the likeliest label
        confidence: of the suggestion, from 0 to 1
        group: duplicates: the number of the group
        kind: duplicates: ``exact`` or ``near``
        keep: duplicates: whether it represents its group
        change: duplicates: what tells it from the one to keep
        similarity: duplicates: of its vector to that of the one to keep, from -1 to 1
        agreement: duplicates: of its pixels with those of the one to keep, from 0 to 1
        split: duplicates: its split, if the run was told of splits
        review: label issues: what a person has decided
        probe: label issues: the likeliest label to the held-out classifier alone
        neighbors: label issues: the likeliest label to the neighbours alone
        box: objects: relative ``(x, y, width, height)``
    """

    what: str
    run_key: str
    rank: int
    id: str
    sample_id: str
    filepath: str
    label: str | None = None
    score: float | None = None
    quality: float | None = None
    reason: str | None = None
    suggestion: str | None = None
    confidence: float | None = None
    group: int | None = None
    kind: str | None = None
    keep: bool | None = None
    change: str | None = None
    similarity: float | None = None
    agreement: float | None = None
    split: str | None = None
    review: str | None = None
    probe: str | None = None
    neighbors: str | None = None
    box: tuple[float, ...] | None = None


# What a table of findings has, in this order.
COLUMNS = tuple(f.name for f in fields(Finding) if f.name != "box")


@dataclass(frozen=True)
class ReportedRun:
    """A finished run and what it found in the view.

    Attributes:
        run: the run
        things: ``samples``, ``frames`` or ``objects``
        findings: what was flagged or grouped, what to look at first in front
        leaking: duplicates: the numbers of the groups with members in several splits
        separability: of ``compute_separability``: the report that it stored
    """

    run: Run
    things: str
    findings: tuple[Finding, ...] = ()
    leaking: frozenset[int] = frozenset()
    separability: dict[str, Any] | None = None


@dataclass(frozen=True)
class ReportedMap:
    """A map of vectors.

    Attributes:
        brain_key: its name
        made_at: when, in UTC (ISO 8601)
        things: ``samples``, ``frames`` or ``objects``
        facts: parameters and trust of its run
        points: ``(n, 2)`` float32, at most ``MAX_POINTS`` drawn at random
        labels: the label of each, or None
        label_field: the field of the labels, or None
        total: how many points the map has
    """

    brain_key: str
    made_at: str
    things: str
    facts: dict[str, Any]
    points: np.ndarray
    labels: tuple[str | None, ...]
    label_field: str | None
    total: int


@dataclass(frozen=True)
class Contents:
    """Everything that a report tells.

    Attributes:
        dataset: the name of the dataset
        num_samples: the samples of the view
        num_total: the samples of the dataset
        runs: the finished runs, in the order in which they are to be read
        maps: the maps
        left_out: why a run or a map is not reported, by its key
        stale: why a run or a map that is reported is out of date, by its key
        folder: the folder that all files of the dataset share, or None
    """

    dataset: str
    num_samples: int
    num_total: int
    runs: tuple[ReportedRun, ...]
    maps: tuple[ReportedMap, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    stale: dict[str, list[str]] = field(default_factory=dict)
    folder: str | None = None

    @property
    def findings(self) -> list[Finding]:
        return [finding for run in self.runs for finding in run.findings]

    def of(self, operator: str) -> list[ReportedRun]:
        """The runs of one operator."""
        return [reported for reported in self.runs if reported.run.operator == operator]


# Runs are read in this order; vectors first, then what is found first.
ORDER = ("compute_embeddings", *WHAT, SEPARABILITY)


def reportable(dataset: fo.Dataset) -> tuple[list[Run], list[str]]:
    """The finished runs with something to report, and the keys of the plugin's maps."""
    runs = [run for run in plugin_runs(dataset) if run.finished and run.operator in ORDER]
    maps = [
        (info.timestamp, key)
        for key in dataset.list_brain_runs(type="visualization")
        if hasattr((info := dataset.get_brain_info(key)).config, FACTS)
    ]
    runs.sort(key=lambda run: (ORDER.index(run.operator), run.key))
    return runs, [key for _, key in sorted(maps, reverse=True)]


def plan_report(dataset: fo.Dataset, run_keys: Sequence[str] | None) -> tuple[list[Run], list[str]]:
    """The runs and maps that a report will tell of, checked before any work is done.

    Args:
        dataset: the dataset
        run_keys: the keys of runs and maps; None for all finished runs and the latest map of each
            kind of things

    Raises:
        UserError: if a key is not that of a finished run or a map, or there is nothing to report
    """
    runs, maps = reportable(dataset)
    names = [run.key for run in runs] + maps
    found = [run.key for run in runs if run.operator != "compute_embeddings"] + maps
    if not found:
        raise UserError(
            "There is nothing to report yet; run find_duplicates first, or find_outliers, "
            "find_label_issues, compute_separability or compute_visualization"
        )
    if run_keys is not None:
        if unknown := [key for key in run_keys if key not in names]:
            raise UserError(
                f"run_keys: {unknown[0]!r} is no finished run or map of this plugin; there are: "
                f"{', '.join(names)}"
            )
        if not set(run_keys) & set(found):
            raise UserError(
                f"run_keys={list(run_keys)} names nothing that found something; name some of "
                f"{', '.join(found)}"
            )
        runs = [run for run in runs if run.key in run_keys]
        maps = [key for key in maps if key in run_keys]
    else:
        latest: dict[str | None, str] = {}
        for key in maps:
            latest.setdefault(dataset.get_brain_info(key).config.patches_field, key)
        maps = list(latest.values())
    return runs, maps


def read_contents(samples: Any, runs: Sequence[Run], map_keys: Sequence[str]) -> Contents:
    """Reads what runs found in a dataset or view, and maps.

    Raises:
        UserError: if nothing of it can be read in the terms of the view
    """
    dataset = samples._root_dataset
    if not len(samples):
        raise UserError("There are no samples in this view; choose another one, or the dataset")
    reported: list[ReportedRun] = []
    maps: list[ReportedMap] = []
    left_out: dict[str, str] = {}
    for run in runs:
        try:
            reported.append(_read_run(_target_of(samples, run), run))
        except UserError as error:
            left_out[run.key] = str(error)
    for key in map_keys:
        try:
            patches_field = dataset.get_brain_info(key).config.patches_field
            target = resolve_target(samples, patches_field)
            maps.append(_read_map(target, key, reported))
        except UserError as error:
            left_out[key] = str(error)
    if not maps and not any(run.run.operator != "compute_embeddings" for run in reported):
        reasons = "; ".join(f"{key}: {reason}" for key, reason in left_out.items())
        raise UserError(f"Nothing can be reported of this view ({reasons}); pass the dataset")
    # Patches and frames are counted by the samples that they are on.
    count = len(set(samples.values("sample_id"))) if samples._is_generated else len(samples)
    return Contents(
        dataset.name,
        count,
        len(dataset),
        tuple(reported),
        tuple(maps),
        left_out,
        _stale(dataset, {run.run.key for run in reported} | {one.brain_key for one in maps}),
        _folder(dataset),
    )


def _folder(dataset: fo.Dataset) -> str | None:
    """The folder that all files share; None if only one in which different people have theirs."""
    # They have an index; what the first and the last begin with, all begin with.
    first, last = (
        dataset._sample_collection.find_one(sort=[("filepath", order)])["filepath"]
        for order in (1, -1)
    )
    shared = os.path.commonprefix([first, last])  # noqa: RUF071
    folder = shared[: max(map(shared.rfind, "/\\")) + 1].rstrip("/\\")
    return None if EVERYBODYS.fullmatch(folder) else folder


def _stale(dataset: fo.Dataset, keys: set[str]) -> dict[str, list[str]]:
    """Why runs and maps are out of date, by the keys of those that are."""
    fingerprints: dict[Any, str] = {}
    found = {
        run.key: stale_reasons(dataset, run, fingerprints)
        for run in [*plugin_runs(dataset), *stored_maps(dataset)]
        if run.key in keys
    }
    return {key: reasons for key, reasons in found.items() if reasons}


def _target_of(samples: Any, run: Run) -> Target:
    """The view in the terms of a run.

    Raises:
        UserError: if the run is about other things
    """
    target = resolve_target(samples, run.facts.get("patches_field"))
    things = run.facts.get("things")
    if run.operator != "compute_embeddings" and things != target.about:
        raise UserError(f"it is about {things!r}, which this view does not show")
    return target


def _read_run(target: Target, run: Run) -> ReportedRun:
    things = "frames" if target.about == "frames" else target.things
    if run.operator == SEPARABILITY:
        stored = read_separability(target.dataset, run)
        return ReportedRun(run, things, separability=stored.report)
    if run.operator not in WHAT:
        return ReportedRun(run, things)
    what = WHAT[run.operator]
    condition = F(f"{run.key}_group") != None  # noqa: E711
    if what != DUPLICATE:
        condition = F(f"{run.key}_flagged") == True  # noqa: E712
    found = _matching(target, condition)
    if found is None:
        return ReportedRun(run, things)
    read = {DUPLICATE: _duplicates, OUTLIER: _outliers, LABEL_ISSUE: _label_issues}[what]
    rows = list(read(found, run))
    findings = tuple(replace(finding, rank=rank) for rank, finding in enumerate(rows, 1))
    leaking = _leaking(target, run) if what == DUPLICATE else frozenset()
    return ReportedRun(run, things, findings, leaking)


def _matching(target: Target, condition: Any) -> Target | None:
    """What of a target meets a condition on it; None if nothing does."""
    if target.patches_field is None:
        view = target.view.match(condition)
    else:
        view = target.view.filter_labels(target.patches_field, condition)
    found = replace(target, view=view)
    return found if len(view) and found.ids() else None


def _base(found: Target, run: Run) -> Iterator[dict[str, Any]]:
    """What all findings have in common, in the order of the ids."""
    ids = found.ids()
    items = {
        id_: (item.sample_id, item.filepath, box)
        for item in found.items(set(ids))
        for id_, box in zip(item.ids, item.boxes or [None])
    }
    for id_, label in zip(ids, _labels(found, run.facts["parameters"]["label_field"], ids)):
        sample_id, filepath, box = items[id_]
        yield {
            "what": WHAT[run.operator],
            "run_key": run.key,
            "rank": 0,
            "id": id_,
            "sample_id": sample_id,
            "filepath": filepath,
            "box": box,
            "label": label,
        }


def _labels(found: Target, label_field: str | None, ids: Sequence[str]) -> list[str | None]:
    """The labels that a run was told of, as they are now."""
    label_field = label_field or found.patches_field
    if label_field is None:
        return [None] * len(ids)
    try:
        if is_multilabel(found, label_field):
            sets = read_label_sets(found, label_field, ids)
            return [None if labels is None else ", ".join(sorted(labels)) for labels in sets]
        return read_labels(found, label_field, ids)
    except UserError:  # the field is gone, or empty here
        return [None] * len(ids)


def _values(found: Target, run: Run, *columns: str) -> Iterator[tuple[Any, ...]]:
    """The values of fields of the run, in the order of the ids."""
    ids = found.ids()
    return zip(*(read_values(found, f"{run.key}_{column}", ids) for column in columns))


def _duplicates(found: Target, run: Run) -> list[Finding]:
    columns = ("group", "kind", "keep", "change", "similarity", "agreement")
    bases = list(_base(found, run))
    splits = [None] * len(bases)
    if run.facts["parameters"]["split"] is not None:
        samples = [base["sample_id"] for base in bases]
        with contextlib.suppress(UserError):  # the field is gone
            splits = read_splits(found, run.facts["parameters"]["split"], samples)
    rows = [
        Finding(**base, **dict(zip(columns, values)), split=split)
        for base, values, split in zip(bases, _values(found, run, *columns), splits)
    ]
    return sorted(rows, key=lambda row: (row.group, not row.keep, row.id))


def _outliers(found: Target, run: Run) -> list[Finding]:
    rows = [
        Finding(**base, score=score, reason=reason)
        for base, (score, reason) in zip(_base(found, run), _values(found, run, "score", "reason"))
    ]
    return sorted(rows, key=lambda row: (-(row.score or 0), row.id))


def _label_issues(found: Target, run: Run) -> list[Finding]:
    bases = list(_base(found, run))
    multilabel = found.patches_field is None and is_multilabel(
        found, run.facts["parameters"]["label_field"]
    )
    read = _several_labels if multilabel else _one_label
    rows = [Finding(**base, **values) for base, values in zip(bases, read(found, run))]
    return sorted(rows, key=lambda row: (row.quality if row.quality is not None else 1, row.id))


def _one_label(found: Target, run: Run) -> Iterator[dict[str, Any]]:
    # Labels cannot be attributes of objects, which have their names instead.
    part, confidence = ".label", "suggested.confidence"
    if found.patches_field is not None:
        part, confidence = "", "confidence"
    columns = ("quality", "review", f"suggested{part}", confidence, f"probe{part}")
    for quality, review, suggestion, sure, probe, neighbors in _values(
        found, run, *columns, f"neighbors{part}"
    ):
        yield {
            "quality": quality,
            "review": review,
            "suggestion": suggestion,
            "confidence": sure,
            "probe": probe,
            "neighbors": neighbors,
        }


def _several_labels(found: Target, run: Run) -> Iterator[dict[str, Any]]:
    names = [f"{run.key}_{what}" for what in ("wrong", "missing")]
    names = [name for name in names if found.view.get_field(name) is not None]
    columns = found.view.values(["id", *names])
    lists = {id_: dict(zip(names, values)) for id_, *values in zip(*columns)}
    for id_, (quality,) in zip(found.ids(), _values(found, run, "quality")):
        told = [
            f"{what}: {', '.join(lists[id_][name])}"
            for what in ("wrong", "missing")
            if lists[id_].get(name := f"{run.key}_{what}")
        ]
        yield {"quality": quality, "reason": "; ".join(told) or None}


def _leaking(target: Target, run: Run) -> frozenset[int]:
    name = f"{run.key}: leaks"
    if name not in run.views or not target.dataset.has_saved_view(name):
        return frozenset()
    prefix = "" if target.patches_field is None else f"{target.patches_field}."
    groups = target.dataset.load_saved_view(name).values(f"{prefix}{run.key}_group")
    return frozenset(group for group in groups if group is not None)


def _read_map(target: Target, key: str, runs: Sequence[ReportedRun]) -> ReportedMap:
    stored = read_map(target, key)
    if stored is None:
        raise UserError("its points are gone")
    present = set(target.ids())
    rows = np.array([row for row, id_ in enumerate(stored.ids) if id_ in present], np.int64)
    if not len(rows):
        raise UserError("it shows nothing of this view")
    total = len(rows)
    if total > MAX_POINTS:
        rows = np.sort(np.random.default_rng(SEED).choice(rows, MAX_POINTS, replace=False))
    things = "frames" if target.about == "frames" else target.things
    label_field = next(
        (
            name
            for run in reversed(runs)
            if run.things == things
            and run.run.facts.get("patches_field") == target.patches_field
            and (name := run.run.facts.get("parameters", {}).get("label_field"))
        ),
        next(iter(label_fields(target)), None),
    )
    labels = _labels(target, label_field, [stored.ids[row] for row in rows])
    facts = {name: value for name, value in stored.facts.items() if name != "projection"}
    made_at = target.dataset.get_brain_info(key).timestamp.isoformat(timespec="seconds")
    return ReportedMap(
        key, made_at, things, facts, stored.points[rows][:, :2], tuple(labels), label_field, total
    )
