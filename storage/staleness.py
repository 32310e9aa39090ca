"""Whether a stored run still says what the same call would say today, and if not, why."""

from typing import Any

import fiftyone as fo

from ..errors import UserError
from .runs import Run, read_run
from .targets import Target, resolve_target
from .vectors import read_vectors


def stale_reasons(dataset: fo.Dataset, run: Run, fingerprints: dict[Any, str]) -> list[str]:
    """Why a run is out of date; empty if it is not.

    Runs on all of the dataset are judged by the vectors and labels themselves, those on a part of
    it by what has been computed since.

    Args:
        dataset: the dataset
        run: the run
        fingerprints: of vectors that were read before, which is what takes time; added to
    """
    if not run.finished:
        return ["unfinished: it is still running, or its process was stopped"]
    parameters = run.facts.get("parameters") or {}
    reasons = [f"its field {path} is gone" for path in run.fields if not _has(dataset, path)]
    names = parameters.get("embeddings")
    names = [names] if isinstance(names, str) else list(names or ())
    patches_field = parameters.get("patches_field") or run.facts.get("patches_field")
    try:
        target = _target(dataset, run, patches_field)
    except UserError:
        return reasons  # frames of a video without pictures cannot be looked at again
    for name in names:
        if target.view.get_field(target.path(name)) is None:
            reasons.append(f"the vectors {name} are gone")
            continue
        source = None if run.facts.get("whole") else _run_of_vectors(target, name)
        if source is not None and run.written_at and source.written_at > run.written_at:
            reasons.append(f"the vectors {name} were computed again since")
    if run.operator == "compute_embeddings":
        missing = len(target.ids()) - len(target.ids(having=run.facts.get("embeddings")))
        failed = run.facts.get("failed") or 0
        if run.facts.get("whole") and missing > failed:
            reasons.append(f"{missing - failed:,} {target.things} have no vector yet")
        return reasons
    if reasons or not run.facts.get("whole"):
        return reasons
    if names and run.facts.get("fingerprint"):
        key = (patches_field, names[0])
        if key not in fingerprints:
            fingerprints[key] = read_vectors(target, names[0]).fingerprint
        if len(names) == 1 and fingerprints[key] != run.facts["fingerprint"]:
            reasons.append(f"samples or vectors ({names[0]}) have been added, removed or changed")
    if run.facts.get("labels_fingerprint") and not reasons:
        label_field = parameters.get("label_field")
        if target.patches_field is None and target.view.get_field(label_field) is None:
            reasons.append(f"the labels {label_field} are gone")
        elif _labels_changed(target, run, names):
            reasons.append(f"labels in {label_field} have changed")
    return reasons


def _labels_changed(target: Target, run: Run, names: list[str]) -> bool:
    from .labels import is_multilabel, labels_fingerprint, read_label_sets, read_labels

    label_field = run.facts["parameters"]["label_field"]
    if len(names) > 1:
        return False
    ids = read_vectors(target, names[0]).ids if names else tuple(target.ids())
    try:
        if is_multilabel(target, label_field):
            sets = read_label_sets(target, label_field, ids)
            labels = [None if one is None else ", ".join(sorted(one)) for one in sets]
        else:
            labels = read_labels(target, label_field, ids)
    except UserError:
        return True
    return labels_fingerprint(ids, labels) != run.facts["labels_fingerprint"]


def _target(dataset: fo.Dataset, run: Run, patches_field: str | None) -> Target:
    samples: Any = dataset
    if (run.facts.get("of") or "").partition(".")[0] == "frames":
        samples = dataset.to_frames()
    return resolve_target(samples, patches_field).everything()


def _run_of_vectors(target: Target, name: str) -> Run | None:
    try:
        return read_run(target.dataset, target.dataset_path(name).replace(".", "_"))
    except UserError:
        return None


def _has(dataset: fo.Dataset, path: str) -> bool:
    return dataset.get_field(path) is not None
