"""The tables and texts of the panel: cells, heads, sentences."""

from collections.abc import Callable, Sequence
from typing import Any

import fiftyone.operators.types as types

from ..markup import markdown
from ..storage.runs import Run
from ..storage.separability import StoredSeparability
from ._measures import MEASURES, decimal, percent, points, signed, whole
from ._state import measure_key

OVERALL_SENTENCES = {
    "accuracy": "Balanced accuracy: the mean recall of the classes; predictions are held out, so "
    "the classifier has not seen the sample or its duplicates.",
    "purity": "Purity: the share of neighbors of the same class; in parentheses, the share "
    "expected by chance.",
    "silhouette": "Silhouette: how much closer samples are to their own class than to the "
    "nearest other class, from −1 to 1.",
    "pairs": "Confused pairs: ordered pairs of classes that are confused beyond chance, "
    "corrected for the number of pairs.",
    "map": "Trust: how reliably neighbors in the latest visualization of these embeddings are "
    "neighbors in the original space, from 0 to 1.",
}


def fitted() -> dict[str, Any]:
    """Properties of a stack that keeps to the panel's width, whatever stands in it."""
    return {"grid": {"sx": {"p": 1, "gridTemplateColumns": "minmax(0, 1fr)"}}}


def fitted_row() -> dict[str, Any]:
    """Properties of a row whose parts become narrower if there is no room for them."""
    return {"grid": {"sx": {"gridAutoColumns": "minmax(0, max-content)"}}}


def wrapping_row() -> dict[str, Any]:
    """Properties of a row whose parts go on below if there is no room for them."""
    wrapping = {"display": "flex", "flexWrap": "wrap", "alignItems": "center"}
    return {"grid": {"sx": {**wrapping, "& > *": {"width": "auto", "flex": "0 0 auto"}}}}


def compact_table(clickable: bool = False, **handlers: Any) -> types.TableView:
    """A table that fits the panel's usual width."""
    body: dict[str, Any] = {
        "& td, & th": {"fontSize": "0.8rem", "px": 0.75, "py": 0.4, "lineHeight": 1.3}
    }
    body["minWidth"] = 0
    # Names stand in the first column and in the last before the button.
    body["& td:first-of-type, & td:nth-last-of-type(2)"] = {"overflowWrap": "anywhere"}
    body["& td:first-of-type"] = {"minWidth": "4.5rem"}
    body["& th"] = {"fontSize": "0.75rem"}
    body["& td button"] = {"px": 0.25, "py": 0, "minWidth": 0, "font": "inherit", "my": -0.25}
    if clickable:
        body["& td, & th"]["cursor"] = "pointer"
        body["& tbody tr:hover"] = {"backgroundColor": "action.hover"}
    return types.TableView(
        columns=[],
        row_actions=[],
        tooltips=[],
        actions_label=" ",
        componentsProps={"table": {"sx": body}},
        **handlers,
    )


def add_show_button(table: types.TableView, word: str, on_click: Callable[..., Any]) -> None:
    """Adds a button to each row, for the keyboard: a word, which is drawn sooner than an icon."""
    table.add_row_action("show", on_click, label=word)


def add_plain_table(
    panel: types.Object, name: str, heads: Sequence[str], rows: list[list[str]]
) -> None:
    """Adds a table that is only read."""
    table = compact_table()
    for head in heads:
        table.add_column(head, label=head)
    panel.obj(name, view=table, default={"columns": list(heads), "rows": rows})


def columns_of(ctx: Any, other: StoredSeparability | None) -> list[tuple[str, str]]:
    """Keys and heads of the table's columns."""
    measure = measure_key(ctx)
    if other is not None:
        short = MEASURES[measure].short
        return [
            ("label", "Class"),
            ("count", "Count"),
            (measure, short),
            ("against", other.run.key),
            ("difference", "Diff."),
            ("advice", "What to do"),
            ("confused_with", "Confused with"),
        ]
    keys = ["count", "f1", "recall", "purity"]
    extra = measure if measure not in keys else "silhouette"
    return [
        ("label", "Class"),
        *((key, MEASURES[key].short) for key in (*keys, extra)),
        ("advice", "What to do"),
        ("confused_with", "Confused with"),
    ]


def cell_text(key: str, row: dict[str, Any], other: dict[str, Any] | None, sort: str) -> str:
    if key in MEASURES:
        return MEASURES[key].text(row.get(key))
    if key == "confused_with":
        if not row["confused_with"]:
            return ""
        return f"{row['confused_with']} {percent(row['confused_rate'])}"
    if key in ("against", "difference"):
        measure = MEASURES[sort if sort in MEASURES else "f1"]
        theirs = other.get(measure.key) if other is not None else None
        if key == "against":
            return measure.text(theirs)
        if theirs is None or row.get(measure.key) is None:
            return measure.text(None)
        difference = row[measure.key] - theirs
        return points(difference) if measure.is_share else signed(difference)
    return row[key]


def overall_cells(stored: StoredSeparability) -> list[str]:
    overall = stored.report["overall"]
    trust = (overall.get("map") or {}).get("trustworthiness")
    return [
        percent(overall["balanced_accuracy"]),
        f"{percent(overall['purity'])} ({percent(overall['purity_expected'])})",
        decimal(overall["silhouette"]),
        whole(overall["pairs_above_chance"]),
        decimal(trust),
    ]


def overall_difference(stored: StoredSeparability, other: StoredSeparability) -> list[str]:
    def less(key: str) -> float | None:
        mine, theirs = stored.report["overall"][key], other.report["overall"][key]
        return None if mine is None or theirs is None else mine - theirs

    pairs = f"{less('pairs_above_chance'):+,}".replace("-", "−")
    return [
        points(less("balanced_accuracy")),
        points(less("purity")),
        signed(less("silhouette")),
        pairs,
        "",
    ]


def selection_text(
    stored: StoredSeparability, row: dict[str, Any], selection: dict[str, Any]
) -> str:
    shown = ""
    if selection["count"] is not None:
        count = f"{selection['count']:,} {stored.noun}"
        shown = {
            "class": f"Shown: all {count} of the class.",
            "pair": f"Shown: {count} of **{markdown(selection['label'])}** near "
            f"**{markdown(selection['other'])}**, closest first.",
            "label_issues": f"Shown: {count} label issues of the class.",
            "outliers": f"Shown: {count} outliers of the class.",
        }[selection["kind"]]
    return f"**{markdown(row['label'])}**: {markdown(row['verdict'])}. {shown}"


def help_text() -> str:
    overall = [
        f"- **{text.partition(':')[0]}**:{text.partition(':')[2]}"
        for text in OVERALL_SENTENCES.values()
    ]
    classes = [
        f"- **{measure.sentence.partition(':')[0]}**:{measure.sentence.partition(':')[2]}"
        for measure in MEASURES.values()
    ]
    return "\n".join(dict.fromkeys(overall[:1] + overall[3:] + classes))


def run_name(run: Run) -> str:
    about = run.facts.about
    suffix = f", {about.path}" if about.path != "samples" else ""
    return f"{run.key} ({run.facts.embeddings[0]}{suffix})"
