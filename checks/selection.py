"""The check ``select_samples``: what to label or to keep first, in an order of choice."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
from fiftyone import ViewField as F

from ..errors import UserError
from ..storage.chosen import read_chosen
from ..storage.findings import Column, Views, matching_view, plan_findings, store_findings
from ..storage.fingerprints import GROUPS
from ..storage.labels import class_codes, label_field_of, label_fields
from ..storage.metadata import read_slices
from ..storage.runs import Run
from ..storage.target import Target
from .contract import EMBEDDINGS, Check, FindingFields
from .inputs import Inputs

if TYPE_CHECKING:
    from ..analysis.selection import Selection

STRATEGIES = ("auto", "representative", "diverse", "uncertain", "around")

# Labels per class, in the mean, from which the default heeds what a classifier doubts.
LABELS_TO_DOUBT = 2

# Values of a field over which the choice is balanced.
MAX_VALUES = 10_000

SELECTION = Check(
    name="select_samples",
    needs=frozenset({EMBEDDINGS}),
    columns=(
        Column(
            "rank",
            fo.IntField,
            "The rank of the selection, 1 for the most important; empty if not selected",
        ),
        Column(
            "distance",
            fo.FloatField,
            "Cosine distance to the nearest selected sample",
        ),
    ),
    views={
        "selected": "The selected samples, most important first",
        "uncovered": "Samples far from every selected one, farthest first",
    },
    finding=FindingFields(kind="selected", column="rank", order=(("rank", 1),), reported=()),
    count=("selected", "selected"),
)


def select_samples(
    inputs: Inputs,
    *,
    num_samples: int | float,
    strategy: str = "auto",
    around: str | Sequence[str] | None = None,
    start_from: str | Sequence[str] | None = None,
    by: str | None = None,
    run_key: str | None = None,
) -> dict[str, Any]:
    """Chooses among the inputs, stores the order of choice, and returns how far it covers them.

    Args:
        inputs: what is chosen from
        num_samples, strategy, around, start_from, by, run_key: as of the operator

    Raises:
        UserError: if the input is at fault; an earlier run of the name then stays
    """
    from ..analysis.selection import select_rows

    started = time.monotonic()
    target, progress = inputs.target, inputs.progress
    strategy = checked_strategy(strategy, around)
    share = checked_number(num_samples)
    run = plan_findings(target, SELECTION.name, run_key, SELECTION.columns, [*SELECTION.views])
    start, labels = _start(inputs, start_from)
    if labels is not None and inputs.label_field is None:
        inputs = inputs.with_labels(labels)
    near = None if around is None else _meant(inputs, around, "around")
    values = None if by is None else _values_of(inputs, by)
    if strategy == "auto":
        strategy = "uncertain" if _knows_classes(inputs) else "representative"
    weights = _doubt(inputs) if strategy == "uncertain" else None
    count = round(share * len(inputs.ids)) if share < 1 else int(share)
    progress.say("Choosing")
    found = select_rows(
        inputs.rows,
        inputs.graph,
        max(count, 1),
        diverse=strategy == "diverse",
        weights=weights,
        around=near,
        start=start,
        groups=inputs.groups,
        by=values,
    )
    if not len(found.order):
        raise UserError(
            f"Nothing is left to select: all {target.noun} are in start_from or around, or "
            "duplicates of these"
        )
    parameters = {
        "num_samples": num_samples,
        "strategy": strategy,
        "around": _named(around),
        "start_from": _named(start_from),
        "by": by,
    }
    facts = inputs.facts(parameters, GROUPS)
    facts = replace(
        facts,
        seconds=round(time.monotonic() - started, 2),
        special={
            "selected": len(found.order),
            "strategy": strategy,
            "wanted": max(count, 1),
            "started_with": int(start.sum()),
            "coverage": _coverage(found),
            "radius": round(found.radius, 4),
            "uncovered": int((found.distance > _limit(found)).sum()),
            "by": _counts(values, inputs, by, found.order)
            if by is not None and values is not None
            else None,
            "duplicates": inputs.duplicates.run_key if inputs.duplicates else None,
        },
    )
    progress.say("Storing the selection")
    ids = inputs.ids
    stored: dict[str, dict[str, Any]] = {
        "rank": {ids[row]: rank for rank, row in enumerate(found.order.tolist(), 1)},
        "distance": {id_: round(float(value), 6) for id_, value in zip(ids, found.distance)},
    }
    saved = store_findings(
        target,
        run,
        SELECTION.columns,
        stored,
        lambda: _views(target, run, _limit(found)),
        facts,
        results={"ids": " ".join(ids)},
    )
    return {"run_key": run.key, **facts.as_dict(), "views": list(saved)}


def checked_strategy(strategy: str, around: Any) -> str:
    """The strategy that a parameter stands for.

    Raises:
        UserError: if there is no such one, or it and ``around`` do not go together
    """
    if strategy not in STRATEGIES:
        raise UserError(f"strategy={strategy!r} must be one of {', '.join(STRATEGIES)}")
    if strategy == "around" and around is None:
        raise UserError('strategy="around" needs around=, a saved view, a tag or a list of ids')
    if around is not None and strategy not in ("auto", "around"):
        raise UserError(f'around= goes with strategy="around", not {strategy!r}')
    return "around" if around is not None else strategy


def checked_number(num_samples: int | float) -> float:
    """The number, or the share below 1, of what is chosen.

    Raises:
        UserError: if it is neither
    """
    if not 0 < num_samples < math.inf or (num_samples >= 1 and num_samples != int(num_samples)):
        raise UserError(
            f"num_samples={num_samples!r} must be a whole number, or a share between 0 and 1"
        )
    return float(num_samples)


def _named(named: str | Sequence[str] | None) -> str | None:
    """What a run remembers of a parameter: a name, or how many ids there were."""
    return named if named is None or isinstance(named, str) else f"{len(named):,} ids"


def _meant(inputs: Inputs, named: str | Sequence[str], parameter: str) -> np.ndarray:
    return np.array(read_chosen(inputs.target, named, inputs.ids, parameter), bool)


def _start(inputs: Inputs, start_from: str | Sequence[str] | None) -> tuple[np.ndarray, str | None]:
    """What is there already, and the field of its labels if that says so and holds any."""
    target, none = inputs.target, np.zeros(len(inputs.ids), bool)
    if start_from is None:
        return none, None
    fields = [*label_fields(target), *label_fields(target, several=True)]
    path = start_from.split(".")[0] if isinstance(start_from, str) else None
    if (
        not isinstance(start_from, str)
        or path not in fields
        or target.dataset.has_saved_view(start_from)
    ):
        return _meant(inputs, start_from, "start_from"), None
    field = label_field_of(target, start_from, "start_from")
    values = target.values(field.path)
    labeled = np.array([values[id_][0] not in (None, "", []) for id_ in inputs.ids], bool)
    return labeled, field.name if labeled.any() and not field.several else None


def _values_of(inputs: Inputs, by: str) -> np.ndarray:
    """``(n,)`` int64 values of the field over which the choice is balanced, -1 for none."""
    target, ids = inputs.target, inputs.ids
    if target.patches_field is not None and by.split(".")[0] == target.patches_field:
        by = "label"  # of the patches
    samples = [target.sample_ids[id_] for id_ in ids]
    texts = read_slices(target, by, ids, samples, MAX_VALUES)
    return np.array(class_codes(texts)[1], np.int64)


def _counts(values: np.ndarray, inputs: Inputs, by: str, order: np.ndarray) -> dict[str, Any]:
    """How many of each value were chosen."""
    counts = np.bincount(values[order], minlength=int(values.max()) + 1)
    least, most = int(counts.min()), int(counts.max())
    return {"field": by, "values": len(counts), "least": least, "most": most}


def _knows_classes(inputs: Inputs) -> bool:
    """Whether there are labels enough to doubt what they say of the others."""
    if inputs.label_field is None or len(inputs.class_names) < 2:
        return False
    labeled = int((inputs.codes >= 0).sum())
    return LABELS_TO_DOUBT * len(inputs.class_names) <= labeled < len(inputs.codes)


def _doubt(inputs: Inputs) -> np.ndarray:
    """``(n,)`` float64 in [0, 1]: how near the two likeliest classes are to each other.

    Squared: 104 more labels after 104 of Caltech-101 (half its classes) and 100 after 200 of
    CIFAR-10 are worth 0.03 and 0.02 more than representative ones; linear 0.02 and 0.00.

    Raises:
        UserError: if there are no labels to learn from
    """
    if inputs.label_field is None:
        raise UserError(
            'strategy="uncertain" needs labels: pass label_field=, or the field as start_from='
        )
    if len(inputs.class_names) < 2:
        raise UserError(
            f"label_field={inputs.label_field!r} holds only one class, so nothing is uncertain "
            'yet; choose strategy="representative"'
        )
    from ..analysis.likely_classes import blocks

    probabilities = inputs.evidence.probabilities
    lead = np.empty(len(probabilities))
    for part in blocks(probabilities):
        second, first = np.partition(probabilities[part], -2, axis=1)[:, -2:].T
        lead[part] = first - second
    return (1.0 - lead) ** 2


def _coverage(found: "Selection") -> list[dict[str, Any]]:
    return [
        {
            "selected": point.chosen,
            "covered": round(point.covered, 4),
            "mean_distance": round(point.mean_distance, 4),
        }
        for point in found.curve
    ]


def _limit(found: "Selection") -> float:
    """The distance beyond which something is uncovered, as fields hold it."""
    return round(found.radius, 6) + 1e-6


def _views(target: Target, run: Run, limit: float) -> Views:
    rank, distance = F(f"{run.key}_rank"), F(f"{run.key}_distance")
    chosen = matching_view(target, rank > 0, [(f"{run.key}_rank", 1)])
    far = matching_view(target, distance > limit, [(f"{run.key}_distance", -1)])
    texts = SELECTION.views
    return {"selected": (chosen, texts["selected"]), "uncovered": (far, texts["uncovered"])}
