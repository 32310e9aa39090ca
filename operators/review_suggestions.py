"""``review_suggestions``: suggested labels become labels, and that can be undone."""

from typing import Any

import fiftyone.operators.types as types

from ..checks.progress import Progress, counted
from ..checks.suggestion_reviews import review_suggestions, reviewed_run, suggesting_runs
from ..errors import UserError
from ..markup import code, markdown
from .base import QualityOperator, chosen_target
from .form_fields import choice_input
from .words import counted_of, skipped_lines

DECISIONS = {"accept": "Write the suggested labels", "undo": "Take them back"}

# Classes that the summary names.
NAMED = 8


class ReviewSuggestions(QualityOperator):
    name = "review_suggestions"
    label = "Quality: review suggestions"
    description = (
        "Write the suggested labels that are sure enough, of the view or the selected samples, "
        "into the field that they were suggested for. Nothing that has a label is changed, and one "
        "call takes them back"
    )
    icon = "new_label"
    risk_level = "high"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        decision: str,
        unsure: bool = False,
        run_key: str = "suggestions",
    ) -> dict[str, Any]:
        """Writes suggestions of ``suggest_labels`` as labels, or takes them back.

        Args:
            samples: a dataset or view: what is reviewed
            decision: ``"accept"`` or ``"undo"``
            unsure (False): accept suggestions that are not sure enough as well, of what you have
                looked at
            run_key ("suggestions"): the run that suggested the labels

        Returns:
            a dict with ``changed`` (labels), ``classes`` (how many of each), ``accepted`` (so far),
            and ``skipped``, by reason: what has a label already is never changed

        Raises:
            UserError: if the input is at fault; nothing is changed then
        """
        return review_suggestions(samples, decision=decision, unsure=unsure, run_key=run_key)

    def samples(self, ctx: Any) -> Any:
        """What is selected, else the view; of a script, what it passes."""
        return ctx.view.select(ctx.selected) if ctx.selected else chosen_target(ctx)

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        runs = [run.key for run in suggesting_runs(ctx.dataset)]
        if not runs:
            raise UserError("No labels were suggested yet; run 'Quality: suggest labels' first")
        choice_input(inputs, "run_key", runs, label="Run")
        choice_input(inputs, "decision", DECISIONS, label="Decision")
        inputs.bool(
            "unsure",
            default=False,
            label="Also those that are not sure enough",
            description="Of what you have looked at: select it in the grid first",
        )
        key = ctx.params.get("run_key")
        run, target = reviewed_run(samples, key if key in runs else runs[0])
        inputs.view(
            "notice",
            types.Notice(
                label=f"Labels of {counted_of(len(target.ids()), target.noun)} at most are written "
                f"to {run.facts.label_field}; those that are there stay"
            ),
        )

    def summary(self, result: dict[str, Any]) -> str:
        done = "written to" if result["decision"] == "accept" else "removed from"
        lines = [
            f"**{counted(result['changed'], 'label')}** {done} "
            f"{code(result['label_field'])} of {counted_of(result['read'], result['things'])}"
        ]
        classes = list(result["classes"].items())
        lines += [f"- {count:,} {markdown(label)}" for label, count in classes[:NAMED]]
        if len(classes) > NAMED:
            lines.append(f"- and {len(classes) - NAMED:,} more classes")
        lines += skipped_lines(result)
        return "\n".join(lines)
