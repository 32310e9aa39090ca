"""``list_runs``: what the plugin has done to a dataset, and whether it still holds."""

import time
from typing import Any

import fiftyone.operators.types as types

from ..checks.order_effects import ORDER_EFFECTS
from ..checks.progress import Progress, percent
from ..checks.registry import check_of
from ..markup import code, markdown
from ..storage.graphs import OPERATOR as GRAPH
from ..storage.removal import left_behind, removable
from ..storage.runs import COMPUTING, DESCRIBING, REDUCING, Run
from ..storage.search_index import OPERATOR as SIMILARITY_INDEX
from ..storage.staleness import Reader, stale_reasons
from ..storage.visualizations import OPERATOR as VISUALIZATION
from .base import QualityOperator

WITHOUT_RUN = (
    "its run does not exist here, as in the clone of a view; run the operator again, or delete it"
)


class ListRuns(QualityOperator):
    name = "list_runs"
    label = "Quality: list runs"
    description = (
        "List what this plugin has computed on the dataset: operator, time, parameters, number "
        "of findings, what was written, and whether it is out of date and why"
    )
    icon = "history"
    risk_level = "low"

    def run(self, samples: Any, progress: Progress, *, check: bool = True) -> dict[str, Any]:
        """Lists the runs of the plugin on a dataset.

        Args:
            samples: a dataset, or a view of it
            check (True): also say which runs are out of date, which reads embeddings and labels

        Returns:
            a dict with ``runs``: a list of dicts with ``run_key``, ``operator``, ``written_at``,
            ``parameters``, ``model`` (what made the embeddings, if it is known), ``found``, how
            many were ``read``, ``judged`` and ``skipped`` (by reason), ``finished``, ``stale``
            (None if not checked), ``reasons``, ``fields`` and ``views``
        """
        started = time.monotonic()
        dataset = samples._root_dataset
        dataset.reload()
        progress.say("Comparing the runs with the dataset")
        reader = Reader(dataset)
        orphans = {run.key for run in left_behind(dataset)}
        # Those that read the same embeddings one after the other, which are read once then.
        runs = sorted(
            removable(dataset), key=lambda run: (run.facts.about.path, run.facts.embeddings)
        )
        rows = []
        for run in runs:
            reasons = None
            if check:
                reasons = [WITHOUT_RUN] if run.key in orphans else stale_reasons(run, reader)
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
            label="Check for out-of-date runs",
            description="Reads the embeddings and labels again",
        )

    def summary(self, result: dict[str, Any]) -> str:
        if not result["runs"]:
            return "This plugin has no runs on this dataset"
        lines = [
            "| Run | Operator | When (UTC) | Evaluated | Found | State |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for row in result["runs"]:
            state = "; ".join(row["reasons"] or ()) or (
                "up to date" if row["stale"] is False else ""
            )
            when = (row["written_at"] or "")[:16].replace("T", " ")
            lines.append(
                f"| {code(row['run_key'])} | {row['operator']} | {when} | {_evaluated(row)} "
                f"| {_found_by(row)} | {markdown(state)} |"
            )
        return "\n".join(lines)


def _evaluated(row: dict[str, Any]) -> str:
    read, evaluated = row["read"], row["judged"]
    if read is None or evaluated is None:
        return ""
    return f"{evaluated:,}" if evaluated == read else f"{evaluated:,} of {read:,}"


def _found_by(row: dict[str, Any]) -> str:
    """What was found; of embeddings with the model that made them."""
    if row["operator"] in (COMPUTING, DESCRIBING) and row["model"] and row["found"]:
        return f"{row['found']}: {markdown(row['model'])}"
    return row["found"]


def _row(run: Run, reasons: list[str] | None) -> dict[str, Any]:
    facts = run.facts
    return {
        "run_key": run.key,
        "operator": run.operator,
        "written_at": run.written_at,
        "parameters": dict(facts.parameters),
        "model": facts.model,
        "found": _found(run),
        "read": facts.read,
        "judged": facts.evaluated,
        "skipped": dict(facts.skipped),
        "finished": run.finished,
        "stale": None if reasons is None else bool(reasons),
        "reasons": reasons,
        "fields": list(run.fields),
        "views": list(run.views),
        "seconds": facts.seconds,
    }


def _found(run: Run) -> str:
    """What a run has found, in words."""
    special, check = run.facts.special, check_of(run.operator)
    if not run.finished:
        return ""
    if check is not None and check.count is not None:
        fact, unit = check.count
        return f"{special[fact]:,} {unit}" if special.get(fact) is not None else ""
    if run.operator == GRAPH:
        return f"{special.get('rows', 0):,} rows"
    if run.operator == COMPUTING:
        return f"{run.facts.evaluated or 0:,} embeddings"
    if run.operator == DESCRIBING:
        return f"{run.facts.evaluated or 0:,} embeddings, {special.get('dim', 0):,} dimensions"
    if run.operator == SIMILARITY_INDEX:
        return "search by image" + (" and text" if special.get("text_search") else "")
    if run.operator == REDUCING:
        return f"{run.facts.evaluated or 0:,} embeddings, {special.get('dim', 0):,} dimensions"
    if run.operator == VISUALIZATION:
        return f"trustworthiness {special.get('trustworthiness', 0):.3f}"
    if run.operator == ORDER_EFFECTS.name:
        return "neighbors in the order are alike" if special.get("differ") else "no effect"
    if (overall := special.get("overall")) is None:
        return ""
    return f"balanced accuracy {percent(overall.get('balanced_accuracy') or 0)}"
