"""What the operators that find something read: vectors, their graph, labels, duplicate groups.

Each is read or computed when it is first asked for, and once: operators that run one after the
other on the same ``Inputs`` share them.
"""

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UserError
from ..storage.graphs import get_graph
from ..storage.groups import read_duplicate_groups
from ..storage.labels import labels_fingerprint, read_labels, value_path
from ..storage.runs import Run, model_of
from ..storage.targets import Target, resolve_target
from ..storage.vectors import VectorSet, read_vectors
from .progress import Progress

if TYPE_CHECKING:
    from ..analysis.class_probe import ClassEvidence
    from ..analysis.neighbors import NeighborGraph
    from ..analysis.outliers import Outliers


class Inputs:
    """The samples or objects that an operator judges, and what is known of them.

    Args:
        samples: a dataset or view
        progress: where the steps are reported
        embeddings: the field of the vectors, or None where only files and labels are read
        patches_field: the field of the objects, or None
        label_field: the field of the labels, or None
        seed: of everything random
    """

    def __init__(
        self,
        samples: Any,
        progress: Progress,
        *,
        embeddings: str | None,
        patches_field: str | None = None,
        label_field: str | None = None,
        seed: int = 51,
    ) -> None:
        if not 0 <= seed < 2**32:
            raise UserError(f"seed={seed} must be between 0 and 2**32 - 1")
        self.target: Target = resolve_target(samples, patches_field)
        self.embeddings = embeddings
        self.label_field = label_field
        self.seed = seed
        self.progress = progress

    @cached_property
    def vectors(self) -> VectorSet:
        self.progress.say("Reading the vectors")
        return read_vectors(self.target, self.embeddings)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The samples or objects that are judged: those with a vector, if vectors are read."""
        if self.embeddings is not None:
            return self.vectors.ids
        if ids := tuple(self.target.ids()):
            return ids
        raise UserError(f"There are no {self.target.things} in this view")

    @cached_property
    def items(self) -> list[tuple[str, str, tuple[float, ...] | None]]:
        """The sample, the file and the box, or None, of each id."""
        found = {
            id_: (item.sample_id, item.filepath, box)
            for item in self.target.items(set(self.ids))
            for id_, box in zip(item.ids, item.boxes or [None])
        }
        return [found[id_] for id_ in self.ids]

    @cached_property
    def sample_ids(self) -> dict[str, str]:
        """The sample of each id."""
        return self.target.sample_ids()

    @cached_property
    def rows(self) -> np.ndarray:
        """``(n, dim)`` float32, the vectors scaled to length 1."""
        from ..analysis.vectors import unit_rows

        return unit_rows(self.vectors.matrix).rows

    @cached_property
    def graph(self) -> "NeighborGraph":
        count, things = len(self.vectors.ids), self.target.things
        with self.progress.share("Finding the nearest neighbours", count, things) as report:
            graph, _ = get_graph(
                self.target, self.embeddings, self.vectors, seed=self.seed, progress=report
            )
        return graph

    @cached_property
    def labels(self) -> list[str | None]:
        """The label of each id, or None."""
        return read_labels(self.target, self.label_field, self.ids)

    @property
    def label_path(self) -> str:
        """Where the label stands within a sample or an object."""
        if self.target.patches_field is not None:
            return "label"
        return value_path(self.target, self.label_field)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        return tuple(sorted({label for label in self.labels if label is not None}))

    @cached_property
    def codes(self) -> np.ndarray:
        """``(n,)`` int64, the labels as places in ``class_names``, -1 for none."""
        places = {name: place for place, name in enumerate(self.class_names)}
        return np.array([places.get(label, -1) for label in self.labels], np.int64)

    @cached_property
    def duplicates(self) -> tuple[str | None, np.ndarray | None]:
        """The run of ``find_duplicates`` that is taken into account, and the group of each id.

        ``(n,)`` int64, -1 in none; None and None if there is no such run.
        """
        return read_duplicate_groups(self.target, self.ids)

    @property
    def groups(self) -> np.ndarray | None:
        return self.duplicates[1]

    @cached_property
    def evidence(self) -> "ClassEvidence":
        """Held-out class probabilities."""
        from ..analysis.class_probe import held_out_probabilities

        if not (self.rows.any(axis=1) & (self.codes >= 0)).any():
            raise UserError(
                f"embeddings={self.embeddings!r}: all vectors of labeled {self.target.things} are "
                "zero; choose another field of vectors"
            )
        count, things = len(self.vectors.ids), self.target.things
        with self.progress.share("Predicting held-out labels", count, things) as report:
            return held_out_probabilities(
                self.rows,
                self.codes,
                len(self.class_names),
                self.graph,
                self.groups,
                self.seed,
                report,
            )

    @cached_property
    def outliers(self) -> "Outliers":
        """Outliers at the threshold that adapts to the scores."""
        return self.find_outliers(None)

    def find_outliers(self, threshold: float | None) -> "Outliers":
        """Outliers, from the neighbours and, with labels, from the held-out evidence."""
        from ..analysis.outliers import find_outliers

        classes = {}
        if self.label_field is not None and len(self.class_names) > 1:
            classes = {"labels": self.codes, "probabilities": self.evidence.probabilities}
        return find_outliers(self.rows, self.graph, self.groups, threshold=threshold, **classes)

    def facts(
        self, run: Run, parameters: dict[str, Any], labels: list[str | None] | None = None
    ) -> dict[str, Any]:
        """What every result and stored run says of what was read."""
        skipped = dict(self.vectors.skipped) if self.embeddings is not None else {}
        fingerprint = None
        if self.label_field is not None:
            fingerprint = labels_fingerprint(self.ids, labels or self.labels)
        return {
            "run_key": run.key,
            "embeddings": self.embeddings,
            "patches_field": self.target.patches_field,
            "of": self.target.about,
            "things": self.target.things,
            "whole": self.target.is_whole,
            "read": len(self.ids) + sum(skipped.values()),
            "judged": len(self.ids),
            "skipped": skipped,
            "parameters": {
                "embeddings": self.embeddings,
                "patches_field": self.target.patches_field,
                "label_field": self.label_field,
                **parameters,
                "seed": self.seed,
            },
            "model": model_of(self.target, self.embeddings),
            "fingerprint": self.vectors.fingerprint if self.embeddings is not None else None,
            "labels_fingerprint": fingerprint,
        }
