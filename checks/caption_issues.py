"""The check ``find_caption_issues``: captions that do not match their images."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
from fiftyone import ViewField as F

from ..errors import UserError
from ..storage import fingerprints
from ..storage.findings import Column, matching_view, plan_findings, store_findings
from ..storage.groups import DuplicateGroups, read_duplicate_groups
from ..storage.reviews import FITS, finding_reviews
from ..storage.runs import Run, RunFacts, embeddings_run, model_of
from ..storage.target import Target
from ..storage.texts import read_texts
from .contract import EMBEDDINGS, FLAGGED, REVIEW, Check, FindingFields, values_of
from .inputs import Inputs, restrict_to_common

if TYPE_CHECKING:
    from ..analysis.caption_fit import CaptionFit

FOUND = (
    Column(
        "score",
        fo.FloatField,
        "The share of other pairings of image and caption that match at least as well, from 0 to 1",
    ),
    Column("rank", fo.IntField, "The rank of the caption, 1 for the worst match"),
    FLAGGED,
)

NO_CAPTION = "no embedding of both image and caption"

TELLS_TOO_LITTLE = (
    "in these embeddings, captions match their own images hardly better than other images: none "
    "is flagged"
)


def _reported(found: Target, run: Run) -> list[dict[str, Any]]:
    rows = values_of(found, run, ("score", "rank"))
    text_field = run.facts.special.get("text_field")
    if text_field is None or not found.has_field(text_field):
        return rows
    captions = read_texts(found, text_field)
    return [{**row, "caption": captions[id_]} for id_, row in zip(found.ids(), rows)]


CAPTION_ISSUES = Check(
    name="find_caption_issues",
    needs=frozenset({EMBEDDINGS}),
    columns=(*FOUND, REVIEW),
    views={"flagged": "Captions that do not match their images, worst first"},
    finding=FindingFields(
        kind="caption issue",
        column="flagged",
        order=(("rank", 1),),
        reported=("score", "caption"),
        read=_reported,
    ),
    would_find="captions that do not match their images",
    count=("flagged", "flagged"),
)


def find_caption_issues(
    images: Inputs, captions: Inputs, *, run_key: str | None = None
) -> dict[str, Any]:
    """Finds captions that do not match their images, stores them, and returns what was found.

    Args:
        images: the samples or patches with embeddings of their images
        captions: the same with embeddings of their captions
        run_key: as of the operator

    Raises:
        UserError: if the input is at fault; an earlier run of the name then stays
    """
    from ..analysis import caption_fit

    started = time.monotonic()
    target = images.target
    check_sides(images, captions)
    columns, views = CAPTION_ISSUES.columns, [*CAPTION_ISSUES.views]
    run = plan_findings(target, CAPTION_ISSUES.name, run_key, columns, views)
    restrict_to_common([images, captions])
    ids = images.ids
    if len(ids) < caption_fit.MIN_ROWS:
        raise UserError(
            f"{len(ids):,} {target.noun} have embeddings of both image and caption; at least "
            f"{caption_fit.MIN_ROWS} are needed"
        )
    groups, joint = read_duplicate_groups(target, ids), in_one_space(images, captions)
    images.progress.say("Comparing captions with images")
    found = caption_fit.caption_fit(
        images.rows,
        captions.rows,
        images.graph.indices,
        captions.graph.indices,
        groups.numbers if groups is not None else None,
        same=_equal_captions(captions),
        joint=joint,
    )
    fitting = {id_ for id_, review in finding_reviews(target, run).items() if review == FITS}
    values = _values(found, ids, fitting)
    facts = _facts(images, captions, groups)
    facts = replace(
        facts,
        seconds=round(time.monotonic() - started, 2),
        special=_own_facts(found, captions, joint, groups, sum(values["flagged"].values())),
    )
    images.progress.say("Storing the scores")
    condition = F(f"{run.key}_flagged") == True  # noqa: E712
    saved = store_findings(
        target,
        run,
        FOUND,
        values,
        lambda: {
            "flagged": (
                matching_view(target, condition, [(f"{run.key}_rank", 1)]),
                CAPTION_ISSUES.views["flagged"],
            )
        },
        facts,
        results={"ids": " ".join(ids)},
        kept=(REVIEW,),
    )
    return {"run_key": run.key, **facts.as_dict(), "views": list(saved)}


def check_sides(images: Inputs, captions: Inputs) -> None:
    """Refuses embeddings that are of the wrong side.

    Embeddings that the plugin did not compute are assumed to be what they are described as.

    Raises:
        UserError: that names the parameter and the way out
    """
    if images.text_field is not None:
        raise UserError(
            f"embeddings={images.embeddings!r} holds embeddings of the texts in "
            f"{images.text_field!r}; name those of the images, which compute_embeddings() makes "
            "without text_field="
        )
    model = model_of(captions.target, captions.embeddings)
    same = captions.embeddings == images.embeddings
    if same or (captions.text_field is None and model is not None):
        raise UserError(
            f"text_embeddings={captions.embeddings!r} holds embeddings of images; name those of "
            "the captions, which compute_embeddings(text_field=…) makes"
        )


def in_one_space(images: Inputs, captions: Inputs) -> bool:
    """Whether one model has embedded images and captions: they can be compared directly."""
    runs = [embeddings_run(each.target, each.required_embeddings) for each in (images, captions)]
    one, other = (
        run.facts.special.get("identity") or {} if run is not None else {} for run in runs
    )
    return bool(one) and all(one.get(name) == other.get(name) for name in ("weights_hash", "dim"))


def _equal_captions(captions: Inputs) -> np.ndarray | None:
    """Numbers of equal captions, (n,) int64; None if the texts are not known."""
    if captions.text_field is None:
        return None
    texts = read_texts(captions.target, captions.text_field)
    numbers: dict[str | None, int] = {}
    return np.array([numbers.setdefault(texts[id_], len(numbers)) for id_ in captions.ids])


def _values(found: "CaptionFit", ids: tuple[str, ...], fitting: set[str]) -> Mapping[str, Any]:
    ranks = np.empty(len(ids), np.int64)
    ranks[found.order] = np.arange(1, len(ids) + 1)
    flags = [bool(flag) and id_ not in fitting for id_, flag in zip(ids, found.flagged)]
    return {
        "score": {id_: round(float(score), 6) for id_, score in zip(ids, found.score)},
        "rank": dict(zip(ids, ranks.tolist())),
        "flagged": dict(zip(ids, flags)),
    }


def _facts(images: Inputs, captions: Inputs, groups: DuplicateGroups | None) -> RunFacts:
    """What the run says of what it has read: both fields, and the duplicate groups of images."""
    facts = images.facts({})
    read = {
        **facts.inputs,
        f"{fingerprints.EMBEDDINGS} {captions.embeddings}": captions.vectors.fingerprint,
        fingerprints.GROUPS: fingerprints.groups_fingerprint(groups),
    }
    total = len(images.target.ids()) + images.target.num_ambiguous
    left = total - len(images.ids) - images.target.num_ambiguous
    skipped = {why: count for why, count in facts.skipped.items() if "label id" in why}
    return replace(
        facts,
        parameters={**facts.parameters, "embeddings": [images.embeddings, captions.embeddings]},
        inputs=read,
        read=total,
        skipped={**skipped, **({NO_CAPTION: left} if left else {})},
    )


def _own_facts(
    found: "CaptionFit",
    captions: Inputs,
    joint: bool,
    groups: DuplicateGroups | None,
    flagged: int,
) -> dict[str, Any]:
    """What is special to this check in its result."""
    from ..analysis.caption_fit import MOST

    return {
        "flagged": flagged,
        "share": round(found.share, 4),
        "threshold": round(found.threshold, 4),
        "text_field": captions.text_field,
        "joint": joint,
        "notes": [TELLS_TOO_LITTLE] if found.share > MOST else [],
        "duplicates": groups.run_key if groups is not None else None,
    }
