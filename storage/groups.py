"""The duplicate groups that ``find_duplicates`` has stored, for the checks that heed them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .runs import evaluated_ids, latest_run
from .target import Target


@dataclass(frozen=True)
class DuplicateGroups:
    """The groups that a run of ``find_duplicates`` has found.

    Attributes:
        run_key: the run
        numbers: ``(num_ids,)`` int64, the group of each id, -1 in none
    """

    run_key: str
    numbers: np.ndarray

    @property
    def fingerprint(self) -> str:
        """A hash of which ids are together, whatever their group is called."""
        _, first, inverse = np.unique(self.numbers, return_index=True, return_inverse=True)
        together = np.where(self.numbers >= 0, first[inverse], -1).astype("<i8")
        return hashlib.blake2b(together.tobytes(), digest_size=16).hexdigest()


def read_duplicate_groups(
    target: Target, ids: Sequence[str], text_field: str | None = None
) -> DuplicateGroups | None:
    """The groups of the latest finished run of ``find_duplicates`` on these samples or patches.

    What that run has not evaluated is in no group: samples of another dataset that were merged
    into this one bring group numbers of their own.

    Args:
        target: the samples or patches
        ids: whose groups are wanted
        text_field (None): groups of the texts of this field; None for those of images
    """
    run = latest_run(target, "find_duplicates", text_field=text_field)
    if run is None:
        return None
    values = target.everything.values(f"{run.key}_group")
    known = evaluated_ids(target.dataset, run)
    evaluated = set(values if known is None else known)
    groups = [values[id_][0] if id_ in evaluated and id_ in values else None for id_ in ids]
    numbers = np.array([-1 if group is None else group for group in groups], np.int64)
    return DuplicateGroups(run.key, numbers)
