"""The measures of a class as the panel names, explains, prints and orders them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

UNKNOWN = "–"

NO_BREAK = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Measure:
    """One measure of a class.

    Attributes:
        key: its name in a report
        label: for a choice and an axis
        short: for the head of a column
        sentence: what it means
        text: prints a value that is not None
        low_is_worse: whether classes with low values come first
        is_share: whether it is a share, printed in percent
    """

    key: str
    label: str
    short: str
    sentence: str
    text: Callable[[Any], str]
    low_is_worse: bool = True
    is_share: bool = False


def percent(share: float | None) -> str:
    if share is None:
        return UNKNOWN
    if 0 < share < 0.005:
        return f"<1{NO_BREAK}%"
    if 0.995 <= share < 1:
        return f">99{NO_BREAK}%"
    return f"{100 * share:.0f}{NO_BREAK}%"


def points(difference: float | None) -> str:
    """A difference of two shares, in percentage points."""
    return UNKNOWN if difference is None else _minus(f"{round(100 * difference) + 0:+d}")


def decimal(value: float | None) -> str:
    # Adding 0 makes a negative zero, of rounding, a zero.
    return UNKNOWN if value is None else _minus(f"{round(value, 2) + 0:.2f}")


def signed(value: float | None) -> str:
    return UNKNOWN if value is None else _minus(f"{round(value, 2) + 0:+.2f}")


def _minus(text: str) -> str:
    return text.replace("-", "−")


def ratio(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def whole(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


MEASURES = {
    measure.key: measure
    for measure in (
        Measure(
            "f1",
            "F1",
            "F1",
            "F1: the harmonic mean of recall and precision of the held-out predictions.",
            percent,
            is_share=True,
        ),
        Measure(
            "recall",
            "Recall",
            "Recall",
            "Recall: the share of the class that a held-out classifier predicts as this class.",
            percent,
            is_share=True,
        ),
        Measure(
            "precision",
            "Precision",
            "Prec.",
            "Precision: the share of samples predicted as this class that belong to it.",
            percent,
            is_share=True,
        ),
        Measure(
            "purity",
            "Neighbor purity",
            "Purity",
            "Neighbor purity: the share of the class among the nearest neighbors of its samples.",
            percent,
            is_share=True,
        ),
        Measure(
            "silhouette",
            "Silhouette",
            "Silh.",
            "Silhouette: how much closer samples are to their own class than to the nearest "
            "other class, from −1 to 1; below 0 they are closer to the other class.",
            decimal,
        ),
        Measure(
            "fisher",
            "Fisher ratio",
            "Fisher",
            "Fisher ratio: the distance to the class that is hardest to separate, relative to "
            "the spread within the classes; higher is better.",
            ratio,
        ),
        Measure(
            "confused_rate",
            "Confused with one class",
            "Conf.",
            "Confusion: the share of the class predicted as its most frequent wrong class.",
            percent,
            low_is_worse=False,
            is_share=True,
        ),
        Measure(
            "label_issues",
            "Label issues",
            "Issues",
            "Label issues: samples of the class whose label is probably wrong (find_label_issues).",
            whole,
            low_is_worse=False,
        ),
        Measure(
            "outliers",
            "Outliers",
            "Outl.",
            "Outliers: unusual samples of the class (find_outliers).",
            whole,
            low_is_worse=False,
        ),
        Measure(
            "count",
            "Count",
            "Count",
            "Count: the number of samples evaluated; measures of small classes are uncertain.",
            whole,
        ),
    )
}


def described(measure: Measure, row: dict[str, Any]) -> str:
    """A value with what it takes to read it: the interval, or chance, and the sentence."""
    text = f"{measure.text(row[measure.key])}" if row[measure.key] is not None else "not defined"
    if measure.key == "recall" and row["recall_low"] is not None:
        text += f" (95 % interval {percent(row['recall_low'])} to {percent(row['recall_high'])})"
    if measure.key == "purity" and row["purity_expected"] is not None:
        text += f" (by chance {percent(row['purity_expected'])})"
    return f"{text}. {measure.sentence}"


def worst_first(
    rows: list[dict[str, Any]], key: str, descending: bool | None = None
) -> list[dict[str, Any]]:
    """Rows in the order of a measure, or of ``"label"``; those without a value come last.

    Args:
        rows: the classes, in the order that decides between equals
        key: the measure
        descending (None): by default what is worse comes first
    """
    if descending is None:
        descending = default_descending(key)
    known = [row for row in rows if row.get(key) is not None]
    unknown = [row for row in rows if row.get(key) is None]
    return sorted(known, key=lambda row: row[key], reverse=descending) + unknown


def default_descending(key: str) -> bool:
    return key in MEASURES and not MEASURES[key].low_is_worse
