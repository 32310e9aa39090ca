"""The check ``compare_datasets``: new images, or another dataset or split, against this one."""

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
from fiftyone import ViewField as F

from ..errors import UserError
from ..steps import part_of
from ..storage.findings import Column, Values, Views, matching_view, plan_findings, store_findings
from ..storage.fingerprints import OTHER
from ..storage.others import apart, read_other, resolve_other
from ..storage.runs import Run
from ..storage.target import Target
from ..storage.vectors import VectorSet
from .contract import EMBEDDINGS, Check, FindingFields
from .inputs import Inputs

if TYPE_CHECKING:
    from ..analysis.novelty import Drift, Novelty

# Nearest of the other set whose images are compared with each image.
CANDIDATES = 3

# Ids of what the other set has beyond this one that a result lists.
MAX_LISTED = 1000

COMPARISON = Check(
    name="compare_datasets",
    needs=frozenset({EMBEDDINGS}),
    columns=(
        Column(
            "novelty", fo.FloatField, "The distance to the other dataset, from 0 (known) to 1 (new)"
        ),
        Column("new", fo.BooleanField, "Whether the other dataset has nothing similar"),
        Column("nearest", fo.StringField, "The id of the nearest sample in the other dataset"),
        Column("duplicate", fo.StringField, "The id of its duplicate in the other dataset"),
    ),
    views={
        "new": "Samples unlike anything in the other dataset, most novel first",
        "duplicates": "Samples already in the other dataset",
        "missing": "Samples of the other dataset that are missing here",
    },
    finding=FindingFields(
        kind="new",
        column="new",
        order=(("novelty", -1),),
        reported=("novelty", "nearest"),
    ),
    count=("new", "new"),
)


def compare_datasets(
    inputs: Inputs,
    *,
    other: str,
    check_pictures: bool = True,
    run_key: str | None = None,
) -> dict[str, Any]:
    """Compares the inputs with another set, stores what is new, and returns how they differ.

    Args:
        inputs: what is compared
        other, check_pictures, run_key: as of the operator

    Raises:
        UserError: if the input is at fault; an earlier run of the name then stays
    """
    from ..analysis.novelty import find_new, measure_drift

    started = time.monotonic()
    progress = inputs.progress
    target, of_other = apart(inputs.target, resolve_other(inputs.target, other))
    if target is not inputs.target:
        inputs = Inputs(target, progress, embeddings=inputs.embeddings, seed=inputs.seed)
    # Embeddings of texts say nothing of images, nor do these of them.
    check_pictures = check_pictures and inputs.text_field is None
    run = plan_findings(target, COMPARISON.name, run_key, COMPARISON.columns, [*COMPARISON.views])
    progress.say("Reading the other embeddings")
    vectors = read_other(target, of_other, other, inputs.required_embeddings)
    mine, others = inputs.vectors.matrix, vectors.matrix
    if mine.shape[1] != others.shape[1]:
        raise UserError(
            f"other={other!r}: its embeddings {inputs.embeddings!r} have length {others.shape[1]}, "
            f"those here {mine.shape[1]}; compute both with the same model"
        )
    if min(len(mine), len(others)) < 2:
        raise UserError(f"other={other!r}: a comparison needs at least two {target.noun} of each")
    progress.say(f"Comparing with {len(others):,} {of_other.noun}")
    found, back = find_new(mine, others), find_new(others, mine)
    drift = measure_drift(mine, others, inputs.seed)
    new = found.new | drift.only_in(True, len(mine))
    missing = back.new | drift.only_in(False, len(mine))
    copies: dict[int, int] = {}
    skipped: dict[str, int] = {}
    if check_pictures:
        copies, skipped = _duplicates(inputs, of_other, vectors, found)
    facts = inputs.facts({"other": other, "check_pictures": check_pictures})
    facts = replace(
        facts,
        inputs={**facts.inputs, f"{OTHER} {other}": vectors.fingerprint},
        skipped={**facts.skipped, **skipped},
        seconds=round(time.monotonic() - started, 2),
        special={
            "compared_with": len(others),
            "new": int(new.sum()),
            "missing": int(missing.sum()),
            "missing_ids": [vectors.ids[row] for row in np.flatnonzero(missing)[:MAX_LISTED]],
            "duplicates": len(copies) if check_pictures else None,
            "drift": _drift_as_dict(drift),
        },
    )
    progress.say("Storing the comparison")
    saved = store_findings(
        target,
        run,
        COMPARISON.columns,
        lambda: _values(inputs, vectors, found, new, copies),
        lambda: _views(inputs, of_other, run, new, copies, vectors, missing),
        facts,
        results={"ids": " ".join(inputs.ids)},
    )
    return {"run_key": run.key, **facts.as_dict(), "views": list(saved)}


def _drift_as_dict(drift: "Drift") -> dict[str, Any]:
    def rounded(value: float) -> float | None:
        return None if np.isnan(value) else round(value, 4)

    return {
        "differ": drift.differ,
        "auc": rounded(drift.auc),
        "auc_low": rounded(drift.low),
        "auc_high": rounded(drift.high),
        "p_value": rounded(drift.p_value),
        "clusters": len(drift.share),
        "clusters_with_more": int(drift.more.sum()),
        "clusters_with_less": int(drift.less.sum()),
    }


def _duplicates(
    inputs: Inputs, of_other: Target, vectors: VectorSet, found: "Novelty"
) -> tuple[dict[int, int], dict[str, int]]:
    """Which of these are in the other set already, verified on the pixels.

    Returns:
        a row of the other set for each row that has a duplicate there, and what could not be read
    """
    from ..analysis.duplicates import find_duplicates
    from ..analysis.neighbors import neighbor_graph
    from ..analysis.vectors import unit_rows
    from ..pictures.file_copies import exact_copies
    from ..pictures.small_images import ImageOrPatch, read_small_images

    near = np.unique(found.nearest[:, :CANDIDATES])
    theirs = Inputs(of_other, inputs.progress, embeddings=inputs.embeddings, seed=inputs.seed)
    theirs.vectors = vectors.take(np.isin(np.arange(len(vectors.ids)), near))
    images = [ImageOrPatch(path, box) for _, path, box in (*inputs.items, *theirs.items)]
    rows = unit_rows(np.concatenate([inputs.vectors.matrix, theirs.vectors.matrix])).rows
    with inputs.progress.share("Comparing the images", len(images), inputs.target.noun) as report:
        small = read_small_images(images, part_of(report, 0.0, 0.6))
        copies = exact_copies(small, part_of(report, 0.6, 0.7))
        same = find_duplicates(
            small, copies, rows, neighbor_graph(rows), progress=part_of(report, 0.7, 1.0)
        )
    count = len(inputs.ids)
    of_group = {int(same.group[count + place]): row for place, row in enumerate(near.tolist())}
    pairs = {
        row: of_group[int(group)]
        for row, group in enumerate(same.group[:count])
        if group >= 0 and int(group) in of_group
    }
    unread = Counter(why for row, why in same.skipped.items() if row < count)
    return pairs, {f"images not compared: {why}": number for why, number in unread.items()}


def _values(
    inputs: Inputs,
    vectors: VectorSet,
    found: "Novelty",
    new: np.ndarray,
    copies: dict[int, int],
) -> Values:
    ids = inputs.ids
    return {
        "novelty": {id_: round(float(score), 6) for id_, score in zip(ids, found.score)},
        "new": {id_: bool(flag) for id_, flag in zip(ids, new)},
        "nearest": {id_: vectors.ids[near[0]] for id_, near in zip(ids, found.nearest)},
        "duplicate": {ids[row]: vectors.ids[other] for row, other in copies.items()},
    }


def _views(
    inputs: Inputs,
    of_other: Target,
    run: Run,
    new: np.ndarray,
    copies: dict[int, int],
    vectors: VectorSet,
    missing: np.ndarray,
) -> Views:
    target, views = inputs.target, {}
    if new.any():
        is_new = F(f"{run.key}_new") == True  # noqa: E712
        farthest = [(f"{run.key}_novelty", -1)]
        views["new"] = (matching_view(target, is_new, farthest), COMPARISON.views["new"])
    if copies:
        known = F(f"{run.key}_duplicate") != None  # noqa: E711
        views["duplicates"] = (matching_view(target, known, []), COMPARISON.views["duplicates"])
    if missing.any() and of_other.dataset.name == target.dataset.name:
        ids = [vectors.ids[row] for row in np.flatnonzero(missing)]
        views["missing"] = (of_other.view_of(ids), COMPARISON.views["missing"])
    return views
