"""What people have decided about flagged labels: kept beside the flags, and taken back from there.

Two fields of a run of ``find_label_issues``: ``<run_key>_review``, the decision, and
``<run_key>_original``, the label before it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fiftyone as fo
import numpy as np

from .findings import Column, read_values
from .targets import Target

# Decisions on flagged labels: the suggestion was taken, another label was set, or the label stays;
# and on labels that were not flagged: it was replaced, or it stays.
ACCEPTED, CHANGED, KEPT = "accepted", "changed", "kept"
CORRECTED, VERIFIED = "corrected", "verified"

OF_FLAGS = (ACCEPTED, CHANGED, KEPT)


@dataclass(frozen=True)
class Reviews:
    """The decisions of one run.

    Attributes:
        decisions: by the id of the sample or object
        originals: the label before the decision, by id
    """

    decisions: Mapping[str, str]
    originals: Mapping[str, str]

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

    def confirmed(self, ids: Sequence[str], labels: Sequence[str | None]) -> np.ndarray:
        """Which labels a person has settled: ``(num_ids,)`` bool.

        A label that was kept, and has been changed since, is no longer settled.
        """
        settled = [
            (decision := self.decisions.get(id_)) is not None
            and (decision not in (KEPT, VERIFIED) or self.originals.get(id_) == label)
            for id_, label in zip(ids, labels)
        ]
        return np.array(settled, bool)

    def columns(self) -> dict[str, Column]:
        """The decisions as fields, or none if nothing was reviewed."""
        if not self.decisions:
            return {}
        return {
            "review": Column(fo.StringField, self.decisions),
            "original": Column(fo.StringField, self.originals),
        }


def read_reviews(target: Target, run_key: str) -> Reviews:
    """The decisions of a run on all samples or objects of the dataset, not only of the view."""
    everything = target.everything()
    ids = everything.ids()
    decisions, originals = (
        {
            id_: value
            for id_, value in zip(ids, read_values(everything, f"{run_key}_{what}", ids))
            if value is not None
        }
        for what in ("review", "original")
    )
    return Reviews(decisions, originals)
