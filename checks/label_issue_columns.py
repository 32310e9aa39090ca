"""The declaration of ``find_label_issues``: what it writes for each kind of labels."""

from dataclasses import replace
from typing import Any

import fiftyone as fo

from ..storage.findings import Column
from ..storage.reviews import REVIEW_COLUMNS
from ..storage.runs import Run
from ..storage.target import Target
from .contract import EMBEDDINGS, FLAGGED, LABELS, Check, FindingFields, values_of

_A_LABEL = {"embedded_doc_type": fo.Classification}
_A_LIST = {"subfield": fo.StringField}

QUALITY = Column(
    "quality", fo.FloatField, "The quality of the label, from 0 (wrong) to 1 (correct)"
)
SUGGESTED, PROBE, NEIGHBORS = (
    Column(name, fo.EmbeddedDocumentField, meaning, _A_LABEL)
    for name, meaning in (
        ("suggested", "The suggested label, where the evidence favors another one"),
        ("probe", "The label predicted by the held-out classifier alone"),
        ("neighbors", "The label predicted by the nearest neighbors alone"),
    )
)
AGAINST = Column("against", fo.ListField, "The ids of neighbors with another label", _A_LIST)
CONFIDENCE = Column(
    "confidence", fo.FloatField, "The confidence of the suggested label, from 0 to 1"
)
REASON = Column("reason", fo.StringField, "What is likely wrong: class or box")
WRONG = Column("wrong", fo.ListField, "Labels that are likely wrong", _A_LIST)
ABSENT = Column("missing", fo.ListField, "Labels that are likely missing", _A_LIST)
# A field of the samples, although the check is of patches.
UNLABELED_BOXES = Column(
    "missing",
    fo.EmbeddedDocumentField,
    "Predicted boxes that are likely missing a label",
    {"embedded_doc_type": fo.Detections},
    of_samples=True,
)


def _of_patches(column: Column) -> Column:
    """A label cannot be an attribute of a patch, which has the name of the class instead."""
    if column.options == _A_LABEL:
        return replace(column, field_type=fo.StringField, options={})
    return column


ONE_LABEL = (QUALITY, FLAGGED, SUGGESTED, PROBE, NEIGHBORS, AGAINST)
SEVERAL_LABELS = (QUALITY, FLAGGED, WRONG, ABSENT)
OF_PATCHES = (*map(_of_patches, ONE_LABEL), CONFIDENCE)
OF_DETECTOR = (*OF_PATCHES, REASON, UNLABELED_BOXES)


def columns_of(target: Target, several: bool = False, detector: bool = False) -> tuple[Column, ...]:
    """The fields that the check writes on a target."""
    if several:
        return SEVERAL_LABELS
    if target.patches_field is None:
        return ONE_LABEL
    return OF_DETECTOR if detector else OF_PATCHES


def _reported(found: Target, run: Run) -> list[dict[str, Any]]:
    """The columns of a report, whatever kind of labels was evaluated."""
    names = ["quality", "review", "reason", "confidence", "wrong", "missing"]
    part = "" if found.patches_field is not None else ".label"
    paths = {name: f"{name}{part}" for name in ("suggested", "probe", "neighbors")}
    sure = "confidence" if found.patches_field is not None else "suggested.confidence"
    rows = values_of(found, run, [*names, *paths.values(), sure])
    for row in rows:
        reasons = [
            f"{what}: {', '.join(row[what])}"
            for what in ("wrong", "missing")
            if isinstance(row[what], list) and row[what]
        ]
        row["reason"] = row["reason"] or "; ".join(reasons) or None
        row["suggestion"] = row[paths["suggested"]]
        row["confidence"] = row[sure]
        row |= {name: row[paths[name]] for name in ("probe", "neighbors")}
    return [{name: row.get(name) for name in REPORTED} for row in rows]


REPORTED = ("quality", "reason", "suggestion", "confidence", "review", "probe", "neighbors")

LABEL_ISSUES = Check(
    name="find_label_issues",
    needs=frozenset({EMBEDDINGS, LABELS}),
    columns=(*ONE_LABEL, CONFIDENCE, REASON, WRONG, ABSENT, UNLABELED_BOXES, *REVIEW_COLUMNS),
    views={
        "flagged": "Labels that are likely wrong, worst first",
        "missing": "Images with predicted boxes that are likely missing a label",
    },
    finding=FindingFields(
        kind="label issue",
        column="flagged",
        order=(("quality", 1),),
        reported=REPORTED,
        read=_reported,
    ),
    would_find="wrong labels",
    count=("flagged", "flagged"),
)
