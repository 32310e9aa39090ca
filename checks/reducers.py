"""What reduces embeddings: how it is asked for, and how it is learned."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UserError
from ..storage.metadata import read_slices
from .inputs import Inputs

if TYPE_CHECKING:
    from ..analysis.reduction import Reducer

METHODS = {"pca": "PCA", "svd": "truncated SVD", "autoencoder": "autoencoder"}


@dataclass(frozen=True)
class Reduction:
    """How embeddings are reduced.

    Attributes:
        method: ``pca``, ``svd`` or ``autoencoder``; None leaves the dimensions as they are
        num_dims: of the result; None leaves them as they are
        remove: a metadata field that must not be read off the result, or None

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
                f"{name}=None keeps the dimensions, which needs remove=, the field to remove "
                "information on"
            )

    @property
    def encoding(self) -> tuple[str, int] | None:
        """The method and the dimensions of the result; None where these stay as they are."""
        if self.method is None or self.num_dims is None:
            return None
        return self.method, self.num_dims

    @property
    def reduces(self) -> bool:
        """Whether the result has other dimensions."""
        return self.encoding is not None

    @property
    def words(self) -> str:
        """What becomes of embeddings: ``without camera, by PCA``."""
        parts = [] if self.remove is None else [f"without {self.remove}"]
        if self.encoding is not None:
            method, num_dims = self.encoding
            parts.append(f"reduced to {num_dims} dimensions by {METHODS[method]}")
        return ", ".join(parts)


@dataclass(frozen=True)
class FittedReducer:
    """A reducer, and what there is to say of how it was learned.

    Attributes:
        reducer: places embeddings
        special: ``explained``, ``removed``, ``reducer`` (its fingerprint), …
        values: of the field that is taken out, of each id; None without one
    """

    reducer: "Reducer"
    special: Mapping[str, Any]
    values: list[str | None] | None


def check_reduction(inputs: Inputs, reduction: Reduction) -> None:
    """Refuses what cannot be computed before anything takes long."""
    if inputs.label_field is not None and len(inputs.class_names) < 2:
        raise UserError(
            f"label_field={inputs.label_field!r} holds only one class, so there is nothing to "
            "separate; omit it"
        )
    if reduction.encoding is None:
        return
    _, num_dims = reduction.encoding
    (count, dim), noun = inputs.vectors.matrix.shape, inputs.target.noun
    if num_dims > dim:
        raise UserError(
            f"num_dims={num_dims}: the embeddings {inputs.embeddings!r} have only {dim} dimensions"
        )
    if num_dims >= count:
        raise UserError(
            f"num_dims={num_dims} must be below the number of {noun} with embeddings, "
            f"which is {count:,}"
        )


def fit_reducer(inputs: Inputs, reduction: Reduction) -> FittedReducer:
    """Learns from embeddings how to reduce them.

    Raises:
        UserError: if the field that is to be taken out is at fault
    """
    from ..analysis.reduction import Reducer, fit_encoder

    rows, count, noun = inputs.rows, len(inputs.ids), inputs.target.noun
    special: dict[str, Any] = {"explained": None, "removed": None, "epochs": 0}
    erasure = encoder = None
    values = removed_values(inputs, reduction)
    if values is not None and reduction.remove is not None:
        erasure, special["removed"] = _erase(inputs, reduction.remove, values)
        rows = Reducer(erasure).place(rows)
    if reduction.encoding is not None:
        method, num_dims = reduction.encoding
        label = f"Computing the {METHODS[method]}"
        with inputs.progress.share(label, count, noun) as report:
            fitted = fit_encoder(rows, method, num_dims, inputs.seed, report)
        encoder = fitted.encoder
        special |= {"explained": round(fitted.explained, 4), "epochs": fitted.epochs}
    reducer = Reducer(erasure, encoder)
    special["reducer"] = _fingerprint(reducer)
    return FittedReducer(reducer, special, values)


def removed_values(inputs: Inputs, reduction: Reduction) -> list[str | None] | None:
    """The value of each id of the field that is taken out; None where nothing is.

    Raises:
        UserError: if there is no such field, or it has one value only, or too many
    """
    field = reduction.remove
    if field is None:
        return None
    samples = [inputs.target.sample_ids[id_] for id_ in inputs.ids]
    return read_slices(inputs.target, field, inputs.ids, samples, parameter="remove")


def _erase(inputs: Inputs, field: str, slices: list[str | None]) -> tuple[Any, dict[str, Any]]:
    """What takes a field out, and how well the field is predicted before and after."""
    from ..analysis.erasure import erase_field

    names = sorted({name for name in slices if name is not None})
    codes = np.array([names.index(name) if name is not None else -1 for name in slices])
    directed = inputs.rows.any(axis=1)
    if len(np.unique(codes[directed & (codes >= 0)])) < 2:
        raise UserError(
            f"remove={field!r}: the embeddings of all values but one are zero; choose other "
            "embeddings"
        )
    count, noun = len(inputs.ids), inputs.target.noun
    with inputs.progress.share(f"Removing {field}", count, noun) as report:
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
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
