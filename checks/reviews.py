"""Reviews of label issues: a person decides about flagged labels, and can undo it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import fiftyone as fo

from ..errors import UserError
from ..storage.labels import (
    label_field_of,
    label_set_text,
    labels_of_text,
    read_label_texts,
    shown_text,
    split_labels,
)
from ..storage.locks import writing
from ..storage.reviews import (
    ACCEPTED,
    CHANGED,
    CORRECTED,
    KEPT,
    OF_FLAGS,
    VERIFIED,
    Outcome,
    Reviews,
    check_reviewable,
    read_reviews,
    write_reviews,
)
from ..storage.runs import Run, plugin_runs, read_run
from ..storage.target import Target
from ..storage.targets import resolve_target
from .label_issue_columns import LABEL_ISSUES

# So many are named by a result, for Undo.
MAX_NAMED_IDS = 1000

DECISIONS = ("accept", "keep", "set", "undo")

# Pairs of labels, before and after, that a result names.
MAX_CHANGES = 50


def review_label_issues(
    samples: Any,
    *,
    decision: str,
    label: str | Sequence[str] | None = None,
    unflagged: bool = False,
    run_key: str = "label_issues",
) -> dict[str, Any]:
    """Reviews labels that ``find_label_issues`` has evaluated, and reports what was done.

    Args:
        samples: a dataset, view or target: what is reviewed
        decision, label, unflagged, run_key: as of the operator

    Raises:
        UserError: if the input is at fault; nothing is changed then
    """
    started = time.monotonic()
    check_decision(decision, label)
    dataset = samples.dataset if isinstance(samples, Target) else samples._root_dataset
    with writing(dataset, run_key):
        run, target = reviewed_run(samples, run_key)
        before, outcome = plan_review(target, run, decision, label, unflagged)
        path = label_field_of(target, run.facts.required_label_field).path
        check_reviewable(target, run, path)
        reviews = write_reviews(target, run, path, before, outcome)
    return {
        "run_key": run_key,
        "decision": decision,
        "things": target.noun,
        "read": len(outcome.decisions) + outcome.skipped.total(),
        "reviewed": len(outcome.decisions),
        "changed": len(outcome.labels),
        "changes": [
            {"label": shown_text(old), "new": shown_text(new), "count": count}
            for (old, new), count in outcome.changes.most_common(MAX_CHANGES)
        ],
        "ids": list(outcome.decisions) if len(outcome.decisions) <= MAX_NAMED_IDS else None,
        "skipped": dict(outcome.skipped),
        "reviews": reviews.counts(),
        "seconds": round(time.monotonic() - started, 2),
    }


def check_decision(decision: str, label: str | Sequence[str] | None) -> None:
    """Refuses a decision that is none, or lacks its label.

    Raises:
        UserError: that names the parameter
    """
    if decision not in DECISIONS:
        names = ", ".join(map(repr, DECISIONS))
        raise UserError(f"decision={decision!r} is not known; choose {names}")
    if decision == "set" and not label:
        raise UserError("decision='set' needs label=")
    if decision != "set" and label:
        raise UserError(f"label= is for decision='set', not {decision!r}")


def reviewable_runs(dataset: fo.Dataset) -> list[Run]:
    """The finished runs whose labels can be reviewed, the latest first."""
    runs = [run for run in plugin_runs(dataset, LABEL_ISSUES.name) if run.finished]
    return sorted(runs, key=lambda run: run.written_at or "", reverse=True)


def reviewed_run(samples: Any, run_key: str) -> tuple[Run, Target]:
    """The run, and the samples or patches in its terms; a target is taken as it is.

    Raises:
        UserError: if there is no such run, or it is of another kind
    """
    given = samples if isinstance(samples, Target) else None
    dataset = given.dataset if given else samples._root_dataset
    run = read_run(dataset, run_key)
    if run is not None and run.operator == LABEL_ISSUES.name and not run.finished:
        raise UserError(
            f"run_key={run_key!r}: find_label_issues was interrupted or is still running; run it "
            "again first. Its reviews are kept"
        )
    if run is None or run.operator != LABEL_ISSUES.name:
        names = ", ".join(one.key for one in reviewable_runs(dataset)) or "none"
        raise UserError(
            f"run_key={run_key!r} is not a finished run of find_label_issues; there are: {names}"
        )
    return run, in_terms_of(run, given or resolve_target(samples, run.facts.about.patches_field))


def in_terms_of(run: Run, target: Target) -> Target:
    """What is reviewed of a run, with labels as they are, not as ``map_labels()`` shows them.

    Raises:
        UserError: if the run is about something else
    """
    if target.about != run.facts.about:
        raise UserError(
            f"run_key={run.key!r} is about {run.facts.about.words}, but these are "
            f"{target.about.words}; pass a view of {run.facts.about.words}"
        )
    return target if target.shows_stored_values else target.only(target.ids())


def known_classes(target: Target, label_field: str) -> list[str]:
    """The classes that a field holds in the whole dataset."""
    texts = read_label_texts(target.everything, label_field, target.everything.ids())
    several = label_field_of(target, label_field).several
    known = {text for text in texts if text is not None}
    names = (labels_of_text(text) if several else [text] for text in known)
    return sorted({name for of_text in names for name in of_text})


def _stripped(label: Any) -> str:
    """A label that a person gave as a text, or a number, without blanks around it."""
    if not isinstance(label, (str, int)):
        raise UserError(f"label={label!r} must be a string or a list of strings")
    return str(label).strip()


class _Labels:
    """Labels as reviews compare and keep them: one text for each sample or patch."""

    def __init__(self, target: Target, label_field: str) -> None:
        self._target = target
        self.field = label_field_of(target, label_field)

    def read(self, ids: list[str]) -> list[str | None]:
        return read_label_texts(self._target, self.field.name, ids)

    def suggested(self, run: Run, ids: list[str], labels: list[str | None]) -> list[str | None]:
        path = f"{run.key}_suggested" + ("" if self._target.patches_field else ".label")
        rows = self._target.values(path)
        return [rows[id_][0] for id_ in ids]

    def chosen(self, label: str | Sequence[str]) -> str:
        """The text of a label that a person named.

        Raises:
            UserError: if the field cannot hold it
        """
        if not isinstance(label, str):
            if len(label) != 1:
                raise UserError(
                    f"label={list(label)!r}: {self.field.name!r} holds one label per sample"
                )
            label = label[0]
        # As it will be read: "true" and "02" are True and 2.
        text = self.field.text(self.field.value(_stripped(label)))
        if text is None:
            raise UserError("label= is empty")
        return text

    def original(self, id_: str, label: str) -> str:
        """What is kept of a label that may be replaced."""
        return label

    def text_of(self, original: str) -> str:
        """The text of what was kept."""
        return original

    def restored(self, original: str) -> Any:
        """What was kept, as it is written."""
        return self.field.value(original)

    def written(self, id_: str, text: str) -> Any:
        """A new label, as it is written."""
        return self.field.value(text)


class _LabelSets(_Labels):
    """Several labels for each sample, as a JSON list; originals are kept with all they hold."""

    def __init__(self, target: Target, label_field: str) -> None:
        super().__init__(target, label_field)
        self._documents = dict(
            zip(*target.showing(self.field.name).values(["id", self.field.name]))
        )

    def suggested(self, run: Run, ids: list[str], labels: list[str | None]) -> list[str | None]:
        rows = self._target.values(f"{run.key}_wrong", f"{run.key}_missing")
        issues = {id_: (set(rows[id_][0] or ()), set(rows[id_][1] or ())) for id_ in ids}
        return [
            label_set_text(frozenset(labels_of_text(text)) - issues[id_][0] | issues[id_][1])
            if text and any(issues[id_])
            else None
            for id_, text in zip(ids, labels)
        ]

    def chosen(self, label: str | Sequence[str]) -> str:
        if isinstance(label, str):
            label = split_labels(label, known_classes(self._target, self.field.name))
        names = {text for name in label if (text := _stripped(name))}
        if not names:
            raise UserError("label= is empty")
        return label_set_text(names)

    def original(self, id_: str, label: str) -> str:
        return label if self.field.kind == "texts" else self._documents[id_].to_json()

    def text_of(self, original: str) -> str:
        if self.field.kind == "texts":
            return original
        kept = fo.Classifications.from_json(original).classifications
        return label_set_text({one.label for one in kept if one.label})

    def restored(self, original: str) -> Any:
        if self.field.kind == "texts":
            return labels_of_text(original)
        return fo.Classifications.from_json(original)

    def written(self, id_: str, text: str) -> Any:
        labels = labels_of_text(text)
        if self.field.kind == "texts":
            kept = [label for label in self._documents[id_] if label in labels]
            return [*kept, *sorted(set(labels) - set(kept))]
        kept = [one for one in self._documents[id_].classifications if one.label in labels]
        new = set(labels) - {one.label for one in kept}
        added = [fo.Classification(label=label) for label in sorted(new)]
        return fo.Classifications(classifications=[*kept, *added])


def original_text(target: Target, label_field: str, original: str) -> str:
    """What a review has kept of a label, as text."""
    return _kept_in(target, label_field).text_of(original)


def _kept_in(target: Target, label_field: str) -> _Labels:
    several = label_field_of(target, label_field).several
    return (_LabelSets if several else _Labels)(target, label_field)


def plan_review(
    target: Target,
    run: Run,
    decision: str,
    label: str | Sequence[str] | None,
    unflagged: bool,
) -> tuple[Reviews, Outcome]:
    """The reviews so far, and what one more will do; nothing is written.

    Raises:
        UserError: if the label cannot be set
    """
    kept = _kept_in(target, run.facts.required_label_field)
    ids = target.ids()
    labels = kept.read(ids)
    before = read_reviews(target, run)
    if decision == "undo":
        return before, _undone(ids, labels, before, kept)
    suggested = kept.suggested(run, ids, labels) if decision == "accept" else [None] * len(ids)
    chosen = kept.chosen(label) if label else None
    flags = target.values(f"{run.key}_flagged")
    outcome = Outcome()
    for id_, current, suggestion in zip(ids, labels, suggested):
        new = {"accept": suggestion, "keep": current, "set": chosen}[decision]
        seen = _seen(id_, current, bool(flags[id_][0]), before, kept)
        if current is None:
            outcome.skipped["no label"] += 1
        elif not seen.was_flagged and (decision == "accept" or not unflagged):
            outcome.skipped["not flagged"] += 1
        elif decision == "accept" and not seen.is_flagged:
            outcome.skipped["already reviewed"] += 1
        elif new is None:
            outcome.skipped["no suggestion"] += 1
        else:
            outcome.decisions[id_] = _decision(seen, new, decision)
            outcome.originals[id_] = seen.original or kept.original(id_, current)
            outcome.reviewed[id_] = new
            outcome.flagged[id_] = False
            if new != current:
                outcome.labels[id_] = kept.written(id_, new)
                outcome.changes[(current, new)] += 1
    return before, outcome


@dataclass(frozen=True)
class _Seen:
    """One label as a review finds it.

    Attributes:
        current: the label
        evaluated: the label that was evaluated: the first, unless another has been flagged since
        original: what is kept of the first label; None if there is none to go back to
        before: the decision on this label, which stands until it is edited or replaced
        is_flagged, was_flagged: whether it is flagged, or was before it was reviewed
    """

    current: str | None
    evaluated: str | None
    original: str | None
    before: str | None
    is_flagged: bool
    was_flagged: bool


def _seen(id_: str, current: str | None, is_flagged: bool, before: Reviews, kept: _Labels) -> _Seen:
    original, decided = before.originals.get(id_), before.decisions.get(id_)
    was_flagged = is_flagged or decided in OF_FLAGS
    if original is None:
        return _Seen(current, current, None, decided, is_flagged, was_flagged)
    first, reviewed = kept.text_of(original), before.reviewed.get(id_)
    if current in (first, reviewed):
        return _Seen(current, first, original, decided, is_flagged, was_flagged)
    # Edited manually since: undo goes back to the edited label, which may have been flagged itself.
    evaluated = current if is_flagged else first
    return _Seen(current, evaluated, None, None, is_flagged, was_flagged)


def _decision(seen: _Seen, new: str, decision: str) -> str:
    """What a review says of a label, of all reviews of it so far."""
    if new == seen.evaluated:
        return KEPT if seen.was_flagged else VERIFIED
    if new == seen.current and seen.before is not None:
        return seen.before
    taken = ACCEPTED if decision == "accept" else CHANGED
    return taken if seen.was_flagged else CORRECTED


def _undone(ids: list[str], labels: list[str | None], before: Reviews, kept: _Labels) -> Outcome:
    outcome = Outcome()
    for id_, current in zip(ids, labels):
        decision, original = before.decisions.get(id_), before.originals.get(id_)
        if original is None:
            outcome.skipped["not reviewed"] += 1
        elif current not in (before.reviewed.get(id_), kept.text_of(original)):
            outcome.skipped["the label was edited after its review"] += 1
        else:
            if current != kept.text_of(original):
                outcome.labels[id_] = kept.restored(original)
                outcome.changes[(current, kept.text_of(original))] += 1
            for values in (outcome.decisions, outcome.originals, outcome.reviewed):
                values[id_] = None
            if decision is not None:
                outcome.flagged[id_] = decision in OF_FLAGS
    return outcome
