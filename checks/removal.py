"""Removes redundant duplicates from a dataset, or tags them. Files are never touched."""

import time
from typing import Any

import fiftyone as fo

from ..errors import UserError
from ..storage.few import path_of, rows_where
from ..storage.locks import writing
from ..storage.patch_names import SEPARATOR
from ..storage.paths import check_writable
from ..storage.reviews import REMOVE
from ..storage.runs import Run, plugin_runs, read_run
from .duplicates import DUPLICATES
from .finding_reviews import check_taggable, removal_tag

TAG, DELETE = "tag", "delete"


def duplicate_runs(dataset: fo.Dataset) -> list[Run]:
    """The finished runs of ``find_duplicates``, the latest first."""
    runs = [run for run in plugin_runs(dataset, DUPLICATES.name) if run.finished]
    return sorted(runs, key=lambda run: (run.written_at or "", run.key), reverse=True)


def redundant_ids(
    dataset: fo.Dataset, run_key: str, confirmed: bool = False, exact: bool = False
) -> tuple[Run, list[str]]:
    """A run and what is redundant by it: of patches the labels with their samples.

    Args:
        dataset: the dataset
        run_key: the run of ``find_duplicates``
        confirmed (False): only those that a person has tagged to be removed
        exact (False): only exact copies

    Raises:
        UserError: if there is no such run
    """
    run = read_run(dataset, run_key)
    if run is None or run.operator != DUPLICATES.name or not run.finished:
        names = ", ".join(one.key for one in duplicate_runs(dataset)) or "none"
        raise UserError(
            f"run_key={run_key!r} is not a finished run of find_duplicates; there are: {names}"
        )
    if run.facts.about.frames:
        raise UserError(f"run_key={run_key!r} covers frames of videos, which cannot be removed")
    about = run.facts.about
    keep, kind, review = (f"{run_key}_{name}" for name in ("keep", "kind", "review"))
    if confirmed and dataset.get_field(path_of(dataset, about, review)) is None:
        return run, []
    columns = [kind, *([review] if confirmed else [])]
    rows = rows_where(dataset, about, {keep: [False]}, *columns)
    return run, sorted(
        id_
        for id_, kind_of, *said in rows
        if (not exact or kind_of == "exact") and (not confirmed or said == [REMOVE])
    )


def remove_redundant(
    samples: fo.Dataset | fo.DatasetView,
    *,
    action: str = TAG,
    confirmed: bool = False,
    exact: bool = False,
    run_key: str = "duplicates",
) -> dict[str, Any]:
    """Tags redundant duplicates, or deletes them from the dataset.

    Args:
        samples: the dataset, or a view of the samples that are meant
        action, confirmed, exact, run_key: as of the operator

    Raises:
        UserError: if the input is at fault; nothing is changed then
    """
    started, dataset = time.monotonic(), samples._root_dataset
    if action not in (TAG, DELETE):
        raise UserError(f"action={action!r} is not known; choose {TAG!r} or {DELETE!r}")
    with writing(dataset, run_key):
        run, ids = redundant_ids(dataset, run_key, confirmed, exact)
        ids = _within(samples, run, ids)
        if ids:
            if action == TAG:
                check_taggable(dataset, run, "action")
            elif run.facts.about.patches_field is not None:
                check_writable(dataset, "action", run.facts.about.path)
            _act(dataset, run, ids, action)
    return {
        "run_key": run_key,
        "action": action,
        "things": run.facts.about.noun,
        "removed": len(ids) if action == DELETE else 0,
        "tagged": len(ids) if action == TAG else 0,
        "tag": removal_tag(run) if action == TAG else None,
        "left": dataset.count(path_of(dataset, run.facts.about, "id")),
        "seconds": round(time.monotonic() - started, 2),
    }


def _within(samples: fo.Dataset | fo.DatasetView, run: Run, ids: list[str]) -> list[str]:
    """Those of the ids that a view holds.

    Raises:
        UserError: if the view is one of patches, frames or clips, or the run is of patches
    """
    if isinstance(samples, fo.Dataset):
        return ids
    if type(samples) is not fo.DatasetView or run.facts.about.patches_field is not None:
        raise UserError(
            f"Redundant {run.facts.about.noun} of run_key={run.key!r} are removed from the whole "
            "dataset: pass the dataset; confirmed=True removes what was tagged in a review only"
        )
    held = set(samples.values("id"))
    return [id_ for id_ in ids if id_ in held]


def _act(dataset: fo.Dataset, run: Run, ids: list[str], action: str) -> None:
    field = run.facts.about.patches_field
    if field is None:
        if action == DELETE:
            dataset.delete_samples(ids)
        else:
            dataset.select(ids).tag_samples(removal_tag(run))
        return
    parts = [id_.partition(SEPARATOR) for id_ in ids]
    labels = [
        {"label_id": label_id, "sample_id": sample_id, "field": field}
        for label_id, _, sample_id in parts
    ]
    if action == DELETE:
        dataset.delete_labels(labels=labels, fields=field)
    else:
        dataset.select_labels(labels=labels).tag_labels(removal_tag(run), label_fields=field)
