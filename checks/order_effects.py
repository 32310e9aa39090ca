"""The check ``find_order_effects``: whether samples in a row are more alike than chance."""

import time
from dataclasses import replace
from typing import Any

import fiftyone as fo
import numpy as np
from fiftyone import ViewField as F

from ..errors import UserError
from ..storage.findings import Column, matching_view, plan_findings, store_findings
from ..storage.fingerprints import GROUPS, ORDER, texts_fingerprint
from ..storage.orders import read_order
from .contract import EMBEDDINGS, Check, FindingFields
from .inputs import Inputs

ORDER_EFFECTS = Check(
    name="find_order_effects",
    needs=frozenset({EMBEDDINGS}),
    columns=(
        Column("part", fo.IntField, "Which tenth of the order this is in, from 1 to 10"),
        Column(
            "apart",
            fo.BooleanField,
            "Whether its neighbors in the order are more similar to it than chance explains",
        ),
    ),
    views={"apart": "Tenths of the order that keep to themselves, in the order"},
    finding=FindingFields(
        kind="part of the order", column="apart", order=(("part", 1),), reported=("part",)
    ),
)


def find_order_effects(
    inputs: Inputs, *, order_by: str | None = None, run_key: str | None = None
) -> dict[str, Any]:
    """Tests whether the order of the inputs matters, stores its parts, and returns how much.

    Args:
        inputs: what is in an order
        order_by, run_key: as of the operator

    Raises:
        UserError: if the input is at fault; an earlier run of the name then stays
    """
    from ..analysis import order_effects

    started = time.monotonic()
    target = inputs.target
    columns, views = ORDER_EFFECTS.columns, [*ORDER_EFFECTS.views]
    run = plan_findings(target, ORDER_EFFECTS.name, run_key, columns, views)
    samples = [target.sample_ids[id_] for id_ in inputs.ids]
    texts, places = read_order(target, order_by, samples)
    units = np.unique(samples, return_inverse=True)[1]
    inputs.progress.say("Comparing neighbors with the order")
    try:
        found = order_effects.find_order_effects(
            inputs.graph, places, units, inputs.groups, inputs.seed
        )
    except ValueError as error:
        raise UserError(f"order_by={order_by!r}: {error}") from None
    facts = inputs.facts({"order_by": order_by}, GROUPS)
    read, placed = facts.inputs, found.part >= 0
    if order_by is not None:
        read = {**read, f"{ORDER} {order_by}": texts_fingerprint(inputs.ids, texts)}
    skipped = dict(facts.skipped)
    if lost := int((~placed).sum()):
        skipped[f"no value in {order_by}"] = lost
    facts = replace(
        facts,
        inputs=read,
        evaluated=int(placed.sum()),
        skipped=skipped,
        seconds=round(time.monotonic() - started, 2),
        special={
            "differ": found.differ,
            "p_value": round(found.p_value, 4),
            "nearby": round(found.nearby, 4),
            "nearby_expected": round(found.expected, 4),
            "parts": [
                {
                    "part": place,
                    "inside": round(float(inside), 4),
                    "expected": round(float(expected), 4),
                    "apart": bool(apart),
                }
                for place, (inside, expected, apart) in enumerate(
                    zip(found.inside, found.inside_expected, found.apart), 1
                )
            ],
            "duplicates": inputs.duplicates.run_key if inputs.duplicates else None,
        },
    )
    part, apart = f"{run.key}_part", F(f"{run.key}_apart") == True  # noqa: E712
    rows = np.flatnonzero(placed).tolist()
    inputs.progress.say("Storing the parts of the order")
    saved = store_findings(
        target,
        run,
        columns,
        {
            "part": {inputs.ids[row]: int(found.part[row]) + 1 for row in rows},
            "apart": {inputs.ids[row]: bool(found.apart[found.part[row]]) for row in rows},
        },
        lambda: (
            {"apart": (matching_view(target, apart, [(part, 1)]), ORDER_EFFECTS.views["apart"])}
            if found.apart.any()
            else {}
        ),
        facts,
        results={"ids": " ".join(inputs.ids)},
    )
    return {"run_key": run.key, **facts.as_dict(), "views": list(saved)}
