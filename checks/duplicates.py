"""The check ``find_duplicates``: exact copies, near-duplicates, and leaks between splits."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
from fiftyone import ViewField as F

from ..analysis.duplicate_evidence import COPIES
from ..errors import UserError
from ..storage.findings import Column, Values, Views, matching_view, plan_findings, store_findings
from ..storage.fingerprints import FILES as READ_FILES
from ..storage.fingerprints import SPLITS as READ_SPLITS
from ..storage.fingerprints import TEXTS as READ_TEXTS
from ..storage.groups import DuplicateGroups
from ..storage.patch_names import SEPARATOR
from ..storage.runs import Run
from ..storage.target import Target
from .compared import compare_images, compare_texts, compared_texts
from .contract import FILES, REVIEW, Check, FindingFields
from .inputs import Inputs
from .parameters import checked_threshold

if TYPE_CHECKING:
    from ..analysis.duplicates import Duplicates

APART = Column(
    "apart",
    fo.ListField,
    "The ids of samples in its group that were reviewed as not being duplicates of this one",
    {"subfield": fo.StringField},
)

FOUND = (
    Column("group", fo.IntField, "The number of the duplicate group; empty outside groups"),
    Column(
        "kind",
        fo.StringField,
        "exact: the same bytes or pixels as another of the group; near: verified on the pixels",
    ),
    Column(
        "keep",
        fo.BooleanField,
        "Whether this is the representative of its group; the others are redundant",
    ),
    Column("change", fo.StringField, "How this differs from the representative of its group"),
    Column(
        "similarity",
        fo.FloatField,
        "Cosine similarity to the representative of the group, from -1 to 1",
    ),
    Column(
        "agreement",
        fo.FloatField,
        "Agreement of the pixels with the representative, from 0 to 1",
    ),
)

# What the columns hold where texts are compared.
MEANINGS_OF_TEXTS = {
    "kind": "exact: the same text as another of the group, except for case, punctuation and "
    "spaces; near: a few words differ",
    "agreement": "Agreement of the words with the representative, from 0 to 1",
}

# The default name of a run that compares texts: both kinds of duplicates can stand side by side.
TEXT_RUN_KEY = "text_duplicates"

# Which member of a group represents it, within a split; "auto": a labeled one, then the largest.
KEPT = ("auto", "largest", "oldest", "newest")

DUPLICATES = Check(
    name="find_duplicates",
    needs=frozenset({FILES}),
    columns=(*FOUND, REVIEW, APART),
    views={
        "groups": "All duplicates by group, representative first",
        "redundant": "Redundant duplicates: all but the representative of each group",
        "leaks": "Groups of duplicates with members in several splits",
        "conflicts": "Groups of duplicates with different labels",
    },
    finding=FindingFields(
        kind="duplicate",
        column="group",
        order=(("group", 1), ("keep", -1)),
        reported=("group", "kind", "keep", "change", "similarity", "agreement"),
    ),
    would_find="duplicates and leaks between splits",
    count=("redundant", "redundant"),
)


def find_duplicates(
    inputs: Inputs,
    *,
    split: str | list | None = None,
    threshold: str | float = "auto",
    keep: str = "auto",
    text_field: str | None = None,
    run_key: str | None = None,
) -> dict[str, Any]:
    """Finds duplicates among the inputs, stores them, and returns what was found.

    Args:
        inputs: what is compared; without embeddings, only exact copies are found
        split, threshold, keep, text_field, run_key: as of the operator

    Raises:
        UserError: if the input is at fault; an earlier run of the name then stays
    """
    started = time.monotonic()
    target, progress = inputs.target, inputs.progress
    wanted = checked_threshold(threshold)
    if keep not in KEPT:
        raise UserError(f"keep={keep!r} must be one of {', '.join(map(repr, KEPT))}")
    texts = compared_texts(inputs, text_field, keep)
    run = plan_findings(
        target,
        DUPLICATES.name,
        run_key,
        DUPLICATES.columns,
        [*DUPLICATES.views],
        TEXT_RUN_KEY if texts else None,
    )
    asked = (split, wanted, keep, _apart(inputs, run))
    found, notes = compare_texts(inputs, texts, *asked) if texts else compare_images(inputs, *asked)
    groups = ordered_groups(found)
    changes = changes_from_kept(found)
    result = {**_result(found, changes), "compared": compared(texts), "notes": notes}
    parameters = {"split": split, "threshold": threshold, "keep": keep, "text_field": texts}
    facts = inputs.facts(parameters, READ_TEXTS if texts else READ_FILES, READ_SPLITS)
    facts = replace(
        facts,
        evaluated=len(inputs.ids) - len(found.skipped),
        skipped=dict(Counter(facts.skipped) + Counter(found.skipped.values())),
        seconds=round(time.monotonic() - started, 2),
        special=result,
    )
    progress.say("Storing the groups")
    leaking, conflicting = (
        sorted({int(number) for number in groups[np.isin(found.group, some)]})
        for some in (found.leaking, found.conflicts)
    )
    saved = store_findings(
        target,
        run,
        columns_found(texts),
        _values(found, groups, changes, inputs.ids),
        lambda: _views(target, run, {"leaks": leaking, "conflicts": conflicting}),
        facts,
        results={"ids": " ".join(inputs.ids)},
        kept=(REVIEW, APART),
    )
    if texts == inputs.text_field:
        inputs.duplicates = DuplicateGroups(run.key, np.where(found.group >= 0, groups, -1))
    return {"run_key": run.key, **facts.as_dict(), "views": list(saved)}


def compared(text_field: str | None) -> str:
    """What a run has compared, in words."""
    return "images" if text_field is None else f"the texts in {text_field}"


def columns_found(text_field: str | None) -> tuple[Column, ...]:
    """The columns that a run fills, with what they mean of images, or of texts."""
    if text_field is None:
        return FOUND
    return tuple(
        replace(column, meaning=MEANINGS_OF_TEXTS.get(column.name, column.meaning))
        for column in FOUND
    )


def _apart(inputs: Inputs, run: Run) -> np.ndarray:
    """Pairs of rows of which a person says that they are no duplicates: ``(num_pairs, 2)``."""
    name = f"{run.key}_{APART.name}"
    said = inputs.target.only(inputs.ids).values(name) if inputs.target.has_field(name) else {}
    rows = {id_: row for row, id_ in enumerate(inputs.ids)}
    rows |= {
        f"{id_.partition(SEPARATOR)[0]}{SEPARATOR}{item[0]}": row
        for row, (id_, item) in enumerate(zip(inputs.ids, inputs.items))
    }
    pairs = [
        (rows[id_], rows[other])
        for id_, (others,) in said.items()
        for other in others or ()
        if id_ in rows and other in rows
    ]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _result(found: "Duplicates", changes: dict[int, tuple[str, float, float]]) -> dict[str, Any]:
    """What is special to this check in its result."""
    num_groups = int(found.group.max(initial=-1)) + 1
    near = near_groups(found)
    return {
        "exact_groups": num_groups - len(near),
        "near_groups": len(near),
        "exact_redundant": sum(kind in COPIES for kind, _, _ in changes.values()),
        "redundant": int((~found.keep).sum()),
        "near_redundant": int((~found.keep & np.isin(found.group, sorted(near))).sum()),
        "leaks": [{"splits": list(pair), "groups": count} for pair, count in found.leaks.items()],
        "conflicts": len(found.conflicts),
        # How many words differ is stored for each.
        "changes": dict(
            Counter(kind.partition(":")[0] for kind, _, _ in changes.values()).most_common()
        ),
        "threshold": round(found.threshold, 4),
    }


def _views(target: Target, run: Run, special: dict[str, list[int]]) -> Views:
    """Saved views of a run; those of special groups where there are some."""
    group, keep = f"{run.key}_group", f"{run.key}_keep"
    order = [(group, 1), (keep, -1)]
    views = {
        "groups": matching_view(target, F(group) != None, order),  # noqa: E711
        "redundant": matching_view(target, F(keep) == False, [(group, 1)]),  # noqa: E712
    }
    for name, groups in special.items():
        if groups:
            views[name] = matching_view(target, F(group).is_in(groups), order)
    return {what: (view, DUPLICATES.views[what]) for what, view in views.items()}


def ordered_groups(found: "Duplicates") -> np.ndarray:
    """Group numbers in the order of a review: leaks first, then groups whose labels disagree.

    Returns:
        (n,) int64, -1 in none
    """
    num_groups = int(found.group.max(initial=-1)) + 1
    numbers = np.arange(num_groups)
    leads = np.isin(numbers, found.leaking) * 2 + np.isin(numbers, found.conflicts)
    places = np.empty(num_groups, np.int64)
    places[np.lexsort((numbers, -leads))] = numbers
    return np.where(found.group >= 0, places[found.group], -1) if num_groups else found.group


def near_groups(found: "Duplicates") -> set[int]:
    """The groups that are held together by more than exact copies."""
    left = found.group[found.evidence.pairs[:, 0]]
    right = found.group[found.evidence.pairs[:, 1]]
    return {
        int(one)
        for one, other, kind in zip(left, right, found.evidence.kind)
        if one == other and one >= 0 and kind not in COPIES
    }


def changes_from_kept(found: "Duplicates") -> dict[int, tuple[str, float, float]]:
    """How each redundant row differs from the representative of its group.

    Returns:
        kind of change, similarity and agreement by row
    """
    evidence = found.evidence
    # Of texts there is evidence of each with the one that is kept.
    direct = {pair: place for place, pair in enumerate(map(tuple, evidence.pairs.tolist()))}
    # Copies are linked with the first of their set, and other evidence is of the first ones.
    first: dict[int, int] = {}
    of_copy: dict[int, int] = {}
    of_pair: dict[tuple[int, int], int] = {}
    for place, (one, other) in enumerate(evidence.pairs.tolist()):
        if evidence.kind[place] in COPIES:
            first[other], of_copy[other] = one, place
    for place, (one, other) in enumerate(evidence.pairs.tolist()):
        if evidence.kind[place] not in COPIES:
            of_pair.setdefault(_sorted(first.get(one, one), first.get(other, other)), place)
    kept = {int(found.group[row]): int(row) for row in np.flatnonzero(found.keep)}
    changes = {}
    for row in np.flatnonzero(~found.keep).tolist():
        other = kept[int(found.group[row])]
        mine, theirs = first.get(row, row), first.get(other, other)
        found_in: int | None
        if _sorted(row, other) in direct:
            found_in = direct[_sorted(row, other)]
        elif mine == theirs:
            places = [of_copy[one] for one in (row, other) if one in of_copy]
            # The bytes are the same only if those of both are the first one's.
            found_in = max(places, key=lambda place: COPIES.index(evidence.kind[place]))
        else:
            found_in = of_pair.get(_sorted(mine, theirs))
        if found_in is not None:
            changes[row] = (
                evidence.kind[found_in],
                float(evidence.similarity[found_in]),
                float(evidence.agreement[found_in]),
            )
    return changes


def _sorted(one: int, other: int) -> tuple[int, int]:
    return (one, other) if one < other else (other, one)


def _values(
    found: "Duplicates",
    groups: np.ndarray,
    changes: dict[int, tuple[str, float, float]],
    ids: Sequence[str],
) -> Values:
    members = np.flatnonzero(groups >= 0).tolist()

    def measured(place: int) -> dict[str, Any]:
        known = {ids[row]: change[place] for row, change in changes.items()}
        return {id_: value for id_, value in known.items() if not np.isnan(value)}

    return {
        "group": {ids[row]: int(groups[row]) for row in members},
        "kind": {ids[row]: "exact" if found.exact[row] else "near" for row in members},
        "keep": {ids[row]: bool(found.keep[row]) for row in members},
        "change": {ids[row]: change[0] for row, change in changes.items()},
        "similarity": measured(1),
        "agreement": measured(2),
    }
