"""The check ``reduce_embeddings``: fewer dimensions, or embeddings without a metadata field."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np

from ..errors import UserError
from ..storage import fingerprints
from ..storage.findings import Column, declare_marked
from ..storage.locks import guard, writing
from ..storage.metadata import read_slices
from ..storage.names import check_name, check_unclaimed
from ..storage.paths import check_writable
from ..storage.reducers import StoredReducer, read_reducer, write_reducer
from ..storage.runs import REDUCING, Run, RunFacts, embeddings_key, read_run, write_run
from ..storage.target import Target
from .contract import EMBEDDINGS, Check
from .inputs import Inputs

if TYPE_CHECKING:
    from ..analysis.reduction import Reducer

REDUCTION = Check(
    name=REDUCING,
    needs=frozenset({EMBEDDINGS}),
    # Called as the field itself, after which the run is named.
    columns=(Column("", fo.VectorField, "{embeddings}, {how}"),),
)

METHODS = {"pca": "PCA", "svd": "truncated SVD", "autoencoder": "autoencoder"}

# Embeddings written at once.
BATCH = 2048


@dataclass(frozen=True)
class Reduction:
    """How embeddings are reduced.

    Attributes:
        method: ``pca``, ``svd`` or ``autoencoder``; None leaves the dimensions as they are
        num_dims: of the result; None leaves them as they are
        remove: a metadata field that shall not be read off the result, or None

    Raises:
        UserError: that names a parameter that is out of range
    """

    method: str | None = "pca"
    num_dims: int | None = 64
    remove: str | None = None

    def __post_init__(self) -> None:
        if self.method is not None and self.method not in METHODS:
            names = ", ".join(map(repr, METHODS))
            raise UserError(f"method={self.method!r} is not known; choose {names}")
        if self.num_dims is not None and self.num_dims < 1:
            raise UserError(f"num_dims={self.num_dims} must be at least 1")
        if not self.reduces and self.remove is None:
            name = "method" if self.method is None else "num_dims"
            raise UserError(
                f"{name}=None leaves the dimensions as they are, which needs remove=, a field to "
                "be taken out"
            )

    @property
    def reduces(self) -> bool:
        """Whether the result has other dimensions."""
        return self.method is not None and self.num_dims is not None

    @property
    def words(self) -> str:
        """What becomes of embeddings: ``without camera, by PCA``."""
        parts = [] if self.remove is None else [f"without {self.remove}"]
        if self.reduces:
            parts.append(f"reduced to {self.num_dims} dimensions by {METHODS[self.method]}")
        return ", ".join(parts)


@dataclass(frozen=True)
class _Fitted:
    """A reducer, and what there is to say of how it was learned.

    Attributes:
        reducer: places embeddings
        special: ``explained``, ``removed``, ``reducer`` (its fingerprint), …
        read: fingerprints of what was read beside the embeddings
    """

    reducer: "Reducer"
    special: Mapping[str, Any]
    read: Mapping[str, str]


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
) -> dict[str, Any]:
    """Reduces embeddings, stores the result in a field of its own, and tells what was kept.

    Args:
        inputs: the embeddings; with labels, what of them is still told is measured
        reduction (None): how; by default PCA to 64 dimensions
        field, update: as of the operator

    Raises:
        UserError: if the input is at fault; an earlier result then stays
    """
    started = time.monotonic()
    reduction = reduction or Reduction()
    field = field or default_field(inputs.embeddings, reduction)
    run, before = plan_reduction(inputs.target, inputs.embeddings, field)
    if update:
        reduction, stored = _before(run, before, inputs)
        inputs = _widened(inputs, before, stored)
        fitted = _refitted(inputs, before, reduction, stored)
    else:
        _check(inputs, reduction)
        fitted = _fit(inputs, reduction)
    target = inputs.target
    facts = inputs.facts({**vars(reduction), "field": field})
    facts = replace(
        facts,
        inputs={**facts.inputs, **fitted.read},
        model=f"{facts.model or inputs.embeddings} {reduction.words} "
        f"({fitted.special['reducer'][:8]})",
        special={"field": field, **fitted.special},
    )
    matrix = fitted.reducer.place(inputs.rows)
    with writing(target.dataset, run.key, inputs.progress.say) as lock:
        with guard:
            target.dataset.reload()
            check_unclaimed(target.dataset, "field", run)
        lock.check()
        write_run(target.dataset, replace(run, facts=facts))
        written = _store(inputs, run, field, reduction, fitted, matrix, update)
        facts = replace(facts, special={**facts.special, **written, **_kept(inputs, field)})
        facts = replace(facts, seconds=round(time.monotonic() - started, 2))
        lock.check()
        write_run(target.dataset, replace(run, facts=facts, finished=True))
    return {"run_key": run.key, **facts.as_dict()}


# Learning


def _check(inputs: Inputs, reduction: Reduction) -> None:
    """Refuses what cannot be computed before anything takes long."""
    if inputs.label_field is not None and len(inputs.class_names) < 2:
        raise UserError(
            f"label_field={inputs.label_field!r} holds one class only, so there is nothing to "
            "tell apart; leave it out"
        )
    if not reduction.reduces:
        return
    (count, dim), noun = inputs.vectors.matrix.shape, inputs.target.noun
    if reduction.num_dims > dim:
        raise UserError(
            f"num_dims={reduction.num_dims}: the embeddings {inputs.embeddings!r} have {dim} "
            "dimensions only"
        )
    if reduction.num_dims >= count:
        raise UserError(
            f"num_dims={reduction.num_dims} must be below the number of {noun} with embeddings, "
            f"which is {count:,}"
        )


def _fit(inputs: Inputs, reduction: Reduction) -> _Fitted:
    from ..analysis.reduction import Reducer, fit_encoder

    rows, count, noun = inputs.rows, len(inputs.ids), inputs.target.noun
    special: dict[str, Any] = {"explained": None, "removed": None, "epochs": 0}
    read: dict[str, str] = {}
    erasure = encoder = None
    if reduction.remove is not None:
        slices = _slices(inputs, reduction.remove)
        read = _slices_fingerprint(inputs, reduction.remove, slices)
        erasure, special["removed"] = _erase(inputs, reduction.remove, slices)
        rows = Reducer(erasure).place(rows)
    if reduction.reduces:
        label = f"Computing the {METHODS[reduction.method]}"
        with inputs.progress.share(label, count, noun) as report:
            fitted = fit_encoder(rows, reduction.method, reduction.num_dims, inputs.seed, report)
        encoder = fitted.encoder
        special |= {"explained": round(fitted.explained, 4), "epochs": fitted.epochs}
    reducer = Reducer(erasure, encoder)
    special["reducer"] = _fingerprint(reducer)
    return _Fitted(reducer, special, read)


def _slices(inputs: Inputs, field: str) -> list[str | None]:
    samples = [inputs.target.sample_ids[id_] for id_ in inputs.ids]
    return read_slices(inputs.target, field, inputs.ids, samples, parameter="remove")


def _slices_fingerprint(inputs: Inputs, field: str, slices: list[str | None]) -> dict[str, str]:
    name = f"{fingerprints.SLICES} {field}"
    return {name: fingerprints.texts_fingerprint(inputs.ids, slices)}


def _erase(inputs: Inputs, field: str, slices: list[str | None]) -> tuple[Any, dict[str, Any]]:
    """What takes a field out, and how well the field is predicted before and after."""
    from ..analysis.erasure import erase_field

    names = sorted({name for name in slices if name is not None})
    codes = np.array([names.index(name) if name is not None else -1 for name in slices])
    directed = inputs.rows.any(axis=1)
    if len(np.unique(codes[directed & (codes >= 0)])) < 2:
        raise UserError(
            f"remove={field!r}: the embeddings of all values but one are zero; choose another "
            "field of embeddings"
        )
    count, noun = len(inputs.ids), inputs.target.noun
    with inputs.progress.share(f"Taking out {field}", count, noun) as report:
        erased = erase_field(
            inputs.rows, np.where(directed, codes, -1), inputs.groups, inputs.seed, report
        )
    return erased.erasure, {
        "field": field,
        "values": len(names),
        "without_value": int((codes < 0).sum()),
        "chance": erased.before.as_dict()["chance"],
        "before": erased.before.as_dict()["balanced_accuracy"],
        "after": erased.after.as_dict()["balanced_accuracy"],
        "after_range": [erased.after.as_dict()[name] for name in ("low", "high")],
        "still_told": bool(erased.after.low > erased.after.chance),
        "directions": len(erased.erasure.read),
        "cells": erased.cells,
        "measured": erased.rows,
    }


def _fingerprint(reducer: "Reducer") -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, array in reducer.arrays().items():
        digest.update(f"{name} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


# Placing new samples


def _before(run: Run, before: Run | None, inputs: Inputs) -> tuple[Reduction, StoredReducer]:
    """How the result that is there was reduced, and by what.

    Raises:
        UserError: if there is none, or one of other embeddings
    """
    if before is None or before.unreadable is not None:
        raise UserError(
            f"update=True: there are no reduced embeddings {run.key!r} yet; compute them without "
            "update first"
        )
    source = before.facts.parameters["embeddings"]
    if source != inputs.embeddings:
        raise UserError(
            f"update=True: {run.key!r} is reduced from {source!r}, not from {inputs.embeddings!r}"
        )
    stored = read_reducer(inputs.target.dataset, before)
    if stored is None:
        raise UserError(
            "update=True: an earlier call was interrupted too early; compute it anew, without "
            "update"
        )
    return reduction_of(before), stored


def reduction_of(run: Run) -> Reduction:
    """How a run has reduced embeddings."""
    names = ("method", "num_dims", "remove")
    return Reduction(**{name: run.facts.parameters.get(name) for name in names})


def _widened(inputs: Inputs, before: Run, stored: StoredReducer) -> Inputs:
    """What is reduced already together with what shall be placed beside it."""
    target, parameters = inputs.target, before.facts.parameters
    left = [id_ for id_ in stored.ids if id_ in target.everything.sample_ids]
    return Inputs(
        target.only(sorted({*left, *target.ids()})),
        inputs.progress,
        embeddings=inputs.embeddings,
        label_field=inputs.label_field or parameters.get("label_field"),
        seed=parameters["seed"],
    )


def _refitted(inputs: Inputs, before: Run, reduction: Reduction, stored: StoredReducer) -> _Fitted:
    """What was learned before, for embeddings of the same model.

    Raises:
        UserError: if those that it was learned on have changed
    """
    from ..analysis.reduction import Reducer

    reducer = Reducer.of(stored.arrays)
    changed, part = stored.changed(inputs.vectors), reducer.erasure or reducer.encoder
    if changed or len(part.mean) != inputs.vectors.matrix.shape[1]:
        raise UserError(
            f"update=True: {changed:,} of the embeddings that were reduced before have changed "
            "since; compute it anew, without update"
        )
    read = {}
    if reduction.remove is not None:
        slices = _slices(inputs, reduction.remove)
        read = _slices_fingerprint(inputs, reduction.remove, slices)
    kept = ("explained", "removed", "epochs", "reducer")
    return _Fitted(reducer, {name: before.facts.special.get(name) for name in kept}, read)


# Storing


def _store(
    inputs: Inputs,
    run: Run,
    field: str,
    reduction: Reduction,
    fitted: _Fitted,
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
    write_reducer(target.dataset, run, arrays, inputs.vectors, fingerprint)
    known = set(target.ids(having=field)) if update else set()
    places = [place for place, id_ in enumerate(inputs.ids) if id_ not in known]
    with inputs.progress.stage("Storing", len(places), target.noun) as advance:
        for start in range(0, len(places), BATCH):
            part = places[start : start + BATCH]
            rows = {inputs.ids[place]: matrix[place] for place in part}
            target.write(field, rows, target.sample_ids)
            advance(len(part))
    return {"dim": int(matrix.shape[1]), "placed": len(places)}


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
    """Repeats a run: places what is new, and learns anew where what was there has changed."""
    field = run.facts.parameters["field"]
    try:
        return reduce_embeddings(inputs, field=field, update=True)
    except UserError:
        return reduce_embeddings(inputs, reduction_of(run), field=field)
