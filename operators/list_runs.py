"""``list_runs``: what the plugin has done to a dataset, and whether it still holds."""

import time
from typing import Any

import fiftyone.operators.types as types

from ..storage.graphs import OPERATOR as GRAPH
from ..storage.maps import stored_maps
from ..storage.runs import Run, plugin_runs
from ..storage.staleness import stale_reasons
from .base import QualityOperator
from .progress import Progress

# What counts as found, by operator.
FOUND = {
    "find_duplicates": ("redundant", "redundant"),
    "find_outliers": ("flagged", "flagged"),
    "find_label_issues": ("flagged", "flagged"),
    GRAPH: ("rows", "rows"),
}


class ListRuns(QualityOperator):
    name = "list_runs"
    label = "Quality: list runs"
    description = (
        "List what this plugin has computed on the dataset: which operator, when, with which "
        "parameters, how much it found, what it wrote, and whether it is out of date and why"
    )
    icon = "history"
    risk_level = "low"

    def run(self, samples: Any, progress: Progress, *, check: bool = True) -> dict[str, Any]:
        """Lists the runs of the plugin on a dataset.

        Args:
            samples: a dataset, or a view of it
            check (True): also tell which runs are out of date, which reads vectors and labels

        Returns:
            a dict with ``runs``: a list of dicts with ``run_key``, ``operator``, ``written_at``,
            ``parameters``, ``found``, how many were ``read``, ``judged`` and ``skipped`` (by
            reason), ``finished``, ``stale`` (None if not checked), ``reasons``, ``fields`` and
            ``views``
        """
        started = time.monotonic()
        dataset = samples._root_dataset
        dataset.reload()
        progress.say("Comparing the runs with the dataset")
        fingerprints: dict[Any, str] = {}
        rows = []
        for run in plugin_runs(dataset):
            reasons = stale_reasons(dataset, run, fingerprints) if check else None
            rows.append(_row(run, reasons))
        for run in stored_maps(dataset):
            reasons = stale_reasons(dataset, run, fingerprints) if check else None
            rows.append(_row(run, reasons))
        rows.sort(key=lambda row: (row["written_at"] or "", row["run_key"]), reverse=True)
        return {
            "dataset": dataset.name,
            "runs": rows,
            "seconds": round(time.monotonic() - started, 2),
        }

    def samples(self, ctx: Any) -> Any:
        """The dataset; a run is one of all of it, so that the form asks for no target."""
        return ctx.dataset

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        inputs.bool(
            "check",
            default=True,
            label="Check whether runs are out of date",
            description="Reads the vectors and labels that they were made of",
        )

    def summary(self, result: dict[str, Any]) -> str:
        if not result["runs"]:
            return "This plugin has no runs on this dataset"
        lines = [
            "| Run | Operator | When (UTC) | Judged | Found | State |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for row in result["runs"]:
            state = "; ".join(row["reasons"] or ()) or (
                "up to date" if row["stale"] is False else ""
            )
            when = (row["written_at"] or "")[:16].replace("T", " ")
            lines.append(
                f"| `{row['run_key']}` | {row['operator']} | {when} | {_judged(row)} "
                f"| {row['found']} | {state} |"
            )
        return "\n".join(lines)


def _judged(row: dict[str, Any]) -> str:
    read, judged = row["read"], row["judged"]
    if read is None or judged is None:
        return ""
    return f"{judged:,}" if judged == read else f"{judged:,} of {read:,}"


def _row(run: Run, reasons: list[str] | None) -> dict[str, Any]:
    facts = run.facts
    judged, skipped = facts.get("judged"), facts.get("skipped") or {}
    key, unit = FOUND.get(run.operator, (None, ""))
    found = f"{facts[key]:,} {unit}" if facts.get(key) is not None else ""
    if run.operator == "compute_embeddings" and facts.get("read") is not None:
        judged = facts["read"] - facts["failed"]
        skipped = {failure["reason"]: failure["count"] for failure in facts["failures"]}
        found = f"{judged:,} vectors"
    elif run.operator == "compute_separability" and run.finished:
        found = f"balanced accuracy {facts['overall']['balanced_accuracy'] or 0:.0%}"
    elif run.operator == "compute_visualization":
        judged = facts["num_points"]
        found = f"trustworthiness {facts['trustworthiness']:.3f}"
    return {
        "run_key": run.key,
        "operator": run.operator,
        "written_at": run.written_at,
        "parameters": dict(facts.get("parameters") or {}),
        "found": found,
        "read": facts.get("read"),
        "judged": judged,
        "skipped": dict(skipped),
        "finished": run.finished,
        "stale": None if reasons is None else bool(reasons),
        "reasons": reasons,
        "fields": list(run.fields),
        "views": list(run.views),
        "seconds": facts.get("seconds"),
    }
