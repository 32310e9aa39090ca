"""What to look at first: one line for each kind of finding, the most urgent in front."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..analysis.duplicate_evidence import COPIES

if TYPE_CHECKING:
    from ..checks.contents import Contents, Finding, ReportedRun

# Classes that are named as the weakest.
NAMED = 3


@dataclass(frozen=True)
class Lead:
    """One line of the list.

    Attributes:
        urgency: 0 for what makes results wrong, 1 for what to review, 2 for what is to know
        number: what was found, as a number to show
        title: of what
        text: why it matters and what to do
        anchor: the section of the page, or None
    """

    urgency: int
    number: str
    title: str
    text: str
    anchor: str | None


def leads(contents: "Contents") -> list[Lead]:
    """What was found, in the order in which to look at it."""
    made = {
        "find_duplicates": _of_duplicates,
        "find_label_issues": _of_label_issues,
        "find_caption_issues": _of_captions,
        "find_outliers": _of_outliers,
        "compute_separability": _of_separability,
        "find_clusters": _of_clusters,
        "suggest_labels": _of_suggestions,
        "select_samples": _of_selection,
    }
    found = []
    for name, leads_of in made.items():
        runs = contents.runs_of(name)
        for reported in runs:
            which = f" (run {reported.run.key})" if len(runs) > 1 else ""
            found += [replace(lead, title=lead.title + which) for lead in leads_of(reported)]
    return sorted(found, key=lambda lead: lead.urgency)


def percent(share: float | None) -> str:
    if share is None:
        return "–"
    if 0 < share < 0.005:
        return "<1\u00a0%"
    if 0.995 <= share < 1:
        return ">99\u00a0%"
    return f"{100 * share:.0f}\u00a0%"


def _of_duplicates(reported: "ReportedRun") -> list[Lead]:
    noun, anchor = reported.noun, f"run-{reported.run.key}"
    of_texts = bool(reported.run.facts.parameters.get("text_field"))
    groups: dict[int, list] = {}
    for finding in reported.findings:
        groups.setdefault(finding.group, []).append(finding)
    made = []
    if leaking := sum(group in reported.leaking for group in groups):
        made.append(
            Lead(
                0,
                f"{leaking:,}",
                _noun(leaking, "leak between splits", "leaks between splits"),
                f"The same {'text' if of_texts else 'image'} in {_splits(reported)}: metrics on "
                "such a test set are too optimistic. Remove one side first.",
                anchor,
            )
        )
    conflicts = sum(len({f.label for f in group if f.label}) > 1 for group in groups.values())
    if conflicts and reported.facts.get("conflicts"):
        made.append(
            Lead(
                0,
                f"{conflicts:,}",
                _noun(conflicts, "group of copies", "groups of copies") + " with different labels",
                "At least one label in each is wrong or ambiguous.",
                anchor,
            )
        )
    texts = {
        "exact": "Identical pixels; one of each group is enough.",
        "near": "Mirrored, cropped, resized or retouched; review them, then keep one.",
    }
    if of_texts:
        texts = {
            "exact": "The same text except for case and punctuation; their images were not "
            "compared.",
            "near": "A few words differ; review them. Their images were not compared.",
        }
    for kind, text in texts.items():
        some = [group for group in groups.values() if is_exact(group) == (kind == "exact")]
        extra = sum(not f.keep for group in some for f in group)
        if some:
            made.append(
                Lead(
                    1,
                    f"{extra:,}",
                    f"redundant {noun}, {kind} duplicates",
                    f"In {len(some):,} {_noun(len(some), 'group', 'groups')}. {text}",
                    anchor,
                )
            )
    if not groups:
        made.append(Lead(2, "0", "duplicates", "None found.", anchor))
    return made


def is_exact(group: "Sequence[Finding]") -> bool:
    """Whether a group of duplicates holds copies of one image, and nothing that is merely alike."""
    return all(finding.keep or finding.change in COPIES for finding in group)


def _splits(reported: "ReportedRun") -> str:
    pairs = [" and ".join(leak["splits"]) for leak in reported.facts.get("leaks", ())]
    return ", ".join(pairs) or "several splits"


def _of_label_issues(reported: "ReportedRun") -> list[Lead]:
    count, facts = len(reported.findings), reported.facts
    anchor = f"run-{reported.run.key}"
    if not count:
        return [Lead(2, "0", "label issues", "None found.", anchor)]
    text = "Review the worst first; a flag is evidence, not a verdict."
    if (precision := facts.get("expected_precision")) is not None:
        text = (
            f"About {round(count * precision):,} of them ({percent(precision)}) are expected to be "
        )
        text += "correct. Review the worst first; a flag is evidence, not a verdict."
    made = [Lead(1, f"{count:,}", _noun(count, "label issue", "label issues"), text, anchor)]
    for warning in facts.get("warnings", ()):
        made.append(Lead(0, "!", "warning", warning, anchor))
    return made


def _of_captions(reported: "ReportedRun") -> list[Lead]:
    count, anchor = len(reported.findings), f"run-{reported.run.key}"
    if not count:
        return [Lead(2, "0", "caption issues", "None found.", anchor)]
    text = "They match other images better; the share of correct flags is not estimated. "
    text += "Review the worst first."
    return [Lead(1, f"{count:,}", _noun(count, "caption issue", "caption issues"), text, anchor)]


def _of_outliers(reported: "ReportedRun") -> list[Lead]:
    count, anchor = len(reported.findings), f"run-{reported.run.key}"
    groups = _of_groups(reported, anchor)
    if not count:
        return [*groups, Lead(2, "0", "outliers", "None found.", anchor)]
    reasons: dict[str, int] = {}
    for finding in reported.findings:
        reasons[finding.reason or "unlike the other samples"] = reasons.get(finding.reason, 0) + 1
    largest = sorted(reasons.items(), key=lambda item: -item[1])
    text = ", ".join(f"{number:,} {reason}" for reason, number in largest) + "."
    title = _noun(count, "outlier", "outliers")
    return [
        Lead(
            1,
            f"{count:,}",
            title,
            f"{text} Some are rare rather than wrong; review them first.",
            anchor,
        ),
        *groups,
    ]


def _of_groups(reported: "ReportedRun", anchor: str) -> list[Lead]:
    # Runs of earlier versions did not look for groups.
    groups = reported.run.facts.special.get("groups")
    if not groups:
        return []
    sizes = ", ".join(f"{group['count']:,}" for group in groups)
    text = f"{sizes} similar to each other, unlike the rest of the dataset; they are not counted "
    text += f"as outliers. See the saved view {reported.run.key}: groups."
    return [Lead(1, f"{len(groups):,}", _noun(len(groups), "group", "groups"), text, anchor)]


def _of_separability(reported: "ReportedRun") -> list[Lead]:
    report, anchor = reported.separability, f"run-{reported.run.key}"
    weak = [row for row in (report or {}).get("classes", ()) if row["weak"]]
    if not weak:
        return [
            Lead(2, "0", "weak classes", "No class is recognized worse than the others.", anchor)
        ]
    worst = "; ".join(f"{row['label']}, {row['advice'] or row['verdict']}" for row in weak[:NAMED])
    title = _noun(len(weak), "weak class", "weak classes")
    text = f"Recognized worse than the other classes, beyond chance: {worst}."
    return [Lead(1, f"{len(weak):,}", title, text, anchor)]


def _of_clusters(reported: "ReportedRun") -> list[Lead]:
    facts, anchor = reported.facts, f"run-{reported.run.key}"
    worse = [row for row in facts["clusters"] if row.get("worse")]
    leads = []
    if worse:
        names = "; ".join(
            f"{row['cluster']}, {percent(row['accuracy'])} right" for row in worse[:NAMED]
        )
        title = _noun(len(worse), "cluster", "clusters") + " worse than the rest"
        leads.append(Lead(1, f"{len(worse):,}", title, f"Held-out predictions: {names}.", anchor))
    if slices := facts.get("slices"):
        names = "; ".join(
            f"{row['slice']}, {percent(row['share'])} of {row['count']:,}" for row in slices[:NAMED]
        )
        title = _noun(len(slices), "slice", "slices") + " with more errors"
        text = f"Labels and held-out predictions disagree: {names}."
        leads.append(Lead(1, f"{len(slices):,}", title, text, anchor))
    return leads


def _of_suggestions(reported: "ReportedRun") -> list[Lead]:
    count, facts = len(reported.findings), reported.facts
    text = f"{facts['abstained']:,} {reported.noun} remain to be reviewed."
    if facts.get("expected_precision") is not None:
        text = f"{percent(facts['expected_precision'])} are expected to be correct. {text}"
    title = _noun(count, "suggested label", "suggested labels")
    return [Lead(1 if count else 2, f"{count:,}", title, text, f"run-{reported.run.key}")]


def _of_selection(reported: "ReportedRun") -> list[Lead]:
    count, covered = len(reported.findings), reported.facts["coverage"][-1]["covered"]
    text = "Label, review or keep them first, in this order: "
    text += f"{percent(covered)} are close to a selected one."
    return [Lead(2, f"{count:,}", f"selected {reported.noun}", text, f"run-{reported.run.key}")]


def _noun(count: int, one: str, many: str) -> str:
    return one if count == 1 else many
