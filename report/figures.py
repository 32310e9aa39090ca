"""The numbers of the page's figures: confusion of classes, and a plot with names on it.

Colors are distinguishable by everyone, on light and on dark: seven of Okabe and Ito's palette.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Without its black and its yellow, of which one or the other cannot be seen on a background.
COLORS = ("#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7", "#8f6fd1")
GRAY = "#8c8c8c"

# Classes of a confusion matrix that can still be read on a page.
MAX_MATRIX = 24

# The drawing area of a plot, and the size of a letter of a name on it.
WIDTH, HEIGHT, MARGIN = 960, 640, 16
LETTER_WIDTH, LINE_HEIGHT = 6.4, 14

# Longer names are cut at their end on the plot.
MAX_NAME = 32


@dataclass(frozen=True)
class Confusion:
    """Shares of the samples of each class (rows) that are predicted as each (columns).

    Attributes:
        labels: the classes
        shares: one row for each class; None where nothing is known but that it is little
        complete: whether these are all classes
    """

    labels: tuple[str, ...]
    shares: tuple[tuple[float | None, ...], ...]
    complete: bool


def confusion(report: dict[str, Any]) -> Confusion | None:
    """The classes that are confused most, similar ones side by side; None if none is."""
    recall = {row["label"]: row["recall"] for row in report["classes"]}
    pairs = {(p["label"], p["other"]): p["predicted_share"] or 0 for p in report["pairs"]}
    chosen: dict[str, None] = {}
    for (label, other), share in sorted(pairs.items(), key=lambda item: (-item[1], item[0])):
        if share > 0 and len(chosen | {label: None, other: None}) <= MAX_MATRIX:
            chosen |= {label: None, other: None}
    if len(recall) <= MAX_MATRIX:
        chosen = dict.fromkeys(recall)
    if len(chosen) < 2:
        return None
    labels = tuple(label for label in report["order"] if label in chosen)
    shares = tuple(
        tuple(recall[one] if one == other else pairs.get((one, other)) for other in labels)
        for one in labels
    )
    return Confusion(labels, shares, len(labels) == len(recall))


@dataclass(frozen=True)
class DrawnClass:
    """The points of a class on a plot.

    Attributes:
        label: the class, or None for what has no label
        count: how many points
        color: of the points
        path: the points as an SVG path of dots
        name_at: where its name is written, or None if there is no room
    """

    label: str | None
    count: int
    color: str
    path: str
    name_at: tuple[float, float] | None


def draw_plot(points: np.ndarray, labels: Sequence[str | None]) -> list[DrawnClass]:
    """Points in the drawing area, by class, the largest class first.

    Args:
        points: ``(n, 2)`` coordinates
        labels: the class of each, or None
    """
    places = _fit(points)
    rows: dict[str | None, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(label, []).append(row)
    sizes = Counter({label: len(members) for label, members in rows.items()})
    order = sorted(sizes, key=lambda label: (label is None, -sizes[label], label or ""))
    middles = {label: np.median(places[rows[label]], axis=0) for label in order}
    colors = _colors({label: middles[label] for label in order if label is not None})
    names = _names({label: middles[label] for label in order if label is not None})
    return [
        DrawnClass(
            label,
            sizes[label],
            GRAY if label is None else colors.get(label, GRAY),
            "".join(f"M{x:.1f} {y:.1f}h0" for x, y in places[rows[label]]),
            None if label is None else names.get(label),
        )
        for label in order
    ]


def _fit(points: np.ndarray) -> np.ndarray:
    """Moved and scaled, equally in both directions, into the drawing area; y grows downwards."""
    low, high = points.min(axis=0), points.max(axis=0)
    room = np.array([WIDTH, HEIGHT]) - 2 * MARGIN
    scale = np.min(room / np.maximum(high - low, 1e-9))
    moved = (points - (low + high) / 2) * scale * np.array([1, -1])
    return moved + np.array([WIDTH, HEIGHT]) / 2


def _colors(middles: dict[str, np.ndarray]) -> dict[str, str]:
    """A color for each class; where there are too few, classes far from each other share one."""
    colors: dict[str, str] = {}
    for label, middle in middles.items():
        nearest = {
            color: min(
                (np.hypot(*(middle - middles[other])) for other, c in colors.items() if c == color),
                default=np.inf,
            )
            for color in COLORS
        }
        colors[label] = max(COLORS, key=lambda color: nearest[color])
    return colors


def _names(middles: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """Where names fit without hiding each other, larger classes first."""
    taken: list[tuple[float, float, float]] = []
    names = {}
    for label, (x, y) in middles.items():
        half = min(len(label), MAX_NAME) * LETTER_WIDTH / 2
        x = float(np.clip(x, half + 2, max(WIDTH - half - 2, half + 2)))
        free = all(
            abs(y - other_y) > LINE_HEIGHT or abs(x - other_x) > half + other_half
            for other_x, other_y, other_half in taken
        )
        if free:
            taken.append((x, y, half))
            names[label] = (round(x, 1), round(float(y), 1))
    return names
