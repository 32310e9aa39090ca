"""The panel's tabs: the classes as a table and as bars, their confusion, and what else there is."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import fiftyone.operators.types as types

from ..checks.verdicts import class_advice
from ..markup import code, markdown
from ..storage.separability import StoredSeparability
from . import _figures
from ._measures import MEASURES, NO_BREAK, described, percent, whole
from ._state import (
    MATRIX,
    MAX_MATRIX,
    PAGE,
    get_shown,
    get_state,
    matrix_labels,
    measure_key,
    page_of,
    sorting,
)
from ._tables import (
    add_plain_table,
    add_show_button,
    cell_text,
    columns_of,
    compact_table,
    help_text,
)

if TYPE_CHECKING:
    from .class_separability import ClassSeparability

TABS = (
    ("classes", "Classes"),
    ("chart", "Chart"),
    ("confusion", "Confusion"),
    ("more", "More"),
)


def draw_tabs(
    panel: types.Object,
    ctx: Any,
    events: "ClassSeparability",
    stored: StoredSeparability,
    other: StoredSeparability | None,
) -> None:
    """Adds the tabs and what the chosen one shows."""
    tabs = types.TabsView()
    for value, label in TABS:
        tabs.add_choice(value, label=label)
    panel.enum("tab", tabs.values(), view=tabs, on_change=events.on_tab)
    tab = get_state(ctx, "tab") or "classes"
    if tab == "more":
        _more(panel, events, stored)
    elif tab == "confusion":
        _matrix(panel, ctx, events, stored)
    else:
        _classes(panel, ctx, events, stored, other, tab == "chart")


# Classes


def _classes(
    panel: types.Object,
    ctx: Any,
    events: "ClassSeparability",
    stored: StoredSeparability,
    other: StoredSeparability | None,
    chart: bool,
) -> None:
    _tools(panel, events, stored)
    rows, found = page_of(ctx, stored)
    if not rows:
        panel.md("No class matches this name", name="no_class")
        return
    if chart:
        _bars(panel, events, MEASURES[measure_key(ctx)], rows, stored, other)
    else:
        _table(panel, ctx, events, rows, stored, other)
    if found > PAGE:
        page = get_state(ctx, "page") or 0
        pages = panel.h_stack("pages", gap=1, align_y="center")
        _page_buttons(pages, "", "page", page, PAGE, found, events.on_page)


def _tools(panel: types.Object, events: "ClassSeparability", stored: StoredSeparability) -> None:
    tools = panel.h_stack("tools", gap=1, align_y="bottom")
    choices = types.DropdownView(space=6)
    for measure in MEASURES.values():
        if any(row.get(measure.key) is not None for row in stored.classes.values()):
            choices.add_choice(measure.key, label=measure.label)
    tools.enum(
        "measure",
        choices.values(),
        view=choices,
        label="Measure",
        on_change=events.on_measure,
    )
    tools.str(
        "search",
        label="Search",
        view=types.TextFieldView(placeholder="Class name", space=6),
        on_change=events.on_search,
    )


def _bars(
    panel: types.Object,
    events: "ClassSeparability",
    measure: Any,
    rows: list[dict[str, Any]],
    stored: StoredSeparability,
    other: StoredSeparability | None,
) -> None:
    theirs = (other.classes, other.run.key) if other is not None else (None, None)
    data, layout = _figures.bars(measure, rows, stored.run.key, *theirs)
    panel.md(measure.sentence, name="sentence")
    panel.plot("bars", data=data, layout=layout, config=_figures.CONFIG, on_click=events.on_bar)


def _table(
    panel: types.Object,
    ctx: Any,
    events: "ClassSeparability",
    rows: list[dict[str, Any]],
    stored: StoredSeparability,
    other: StoredSeparability | None,
) -> None:
    columns = columns_of(ctx, other)
    table = compact_table(clickable=True, on_click_cell=events.on_cell)
    add_show_button(table, "Show", events.on_row)
    sort, descending = sorting(ctx)
    for key, head in columns:
        arrow = f"{NO_BREAK}{'▼' if descending else '▲'}" if key == sort else ""
        table.add_column(key, label=head + arrow)
    cells = []
    for number, row in enumerate(rows):
        against = other.classes.get(row["label"]) if other is not None else None
        row = {**row, "advice": class_advice(row, stored.classes)}
        cells.append([cell_text(key, row, against, sort) for key, _ in columns])
        for column, (key, _) in enumerate(columns):
            # Each costs the browser as much as two cells.
            if key in MEASURES and key != "count":
                table.add_tooltip(number, column, described(MEASURES[key], row))
            elif key == "label":
                table.add_tooltip(number, column, f"{row['label']}: {row['verdict']}")
    selected = (get_shown(ctx).get("selection") or {}).get("label")
    default = {
        "rows": cells,
        "columns": [key for key, _ in columns],
        "selectedRows": [n for n, row in enumerate(rows) if row["label"] == selected],
    }
    panel.obj("table", view=table, default=default)


# Confusion


def _matrix(
    panel: types.Object, ctx: Any, events: "ClassSeparability", stored: StoredSeparability
) -> None:
    choices = types.DropdownView()
    choices.add_choice("predicted_share", label="Held-out predictions")
    choices.add_choice("neighbor_share", label="Nearest neighbors")
    panel.enum(
        "share",
        choices.values(),
        view=choices,
        label="Share of",
        on_change=events.on_share,
    )
    share = get_state(ctx, "share") or "predicted_share"
    labels, page = matrix_labels(ctx, stored)
    data, layout = _figures.confusion(labels, stored.pairs, stored.classes, share)
    panel.md(
        "Rows are the classes, columns the predictions; confused classes are next to each other. "
        "Click a square to see the samples on the boundary, or the gray diagonal to see the class.",
        name="reading",
    )
    panel.plot(
        "matrix", data=data, layout=layout, config=_figures.CONFIG, on_click=events.on_square
    )
    total = len(stored.report["order"])
    if total > MATRIX:
        _matrix_pages(panel, events, page, total)


def _matrix_pages(
    panel: types.Object, events: "ClassSeparability", page: int | str, total: int
) -> None:
    buttons = panel.h_stack("matrix_pages", gap=1, align_y="center")
    look = {"variant": "outlined", "on_click": events.on_matrix}
    if isinstance(page, str):  # all
        buttons.btn("matrix_few", f"The {MATRIX} most confused", params={"matrix": 0}, **look)
        return
    _page_buttons(buttons, "matrix_", "matrix", page, MATRIX, total, events.on_matrix)
    if total <= MAX_MATRIX:
        buttons.btn("matrix_all", f"All {total:,}", params={"matrix": "all"}, **look)


def _page_buttons(
    row: types.Object,
    prefix: str,
    parameter: str,
    page: int,
    size: int,
    total: int,
    on_click: Callable[..., Any],
) -> None:
    """Adds "Previous", where one is, and "Next", as the prefixed names; a click sends the page."""
    last = min((page + 1) * size, total)
    row.btn(
        f"{prefix}previous",
        "Previous",
        variant="outlined",
        icon="navigate_before",
        on_click=on_click,
        params={parameter: page - 1},
        disabled=page == 0,
    )
    row.md(f"{page * size + 1:,} to {last:,} of {total:,}", name=f"{prefix}place")
    row.btn(
        f"{prefix}next",
        "Next",
        variant="outlined",
        icon="navigate_next",
        on_click=on_click,
        params={parameter: page + 1},
        disabled=last == total,
    )


# More


def _more(panel: types.Object, events: "ClassSeparability", stored: StoredSeparability) -> None:
    if comparison := stored.report.get("comparison"):
        _comparison(panel, comparison)
    if slices := stored.report.get("slices"):
        _slices(panel, stored, slices)
    panel.md("**What the numbers mean**\n\n" + help_text(), name="help")
    panel.btn("compute_again", "Recompute", icon="refresh", on_click=events.on_compute)


def _comparison(panel: types.Object, comparison: dict[str, Any]) -> None:
    panel.md(f"**Embeddings**: {markdown(comparison['verdict'])}", name="comparison")
    rows = [
        [
            score["name"],
            percent(score["balanced_accuracy"]),
            f"{percent(score['low'])} to {percent(score['high'])}",
        ]
        for score in comparison["embeddings"]
    ]
    heads = ("Embedding", "Bal. accuracy", "95 % interval")
    add_plain_table(panel, "embeddings_table", heads, rows)


def _slices(panel: types.Object, stored: StoredSeparability, slices: list[dict[str, Any]]) -> None:
    by = code(stored.run.facts.parameters.get("by"))
    panel.md(f"**Slices of** {by}", name="slices_title")
    rows = [
        [row["value"], whole(row["count"]), percent(row["balanced_accuracy"]), row["verdict"]]
        for row in slices
    ]
    heads = ("Slice", "Count", "Bal. accuracy", "Compared with the rest")
    add_plain_table(panel, "slices_table", heads, rows)
    if prediction := stored.run.facts.special.get("field_prediction"):
        panel.md(f"{by}: {markdown(prediction['verdict'])}", name="prediction")
