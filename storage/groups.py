"""The duplicate groups that ``find_duplicates`` has stored, for the operators that heed them."""

from collections.abc import Sequence

import numpy as np

from .findings import latest_run, read_values
from .targets import Target


def read_duplicate_groups(
    target: Target, ids: Sequence[str]
) -> tuple[str | None, np.ndarray | None]:
    """The groups of the latest finished run of ``find_duplicates`` on these things.

    Args:
        target: the samples or objects
        ids: whose groups are wanted

    Returns:
        the run's key and the group of each id, ``(num_ids,)`` int64, -1 in none; None and None if
        there is no such run
    """
    run = latest_run(target, "find_duplicates")
    if run is None:
        return None, None
    groups = read_values(target, f"{run.key}_group", ids)
    return run.key, np.array([-1 if group is None else group for group in groups], np.int64)
