"""The contract of a check: what it is called, needs, writes and reports; declared once.

Operators, the audit, the report, panels and removal read a check's declaration, instead of spelling
its names again. A check that is declared and listed in ``registry.py`` is known to all of them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import fiftyone as fo

from ..storage.findings import Column
from ..storage.runs import Run
from ..storage.target import Target

EMBEDDINGS, LABELS, FILES, SPLITS = "embeddings", "labels", "files", "splits"


def values_of(found: Target, run: Run, names: Iterable[str]) -> list[dict[str, Any]]:
    """The values of a run's fields for each of what was found, in the order of the ids."""
    names = list(names)
    rows = found.values(*(f"{run.key}_{name}" for name in names))
    return [dict(zip(names, row)) for row in rows.values()]


@dataclass(frozen=True)
class FindingFields:
    """How what a check found is shown one by one, in a report say.

    Attributes:
        kind: what one of it is: ``outlier``
        column: the field that says so: a flag, or a value where there is one
        order: what to look at first: columns, and 1, or -1 for the largest first
        reported: the columns of a report's table
        read: makes them of the fields of a run
    """

    kind: str
    column: str
    order: tuple[tuple[str, int], ...]
    reported: tuple[str, ...]
    read: Callable[[Target, Run], list[dict[str, Any]]] | None = None

    def rows(self, found: Target, run: Run) -> list[dict[str, Any]]:
        """The reported columns of each of what was found, in the order of the ids."""
        return self.read(found, run) if self.read else values_of(found, run, self.reported)


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: that of its operator
        needs: ``EMBEDDINGS``, ``LABELS``, ``FILES``, ``SPLITS``: what it cannot do without
        columns: the fields that it may write
        views: the saved views that it may write, by what they show, with what that means
        finding: how what it found is shown one by one; None if it finds nothing single
        would_find: what is missed where it was not run
        count: of a list of runs: the fact that counts what was found, and of what
    """

    name: str
    needs: frozenset[str]
    columns: tuple[Column, ...] = ()
    views: Mapping[str, str] = field(default_factory=dict)
    finding: FindingFields | None = None
    would_find: str | None = None
    count: tuple[str, str] | None = None


FLAGGED = Column("flagged", fo.BooleanField, "Whether this should be reviewed")

REVIEW = Column("review", fo.StringField, "The review decision")
