"""The audit: every check that a dataset allows, on the same inputs, in the order of their needs."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import fiftyone as fo

from ..embedding.registry import check_model
from ..errors import UserError
from ..storage.labels import label_field_of, label_fields, read_label_texts
from ..storage.metadata import default_split, names_splits, read_splits
from ..storage.names import check_name
from ..storage.paths import document_type, patches_fields
from ..storage.search_index import check_index_key
from ..storage.target import Target
from ..storage.targets import resolve_target
from ..storage.texts import text_field_of
from ..storage.vectors import embeddings_field, vector_fields
from .caption_issues import CAPTION_ISSUES, find_caption_issues
from .clusters import CLUSTERS, find_clusters
from .contract import EMBEDDINGS as NEEDS_EMBEDDINGS
from .contract import LABELS as NEEDS_LABELS
from .duplicates import DUPLICATES, find_duplicates
from .embeddings import (
    EMBEDDINGS,
    compute_embeddings,
    default_field,
    model_parameters,
    plan_embeddings,
)
from .inputs import Inputs
from .label_issue_columns import LABEL_ISSUES
from .label_issues import find_label_issues
from .outliers import OUTLIERS, find_outliers
from .progress import Progress
from .search import SEARCH, index_embeddings
from .separability import SEPARABILITY, compute_separability
from .visualization import VISUALIZATION, compute_visualization

# The value of label_field that stands for no labels.
NO_LABELS = "none"


@dataclass
class AuditSteps:
    """What an audit has done.

    Attributes:
        steps: the result of each check, by its name
        left_out: why a check was skipped, by its name
    """

    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def step(self, name: str, work: Callable[[], dict[str, Any]]) -> None:
        """Does a step; what is at fault with it is its reason to be skipped."""
        try:
            self.steps[name] = work()
        except UserError as error:
            self.left_out[name] = str(error)

    def leave_out(self, need: str, why: str) -> None:
        """Leaves out the checks that need something that there is not."""
        checks = (OUTLIERS, LABEL_ISSUES, VISUALIZATION, SEPARABILITY, CLUSTERS)
        self.left_out |= {check.name: why for check in checks if need in check.needs}

    def reasons(self) -> list[tuple[list[str], str]]:
        """The checks that were skipped for the same reason, and the reason."""
        names: dict[str, list[str]] = {}
        for name, why in self.left_out.items():
            names.setdefault(why, []).append(name)
        return [(checks, why) for why, checks in names.items()]


def audit(
    target: Target,
    progress: Progress | None = None,
    *,
    embeddings: str | None = None,
    model: str = "clip",
    label_field: str | None = None,
    split: str | list | None = None,
    check_pictures: bool = True,
    similarity_index: str | None = None,
    seed: int = 51,
    neighbors: str | None = None,
) -> dict[str, Any]:
    """Runs every check that the target allows, on shared inputs.

    Args:
        target: the samples or patches
        progress (None): where the steps are reported
        embeddings, model, label_field, split, check_pictures, similarity_index, seed,
            neighbors: as of the operator

    Returns:
        a dict with the result of each check in ``steps``, ``left_out``, and what was read

    Raises:
        UserError: if what was named is not there, or nothing can be done
    """
    started = time.monotonic()
    progress = progress or Progress()
    done = AuditSteps()
    check_model(model)
    labels, no_labels = _labels(target, label_field)
    _check_named(target, label_field, split)
    if split is None and (named := default_split(target)) != labels:
        split = named
    _check_field(target, embeddings)
    if similarity_index is not None:
        check_index_key(target, field_to_audit(target, embeddings, model), similarity_index)
    name = _embeddings(target, embeddings, model, progress, done)
    several = labels is not None and label_field_of(target, labels).several
    # Only label issues are defined for several labels of one sample.
    inputs = Inputs(
        target,
        progress,
        embeddings=name,
        label_field=None if several else labels,
        seed=seed,
        neighbors=neighbors,
    )
    # Of texts no file is read.
    if check_pictures or inputs.text_field is not None:
        done.step(DUPLICATES.name, lambda: find_duplicates(inputs, split=split))
    else:
        done.left_out[DUPLICATES.name] = "the images are not read (check_pictures=False)"
    if name is not None:
        _steps_on_embeddings(inputs, labels, several, check_pictures, done)
    else:
        done.leave_out(NEEDS_EMBEDDINGS, "there are no embeddings")
    if similarity_index is not None and name is not None:
        made = (target, name, similarity_index, progress)
        done.step(SEARCH, lambda: index_embeddings(*made))
    if labels is None:
        done.leave_out(NEEDS_LABELS, no_labels)
    if not done.steps:
        raise UserError("; ".join(f"{', '.join(names)}: {why}" for names, why in done.reasons()))
    skipped: Counter[str] = Counter()
    for check, result in done.steps.items():
        # What could not be embedded has no embeddings, and is skipped for that.
        if check != EMBEDDINGS.name:
            skipped |= Counter(result.get("skipped"))
    return {
        "embeddings": name,
        "label_field": labels,
        "patches_field": target.patches_field,
        "things": target.noun,
        "read": len(target.ids()) + target.num_ambiguous,
        "judged": max(result.get("judged") or 0 for result in done.steps.values()),
        "skipped": dict(skipped),
        "steps": done.steps,
        "left_out": done.left_out,
        "seconds": round(time.monotonic() - started, 2),
    }


def _steps_on_embeddings(
    inputs: Inputs, labels: str | None, several: bool, check_pictures: bool, done: AuditSteps
) -> None:
    done.step(OUTLIERS.name, lambda: find_outliers(inputs, check_pictures=check_pictures))
    if labels is not None:
        label_inputs = inputs.with_labels(labels) if several else inputs
        done.step(LABEL_ISSUES.name, lambda: find_label_issues(label_inputs))
    done.step(VISUALIZATION.name, lambda: compute_visualization(inputs))
    if several:
        done.left_out[SEPARABILITY.name] = f"{labels!r} holds several labels per sample"
    elif labels is not None:
        done.step(SEPARABILITY.name, lambda: compute_separability([inputs]))
    # Words of a text tower take a minute; where there are labels, they are names.
    names = "auto" if inputs.label_field is None else "labels"
    done.step(
        CLUSTERS.name, lambda: find_clusters(inputs, names=names, check_pictures=check_pictures)
    )
    if inputs.text_field is None:
        _captions(inputs, done)


def _captions(inputs: Inputs, done: AuditSteps) -> None:
    """Whether captions fit, where there are embeddings of captions beside those of images."""
    texts = _fields_of_texts(inputs.target)
    if len(texts) > 1:
        done.left_out[CAPTION_ISSUES.name] = (
            f"which captions? text_embeddings= can be {', '.join(texts)}"
        )
    elif texts:
        images, captions = (
            Inputs(inputs.target, inputs.progress, embeddings=name, seed=inputs.seed)
            for name in (inputs.embeddings, texts[0])
        )
        done.step(CAPTION_ISSUES.name, lambda: find_caption_issues(images, captions))


def _fields_of_texts(target: Target) -> list[str]:
    return [name for name in vector_fields(target) if text_field_of(target, name) is not None]


def _labels(target: Target, label_field: str | None) -> tuple[str | None, str]:
    """The field of the labels, or None and why there is none."""
    if label_field == NO_LABELS:
        return None, "label_field='none' was passed"
    if target.patches_field is not None:
        return target.patches_field, ""
    if label_field is not None:
        return label_field_of(target, label_field).name, ""
    fields = _classifications(target)
    if "ground_truth" in fields:
        return "ground_truth", ""
    if len(fields) == 1:
        return fields[0], ""
    if not fields:
        return None, "no field holds a Classification for each sample; pass label_field="
    return None, f"which labels? label_field= can be {', '.join(fields)}"


def _classifications(target: Target) -> list[str]:
    """The fields with a Classification for each sample, or else several, that name no splits."""
    schema = target.view.get_field_schema()
    fields = [
        name
        for name in label_fields(target)
        if document_type(schema[name]) is fo.Classification and not names_splits(target, name)
    ]
    return fields or [
        name
        for name in label_fields(target, several=True)
        if document_type(schema[name]) is fo.Classifications
    ]


def default_labels(target: Target) -> str | None:
    """The labels that an audit reads if none are named; None if there are none, or several."""
    return _labels(target, None)[0]


def default_patches(
    samples: Any, embeddings: str | None = None, label_field: str | None = None
) -> str | None:
    """The field whose patches an audit is of if nothing else is named; None for whole images.

    Those of images without labels of their own, unless only the images have embeddings.
    """
    if label_field is not None:
        return None
    target = resolve_target(samples)
    classes = _classifications(target) if target.patches_field is None else ()
    if target.patches_field is not None or classes:
        return None
    embedded = vector_fields(target)
    fields = patches_fields(target.view)
    for name in sorted(fields, key=lambda name: name != "ground_truth"):
        own = vector_fields(resolve_target(samples, name))
        if embeddings is not None:
            fits = not target.has_field(embeddings)
        else:
            fits = bool(own) or not embedded
        if fits:
            return name
    return None


def _check_named(target: Target, label_field: str | None, split: str | list | None) -> None:
    """Refuses what the user has named and is not there; what nobody named is skipped instead."""
    ids = target.ids()
    if label_field not in (None, NO_LABELS):
        read_label_texts(target, label_field, ids)
    if split is not None:
        read_splits(target, split, [target.sample_ids[id_] for id_ in ids])


def _check_field(target: Target, embeddings: str | None) -> None:
    """Refuses what is neither a field with embeddings nor the name of one to be made."""
    if embeddings is None:
        return
    name = embeddings.removeprefix(target.root)
    if not target.has_field(name):
        check_name("embeddings", name)
    else:
        embeddings_field(target, embeddings)


def field_to_audit(target: Target, named: str | None, model: str) -> str:
    """The field of the embeddings that an audit reads, or makes if there are none."""
    name = named or next(iter(vector_fields(target)), None) or default_field(model)
    return name.removeprefix(target.root)


def _embeddings(
    target: Target, named: str | None, model: str, progress: Progress, done: AuditSteps
) -> str | None:
    """Computes embeddings where they are missing; returns their field, None if there are none."""
    texts = _fields_of_texts(target)
    # Embeddings of images come first.
    name = named or min(vector_fields(target), key=lambda name: name in texts, default=None)
    given: dict[str, Any] = {"model": model}
    if name is not None and target.has_field(name.removeprefix(target.root)):
        name = embeddings_field(target, name)
        missing = len(target.ids()) - len(target.ids(having=name))
        if not missing:
            return name
        before = _before(target, name)
        if before is None:
            done.left_out[EMBEDDINGS.name] = (
                f"{missing:,} {target.noun} have no embedding in {name!r}, which this plugin did "
                "not compute"
            )
            return name
        given = model_parameters(before, model)
    field = name or default_field(model)
    done.step(
        EMBEDDINGS.name,
        lambda: compute_embeddings(target, progress, embeddings=field, **given),
    )
    return field if target.ids(having=field) else None


def _before(target: Target, name: str) -> Any:
    """What the plugin's run that filled a field says of itself; None if it was not the plugin."""
    try:
        plan = plan_embeddings(target, name)
    except UserError:
        return None
    return plan.before if plan.identity else None
