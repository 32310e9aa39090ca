"""The order in which a person decides on what a run found: read from the database, never kept.

What was decided stays in its place, so that one can go back to it, and whoever comes back later
goes on where the first undecided one is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import fiftyone as fo
from fiftyone import ViewField as F

from ..storage.few import path_of, rows_where
from ..storage.reviews import DISTINCT, OF_FLAGS, TYPICAL
from ..storage.runs import Run
from ..storage.target import SEPARATOR
from .duplicates import DUPLICATES
from .label_issue_columns import LABEL_ISSUES
from .outliers import OUTLIERS

# What is decided on: the flag that says so, and by what it is sorted, the largest first or last.
_FLAGS = {
    LABEL_ISSUES.name: ("flagged", True, "quality", 1),
    DUPLICATES.name: ("keep", False, "group", 1),
    OUTLIERS.name: ("flagged", True, "score", -1),
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

    def after(self, id_: str | None) -> str | None:
        """The next one that is not decided, the first again after the last; None if there is none.

        Args:
            id_: the one that is looked at, which is left out
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
    """All that a run flagged, decided or not, in the order of its saved view."""
    column, value, order, direction = _FLAGS[run.operator]
    flag, review = f"{run.key}_{column}", f"{run.key}_review"
    about = run.facts.about
    fields = [flag, f"{run.key}_{order}"]
    condition = F(flag) == value
    if has_reviews := _declared(dataset, run, review):
        decided = list(OF_FLAGS) if run.operator == LABEL_ISSUES.name else [DISTINCT, TYPICAL]
        condition |= F(review).is_in(decided)
        fields.append(review)
    rows = rows_where(dataset, about, condition, *fields)

    def key(row: Sequence[Any]) -> tuple[bool, float, str]:
        return row[2] is None, direction * (row[2] or 0), row[0]

    rows.sort(key=key)
    done = [row[0] for row in rows if has_reviews and _is_decided(run, row[1] == value, row[3])]
    return Queue(tuple(row[0] for row in rows), frozenset(done))


def _is_decided(run: Run, flagged: bool, review: str | None) -> bool:
    # Edited after its review, or put together with others by a later run, it is flagged again.
    again = run.operator == LABEL_ISSUES.name or review in (DISTINCT, TYPICAL)
    return review is not None and not (flagged and again)


def _declared(dataset: fo.Dataset, run: Run, name: str) -> bool:
    return dataset.get_field(path_of(dataset, run.facts.about, name)) is not None
