"""``review_label_issues``: a person decides about flagged labels, and can take it back."""

from typing import Any

import fiftyone as fo
import fiftyone.operators.types as types

from ..checks.progress import Progress, counted, percent
from ..checks.reviews import (
    known_classes,
    plan_review,
    review_label_issues,
    reviewable_runs,
    reviewed_run,
)
from ..errors import UserError
from ..markup import markdown
from ..storage.few import few
from ..storage.labels import label_field_of, shown_text
from ..storage.runs import read_run
from .base import QualityOperator, chosen_target
from .form_fields import choice_input, show_error

DECISIONS = {
    "accept": "Accept suggestion",
    "keep": "Keep label",
    "set": "Set label",
    "undo": "Undo review",
}

# What the button Undo names: what was reviewed, whatever is selected by then.
IDS = "ids"

# Changes of labels that the form and the result name.
NAMED = 5


class ReviewLabelIssues(QualityOperator):
    name = "review_label_issues"
    label = "Quality: review label issues"
    description = (
        "Review flagged labels of the selected samples or patches: accept the suggestion, keep "
        "the label, or set another one. Changes labels only on request, keeps the originals, and "
        "can be undone"
    )
    icon = "rate_review"
    risk_level = "high"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        decision: str,
        label: str | list | None = None,
        unflagged: bool = False,
        run_key: str = "label_issues",
    ) -> dict[str, Any]:
        """Reviews labels that ``find_label_issues`` has evaluated.

        The label before a review is kept in ``<run_key>_original``, the one after it in
        ``<run_key>_reviewed`` and the decision in ``<run_key>_review``. Reviewed labels leave the
        saved view of flagged ones, and are not flagged again until they change.

        Args:
            samples: a dataset or view: what is reviewed
            decision: ``"accept"`` the suggestions of flagged labels, ``"keep"`` the labels,
                ``"set"`` another label, or ``"undo"`` reviews of these samples
            label (None): the label to set; several for a sample of several: a list, or with commas
                between
            unflagged (False): keep or set labels that are not flagged as well
            run_key ("label_issues"): the run that flagged the labels

        Returns:
            a dict with ``reviewed``, ``changed`` (labels), ``changes`` (``label``, ``new`` and
            ``count`` of the most frequent), ``ids`` (of samples or patches; None of more than
            1,000), ``skipped``, and ``reviews`` of the run so far

        Raises:
            UserError: if the input is at fault; nothing is changed then
        """
        return review_label_issues(
            samples, decision=decision, label=label, unflagged=unflagged, run_key=run_key
        )

    def samples(self, ctx: Any) -> Any:
        """What is open or selected in the App; of a script, what it passes.

        An open sample is what a person looks at, whatever is ticked in the grid behind it.
        """
        if "operator_uri" not in ctx.request_params and not ctx.selected:
            return chosen_target(ctx)
        if ids := ctx.params.get(IDS):
            run = read_run(ctx.dataset, ctx.params["run_key"])
            if run is None:
                raise UserError("The run was deleted")
            return few(ctx.dataset, run.facts.about, ids)
        if ctx.current_sample:
            clicked = [
                label
                for label in ctx.selected_labels or ()
                if label.get("sample_id") == ctx.current_sample
            ]
            if clicked:
                return ctx.dataset.select_labels(labels=clicked)
            return ctx.view.select(ctx.current_sample)
        if ctx.selected:
            return ctx.view.select(ctx.selected)
        if ctx.selected_labels:
            return ctx.dataset.select_labels(labels=ctx.selected_labels)
        if ctx.params.get("decision") == "undo":
            return ctx.view
        _evaluated_runs(ctx.dataset)
        raise UserError("Select the samples or patches to review in the grid first")

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        runs = _evaluated_runs(ctx.dataset)
        choice_input(inputs, "run_key", runs, label="Run")
        choices = types.RadioGroup()
        for decision, text in DECISIONS.items():
            choices.add_choice(decision, label=text)
        inputs.enum("decision", choices.values(), default="accept", view=choices, label="Decision")
        decision = ctx.params.get("decision") or "accept"
        run_key = ctx.params.get("run_key")
        unflagged = bool(ctx.params.get("unflagged"))
        run, target = reviewed_run(samples, run_key if run_key in runs else runs[0])
        label, field = None, run.facts.label_field or ""
        if decision == "set":
            names = types.AutocompleteView()
            for name in known_classes(target, field):
                names.add_choice(name, label=name)
            several = label_field_of(target, field).several
            text = "Labels, separated by commas" if several else "Label"
            inputs.str("label", label=text, view=names, required=True)
            label = (ctx.params.get("label") or "").strip()
        if decision in ("keep", "set"):
            inputs.bool(
                "unflagged",
                default=False,
                label="Include labels that are not flagged",
            )
        if decision == "set" and not label:
            show_error(inputs, "Choose the label to set")
            return
        _, outcome = plan_review(target, run, decision, label, unflagged)
        count = len(outcome.decisions)
        verb = "undone" if decision == "undo" else "reviewed"
        text = f"{counted(count, 'label')} will be {verb}, {len(outcome.labels):,} of them changed"
        if ctx.current_sample:
            text = f"Open sample: {text}"
        if changes := [
            (shown_text(old) or "", shown_text(new) or "", n)
            for (old, new), n in outcome.changes.most_common(NAMED + 1)
        ]:
            text += f" ({_named(changes)})"
        if not count:
            text = f"Nothing will be {verb}"
        for why, number in outcome.skipped.items():
            text += f"; {number:,} skipped: {why}"
        if count and decision != "undo":
            text += f". The originals stay in {run.key}_original"
        inputs.view("plan", types.Notice(label=text))

    def from_form(self, given: dict[str, Any]) -> dict[str, Any]:
        # A button of a result also says where it is.
        return {name: value for name, value in given.items() if name not in (IDS, "path")}

    def links(self, result: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
        if result["decision"] == "undo" or not result["ids"]:
            return []
        again = {"decision": "undo", "run_key": result["run_key"], IDS: result["ids"]}
        return [("Undo", self.uri, again)]

    def afterwards(self, ctx: Any) -> list[Any]:
        """What was decided is no longer selected: the next decision is about something else."""
        return [ctx.ops.clear_selected_samples(), ctx.ops.clear_selected_labels()]

    def summary(self, result: dict[str, Any]) -> str:
        verb = "undone" if result["decision"] == "undo" else "reviewed"
        lines = [
            f"**{counted(result['reviewed'], 'label')} {verb}**, {result['changed']:,} of them "
            "changed"
        ]
        changes = [(one["label"], one["new"], one["count"]) for one in result["changes"]]
        if changes:
            lines[0] += f": {markdown(_named(changes))}"
        lines += [
            f"- {count:,} skipped: {markdown(why)}" for why, count in result["skipped"].items()
        ]
        reviews = result["reviews"]
        if reviews["measured_precision"] is not None:
            lines.append(
                f"- so far {percent(reviews['measured_precision'])} of "
                f"{counted(reviews['flags_reviewed'], 'reviewed flag')} were correct"
            )
        return "\n".join(lines)


def _named(changes: list[tuple[str, str, int]]) -> str:
    """Labels before and after: ``crayfish → schooner, 3 × cat → dog, …``."""
    texts = [
        f"{old} → {new}" if count == 1 else f"{count:,} × {old} → {new}"
        for old, new, count in changes[:NAMED]
    ]
    return ", ".join(texts + ["…"] * (len(changes) > NAMED))


def _evaluated_runs(dataset: fo.Dataset) -> list[str]:
    """The runs whose labels can be reviewed, for the form.

    Raises:
        UserError: if there is none
    """
    if runs := [run.key for run in reviewable_runs(dataset)]:
        return runs
    raise UserError("There is no finished run; run 'Quality: find label issues' first")
