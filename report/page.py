"""The page: which findings get an image, and everything filled into ``template.html``.

The page has no source outside of itself: images are data URIs, figures are SVG, and its policy
forbids the browser to load anything. Whatever comes from the dataset is escaped by Jinja2, and no
file is named with the folder in which the dataset lies.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from .figures import HEIGHT, MAX_NAME, WIDTH, confusion, draw_plot
from .leads import is_exact, leads, percent
from .paths import in_value, name_of, without_folders
from .tables import GENERATOR
from .thumbnails import ImageRegion, Thumbnail

if TYPE_CHECKING:
    from ..checks.contents import Contents, Finding, ReportedRun

# Images on the page and of one run, at 4 to 10 kB each: less than 4 MB.
MAX_IMAGES, MAX_IMAGES_OF_RUN = 360, 120

# Images of one gallery, and of one group of duplicates.
MAX_IN_GALLERY, MAX_MEMBERS = 40, 6

# The kinds of groups of duplicates, in the order in which to look at them.
LEAKS, LABELS = "Leaks between splits", "Different labels"
EXACT, NEAR = "Exact duplicates", "Near-duplicates"

# Findings that are shown in one gallery, in their order, and what that is called.
IN_ONE_GALLERY = {
    "find_label_issues": "Worst first",
    "find_caption_issues": "Worst first",
    "suggest_labels": "Least certain first",
    "select_samples": "Selected first",
}

# Rows of the table of classes, and bars of a chart.
MAX_CLASSES, MAX_BARS = 200, 12


@dataclass(frozen=True)
class Gallery:
    """Some findings shown side by side.

    Attributes:
        heading: what they have in common
        findings: the worst of them
        total: how many there are
        group: the name of a group of duplicates, or None
        leaks: whether the group has members in several splits
        labels_differ: whether the labels within the group disagree
    """

    heading: str
    findings: tuple["Finding", ...]
    total: int
    group: str | None = None
    leaks: bool = False
    labels_differ: bool = False

    @property
    def left_out(self) -> int:
        return self.total - len(self.findings)


def plan_galleries(contents: "Contents") -> dict[str, list[Gallery]]:
    """The galleries of each run, by its key, within what a page can carry."""
    runs = [reported for reported in contents.runs if reported.findings]
    room = min(MAX_IMAGES_OF_RUN, MAX_IMAGES // max(len(runs), 1))
    return {
        reported.run.key: (
            _groups(reported, room)
            if reported.run.operator == "find_duplicates"
            else _by_reason(reported, room)
        )
        for reported in runs
    }


def images_of(galleries: Mapping[str, list[Gallery]]) -> list[ImageRegion]:
    """The images that the galleries show."""
    return [
        (finding.filepath, finding.box)
        for of_run in galleries.values()
        for gallery in of_run
        for finding in gallery.findings
    ]


def render(
    contents: "Contents",
    galleries: Mapping[str, list[Gallery]],
    thumbnails: Mapping[ImageRegion, Thumbnail],
    created: str,
) -> str:
    """The page as HTML.

    Args:
        contents: what the report shows
        galleries: from ``plan_galleries``
        thumbnails: of the images of the galleries
        created: when, for people
    """
    # Imported here: it takes a tenth of a second, at which no App's start should wait.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "decimal": decimal,
        "number": lambda count: f"{count:,}",
        "date": lambda time: (time or "").replace("T", " ")[:16],
    }
    folder = contents.folder
    contents = without_folders(contents)
    return environment.get_template("template.html").render(
        generator=GENERATOR,
        contents=contents,
        created=created,
        leads=leads(contents),
        not_looked_for=contents.not_looked_for,
        galleries=galleries,
        thumbnail=lambda finding: thumbnails[finding.filepath, finding.box],
        file_name=lambda finding: name_of(finding.filepath, folder),
        without_folders=lambda error: in_value(error, folder),
        by_heading=lambda shown: groupby(shown, lambda gallery: gallery.heading),
        bars=_bars,
        evidence=_evidence,
        confusion=confusion,
        draw_plot=lambda one: draw_plot(one.points, one.labels),
        plot_size=(WIDTH, HEIGHT),
        max_name=MAX_NAME,
        max_classes=MAX_CLASSES,
    )


def decimal(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-", "−")


def _groups(reported: "ReportedRun", room: int) -> list[Gallery]:
    """Groups of duplicates, some of each kind: leaks, unequal labels, exact copies, near ones."""
    groups: dict[int, list[Finding]] = {}
    for finding in reported.findings:
        groups.setdefault(finding.group, []).append(finding)
    kinds: dict[str, list[Gallery]] = {LEAKS: [], LABELS: [], EXACT: [], NEAR: []}
    for number, members in groups.items():
        leaks = number in reported.leaking
        differ = len({finding.label for finding in members if finding.label}) > 1
        heading = LEAKS if leaks else LABELS if differ else EXACT if is_exact(members) else NEAR
        some = tuple(members[:MAX_MEMBERS])
        kinds[heading].append(
            Gallery(heading, some, len(members), f"Group {number}", leaks, differ)
        )
    present = [some for some in kinds.values() if some]
    shown: list[Gallery] = []
    for place, of_kind in enumerate(present):
        # What one kind does not need is left to those after it.
        left = (room - sum(len(gallery.findings) for gallery in shown)) // (len(present) - place)
        for gallery in of_kind:
            left -= len(gallery.findings)
            if left < 0:
                break
            shown.append(gallery)
    return shown


def _by_reason(reported: "ReportedRun", room: int) -> list[Gallery]:
    """Outliers by reason, for dark images say nothing about the score of unusual ones.

    What has no reasons, or all different ones, is in one gallery.
    """
    if (heading := IN_ONE_GALLERY.get(reported.run.operator)) is not None:
        findings = reported.findings
        return [Gallery(heading, findings[: min(room, MAX_IN_GALLERY)], len(findings))]
    reasons: dict[str, list[Finding]] = {}
    for finding in reported.findings:
        reasons.setdefault(finding.reason or "flagged", []).append(finding)
    each = min(max(room // len(reasons), 1), MAX_IN_GALLERY)
    ordered = sorted(reasons.items(), key=lambda item: -len(item[1]))
    return [Gallery(reason.capitalize(), tuple(some[:each]), len(some)) for reason, some in ordered]


def _bars(reported: "ReportedRun") -> list[tuple[str, int, float]]:
    """What was found most often: text, count, and length of the bar from 0 to 1."""
    if reported.run.operator == "find_label_issues":
        texts = [
            f"{finding.label} → {finding.suggestion}" if finding.suggestion else finding.reason
            for finding in reported.findings
        ]
    else:
        texts = [finding.change or finding.reason for finding in reported.findings]
    counts = Counter(text for text in texts if text).most_common(MAX_BARS)
    return [(text, count, count / counts[0][1]) for text, count in counts]


def _evidence(finding: "Finding") -> str:
    """Which of classifier and neighbors suggest the same label."""
    said = {"classifier": finding.probe, "neighbors": finding.neighbors}
    agreeing = [who for who, label in said.items() if label and label == finding.suggestion]
    if len(agreeing) == 2:
        return "classifier and neighbors agree"
    if agreeing:
        return f"{agreeing[0]} only"
    return ""
