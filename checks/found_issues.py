"""What was found of label issues, before it is stored."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..storage.findings import Values


@dataclass
class FoundIssues:
    """What was found, before it is stored.

    Attributes:
        result: what is special to this check in its result
        values: of the fields
        results: what is stored beside the facts
        pairs: label and suggestion that are confused most often, with their number
        unlabeled: how many have no label
    """

    result: dict[str, Any]
    values: Values
    results: dict[str, Any]
    pairs: dict[tuple[str, str], int] = field(default_factory=dict)
    unlabeled: int = 0


def numbers(ids: tuple[str, ...], values: np.ndarray, rows: list[int]) -> dict[str, float]:
    return {ids[row]: round(float(values[row]), 6) for row in rows}
