"""``compute_separability``: which classes the vectors tell apart, and which they confuse."""

import time
from typing import TYPE_CHECKING, Any

import fiftyone.operators.types as types
import numpy as np

from ..errors import UserError
from ..storage.arrays import encode
from ..storage.findings import latest_run, plan_findings, read_values, store_findings
from ..storage.labels import read_slices
from ..storage.maps import latest_trust
from ..storage.targets import resolve_target
from ..storage.vectors import vector_fields
from .base import (
    NOT_CHOSEN,
    OPEN_PANEL,
    QualityOperator,
    choice_input,
    embeddings_input,
    judging_notice,
    labels_input,
    patches_input,
    run_key_input,
    skipped_lines,
)
from .inputs import Inputs
from .progress import Progress, counted, duration

if TYPE_CHECKING:
    from ..analysis.separability import Separability

PANEL = "class_separability"

# Classes and pairs that the summary names.
NAMED = 5

# For the forecast in the form, on two cores.
SECONDS_PER_VECTOR, STARTING_SECONDS = 2e-4, 4


class ComputeSeparability(QualityOperator):
    name = "compute_separability"
    label = "Quality: compute class separability"
    description = (
        "Measure for each class how well the embedding tells it from the others (held-out recall, "
        "neighbour purity, silhouette, Fisher ratio), which classes it confuses with which and "
        "which samples are to blame; compare embeddings, and slices of a metadata field"
    )
    icon = "scatter_plot"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        embeddings: str | list,
        label_field: str,
        patches_field: str | None = None,
        by: str | None = None,
        run_key: str | None = None,
        seed: int = 51,
    ) -> dict[str, Any]:
        """Measures how well the classes can be told apart, in the original space.

        Every sample is judged by what was learned without it and without its duplicates, if
        ``find_duplicates`` was run before. The panel "Class separability" shows the stored run.

        Args:
            samples: a dataset or view
            embeddings: the field of the vectors; several are compared with each other on the
                samples that have all of them, and the measures are those of the first
            label_field: the field of the classes; of objects, the patches field
            patches_field (None): the field of the objects whose vectors are judged
            by (None): a metadata field: separability within its slices, and how well the field
                itself can be predicted from the vectors
            run_key (None): the name of the run, by default ``separability``
            seed (51): of everything random

        Returns:
            a dict with ``overall``, ``classes`` (worst first), ``pairs`` (least due to chance
            first), ``comparison`` of the embeddings, ``slices`` and ``field_prediction`` of
            ``by``, …

        Raises:
            UserError: if the input is at fault; an earlier run of the name then stays
        """
        names = [embeddings] if isinstance(embeddings, str) else list(embeddings)
        if not names or not all(isinstance(name, str) for name in names):
            raise UserError("embeddings must be the name of a field, or a list of names")
        if len(set(names)) < len(names):
            raise UserError("embeddings names a field twice")
        common = {"patches_field": patches_field, "label_field": label_field, "seed": seed}
        inputs = [Inputs(samples, progress, embeddings=name, **common) for name in names]
        return measure_and_store(inputs, by=by, run_key=run_key)

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        patches_field = patches_input(ctx, samples, inputs, "Judge")
        target = resolve_target(samples, patches_field)
        fields = vector_fields(target)
        embeddings = embeddings_input(ctx, target, inputs)
        if len(fields) > 1:
            choice_input(
                inputs,
                "compare_with",
                [name for name in fields if name != embeddings],
                label="Compare with",
                description="Which of the two embeddings separates the classes better",
                none="None",
            )
        labels_input(target, inputs, "The classes")
        inputs.str(
            "by",
            label="By",
            description="A field such as source or split: separability within its slices, and "
            "whether it can be predicted from the vectors",
        )
        run_key_input(ctx, target, self.name, (), (), inputs)
        judging_notice(target, embeddings, inputs, STARTING_SECONDS, SECONDS_PER_VECTOR)

    def from_form(self, given: dict[str, Any]) -> dict[str, Any]:
        other = given.pop("compare_with", None)
        if other not in (None, "", NOT_CHOSEN, given.get("embeddings")):
            given["embeddings"] = [given["embeddings"], other]
        return given

    def links(self, result: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
        return [("Open the panel", OPEN_PANEL, {"name": PANEL, "layout": "horizontal"})]

    def summary(self, result: dict[str, Any]) -> str:
        overall, things = result["overall"], result["things"]
        lines = [
            f"**Balanced accuracy {_percent(overall['balanced_accuracy'])}** of the held-out "
            f"predictions of {overall['classes']:,} classes ({overall['samples']:,} {things}), "
            f"neighbour purity {_percent(overall['purity'])} "
            f"(by chance {_percent(overall['purity_expected'])}): open the panel **Class "
            f"separability**, run `{result['run_key']}`",
            f"- {counted(overall['pairs_above_chance'], 'pair')} of classes above chance in mixing",
        ]
        lines += [f"- {row['label']}: {row['verdict']}" for row in result["classes"][:NAMED]]
        if result["comparison"]:
            lines.append(f"- {result['comparison']['verdict']}")
        if result["field_prediction"]:
            lines.append(
                f"- `{result['parameters']['by']}`: {result['field_prediction']['verdict']}"
            )
        lines += skipped_lines(result)
        lines.append(f"- {duration(result['seconds'])} in all")
        return "\n".join(lines)


def measure_and_store(
    inputs: list[Inputs], *, by: str | None, run_key: str | None
) -> dict[str, Any]:
    """Measures separability of the first inputs, compares the others, and stores a run."""
    from ..analysis.class_probe import held_out_probabilities
    from ..analysis.compare import compare_embeddings, measure_field_prediction, measure_slices
    from ..checks.verdicts import class_verdicts, comparison_verdict, field_verdict, slice_verdicts

    started = time.monotonic()
    first = inputs[0]
    target, progress = first.target, first.progress
    run = plan_findings(target, ComputeSeparability.name, run_key, (), ())
    left_out = _restrict_to_common(inputs)
    slices = None
    if by is not None:
        samples = [first.sample_ids[id_] for id_ in first.ids]
        slices = read_slices(target, by, first.ids, samples)
    measured = {each.embeddings: _measure(each) for each in inputs}
    separability = measured[first.embeddings]
    report = separability.as_dict()
    verdicts = class_verdicts(separability)
    for row in report["classes"]:
        row["verdict"] = verdicts[row["label"]]
    for pair in report["pairs"]:
        pair["boundary"] = [first.ids[row] for row in pair["boundary"]]
    _count_findings(first, report)
    report["overall"]["map"] = latest_trust(target, first.embeddings)

    comparison = None
    if len(inputs) > 1:
        compared = compare_embeddings(measured)
        comparison = compared.as_dict() | {"verdict": comparison_verdict(compared)}
    sliced = prediction = None
    if slices is not None:
        progress.say(f"Measuring the slices of {by}")
        names = tuple(sorted({name for name in slices if name is not None}))
        codes = np.array([names.index(name) if name is not None else -1 for name in slices])
        by_slice = measure_slices(separability, codes, names)
        sliced = by_slice.as_dicts()
        for row, verdict in zip(sliced, slice_verdicts(by_slice)):
            row["verdict"] = verdict
        evidence = held_out_probabilities(
            first.rows, codes, len(names), first.graph, first.groups, first.seed
        )
        predicted = measure_field_prediction(
            evidence.probabilities, codes, names, first.codes, first.groups
        )
        prediction = predicted.as_dict() | {"verdict": field_verdict(predicted)}
    progress.say("Storing the measures")
    facts = first.facts(run, {"by": by})
    facts["parameters"]["embeddings"] = [each.embeddings for each in inputs]
    skipped = dict(facts["skipped"])
    for reason, count in (
        ("no label", report["overall"]["unlabeled"]),
        ("vector of zeros", report["overall"]["zero_vectors"]),
        ("no vector in all of the fields", left_out),
    ):
        if count:
            skipped[reason] = count
    facts |= {
        "read": facts["read"] + left_out,
        "judged": report["overall"]["samples"],
        "skipped": skipped,
        "duplicates": first.duplicates[0],
        "overall": report["overall"],
        "field_prediction": prediction,
        "seconds": round(time.monotonic() - started, 2),
    }
    stored = {
        **report,
        "comparison": comparison,
        "slices": sliced,
        "label_field": first.label_field,
    }
    samples_measured = separability.samples
    store_findings(
        target,
        run,
        {},
        {},
        dict,
        facts,
        results={
            "report": stored,
            "ids": " ".join(first.ids),
            "codes": encode(first.codes.astype(np.int32)),
            "class_names": list(first.class_names),
            "predicted": encode(samples_measured.predicted.astype(np.int32)),
            "purity": encode(samples_measured.purity),
            "silhouette": encode(samples_measured.silhouette),
        },
    )
    return {**facts, **stored}


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


def _restrict_to_common(inputs: list[Inputs]) -> int:
    """Leaves what has a vector in all fields; returns how many of the first are left out."""
    if len(inputs) == 1:
        return 0
    common = set.intersection(*(set(each.vectors.ids) for each in inputs))
    if not common:
        raise UserError("embeddings: nothing has a vector in all of these fields")
    left_out = len(inputs[0].vectors.ids) - len(common)
    for each in inputs:
        if len(each.vectors.ids) > len(common):
            each.vectors = each.vectors.take(np.array([id_ in common for id_ in each.vectors.ids]))
    return left_out


def _count_findings(inputs: Inputs, report: dict[str, Any]) -> None:
    """Adds the label issues and outliers of each class, where such runs exist."""
    for operator, name in (("find_label_issues", "label_issues"), ("find_outliers", "outliers")):
        run = latest_run(inputs.target, operator)
        if run is not None and run.facts["parameters"]["label_field"] not in (
            None,
            inputs.label_field,
        ):
            run = None  # it judged other classes
        flags = read_values(inputs.target, f"{run.key}_flagged", inputs.ids) if run else []
        counts: dict[str, int] = {}
        for label, flag in zip(inputs.labels, flags):
            if flag and label is not None:
                counts[label] = counts.get(label, 0) + 1
        for row in report["classes"]:
            row[name] = counts.get(row["label"], 0) if run else None
        report[f"{name}_run"] = run.key if run else None


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.0f} %"
