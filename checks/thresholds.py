"""The threshold of a scored finding, moved afterwards: flags and saved view follow at once.

Nothing is computed. What a person has decided stays, and so does what is flagged for another reason
than its score. What the run itself has flagged is known of it, and can be had back.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import fiftyone as fo
import numpy as np

from ..errors import UserError
from ..storage.arrays import decode
from ..storage.few import path_of
from ..storage.findings import refresh_views
from ..storage.kept import Kept
from ..storage.labels import read_labels
from ..storage.locks import writing
from ..storage.reviews import TYPICAL, under_review
from ..storage.runs import Run, read_run, required_results
from ..storage.staleness import last_touched
from ..storage.target import Target
from ..storage.targets import about_of
from .label_issue_columns import LABEL_ISSUES
from .outliers import OF_ITS_CLASS, OF_THE_SET, OUTLIERS
from .parameters import checked_threshold

# Scores are counted by the hundredth, the step of a threshold. They have six digits.
STEPS, ROUNDING = 100, 1e-4

# What a run says of a threshold that was moved: what it said before.
MOVED = "moved_from"

BY_HAND = "above the threshold"


@dataclass(frozen=True)
class Scores:
    """What a run says of n samples or patches, and what it would flag.

    Attributes:
        ids: n ids
        values: (n,) float64 scores in [0, 1]
        low: whether low scores are flagged, as of the quality of labels
        by_score: (n,) bool, flagged if the score reaches the threshold
        always: (n,) bool, flagged whatever the score
        own: (n,) bool, what the run itself has flagged
        now: (n,) bool, what is flagged now
        decided: (n,) bool, what a person has decided not to flag
        reasons: n reasons of the run, or None
        threshold: the last score that is flagged; None if more than the score has decided
        moved: whether that is not the run's own
    """

    ids: tuple[str, ...]
    values: np.ndarray
    low: bool
    by_score: np.ndarray
    always: np.ndarray
    own: np.ndarray
    now: np.ndarray
    decided: np.ndarray
    reasons: tuple[str | None, ...]
    threshold: float | None
    moved: bool

    @property
    def counts(self) -> tuple[int, ...]:
        """How many have which score, by the hundredth: the first is of scores from 0 to 0.01."""
        hundredths = self.values[self.by_score & ~self.decided] * STEPS
        if self.low:
            part = np.ceil(hundredths - ROUNDING).astype(int) - 1
        else:
            part = np.floor(hundredths + ROUNDING).astype(int)
        counted = np.bincount(np.clip(part, 0, STEPS - 1), minlength=STEPS)
        return tuple(counted.tolist())

    @cached_property
    def forecasts(self) -> list[tuple[float, int]]:
        """Of each hundredth, the threshold that just includes it, and how many that would flag."""
        thresholds = (np.arange(STEPS) + int(self.low)) / STEPS
        return [(float(one), int(self.flags(float(one)).sum())) for one in thresholds]

    def flags(self, threshold: float | None) -> np.ndarray:
        """What is flagged with this threshold, or by the run itself: (n,) bool."""
        if threshold is None:
            return self.own & ~self.decided
        beyond = threshold - self.values if self.low else self.values - threshold
        reached = beyond >= -ROUNDING / STEPS
        return (self.always | (self.by_score & reached)) & ~self.decided

    def nearest(self) -> float:
        """The threshold, or the one that flags about as many as the run itself."""
        if self.threshold is not None:
            return self.threshold
        wanted = self.flags(None).sum()
        tried = np.arange(1, STEPS) / STEPS
        return float(min(tried, key=lambda one: abs(int(self.flags(one).sum()) - wanted)))


def has_threshold(run: Run) -> bool:
    return (
        run.operator in _READ
        and run.finished
        and not run.facts.about.frames
        and "threshold" in run.facts.special
    )


def read_scores(dataset: fo.Dataset, run: Run) -> Scores:
    """The scores of a run; kept in memory, because a slider asks for them at each step.

    Raises:
        UserError: if the run was deleted
    """
    name = (dataset._doc.id, run.key, run.written_at, run.facts.special["threshold"])
    return _kept_scores.get(
        (*name, MOVED in run.facts.special, last_touched(dataset)),
        lambda: _read(about_of(dataset, run.facts.about), run),
    )


_kept_scores = Kept(1)


def _read(target: Target, run: Run) -> Scores:
    names = [f"{run.key}_{name}" for name in (_SCORE[run.operator], "flagged", "review")]
    for name in names[:2]:
        if target.dataset.get_field(path_of(target.dataset, target.about, name)) is None:
            raise UserError(f"The run {run.key!r} was deleted")
    return _READ[run.operator](target, run, names)


def _columns(target: Target, names: list[str]) -> dict[str, list[Any]]:
    """Ids and values of what has a score, by the names of the fields; None where one is not."""
    known = [name for name in names if target.has_field(name)]
    rows = {id_: row for id_, row in target.values(*known).items() if row[0] is not None}
    columns: dict[str, list[Any]] = {name: [None] * len(rows) for name in names}
    columns |= {name: [row[place] for row in rows.values()] for place, name in enumerate(known)}
    return {"id": list(rows), **columns}


def _of_outliers(target: Target, run: Run, names: list[str]) -> Scores:
    reason = f"{run.key}_reason"
    group = f"{run.key}_group"
    read = _columns(target, [*names, reason, group])
    with_reason = np.array([one is not None for one in read[reason]], bool)
    by_score = np.array([one in (OF_THE_SET, OF_ITS_CLASS, None) for one in read[reason]], bool)
    # Members of a group unlike the rest are no outliers at any threshold.
    by_score &= np.array([one is None for one in read[group]], bool)
    return Scores(
        ids=tuple(read["id"]),
        values=np.array(read[names[0]], np.float64),
        low=False,
        by_score=by_score,
        always=with_reason & ~by_score,
        own=with_reason,
        now=np.array(read[names[1]], bool),
        decided=np.array([one == TYPICAL for one in read[names[2]]], bool),
        reasons=tuple(read[reason]),
        threshold=float(run.facts.special["threshold"]),
        moved=MOVED in run.facts.special,
    )


def _of_label_issues(target: Target, run: Run, names: list[str]) -> Scores:
    # Of patches, the suggestion is a name; labels without one suit better than any other.
    suggested = f"{run.key}_suggested" + ("" if target.patches_field else ".label")
    read = _columns(target, [*names, suggested])
    results = required_results(target.dataset, run)
    flagged = np.unpackbits(decode(results.flags)).astype(bool).tolist()
    own = {id_ for id_, flag in zip(results.ids.split(), flagged) if flag}
    now = np.array(read[names[1]], bool)
    return Scores(
        ids=tuple(read["id"]),
        values=np.array(read[names[0]], np.float64),
        low=True,
        by_score=np.array([one is not None for one in read[suggested]], bool),
        always=np.zeros(len(now), bool),
        own=np.array([id_ in own for id_ in read["id"]], bool),
        now=now,
        # What is flagged beside a decision was edited since and flagged again.
        decided=np.array([one is not None for one in read[names[2]]], bool) & ~now,
        reasons=(None,) * len(now),
        threshold=run.facts.special["threshold"],
        moved=MOVED in run.facts.special,
    )


_READ: dict[str, Callable[[Target, Run, list[str]], Scores]] = {
    OUTLIERS.name: _of_outliers,
    LABEL_ISSUES.name: _of_label_issues,
}
_SCORE = {OUTLIERS.name: "score", LABEL_ISSUES.name: "quality"}


def move_threshold(dataset: fo.Dataset, run_key: str, threshold: float | None) -> dict[str, Any]:
    """Flags what scores at least this, labels of this quality or less; or what the run has flagged.

    Args:
        dataset: the dataset
        run_key: a run of ``find_outliers``, or of ``find_label_issues`` with one label each
        threshold: between 0 and 1; None for the run's own flags

    Returns:
        how many are ``flagged`` now, and how many were ``before``

    Raises:
        UserError: if there is no such run, or the threshold is out of range; nothing is changed
    """
    if threshold is not None:
        threshold = checked_threshold(threshold)
    with writing(dataset, run_key):
        run = read_run(dataset, run_key)
        if run is None or not has_threshold(run):
            raise UserError(
                f"run_key={run_key!r} is not a finished run of find_outliers, or of "
                "find_label_issues with one label per sample; run that first"
            )
        return _move(about_of(dataset, run.facts.about), run, threshold)


# What a run reports of its own flags alone.
_OF_OWN_FLAGS = ("expected_precision", "precision_range")


def _move(target: Target, run: Run, threshold: float | None) -> dict[str, Any]:
    scores = _read(target, run)
    flags = scores.flags(threshold)
    special = run.facts.special
    moved = special.get(MOVED) or {
        "threshold": special["threshold"],
        "parameter": run.facts.parameters["threshold"],
        **{name: special[name] for name in _OF_OWN_FLAGS if name in special},
    }
    parameter = moved["parameter"] if threshold is None else threshold
    # The audit that is updated repeats the check with the threshold that was chosen. What it was
    # before is written first: a move that is interrupted can be undone.
    facts = dataclasses.replace(
        run.facts,
        parameters={**run.facts.parameters, "threshold": parameter},
        special={**special, MOVED: moved},
    )
    changes = {"threshold": threshold, **{name: None for name in _OF_OWN_FLAGS if name in special}}
    if threshold is None:
        changes = {name: value for name, value in moved.items() if name != "parameter"}
    changes |= {"flagged": int(flags.sum()), **_counts(target, run, scores, flags)}
    with under_review(target, dataclasses.replace(run, facts=facts), ()) as written:
        changed = np.flatnonzero(flags != scores.now).tolist()
        values = {scores.ids[row]: bool(flags[row]) for row in changed}
        target.write(f"{run.key}_flagged", values, target.sample_ids)
        written |= changes
        refresh_views(target.dataset, run)
        if threshold is None:
            del written[MOVED]
    return {"flagged": int(flags.sum()), "before": int(scores.now.sum())}


def _counts(target: Target, run: Run, scores: Scores, flags: np.ndarray) -> dict[str, Any]:
    """What a run reports of its flags in more detail: their reasons, or their classes."""
    ids = [scores.ids[row] for row in np.flatnonzero(flags).tolist()]
    if run.operator == OUTLIERS.name:
        reasons = Counter(scores.reasons[row] or BY_HAND for row in np.flatnonzero(flags))
        return {"reasons": dict(reasons.most_common())}
    of_class = Counter(read_labels(target, run.facts.required_label_field, ids))
    classes = run.facts.special["classes"]
    return {"classes": [{**row, "flagged": of_class[row["label"]]} for row in classes]}
