"""The threshold of outliers, moved afterwards: flags and saved view follow, nothing is computed.

What a person has decided stays, and so does what is flagged for its pixels. ``reason`` keeps what
the run said; so the run's own flags can be had back.
"""

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import Any

import fiftyone as fo

from ..errors import UserError
from ..storage.few import all_samples, path_of
from ..storage.locks import writing
from ..storage.reviews import TYPICAL, under_review
from ..storage.runs import Run, read_run
from ..storage.targets import about_of
from .outliers import OF_ITS_CLASS, OF_THE_SET, OUTLIERS
from .parameters import checked_threshold

# Scores are counted by the hundredth, the step of a threshold.
STEPS = 100

# What a run says of a threshold that was moved: the threshold and the parameter before.
MOVED = "moved_from"

BY_HAND = "above the threshold"


@dataclass(frozen=True)
class Scores:
    """How many samples or patches have which score.

    Attributes:
        counts: by the hundredth: the first is of scores from 0 to 0.01
        threshold: the lowest score that is flagged
        moved: whether that is not the run's own
    """

    counts: tuple[int, ...]
    threshold: float
    moved: bool

    def above(self, threshold: float) -> int:
        """How many have this score, a whole number of hundredths, or a higher one."""
        return sum(self.counts[round(threshold * STEPS) :])


def has_threshold(run: Run) -> bool:
    return run.operator == OUTLIERS.name and run.finished and not run.facts.about.frames


def read_scores(dataset: fo.Dataset, run: Run) -> Scores:
    """The scores of a run of ``find_outliers``."""
    path = path_of(dataset, run.facts.about, f"{run.key}_score")
    if dataset.get_field(path) is None:
        raise UserError(f"The run {run.key!r} was deleted")
    # Scores have six digits: a little below the hundredths, each is in the part that it reaches.
    edges = (-1e-6, 1 + 1e-9)
    counts, _, _ = all_samples(dataset).histogram_values(path, bins=STEPS, range=edges)
    special = run.facts.special
    return Scores(tuple(map(int, counts)), float(special["threshold"]), MOVED in special)


def move_threshold(dataset: fo.Dataset, run_key: str, threshold: float | None) -> dict[str, Any]:
    """Flags what scores at least this, or what the run itself has flagged.

    Args:
        dataset: the dataset
        run_key: a run of ``find_outliers``
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
                f"run_key={run_key!r} is no finished run of find_outliers; run that first"
            )
        return _move(dataset, run, threshold)


def _move(dataset: fo.Dataset, run: Run, threshold: float | None) -> dict[str, Any]:
    target = about_of(dataset, run.facts.about)
    names = [f"{run.key}_{name}" for name in ("score", "flagged", "reason")]
    review = f"{run.key}_review"
    known = dataset.get_field(target.dataset_path(review)) is not None
    found = {
        id_: row
        for id_, row in target.values(*names, *([review] if known else [])).items()
        if row[0] is not None
    }
    flags, reasons = {}, Counter()
    for id_, (score, _, reason, *decided) in found.items():
        by_score = reason in (OF_THE_SET, OF_ITS_CLASS, None)
        flagged = reason is not None
        if threshold is not None and by_score:
            flagged = score >= threshold
        flags[id_] = flagged and TYPICAL not in decided
        if flags[id_]:
            reasons[reason or BY_HAND] += 1
    before = sum(bool(row[1]) for row in found.values())
    moved = run.facts.special.get(MOVED) or {
        "threshold": run.facts.special["threshold"],
        "parameter": run.facts.parameters["threshold"],
    }
    parameter = moved["parameter"] if threshold is None else threshold
    # The audit that is updated repeats the check with the threshold that was chosen. What it was
    # before is written first: a move that is interrupted can be taken back.
    facts = dataclasses.replace(
        run.facts,
        parameters={**run.facts.parameters, "threshold": parameter},
        special={**run.facts.special, MOVED: moved},
    )
    with under_review(target, dataclasses.replace(run, facts=facts), ()) as special:
        changed = {id_: flag for id_, flag in flags.items() if flag != bool(found[id_][1])}
        target.write(names[1], changed, target.sample_ids)
        special |= {"flagged": sum(flags.values()), "reasons": dict(reasons.most_common())}
        special["threshold"] = moved["threshold"] if threshold is None else threshold
        if threshold is None:
            del special[MOVED]
    return {"flagged": sum(flags.values()), "before": before}
