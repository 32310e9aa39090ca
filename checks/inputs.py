"""What the checks read: embeddings, their graph, labels, duplicate groups.

Each is read or computed when it is first asked for, and once: checks that run one after the other
on the same ``Inputs`` share them.
"""

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UserError
from ..storage import fingerprints
from ..storage.graphs import get_graph
from ..storage.groups import DuplicateGroups, read_duplicate_groups
from ..storage.index_search import check_index
from ..storage.labels import (
    LabelField,
    class_codes,
    label_field_of,
    read_label_texts,
    read_labels,
)
from ..storage.runs import RunFacts, model_of
from ..storage.target import Target
from ..storage.texts import read_texts, text_field_of
from ..storage.vectors import VectorSet, embeddings_field, read_vectors
from .progress import Progress

if TYPE_CHECKING:
    from ..analysis.class_probe import ClassEvidence
    from ..analysis.clusters import Clusters
    from ..analysis.neighbors import NeighborGraph
    from ..analysis.outliers import Outliers
    from ..pictures.measures import FileMeasures

AMBIGUOUS = "label id shared with another patch of its sample"


class Inputs:
    """The samples or patches that a check evaluates, and what is known of them.

    Args:
        target: the samples or patches
        progress: where the steps are reported
        embeddings (None): the field of the embeddings, or None where only files and labels are read
        label_field (None): the field of the labels
        seed: of everything random
        neighbors (None): the brain key of a similarity index that finds the neighbors

    Raises:
        UserError: if the seed is out of range, a field is not there or holds something else, or
            the index cannot tell the neighbors of these embeddings
    """

    def __init__(
        self,
        target: Target,
        progress: Progress | None = None,
        *,
        embeddings: str | None = None,
        label_field: str | None = None,
        seed: int = 51,
        neighbors: str | None = None,
    ) -> None:
        if not 0 <= seed < 2**32:
            raise UserError(f"seed={seed} must be between 0 and 2**32 - 1")
        self.target = target
        # However they were named, from here on by the names of the fields.
        self.embeddings = None if embeddings is None else embeddings_field(target, embeddings)
        self.label_field = None
        if label_field is not None:
            self.label_field = label_field_of(target, label_field).name
        self.seed = seed
        self.neighbors = neighbors
        if neighbors is not None:
            check_index(target, self.embeddings, neighbors)
        self.progress = progress or Progress()

    @property
    def required_embeddings(self) -> str:
        """The field of the embeddings, for what cannot do without.

        Raises:
            UserError: if none was named
        """
        if self.embeddings is None:
            raise UserError("embeddings= is needed: name the field that holds the embeddings")
        return self.embeddings

    @property
    def required_label_field(self) -> str:
        """The field of the labels, for what cannot do without.

        Raises:
            UserError: if none was named
        """
        if self.label_field is None:
            raise UserError("label_field= is needed: name the field that holds the labels")
        return self.label_field

    def with_labels(self, label_field: str | None) -> "Inputs":
        """The same embeddings and their graph with other labels, or none."""
        other = Inputs(
            self.target,
            self.progress,
            embeddings=self.embeddings,
            label_field=label_field,
            seed=self.seed,
            neighbors=self.neighbors,
        )
        shared = ("vectors", "ids", "items", "measures", "rows", "graph", "duplicates", "clusters")
        other.__dict__ |= {name: self.__dict__[name] for name in shared if name in self.__dict__}
        return other

    @cached_property
    def text_field(self) -> str | None:
        """The field of the texts whose embeddings these are; None of images."""
        return text_field_of(self.target, self.embeddings)

    @cached_property
    def vectors(self) -> VectorSet:
        self.progress.say("Reading the embeddings")
        return read_vectors(self.target, self.required_embeddings)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The samples or patches that are evaluated: those with embeddings, if these are read."""
        if self.embeddings is not None:
            return self.vectors.ids
        if ids := tuple(self.target.ids()):
            return ids
        raise UserError(f"There are no {self.target.noun} in this view")

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
    def measures(self) -> "FileMeasures":
        """What is measured on the pixels, which reads all files."""
        from ..pictures.measures import measure_files

        _, files, boxes = zip(*self.items)
        with self.progress.share("Looking at the pixels", len(files), self.target.noun) as report:
            return measure_files(files, boxes, report)

    @cached_property
    def rows(self) -> np.ndarray:
        """``(n, dim)`` float32, the embeddings scaled to length 1."""
        from ..analysis.vectors import unit_rows

        return unit_rows(self.vectors.matrix).rows

    @cached_property
    def graph(self) -> "NeighborGraph":
        """The nearest neighbors that all checks read."""
        return self.graph_of()[0]

    def graph_of(self, k: int = 0) -> tuple["NeighborGraph", bool]:
        """The graph with at least so many neighbors, and whether it had been stored before."""
        count, noun = len(self.vectors.ids), self.target.noun
        with self.progress.share("Finding the nearest neighbors", count, noun) as report:
            return get_graph(
                self.target,
                self.required_embeddings,
                self.vectors,
                k,
                seed=self.seed,
                progress=report,
                neighbors=self.neighbors,
            )

    # Labels

    @cached_property
    def label_kind(self) -> LabelField:
        """Where the labels are kept."""
        return label_field_of(self.target, self.required_label_field)

    @cached_property
    def labels(self) -> list[str | None]:
        """The label of each id, or None."""
        return read_labels(self.target, self.required_label_field, self.ids)

    @cached_property
    def _classes(self) -> tuple[tuple[str, ...], list[int]]:
        return class_codes(self.labels)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._classes[0]

    @cached_property
    def codes(self) -> np.ndarray:
        """``(n,)`` int64, the labels as places in ``class_names``, -1 for none."""
        return np.array(self._classes[1], np.int64)

    # What follows from them

    @cached_property
    def duplicates(self) -> DuplicateGroups | None:
        """The groups of ``find_duplicates`` that are taken into account, if it was run."""
        return read_duplicate_groups(self.target, self.ids, self.text_field)

    @property
    def groups(self) -> np.ndarray | None:
        """``(n,)`` int64, the duplicate group of each id, -1 in none; None if none are known."""
        return self.duplicates.numbers if self.duplicates is not None else None

    @cached_property
    def evidence(self) -> "ClassEvidence":
        """Held-out class probabilities."""
        from ..analysis.class_probe import held_out_probabilities

        if not (self.rows.any(axis=1) & (self.codes >= 0)).any():
            raise UserError(
                f"embeddings={self.embeddings!r}: all embeddings of labeled {self.target.noun} "
                "are zero; choose another field of embeddings"
            )
        count, noun = len(self.vectors.ids), self.target.noun
        with self.progress.share("Predicting held-out labels", count, noun) as report:
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
        """Outliers, from the neighbors and, with labels, from the held-out evidence."""
        from ..analysis.outliers import find_outliers

        classes: dict[str, Any] = {}
        if self.label_field is not None and len(self.class_names) > 1:
            classes = {"labels": self.codes, "probabilities": self.evidence.probabilities}
        return find_outliers(self.rows, self.graph, self.groups, threshold=threshold, **classes)

    @cached_property
    def clusters(self) -> "Clusters":
        """Clusters of at least as many distinct rows as a group unlike the rest must have."""
        from ..analysis.clusters import find_clusters
        from ..analysis.foreign_groups import FEWEST_MEMBERS

        return find_clusters(
            self.rows, self.graph, self.groups, min_size=FEWEST_MEMBERS, seed=self.seed
        )

    # What a run remembers

    @cached_property
    def stored_labels(self) -> list[str | None]:
        """The labels as the dataset holds them, each as one text: what reviews and runs compare.

        A view may show others: ``map_labels()`` renames them, ``filter_labels()`` leaves some out.
        """
        if self.target.shows_stored_values:
            if not self.label_kind.several:
                return self.labels
            return read_label_texts(self.target, self.required_label_field, self.ids)
        stored = self.target.only(self.ids)
        return read_label_texts(stored, self.required_label_field, self.ids)

    @cached_property
    def _labels_fingerprint(self) -> str:
        return fingerprints.texts_fingerprint(self.ids, self.stored_labels)

    @cached_property
    def _files_fingerprint(self) -> str:
        rows = ((id_, path, box) for id_, (_, path, box) in zip(self.ids, self.items))
        return fingerprints.files_fingerprint(rows)

    def facts(self, parameters: dict[str, Any], *read: str) -> RunFacts:
        """What a run says of what was read.

        Args:
            parameters: of the check, beside those that all have
            read: what was read beside embeddings and labels: ``FILES``, ``GROUPS``, …
        """
        skipped = dict(self.vectors.skipped) if self.embeddings is not None else {}
        if self.target.num_ambiguous:
            skipped[AMBIGUOUS] = self.target.num_ambiguous
        return RunFacts(
            about=self.target.about,
            parameters={
                "embeddings": self.embeddings,
                "patches_field": self.target.patches_field,
                "label_field": self.label_field,
                **parameters,
                "seed": self.seed,
                **({} if self.neighbors is None else {"neighbors": self.neighbors}),
            },
            whole=self.target.is_whole,
            model=model_of(self.target, self.embeddings),
            inputs=self._fingerprints(parameters, read),
            read=len(self.ids) + sum(skipped.values()),
            evaluated=len(self.ids),
            skipped=skipped,
        )

    def _fingerprints(self, parameters: dict[str, Any], read: tuple[str, ...]) -> dict[str, str]:
        found = {}
        if self.embeddings is not None:
            found[f"{fingerprints.EMBEDDINGS} {self.embeddings}"] = self.vectors.fingerprint
        if self.label_field is not None:
            found[f"{fingerprints.LABELS} {self.label_field}"] = self._labels_fingerprint
        if fingerprints.FILES in read:
            found[fingerprints.FILES] = self._files_fingerprint
        if fingerprints.SPLITS in read and parameters.get("split") is not None:
            found[fingerprints.SPLITS] = fingerprints.splits_fingerprint(
                self.target, parameters["split"], self.ids
            )
        if fingerprints.PREDICTIONS in read and parameters["predictions_field"] is not None:
            name = parameters["predictions_field"]
            found[f"{fingerprints.PREDICTIONS} {name}"] = fingerprints.predictions_fingerprint(
                self.target, name, self.ids
            )
        if fingerprints.TEXTS in read:
            name = parameters["text_field"]
            texts = read_texts(self.target.only(self.ids), name)
            found[f"{fingerprints.TEXTS} {name}"] = fingerprints.texts_fingerprint(
                self.ids, [texts[id_] for id_ in self.ids]
            )
        if fingerprints.GROUPS in read:
            found[fingerprints.GROUPS] = fingerprints.groups_fingerprint(self.duplicates)
        return found


def restrict_to_common(inputs: list[Inputs]) -> int:
    """Leaves what has an embedding in all fields; returns how many of the first are skipped.

    Raises:
        UserError: if nothing has
    """
    if len(inputs) == 1:
        return 0
    common = set.intersection(*(set(each.vectors.ids) for each in inputs))
    if not common:
        raise UserError("embeddings: no sample has an embedding in all of these fields")
    left_out = len(inputs[0].vectors.ids) - len(common)
    for each in inputs:
        if len(each.vectors.ids) > len(common):
            each.vectors = each.vectors.take(np.array([id_ in common for id_ in each.vectors.ids]))
            for name in ("ids", "items", "measures", "rows", "graph", "duplicates", "clusters"):
                each.__dict__.pop(name, None)
    return left_out
