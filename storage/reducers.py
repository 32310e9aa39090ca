"""What ``reduce_embeddings`` has learned, stored with its run as plain arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import fiftyone as fo
import numpy as np

from .arrays import decode, encode
from .runs import Run, read_results, write_results
from .vectors import VectorSet
from .visualizations import checksums


@dataclass(frozen=True)
class StoredReducer:
    """A reducer, and what it was last applied to.

    Attributes:
        arrays: of the reducer, by name
        ids: the samples or patches with reduced embeddings
        checksums: ``(num_ids,)`` uint32 of the embeddings that were reduced
        fingerprint: of the reducer, as the facts of its run know it
        values: of the field that was taken out, of each id; None without one
    """

    arrays: Mapping[str, np.ndarray]
    ids: Sequence[str]
    checksums: np.ndarray
    fingerprint: str
    values: Sequence[str | None] | None = None

    def moved(self, ids: Sequence[str], values: Sequence[str | None] | None) -> int:
        """How many values of the field that was taken out are others than they were."""
        if self.values is None or values is None:
            return 0
        then = dict(zip(self.ids, self.values))
        return sum(then[id_] != value for id_, value in zip(ids, values) if id_ in then)

    def changed(self, vectors: VectorSet) -> int:
        """How many of the embeddings are others than those that were reduced."""
        then = dict(zip(self.ids, self.checksums.tolist()))
        now = zip(vectors.ids, checksums(vectors.matrix).tolist())
        return sum(then[id_] != checksum for id_, checksum in now if id_ in then)


def write_reducer(
    dataset: fo.Dataset,
    run: Run,
    arrays: Mapping[str, np.ndarray],
    vectors: VectorSet,
    fingerprint: str,
    values: Sequence[str | None] | None,
) -> None:
    """Stores a reducer with its run, which is there already."""
    write_results(
        dataset,
        run.key,
        ids=" ".join(vectors.ids),
        checksums=encode(checksums(vectors.matrix)),
        reducer={name: encode(array) for name, array in arrays.items()},
        fingerprint=fingerprint,
        values=None if values is None else list(values),
    )


def read_reducer(dataset: fo.Dataset, run: Run) -> StoredReducer | None:
    """The reducer of a run; None if there is none, or another one than the run names."""
    results = read_results(dataset, run.key)
    if results is None:
        return None
    fingerprint = getattr(results, "fingerprint", None)
    if fingerprint is None or fingerprint != run.facts.special.get("reducer"):
        return None
    return StoredReducer(
        {name: decode(text) for name, text in results.reducer.items()},
        tuple(results.ids.split()),
        decode(results.checksums),
        fingerprint,
        results.values,
    )
