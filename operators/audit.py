"""``audit``: everything in one pass that shares vectors, their graph and held-out labels."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import fiftyone as fo
import fiftyone.operators.types as types

from ..errors import UserError
from ..storage.labels import is_multilabel, label_fields, read_labels, read_splits, split_fields
from ..storage.targets import Target, resolve_target
from ..storage.vectors import vector_fields
from . import compute_separability, find_duplicates, find_label_issues, find_outliers
from .base import (
    NOT_CHOSEN,
    OPEN_PANEL,
    SET_VIEW,
    QualityOperator,
    choice_input,
    embeddings_input,
    labels_input,
    patches_input,
    skipped_lines,
)
from .compute_embeddings import ComputeEmbeddings, default_field, model_input
from .compute_visualization import ComputeVisualization
from .inputs import Inputs
from .progress import Progress, counted, duration

# For the forecast in the form, on two cores: what a vector costs, and what reading a picture does.
SECONDS_PER_VECTOR, SECONDS_PER_PICTURE, STARTING_SECONDS = 1e-3, 8e-3, 15

# Weakest classes that the summary names.
NAMED = 3

# The value of label_field that stands for no labels.
NO_LABELS = "none"


class Audit(QualityOperator):
    name = "audit"
    label = "Quality: audit"
    description = (
        "Everything in one pass: embeddings if missing, duplicates and leaks, outliers, label "
        "issues, class separability and a map, with one summary of what to look at first"
    )
    icon = "fact_check"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        embeddings: str | None = None,
        model: str = "clip",
        label_field: str | None = None,
        patches_field: str | None = None,
        split: str | list | None = None,
        check_pictures: bool = True,
        seed: int = 51,
    ) -> dict[str, Any]:
        """Runs every check that the dataset allows, and says what was left out and why.

        Args:
            samples: a dataset or view
            embeddings (None): the field of the vectors; by default the first field with vectors,
                or else the model's name. What has no vector there is computed, if the plugin's
                ``compute_embeddings`` filled the field or nothing has
            model ("clip"): the model that computes vectors, where there are none yet
            label_field (None): the field of the labels; by default ``ground_truth``, or the only
                one that holds Classifications; ``"none"`` for an audit without labels. Of
                objects, the patches field
            patches_field (None): audit the objects of this field instead of whole images
            split (None): a field that names the split of each sample, ``"tags"``, or a list of
                tags, for leaks between them
            check_pictures (True): read the files, to prove duplicates and to find dark, bright,
                blurred, … pictures; without it, near-duplicates are left out
            seed (51): of everything random

        Returns:
            a dict with ``findings`` (what to look at first), ``steps`` (the result of each
            operator by its name), ``left_out`` (reasons by operator), how many were ``read``,
            ``judged`` and ``skipped`` (by reason; the most of any check), and ``seconds``

        Raises:
            UserError: if the input is at fault
        """
        started = time.monotonic()
        target = resolve_target(samples, patches_field)
        field = embeddings or next(iter(vector_fields(target)), None)
        labels, no_labels = _labels(target, label_field)
        _check_named(target, label_field, split)
        steps: dict[str, dict[str, Any]] = {}
        left_out: dict[str, str] = {}

        def step(name: str, work: Callable[[], dict[str, Any]]) -> None:
            try:
                steps[name] = work()
            except UserError as error:
                left_out[name] = str(error)

        field = _vectors(samples, target, field, model, progress, steps, left_out)
        several = labels is not None and is_multilabel(target, labels)

        def read(label_field: str | None) -> Inputs:
            return Inputs(
                samples,
                progress,
                embeddings=field,
                patches_field=patches_field,
                label_field=label_field,
                seed=seed,
            )

        # Only label issues are defined for several labels of one sample.
        inputs = read(None if several else labels)
        if check_pictures:
            step(
                "find_duplicates",
                lambda: find_duplicates.find_and_store(
                    inputs, split=split, threshold="auto", run_key=None
                ),
            )
        else:
            left_out["find_duplicates"] = "the pictures are not read (check_pictures=False)"
        if field is not None:
            step(
                "find_outliers",
                lambda: find_outliers.find_and_store(
                    inputs, threshold="auto", check_pictures=check_pictures, run_key=None
                ),
            )
            if labels is not None:
                step(
                    "find_label_issues",
                    lambda: find_label_issues.find_and_store(
                        read(labels) if several else inputs, predictions_field=None, run_key=None
                    ),
                )
            step(
                "compute_visualization",
                lambda: ComputeVisualization().run(
                    samples,
                    progress,
                    embeddings=field,
                    patches_field=patches_field,
                    seed=seed,
                ),
            )
            if several:
                left_out["compute_separability"] = f"{labels!r} holds several labels per sample"
            elif labels is not None:
                step(
                    "compute_separability",
                    lambda: compute_separability.measure_and_store([inputs], by=None, run_key=None),
                )
        else:
            checks = (find_outliers.FindOutliers, find_label_issues.FindLabelIssues)
            checks += (ComputeVisualization, compute_separability.ComputeSeparability)
            left_out |= {check.name: "there are no vectors" for check in checks}
        if labels is None:
            left_out |= dict.fromkeys(("find_label_issues", "compute_separability"), no_labels)
        if not steps:
            raise UserError("; ".join(_reasons(left_out)))
        skipped: Counter[str] = Counter()
        for result in steps.values():
            skipped |= Counter(result.get("skipped"))
        return {
            "embeddings": field,
            "label_field": labels,
            "patches_field": patches_field,
            "things": target.things,
            "read": len(target.ids()),
            "judged": max(result.get("judged", 0) for result in steps.values()),
            "skipped": dict(skipped),
            "findings": _findings(steps),
            "steps": steps,
            "left_out": left_out,
            "seconds": round(time.monotonic() - started, 2),
        }

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        patches_field = patches_input(ctx, samples, inputs, "Audit")
        target = resolve_target(samples, patches_field)
        fields = vector_fields(target)
        if fields:
            embeddings_input(ctx, target, inputs)
        else:
            model_input(
                inputs, "There are no vectors yet; this model computes them (clip or cnn, say)"
            )
        labels_input(target, inputs, "The classes", required=False)
        choice_input(
            inputs,
            "split",
            split_fields(target),
            label="Split",
            description="Where train, test, … are named: leaks between them are listed first",
            none="None",
        )
        inputs.bool(
            "check_pictures",
            default=True,
            label="Read the pictures",
            description="Proves duplicates, and finds dark, bright, blurred, … pictures",
        )
        count = len(target.ids())
        seconds = STARTING_SECONDS + count * SECONDS_PER_VECTOR
        if ctx.params.get("check_pictures", True):
            seconds += count * SECONDS_PER_PICTURE
        text = f"{counted(count, target.things[:-1])} will be audited, which takes roughly "
        text += duration(seconds)
        if not fields:
            text += ", after their vectors were computed"
        text += ". No label or file is changed"
        inputs.view("plan", types.Notice(label=text))

    def from_form(self, given: dict[str, Any]) -> dict[str, Any]:
        if given.get("label_field") == NOT_CHOSEN:
            given["label_field"] = NO_LABELS
        return given

    def links(self, result: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
        views = dict.fromkeys(finding["view"] for finding in result["findings"])
        links = [(f"Show {view}", SET_VIEW, {"name": view}) for view in views if view]
        panels = []
        if "compute_separability" in result["steps"]:
            panel = {"name": compute_separability.PANEL, "layout": "horizontal"}
            panels.append(("Open class separability", OPEN_PANEL, panel))
        if "compute_visualization" in result["steps"]:
            panel = {"name": "Embeddings", "layout": "horizontal"}
            panels.append(("Open the map", OPEN_PANEL, panel))
        return links + panels

    def summary(self, result: dict[str, Any]) -> str:
        lines = [
            f"**Audit of {counted(result['read'], result['things'][:-1])}**"
            + (f" with `{result['embeddings']}`" if result["embeddings"] else "")
        ]
        if result["findings"]:
            lines += ["", "Look at first:"]
        for place, finding in enumerate(result["findings"], 1):
            where = f" → `{finding['view']}`" if finding["view"] else ""
            lines.append(f"{place}. **{finding['what']}**: {finding['how_sure']}{where}")
        if not result["findings"]:
            lines += ["", "Nothing stands out"]
        facts = []
        if separability := result["steps"].get("compute_separability"):
            overall = separability["overall"]
            facts.append(
                f"- {counted(overall['classes'], 'class')}, balanced accuracy of the held-out "
                f"predictions {overall['balanced_accuracy'] or 0:.0%}: panel **Class separability**"
            )
        if visualization := result["steps"].get("compute_visualization"):
            facts.append(
                f"- map `{visualization['brain_key']}` in the **Embeddings** panel: "
                f"{visualization['trust']}"
            )
        facts += skipped_lines(result)
        if result["steps"].get("compute_embeddings", {}).get("failed"):
            facts.append(f"- why they have no vector: field `{result['embeddings']}_error`")
        facts += [f"- left out: {reason}" for reason in _reasons(result["left_out"])]
        facts.append(f"- {duration(result['seconds'])} in all")
        return "\n".join([*lines, "", *facts])


def _reasons(left_out: dict[str, str]) -> list[str]:
    """What was left out, with its reason: one text for each reason."""
    names: dict[str, list[str]] = {}
    for name, why in left_out.items():
        names.setdefault(why, []).append(name)
    return [f"{', '.join(operators)}: {why}" for why, operators in names.items()]


def _labels(target: Target, label_field: str | None) -> tuple[str | None, str]:
    """The field of the labels, or None and why there is none."""
    if label_field == NO_LABELS:
        return None, "without labels, as asked"
    if target.patches_field is not None:
        return target.patches_field, ""
    if label_field is not None:
        return label_field, ""
    schema = target.view.get_field_schema()
    fields = [
        name
        for name in label_fields(target)
        if getattr(schema[name], "document_type", None) is fo.Classification
    ]
    if "ground_truth" in fields:
        return "ground_truth", ""
    if len(fields) == 1:
        return fields[0], ""
    if not fields:
        return None, "no field holds a Classification for each sample; name one as label_field="
    return None, f"which labels? label_field= can be {', '.join(fields)}"


def _check_named(target: Target, label_field: str | None, split: str | list | None) -> None:
    """Refuses what the user has named and is not there; what nobody named is left out instead."""
    ids = target.ids()
    if label_field not in (None, NO_LABELS) and not is_multilabel(target, label_field):
        read_labels(target, label_field, ids)
    if split is not None:
        samples = target.sample_ids()
        read_splits(target, split, [samples[id_] for id_ in ids])


def _vectors(
    samples: Any,
    target: Target,
    field: str | None,
    model: str,
    progress: Progress,
    steps: dict[str, dict[str, Any]],
    left_out: dict[str, str],
) -> str | None:
    """Computes vectors where they are missing; returns their field, None if there are none."""
    name = field or default_field(model)
    path = target.path(name)
    ours = target.dataset.has_run(target.dataset_path(name).replace(".", "_"))
    if field is not None and target.view.get_field(path) is not None:
        missing = len(target.ids()) - len(target.ids(having=name))
        if not missing:
            return name
        if not ours:
            left_out["compute_embeddings"] = (
                f"{missing:,} {target.things} have no vector in {name!r}, which this plugin did "
                "not compute"
            )
            return name
        facts = target.dataset.get_run_info(target.dataset_path(name).replace(".", "_")).config
        model = _model_of(dict(facts.facts), model)
    try:
        steps["compute_embeddings"] = ComputeEmbeddings().run(
            samples,
            progress,
            embeddings=name,
            patches_field=target.patches_field,
            model=model,
        )
    except UserError as error:
        left_out["compute_embeddings"] = str(error)
        if field is None or target.view.get_field(path) is None:
            return None
    return name


def _model_of(facts: dict[str, Any], otherwise: str) -> str:
    from ..embedding.registry import ALIASES

    name = facts.get("model") or otherwise
    return next((alias for alias, full in ALIASES.items() if full == name), name)


def _findings(steps: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What was found, how sure that is and where it is seen, the most urgent first."""
    found = []

    def add(what: str, how_sure: str, count: int, view: str | None = None) -> None:
        if count:
            found.append({"what": what, "how_sure": how_sure, "count": count, "view": view})

    if duplicates := steps.get("find_duplicates"):
        key = duplicates["run_key"]
        leaks = sum(leak["groups"] for leak in duplicates["leaks"])
        between = ", ".join(" and ".join(leak["splits"]) for leak in duplicates["leaks"])
        add(
            counted(leaks, "group") + f" of duplicates across {between}",
            "proved by the pixels; a score on such a split is too good",
            leaks,
            f"{key}: leaks",
        )
        add(
            counted(duplicates["conflicts"], "group") + " of duplicates with different labels",
            "at least one label of each is wrong",
            duplicates["conflicts"],
            f"{key}: groups",
        )
        add(
            counted(duplicates["exact_groups"], "group") + " of exact copies",
            "the same bytes or pixels",
            duplicates["exact_groups"],
            f"{key}: redundant",
        )
        add(
            counted(duplicates["near_groups"], "group") + " of near-duplicates",
            "proved by comparing the pictures",
            duplicates["near_groups"],
            f"{key}: redundant",
        )
    if issues := steps.get("find_label_issues"):
        share = issues["expected_precision"]
        sure = "estimated by cleanlab"
        if share is not None:
            sure += f", about {share:.0%} of them real" if share >= 0.01 else ", hardly any real"
        add(
            counted(issues["flagged"], "label issue"),
            sure,
            issues["flagged"],
            f"{issues['run_key']}: flagged",
        )
    if outliers := steps.get("find_outliers"):
        reasons = ", ".join(f"{count:,} {why}" for why, count in outliers["reasons"].items())
        add(
            counted(outliers["flagged"], "outlier"),
            reasons,
            outliers["flagged"],
            f"{outliers['run_key']}: flagged",
        )
    separability = steps.get("compute_separability")
    if separability and len(separability["classes"]) > 1:
        weak = [
            row
            for row in separability["classes"]
            if row["f1"] is not None and not row["verdict"].startswith("well separated")
        ]
        named = "; ".join(f"{row['label']}: {row['verdict']}" for row in weak[:NAMED])
        add(counted(len(weak), "weak class"), named, len(weak))
    return found
