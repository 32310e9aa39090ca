"""``update_audit``: repeats the checks whose runs are out of date, as they were called."""

from typing import Any

import fiftyone.operators.types as types

from ..checks.progress import Progress, counted, duration
from ..checks.update import repeatable, update_audit
from ..errors import UserError
from ..markup import code, markdown
from .base import SET_VIEW, QualityOperator, show_labels


class UpdateAudit(QualityOperator):
    name = "update_audit"
    label = "Quality: update audit"
    description = (
        "Repeat runs that are out of date, for example after labels were reviewed or samples "
        "added, each with the settings of its last run. Reviews and labels are kept"
    )
    icon = "update"

    def run(self, samples: Any, progress: Progress) -> dict[str, Any]:
        """Repeats the checks whose runs are out of date.

        Each is repeated under its own name with the parameters with which it was called; what is
        up to date is left alone. Decisions of reviews are kept.

        Args:
            samples: a dataset, or a view of it: runs are those of the dataset

        Returns:
            a dict with ``updated`` (the result of each repeated run by its key), ``current`` (keys
            of runs that were up to date), ``failed`` (reasons by key) and ``seconds``

        Raises:
            UserError: if there is no run yet
        """
        return update_audit(samples._root_dataset, progress)

    def samples(self, ctx: Any) -> Any:
        """The dataset: runs are those of all of it, so that the form asks for no target."""
        return ctx.dataset

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        runs = repeatable(samples)
        if not runs:
            raise UserError("There is nothing to update yet; run 'Quality: audit' first")
        keys = ", ".join(run.key for run in runs)
        text = f"Of {keys}, runs that are out of date will be repeated with the same settings. "
        inputs.view("plan", types.Notice(label=f"{text}Reviews and labels are kept"))

    def links(self, result: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
        views = [
            view
            for done in result["updated"].values()
            for view in done.get("views", ())
            if view.endswith((": flagged", ": redundant"))
        ]
        return [(f"Show {view}", SET_VIEW, {"name": view}) for view in views]

    def afterwards(self, ctx: Any) -> list[Any]:
        return show_labels(ctx)

    def summary(self, result: dict[str, Any]) -> str:
        updated, current = result["updated"], result["current"]
        lines = ["**Everything was up to date**"]
        if updated or result["failed"]:
            lines = [f"**{counted(len(updated), 'run')} updated** in {duration(result['seconds'])}"]
        for key, done in updated.items():
            found = done.get("flagged", done.get("redundant"))
            lines.append(f"- {code(key)}" + (f": {found:,} found" if found is not None else ""))
        if updated and current:
            lines.append(f"- up to date: {', '.join(map(code, current))}")
        lines += [
            f"- not updated: {code(key)}: {markdown(why)}" for key, why in result["failed"].items()
        ]
        return "\n".join(lines)
