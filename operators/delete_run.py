"""``delete_run``: takes away all that a run wrote, and nothing else."""

import time
from typing import Any

import fiftyone.operators.types as types

from ..checks.progress import Progress, counted
from ..errors import UserError
from ..markup import code
from ..storage.removal import owned_by, removable, remove
from .base import QualityOperator


class DeleteRun(QualityOperator):
    name = "delete_run"
    label = "Quality: delete run"
    description = (
        "Delete a run of this plugin and everything it wrote to the dataset: fields, saved "
        "views, stored results, visualizations and indexes. Files and your own labels are kept"
    )
    icon = "delete"
    risk_level = "dangerous"

    def run(self, samples: Any, progress: Progress, *, run_key: str) -> dict[str, Any]:
        """Deletes a run and what it wrote.

        Labels that ``review_label_issues`` has changed stay as they are; undo the reviews first to
        have the originals again.

        Args:
            samples: a dataset, or a view of it
            run_key: the run, as ``list_runs`` names it

        Returns:
            a dict with the ``fields``, ``views``, ``runs`` and ``brain_runs`` that were removed

        Raises:
            UserError: if the plugin has no such run
        """
        started = time.monotonic()
        dataset = samples._root_dataset
        removed = remove(dataset, run_key)
        return {
            "run_key": run_key,
            "fields": removed.fields,
            "views": removed.views,
            "runs": removed.runs,
            "brain_runs": removed.brain_runs,
            "seconds": round(time.monotonic() - started, 2),
        }

    def samples(self, ctx: Any) -> Any:
        """The dataset; a run is one of all of it, so that the form asks for no target."""
        return ctx.dataset

    def links(self, result: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
        return []  # its saved views are those that no longer exist

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        dataset = samples._root_dataset
        dataset.reload()
        runs = {run.key: run for run in removable(dataset)}
        if not runs:
            raise UserError("This plugin has no runs on this dataset")
        choices = types.DropdownView()
        for run in runs.values():
            choices.add_choice(run.key, label=f"{run.key} ({run.operator})")
        inputs.enum("run_key", choices.values(), required=True, view=choices, label="Run")
        key = ctx.params.get("run_key")
        if key not in runs:
            return
        owned = owned_by(dataset, key)
        names = [*owned.fields, *owned.views, *owned.brain_runs]
        text = f"Will be deleted: {', '.join(names) or 'the stored results'}"
        reviews = runs[key].facts.special.get("reviews") or {}
        if reviews.get("reviewed"):
            text += (
                f". {counted(reviews['reviewed'], 'review')} of labels will be deleted; labels "
                "that they changed stay changed unless you undo the reviews first"
            )
        inputs.view("plan", types.Warning(label=text))

    def summary(self, result: dict[str, Any]) -> str:
        lines = [f"**Run {code(result['run_key'])} deleted**"]
        for what in ("fields", "views", "brain_runs"):
            if result[what]:
                names = ", ".join(map(code, result[what]))
                lines.append(f"- {what.replace('_', ' ')}: {names}")
        return "\n".join(lines)
