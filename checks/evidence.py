"""Everything that stored runs know of one sample or patch: what a person decides on.

It is read by the ids that runs have stored, at once and whatever the size of the dataset; nothing
is computed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import fiftyone as fo

from ..errors import UserError
from ..storage.few import few, media_field, rows_where
from ..storage.labels import label_field_of, label_fields, read_label_texts, shown_text
from ..storage.metadata import read_splits
from ..storage.runs import Run, plugin_runs
from ..storage.target import About, Target
from ..storage.texts import read_texts
from .caption_issues import CAPTION_ISSUES
from .duplicates import DUPLICATES
from .label_issue_columns import LABEL_ISSUES
from .outliers import OUTLIERS
from .reviews import original_text

# Neighbors, and members of a group of duplicates, that are shown.
MAX_NEIGHBORS, MAX_MEMBERS = 5, 8


@dataclass(frozen=True)
class Other:
    """A sample or patch that another one is compared with.

    Attributes:
        id: of the sample or patch
        filepath: its image
        box: of a patch, relative ``(x, y, width, height)``; None of a sample
        label: as text, or None
        split: the split that it is in, or None
        facts: what a run has stored of it, by the names of its columns
    """

    id: str
    filepath: str
    box: tuple[float, ...] | None
    label: str | None
    split: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunEvidence:
    """What one run knows of a sample or patch.

    Attributes:
        run: the run
        facts: the values of its columns, by their names
        others: what speaks against the label; or the whole group of duplicates, the kept one first
        num_others: how many there are, of which only some may be in ``others``
    """

    run: Run
    facts: Mapping[str, Any]
    others: tuple[Other, ...] = ()
    num_others: int = 0


@dataclass(frozen=True)
class Evidence:
    """What is known of one sample or patch.

    Attributes:
        target: it alone
        id: of the sample or patch
        seen: its image, label and split
        label, duplicate, outlier, caption: what the latest run of each check knows, or None
        text: the caption that was evaluated, or None
        original: the label before its reviews, as text; None if it was not reviewed
        measured: width, height and size in bytes of the image, as far as they are stored
    """

    target: Target
    id: str
    seen: Other
    label: RunEvidence | None
    duplicate: RunEvidence | None
    outlier: RunEvidence | None
    caption: RunEvidence | None = None
    text: str | None = None
    original: str | None = None
    measured: Mapping[str, Any] = field(default_factory=dict)


def latest_runs(dataset: fo.Dataset, about: About) -> dict[str, Run]:
    """The latest finished run of each check on these samples or patches, by the check's name."""
    return latest_of(plugin_runs(dataset), about)


def latest_of(runs: Sequence[Run], about: About) -> dict[str, Run]:
    """The latest finished of some runs, by the check's name."""
    found: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: (run.written_at or "", run.key)):
        if run.finished and run.facts.about == about:
            found[run.operator] = run
    return found


def read_evidence(dataset: fo.Dataset, about: About, id_: str, runs: Mapping[str, Run]) -> Evidence:
    """Reads what is known of one sample or patch.

    Args:
        dataset: the dataset
        about: samples, or patches of a field
        id_: the sample or patch
        runs: the runs that are asked, by their checks' names

    Raises:
        UserError: if it no longer exists
    """
    target = few(dataset, about, [id_])
    if not target.ids():
        raise UserError("This sample or patch no longer exists")
    id_ = target.ids()[0]
    label, duplicate, outlier, caption = (
        runs.get(check.name) for check in (LABEL_ISSUES, DUPLICATES, OUTLIERS, CAPTION_ISSUES)
    )
    label_field = _label_field(target, runs)
    known_label, original = (None, None)
    if label is not None:
        known_label, original = _of_label(dataset, target, label)
    return Evidence(
        target,
        id_,
        _others(target, [id_], label_field, _split(runs))[0],
        known_label,
        _of_duplicate(dataset, target, duplicate, label_field) if duplicate else None,
        _known(target, outlier, ["score", "flagged", "reason", "review"]) if outlier else None,
        _known(target, caption, ["score", "flagged", "rank", "review"]) if caption else None,
        _text(target, caption),
        original,
        _measured(target),
    )


def _known(target: Target, run: Run, names: Sequence[str]) -> RunEvidence | None:
    """The values of a run's columns; None if it has not evaluated this."""
    values = next(iter(target.values(*(f"{run.key}_{name}" for name in names)).values()))
    if all(value is None for value in values):
        return None
    return RunEvidence(run, dict(zip(names, values)))


def _text(target: Target, run: Run | None) -> str | None:
    """The caption of a sample or patch, as it is now."""
    text_field = run.facts.special.get("text_field") if run is not None else None
    if text_field is None or not target.has_field(text_field):
        return None
    return next(iter(read_texts(target, text_field).values()))


def _of_label(
    dataset: fo.Dataset, target: Target, run: Run
) -> tuple[RunEvidence | None, str | None]:
    names = ["quality", "flagged", "against", "review", "original", "reason", "wrong", "missing"]
    paths = {"suggested": "suggested", "probe": "probe", "neighbors": "neighbors"}
    if target.patches_field is None:
        paths = {name: f"{name}.label" for name in paths}
        paths |= {f"{name}_confidence": f"{name}.confidence" for name in list(paths)}
    else:
        paths["suggested_confidence"] = "confidence"
    found = _known(target, run, [*names, *paths.values()])
    if found is None:
        return None, None
    facts = dict(found.facts)
    facts |= {name: facts.get(path) for name, path in paths.items()}
    against = [id_ for id_ in facts["against"] or () if id_]
    shown = against[:MAX_NEIGHBORS]
    others = _others(few(dataset, target.about, shown), shown, run.facts.label_field, None)
    original = facts["original"]
    if original is not None:
        original = shown_text(original_text(target, run.facts.required_label_field, original))
    return RunEvidence(run, facts, tuple(others), len(against)), original


def _of_duplicate(
    dataset: fo.Dataset, target: Target, run: Run, label_field: str | None
) -> RunEvidence | None:
    names = [column.name for column in DUPLICATES.columns]
    found = _known(target, run, names)
    if found is None or found.facts["group"] is None:
        return found
    same = {f"{run.key}_group": [found.facts["group"]]}
    rows = rows_where(dataset, target.about, same, f"{run.key}_keep")
    rows.sort(key=lambda row: (not row[1], row[0]))
    shown = [id_ for id_, _ in rows[:MAX_MEMBERS]]
    split = run.facts.parameters.get("split")
    others = _others(few(dataset, target.about, shown), shown, label_field, split, run)
    return RunEvidence(run, found.facts, tuple(others), len(rows))


def _others(
    target: Target,
    ids: Sequence[str],
    label_field: str | None,
    split: Any,
    run: Run | None = None,
) -> list[Other]:
    """A few samples or patches as they are shown, in the order of the ids."""
    if not ids:
        return []
    found = target.ids()
    labels = dict(zip(found, _labels(target, label_field, found)))
    splits = dict(zip(found, _splits(target, split, found)))
    names = [column.name for column in DUPLICATES.columns] if run is not None else []
    facts = target.values(*(f"{run.key}_{name}" for name in names)) if run is not None else {}
    name = media_field(target.dataset)
    files = {
        id_: path or fallback
        for id_, path, fallback in zip(*target.view.values(["id", name, "filepath"]))
    }
    boxes = {
        id_: box
        for item in target.items(set(found))
        for id_, box in zip(item.ids, item.boxes or [None])
    }
    return [
        Other(
            id_,
            files[target.sample_ids[id_]],
            boxes[id_],
            labels[id_],
            splits[id_],
            dict(zip(names, facts.get(id_, ()))),
        )
        for id_ in _known_as(target, ids)
    ]


def _known_as(target: Target, ids: Sequence[str]) -> list[str]:
    """The ids that still exist, as the target calls them, in their order."""
    found = target.ids()
    places = {one: place for place, id_ in enumerate(ids) for one in (id_, id_.partition("@")[0])}
    return sorted(found, key=lambda id_: places.get(id_, places.get(id_.partition("@")[0], 0)))


def _labels(target: Target, label_field: str | None, ids: Sequence[str]) -> list[str | None]:
    if label_field is None:
        return [None] * len(ids)
    try:
        return [shown_text(text) for text in read_label_texts(target, label_field, ids)]
    except UserError:  # none of them has a label, or the field no longer exists
        return [None] * len(ids)


def _splits(target: Target, split: Any, ids: Sequence[str]) -> list[str | None]:
    if split is None:
        return [None] * len(ids)
    try:
        return read_splits(target, split, [target.sample_ids[id_] for id_ in ids])
    except UserError:
        return [None] * len(ids)


def _label_field(target: Target, runs: Mapping[str, Run]) -> str | None:
    """The labels that are shown: those that a run has read, or the first that there are."""
    for run in runs.values():
        name = run.facts.label_field
        if name is not None and target.dataset.get_field(name.split(".")[0]) is not None:
            return label_field_of(target, name).name
    return next(iter(label_fields(target)), None)


def _split(runs: Mapping[str, Run]) -> Any:
    run = runs.get(DUPLICATES.name)
    return run.facts.parameters.get("split") if run is not None else None


def _measured(target: Target) -> dict[str, Any]:
    metadata = target.view.first().metadata
    if metadata is None:
        return {}
    names = {"width": "width", "height": "height", "size_bytes": "bytes"}
    found = {attribute: getattr(metadata, name, None) for name, attribute in names.items()}
    return {name: value for name, value in found.items() if value is not None}
