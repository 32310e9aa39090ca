"""The order in which a person decides on what a run found: read from the database, never kept.

What was decided stays in its place, so that one can go back to it, and whoever comes back later
goes on where the first undecided one is.
"""

import datetime
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import fiftyone as fo

from ..storage.few import path_of, rows_where, touched_since
from ..storage.patch_names import SEPARATOR
from ..storage.reviews import DISTINCT, OF_FLAGS, UNFLAGGING
from ..storage.runs import Run
from ..storage.staleness import last_touched
from .caption_issues import CAPTION_ISSUES
from .duplicates import DUPLICATES
from .label_issue_columns import LABEL_ISSUES
from .outliers import OUTLIERS

# What is decided on: the flag that says so, and by what it is sorted, the largest first or last.
_FLAGS = {
    LABEL_ISSUES.name: ("flagged", True, "quality", 1),
    DUPLICATES.name: ("keep", False, "group", 1),
    OUTLIERS.name: ("flagged", True, "score", -1),
    CAPTION_ISSUES.name: ("flagged", True, "rank", 1),
}


@dataclass(frozen=True)
class Queue:
    """What is decided on, in order.

    Attributes:
        ids: of samples, or of patches with their samples
        decided: those of them on which a person has decided
    """

    ids: tuple[str, ...]
    decided: frozenset[str] = frozenset()

    @cached_property
    def _places(self) -> dict[str, int]:
        # The App names a patch by its label alone.
        named = {id_.partition(SEPARATOR)[0]: place for place, id_ in enumerate(self.ids)}
        return named | {id_: place for place, id_ in enumerate(self.ids)}

    @property
    def num_open(self) -> int:
        return len(self.ids) - len(self.decided)

    def place(self, id_: str | None) -> int | None:
        """The place of a sample or patch, from 0; None if it is not in the queue."""
        return self._places.get(id_ or "", self._places.get((id_ or "").partition(SEPARATOR)[0]))

    def within(self, app_ids: Iterable[str]) -> "Queue":
        """The part of the queue that a view shows, whose patches the App names by their labels."""
        shown = set(app_ids)
        ids = tuple(id_ for id_ in self.ids if id_.partition(SEPARATOR)[0] in shown)
        return Queue(ids, self.decided & set(ids))

    def after(self, id_: str | None) -> str | None:
        """The next one that is not decided, the first again after the last; None if there is none.

        Args:
            id_: the one that is looked at, which is skipped
        """
        place = self.place(id_)
        order = self.ids if place is None else self.ids[place + 1 :] + self.ids[:place]
        return next((one for one in order if one not in self.decided), None)

    def before(self, id_: str | None) -> str | None:
        """The one before, decided or not; None before the first."""
        place = self.place(id_)
        return self.ids[place - 1] if place else None


def has_queue(run: Run) -> bool:
    return run.operator in _FLAGS


def queue_of(dataset: fo.Dataset, run: Run) -> Queue:
    """All that a run flagged, decided or not, in the order of its saved view.

    What was read before is read again only of samples that were modified since: a decision in a
    queue of 20,000 costs what one in a queue of ten does.
    """
    name = (dataset._doc.id, run.key)
    with _reading:
        before, queue = _known.pop(name, (None, Queue(())))
        rows = _read_rows(dataset, run, before)
        if before is None or rows.rows != before.rows:
            queue = _ordered(run, rows.rows.values())
        _known[name] = rows, queue
        while len(_known) > MAX_KNOWN:
            _known.pop(next(iter(_known)))
    return queue


def _ordered(run: Run, rows: Iterable[tuple[Any, ...]]) -> Queue:
    _, value, _, direction = _FLAGS[run.operator]

    def key(row: tuple[Any, ...]) -> tuple[bool, float, str]:
        return row[2] is None, direction * (row[2] or 0), row[0]

    ordered = sorted(rows, key=key)
    done = [row[0] for row in ordered if _is_decided(run, row[1] == value, row[3])]
    return Queue(tuple(row[0] for row in ordered), frozenset(done))


@dataclass(frozen=True)
class _Rows:
    """What was flagged as it was read: ids, flags, what is sorted by, and decisions, by id.

    Attributes:
        rows: by id
        written_at: when the run was stored
        touched: when a sample was last modified
        settled: whether that was long before this was read, so that nothing more of that time comes
        deleted: when one was last deleted
        reviewed: whether the run had a field of decisions
    """

    rows: Mapping[str, tuple[Any, ...]]
    written_at: str | None
    touched: datetime.datetime
    settled: bool
    deleted: datetime.datetime | None
    reviewed: bool


# How long after a time nothing is written any more that says that it was modified then.
SETTLED = datetime.timedelta(seconds=3)

# Queues that are remembered, and what is held while they are read.
MAX_KNOWN = 6
_known: dict[Any, tuple[_Rows | None, Queue]] = {}
_reading = threading.Lock()


def _read_rows(dataset: fo.Dataset, run: Run, before: _Rows | None) -> _Rows:
    column, value, order, _ = _FLAGS[run.operator]
    flag, review = f"{run.key}_{column}", f"{run.key}_review"
    about = run.facts.about
    having: dict[str, list[Any]] = {flag: [value]}
    fields = [flag, f"{run.key}_{order}"]
    if reviewed := dataset.get_field(path_of(dataset, about, review)) is not None:
        of_labels = run.operator == LABEL_ISSUES.name
        having[review] = list(OF_FLAGS) if of_labels else [DISTINCT, *UNFLAGGING]
        fields.append(review)
    # Asked first: what is modified while this reads is read once more the next time.
    touched = last_touched(dataset)
    settled = datetime.datetime.now(datetime.timezone.utc) - touched > SETTLED
    now = _Rows({}, run.written_at, touched, settled, dataset.last_deletion_at, reviewed)
    rows: dict[str, tuple[Any, ...]] = {}
    on = None
    if before is not None and replace(before, rows={}, touched=touched, settled=settled) == now:
        # A run writes to all samples at one time: these are not read again and again.
        since = before.touched + datetime.timedelta(milliseconds=before.settled)
        on = touched_since(dataset, since) if touched >= since else []
        gone = set(on)
        rows = {
            id_: row
            for id_, row in before.rows.items()
            if (id_.partition(SEPARATOR)[2] or id_) not in gone
        }
    if on is None or on:
        found = rows_where(dataset, about, having, *fields, on=on)
        rows |= {row[0]: row if reviewed else (*row, None) for row in found}
    return replace(now, rows=rows)


def _is_decided(run: Run, flagged: bool, review: str | None) -> bool:
    # Edited after its review, or put together with others by a later run, it is flagged again.
    again = run.operator == LABEL_ISSUES.name or review in (DISTINCT, *UNFLAGGING)
    return review is not None and not (flagged and again)
