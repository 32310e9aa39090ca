"""What the panel shows: runs, their state, all classes together; the rest are its card and tabs.

What is drawn names the events of the panel, which are in ``class_separability.py``.
"""

from typing import TYPE_CHECKING, Any

import fiftyone.operators.types as types

from ..markup import markdown
from ..storage import separability as store
from ..storage.runs import Run
from ..storage.separability import StoredSeparability
from ._card import draw_card
from ._state import NONE, get_state, seen_runs
from ._tables import (
    OVERALL_SENTENCES,
    compact_table,
    fitted,
    fitted_row,
    overall_cells,
    overall_difference,
    run_name,
)
from ._tabs import draw_tabs

if TYPE_CHECKING:
    from .class_separability import ClassSeparability


def as_property(panel: types.Object) -> types.Property:
    """What the App is given of a panel."""
    view = types.GridView(orientation="vertical", gap=1, align_x="left", componentsProps=fitted())
    return types.Property(panel, view=view)


def draw_panel(panel: types.Object, ctx: Any, events: "ClassSeparability", runs: list[Run]) -> None:
    """Adds everything to a panel.

    Args:
        panel: what is added to
        ctx: the context of the event
        events: what clicks call
        runs: the finished runs, the latest first
    """
    _progress(panel, ctx, events)
    if not runs:
        _nothing_yet(panel, ctx, events)
        return
    stored, other = seen_runs(ctx)
    _runs(panel, events, runs, stored)
    _stale(panel, ctx, events, stored)
    _overall(panel, stored, other)
    draw_card(panel, ctx, events, stored)
    draw_tabs(panel, ctx, events, stored, other)


def draw_trouble(panel: types.Object, events: "ClassSeparability", text: str) -> None:
    panel.view("error", types.Error(label="Class separability", description=text))
    panel.btn("refresh", "Refresh", icon="refresh", on_click=events.on_refresh, variant="outlined")


def _progress(panel: types.Object, ctx: Any, events: "ClassSeparability") -> None:
    at_work = get_state(ctx, "at_work")
    if at_work:
        row = panel.h_stack("at_work_row", gap=1, align_y="center")
        row.md(f"Class separability is being computed: {markdown(at_work)}", name="at_work_text")
        row.btn("at_work_refresh", "Refresh", icon="refresh", on_click=events.on_refresh)


def _nothing_yet(panel: types.Object, ctx: Any, events: "ClassSeparability") -> None:
    missing = store.prospect(ctx.dataset).missing
    if missing == "vectors":
        panel.md(
            "**No embeddings yet**\n\nClass separability is measured on embeddings of the images "
            "or patches. Compute them first; the form shows how long that takes.",
            name="hint",
        )
        panel.btn(
            "compute_embeddings",
            "Compute embeddings",
            icon="scatter_plot",
            variant="contained",
            on_click=events.on_compute_embeddings,
        )
    elif missing == "labels":
        panel.md(
            "**No labels yet**\n\nThere are embeddings, but no classes. Add a `Classification` "
            "or string field with a label per sample, or compute embeddings of the patches of a "
            "`Detections` field, which have labels.",
            name="hint",
        )
    else:
        panel.md(
            "**Not measured yet**\n\nMeasure how well the embeddings separate each class from "
            "the others, which classes are confused, and which samples cause it. The form is "
            "filled in and shows how long that takes.",
            name="hint",
        )
        panel.btn(
            "compute",
            "Compute class separability",
            icon="play_arrow",
            variant="contained",
            on_click=events.on_compute,
        )
    panel.btn("refresh", "Refresh", icon="refresh", on_click=events.on_refresh)


def _runs(
    panel: types.Object, events: "ClassSeparability", runs: list[Run], stored: StoredSeparability
) -> None:
    top = panel.h_stack("top", gap=1, align_y="center", componentsProps=fitted_row())
    choices = types.DropdownView(space=6)
    for run in runs:
        choices.add_choice(run.key, label=run_name(run))
    top.enum(
        "run", choices.values(), view=choices, label="Run", on_change=events.on_run, required=True
    )
    if len(runs) > 1:
        others = types.DropdownView(space=6)
        others.add_choice(NONE, label="None")
        for run in runs:
            if run.key != stored.run.key:
                others.add_choice(run.key, label=run_name(run))
        top.enum(
            "other", others.values(), view=others, label="Compare with", on_change=events.on_other
        )


def _stale(
    panel: types.Object, ctx: Any, events: "ClassSeparability", stored: StoredSeparability
) -> None:
    # An event that crosses the check does not know yet what that has found.
    known = store.changes(ctx.dataset, stored, compare=False) or []
    stale = get_state(ctx, "stale") or "; ".join(known)
    if not stale:
        return
    panel.view(
        "stale",
        types.AlertView(
            severity="warning",
            label="This run is out of date",
            description=f"Since it was stored, {stale}.",
        ),
    )
    panel.btn(
        "recompute", "Recompute", icon="refresh", variant="outlined", on_click=events.on_compute
    )


def _overall(
    panel: types.Object, stored: StoredSeparability, other: StoredSeparability | None
) -> None:
    table = compact_table()
    columns = ["accuracy", "purity", "silhouette", "pairs", "map"]
    heads = ["Bal. accuracy", "Purity", "Silhouette", "Confused pairs", "Trust"]
    if other is not None:
        columns, heads = ["run", *columns], ["", *heads]
    for key, head in zip(columns, heads):
        table.add_column(key, label=head)
    rows = [overall_cells(stored)]
    if other is not None:
        rows = [[stored.run.key, *rows[0]], [other.run.key, *overall_cells(other)]]
        rows.append(["difference", *overall_difference(stored, other)])
    for row in range(len(rows)):
        for column, key in enumerate(columns):
            if key in OVERALL_SENTENCES:
                table.add_tooltip(row, column, OVERALL_SENTENCES[key])
    panel.obj("overall", view=table, default={"rows": rows, "columns": columns})
