"""How much of each class is flagged now: counted when it is shown, for reviews go on."""

from collections import Counter
from typing import Any

import fiftyone as fo

from .few import path_of, rows_where
from .patch_names import SEPARATOR
from .runs import Run, plugin_runs
from .target import About
from .targets import about_of

# The flags that are counted for each class, and the operators that write them.
FLAGS = {"label_issues": "find_label_issues", "outliers": "find_outliers"}


def with_flags(
    dataset: fo.Dataset, about: About, report: dict[str, Any], of_class: dict[str, str]
) -> dict[str, Any]:
    """A report with how much of each class is flagged now, by the latest runs of each check.

    Args:
        dataset: the dataset
        about: what the report is about
        report: the report
        of_class: the class of each id that was read

    Returns:
        the report with ``label_issues_run`` and ``outliers_run``, which are None where there is no
        such run, and with ``label_issues`` and ``outliers`` in its ``classes``
    """
    found, counts = {}, {}
    for name, run in flag_runs(dataset, about, report["label_field"]).items():
        found[f"{name}_run"] = run.key if run else None
        ids = _flagged_ids(dataset, about, f"{run.key}_flagged") if run else []
        counts[name] = Counter(map(of_class.get, ids)) if run else None
    classes = [
        {**row, **{name: None if by is None else by[row["label"]] for name, by in counts.items()}}
        for row in report["classes"]
    ]
    return {**report, "classes": classes, **found}


def flag_runs(dataset: fo.Dataset, about: About, label_field: str) -> dict[str, Run | None]:
    """The latest run of each check that flags the same samples or patches by the same classes."""
    runs: dict[str, Run | None] = {}
    for name, operator in FLAGS.items():
        fitting = [
            run
            for run in plugin_runs(dataset, operator)
            if run.finished
            and run.facts.about == about
            and run.facts.label_field in (None, label_field)
            and (about.frames or dataset.get_field(path_of(dataset, about, f"{run.key}_flagged")))
        ]
        latest = max(fitting, key=lambda run: (run.written_at or "", run.key), default=None)
        runs[name] = latest
    return runs


def _flagged_ids(dataset: fo.Dataset, about: About, flag: str) -> list[str]:
    """What is flagged, by the ids under which runs know it."""
    if about.frames:
        values = about_of(dataset, about).values(flag)
        return [id_ for id_, (flagged,) in values.items() if flagged]
    rows = rows_where(dataset, about, {flag: [True]})
    # Patches are known by their labels alone where these are of one sample.
    return [id_ for (name,) in rows for id_ in {name, name.partition(SEPARATOR)[0]}]
