"""The check ``suggest_labels``: labels for what has none, and which of them are sure enough."""

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
from fiftyone import ViewField as F

from ..errors import UserError
from ..storage.findings import Column, Views, matching_view, plan_findings, store_findings
from ..storage.fingerprints import GROUPS
from ..storage.reviews import REVIEW_COLUMNS
from ..storage.runs import Run
from ..storage.target import Target
from .contract import EMBEDDINGS, LABELS, Check, FindingFields, values_of
from .inputs import Inputs

if TYPE_CHECKING:
    from ..analysis.suggestions import Suggestions

# Labels per class, in the mean, from which the held-out probabilities are asked as well. Below,
# they lose on scikit-learn's digits; from there on they gain 0.02 to 0.04 on CIFAR-10.
MANY_LABELS = 10

LABEL = Column(
    "label",
    fo.EmbeddedDocumentField,
    "The suggested label with its confidence; empty if it may belong to none of the classes",
    {"embedded_doc_type": fo.Classification},
)
ACCEPTED = Column("accepted", fo.BooleanField, "Whether the suggestion is accepted")
# A label cannot be an attribute of a patch, which has the name of the class instead.
LABEL_OF_PATCH = replace(LABEL, field_type=fo.StringField, options={})
CONFIDENCE = Column(
    "confidence", fo.FloatField, "The confidence of the suggested label, from 0 to 1"
)


def columns_of(target: Target) -> tuple[Column, ...]:
    """The fields that the check writes on a target."""
    if target.patches_field is None:
        return (LABEL, ACCEPTED)
    return (LABEL_OF_PATCH, ACCEPTED, CONFIDENCE)


def _reported(found: Target, run: Run) -> list[dict[str, Any]]:
    of_patches = found.patches_field is not None
    label, sure = ("label", "confidence") if of_patches else ("label.label", "label.confidence")
    rows = values_of(found, run, [label, sure])
    return [{"suggestion": row[label], "confidence": row[sure]} for row in rows]


SUGGESTIONS = Check(
    name="suggest_labels",
    needs=frozenset({EMBEDDINGS, LABELS}),
    columns=(LABEL, ACCEPTED, CONFIDENCE),
    views={
        "accepted": "Accepted suggestions, least certain first",
        "to review": "Suggestions to review, most certain first",
    },
    finding=FindingFields(
        kind="suggestion",
        column="accepted",
        order=(("confidence", 1),),
        reported=("suggestion", "confidence"),
        read=_reported,
    ),
    count=("suggested", "suggested"),
)


def suggest_labels(
    inputs: Inputs, *, precision: float = 0.95, run_key: str | None = None
) -> dict[str, Any]:
    """Suggests labels for the inputs that have none, stores them, and returns how sure they are.

    Args:
        inputs: what is labeled, and what is not
        precision, run_key: as of the operator

    Raises:
        UserError: if the input is at fault; an earlier run of the name then stays
    """
    from ..analysis import suggestions as analysis
    from ..analysis.likely_classes import of_classes

    started = time.monotonic()
    target, progress = inputs.target, inputs.progress
    checked_precision(precision)
    columns = columns_of(target)
    planned = (*columns, *REVIEW_COLUMNS)
    run = plan_findings(target, SUGGESTIONS.name, run_key, planned, [*SUGGESTIONS.views])
    codes = inputs.codes
    directed = np.any(inputs.rows, axis=1)
    _check_labels(inputs, codes, directed)
    # A class whose only labels are on zero embeddings cannot be learned.
    present, numbered = np.unique(codes[(codes >= 0) & directed], return_inverse=True)
    labels = np.full(len(codes), -1)
    labels[(codes >= 0) & directed] = numbered
    names = [inputs.class_names[code] for code in present]
    many = (labels >= 0).sum() >= MANY_LABELS * len(names)
    probabilities = of_classes(inputs.evidence.probabilities, present) if many else None
    progress.say("Suggesting labels")
    found = analysis.suggest_labels(
        inputs.rows, labels, len(names), inputs.graph, inputs.groups, probabilities, precision
    )
    # What has a label on an embedding of zeros is labeled all the same.
    rows = np.flatnonzero((found.label >= 0) & (codes < 0))
    facts = inputs.facts({"precision": precision}, GROUPS)
    facts = replace(
        facts,
        seconds=round(time.monotonic() - started, 2),
        special=_result(inputs, found, names, rows, codes),
    )
    progress.say("Storing the suggestions")
    saved = store_findings(
        target,
        run,
        columns,
        _values(inputs, found, names, rows, codes),
        lambda: _views(target, run),
        facts,
        results={"ids": " ".join(inputs.ids)},
        kept=REVIEW_COLUMNS,
    )
    return {"run_key": run.key, **facts.as_dict(), "views": list(saved)}


def checked_precision(precision: float) -> None:
    """Refuses a precision that is none.

    Raises:
        UserError: if it is not between 0 and 1
    """
    if not 0 < precision < 1:
        raise UserError(f"precision={precision!r} must be between 0 and 1, for example 0.95")


def _check_labels(inputs: Inputs, codes: np.ndarray, directed: np.ndarray) -> None:
    argument, noun = f"label_field={inputs.label_field!r}", inputs.target.noun
    if not (codes < 0).any():
        raise UserError(
            f"{argument}: all of these {noun} have a label; there is nothing to suggest"
        )
    if len(inputs.class_names) < 2:
        raise UserError(
            f"{argument} holds only the class {inputs.class_names[0]!r} for these {noun}; label at "
            "least one sample of another class"
        )
    if len(set(codes[(codes >= 0) & directed].tolist())) < 2:
        raise UserError(
            f"embeddings={inputs.embeddings!r}: the embeddings of labeled {noun} are zero in all "
            "classes but one; choose other embeddings"
        )


def _result(
    inputs: Inputs, found: "Suggestions", names: list[str], rows: np.ndarray, codes: np.ndarray
) -> dict[str, Any]:
    accepted = found.accepted[rows]
    sure = bool(accepted.any())
    return {
        "suggested": int(accepted.sum()),
        "abstained": int((codes < 0).sum() - accepted.sum()),
        "unlike": found.unknown,
        "labeled": int((codes >= 0).sum()),
        "expected_precision": round(found.expected_precision, 4) if sure else None,
        "held_out": found.held_out,
        "held_out_accuracy": round(found.held_out_accuracy, 4) if found.held_out else None,
        "at_precision": [
            {"precision": precision, "suggested": count} for precision, count in found.table.items()
        ],
        "classes": dict(Counter(names[found.label[row]] for row in rows[accepted]).most_common()),
        "duplicates": inputs.duplicates.run_key if inputs.duplicates else None,
        "warnings": _warnings(inputs, found, names),
    }


def _warnings(inputs: Inputs, found: "Suggestions", names: list[str]) -> list[str]:
    warnings = []
    if not found.calibrated:
        what = "label" if found.held_out == 1 else "labels"
        warnings.append(
            f"Only {found.held_out} {what} could be predicted from others of their class, too "
            "few to know how often suggestions are correct: few are accepted. Label more of each "
            "class"
        )
    if lost := sorted(set(inputs.class_names) - set(names)):
        warnings.append(f"All labeled embeddings are zero, so never suggested: {', '.join(lost)}")
    return warnings


def _values(
    inputs: Inputs, found: "Suggestions", names: list[str], rows: np.ndarray, codes: np.ndarray
) -> dict[str, dict[str, Any]]:
    ids, chosen = inputs.ids, rows.tolist()
    sure = {ids[row]: round(float(found.confidence[row]), 4) for row in chosen}
    label = {ids[row]: names[found.label[row]] for row in chosen}
    unlabeled = np.flatnonzero(codes < 0).tolist()
    accepted = {ids[row]: bool(found.accepted[row]) for row in unlabeled}
    if inputs.target.patches_field is not None:
        return {"label": label, "accepted": accepted, "confidence": sure}
    classifications = {
        id_: fo.Classification(label=name, confidence=sure[id_]) for id_, name in label.items()
    }
    return {"label": classifications, "accepted": accepted}


def _views(target: Target, run: Run) -> Views:
    confidence = "confidence" if target.patches_field is not None else "label.confidence"
    sort_by, texts = f"{run.key}_{confidence}", SUGGESTIONS.views
    accepted = F(f"{run.key}_accepted")
    # What was written as a label is done.
    some = (F(sort_by) >= 0) & (F(f"{run.key}_review") == None)  # noqa: E711
    sure = matching_view(target, (accepted == True) & some, [(sort_by, 1)])  # noqa: E712
    rest = matching_view(target, (accepted == False) & some, [(sort_by, -1)])  # noqa: E712
    return {"accepted": (sure, texts["accepted"]), "to review": (rest, texts["to review"])}
