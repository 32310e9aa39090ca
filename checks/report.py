"""Reads what a report shows of a dataset: finished runs, each with what it found, and plots.

Only what was found is read, not the rest of the dataset. What a check found is read by its
declaration; what cannot be read in the terms of the given view is skipped with a reason.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import fiftyone as fo
import fiftyone.core.patches as fop
import fiftyone.core.video as fovi
import numpy as np
from fiftyone import ViewField as F

from ..errors import UserError
from ..storage.labels import label_fields, read_label_texts, shown_text
from ..storage.metadata import read_splits
from ..storage.paths import common_folder
from ..storage.runs import Run, evaluated_ids, plugin_runs
from ..storage.separability import StoredSeparability, read_separability
from ..storage.staleness import Reader, stale_reasons
from ..storage.target import About, Target
from ..storage.targets import resolve_target
from ..storage.visualizations import read_visualization, stored_visualizations
from .contents import SPLIT, Contents, Finding, ReportedRun, ReportedVisualization
from .contract import FindingFields
from .description import DESCRIPTION
from .duplicates import DUPLICATES
from .embeddings import EMBEDDINGS
from .registry import CHECKS, check_of
from .separability import SEPARABILITY, weak_classes
from .verdicts import class_advice
from .visualization import VISUALIZATION

# Points of a plot that a report draws, and the seed of their choice.
MAX_POINTS, SEED = 5000, 51

# Runs that say what embeddings are of, and nothing of the samples.
WITHOUT_FINDINGS = (EMBEDDINGS.name, DESCRIPTION.name)

# Planning


def reportable(dataset: fo.Dataset) -> tuple[list[Run], list[Run]]:
    """The finished runs with something to report, and the plugin's plots, the latest first."""
    order = {check.name: place for place, check in enumerate(CHECKS)}
    runs = [
        run
        for run in plugin_runs(dataset)
        if run.operator in order and (run.finished or run.unreadable)
    ]
    runs.sort(key=lambda run: (order[run.operator], run.key))
    visualizations = [
        run for run in stored_visualizations(dataset) if run.finished or run.unreadable
    ]
    return runs, sorted(
        visualizations, key=lambda run: (run.written_at or "", run.key), reverse=True
    )


def plan_report(dataset: fo.Dataset, run_keys: Sequence[str] | None) -> tuple[list[Run], list[Run]]:
    """The runs and plots that a report will show, checked before any work is done.

    Args:
        dataset: the dataset
        run_keys: the keys of runs and plots; None for all finished runs and the latest plot of
            each kind of samples or patches

    Raises:
        UserError: if a key is not that of a finished run or a plot, or there is nothing to report
    """
    runs, visualizations = reportable(dataset)
    names = [run.key for run in [*runs, *visualizations]]
    found = [run.key for run in [*runs, *visualizations] if run.operator not in WITHOUT_FINDINGS]
    if not found:
        operators = [check.name for check in CHECKS if check.would_find]
        raise UserError(
            f"There is nothing to report yet; run {', '.join(operators)} or {VISUALIZATION.name} "
            "first"
        )
    if run_keys is not None:
        if unknown := [key for key in run_keys if key not in names]:
            raise UserError(
                f"run_keys: {unknown[0]!r} is not a finished run or visualization of this plugin; "
                f"there are: {', '.join(names)}"
            )
        if not set(run_keys) & set(found):
            raise UserError(
                f"run_keys={list(run_keys)} selects no run with findings; choose from "
                f"{', '.join(found)}"
            )
        runs = [run for run in runs if run.key in run_keys]
        visualizations = [run for run in visualizations if run.key in run_keys]
    else:
        latest: dict[About, Run] = {}
        for run in visualizations:
            latest.setdefault(run.facts.about, run)
        visualizations = list(latest.values())
    return runs, visualizations


# Reading


def read_contents(samples: Any, runs: Sequence[Run], visualizations: Sequence[Run]) -> Contents:
    """Reads what runs found in a dataset or view, and plots.

    Raises:
        UserError: if nothing of it can be read in the terms of the view
    """
    dataset = samples._root_dataset
    if not len(samples):
        raise UserError("There are no samples in this view; choose another one, or the dataset")
    reported: list[ReportedRun] = []
    plots: list[ReportedVisualization] = []
    left_out: dict[str, str] = {}
    reader = Reader(dataset)
    for run in (*runs, *visualizations):
        try:
            if run.unreadable:
                raise UserError(stale_reasons(run, reader)[0])
            target = _target_of(samples, run.facts.about)
            if run.operator == VISUALIZATION.name:
                plots.append(_read_visualization(target, run, reported))
            else:
                reported.append(_read_run(target, run))
        except UserError as error:
            left_out[run.key] = str(error)
    if not plots and not any(one.run.operator not in WITHOUT_FINDINGS for one in reported):
        why = "; ".join(f"{key}: {reason}" for key, reason in left_out.items())
        raise UserError(f"There is nothing to report for this view ({why}); pass the dataset")
    reported_runs = [run for run in (*runs, *visualizations) if run.key not in left_out]
    stale = {run.key: reasons for run in reported_runs if (reasons := stale_reasons(run, reader))}
    return Contents(
        dataset.name,
        num_samples(samples),
        len(dataset),
        tuple(reported),
        tuple(plots),
        left_out,
        stale,
        common_folder(dataset),
    )


def num_samples(samples: Any) -> int:
    """The samples of a view; patches and frames are counted by the samples that they are on."""
    return len(set(samples.values("sample_id" if samples._is_generated else "id")))


def _target_of(samples: Any, about: About) -> Target:
    """A dataset or view in the terms of a run.

    Raises:
        UserError: if the run is about something that the view does not show
    """
    if isinstance(samples, fop.PatchesView):
        shown = resolve_target(samples)
        if shown.about != about:
            raise UserError(f"it covers {about.words}, which this view does not contain")
        return shown
    if about.frames and samples.media_type == fo.core.media.VIDEO:
        samples = samples.to_frames()
    if about.frames != isinstance(samples, fovi.FramesView):
        raise UserError(f"it covers {about.words}, which this view does not contain")
    return resolve_target(samples, about.patches_field)


def _read_run(target: Target, run: Run) -> ReportedRun:
    if run.operator == SEPARABILITY.name:
        return ReportedRun(run, separability=_with_advice(read_separability(target.dataset, run)))
    check = check_of(run.operator)
    if check is None or check.finding is None:
        return ReportedRun(run)
    found = _found(target, run, check.finding)
    if found is None:
        return ReportedRun(run)
    leaking = _leaking(target, run) if check is DUPLICATES else frozenset()
    return ReportedRun(run, tuple(_findings(found, run, check.finding)), leaking)


def _with_advice(stored: StoredSeparability) -> dict[str, Any]:
    """The report of a run, with what to do about each class, and which ones are ``weak``."""
    weak = {row["label"] for row in weak_classes(stored.report["classes"])}
    classes = [
        {**row, "advice": class_advice(row, stored.classes), "weak": row["label"] in weak}
        for row in stored.report["classes"]
    ]
    return {**stored.report, "classes": classes}


def _found(target: Target, run: Run, declared: FindingFields) -> Target | None:
    """What of a target a run has found; None if it is nothing."""
    name = f"{run.key}_{declared.column}"
    if not target.has_field(name):
        raise UserError(f"its field {name} no longer exists")
    # A flag that is false is a value, too.
    is_flag = isinstance(target.all_samples.get_field(target.path(name)), fo.BooleanField)
    condition = F(name) == True if is_flag else F(name) != None  # noqa: E711, E712
    samples = target.showing(target.path(name))
    if target.patches_field is None:
        view = samples.match(condition)
    else:
        view = samples.filter_labels(target.patches_field, condition)
    ids = Target(target.dataset, view, target.patches_field, target.chosen).ids()
    known = evaluated_ids(target.dataset, run)
    if known is not None:
        # Samples that were merged into this dataset bring values of another run.
        evaluated = set(known)
        ids = [id_ for id_ in ids if id_ in evaluated]
    return target.only(ids) if ids else None


def _findings(found: Target, run: Run, declared: FindingFields) -> list[Finding]:
    """What was found, what to look at first in front."""
    ids = found.ids()
    items = {
        id_: (item.sample_id, item.filepath, box)
        for item in found.items(set(ids))
        for id_, box in zip(item.ids, item.boxes or [None])
    }
    rows = declared.rows(found, run)
    order = _ordered(rows, ids, declared)
    labels = _labels(found, run.facts.label_field, ids)
    splits = _splits(found, run, [items[id_][0] for id_ in ids])
    return [
        Finding(
            declared.kind,
            run.key,
            rank,
            ids[place],
            items[ids[place]][0],
            items[ids[place]][1],
            labels[place],
            items[ids[place]][2],
            {**rows[place], SPLIT: splits[place]},
        )
        for rank, place in enumerate(order, 1)
    ]


def _ordered(
    rows: Sequence[Mapping[str, Any]], ids: Sequence[str], declared: FindingFields
) -> list[int]:
    """The places of the rows in the order of a declaration; what has no value comes last."""

    def key(place: int) -> tuple:
        values = ((rows[place].get(name), sign) for name, sign in declared.order)
        return (
            *((value is None, sign * value if value is not None else 0) for value, sign in values),
            ids[place],
        )

    return sorted(range(len(ids)), key=key)


def _labels(found: Target, label_field: str | None, ids: Sequence[str]) -> list[str | None]:
    """The labels that a run was given, as they are now."""
    label_field = found.patches_field or label_field
    if label_field is None:
        return [None] * len(ids)
    try:
        return [shown_text(text) for text in read_label_texts(found, label_field, ids)]
    except UserError:  # the field no longer exists, or is empty here
        return [None] * len(ids)


def _splits(found: Target, run: Run, sample_ids: Sequence[str]) -> list[str | None]:
    if run.facts.parameters.get("split") is not None:
        with contextlib.suppress(UserError):  # the field no longer exists
            return read_splits(found, run.facts.parameters["split"], sample_ids)
    return [None] * len(sample_ids)


def _leaking(target: Target, run: Run) -> frozenset[int]:
    name = f"{run.key}: leaks"
    if name not in run.views or not target.dataset.has_saved_view(name):
        return frozenset()
    prefix = "" if target.patches_field is None else f"{target.patches_field}."
    groups = target.dataset.load_saved_view(name).values(f"{prefix}{run.key}_group")
    return frozenset(group for group in groups if group is not None)


def _read_visualization(
    target: Target, run: Run, reported: Sequence[ReportedRun]
) -> ReportedVisualization:
    stored = read_visualization(target, run.key)
    if stored is None:
        raise UserError("its points no longer exist")
    present = target.sample_ids
    rows = np.array([row for row, id_ in enumerate(stored.ids) if id_ in present], np.int64)
    if not len(rows):
        raise UserError("it shows no samples of this view")
    total = len(rows)
    if total > MAX_POINTS:
        rows = np.sort(np.random.default_rng(SEED).choice(rows, MAX_POINTS, replace=False))
    label_field = next(
        (
            name
            for one in reversed(reported)
            if one.run.facts.about == target.about and (name := one.run.facts.label_field)
        ),
        next(iter(label_fields(target)), None),
    )
    shown = target.only([stored.ids[row] for row in rows])
    labels = _labels(shown, label_field, [stored.ids[row] for row in rows])
    facts = {name: value for name, value in run.facts.as_dict().items() if name != "projection"}
    return ReportedVisualization(
        run.key,
        run.written_at or "",
        target.noun,
        facts,
        stored.points[rows][:, :2],
        tuple(labels),
        label_field,
        total,
    )
