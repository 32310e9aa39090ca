"""Properties of images associated with errors or a label, as ``find_clusters`` reports them."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..storage.findings import Views
from ..storage.metadata import read_slices
from .inputs import Inputs
from .progress import counted_notes, percent

if TYPE_CHECKING:
    from ..analysis.properties import Slice

# Slices that get a saved view each, samples of a view, and rows of the two tables of a result.
MAX_SHOWN, MAX_VIEWED, MAX_LISTED = 5, 10_000, 50


@dataclass(frozen=True)
class ImageSlices:
    """How properties of images relate to labels and errors.

    Attributes:
        slices, correlated: JSON types
        ids: the samples or patches of each slice that is shown, by its name, errors first
        skipped: what could not be measured, by reason
        notes: on how images were read
        values: the field that was looked at, as texts, or None
    """

    slices: list[dict[str, Any]] = field(default_factory=list)
    correlated: list[dict[str, Any]] = field(default_factory=list)
    ids: Mapping[str, list[str]] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    values: list[str | None] | None = None

    def views(self, inputs: Inputs) -> Views:
        """The saved views of the slices."""
        rows = {row["slice"]: row for row in self.slices}
        return {
            name: (inputs.target.view_of(ids, ordered=True), _shows(rows[name]))
            for name, ids in self.ids.items()
        }


def image_slices(inputs: Inputs, check_pictures: bool, by: str | None) -> ImageSlices:
    """Tests which properties of images are associated with errors, and which with a label.

    Args:
        inputs: with labels of at least two classes, or nothing is found
        check_pictures: whether the pixels are looked at
        by: a field whose values are tested as well, or None

    Raises:
        UserError: if ``by`` names no field with several values
    """
    from ..analysis import properties

    measured: dict[str, np.ndarray] = {}
    fields: dict[str, list[str | None]] = {}
    skipped: dict[str, int] = {}
    notes: list[str] = []
    values = None
    if by is not None:
        samples = [inputs.target.sample_ids[id_] for id_ in inputs.ids]
        values = fields[by] = read_slices(inputs.target, by, inputs.ids, samples)
    if inputs.label_field is None or len(inputs.class_names) < 2:
        return ImageSlices(values=values)
    if not (inputs.rows.any(axis=1) & (inputs.codes >= 0)).any():
        return ImageSlices(values=values)
    if check_pictures:
        measures = inputs.measures
        measured = properties.image_properties(measures)
        skipped = Counter(f"pixels not evaluated: {error}" for error in measures.errors.values())
        notes = counted_notes(measures.notes.values(), inputs.target.noun)
    about = inputs.codes, len(inputs.class_names), inputs.groups
    predicted = inputs.evidence.probabilities.argmax(axis=1)
    found = properties.find_slices(measured, fields, about[0], predicted, *about[1:])
    correlated = properties.find_correlated(measured, fields, *about)
    names = inputs.class_names
    rows = [_slice_as_dict(one, names) for one in found[:MAX_LISTED]]
    seen: Counter[str] = Counter()
    for row in rows:
        # Two ends of one property may be reported, as two cuts of it.
        seen[row["slice"]] += 1
        if seen[row["slice"]] > 1:
            row["slice"] += f" ({seen[row['slice']]})"
    return ImageSlices(
        rows,
        [
            {
                "label": names[one.label],
                "property": one.prop,
                "level": one.level,
                "auc": round(one.auc, 4),
            }
            for one in correlated[:MAX_LISTED]
        ],
        {
            row["slice"]: [inputs.ids[place] for place in one.rows[:MAX_VIEWED]]
            for row, one in zip(rows[:MAX_SHOWN], found)
        },
        skipped,
        notes,
        values,
    )


def _slice_as_dict(one: "Slice", names: tuple[str, ...]) -> dict[str, Any]:
    label = names[one.label] if one.label >= 0 else None
    level = one.level if math.isfinite(one.limit) else f"{one.prop} {one.level}"
    # Two slices of one class and property differ in whose class it is.
    named = {"label": f"{label}, {level}", "prediction": f"predicted {label}, {level}"}
    return {
        "slice": named.get(one.scope, level),
        "of": one.scope,
        "label": label,
        "property": one.prop,
        "level": one.level,
        "count": len(one.rows),
        "errors": one.errors,
        "share": round(one.share, 4),
        "rest": round(one.rest, 4),
        "p_value": float(f"{one.p_value:.3g}"),
    }


def _shows(row: Mapping[str, Any]) -> str:
    return (
        f"Held-out predictions and labels disagree on {percent(row['share'])} of these, "
        f"{percent(row['rest'])} of the rest; those that disagree first"
    )
