"""Reviews of duplicates, outliers and captions: decisions stick, and can be undone.

``<run_key>_review`` holds the decision. One that is no outlier, or fits, loses its flag; one that
is no duplicate is kept, and ``<run_key>_apart`` names those of its group, with which the next run
does not put it together again. What must be removed gets the tag ``<run_key>_remove``, nothing
else.
"""

from typing import Any

import fiftyone as fo

from ..errors import UserError
from ..storage.few import path_of, rows_where
from ..storage.findings import Column
from ..storage.locks import check_stored, writing
from ..storage.patch_names import SEPARATOR
from ..storage.paths import check_writable
from ..storage.reviews import (
    DISTINCT,
    FITS,
    REMOVE,
    TYPICAL,
    UNFLAGGING,
    check_decidable,
    under_review,
)
from ..storage.runs import Run
from ..storage.target import Target
from .caption_issues import CAPTION_ISSUES
from .contract import REVIEW
from .duplicates import APART, DUPLICATES
from .outliers import OUTLIERS

DECISIONS = {
    DUPLICATES.name: (DISTINCT, REMOVE),
    OUTLIERS.name: (TYPICAL, REMOVE),
    CAPTION_ISSUES.name: (FITS, REMOVE),
}


def review_finding(target: Target, run: Run, decision: str) -> int:
    """Decides about duplicates, outliers or captions, and returns how many were.

    Args:
        target: the samples or patches
        run: the run that found them
        decision: ``"distinct"`` (no duplicate), ``"typical"`` (no outlier), ``"keep"`` (the
            caption fits), ``"remove"`` (tag it) or ``"undo"``

    Raises:
        UserError: if the input is at fault, or nothing of it was flagged; nothing is changed then
    """
    offered = (*DECISIONS.get(run.operator, ()), "undo")
    if decision not in offered:
        raise UserError(f"decision={decision!r} is not known here; choose {', '.join(offered)}")
    with writing(target.dataset, run.key):
        return _review(target, run, decision)


def _review(target: Target, run: Run, decision: str) -> int:
    flag = "keep" if run.operator == DUPLICATES.name else "flagged"
    names = [f"{run.key}_{name}" for name in (flag, REVIEW.name)]
    found = target.values(*names, f"{run.key}_group")
    if decision == "undo":
        chosen = {id_: row for id_, row in found.items() if row[1] is not None}
    else:
        chosen = {id_: row for id_, row in found.items() if row[0] == (flag != "keep") or row[1]}
    if not chosen:
        why = "it was not reviewed" if decision == "undo" else "it is not flagged"
        raise UserError(f"Nothing was changed: {why}")
    columns = (REVIEW, APART) if run.operator == DUPLICATES.name else (REVIEW,)
    check_decidable(target, run, columns)
    if decision == REMOVE or any(review == REMOVE for _, review, _ in chosen.values()):
        check_taggable(target.dataset, run, "decision")
    with under_review(target, run, columns):
        _decide(target, run, decision, chosen)
    return len(chosen)


def _decide(target: Target, run: Run, decision: str, chosen: dict[str, tuple]) -> None:
    """Writes a decision, its consequences after it.

    Args:
        target: the samples or patches
        run: the run that found them
        decision: what was decided
        chosen: flag or kept, decision so far and group, by id
    """
    duplicates = run.operator == DUPLICATES.name
    flag = f"{run.key}_{'keep' if duplicates else 'flagged'}"
    samples, grouped = target.sample_ids, [id_ for id_, row in chosen.items() if row[2] is not None]
    before = {id_: review for id_, (_, review, _) in chosen.items()}
    if decision != "undo":
        _write(target, run, REVIEW, dict.fromkeys(chosen, decision))
    # What an earlier decision did is undone first.
    _tag(target, run, [id_ for id_, review in before.items() if review == REMOVE], add=False)
    if decision == DISTINCT:
        others = {id_: _others_of(target, run, chosen[id_][2], id_) for id_ in grouped}
        _write(target, run, APART, others)
        target.write(flag, dict.fromkeys(chosen, True), samples)
    elif duplicates:
        again = [id_ for id_, review in before.items() if review == DISTINCT]
        # What the next run has taken out of its group is redundant to nothing until it runs again.
        redundant = [id_ for id_ in again if id_ in grouped]
        target.write(flag, dict.fromkeys(redundant, False), samples)
        _write(target, run, APART, dict.fromkeys(again))
    else:
        target.write(flag, dict.fromkeys(chosen, decision not in UNFLAGGING), samples)
    if decision == REMOVE:
        _tag(target, run, list(chosen), add=True)
    if decision == "undo":
        _write(target, run, REVIEW, dict.fromkeys(chosen))


def check_taggable(dataset: fo.Dataset, run: Run, parameter: str) -> None:
    """Refuses tags that the user has made read-only.

    Raises:
        UserError: that names the field and the way out
    """
    check_writable(dataset, parameter, path_of(dataset, run.facts.about, "tags"))


def removal_tag(run: Run) -> str:
    """The tag of what a person wants to be removed."""
    return f"{run.key}_{REMOVE}"


def _write(target: Target, run: Run, column: Column, values: dict[str, Any]) -> None:
    """Writes a decision, stored before what follows from it and after what it takes back."""
    check_stored(target.dataset, run.key)
    target.write(f"{run.key}_{column.name}", values, target.sample_ids)
    check_stored(target.dataset, run.key)


def _others_of(target: Target, run: Run, group: int, id_: str) -> list[str]:
    rows = rows_where(target.dataset, run.facts.about, {f"{run.key}_group": [group]})
    mine = {id_, f"{id_.partition(SEPARATOR)[0]}{SEPARATOR}{target.sample_ids[id_]}"}
    return [other for (other,) in rows if other not in mine]


def _tag(target: Target, run: Run, ids: list[str], add: bool) -> None:
    if not ids:
        return
    tag = removal_tag(run)
    if target.patches_field is None:
        view = target.all_samples.select(ids)
        (view.tag_samples if add else view.untag_samples)(tag)
        return
    labels = [
        {"sample_id": target.sample_ids[id_], "label_id": label_id, "field": target.patches_field}
        for id_, label_id in zip(ids, target.label_ids(ids))
    ]
    view = target.all_samples.select_labels(labels=labels)
    (view.tag_labels if add else view.untag_labels)(tag, label_fields=target.patches_field)
