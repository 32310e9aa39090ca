"""The check ``compute_separability``: which classes the embeddings separate, and confuse."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UserError
from ..storage import fingerprints
from ..storage.arrays import encode
from ..storage.class_flags import with_flags
from ..storage.findings import plan_findings, store_findings
from ..storage.metadata import read_slices
from ..storage.runs import RunFacts
from ..storage.visualizations import latest_trust
from .contract import EMBEDDINGS, LABELS, Check
from .inputs import Inputs, restrict_to_common
from .verdicts import (
    class_verdicts,
    comparison_verdict,
    field_verdict,
    more_sentence,
    slice_verdicts,
)

if TYPE_CHECKING:
    from ..analysis.separability import Separability

SEPARABILITY = Check(
    name="compute_separability",
    needs=frozenset({EMBEDDINGS, LABELS}),
    would_find="classes that are confused",
)

# A class is called weak if chance alone makes one so seldom.
SURELY = 0.05


def compute_separability(
    inputs: list[Inputs], *, by: str | None = None, run_key: str | None = None
) -> dict[str, Any]:
    """Measures separability of the first inputs, compares the others, and stores a run.

    Args:
        inputs: the same samples or patches with several fields of embeddings
        by, run_key: as of the operator

    Raises:
        UserError: if the input is at fault; an earlier run of the name then stays
    """
    started = time.monotonic()
    first = inputs[0]
    target = first.target
    run = plan_findings(target, SEPARABILITY.name, run_key, (), ())
    left_out = restrict_to_common(inputs)
    slices = None
    if by is not None:
        samples = [target.sample_ids[id_] for id_ in first.ids]
        slices = read_slices(target, by, first.ids, samples)
    embeddings = first.required_embeddings
    measured = {each.required_embeddings: _measure(each) for each in inputs}
    separability = measured[embeddings]
    report = separability.as_dict()
    verdicts = class_verdicts(separability)
    of_more = _gains(first, separability)
    for row in report["classes"]:
        row["more"] = of_more.get(row["label"])
        row["verdict"] = "; ".join(filter(None, [verdicts[row["label"]], more_sentence(row)]))
    for pair in report["pairs"]:
        pair["boundary"] = [first.ids[row] for row in pair["boundary"]]
    report["overall"]["map"] = latest_trust(target.dataset, target.about, embeddings)
    stored = {
        **report,
        "comparison": _compared(measured),
        "slices": None,
        "label_field": first.label_field,
    }
    prediction = None
    if slices is not None and by is not None:
        stored["slices"], prediction = _sliced(first, separability, slices, by)
    first.progress.say("Storing the measures")
    special = {
        "duplicates": first.duplicates.run_key if first.duplicates else None,
        "overall": report["overall"],
        "field_prediction": prediction,
    }
    facts = _facts(inputs, by, slices, left_out, report["overall"])
    facts = replace(facts, seconds=round(time.monotonic() - started, 2), special=special)
    store_findings(target, run, (), {}, dict, facts, results=_results(first, separability, stored))
    labels = zip(first.ids, first.labels)
    of_class = {id_: label for id_, label in labels if label is not None}
    shown = with_flags(target.dataset, target.about, stored, of_class)
    return {"run_key": run.key, **facts.as_dict(), **shown}


def _facts(
    inputs: list[Inputs],
    by: str | None,
    slices: list[str | None] | None,
    left_out: int,
    overall: dict[str, Any],
) -> RunFacts:
    first = inputs[0]
    facts = first.facts({"by": by}, fingerprints.GROUPS)
    read = dict(facts.inputs)
    for each in inputs[1:]:
        read[f"{fingerprints.EMBEDDINGS} {each.embeddings}"] = each.vectors.fingerprint
    if slices is not None:
        name = f"{fingerprints.SLICES} {by}"
        read[name] = fingerprints.texts_fingerprint(first.ids, slices)
    skipped = dict(facts.skipped)
    for reason, count in (
        ("no label", overall["unlabeled"]),
        ("all-zero embedding", overall["zero_vectors"]),
        ("no embedding in all of the fields", left_out),
    ):
        if count:
            skipped[reason] = count
    return replace(
        facts,
        parameters={**facts.parameters, "embeddings": [each.embeddings for each in inputs]},
        inputs=read,
        read=(facts.read or 0) + left_out,
        evaluated=overall["samples"],
        skipped=skipped,
    )


def _results(
    inputs: Inputs, separability: "Separability", report: dict[str, Any]
) -> dict[str, Any]:
    """What the panel reads."""
    measured = separability.samples
    return {
        "report": report,
        "ids": " ".join(inputs.ids),
        "codes": encode(inputs.codes.astype(np.int32)),
        "class_names": list(inputs.class_names),
        "predicted": encode(measured.predicted.astype(np.int32)),
        "purity": encode(measured.purity),
        "silhouette": encode(measured.silhouette),
    }


def _measure(inputs: Inputs) -> "Separability":
    from ..analysis.separability import class_separability

    if not inputs.class_names:
        raise UserError(f"label_field={inputs.label_field!r} holds no labels")
    evidence = inputs.evidence
    inputs.progress.say(f"Measuring how {inputs.embeddings} separates the classes")
    return class_separability(
        inputs.rows,
        inputs.codes,
        inputs.class_names,
        inputs.graph,
        evidence.probabilities,
        inputs.groups,
    )


def _gains(inputs: Inputs, separability: "Separability") -> dict[str, float]:
    """What more samples would bring the recall of each class of which that can be determined."""
    from ..analysis.learning_curve import MIN_INDEPENDENT, gain, learning_exponent

    names = inputs.class_names
    exponent = learning_exponent(inputs.rows, inputs.codes, len(names), inputs.groups, inputs.seed)
    if exponent is None:
        return {}
    recalls, counts = separability.classes.recall.tolist(), separability.independent.tolist()
    return {
        name: round(gain(recall, count, exponent), 4)
        for name, recall, count in zip(names, recalls, counts)
        if count >= MIN_INDEPENDENT and recall == recall
    }


def _compared(measured: dict[str, "Separability"]) -> dict[str, Any] | None:
    from ..analysis.compare import compare_embeddings

    if len(measured) == 1:
        return None
    compared = compare_embeddings(measured)
    return compared.as_dict() | {"verdict": comparison_verdict(compared)}


def _sliced(
    inputs: Inputs, separability: "Separability", slices: list[str | None], by: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Separability within the slices of a field, and how well the field itself is predicted."""
    from ..analysis.class_probe import held_out_probabilities
    from ..analysis.compare import measure_field_prediction, measure_slices

    inputs.progress.say(f"Measuring the slices of {by}")
    names = tuple(sorted({name for name in slices if name is not None}))
    codes = np.array([names.index(name) if name is not None else -1 for name in slices])
    by_slice = measure_slices(separability, codes, names)
    sliced = by_slice.as_dicts()
    for row, verdict in zip(sliced, slice_verdicts(by_slice)):
        row["verdict"] = verdict
    evidence = held_out_probabilities(
        inputs.rows, codes, len(names), inputs.graph, inputs.groups, inputs.seed
    )
    prediction = measure_field_prediction(
        evidence.probabilities, codes, names, inputs.codes, inputs.groups
    )
    verdict = field_verdict(prediction, _way_out(inputs, by))
    return sliced, prediction.as_dict() | {"verdict": verdict}


def _way_out(inputs: Inputs, by: str) -> str:
    """The call that takes a field out of the embeddings."""
    named = {"embeddings": inputs.embeddings, "remove": by}
    if inputs.target.patches_field is not None:
        named["patches_field"] = inputs.target.patches_field
    return f"reduce_embeddings({', '.join(f'{name}={value!r}' for name, value in named.items())})"


def weak_classes(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The classes whose recall is lower than that of the others together, and not by chance.

    By a one-sided binomial test of each class, as wide as the intervals of recall, adjusted by
    Benjamini and Hochberg at 5 %. Where all classes are equally hard, none is weak.

    Args:
        rows: the classes as they are stored
    """
    from ..analysis._statistics import adjusted_p_values, binomial_tail
    from ..analysis.separability import HELD_OUT_SPREAD

    evaluated = [row for row in rows if row["recall"] is not None]
    if len(evaluated) < 2:
        return []
    count = np.array([row["count"] for row in evaluated], float)
    wrong = count * (1 - np.array([row["recall"] for row in evaluated], float))
    # No class counts for more than a usual one. And as if the others had made one mistake more:
    # none at all would make any mistake certain proof.
    weight = np.minimum(count, np.median(count))
    wrong_ones = weight * wrong / count
    of_others = (wrong_ones.sum() - wrong_ones + 1) / (weight.sum() - weight + 2)
    chance = binomial_tail(wrong / HELD_OUT_SPREAD, count / HELD_OUT_SPREAD, of_others)
    weak = adjusted_p_values(chance, len(evaluated)) < SURELY
    return [row for row, is_weak in zip(evaluated, weak) if is_weak]
