"""``review_label_issues``: a person decides about flagged labels, and can take it back."""

import dataclasses
import time
from collections import Counter
from typing import Any

import fiftyone as fo
import fiftyone.operators.types as types

from ..errors import UserError
from ..storage.findings import read_values
from ..storage.labels import read_labels, value_path
from ..storage.reviews import (
    ACCEPTED,
    CHANGED,
    CORRECTED,
    KEPT,
    OF_FLAGS,
    VERIFIED,
    read_reviews,
)
from ..storage.runs import Run, plugin_runs, read_run, write_run
from ..storage.targets import Target, resolve_target
from .base import QualityOperator
from .find_label_issues import FindLabelIssues
from .progress import Progress, counted

DECISIONS = {
    "accept": "Take the suggested label",
    "keep": "Keep the label: it is right",
    "set": "Set another label",
    "undo": "Take reviews back",
}


class ReviewLabelIssues(QualityOperator):
    name = "review_label_issues"
    label = "Quality: review label issues"
    description = (
        "Decide about flagged labels of the selected samples or objects: take the suggestion, keep "
        "the label, or set another one. Changes labels on request, keeps the originals, and takes "
        "everything back with one call"
    )
    icon = "rate_review"
    risk_level = "high"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        decision: str,
        label: str | None = None,
        run_key: str = "label_issues",
    ) -> dict[str, Any]:
        """Reviews labels that ``find_label_issues`` has judged.

        The label before a review is kept in ``<run_key>_original`` and the decision in
        ``<run_key>_review``. Reviewed labels leave the saved view of flagged ones and are not
        flagged again by the next run.

        Args:
            samples: a dataset or view: what is reviewed
            decision: ``"accept"`` the suggestions of flagged labels, ``"keep"`` the labels,
                ``"set"`` another label, or ``"undo"`` reviews of these samples
            label (None): the label to set
            run_key ("label_issues"): the run that flagged the labels

        Returns:
            a dict with ``reviewed``, ``changed`` (labels), ``skipped``, and ``reviews`` of the run
            so far

        Raises:
            UserError: if the input is at fault; nothing is changed then
        """
        started = time.monotonic()
        _check_decision(decision, label)
        run, target, label_field = _reviewed_run(samples, run_key)
        ids = target.ids()
        before = read_reviews(target, run_key)
        if decision == "undo":
            outcome = _undone(target, run, ids, before)
        else:
            outcome = _decided(target, run, label_field, ids, before, decision, label)
        _write(target, run, label_field, outcome)
        reviews = read_reviews(target, run_key)
        facts = {**run.facts, "reviews": reviews.counts()}
        written = tuple(target.dataset_path(f"{run_key}_{what}") for what in ("review", "original"))
        fields = tuple(dict.fromkeys((*run.fields, *written)))
        write_run(target.dataset, dataclasses.replace(run, facts=facts, fields=fields))
        return {
            "run_key": run_key,
            "decision": decision,
            "things": target.things,
            "reviewed": len(outcome.decisions),
            "changed": len(outcome.labels),
            "skipped": dict(outcome.skipped),
            "reviews": reviews.counts(),
            "seconds": round(time.monotonic() - started, 2),
        }

    def samples(self, ctx: Any) -> Any:
        """What is selected in the App; of a script, what it passes."""
        if "operator_uri" not in ctx.request_params and not ctx.selected:
            return ctx.target_view(require_flat=True)
        if ctx.selected:
            return ctx.view.select(ctx.selected)
        if ctx.selected_labels:
            return ctx.dataset.select_labels(labels=ctx.selected_labels)
        if ctx.params.get("decision") == "undo":
            return ctx.view
        raise UserError("Select the samples or objects to review in the grid first")

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        dataset = samples._root_dataset
        runs = [run.key for run in _finished_runs(dataset)]
        if not runs:
            raise UserError("No labels were judged yet; run 'Quality: find label issues' first")
        choices = types.DropdownView()
        for key in runs:
            choices.add_choice(key, label=key)
        inputs.enum("run_key", choices.values(), default=runs[0], view=choices, label="Run")
        choices = types.RadioGroup()
        for decision, text in DECISIONS.items():
            choices.add_choice(decision, label=text)
        inputs.enum("decision", choices.values(), default="accept", view=choices, label="Decision")
        decision = ctx.params.get("decision") or "accept"
        run_key = ctx.params.get("run_key")
        run, target, label_field = _reviewed_run(samples, run_key if run_key in runs else runs[0])
        label = None
        if decision == "set":
            names = _class_choices(target, label_field)
            inputs.str("label", label="Label", view=names)
            label = (ctx.params.get("label") or "").strip()
        ids = target.ids()
        if decision == "undo":
            reviews = read_reviews(target, run.key)
            count = sum(id_ in reviews.decisions for id_ in ids)
            text = f"{counted(count, 'review')} will be taken back, and the labels with them"
        else:
            if decision != "set" or label:
                outcome = _decided(
                    target, run, label_field, ids, read_reviews(target, run.key), decision, label
                )
                text = f"{counted(len(outcome.decisions), 'label')} will be reviewed"
                text += f", {len(outcome.labels):,} of them changed"
            else:
                text = f"{counted(len(ids), 'label')} will be set"
        text += f". The originals stay in {run.key}_original"
        inputs.view("plan", types.Notice(label=text))

    def summary(self, result: dict[str, Any]) -> str:
        verb = "taken back" if result["decision"] == "undo" else "reviewed"
        lines = [
            f"**{counted(result['reviewed'], 'label')} {verb}**, {result['changed']:,} of them "
            "changed"
        ]
        lines += [
            f"- {count:,} left as they are: {why}" for why, count in result["skipped"].items()
        ]
        reviews = result["reviews"]
        if reviews["measured_precision"] is not None:
            lines.append(
                f"- so far {reviews['measured_precision']:.0%} of "
                f"{counted(reviews['flags_reviewed'], 'reviewed flag')} were real"
            )
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a review does, by the id of the sample or object.

    Attributes:
        labels: labels to write
        decisions: the decision, or None to remove it
        originals: the label before the first review, or None to remove it
        flagged: flags to write
        skipped: how many are left as they are, by reason
    """

    labels: dict[str, str]
    decisions: dict[str, str | None]
    originals: dict[str, str | None]
    flagged: dict[str, bool]
    skipped: Counter


def _check_decision(decision: str, label: str | None) -> None:
    if decision not in DECISIONS:
        names = ", ".join(map(repr, DECISIONS))
        raise UserError(f"decision={decision!r} is not known; choose {names}")
    if decision == "set" and not label:
        raise UserError("decision='set' needs label=")
    if decision != "set" and label:
        raise UserError(f"label= is for decision='set', not {decision!r}")


def _finished_runs(dataset: fo.Dataset) -> list[Run]:
    runs = [run for run in plugin_runs(dataset, FindLabelIssues.name) if run.finished]
    return sorted(runs, key=lambda run: run.written_at, reverse=True)


def _reviewed_run(samples: Any, run_key: str) -> tuple[Run, Target, str]:
    """The run, and the samples or objects in its terms.

    Raises:
        UserError: if there is no such run, or it is of another kind
    """
    dataset = samples._root_dataset
    dataset.reload()
    run = read_run(dataset, run_key)
    if run is None or run.operator != FindLabelIssues.name or not run.finished:
        names = ", ".join(one.key for one in _finished_runs(dataset)) or "none"
        raise UserError(
            f"run_key={run_key!r} is no finished run of find_label_issues; there are: {names}"
        )
    parameters = run.facts["parameters"]
    target = resolve_target(samples, parameters["patches_field"])
    label_field = parameters["label_field"]
    if target.patches_field is None and value_path(target, label_field) is None:
        raise UserError(
            f"run_key={run_key!r} judged {label_field!r}, which holds several labels for each "
            "sample; correct these in the App"
        )
    return run, target, label_field


def _decided(
    target: Target,
    run: Run,
    label_field: str,
    ids: list[str],
    before: Any,
    decision: str,
    label: str | None,
) -> Outcome:
    labels = read_labels(target, label_field, ids)
    flags = read_values(target, f"{run.key}_flagged", ids)
    suggested = [None] * len(ids)
    if decision == "accept":
        path = f"{run.key}_suggested" + ("" if target.patches_field else ".label")
        suggested = read_values(target, path, ids)
    outcome = Outcome({}, {}, {}, {}, Counter())
    for id_, current, flag, suggestion in zip(ids, labels, flags, suggested):
        new = {"accept": suggestion, "keep": current, "set": label}[decision]
        if current is None:
            outcome.skipped["no label"] += 1
        elif decision == "accept" and not flag:
            outcome.skipped["not flagged, or reviewed already"] += 1
        elif new is None:
            outcome.skipped["no suggestion"] += 1
        else:
            was_flagged = flag or before.decisions.get(id_) in OF_FLAGS
            if new == current:
                outcome.decisions[id_] = KEPT if was_flagged else VERIFIED
            else:
                taken = ACCEPTED if decision == "accept" else CHANGED
                outcome.decisions[id_] = taken if was_flagged else CORRECTED
                outcome.labels[id_] = new
            outcome.originals[id_] = before.originals.get(id_, current)
            outcome.flagged[id_] = False
    return outcome


def _undone(target: Target, run: Run, ids: list[str], before: Any) -> Outcome:
    outcome = Outcome({}, {}, {}, {}, Counter())
    for id_ in ids:
        decision = before.decisions.get(id_)
        if decision is None:
            outcome.skipped["not reviewed"] += 1
            continue
        if decision in (ACCEPTED, CHANGED, CORRECTED):
            outcome.labels[id_] = before.originals[id_]
        outcome.decisions[id_] = outcome.originals[id_] = None
        outcome.flagged[id_] = decision in OF_FLAGS
    return outcome


def _write(target: Target, run: Run, label_field: str, outcome: Outcome) -> None:
    sample_ids = target.sample_ids()
    for what, values in (("review", outcome.decisions), ("original", outcome.originals)):
        target.declare(f"{run.key}_{what}", fo.StringField)
        target.write(f"{run.key}_{what}", values, sample_ids)
    target.write(f"{run.key}_flagged", outcome.flagged, sample_ids)
    path = "label" if target.patches_field else value_path(target, label_field)
    target.write(path, outcome.labels, sample_ids)


def _class_choices(target: Target, label_field: str) -> types.AutocompleteView:
    """The classes that there are; others may be typed."""
    everything = target.everything()
    names = set(read_labels(everything, label_field, everything.ids())) - {None}
    view = types.AutocompleteView()
    for name in sorted(names):
        view.add_choice(name, label=name)
    return view
