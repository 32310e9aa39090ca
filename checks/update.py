"""Repeats the checks whose runs are out of date, each as it was called, and keeps reviews."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import fiftyone as fo

from ..errors import UserError
from ..storage.runs import Run, plugin_runs
from ..storage.staleness import Reader, run_ids, stale_reasons
from ..storage.target import Target
from ..storage.targets import about_of
from ..storage.visualizations import read_visualization, stored_visualizations
from .caption_issues import CAPTION_ISSUES, find_caption_issues
from .clusters import CLUSTERS, find_clusters
from .comparison import COMPARISON, compare_datasets
from .duplicates import DUPLICATES, find_duplicates
from .embeddings import EMBEDDINGS, compute_embeddings, model_parameters, plan_embeddings
from .inputs import Inputs
from .label_issue_columns import LABEL_ISSUES
from .label_issues import find_label_issues
from .order_effects import ORDER_EFFECTS, find_order_effects
from .outliers import OUTLIERS, find_outliers
from .progress import Progress
from .reduction import REDUCTION, reduce_again
from .selection import SELECTION, select_samples
from .separability import SEPARABILITY, compute_separability
from .similar import SIMILAR, find_similar
from .suggestions import SUGGESTIONS, suggest_labels
from .visualization import VISUALIZATION, compute_visualization, layout_of

# In the order of their needs.
ORDER = (
    *(EMBEDDINGS, REDUCTION, DUPLICATES, OUTLIERS, CAPTION_ISSUES, LABEL_ISSUES, VISUALIZATION),
    *(SEPARABILITY, CLUSTERS, COMPARISON, SIMILAR, ORDER_EFFECTS, SUGGESTIONS, SELECTION),
)


def repeatable(dataset: fo.Dataset) -> list[Run]:
    """The runs that can be repeated, in the order in which that is done."""
    order = {check.name: place for place, check in enumerate(ORDER)}
    runs = [*plugin_runs(dataset), *stored_visualizations(dataset)]
    found = {run.key: run for run in runs if run.operator in order and run.unreadable is None}
    return sorted(found.values(), key=lambda run: (order[run.operator], run.key))


def stale_runs(dataset: fo.Dataset) -> dict[str, list[str]]:
    """Why runs are out of date, by their keys; those that are not are skipped."""
    reader = Reader(dataset)
    reasons = {run.key: stale_reasons(run, reader) for run in repeatable(dataset)}
    return {key: why for key, why in reasons.items() if why}


def update_audit(dataset: fo.Dataset, progress: Progress | None = None) -> dict[str, Any]:
    """Repeats what is out of date with the parameters with which it was called.

    Whether a run is out of date is asked when its turn comes: what was repeated before it may have
    made it so, as duplicates that were found again do.

    Args:
        dataset: the dataset
        progress (None): where the steps are reported

    Returns:
        a dict with ``updated`` (the result of each run, by its key), ``current`` (the keys of runs
        that were up to date), ``failed`` (reasons by key) and ``seconds``

    Raises:
        UserError: if there is no run yet
    """
    started = time.monotonic()
    progress = progress or Progress()
    dataset.reload()
    runs = repeatable(dataset)
    if not runs:
        raise UserError("There is nothing to update yet; run the audit first")
    updated: dict[str, Any] = {}
    current: list[str] = []
    failed: dict[str, str] = {}
    reader = Reader(dataset)
    shared = _Shared(progress)
    for run in runs:
        progress.say(f"Comparing {run.key} with the dataset")
        if not stale_reasons(run, reader):
            current.append(run.key)
            continue
        try:
            updated[run.key] = _REPEATED[run.operator](dataset, run, shared)
        except UserError as error:
            failed[run.key] = str(error)
        # What was read before may have been changed by that.
        dataset.reload()
        reader = Reader(dataset)
        if run.operator in (EMBEDDINGS.name, REDUCTION.name):
            shared = _Shared(progress)
    return {
        "updated": updated,
        "current": current,
        "failed": failed,
        "seconds": round(time.monotonic() - started, 2),
    }


class _Shared:
    """Inputs that several runs read, made once."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._known: dict[Any, Inputs] = {}

    def inputs(self, dataset: fo.Dataset, run: Run, embeddings: str | None) -> Inputs:
        facts = run.facts
        seed = facts.parameters.get("seed")
        seed = 51 if seed is None else seed
        ids = None if facts.whole else run_ids(dataset, run)
        neighbors = facts.parameters.get("neighbors")
        key = (facts.about, embeddings, seed, neighbors, None if ids is None else hash(ids))
        if key not in self._known:
            target = _target_of(dataset, run, ids)
            self._known[key] = Inputs(
                target, self.progress, embeddings=embeddings, seed=seed, neighbors=neighbors
            )
        made = self._known[key].with_labels(facts.label_field)
        # Groups that were found again are read again.
        made.__dict__.pop("duplicates", None)
        return made


def _target_of(dataset: fo.Dataset, run: Run, ids: tuple[str, ...] | None) -> Target:
    """All of what a run is about, or what is left of the part that it is about."""
    everything = about_of(dataset, run.facts.about)
    if run.facts.whole:
        return dataclasses.replace(everything, view=everything.view.view())
    if ids is None:
        raise UserError("the part of the dataset it covers is not known; run it again")
    left = [id_ for id_ in ids if id_ in everything.sample_ids]
    if not left:
        raise UserError("nothing it covers is left; delete it")
    return everything.only(left)


def _first(run: Run) -> str | None:
    return next(iter(run.facts.embeddings), None)


def _again_embeddings(dataset: fo.Dataset, run: Run, shared: _Shared) -> dict[str, Any]:
    everything = about_of(dataset, run.facts.about)
    if (name := _first(run)) is None:
        raise UserError("the field that it filled is not known; run compute_embeddings again")
    ids = sorted({*everything.ids(having=name), *everything.ids(having=f"{name}_error")})
    target = _target_of(dataset, run, tuple(ids))
    plan = plan_embeddings(target, name)
    if plan.before is None:
        raise UserError("the model that computed it is not known; run compute_embeddings again")
    given = model_parameters(plan.before, plan.before.parameters.get("model") or "")
    return compute_embeddings(target, shared.progress, embeddings=plan.field, **given)


def _again_reduction(dataset: fo.Dataset, run: Run, shared: _Shared) -> dict[str, Any]:
    return reduce_again(shared.inputs(dataset, run, _first(run)), run)


def _again_duplicates(dataset: fo.Dataset, run: Run, shared: _Shared) -> dict[str, Any]:
    parameters = run.facts.parameters
    return find_duplicates(
        shared.inputs(dataset, run, _first(run)),
        split=parameters.get("split"),
        threshold=parameters.get("threshold", "auto"),
        keep=parameters.get("keep", "auto"),
        text_field=parameters.get("text_field"),
        run_key=run.key,
    )


def _again_outliers(dataset: fo.Dataset, run: Run, shared: _Shared) -> dict[str, Any]:
    parameters = run.facts.parameters
    return find_outliers(
        shared.inputs(dataset, run, _first(run)),
        threshold=parameters.get("threshold", "auto"),
        check_pictures=parameters.get("check_pictures", True),
        run_key=run.key,
    )


def _again_caption_issues(dataset: fo.Dataset, run: Run, shared: _Shared) -> dict[str, Any]:
    images, captions = (shared.inputs(dataset, run, name) for name in run.facts.embeddings)
    return find_caption_issues(images, captions, run_key=run.key)


def _again_label_issues(dataset: fo.Dataset, run: Run, shared: _Shared) -> dict[str, Any]:
    return find_label_issues(
        shared.inputs(dataset, run, _first(run)),
        predictions_field=run.facts.parameters.get("predictions_field"),
        threshold=run.facts.parameters.get("threshold", "auto"),
        run_key=run.key,
    )


def _again_separability(dataset: fo.Dataset, run: Run, shared: _Shared) -> dict[str, Any]:
    inputs = [shared.inputs(dataset, run, name) for name in run.facts.embeddings]
    return compute_separability(inputs, by=run.facts.parameters.get("by"), run_key=run.key)


def _again_visualization(dataset: fo.Dataset, run: Run, shared: _Shared) -> dict[str, Any]:
    inputs = shared.inputs(dataset, run, _first(run))
    before = read_visualization(inputs.target, run.key)
    if before is None:
        raise UserError("it no longer exists")
    return compute_visualization(inputs, layout_of(before), brain_key=run.key)


def _again(check: Callable[..., dict[str, Any]], *names: str) -> Callable[..., dict[str, Any]]:
    """Repeats a check with those of its parameters."""

    def repeat(dataset: fo.Dataset, run: Run, shared: _Shared) -> dict[str, Any]:
        given = run.facts.parameters
        parameters = {name: given[name] for name in names if given.get(name) is not None}
        return check(shared.inputs(dataset, run, _first(run)), run_key=run.key, **parameters)

    return repeat


_REPEATED: dict[str, Callable[[fo.Dataset, Run, _Shared], dict[str, Any]]] = {
    EMBEDDINGS.name: _again_embeddings,
    REDUCTION.name: _again_reduction,
    DUPLICATES.name: _again_duplicates,
    OUTLIERS.name: _again_outliers,
    CAPTION_ISSUES.name: _again_caption_issues,
    LABEL_ISSUES.name: _again_label_issues,
    SEPARABILITY.name: _again_separability,
    VISUALIZATION.name: _again_visualization,
    CLUSTERS.name: _again(find_clusters, "names", "min_size", "check_pictures", "by"),
    COMPARISON.name: _again(compare_datasets, "other", "check_pictures"),
    SIMILAR.name: _again(find_similar, "similar_to", "num_samples", "check_pictures"),
    ORDER_EFFECTS.name: _again(find_order_effects, "order_by"),
    SUGGESTIONS.name: _again(suggest_labels, "precision"),
    SELECTION.name: _again(select_samples, "num_samples", "strategy", "around", "start_from", "by"),
}
