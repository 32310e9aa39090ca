"""What people have decided about flagged labels: kept beside the flags, and undone from there.

Three fields of a run of ``find_label_issues``: ``<run_key>_original``, the label before the first
decision, ``<run_key>_reviewed``, the label after it, and ``<run_key>_review``, the decision.

They are written so that a process that is killed at any write loses nothing: what was and what
must be first, then the label, then the decision, then the flag. Where there is an original without
a decision, or a flag beside its decision, a review was interrupted; the same review, or taking it
back, completes it.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import fiftyone as fo
import numpy as np

from .findings import Column, declare_column
from .locks import check_stored, guard
from .names import check_unclaimed
from .paths import check_writable
from .runs import Run, write_run
from .target import Target

# Decisions on flagged labels: the suggestion was taken, another label was set, or the label stays;
# and on labels that were not flagged: it was replaced, or it stays.
ACCEPTED, CHANGED, KEPT = "accepted", "changed", "kept"

# Reviewed flags of which half must be right to show that labels are wrong.
FEWEST_CONFIRMED = 4
CORRECTED, VERIFIED = "corrected", "verified"

OF_FLAGS = (ACCEPTED, CHANGED, KEPT)

# Decisions on duplicates, outliers and captions: it is none, it fits, or it must be removed.
DISTINCT, TYPICAL, FITS, REMOVE = "distinct", "typical", "keep", "remove"

# Those that take a flag away.
UNFLAGGING = (TYPICAL, FITS)

# What the fields of a run hold.
REVIEW = Column("review", fo.StringField, "The review decision about this label")
ORIGINAL = Column("original", fo.StringField, "The label before the first review")
REVIEWED = Column("reviewed", fo.StringField, "The label after the review")
REVIEW_COLUMNS = (REVIEW, ORIGINAL, REVIEWED)

# What a run says while a review is being written.
UNDER_REVIEW = "under_review"


@dataclass(frozen=True)
class Reviews:
    """The decisions of one run.

    Attributes:
        decisions: by the id of the sample or patch
        originals: the label before the first decision, by id
        reviewed: the label that the decision left, by id
    """

    decisions: Mapping[str, str]
    originals: Mapping[str, str]
    reviewed: Mapping[str, str]

    def counts(self) -> dict[str, Any]:
        """How many reviews there are, and which share of the reviewed flags was right."""
        counts = Counter(self.decisions.values())
        flags = sum(counts[name] for name in OF_FLAGS)
        right = counts[ACCEPTED] + counts[CHANGED]
        return {
            "reviewed": len(self.decisions),
            "flags_reviewed": flags,
            "measured_precision": round(right / flags, 3) if flags else None,
        }

    @property
    def confirm_noise(self) -> bool:
        """Whether flags that were reviewed were right so often that there is label noise."""
        counts = self.counts()
        flags, precision = counts["flags_reviewed"], counts["measured_precision"]
        return flags >= FEWEST_CONFIRMED and precision >= 0.5

    def after(self, outcome: "Outcome") -> "Reviews":
        """The decisions with what a review adds to them, and takes away."""
        pairs = (
            (self.decisions, outcome.decisions),
            (self.originals, outcome.originals),
            (self.reviewed, outcome.reviewed),
        )
        return Reviews(
            *(
                {id_: value for id_, value in {**old, **new}.items() if value is not None}
                for old, new in pairs
            )
        )

    def settled(self, ids: Sequence[str], labels: Sequence[str | None]) -> np.ndarray:
        """Which labels are those that a person has decided on: ``(num_ids,)`` bool."""
        return np.array(
            [
                id_ in self.decisions and self.reviewed.get(id_) == label
                for id_, label in zip(ids, labels)
            ],
            bool,
        )


def read_reviews(target: Target, run: Run | None) -> Reviews:
    """The decisions of a run on all samples or patches of the dataset, not only of the view."""
    if run is None:
        return Reviews({}, {}, {})
    names = [f"{run.key}_{column.name}" for column in REVIEW_COLUMNS]
    # What was reviewed has an original: few of many samples, as a rule.
    ids = target.everything.ids(having=f"{run.key}_{ORIGINAL.name}")
    rows = target.only(ids).values(*names) if ids else {}
    decisions, originals, reviewed = (
        {id_: row[place] for id_, row in rows.items() if row[place] is not None}
        for place in range(len(names))
    )
    return Reviews(decisions, originals, reviewed)


def finding_reviews(target: Target, run: Run) -> dict[str, str]:
    """What people have decided about a run's duplicates or outliers, by id, of all the dataset."""
    name = f"{run.key}_{REVIEW.name}"
    reviewed = target.everything.ids(having=name)
    rows = target.only(reviewed).values(name) if reviewed else {}
    return {id_: value for id_, (value,) in rows.items() if value is not None}


@dataclass(frozen=True)
class Outcome:
    """What a review does, by the id of the sample or patch.

    Attributes:
        labels: labels to write, as they are stored
        decisions: the decision, or None to remove it
        originals: the label before the first review, or None to remove it
        reviewed: the label after the review, or None to remove it
        flagged: flags to write
        changes: how many labels become which, by the label before and the label after, as texts
        skipped: how many are left as they are, by reason
    """

    labels: dict[str, Any] = field(default_factory=dict)
    decisions: dict[str, str | None] = field(default_factory=dict)
    originals: dict[str, str | None] = field(default_factory=dict)
    reviewed: dict[str, str | None] = field(default_factory=dict)
    flagged: dict[str, bool] = field(default_factory=dict)
    changes: Counter = field(default_factory=Counter)
    skipped: Counter = field(default_factory=Counter)


def check_reviewable(target: Target, run: Run, label_path: str) -> None:
    """Refuses a review whose labels or decisions cannot be written, before anything is.

    Raises:
        UserError: that names the read-only field
    """
    check_writable(target.dataset, "label_field", target.dataset_path(label_path))
    check_writable(target.dataset, "run_key", target.dataset_path(f"{run.key}_flagged"))
    check_decidable(target, run, REVIEW_COLUMNS)


def write_reviews(
    target: Target, run: Run, label_path: str, reviews: Reviews, outcome: Outcome
) -> Reviews:
    """Writes what a review does, and returns the decisions so far.

    Args:
        target: the samples or patches that were reviewed
        run: the run of ``find_label_issues``
        label_path: the path of the labels
        reviews: the decisions before
        outcome: what to write
    """
    samples = target.sample_ids

    def write(name: str, values: Mapping[str, Any], keep: bool) -> None:
        chosen = {id_: value for id_, value in values.items() if (value is not None) == keep}
        target.write(f"{run.key}_{name}", chosen, samples)

    with under_review(target, run, REVIEW_COLUMNS) as facts:
        # What was and what must be first, so that it can be completed or undone from there …
        write("original", outcome.originals, keep=True)
        write("reviewed", outcome.reviewed, keep=True)
        check_stored(target.dataset, run.key)
        target.write(label_path, outcome.labels, samples)
        # A flag goes after its decision, and comes back before it: where both are, one is
        # completed.
        write("review", outcome.decisions, keep=True)
        check_stored(target.dataset, run.key)
        target.write(f"{run.key}_flagged", outcome.flagged, samples)
        write("review", outcome.decisions, keep=False)
        # … and forgotten last.
        check_stored(target.dataset, run.key)
        write("reviewed", outcome.reviewed, keep=False)
        write("original", outcome.originals, keep=False)
        reviews = reviews.after(outcome)
        facts["reviews"] = reviews.counts()
    return reviews


@contextmanager
def under_review(target: Target, run: Run, columns: Sequence[Column]) -> Iterator[dict[str, Any]]:
    """While decisions are written, the run says so: an interrupted one is reported as interrupted.

    Args:
        target: the samples or patches that are reviewed
        run: the run that found them
        columns: the fields of decisions, which become the run's before anything is written to them

    Yields:
        the run's special facts, which are stored at the end
    """
    owning = _owning(target, run, columns)

    def write(special: Mapping[str, Any]) -> None:
        # When the findings were made does not change by a review.
        facts = dataclasses.replace(run.facts, special=dict(special))
        write_run(
            target.dataset, dataclasses.replace(owning, facts=facts), written_at=run.written_at
        )

    special = dict(run.facts.special)
    write({**special, UNDER_REVIEW: True})
    with guard:
        for column in columns:
            declare_column(target, owning, column)
    yield special
    special.pop(UNDER_REVIEW, None)
    write(special)


def check_decidable(target: Target, run: Run, columns: Sequence[Column]) -> None:
    """Refuses decisions whose fields are somebody else's.

    Raises:
        UserError: that names the field
    """
    check_unclaimed(target.dataset, "run_key", _owning(target, run, columns))


def _owning(target: Target, run: Run, columns: Sequence[Column]) -> Run:
    paths = (target.dataset_path(f"{run.key}_{column.name}") for column in columns)
    return dataclasses.replace(run, fields=tuple(dict.fromkeys((*run.fields, *paths))))
