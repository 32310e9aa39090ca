"""The check ``reduce_embeddings``: fewer dimensions, or embeddings without a metadata field."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import fiftyone as fo
import numpy as np

from ..errors import UserError
from ..storage import fingerprints
from ..storage.findings import Column, declare_marked
from ..storage.locks import guard, writing
from ..storage.names import check_name, check_unclaimed
from ..storage.paths import check_writable
from ..storage.reducers import StoredReducer, read_reducer, write_reducer
from ..storage.runs import REDUCING, Run, RunFacts, embeddings_key, read_run, write_run
from ..storage.search_index import check_index_key, indexes_of
from ..storage.target import Target
from .contract import EMBEDDINGS, Check
from .inputs import Inputs
from .reducers import FittedReducer, Reduction, check_reduction, fit_reducer, removed_values
from .search import index_embeddings

REDUCTION = Check(
    name=REDUCING,
    needs=frozenset({EMBEDDINGS}),
    # Called as the field itself, after which the run is named.
    columns=(Column("", fo.VectorField, "{embeddings}, {how}"),),
)

# Embeddings written at once.
BATCH = 2048


def default_field(embeddings: str, reduction: Reduction) -> str:
    """The field of the result: ``clip_pca``, or ``clip_without_camera`` of the same dimensions."""
    what = reduction.method if reduction.reduces else f"without_{reduction.remove}"
    return f"{embeddings}_{what}".replace(".", "_")


def plan_reduction(target: Target, embeddings: str, field: str) -> tuple[Run, Run | None]:
    """The run that will fill a field, and what did so before, checked before any work is done.

    Raises:
        UserError: if the name cannot be used, or names something that is not the plugin's
    """
    check_name("field", field)
    if field == embeddings:
        raise UserError(f"field={field!r} holds the embeddings themselves; choose another name")
    facts = RunFacts(about=target.about, whole=target.is_whole)
    key = embeddings_key(target, field)
    run = Run(key, REDUCTION.name, (target.dataset_path(field),), facts)
    check_unclaimed(target.dataset, "field", run)
    if target.patches_field is not None:
        check_writable(target.dataset, "patches_field", target.about.path)
    return run, read_run(target.dataset, key)


def reduce_embeddings(
    inputs: Inputs,
    reduction: Reduction | None = None,
    *,
    field: str | None = None,
    update: bool = False,
    similarity_index: str | None = None,
) -> dict[str, Any]:
    """Reduces embeddings, stores the result in a field of its own, and reports what was kept.

    Args:
        inputs: the embeddings; with labels, how much of them can still be predicted is measured
        reduction (None): how; by default PCA to 64 dimensions
        field, update, similarity_index: as of the operator

    Raises:
        UserError: if the input is at fault; an earlier result then stays
    """
    started = time.monotonic()
    reduction = reduction or Reduction()
    field = field or default_field(inputs.required_embeddings, reduction)
    run, before = plan_reduction(inputs.target, inputs.required_embeddings, field)
    if similarity_index is not None:
        check_index_key(inputs.target, field, similarity_index)
    stored = None
    if update:
        before = _repeatable(run, before, inputs)
        reduction, stored = reduction_of(before), read_reducer(inputs.target.dataset, before)
        known = stored.ids if stored else inputs.target.everything.ids(having=field)
        inputs = _widened(inputs, before, known)
    update = stored is not None
    if before is not None and stored is not None:
        fitted = _refitted(inputs, before, reduction, stored)
    else:
        check_reduction(inputs, reduction)
        fitted = fit_reducer(inputs, reduction)
    target = inputs.target
    facts = inputs.facts({**vars(reduction), "field": field})
    facts = replace(
        facts,
        inputs={**facts.inputs, **_values_fingerprint(inputs, reduction, fitted)},
        model=f"{facts.model or inputs.embeddings} {reduction.words} "
        f"({fitted.special['reducer'][:8]})",
        special={"field": field, **fitted.special},
    )
    matrix = fitted.reducer.place(inputs.rows)
    with writing(target.dataset, run.key, inputs.progress.say):
        with guard:
            target.dataset.reload()
            check_unclaimed(target.dataset, "field", run)
        write_run(target.dataset, replace(run, facts=facts))
        written = _store(inputs, run, field, reduction, fitted, matrix, update)
        written["similarity_index"] = _index(inputs, field, similarity_index)
        facts = replace(facts, special={**facts.special, **written, **_kept(inputs, field)})
        facts = replace(facts, seconds=round(time.monotonic() - started, 2))
        write_run(target.dataset, replace(run, facts=facts, finished=True))
    return {"run_key": run.key, **facts.as_dict()}


def _values_fingerprint(
    inputs: Inputs, reduction: Reduction, fitted: FittedReducer
) -> dict[str, str]:
    """What makes the result stale beside the embeddings."""
    if fitted.values is None:
        return {}
    name = f"{fingerprints.SLICES} {reduction.remove}"
    return {name: fingerprints.texts_fingerprint(inputs.ids, fitted.values)}


# Placing new samples


def _repeatable(run: Run, before: Run | None, inputs: Inputs) -> Run:
    """The run that made the result that is there, whose reducer may be missing if interrupted.

    Raises:
        UserError: if there is none, or one of other embeddings
    """
    if before is None or before.unreadable is not None:
        raise UserError(
            f"update=True: there are no reduced embeddings {run.key!r} yet; run it without "
            "update first"
        )
    source = before.facts.parameters["embeddings"]
    if source != inputs.embeddings:
        raise UserError(
            f"update=True: {run.key!r} is reduced from {source!r}, not from {inputs.embeddings!r}"
        )
    return before


def reduction_of(run: Run) -> Reduction:
    """How a run has reduced embeddings."""
    names = ("method", "num_dims", "remove")
    return Reduction(**{name: run.facts.parameters.get(name) for name in names})


def _widened(inputs: Inputs, before: Run, known: Sequence[str]) -> Inputs:
    """What is reduced already together with what must be placed beside it."""
    target, parameters = inputs.target, before.facts.parameters
    left = [id_ for id_ in known if id_ in target.everything.sample_ids]
    return Inputs(
        target.only(sorted({*left, *target.ids()})),
        inputs.progress,
        embeddings=inputs.embeddings,
        label_field=inputs.label_field or parameters.get("label_field"),
        seed=parameters["seed"],
    )


def _refitted(
    inputs: Inputs, before: Run, reduction: Reduction, stored: StoredReducer
) -> FittedReducer:
    """What was learned before, for embeddings of the same model.

    Raises:
        UserError: if those that it was learned on have changed
    """
    from ..analysis.reduction import Reducer

    reducer = Reducer.from_arrays(stored.arrays)
    changed, part = stored.changed(inputs.vectors), reducer.erasure or reducer.encoder
    if changed or part is None or len(part.mean) != inputs.vectors.matrix.shape[1]:
        raise UserError(
            f"update=True: {changed:,} of the embeddings reduced before have changed since; run "
            "it again without update"
        )
    values = removed_values(inputs, reduction)
    if moved := stored.moved(inputs.ids, values):
        raise UserError(
            f"update=True: {moved:,} values of {reduction.remove!r} have changed since; run it "
            "again without update"
        )
    kept = ("explained", "removed", "epochs", "reducer")
    return FittedReducer(reducer, {name: before.facts.special.get(name) for name in kept}, values)


# Storing


def _store(
    inputs: Inputs,
    run: Run,
    field: str,
    reduction: Reduction,
    fitted: FittedReducer,
    matrix: np.ndarray,
    update: bool,
) -> dict[str, Any]:
    """Writes the reducer, and then what has no reduced embedding yet, or all."""
    target = inputs.target
    with guard:
        if not update and target.has_field(field):
            target.clear(field)
        column = REDUCTION.columns[0]
        meaning = column.meaning.format(embeddings=inputs.embeddings, how=reduction.words)
        declare_marked(target, field, column.field_type, meaning, run)
    # Before the embeddings: what is interrupted among them can be completed by update=True.
    arrays, fingerprint = fitted.reducer.arrays(), fitted.special["reducer"]
    write_reducer(target.dataset, run, arrays, inputs.vectors, fingerprint, fitted.values)
    known = set(target.ids(having=field)) if update else set()
    places = [place for place, id_ in enumerate(inputs.ids) if id_ not in known]
    with inputs.progress.stage("Storing", len(places), target.noun) as advance:
        for start in range(0, len(places), BATCH):
            part = places[start : start + BATCH]
            rows = {inputs.ids[place]: matrix[place] for place in part}
            target.write(field, rows, target.sample_ids)
            advance(len(part))
    return {"dim": int(matrix.shape[1]), "placed": len(places)}


def _index(inputs: Inputs, field: str, wanted: str | None) -> str | None:
    """Makes the index that is wanted, and again those that are there; returns the first one."""
    target = inputs.target
    kept = [run.key for run in indexes_of(target.dataset, [target.dataset_path(field)])]
    names = list(dict.fromkeys([*([wanted] if wanted else []), *kept]))
    for name in names:
        index_embeddings(target, field, name, inputs.progress)
    return next(iter(names), None)


def _kept(inputs: Inputs, field: str) -> dict[str, Any]:
    """How many neighbors and how much of the classes the result keeps, as the checks read it."""
    from ..analysis.reduction import COMPARED_NEIGHBORS, balanced_accuracy, kept_neighbors

    reduced = Inputs(
        inputs.target.only(inputs.ids),
        inputs.progress,
        embeddings=field,
        label_field=inputs.label_field,
        seed=inputs.seed,
    )
    kept = kept_neighbors(inputs.graph, reduced.graph)
    accuracy = None
    if inputs.label_field is not None:
        before, after = (
            round(balanced_accuracy(each.evidence.probabilities, each.codes), 4)
            for each in (inputs, reduced)
        )
        accuracy = {"label_field": inputs.label_field, "before": before, "after": after}
    return {
        "neighbor_preservation": None if np.isnan(kept) else round(kept, 4),
        "neighbors": min(COMPARED_NEIGHBORS, inputs.graph.k),
        "accuracy": accuracy,
    }


def reduce_again(inputs: Inputs, run: Run) -> dict[str, Any]:
    """Repeats a run: places what is new, and learns again where what was there has changed."""
    field = run.facts.parameters["field"]
    try:
        return reduce_embeddings(inputs, field=field, update=True)
    except UserError:
        return reduce_embeddings(inputs, reduction_of(run), field=field)
