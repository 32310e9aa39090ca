"""``find_duplicates``: exact copies, near-duplicates, and leaks between splits."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import fiftyone.operators.types as types
import numpy as np
from fiftyone import ViewField as F

from ..steps import part_of
from ..storage.findings import Column, matching_view, plan_findings, store_findings
from ..storage.labels import read_splits, split_fields
from ..storage.targets import resolve_target
from ..storage.vectors import vector_fields
from .base import (
    QualityOperator,
    checked_threshold,
    choice_input,
    labels_input,
    patches_input,
    run_key_input,
    skipped_lines,
)
from .inputs import Inputs
from .progress import Progress, counted, duration

if TYPE_CHECKING:
    from ..analysis.duplicates import Duplicates

VIEWS = ("groups", "redundant", "leaks")
COLUMNS = ("group", "kind", "keep", "change", "similarity", "agreement")

# For the forecast in the form: pictures read per second by two cores, and the time to start.
PICTURES_PER_SECOND, STARTING_SECONDS = 250, 5


class FindDuplicates(QualityOperator):
    name = "find_duplicates"
    label = "Quality: find duplicates"
    description = (
        "Find exact copies and near-duplicates (mirrored, cropped, resized, recompressed, "
        "retouched) of images or object patches, proved by comparing the pictures, choose which "
        "one of each group to keep, and count leaks between splits"
    )
    icon = "content_copy"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        embeddings: str | None = None,
        patches_field: str | None = None,
        label_field: str | None = None,
        split: str | list | None = None,
        threshold: str | float = "auto",
        run_key: str | None = None,
        seed: int = 51,
    ) -> dict[str, Any]:
        """Finds duplicates and stores the groups.

        Candidates come from the neighbour graph of the vectors; comparing the pictures proves
        them. Nothing is removed: the saved view ``duplicates: redundant`` shows what could be.

        Args:
            samples: a dataset or view
            embeddings (None): the field of the vectors; without it, only exact copies are found
            patches_field (None): the field of the objects to compare, instead of whole images
            label_field (None): a label field: labeled samples are kept before unlabeled ones,
                and groups whose labels disagree are reported
            split (None): a field that names the split of each sample, ``"tags"``, or a list of
                tags: leaks between splits are reported, and the test member of a group is kept
            threshold ("auto"): how far the details of two pictures must agree, from 0 to 1; higher
                finds fewer pairs. By default it is read off the pictures of this set
            run_key (None): the name of the run, by default ``duplicates``
            seed (51): of the neighbour search, where that is approximate

        Returns:
            a dict with ``exact_groups``, ``near_groups``, ``redundant``, ``leaks``,
            ``conflicts``, ``changes``, ``skipped``, …

        Raises:
            UserError: if the input is at fault; an earlier run of the name then stays
        """
        inputs = Inputs(
            samples,
            progress,
            embeddings=embeddings,
            patches_field=patches_field,
            label_field=label_field,
            seed=seed,
        )
        return find_and_store(inputs, split=split, threshold=threshold, run_key=run_key)

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        patches_field = patches_input(ctx, samples, inputs, "Compare")
        target = resolve_target(samples, patches_field)
        fields = vector_fields(target)
        choice_input(
            inputs,
            "embeddings",
            fields,
            label="Embeddings",
            description="The field with the vectors that propose near-duplicates",
            none="None: exact copies only",
            default=fields[0] if fields else None,
        )
        choice_input(
            inputs,
            "split",
            split_fields(target),
            label="Split",
            description="Where train, test, … are named: leaks between them are listed first",
            none="None",
        )
        labels_input(target, inputs, "Groups whose labels disagree are reported", required=False)
        inputs.str(
            "threshold",
            default="auto",
            label="Threshold",
            description="How far details must agree, from 0 to 1: higher finds fewer pairs",
        )
        run_key_input(ctx, target, self.name, COLUMNS, VIEWS, inputs)
        checked_threshold(self._parameters(ctx.params, from_form=True)["threshold"])
        count = len(target.ids())
        took = duration(STARTING_SECONDS + count / PICTURES_PER_SECOND)
        inputs.view(
            "plan",
            types.Notice(
                label=f"{counted(count, target.things[:-1])} will be compared, which takes roughly "
                f"{took}"
            ),
        )

    def summary(self, result: dict[str, Any]) -> str:
        things, key = result["things"], result["run_key"]
        groups = result["exact_groups"] + result["near_groups"]
        lines = [
            f"**{counted(groups, 'group')} of duplicates** among {result['judged']:,} {things}: "
            f"{result['exact_groups']:,} exact, {result['near_groups']:,} near; "
            f"**{counted(result['redundant'], things[:-1])}** could go"
        ]
        for leak in result["leaks"]:
            first, second = leak["splits"]
            count = counted(leak["groups"], "group")
            verb = "has" if leak["groups"] == 1 else "have"
            lines.append(
                f"- **{count} {verb} members in both {first} and {second}** "
                f"(saved view `{key}: leaks`)"
            )
        if result["conflicts"]:
            lines.append(f"- labels disagree within {counted(result['conflicts'], 'group')}")
        if result["changes"]:
            changes = ", ".join(f"{count:,} {kind}" for kind, count in result["changes"].items())
            lines.append(f"- what tells them from the one to keep: {changes}")
        if not result["embeddings"]:
            lines.append("- exact copies only: choose embeddings to find near-duplicates")
        lines += skipped_lines(result)
        if groups:
            lines.append(
                f"- saved views `{key}: groups` and `{key}: redundant`; nothing was removed"
            )
        lines.append(f"- {duration(result['seconds'])} in all")
        return "\n".join(lines)


def find_and_store(
    inputs: Inputs, *, split: str | list | None, threshold: str | float, run_key: str | None
) -> dict[str, Any]:
    """Finds duplicates among the inputs, stores them, and returns the operator's result."""
    from ..analysis.duplicates import find_duplicates
    from ..pictures.file_copies import exact_copies
    from ..pictures.small_pictures import Picture, read_small_pictures

    started = time.monotonic()
    target, progress = inputs.target, inputs.progress
    wanted = checked_threshold(threshold)
    run = plan_findings(target, FindDuplicates.name, run_key, COLUMNS, VIEWS)
    ids = inputs.ids
    samples, files, boxes = zip(*inputs.items)
    pictures = [Picture(file, box) for file, box in zip(files, boxes)]
    labels = inputs.codes if inputs.label_field is not None else None
    splits = read_splits(target, split, samples) if split is not None else None
    rows, graph = (inputs.rows, inputs.graph) if inputs.embeddings else (None, None)
    with progress.share("Comparing the pictures", len(ids), target.things) as report:
        small = read_small_pictures(pictures, part_of(report, 0.0, 0.6))
        copies = exact_copies(small, part_of(report, 0.6, 0.7))
        found = find_duplicates(
            small,
            copies,
            rows,
            graph,
            threshold=wanted,
            labels=labels,
            splits=splits,
            progress=part_of(report, 0.7, 1.0),
        )
    groups = ordered_groups(found)
    changes = changes_from_kept(found)
    progress.say("Storing the groups")
    columns = _columns(found, groups, changes, ids)
    near = near_groups(found)
    num_groups = int(found.group.max(initial=-1)) + 1
    facts = inputs.facts(run, {"split": split, "threshold": threshold})
    skipped = Counter(facts["skipped"]) + Counter(found.skipped.values())
    result = {
        **facts,
        "judged": len(ids) - len(found.skipped),
        "skipped": dict(skipped),
        "exact_groups": num_groups - len(near),
        "near_groups": len(near),
        "redundant": int((~found.keep).sum()),
        "leaks": [{"splits": list(pair), "groups": count} for pair, count in found.leaks.items()],
        "conflicts": len(found.conflicts),
        "changes": dict(Counter(kind for kind, _, _ in changes.values()).most_common()),
        "threshold": round(found.threshold, 4),
        "seconds": round(time.monotonic() - started, 2),
    }
    leaking = np.isin(found.group, found.leaking)

    def views() -> dict[str, Any]:
        group, keep = f"{run.key}_group", f"{run.key}_keep"
        made = {
            "groups": matching_view(target, F(group) != None, [(group, 1), (keep, -1)]),  # noqa: E711
            "redundant": matching_view(target, F(keep) == False, [(group, 1)]),  # noqa: E712
        }
        if leaking.any():
            numbers = sorted({int(number) for number in groups[leaking]})
            made["leaks"] = matching_view(target, F(group).is_in(numbers), [(group, 1), (keep, -1)])
        return made

    saved = store_findings(target, run, columns, inputs.sample_ids, views, result)
    inputs.duplicates = (run.key, np.where(found.group >= 0, groups, -1))
    return {**result, "views": list(saved)}


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
        if one == other and one >= 0 and kind not in ("copy", "same pixels")
    }


def changes_from_kept(found: "Duplicates") -> dict[int, tuple[str, float, float]]:
    """What tells each redundant row from the representative of its group.

    Returns:
        kind of change, similarity and agreement by row
    """
    evidence = found.evidence
    known = {tuple(pair): place for place, pair in enumerate(evidence.pairs.tolist())}
    same: dict[int, set[int]] = {}
    for (one, other), kind in zip(evidence.pairs.tolist(), evidence.kind):
        if kind in ("copy", "same pixels"):
            same.setdefault(one, {one}).add(other)
            same.setdefault(other, {other}).add(one)
    # Copies are linked with the first of their set only.
    for rows in list(same.values()):
        rows.update(*(same[row] for row in list(rows)))
    kept = {int(found.group[row]): int(row) for row in np.flatnonzero(found.keep)}
    changes = {}
    for row in np.flatnonzero(~found.keep).tolist():
        other = kept[int(found.group[row])]
        pairs = [(row, other)]
        if other in same.get(row, ()):
            pairs = [(one, two) for one in same[row] for two in same[row]]
        else:
            pairs += [
                (one, two) for one in same.get(row, {row}) for two in same.get(other, {other})
            ]
        places = [known[tuple(sorted(pair))] for pair in pairs if tuple(sorted(pair)) in known]
        if places:
            place = places[0]
            changes[row] = (
                evidence.kind[place],
                float(evidence.similarity[place]),
                float(evidence.agreement[place]),
            )
    return changes


def _columns(
    found: "Duplicates",
    groups: np.ndarray,
    changes: dict[int, tuple[str, float, float]],
    ids: Sequence[str],
) -> dict[str, Column]:
    members = np.flatnonzero(groups >= 0).tolist()
    return {
        "group": Column(fo.IntField, {ids[row]: int(groups[row]) for row in members}),
        "kind": Column(
            fo.StringField, {ids[row]: "exact" if found.exact[row] else "near" for row in members}
        ),
        "keep": Column(fo.BooleanField, {ids[row]: bool(found.keep[row]) for row in members}),
        "change": Column(fo.StringField, {ids[row]: change[0] for row, change in changes.items()}),
        "similarity": Column(
            fo.FloatField,
            {ids[row]: change[1] for row, change in changes.items() if not np.isnan(change[1])},
        ),
        "agreement": Column(
            fo.FloatField,
            {ids[row]: change[2] for row, change in changes.items() if not np.isnan(change[2])},
        ),
    }
