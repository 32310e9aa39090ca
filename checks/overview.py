"""What the runs of a dataset have found, kept: one finding per line of an audit, with its state.

The audit shows it for its results, the home panel for the stored runs, in the same words.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import fiftyone as fo

from ..storage.few import few, media_field, rows_where
from ..storage.findings import HISTORY
from ..storage.runs import Run, plugin_runs
from ..storage.separability import read_separability
from .caption_issues import CAPTION_ISSUES
from .clusters import CLUSTERS
from .comparison import COMPARISON
from .duplicates import DUPLICATES
from .label_issue_columns import LABEL_ISSUES
from .outliers import OUTLIERS
from .progress import counted, percent
from .queues import Queue, has_queue, queue_of
from .separability import SEPARABILITY, weak_classes

# Checks whose findings are counted over time.
COUNTED = (DUPLICATES, LABEL_ISSUES, CAPTION_ISSUES, OUTLIERS)

# Weakest classes that a finding names, and images that stand for one.
NAMED, IMAGES = 3, 5

# What a run says of findings that a person has marked as solved.
SOLVED = "solved"


# Findings that are looked at as a whole: there is no decision about one sample after the other.
# Which label of a group of duplicates is right is no question of which copy to remove.
WHOLE = ("conflicts", "groups")


@dataclass(frozen=True)
class FindingSummary:
    """One kind of finding of a check, summed up.

    Attributes:
        kind: ``leaks``, ``conflicts``, ``exact``, ``near``, ``label issues``, ``captions``,
            ``outliers``, ``groups``, ``new``, ``duplicates``, ``missing``, ``clusters``,
            ``slices`` or ``weak classes``
        check: the check's name
        run_key: the run
        what: how many of what, in words
        how_sure: how sure that is, or more of it
        count: how many
        view: the saved view that shows them, or None
    """

    kind: str
    check: str
    run_key: str
    what: str
    how_sure: str
    count: int
    view: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As the audit reports it."""
        names = ("what", "how_sure", "count", "view")
        return {name: getattr(self, name) for name in names}


def findings_of(steps: Mapping[str, Mapping[str, Any]]) -> list[FindingSummary]:
    """What was found, the most urgent first.

    Args:
        steps: the result of each check, by its name
    """
    found: list[FindingSummary] = []
    if duplicates := steps.get(DUPLICATES.name):
        found += _of_duplicates(duplicates)
    if issues := steps.get(LABEL_ISSUES.name):
        share = issues["expected_precision"]
        sure = "estimated by cleanlab"
        if issues["expected_precision"] is None:
            sure += ", with too little evidence to say how many are wrong"
        if issues.get("threshold") is not None:
            sure = f"of quality {issues['threshold']:.2f} or less"
        if share is not None:
            expected = f"about {percent(share)}" if share >= 0.01 else "hardly any"
            sure += f", {expected} of these labels wrong"
        what = counted(issues["flagged"], "label issue")
        one = _summary("label issues", LABEL_ISSUES.name, issues, what, sure, issues["flagged"])
        found.append(one)
    if captions := steps.get(CAPTION_ISSUES.name):
        sure = "the share of correct flags is not estimated"
        verb = "does" if captions["flagged"] == 1 else "do"
        what = f"{counted(captions['flagged'], 'caption')} that {verb} not match the image"
        one = _summary("captions", CAPTION_ISSUES.name, captions, what, sure, captions["flagged"])
        found.append(one)
    if outliers := steps.get(OUTLIERS.name):
        reasons = ", ".join(
            f"{count:,} {why if count == 1 else why.replace('its class', 'their class')}"
            for why, count in outliers["reasons"].items()
        )
        what = counted(outliers["flagged"], "outlier")
        one = _summary("outliers", OUTLIERS.name, outliers, what, reasons, outliers["flagged"])
        found.append(one)
        # Runs of earlier versions did not look for groups.
        if groups := outliers.get("groups"):
            sizes = ", ".join(f"{group['count']:,}" for group in groups)
            what = f"{counted(len(groups), 'group')} unlike the rest"
            text = f"{sizes} similar to each other"
            found.append(
                _summary("groups", OUTLIERS.name, outliers, what, text, len(groups), "groups")
            )
    if comparison := steps.get(COMPARISON.name):
        found += _of_comparison(comparison)
    if clusters := steps.get(CLUSTERS.name):
        worse = [row for row in clusters["clusters"] if row.get("worse")]
        named = "; ".join(
            f"{row['cluster']}: accuracy {percent(row['accuracy'])}" for row in worse[:NAMED]
        )
        what = f"{counted(len(worse), 'cluster')} worse than the rest"
        found.append(
            _summary("clusters", CLUSTERS.name, clusters, what, named, len(worse), shown_in="worse")
        )
        # Runs of earlier versions did not look at properties of images.
        if slices := clusters.get("slices"):
            what = f"{counted(len(slices), 'slice')} with more errors"
            named = "; ".join(f"{row['slice']}: {percent(row['share'])}" for row in slices[:NAMED])
            sure, shown_in = f"labels and predictions disagree on {named}", slices[0]["slice"]
            errors = sum(row["errors"] for row in slices)
            found.append(
                _summary("slices", CLUSTERS.name, clusters, what, sure, errors, shown_in=shown_in)
            )
    separability = steps.get(SEPARABILITY.name)
    if separability and len(separability["classes"]) > 1:
        weak = weak_classes(separability["classes"])
        named = "; ".join(f"{row['label']}: {row['verdict']}" for row in weak[:NAMED])
        what = counted(len(weak), "weak class")
        one = _summary(
            "weak classes", SEPARABILITY.name, separability, what, named, len(weak), shown_in=None
        )
        found.append(one)
    return [one for one in found if one.count]


def _summary(
    kind: str,
    check: str,
    result: Mapping[str, Any],
    what: str,
    how_sure: str,
    count: int,
    shown_in: str | None = "flagged",
) -> FindingSummary:
    view = f"{result['run_key']}: {shown_in}"
    # A view is named only if it was saved.
    saved = view if view in (result.get("views") or ()) else None
    return FindingSummary(kind, check, result["run_key"], what, how_sure, count, saved)


def _of_comparison(result: Mapping[str, Any]) -> list[FindingSummary]:
    other = result["parameters"]["other"]
    summaries = (
        ("new", f"{result['new']:,} new {result['things']}", f"unlike anything in {other}"),
        ("duplicates", f"{result['duplicates'] or 0:,} {result['things']} in {other} already", ""),
        ("missing", f"{result['missing']:,} {result['things']} missing", f"of {other}"),
    )
    return [
        _summary(kind, COMPARISON.name, result, what, sure, result[kind] or 0, kind)
        for kind, what, sure in summaries
    ]


def _of_duplicates(result: Mapping[str, Any]) -> list[FindingSummary]:
    leaks = sum(leak["groups"] for leak in result["leaks"])
    between = ", ".join(" and ".join(leak["splits"]) for leak in result["leaks"])
    # Of groups that hold both, the copies count here.
    copies = result["exact_redundant"] - (result["redundant"] - result["near_redundant"])
    beside = f"; {copies:,} of the redundant ones are exact copies" if copies else ""
    of_texts = result.get("parameters", {}).get("text_field") is not None
    copied, equal, proved = (
        ("exact copies", "the same bytes or pixels", "verified by comparing the pixels")
        if not of_texts
        else (
            "equal texts",
            f"{result['compared']}, except for case and punctuation",
            "a few words differ",
        )
    )
    summaries = (
        (
            "leaks",
            f"{counted(leaks, 'group')} of duplicates across {between}",
            f"{'equal or nearly equal texts' if of_texts else 'verified on the pixels'}; metrics "
            "on such a split are too optimistic",
            leaks,
            "leaks",
        ),
        (
            "conflicts",
            f"{counted(result['conflicts'], 'group')} of duplicates with different labels",
            "at least one label in each is wrong",
            result["conflicts"],
            "conflicts",
        ),
        (
            "exact",
            f"{counted(result['exact_groups'], 'group')} of {copied}",
            equal,
            result["exact_groups"],
            "redundant",
        ),
        (
            "near",
            f"{counted(result['near_groups'], 'group')} of near-duplicates",
            f"{proved}{beside}",
            result["near_groups"],
            "redundant",
        ),
    )
    return [
        _summary(kind, DUPLICATES.name, result, what, sure, count, view)
        for kind, what, sure, count, view in summaries
    ]


# Of stored runs


@dataclass(frozen=True)
class Card:
    """A finding of a stored run, and how far a person is with it.

    Attributes:
        found: the finding
        run: its run
        queue: what there is to decide, and what is decided; None if it is not decided one by one
        precision: which share of the reviewed flags was real, or None
        solved: whether a person has marked it as solved
        before: how many the run found that this one has replaced, and when; None if there was none
    """

    found: FindingSummary
    run: Run
    queue: Queue | None
    precision: float | None
    solved: bool
    before: tuple[int, str] | None = None


def read_cards(dataset: fo.Dataset) -> list[Card]:
    """The findings of all finished runs, the most urgent first, those of one run together.

    Raises:
        UserError: if what a run has stored cannot be read
    """
    cards = []
    runs = [run for run in plugin_runs(dataset) if run.finished and run.unreadable is None]
    checks = (DUPLICATES, LABEL_ISSUES, CAPTION_ISSUES, OUTLIERS, COMPARISON, CLUSTERS)
    order = [check.name for check in (*checks, SEPARABILITY)]
    runs = [run for run in runs if run.operator in order]
    runs.sort(key=lambda run: (order.index(run.operator), run.key))
    for run in runs:
        queue = queue_of(dataset, run) if has_queue(run) and not run.facts.about.frames else None
        solved = run.facts.special.get(SOLVED) or ()
        reviews = run.facts.special.get("reviews") or {}
        before = (_history(run) or (None,))[-1]
        for found in findings_of({run.operator: _result(dataset, run)}):
            precision = reviews.get("measured_precision")
            earlier = (before.counts.get(found.kind, 0), before.written_at) if before else None
            asked = None if found.kind in WHOLE else queue
            cards.append(Card(found, run, asked, precision, found.kind in solved, earlier))
    return cards


@dataclass(frozen=True)
class Earlier:
    """What a run found that another one has replaced, or has now.

    Attributes:
        written_at: when, in UTC (ISO 8601)
        counts: how many of each kind of finding
        accuracy: balanced accuracy of held-out predictions, in [0, 1]; None if not measured
    """

    written_at: str
    counts: dict[str, int]
    accuracy: float | None = None


def _history(run: Run) -> list[Earlier]:
    """What the runs found that this one has replaced, the earliest first.

    Those with other parameters are left out, embeddings say: another count of theirs says nothing
    of the dataset.
    """
    now = dict(run.facts.parameters)
    earlier = run.facts.special.get(HISTORY) or ()
    alike = [one for one in earlier if one.get("parameters", now) == now]
    return [_earlier(run, one["told"], one["written_at"]) for one in alike]


def _earlier(run: Run, stored: Mapping[str, Any], written_at: str) -> Earlier:
    if run.operator == SEPARABILITY.name:
        accuracy = (stored.get("overall") or {}).get("balanced_accuracy")
        return Earlier(written_at, {}, accuracy)
    if run.operator not in [check.name for check in COUNTED]:
        return Earlier(written_at, {})  # what they report is not a count
    found = findings_of({run.operator: {**stored, "run_key": run.key}})
    return Earlier(written_at, {one.kind: one.count for one in found})


def read_history(runs: Iterable[Run]) -> dict[tuple[str, str], list[tuple[str, float]]]:
    """How what the runs report has changed: by run and kind, when it was reported and how much.

    Counts of each kind of finding, and ``accuracy``, in [0, 1]; the earliest first. Runs that have
    replaced none are skipped.

    Args:
        runs: finished runs of a dataset
    """
    lines: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for run in runs:
        history = _history(run)
        if not history:
            continue
        history.append(_earlier(run, run.facts.special, run.written_at or ""))
        for kind in dict.fromkeys(kind for one in history for kind in one.counts):
            lines[run.key, kind] = [(one.written_at, one.counts.get(kind, 0)) for one in history]
        measured = [(one.written_at, one.accuracy) for one in history if one.accuracy is not None]
        if measured:
            lines[run.key, "accuracy"] = measured
    return lines


def _result(dataset: fo.Dataset, run: Run) -> dict[str, Any]:
    """What a run has stored, as its operator returned it."""
    result = {"run_key": run.key, **run.facts.as_dict(), "views": list(run.views)}
    if run.operator == SEPARABILITY.name:
        result["classes"] = read_separability(dataset, run).report["classes"]
    return result


def images_of(dataset: fo.Dataset, card: Card) -> list[tuple[str, Any]]:
    """The files, and the boxes of patches, of a few of what was found, undecided ones first."""
    if card.queue is None:
        return _images_of_ids(dataset, card.run, _first_of_view(dataset, card))
    kinds = {"exact": "exact", "near": "near"}
    queue = card.queue
    if card.found.kind in kinds:
        kind = {f"{card.run.key}_kind": [kinds[card.found.kind]]}
        of_kind = {id_ for (id_,) in rows_where(dataset, card.run.facts.about, kind)}
        queue = dataclasses.replace(queue, ids=tuple(id_ for id_ in queue.ids if id_ in of_kind))
    chosen = [id_ for id_ in queue.ids if id_ not in queue.decided][:IMAGES]
    return _images_of_ids(dataset, card.run, chosen)


def _first_of_view(dataset: fo.Dataset, card: Card) -> list[str]:
    """The first samples of what is looked at as a whole; of patches, none."""
    about, view = card.run.facts.about, card.found.view
    if card.found.kind not in WHOLE or view is None or about.patches_field or about.frames:
        return []
    return dataset.load_saved_view(view).limit(IMAGES).values("id")


def _images_of_ids(dataset: fo.Dataset, run: Run, ids: list[str]) -> list[tuple[str, Any]]:
    if not ids:
        return []
    target = few(dataset, run.facts.about, ids)
    name = media_field(dataset)
    files = dict(zip(*target.view.values(["id", name])))
    boxes = {
        id_: (files[item.sample_id] or item.filepath, box)
        for item in target.items(set(target.ids()))
        for id_, box in zip(item.ids, item.boxes or [None])
    }
    return list(boxes.values())
