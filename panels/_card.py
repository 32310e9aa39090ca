"""The panel's card: the class that was clicked, what it mixes with, what to do with it."""

from typing import TYPE_CHECKING, Any

import fiftyone.operators.types as types

from ..markup import code
from ..storage.separability import StoredSeparability
from ._measures import percent
from ._state import get_shown, mixing_with
from ._tables import add_show_button, compact_table, fitted, selection_text

if TYPE_CHECKING:
    from .class_separability import ClassSeparability


def draw_card(
    panel: types.Object, ctx: Any, events: "ClassSeparability", stored: StoredSeparability
) -> None:
    """Adds the card of the selected class, or else a hint to click one."""
    selection: dict[str, Any] = get_shown(ctx).get("selection") or {}
    row = stored.classes.get(selection.get("label", ""))
    if row is None:
        _hint(panel, stored)
        return
    card = panel.v_stack("card", gap=1, variant="outline", align_x="left", componentsProps=fitted())
    card.md(selection_text(stored, row, selection), name="what")
    _kinds(card, events, row, selection)
    _mixing(card, events, stored, selection)
    _actions(card, events, selection)


def _hint(panel: types.Object, stored: StoredSeparability) -> None:
    overall = stored.report["overall"]
    panel.md(
        f"{overall['classes']:,} classes, {overall['samples']:,} {stored.noun} of "
        f"{code(stored.report['label_field'])}, evaluated with {code(stored.embeddings)}. "
        "**Click a class, a bar or a cell to see its samples.**",
        name="hint",
    )


def _kinds(
    card: types.Object, events: "ClassSeparability", row: dict[str, Any], selection: dict[str, Any]
) -> None:
    kinds = card.h_stack("kinds", gap=1)
    for kind, text, count in (
        ("class", "All", row["count"]),
        ("label_issues", "Label issues", row.get("label_issues")),
        ("outliers", "Outliers", row.get("outliers")),
    ):
        if count is not None:
            kinds.btn(
                f"show_{kind}",
                f"{text} {count:,}",
                on_click=events.on_kind,
                params={"kind": kind, "label": row["label"]},
                variant="contained" if selection["kind"] == kind else "outlined",
                disabled=count == 0,
            )


def _mixing(
    card: types.Object,
    events: "ClassSeparability",
    stored: StoredSeparability,
    selection: dict[str, Any],
) -> None:
    label = selection["label"]
    others = mixing_with(stored, label)
    if not others:
        return
    table = compact_table(clickable=True, on_click_cell=events.on_pair)
    add_show_button(table, "Boundary", events.on_pair)
    columns = ["other", "out", "in", "neighbors"]
    for key, head in zip(columns, ("Confused with", "This → other", "Other → this", "Neighbors")):
        table.add_column(key, label=head)
    rows = []
    for number, other in enumerate(others):
        shares, sentences = _pair(stored, label, other)
        rows.append([other, *shares])
        for column, sentence in enumerate(sentences, 1):
            table.add_tooltip(number, column, sentence)
    chosen = [n for n, other in enumerate(others) if other == selection["other"]]
    default = {"rows": rows, "columns": columns, "selectedRows": chosen}
    card.obj(f"mixing_{stored.report['order'].index(label)}", view=table, default=default)


def _pair(
    stored: StoredSeparability, label: str, other: str
) -> tuple[tuple[str, str, str], tuple[str, str, str]]:
    """How far two classes mix: three shares, and a sentence on each."""
    out = stored.pairs.get((label, other), {})
    back = stored.pairs.get((other, label), {})
    there = percent(out.get("predicted_share", 0))
    here = percent(back.get("predicted_share", 0))
    near = percent(out.get("neighbor_share"))
    return (there, here, near), (
        f"{there} of {label} are predicted as {other}: shows the samples of {label} closest to "
        f"{other}.",
        f"{here} of {other} are predicted as {label}: shows the samples of {other} closest to "
        f"{label}.",
        f"{near} of the neighbors of {label} are of {other}.",
    )


def _actions(card: types.Object, events: "ClassSeparability", selection: dict[str, Any]) -> None:
    # What they say is what they do, whatever was clicked in another window since.
    chosen = {key: selection[key] for key in ("kind", "label", "other")}
    of_selection = {"params": {"selection": chosen}, "disabled": not selection["count"]}
    actions = card.h_stack("actions", gap=1)
    actions.btn(
        "select_all",
        "Select all",
        icon="check_box",
        on_click=events.on_select_all,
        **of_selection,
    )
    actions.btn("map", "Embeddings", icon="bubble_chart", on_click=events.on_visualization)
    actions.btn("back", "Back", icon="undo", on_click=events.on_back)
    tagging = card.h_stack("tagging", gap=1, align_y="center")
    tagging.str("tag", view=types.TextFieldView(placeholder="Tag", compact=True, space=6))
    tagging.btn(
        "tag_all",
        f"Tag {selection['count'] or 0:,}",
        icon="local_offer",
        on_click=events.on_tag,
        **of_selection,
    )
