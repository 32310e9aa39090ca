"""The check ``find_outliers``: what is unlike the others, and images without content."""

import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import fiftyone as fo
import numpy as np
from fiftyone import ViewField as F

from ..storage.findings import Column, Views, matching_view, plan_findings, store_findings
from ..storage.fingerprints import FILES as READ_FILES
from ..storage.fingerprints import GROUPS
from ..storage.reviews import TYPICAL, finding_reviews
from ..storage.runs import Run
from ..storage.target import Target
from .contract import EMBEDDINGS, FLAGGED, REVIEW, Check, FindingFields
from .inputs import Inputs
from .parameters import checked_threshold
from .progress import counted_notes

FOUND = (
    Column("score", fo.FloatField, "How unusual this is, from 0 (typical) to 1"),
    FLAGGED,
    Column("reason", fo.StringField, "The reason for the flag"),
    Column("group", fo.IntField, "The group unlike the rest, 1 for the most unusual one"),
)

OUTLIERS = Check(
    name="find_outliers",
    needs=frozenset({EMBEDDINGS}),
    columns=(*FOUND, REVIEW),
    views={
        "flagged": "Outliers and images with low information, most unusual first",
        "groups": "Groups of similar samples that are unlike the rest, most unusual first",
    },
    finding=FindingFields(
        kind="outlier",
        column="flagged",
        order=(("score", -1),),
        reported=("score", "reason"),
    ),
    would_find="outliers",
    count=("flagged", "flagged"),
)

OF_THE_SET, OF_ITS_CLASS = "unlike the rest of the dataset", "unlike its class"


def find_outliers(
    inputs: Inputs,
    *,
    threshold: str | float = "auto",
    check_pictures: bool = True,
    run_key: str | None = None,
) -> dict[str, Any]:
    """Finds outliers among the inputs, stores them, and returns what was found.

    Args:
        inputs: what is evaluated
        threshold, check_pictures, run_key: as of the operator

    Raises:
        UserError: if the input is at fault; an earlier run of the name then stays
    """
    from ..analysis import outliers

    started = time.monotonic()
    target, progress = inputs.target, inputs.progress
    wanted = checked_threshold(threshold)
    # Embeddings of texts say nothing of images, nor do these of them.
    check_pictures = check_pictures and inputs.text_field is None
    run = plan_findings(target, OUTLIERS.name, run_key, OUTLIERS.columns, [*OUTLIERS.views])
    progress.say("Scoring")
    found = inputs.outliers if wanted is None else inputs.find_outliers(wanted)
    names = {outliers.OF_THE_SET: OF_THE_SET, outliers.OF_ITS_CLASS: OF_ITS_CLASS}
    reasons = [names.get(int(reason)) for reason in found.reason]
    skipped: dict[str, int] = {}
    common: list[str] = []
    notes: list[str] = []
    if check_pictures:
        reasons, common, skipped, notes = _look_at_pixels(inputs, reasons)
    groups = _foreign_groups(inputs)
    # A group is one finding; its members are unusual only as a group.
    reasons = [
        None if number and reason in names.values() else reason
        for number, reason in zip(groups.numbers, reasons)
    ]
    typical = {id_ for id_, review in finding_reviews(target, run).items() if review == TYPICAL}
    reasons = [None if id_ in typical else reason for id_, reason in zip(inputs.ids, reasons)]
    read = (READ_FILES, GROUPS) if check_pictures else (GROUPS,)
    facts = inputs.facts({"threshold": threshold, "check_pictures": check_pictures}, *read)
    facts = replace(
        facts,
        skipped={**facts.skipped, **skipped},
        seconds=round(time.monotonic() - started, 2),
        special={
            "flagged": sum(reason is not None for reason in reasons),
            "reasons": dict(Counter(reason for reason in reasons if reason).most_common()),
            "groups": groups.rows,
            "common": common,
            "notes": notes,
            "threshold": round(found.threshold, 4),
            "duplicates": inputs.duplicates.run_key if inputs.duplicates else None,
        },
    )
    progress.say("Storing the scores")
    ids = inputs.ids
    values: dict[str, dict[str, Any]] = {
        "score": {id_: round(float(score), 6) for id_, score in zip(ids, found.score)},
        "flagged": {id_: reason is not None for id_, reason in zip(ids, reasons)},
        "reason": {id_: reason for id_, reason in zip(ids, reasons) if reason},
        "group": {id_: number for id_, number in zip(ids, groups.numbers) if number},
    }
    saved = store_findings(
        target,
        run,
        FOUND,
        values,
        lambda: _views(target, run, bool(groups.rows)),
        facts,
        results={"ids": " ".join(ids)},
        kept=(REVIEW,),
    )
    return {"run_key": run.key, **facts.as_dict(), "views": list(saved)}


def _look_at_pixels(
    inputs: Inputs, reasons: list[str | None]
) -> tuple[list[str | None], list[str], dict[str, int], list[str]]:
    """Adds what the pixels say: reasons, what most of the set has in common, what failed, notes."""
    from ..analysis.uninformative import find_uninformative

    measures = inputs.measures
    seen = find_uninformative(measures)
    reasons = [reason or other for reason, other in zip(seen.reasons, reasons)]
    failed = Counter(f"pixels not evaluated: {error}" for error in measures.errors.values())
    notes = counted_notes(measures.notes.values(), inputs.target.noun)
    return reasons, list(seen.common), dict(failed), notes


@dataclass(frozen=True)
class _Groups:
    """Groups unlike the rest: the number of each id's group from 1, 0 in none; a row for each."""

    numbers: list[int]
    rows: list[dict[str, Any]]


def _foreign_groups(inputs: Inputs) -> _Groups:
    """Clusters unlike all others, the most unusual first; without those that are a class."""
    from ..analysis.foreign_groups import find_foreign_groups

    found = find_foreign_groups(inputs.rows, inputs.clusters.cluster)
    numbers = np.zeros(len(inputs.ids), np.int64)
    rows: list[dict[str, Any]] = []
    for number, distance in enumerate(found.distance.tolist()):
        members = np.flatnonzero(found.group == number)
        if inputs.label_field is not None and _is_class(inputs.codes, members):
            continue
        numbers[members] = len(rows) + 1
        rows.append({"group": len(rows) + 1, "count": len(members), "distance": round(distance, 2)})
    return _Groups(numbers.tolist(), rows)


def _is_class(codes: np.ndarray, members: np.ndarray) -> bool:
    """Whether the labels name a group already: one class has half of it, and it half of that."""
    labeled = codes[members]
    labeled = labeled[labeled >= 0]
    if 2 * len(labeled) < len(members):
        return False
    inside = np.bincount(labeled)
    most = inside.argmax()
    return 2 * inside[most] >= max(len(members), int((codes == most).sum()))


def _views(target: Target, run: Run, with_groups: bool) -> Views:
    condition = F(f"{run.key}_flagged") == True  # noqa: E712
    score, group = f"{run.key}_score", f"{run.key}_group"
    view = matching_view(target, condition, [(score, -1)])
    views = {"flagged": (view, OUTLIERS.views["flagged"])}
    if with_groups:
        view = matching_view(target, F(group) != None, [(group, 1), (score, -1)])  # noqa: E711
        views["groups"] = (view, OUTLIERS.views["groups"])
    return views
