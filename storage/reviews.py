"""What people have decided about flagged labels: kept beside the flags, and taken back from there.

Three fields of a run of ``find_label_issues``: ``<run_key>_review``, the decision,
``<run_key>_original``, the label before it, and ``<run_key>_reviewed``, the label after it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .findings import read_values
from .runs import Run
from .targets import Target

# Decisions on flagged labels: the suggestion was taken, another label was set, or the label stays;
# and on labels that were not flagged: it was replaced, or it stays.
ACCEPTED, CHANGED, KEPT = "accepted", "changed", "kept"
CORRECTED, VERIFIED = "corrected", "verified"

OF_FLAGS = (ACCEPTED, CHANGED, KEPT)

# What the fields of a run hold.
COLUMNS = ("review", "original", "reviewed")


@dataclass(frozen=True)
class Reviews:
    """The decisions of one run.

    Attributes:
        decisions: by the id of the sample or object
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

    def settled(self, ids: Sequence[str], labels: Sequence[str | None]) -> np.ndarray:
        """Which labels are those that a person has decided on: ``(num_ids,)`` bool."""
        return np.array(
            [
                id_ in self.reviewed and self.reviewed[id_] == label
                for id_, label in zip(ids, labels)
            ],
            bool,
        )


def read_reviews(target: Target, run: Run | None) -> Reviews:
    """The decisions of a run on all samples or objects of the dataset, not only of the view."""
    paths = [target.dataset_path(f"{run.key}_{what}") for what in COLUMNS] if run else []
    if run is None or not set(paths) <= set(run.fields):
        return Reviews({}, {}, {})
    ids = target.everything().ids()
    columns = (
        {
            id_: value
            for id_, value in zip(ids, read_values(target, f"{run.key}_{what}", ids))
            if value is not None
        }
        for what in COLUMNS
    )
    return Reviews(*columns)
