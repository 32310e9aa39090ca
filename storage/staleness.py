"""Whether a stored run still says what the same call would say today, and if not, why.

One rule for every check, on samples, frames and patches, whole datasets and views: a run remembers
the ids that it evaluated and fingerprints of what it read of them. Gone or added ids and any
fingerprint that differs make it stale.
"""

import datetime
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import fiftyone as fo
import numpy as np

from ..errors import UserError
from . import fingerprints
from .groups import read_duplicate_groups
from .labels import read_label_texts, shown_text
from .metadata import read_slices
from .orders import read_order
from .others import apart, read_other, resolve_other
from .reviews import UNDER_REVIEW
from .runs import COMPUTING, DESCRIBING, UNDER_REMOVAL, Run, evaluated_ids, read_results
from .search_index import OPERATOR as SIMILARITY_INDEX
from .target import About, Target
from .targets import about_of
from .text_states import edited_since
from .texts import read_texts, text_field_of
from .vectors import VectorSet, read_vectors
from .visualizations import visualization_ids

# Classes whose counts an explanation names.
NAMED = 3

# Runs whose ids are not stored beside them.
WITHOUT_IDS = ("neighbor_graph",)

UNFINISHED = "unfinished: it is still running or was interrupted; run it again"
UNREADABLE = "it cannot be read ({}); delete it, or run the operator again"
REMOVAL_UNFINISHED = "its deletion was interrupted; delete it again"
TEXTS_EDITED = "{} in {} edited since embedded"
REVIEW_UNFINISHED = "a review was interrupted; repeat or undo it"


@dataclass
class Reader:
    """Reads what runs are compared with, each input once, however many runs have read it."""

    dataset: fo.Dataset
    _targets: dict[About, Target | str] = field(default_factory=dict)
    _vectors: dict[tuple[About, str], VectorSet | str] = field(default_factory=dict)
    _known: dict[Any, str | None] = field(default_factory=dict)
    _edited: dict[tuple[About, str], tuple[str | None, set[str]]] = field(default_factory=dict)

    def target(self, about: About) -> Target:
        """All of what a run is about.

        Raises:
            UserError: if there is nothing of it any more
        """
        return self._once(self._targets, about, lambda: about_of(self.dataset, about))

    def vectors(self, about: About, name: str) -> VectorSet:
        """All embeddings of a field. Only the latest field is kept: they are large."""
        if (about, name) not in self._vectors:
            self._vectors.clear()
        return self._once(
            self._vectors, (about, name), lambda: read_vectors(self.target(about), name)
        )

    def vectors_of(self, about: About, name: str, ids: Sequence[str]) -> VectorSet:
        """The embeddings of some ids: of those that most of the field's are like, or their own."""
        target = self.target(about)
        try:
            found = _restricted(self.vectors(about, name), ids)
        except UserError:  # no length prevails in the dataset
            return read_vectors(target.only(ids), name)
        if len(found.ids) == len(ids) or len(ids) == len(target.ids()):
            return found
        # A run on a view may be of embeddings of another length than most of the dataset have.
        return read_vectors(target.only(ids), name)

    def edited(self, about: About, name: str) -> tuple[str | None, set[str]]:
        """The field whose texts a field of embeddings is of, and the ids that were edited since."""
        target = self.target(about)
        return self._once(self._edited, (about, name), lambda: edited_since(target, name))

    def fingerprint(self, what: str, run: Run, ids: Sequence[str] | None) -> str | None:
        """The fingerprint today of something that a run has read; None if it no longer exists."""
        about = run.facts.about
        target = self.target(about)
        ids = target.ids() if ids is None else ids
        key = (about, what, str(run.facts.parameters.get("split")), hash(tuple(ids)))
        if key not in self._known:
            try:
                self._known[key] = self._computed(what, run, target, ids)
            except UserError:
                self._known[key] = None
        return self._known[key]

    def _computed(self, what: str, run: Run, target: Target, ids: Sequence[str]) -> str | None:
        kind, _, name = what.partition(" ")
        if kind == fingerprints.EMBEDDINGS:
            return self.vectors_of(run.facts.about, name, ids).fingerprint
        if kind == fingerprints.LABELS:
            labels = read_label_texts(target, name, ids)
            return fingerprints.texts_fingerprint(ids, labels)
        if kind == fingerprints.FILES:
            return fingerprints.files_fingerprint(_files(target, ids))
        if kind == fingerprints.SPLITS:
            return fingerprints.splits_fingerprint(target, run.facts.parameters["split"], ids)
        if kind == fingerprints.OTHER:
            field = run.facts.embeddings[0]
            mine, other = apart(target.only(ids), resolve_other(target, name))
            return read_other(mine, other, name, field).fingerprint
        if kind == fingerprints.PREDICTIONS:
            return fingerprints.predictions_fingerprint(target, name, ids)
        if kind == fingerprints.SLICES:
            samples = [target.sample_ids[id_] for id_ in ids]
            return fingerprints.texts_fingerprint(ids, read_slices(target, name, ids, samples))
        if kind == fingerprints.ORDER:
            samples = [target.sample_ids[id_] for id_ in ids]
            return fingerprints.texts_fingerprint(ids, read_order(target, name, samples)[0])
        if kind == fingerprints.TEXTS:
            texts = read_texts(target, name)
            return fingerprints.texts_fingerprint(ids, [texts.get(id_) for id_ in ids])
        text_field = text_field_of(target, next(iter(run.facts.embeddings), None))
        groups = read_duplicate_groups(target, ids, text_field)
        return fingerprints.groups_fingerprint(groups)

    @staticmethod
    def _once(known: dict, key: Any, make: Callable[[], Any]) -> Any:
        if key not in known:
            try:
                known[key] = make()
            except UserError as error:
                known[key] = str(error)
        if isinstance(known[key], str):
            raise UserError(known[key])
        return known[key]


def _restricted(vectors: VectorSet, ids: Sequence[str]) -> VectorSet:
    if tuple(ids) == vectors.ids:
        return vectors
    wanted = set(ids)
    return vectors.take(np.array([id_ in wanted for id_ in vectors.ids], bool))


def _files(target: Target, ids: Sequence[str]) -> list[tuple[str, str, Any]]:
    """The id, the file and the box of samples or patches, in the order of the ids."""
    found = {
        id_: (item.filepath, box)
        for item in target.items(set(ids))
        for id_, box in zip(item.ids, item.boxes or [None])
    }
    return [(id_, *found[id_]) for id_ in ids]


def stale_reasons(run: Run, reader: Reader) -> list[str]:
    """Why a run is out of date; empty if it is not.

    Args:
        run: the run
        reader: of the run's dataset; the same for several runs, which share what is read
    """
    if run.unreadable is not None:
        return [UNREADABLE.format(run.unreadable)]
    if not run.finished:
        return [REMOVAL_UNFINISHED if run.facts.special.get(UNDER_REMOVAL) else UNFINISHED]
    if run.facts.special.get(UNDER_REVIEW):
        reasons = [REVIEW_UNFINISHED]  # its fields may not all be there yet
    else:
        reasons = [
            f"its field {path} no longer exists"
            for path in run.fields
            if reader.dataset.get_field(path) is None
        ]
    try:
        target = reader.target(run.facts.about)
    except UserError as error:
        return [*reasons, str(error)]
    if run.operator == COMPUTING:
        return reasons + _without_embeddings(target, run) + _of_edited_texts(run, reader, None)
    if run.operator in (DESCRIBING, SIMILARITY_INDEX):
        return reasons + _of_other_embeddings(reader, run)
    ids = None if run.operator in WITHOUT_IDS else run_ids(reader.dataset, run)
    if ids is None and not run.facts.whole:
        return reasons  # a part of the dataset that is not known
    reasons += _moved(target, run, ids, reader)
    reasons += _of_edited_texts(run, reader, ids)
    complete = ids is None or target.sample_ids.keys() >= set(ids)
    for what, then in run.facts.inputs.items():
        # Of what was removed there is nothing to compare.
        now = reader.fingerprint(what, run, ids if complete else None)
        if now is None or (complete and now != then):
            reasons.append(_changed(what, now, run, reader, ids))
    return list(dict.fromkeys(reasons))


def run_ids(dataset: fo.Dataset, run: Run) -> tuple[str, ...] | None:
    """The ids of what a run, or a visualization, has evaluated; None if they are not known."""
    if run.operator == "compute_visualization":
        return visualization_ids(dataset, run.key)
    return evaluated_ids(dataset, run)


def _without_embeddings(target: Target, run: Run) -> list[str]:
    name = run.facts.embeddings[0] if run.facts.embeddings else run.facts.special.get("field")
    missing = len(target.ids()) - len(target.ids(having=name))
    failed = run.facts.special.get("failed") or 0
    if run.facts.whole and missing > failed:
        return [f"{missing - failed:,} {target.noun} have no embedding yet"]
    return []


def _of_other_embeddings(reader: Reader, run: Run) -> list[str]:
    """Why a description, or an index, is not of the embeddings that the field holds today."""
    try:
        vectors = reader.vectors(run.facts.about, run.facts.embeddings[0])
    except UserError as error:
        return [str(error)]
    length, then = vectors.matrix.shape[1], run.facts.special.get("dim")
    if then not in (None, length):
        return [f"the embeddings now have length {length}, was {then}; describe them again"]
    return []


def _of_edited_texts(run: Run, reader: Reader, ids: Sequence[str] | None) -> list[str]:
    """That embeddings are of texts that were edited since, of all or of some ids."""
    reasons = []
    for name in run.facts.embeddings:
        text_field, edited = reader.edited(run.facts.about, name)
        if count := len(edited if ids is None else edited.intersection(ids)):
            texts = "1 text" if count == 1 else f"{count:,} texts"
            reasons.append(TEXTS_EDITED.format(texts, text_field))
    return reasons


def _moved(target: Target, run: Run, ids: Sequence[str] | None, reader: Reader) -> list[str]:
    """What was added and removed since, in words."""
    if ids is None:
        return []
    known, now = set(ids), target.sample_ids.keys()
    reasons = []
    if removed := len(known - now):
        reasons.append(f"{removed:,} {target.noun} were removed")
    if run.facts.whole:
        # What was read without being evaluated is not new.
        added = len(now) + target.num_ambiguous + removed - max(run.facts.read or 0, len(ids))
        if added > 0:
            reasons.append(f"{added:,} {target.noun} were added")
        elif fresh := len(_embedded(run, reader) - known):
            reasons.append(f"{fresh:,} {target.noun} have new embeddings")
    return reasons


def _embedded(run: Run, reader: Reader) -> set[str]:
    """What has an embedding in all fields that the run has read."""
    try:
        found = [set(reader.vectors(run.facts.about, name).ids) for name in run.facts.embeddings]
    except UserError:
        return set()
    return set.intersection(*found) if found else set()


def _gone(what: str) -> str:
    kind, _, name = what.partition(" ")
    return f"the {kind} {name} no longer exist".replace("  ", " ")


def _changed(
    what: str, now: str | None, run: Run, reader: Reader, ids: Sequence[str] | None
) -> str:
    kind, _, name = what.partition(" ")
    if kind == fingerprints.GROUPS:
        return "duplicates were found or removed since"
    if now is None:
        return _gone(what)
    if kind == fingerprints.FILES:
        return "files were modified or replaced since"
    if kind == fingerprints.OTHER:
        return f"the embeddings of {name} have changed"
    if kind == fingerprints.LABELS:
        return f"labels in {name} have changed{_examples(run, reader, name, ids)}"
    return f"the {kind} in {name} have changed" if name else f"the {kind} have changed"


def _examples(run: Run, reader: Reader, name: str, ids: Sequence[str] | None) -> str:
    """The classes whose counts have changed most, where the run has stored them."""
    if ids is None:
        return ""
    report = getattr(read_results(reader.dataset, run.key), "report", None) or {}
    classes = run.facts.special.get("classes") or report.get("classes") or ()
    before = {row["label"]: row["count"] for row in classes}
    if not before:
        return ""
    labels = read_label_texts(reader.target(run.facts.about), name, ids)
    counts = Counter(label for label in labels if label is not None)
    differing = [
        (abs(counts[label] - before.get(label, 0)), label, before.get(label, 0), counts[label])
        for label in {*counts, *before}
        if counts[label] != before.get(label, 0)
    ]
    differing.sort(key=lambda entry: (-entry[0], entry[1]))
    texts = [f"{shown_text(label)} {old:,} → {new:,}" for _, label, old, new in differing[:NAMED]]
    return f" ({', '.join(texts)})" if texts else ""


def last_touched(dataset: fo.Dataset) -> datetime.datetime:
    """When a sample or a frame was last added, modified or deleted, in UTC."""
    view = dataset.view()
    if dataset.media_type == fo.core.media.GROUP:
        view = view.select_group_slices(_allow_mixed=True)
    # The field has an index, which makes this quicker than its maximum.
    times = view.sort_by("last_modified_at", reverse=True).limit(1).values("last_modified_at")
    if dataset._has_frame_fields():
        newest = dataset._frame_collection.find_one(sort=[("last_modified_at", -1)])
        times.append((newest or {}).get("last_modified_at"))
    times = [time for time in (*times, dataset.last_deletion_at) if time is not None]
    return max(map(_aware, times), default=_aware(datetime.datetime.min))


def _aware(time: datetime.datetime) -> datetime.datetime:
    return time if time.tzinfo is not None else time.replace(tzinfo=datetime.timezone.utc)
