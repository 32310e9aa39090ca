"""``review_label_issues``: a person decides about flagged labels, and can take it back."""

import dataclasses
import json
import time
from collections import Counter
from typing import Any

import fiftyone as fo
import fiftyone.operators.types as types

from ..errors import UserError
from ..storage.findings import read_values
from ..storage.labels import (
    is_multilabel,
    label_set_text,
    read_label_sets,
    read_labels,
    value_path,
)
from ..storage.locks import guard, writing
from ..storage.reviews import (
    ACCEPTED,
    CHANGED,
    COLUMNS,
    CORRECTED,
    KEPT,
    OF_FLAGS,
    VERIFIED,
    Reviews,
    read_reviews,
)
from ..storage.runs import Run, check_unclaimed, plugin_runs, read_run, write_run
from ..storage.targets import Target, resolve_target
from .base import QualityOperator, choice_input
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
        unflagged: bool = False,
        run_key: str = "label_issues",
    ) -> dict[str, Any]:
        """Reviews labels that ``find_label_issues`` has judged.

        The label before a review is kept in ``<run_key>_original``, the one after it in
        ``<run_key>_reviewed`` and the decision in ``<run_key>_review``. Reviewed labels leave the
        saved view of flagged ones, and are not flagged again until they change.

        Args:
            samples: a dataset or view: what is reviewed
            decision: ``"accept"`` the suggestions of flagged labels, ``"keep"`` the labels,
                ``"set"`` another label, or ``"undo"`` reviews of these samples
            label (None): the label to set; several for a sample of several, with commas between
            unflagged (False): keep or set labels that are not flagged as well
            run_key ("label_issues"): the run that flagged the labels

        Returns:
            a dict with ``reviewed``, ``changed`` (labels), ``skipped``, and ``reviews`` of the run
            so far

        Raises:
            UserError: if the input is at fault; nothing is changed then
        """
        started = time.monotonic()
        _check_decision(decision, label)
        with writing(samples._root_dataset, run_key), guard:
            run, target, label_field = _reviewed_run(samples, run_key)
            outcome = _outcome(target, run, label_field, decision, label, unflagged)
            run = _write(target, run, label_field, outcome)
            reviews = read_reviews(target, run)
        return {
            "run_key": run_key,
            "decision": decision,
            "things": target.things,
            "read": len(outcome.decisions) + outcome.skipped.total(),
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
        _judged_runs(ctx.dataset)
        raise UserError("Select the samples or objects to review in the grid first")

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        runs = _judged_runs(samples._root_dataset)
        choice_input(inputs, "run_key", runs, label="Run")
        choices = types.RadioGroup()
        for decision, text in DECISIONS.items():
            choices.add_choice(decision, label=text)
        inputs.enum("decision", choices.values(), default="accept", view=choices, label="Decision")
        decision = ctx.params.get("decision") or "accept"
        run_key = ctx.params.get("run_key")
        unflagged = bool(ctx.params.get("unflagged"))
        run, target, label_field = _reviewed_run(samples, run_key if run_key in runs else runs[0])
        label = None
        if decision == "set":
            names = _class_choices(target, label_field)
            several = is_multilabel(target, label_field)
            text = "Labels, with commas between them" if several else "Label"
            inputs.str("label", label=text, view=names)
            label = (ctx.params.get("label") or "").strip()
        if decision in ("keep", "set"):
            inputs.bool(
                "unflagged",
                default=False,
                label="Also labels that are not flagged",
            )
        outcome = _outcome(target, run, label_field, decision, label or "…", unflagged)
        count = len(outcome.decisions)
        verb = "taken back" if decision == "undo" else "reviewed"
        text = f"{counted(count, 'label')} will be {verb}, {len(outcome.labels):,} of them changed"
        if not count:
            text = f"Nothing will be {verb}"
        for why, number in outcome.skipped.items():
            text += f"; {number:,} left as they are: {why}"
        if count and decision != "undo":
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
        reviewed: the label after the review, or None to remove it
        flagged: flags to write
        skipped: how many are left as they are, by reason
    """

    labels: dict[str, Any]
    decisions: dict[str, str | None]
    originals: dict[str, str | None]
    reviewed: dict[str, str | None]
    flagged: dict[str, bool]
    skipped: Counter

    @classmethod
    def empty(cls) -> "Outcome":
        return cls({}, {}, {}, {}, {}, Counter())


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


def _judged_runs(dataset: fo.Dataset) -> list[str]:
    """The runs whose labels can be reviewed, for the form.

    Raises:
        UserError: if there is none
    """
    if runs := [run.key for run in _finished_runs(dataset)]:
        return runs
    raise UserError("No labels were judged yet; run 'Quality: find label issues' first")


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
    return run, target, label_field


class _Labels:
    """Labels as reviews compare and keep them: one text for each sample or object."""

    def __init__(self, target: Target, label_field: str) -> None:
        self._target, self._field = target, label_field
        self.path = "label" if target.patches_field else value_path(target, label_field)

    def read(self, ids: list[str]) -> list[str | None]:
        return read_labels(self._target, self._field, ids)

    def suggested(self, run: Run, ids: list[str], labels: list[str | None]) -> list[str | None]:
        path = f"{run.key}_suggested" + ("" if self._target.patches_field else ".label")
        return read_values(self._target, path, ids)

    def chosen(self, label: str) -> str:
        """The text of a label that a person typed."""
        return label

    def original(self, id_: str, label: str) -> str:
        """What is kept of a label that may be replaced."""
        return label

    def text_of(self, original: str) -> str:
        """The text of what was kept."""
        return original

    def restored(self, original: str) -> Any:
        """What was kept, as it is written."""
        return original

    def written(self, id_: str, text: str) -> Any:
        """A new label, as it is written."""
        return text


class _LabelSets(_Labels):
    """Several labels for each sample, as a JSON list; originals are kept with all they hold."""

    def __init__(self, target: Target, label_field: str) -> None:
        super().__init__(target, label_field)
        self.path = label_field
        self._documents = dict(zip(*target.view.values(["id", label_field])))

    def read(self, ids: list[str]) -> list[str | None]:
        sets = read_label_sets(self._target, self._field, ids)
        return [None if labels is None else label_set_text(labels) for labels in sets]

    def suggested(self, run: Run, ids: list[str], labels: list[str | None]) -> list[str | None]:
        view = self._target.everything().view.select(ids)
        columns = view.values(["id", f"{run.key}_wrong", f"{run.key}_missing"])
        told = {
            id_: (set(wrong or ()), set(missing or ())) for id_, wrong, missing in zip(*columns)
        }
        return [
            label_set_text(frozenset(json.loads(text)) - told[id_][0] | told[id_][1])
            if text and any(told[id_])
            else None
            for id_, text in zip(ids, labels)
        ]

    def chosen(self, label: str) -> str:
        return label_set_text(frozenset(filter(None, map(str.strip, label.split(",")))))

    def original(self, id_: str, label: str) -> str:
        return self._documents[id_].to_json()

    def text_of(self, original: str) -> str:
        kept = self.restored(original).classifications
        return label_set_text(frozenset(filter(None, (one.label for one in kept))))

    def restored(self, original: str) -> fo.Classifications:
        return fo.Classifications.from_json(original)

    def written(self, id_: str, text: str) -> fo.Classifications:
        labels = json.loads(text)
        kept = [one for one in self._documents[id_].classifications if one.label in labels]
        new = set(labels) - {one.label for one in kept}
        added = [fo.Classification(label=label) for label in sorted(new)]
        return fo.Classifications(classifications=[*kept, *added])


def _labels(target: Target, label_field: str) -> _Labels:
    several = is_multilabel(target, label_field)
    return (_LabelSets if several else _Labels)(target, label_field)


def _outcome(
    target: Target,
    run: Run,
    label_field: str,
    decision: str,
    label: str | None,
    unflagged: bool,
) -> Outcome:
    """What a review will do; nothing is written."""
    ids, as_texts = target.ids(), _labels(target, label_field)
    labels = as_texts.read(ids)
    before = read_reviews(target, run)
    if decision == "undo":
        return _undone(ids, labels, before, as_texts)
    flags = read_values(target, f"{run.key}_flagged", ids)
    suggested = [None] * len(ids)
    if decision == "accept":
        suggested = as_texts.suggested(run, ids, labels)
    chosen = as_texts.chosen(label) if label else None
    outcome = Outcome.empty()
    for id_, current, flag, suggestion in zip(ids, labels, flags, suggested):
        new = {"accept": suggestion, "keep": current, "set": chosen}[decision]
        was_flagged = flag or before.decisions.get(id_) in OF_FLAGS
        if current is None:
            outcome.skipped["no label"] += 1
        elif not was_flagged and (decision == "accept" or not unflagged):
            outcome.skipped["not flagged"] += 1
        elif decision == "accept" and not flag:
            outcome.skipped["reviewed already"] += 1
        elif new is None:
            outcome.skipped["no suggestion"] += 1
        else:
            if new == current:
                outcome.decisions[id_] = KEPT if was_flagged else VERIFIED
            else:
                taken = ACCEPTED if decision == "accept" else CHANGED
                outcome.decisions[id_] = taken if was_flagged else CORRECTED
                outcome.labels[id_] = as_texts.written(id_, new)
            original = before.originals.get(id_) or as_texts.original(id_, current)
            outcome.originals[id_] = original
            outcome.reviewed[id_] = new
            outcome.flagged[id_] = False
    return outcome


def _undone(
    ids: list[str], labels: list[str | None], before: Reviews, as_texts: _Labels
) -> Outcome:
    outcome = Outcome.empty()
    for id_, current in zip(ids, labels):
        decision = before.decisions.get(id_)
        if decision is None:
            outcome.skipped["not reviewed"] += 1
        elif current != before.reviewed.get(id_):
            outcome.skipped["the label was edited after its review"] += 1
        else:
            original = before.originals[id_]
            if current != as_texts.text_of(original):
                outcome.labels[id_] = as_texts.restored(original)
            for values in (outcome.decisions, outcome.originals, outcome.reviewed):
                values[id_] = None
            outcome.flagged[id_] = decision in OF_FLAGS
    return outcome


def _write(target: Target, run: Run, label_field: str, outcome: Outcome) -> Run:
    """Writes what a review does, and returns the run with it."""
    names = [f"{run.key}_{what}" for what in COLUMNS]
    paths = tuple(target.dataset_path(name) for name in names)
    run = dataclasses.replace(run, fields=tuple(dict.fromkeys((*run.fields, *paths))))
    check_unclaimed(target.dataset, "run_key", run)
    sample_ids = target.sample_ids()
    for name, values in zip(names, (outcome.decisions, outcome.originals, outcome.reviewed)):
        target.declare(name, fo.StringField)
        target.write(name, values, sample_ids)
    target.write(f"{run.key}_flagged", outcome.flagged, sample_ids)
    target.write(_labels(target, label_field).path, outcome.labels, sample_ids)
    facts = {**run.facts, "reviews": read_reviews(target, run).counts()}
    run = dataclasses.replace(run, facts=facts)
    # When the labels were judged does not change by a review.
    write_run(target.dataset, run, written_at=run.written_at)
    return run


def _class_choices(target: Target, label_field: str) -> types.AutocompleteView:
    """The classes that there are; others may be typed."""
    everything = target.everything()
    ids = everything.ids()
    if is_multilabel(everything, label_field):
        sets = read_label_sets(everything, label_field, ids)
        names = set().union(*filter(None, sets))
    else:
        names = set(read_labels(everything, label_field, ids)) - {None}
    view = types.AutocompleteView()
    for name in sorted(names):
        view.add_choice(name, label=name)
    return view
