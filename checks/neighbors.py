"""What is told of neighbors that a similarity index has found."""

from typing import Any

import fiftyone as fo

from ..storage.graphs import OPERATOR
from ..storage.runs import plugin_runs


def told_of_index(dataset: fo.Dataset, brain_key: str) -> dict[str, Any] | None:
    """What the neighbors are that were taken from a similarity index last.

    Returns:
        a dict with ``brain_key``, ``backend`` and ``recall``: the share of the true neighbors that
        were found, measured on a sample of rows; None if none were ever taken, by PCA say
    """
    taken = [
        run.facts.special
        for run in plugin_runs(dataset, OPERATOR)
        if run.facts.special.get("neighbors") == brain_key
    ]
    if not taken:
        return None
    last = max(taken, key=lambda one: one["stored_at"])
    return {
        "brain_key": brain_key,
        "backend": last["method"],
        "recall": round(last["recall"], 4),
    }
