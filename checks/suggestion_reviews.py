"""Suggested labels become labels when a person says so, and can be undone."""

import time
from typing import Any

import fiftyone as fo

from ..errors import UserError
from ..storage.labels import LabelField, label_field_of
from ..storage.locks import writing
from ..storage.paths import check_writable
from ..storage.reviews import (
    ACCEPTED,
    REVIEW_COLUMNS,
    Outcome,
    check_decidable,
    read_reviews,
    write_reviews,
)
from ..storage.runs import Run, plugin_runs, read_run
from ..storage.target import Target
from ..storage.targets import resolve_target
from .reviews import in_terms_of
from .suggestions import SUGGESTIONS

DECISIONS = ("accept", "undo")

# What is kept of a label that was not there.
NOTHING = "null"


def review_suggestions(
    samples: Any, *, decision: str, unsure: bool = False, run_key: str = "suggestions"
) -> dict[str, Any]:
    """Writes suggested labels into the field that they were suggested for, or undoes that.

    Args:
        samples: a dataset or view: what is reviewed
        decision, unsure, run_key: as of the operator

    Raises:
        UserError: if the input is at fault; nothing is changed then
    """
    started = time.monotonic()
    if decision not in DECISIONS:
        raise UserError(f"decision={decision!r} is not known; choose 'accept' or 'undo'")
    with writing(samples._root_dataset, run_key):
        run, target = reviewed_run(samples, run_key)
        field = label_field_of(target, run.facts.required_label_field)
        path = _written_path(target, field)
        check_writable(target.dataset, "label_field", target.dataset_path(path))
        check_decidable(target, run, REVIEW_COLUMNS)
        before = read_reviews(target, run)
        stored = {id_: row[0] for id_, row in target.values(path).items()}
        labels = {
            id_: field.text(value.label if isinstance(value, fo.Label) else value)
            for id_, value in stored.items()
        }
        outcome = Outcome()
        if decision == "undo":
            for id_, current in labels.items():
                if id_ not in before.originals:
                    outcome.skipped["not accepted"] += 1
                elif current not in (None, before.reviewed.get(id_)):
                    outcome.skipped["the label was edited after it was accepted"] += 1
                else:
                    original = before.originals[id_]
                    outcome.labels[id_] = _restored(original)
                    outcome.changes[(current, None)] += 1
                    for values in (outcome.decisions, outcome.originals, outcome.reviewed):
                        values[id_] = None
        else:
            suggested = _suggested(target, run)
            for id_, current in labels.items():
                label, sure = suggested[id_]
                if current is not None:
                    outcome.skipped["labeled already"] += 1
                elif label is None:
                    outcome.skipped["no suggestion"] += 1
                elif not (sure or unsure):
                    outcome.skipped["not sure enough"] += 1
                else:
                    outcome.decisions[id_] = ACCEPTED
                    outcome.originals[id_] = _kept(stored[id_])
                    outcome.reviewed[id_] = label
                    outcome.labels[id_] = _new(field, path, stored[id_], label)
                    outcome.changes[(None, label)] += 1
        reviews = write_reviews(target, run, path, before, outcome)
    return {
        "run_key": run_key,
        "decision": decision,
        "things": target.noun,
        "label_field": field.name,
        "read": len(labels),
        "changed": len(outcome.labels),
        "classes": {
            new or old: count for (old, new), count in outcome.changes.most_common() if new or old
        },
        "skipped": dict(outcome.skipped),
        "accepted": len(reviews.decisions),
        "seconds": round(time.monotonic() - started, 2),
    }


def suggesting_runs(dataset: fo.Dataset) -> list[Run]:
    """The finished runs whose suggestions can be accepted, the latest first."""
    runs = [run for run in plugin_runs(dataset, SUGGESTIONS.name) if run.finished]
    return sorted(runs, key=lambda run: run.written_at or "", reverse=True)


def reviewed_run(samples: Any, run_key: str) -> tuple[Run, Target]:
    """The run, and the samples or patches in its terms.

    Raises:
        UserError: if there is no such finished run, or it is about something else
    """
    dataset = samples._root_dataset
    run = read_run(dataset, run_key)
    if run is None or run.operator != SUGGESTIONS.name or not run.finished:
        names = ", ".join(one.key for one in suggesting_runs(dataset)) or "none"
        raise UserError(
            f"run_key={run_key!r} is no finished run of suggest_labels; there are: {names}"
        )
    return run, in_terms_of(run, resolve_target(samples, run.facts.about.patches_field))


def _written_path(target: Target, field: LabelField) -> str:
    """Where labels are written: a Classification as a whole, because there may be none yet."""
    whole = target.patches_field is None and field.kind == "label"
    return field.path.rpartition(".")[0] if whole else field.path


def _suggested(target: Target, run: Run) -> dict[str, tuple[str | None, bool]]:
    """The suggested label of each sample or patch, and whether it is sure enough."""
    path = f"{run.key}_label" + ("" if target.patches_field else ".label")
    rows = target.values(path, f"{run.key}_accepted")
    return {id_: (label, bool(sure)) for id_, (label, sure) in rows.items()}


def _kept(value: Any) -> str:
    """What was there instead of a label."""
    return value.to_json() if isinstance(value, fo.Label) else NOTHING


def _restored(original: str) -> Any:
    return None if original == NOTHING else fo.Classification.from_json(original)


def _new(field: LabelField, path: str, stored: Any, label: str) -> Any:
    if path == field.path:
        return field.value(label)
    new = stored.copy() if stored is not None else fo.Classification()
    new.label = field.value(label)
    return new
