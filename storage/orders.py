"""The order of samples: of import, or by a field such as a time."""

from collections.abc import Sequence
from typing import Any

import fiftyone as fo
import numpy as np

from ..errors import UserError
from .target import Target

ORDERED = (fo.IntField, fo.FloatField, fo.DateField, fo.DateTimeField, fo.StringField)


def order_fields(target: Target) -> list[str]:
    """The fields of the samples that an order can be read off."""
    schema = target.of_samples.all_samples.get_field_schema()
    return [
        name
        for name, field in schema.items()
        if isinstance(field, ORDERED) and name not in ("id", "last_modified_at")
    ]


def read_order(
    target: Target, order_by: str | None, sample_ids: Sequence[str]
) -> tuple[list[str | None], np.ndarray]:
    """Where samples stand in an order.

    Args:
        target: the samples or patches
        order_by: a field of the samples with numbers, dates or texts; None: the order of import,
            which is that of their ids
        sample_ids: the sample of each sample or patch

    Returns:
        the values as texts, and (n,) float64 ranks: equal values have equal ones, NaN for no value

    Raises:
        UserError: if there is no such field, or all values are the same
    """
    values: list[Any] = list(sample_ids)
    if order_by is not None:
        samples = target.of_samples
        field = samples.all_samples.get_field(order_by)
        if not isinstance(field, ORDERED):
            what = "there is no such field" if field is None else f"is a {type(field).__name__}"
            raise UserError(
                f"order_by={order_by!r}: {what}; name a field of numbers, dates or texts: "
                f"{', '.join(order_fields(target))}"
            )
        found = samples.values(order_by)
        values = [found[id_][0] if id_ in found else None for id_ in sample_ids]
    known = {value for value in values if value is not None and value == value}
    if len(known) < 2:
        raise UserError(f"order_by={order_by!r} has one value only on these {target.noun}")
    rank = {value: place for place, value in enumerate(sorted(known))}
    places = np.array([rank.get(value, np.nan) for value in values], np.float64)
    return [None if value is None else str(value) for value in values], places
