"""What a report shows: runs, what each has found, and plots; the data of page and tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..storage.runs import Run
from .registry import CHECKS

# The split of duplicates, which is no field of the run.
SPLIT = "split"


def _reported_columns() -> tuple[str, ...]:
    """The columns of the checks, each once, in the order of the checks."""
    names = [name for check in CHECKS if check.finding for name in check.finding.reported]
    return tuple(dict.fromkeys([*names, SPLIT]))


# What a table of findings has, in this order.
COLUMNS = (
    *("what", "run_key", "rank", "id", "sample_id", "filepath", "label"),
    *_reported_columns(),
)


@dataclass(frozen=True)
class Finding:
    """One sample or patch that a run flagged or grouped.

    Attributes:
        what: ``duplicate``, ``outlier`` or ``label issue``
        run_key: the run
        rank: 1 for what to look at first
        id: the sample or patch
        sample_id: the sample
        filepath: its image
        label: the label now; several with commas between them
        box: patches: relative ``(x, y, width, height)``
        values: the columns that its check reports; the others can be asked for and are None
    """

    what: str
    run_key: str
    rank: int
    id: str
    sample_id: str
    filepath: str
    label: str | None
    box: tuple[float, ...] | None
    values: Mapping[str, Any]

    def __getattr__(self, name: str) -> Any:
        if name not in COLUMNS:
            raise AttributeError(name)
        return self.values.get(name)


@dataclass(frozen=True)
class ReportedRun:
    """A finished run and what it found in the view.

    Attributes:
        run: the run
        findings: what was flagged or grouped, what to look at first in front
        leaking: duplicates: the numbers of the groups with members in several splits
        separability: of ``compute_separability``: the report that it stored
    """

    run: Run
    findings: tuple[Finding, ...] = ()
    leaking: frozenset[int] = frozenset()
    separability: dict[str, Any] | None = None

    @property
    def noun(self) -> str:
        """``samples``, ``frames`` or ``patches``."""
        return self.run.facts.about.noun

    @property
    def facts(self) -> dict[str, Any]:
        """What the run says of itself, as JSON types."""
        return self.run.facts.as_dict()


@dataclass(frozen=True)
class ReportedVisualization:
    """A plot of embeddings.

    Attributes:
        brain_key: its name
        made_at: when, in UTC (ISO 8601)
        noun: ``samples``, ``frames`` or ``patches``
        facts: parameters and trust of its run
        points: ``(n, 2)`` float32, at most ``MAX_POINTS`` drawn at random
        labels: the label of each, or None
        label_field: the field of the labels, or None
        total: how many points the plot has
    """

    brain_key: str
    made_at: str
    noun: str
    facts: dict[str, Any]
    points: np.ndarray
    labels: tuple[str | None, ...]
    label_field: str | None
    total: int


@dataclass(frozen=True)
class Contents:
    """Everything that a report shows.

    Attributes:
        dataset: the name of the dataset
        num_samples: the samples of the view
        num_total: the samples of the dataset
        runs: the finished runs, in the order in which they are to be read
        visualizations: the plots
        left_out: why a run or a plot is not reported, by its key
        stale: why a run or a plot that is reported is out of date, by its key
        folder: the folder that all files of the dataset share, or None
    """

    dataset: str
    num_samples: int
    num_total: int
    runs: tuple[ReportedRun, ...]
    visualizations: tuple[ReportedVisualization, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    stale: dict[str, list[str]] = field(default_factory=dict)
    folder: str | None = None

    @property
    def findings(self) -> list[Finding]:
        return [finding for run in self.runs for finding in run.findings]

    def runs_of(self, operator: str) -> list[ReportedRun]:
        """The runs of one operator."""
        return [reported for reported in self.runs if reported.run.operator == operator]

    @property
    def not_looked_for(self) -> list[str]:
        """What the checks that were not run would find."""
        return [
            f"{check.would_find} ({check.name})"
            for check in CHECKS
            if check.would_find and not self.runs_of(check.name)
        ]
