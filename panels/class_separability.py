"""The panel "Class separability": what a run of ``compute_separability`` has stored, to explore.

It reads a stored run and never computes on a view: which samples the grid shows makes no
difference to it. What is sent to the browser are one page of the classes and the figure that is
looked at, so that thousands of classes cost no more than twenty.
"""

import functools
import json
import logging
from collections.abc import Callable
from typing import Any

import fiftyone.operators as foo
import fiftyone.operators.types as types

from ..errors import UserError
from ..storage import separability as store
from ..storage.runs import Run
from ..storage.separability import StoredSeparability
from . import _figures
from ._measures import MEASURES, NO_BREAK, default_descending, described, percent, whole
from ._state import (
    MATRIX,
    MAX_MATRIX,
    PAGE,
    form_parameters,
    get_shown,
    get_state,
    is_shown,
    matrix_labels,
    measure_key,
    mixing_with,
    named_run,
    new_seat,
    page_of,
    set_shown,
    set_state,
    shown_since,
    signature,
    sort_by,
    sorting,
    view_of,
)
from ._tables import (
    OVERALL_SENTENCES,
    add_plain_table,
    add_show_button,
    cell_text,
    columns_of,
    compact_table,
    fitted,
    fitted_row,
    help_text,
    overall_cells,
    overall_difference,
    run_name,
    selection_text,
)

logger = logging.getLogger(__name__)

OPERATOR = "@embedding/quality/compute_separability"
EMBEDDINGS_OPERATOR = "@embedding/quality/compute_embeddings"
MAP_OPERATOR = "@embedding/quality/compute_visualization"

# The value of a choice that stands for no value; the App shows an empty one as a blank.
NONE = "(none)"

TABS = (
    ("classes", "Classes"),
    ("chart", "Chart"),
    ("confusion", "Confusion"),
    ("more", "More"),
)

# What is chosen at first.
CHOICES = {"tab": "classes", "tools.measure": "f1", "share": "predicted_share"}

Handler = Callable[..., Any]


def guarded(handler: Handler) -> Handler:
    """Turns an error of a handler into a message; uncaught, it would replace the whole panel."""

    @functools.wraps(handler)
    def run(self: "ClassSeparability", ctx: Any) -> Any:
        try:
            return handler(self, ctx)
        except UserError as error:
            ctx.ops.notify(str(error), variant="warning")
        except Exception as error:
            logger.exception("%s failed", handler.__name__)
            ctx.ops.notify(f"Class separability: {_unexpected(error)}", variant="error")
        return None

    return run


class ClassSeparability(foo.Panel):
    """Shows which classes the vectors tell apart, and the samples behind each number."""

    @property
    def config(self) -> foo.PanelConfig:
        return foo.PanelConfig(
            name="class_separability",
            label="Class separability",
            icon="scatter_plot",
            help_markdown=help_text(),
            surfaces="grid",
            allow_multiple=False,
        )

    def execute(self, ctx: Any) -> Any:
        # Drawn when it ends, the long check would undo what was clicked since it began.
        if ctx.params.get("__method__") == "check":
            return self.check(ctx)
        return super().execute(ctx)

    # Events. FiftyOne repeats them, so that each can run twice without harm.

    @guarded
    def on_load(self, ctx: Any) -> None:
        self._read(ctx, get_state(ctx, "top.run"), opened=True)

    @guarded
    def on_change_dataset(self, ctx: Any) -> None:
        ctx.panel.state.clear()
        self._read(ctx, None, opened=True)

    @guarded
    def on_refresh(self, ctx: Any) -> None:
        self._read(ctx, get_state(ctx, "top.run"))

    @guarded
    def on_computed(self, ctx: Any) -> None:
        """The operator's form has run: its run is the latest."""
        self._read(ctx, None)

    @guarded
    def check(self, ctx: Any) -> dict[str, str] | None:
        """Whether a run is out of date: an event of its own, for it is long."""
        run = named_run(store.separability_runs(ctx.dataset), ctx.params["run"])
        if run is None:
            return None
        changes = store.changes(ctx.dataset, store.read_separability(ctx.dataset, run))
        return {"read": _version(run), "stale": "; ".join(changes)}

    @guarded
    def on_checked(self, ctx: Any) -> None:
        result = ctx.params.get("result") or {}
        if result.get("read") == get_state(ctx, "read"):
            set_state(ctx, {"stale": result["stale"]})

    @guarded
    def on_run(self, ctx: Any) -> None:
        self._read(ctx, ctx.params.get("value"))

    @guarded
    def on_other(self, ctx: Any) -> None:
        set_state(ctx, {"top.other": ctx.params.get("value") or NONE})

    @guarded
    def on_tab(self, ctx: Any) -> None:
        set_state(ctx, {"tab": ctx.params.get("value") or "classes"})

    @guarded
    def on_measure(self, ctx: Any) -> None:
        key = ctx.params.get("value")
        if key in MEASURES and key != get_state(ctx, "sort"):
            set_state(ctx, {"sort": key, "descending": default_descending(key), "page": 0})

    @guarded
    def on_search(self, ctx: Any) -> None:
        text = ctx.params.get("value") or ""
        if text != (get_state(ctx, "searched") or ""):
            set_state(ctx, {"searched": text, "page": 0})

    @guarded
    def on_page(self, ctx: Any) -> None:
        set_state(ctx, {"page": int(ctx.params.get("page", 0))})

    @guarded
    def on_matrix(self, ctx: Any) -> None:
        set_state(ctx, {"matrix": ctx.params.get("matrix", 0)})

    @guarded
    def on_share(self, ctx: Any) -> None:
        set_state(ctx, {"share": ctx.params.get("value") or "predicted_share"})

    @guarded
    def on_cell(self, ctx: Any) -> None:
        """A click in the table: on the head it sorts, in a row it shows."""
        stored, other = self._stored(ctx)
        row, column = int(ctx.params["row"]), int(ctx.params.get("column", 0))
        columns = columns_of(ctx, other)
        if row < 0:
            key = columns[column][0] if 0 <= column < len(columns) else None
            if key is not None:
                sort_by(ctx, key)
            return
        rows, _ = page_of(ctx, stored)
        chosen = rows[row]
        if columns[column][0] == "confused_with" and chosen["confused_with"]:
            self._show(ctx, stored, "pair", chosen["label"], chosen["confused_with"])
        else:
            self._show(ctx, stored, "class", chosen["label"])

    @guarded
    def on_row(self, ctx: Any) -> None:
        stored, _ = self._stored(ctx)
        rows, _ = page_of(ctx, stored)
        self._show(ctx, stored, "class", rows[int(ctx.params["row"])]["label"])

    @guarded
    def on_bar(self, ctx: Any) -> None:
        stored, _ = self._stored(ctx)
        self._show(ctx, stored, "class", str(ctx.params["y"]))

    @guarded
    def on_square(self, ctx: Any) -> None:
        """A click in the matrix: the diagonal shows a class, the rest pairs."""
        stored, _ = self._stored(ctx)
        label, other = str(ctx.params["y"]), str(ctx.params["x"])
        self._show(ctx, stored, *(("class", label) if label == other else ("pair", label, other)))

    @guarded
    def on_pair(self, ctx: Any) -> None:
        """A click in the table of what the selected class mixes with."""
        stored, _ = self._stored(ctx)
        # The table names its class, for another may have been clicked meanwhile.
        label = stored.report["order"][int(ctx.params["path"].rpartition("_")[2])]
        row, column = int(ctx.params["row"]), int(ctx.params.get("column", 0))
        if row < 0:
            return
        other = mixing_with(stored, label)[row]
        ways = [(label, other), (other, label)]
        if column == 2:
            ways.reverse()
        # The one asked for, or else the other way round.
        chosen = next(way for way in ways if stored.pairs.get(way, {}).get("boundary"))
        self._show(ctx, stored, "pair", *chosen)

    @guarded
    def on_kind(self, ctx: Any) -> None:
        stored, _ = self._stored(ctx)
        self._show(ctx, stored, ctx.params["kind"], ctx.params["label"])

    @guarded
    def on_select_all(self, ctx: Any) -> None:
        stored, _ = self._stored(ctx)
        view = view_of(ctx, stored, **ctx.params["selection"])
        if not is_shown(ctx, [signature(store.stages_of(view))]):
            ctx.ops.set_view(view=view)
        ctx.ops.set_selected_samples(store.ids_of(view))

    @guarded
    def on_tag(self, ctx: Any) -> None:
        stored, _ = self._stored(ctx)
        name = str(get_state(ctx, "card.tagging.tag") or "").strip()
        count = store.tag(view_of(ctx, stored, **ctx.params["selection"]), name)
        ctx.ops.reload_dataset()
        ctx.ops.notify(f"{count:,} {stored.noun} tagged {name!r}", variant="success")

    @guarded
    def on_map(self, ctx: Any) -> None:
        """Opens FiftyOne's Embeddings panel beside this one, or the form that makes a map."""
        stored, _ = self._stored(ctx)
        if store.map_key(ctx.dataset, stored) is not None:
            ctx.ops.open_panel("Embeddings", layout="horizontal")
            return
        parameters = {"embeddings": stored.embeddings}
        if stored.patches_field is not None:
            parameters["patches_field"] = stored.patches_field
        ctx.ops.notify("These vectors have no map yet", variant="info")
        ctx.prompt(MAP_OPERATOR, params=parameters, on_success=self.on_refresh)

    @guarded
    def on_back(self, ctx: Any) -> None:
        before = get_shown(ctx).get("before")
        set_shown(ctx, {})
        if before is None:
            return  # there was nothing to show, and the grid is as it was
        before = json.loads(before)
        if before.get("name"):
            ctx.ops.set_view(name=before["name"])
        elif before.get("stages"):
            ctx.ops.set_view(view=store.view_of_stages(ctx.dataset, before["stages"]))
        else:
            ctx.ops.clear_view()

    @guarded
    def on_compute(self, ctx: Any) -> None:
        """Opens the operator's form, filled in as the shown run was made, or as seems right."""
        runs = store.separability_runs(ctx.dataset)
        run = named_run(runs, get_state(ctx, "top.run"))
        if run is not None:
            parameters = form_parameters(run)
        else:
            parameters = store.prospect(ctx.dataset).parameters or {}
        ctx.prompt(OPERATOR, params=parameters, on_success=self.on_computed)

    @guarded
    def on_compute_embeddings(self, ctx: Any) -> None:
        ctx.prompt(EMBEDDINGS_OPERATOR, on_success=self.on_refresh)

    # Reading and showing

    def _read(self, ctx: Any, key: str | None, opened: bool = False) -> None:
        """Reads the runs afresh and looks at one: the named, or else the latest."""
        if ctx.dataset is None:
            return
        ctx.dataset.reload()
        runs = store.separability_runs(ctx.dataset)
        run = named_run(runs, key) or (runs[0] if runs else None)
        state = {key: value for key, value in CHOICES.items() if get_state(ctx, key) is None}
        state |= {"at_work": store.running(ctx.dataset, OPERATOR)}
        if opened:
            state |= new_seat(ctx)
        changes, anew = [], False
        if run is not None:
            stored = store.read_separability(ctx.dataset, run)
            changes = store.changes(ctx.dataset, stored, compare=False)
            state["top.run"] = run.key
            other = get_state(ctx, "top.other")
            if other == run.key or named_run(runs, other) is None:
                state["top.other"] = NONE
            if get_state(ctx, "read") != _version(run):
                state |= {"read": _version(run), "page": 0, "matrix": 0, "stale": ""}
                anew = True
        if changes is not None:
            state["stale"] = "; ".join(changes)
        set_state(ctx, state)
        if anew and (shown := get_shown(ctx)):
            set_shown(ctx, {**shown, "selection": None})
        if changes is None:
            ctx.prompt(
                self.method_to_uri("check"),
                params={"run": run.key},
                on_success=self.on_checked,
                skip_prompt=True,
            )

    def _is_current(self, ctx: Any, runs: list[Run]) -> bool:
        """Whether what was seen last is still there; runs are deleted and computed anew."""
        run = named_run(runs, get_state(ctx, "top.run"))
        others = (NONE, *(other.key for other in runs))
        return (
            run is not None
            and get_state(ctx, "read") == _version(run)
            and get_state(ctx, "top.other") in others
        )

    def _stored(self, ctx: Any) -> tuple[StoredSeparability, StoredSeparability | None]:
        """The run that is looked at, and the one that it is compared with.

        Raises:
            UserError: if they are not what is seen any more: what was clicked may have moved
        """
        runs = store.separability_runs(ctx.dataset)
        if not self._is_current(ctx, runs):
            raise UserError("The run was deleted or computed anew; this is what there is now")
        run = named_run(runs, get_state(ctx, "top.run"))
        other = named_run(runs, get_state(ctx, "top.other"))
        stored = store.read_separability(ctx.dataset, run)
        if other is None or other.key == run.key:
            return stored, None
        return stored, store.read_separability(ctx.dataset, other)

    def _show(
        self, ctx: Any, stored: StoredSeparability, kind: str, label: str, other: str | None = None
    ) -> None:
        """Shows samples in the grid and remembers what was shown before the first of them."""
        shown = get_shown(ctx)
        selection = {"kind": kind, "label": label, "other": other, "count": None}
        try:
            view = view_of(ctx, stored, kind, label, other)
        except UserError:
            # Even if there is nothing to show, the class is selected: its numbers say why.
            set_shown(ctx, {**shown, "selection": selection})
            raise
        selection["count"] = len(view)
        set_shown(ctx, {**shown_since(ctx, shown, view), "selection": selection})
        ctx.ops.set_view(view=view)

    # What is seen

    def render(self, ctx: Any) -> types.Property:
        panel = types.Object()
        try:
            self._render(ctx, panel)
        except UserError as error:
            panel = types.Object()
            self._render_trouble(panel, str(error))
        except Exception as error:
            logger.exception("The panel cannot be shown")
            panel = types.Object()
            self._render_trouble(panel, _unexpected(error))
        return types.Property(
            panel,
            view=types.GridView(
                orientation="vertical",
                gap=1,
                align_x="left",
                componentsProps=fitted(),
            ),
        )

    def _render_trouble(self, panel: types.Object, text: str) -> None:
        panel.view("error", types.Error(label="Class separability", description=text))
        panel.btn(
            "refresh", "Refresh", icon="refresh", on_click=self.on_refresh, variant="outlined"
        )

    def _render(self, ctx: Any, panel: types.Object) -> None:
        if ctx.dataset is None:
            panel.md("Open a dataset first", name="hint")
            return
        runs = store.separability_runs(ctx.dataset)
        if runs and not self._is_current(ctx, runs):
            self._read(ctx, get_state(ctx, "top.run"))
        self._render_progress(ctx, panel)
        if not runs:
            self._render_nothing(ctx, panel)
            return
        stored, other = self._stored(ctx)
        self._render_runs(panel, runs, stored)
        self._render_stale(ctx, panel, stored)
        self._render_overall(ctx, panel, stored, other)
        self._render_selection(ctx, panel, stored)
        tabs = types.TabsView()
        for value, label in TABS:
            tabs.add_choice(value, label=label)
        panel.enum("tab", tabs.values(), view=tabs, on_change=self.on_tab)
        tab = get_state(ctx, "tab") or "classes"
        if tab == "more":
            self._render_more(ctx, panel, stored)
        elif tab == "confusion":
            self._render_matrix(ctx, panel, stored)
        else:
            self._render_classes(ctx, panel, stored, other, tab == "chart")

    def _render_progress(self, ctx: Any, panel: types.Object) -> None:
        at_work = get_state(ctx, "at_work")
        if at_work:
            row = panel.h_stack("at_work_row", gap=1, align_y="center")
            row.md(f"Class separability is being computed: {at_work}", name="at_work_text")
            row.btn("at_work_refresh", "Refresh", icon="refresh", on_click=self.on_refresh)

    def _render_nothing(self, ctx: Any, panel: types.Object) -> None:
        missing = store.prospect(ctx.dataset).missing
        if missing == "vectors":
            panel.md(
                "**No vectors yet**\n\nHow well classes can be told apart is measured on an "
                "embedding: a vector for each image or object. Compute one first; its "
                "form says how long that takes.",
                name="hint",
            )
            panel.btn(
                "compute_embeddings",
                "Compute embeddings",
                icon="scatter_plot",
                variant="contained",
                on_click=self.on_compute_embeddings,
            )
        elif missing == "labels":
            panel.md(
                "**No labels yet**\n\nThere are vectors, but no classes to tell apart. Add a "
                "`Classification` or string field with a label for each sample, or compute "
                "vectors for the objects of a `Detections` field: they bring their labels.",
                name="hint",
            )
        else:
            panel.md(
                "**Nothing measured yet**\n\nMeasure for each class how well the embedding tells "
                "it from the others, which classes it confuses, and which samples are to blame. "
                "The form is filled in, and says how long that takes.",
                name="hint",
            )
            panel.btn(
                "compute",
                "Compute class separability",
                icon="play_arrow",
                variant="contained",
                on_click=self.on_compute,
            )
        panel.btn("refresh", "Refresh", icon="refresh", on_click=self.on_refresh)

    def _render_runs(
        self, panel: types.Object, runs: list[Run], stored: StoredSeparability
    ) -> None:
        top = panel.h_stack("top", gap=1, align_y="center", componentsProps=fitted_row())
        choices = types.DropdownView(space=6)
        for run in runs:
            choices.add_choice(run.key, label=run_name(run))
        top.enum(
            "run", choices.values(), view=choices, label="Run", on_change=self.on_run, required=True
        )
        if len(runs) > 1:
            others = types.DropdownView(space=6)
            others.add_choice(NONE, label="None")
            for run in runs:
                if run.key != stored.run.key:
                    others.add_choice(run.key, label=run_name(run))
            top.enum(
                "other", others.values(), view=others, label="Compare with", on_change=self.on_other
            )

    def _render_stale(self, ctx: Any, panel: types.Object, stored: StoredSeparability) -> None:
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
            "recompute", "Recompute", icon="refresh", variant="outlined", on_click=self.on_compute
        )

    def _render_overall(
        self,
        ctx: Any,
        panel: types.Object,
        stored: StoredSeparability,
        other: StoredSeparability | None,
    ) -> None:
        table = compact_table()
        columns = ["accuracy", "purity", "silhouette", "pairs", "map"]
        heads = ["Bal. accuracy", "Purity", "Silhouette", "Mixing pairs", "Map trust"]
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

    def _render_selection(self, ctx: Any, panel: types.Object, stored: StoredSeparability) -> None:
        selection = get_shown(ctx).get("selection")
        row = stored.classes.get((selection or {}).get("label"))
        if row is None:
            overall = stored.report["overall"]
            panel.md(
                f"{overall['classes']:,} classes, {overall['samples']:,} {stored.noun} of "
                f"`{stored.report['label_field']}`, judged by `{stored.embeddings}`. "
                "**Click a class, a bar or a cell to see its samples.**",
                name="hint",
            )
            return
        card = panel.v_stack(
            "card", gap=1, variant="outline", align_x="left", componentsProps=fitted()
        )
        card.md(selection_text(stored, row, selection), name="what")
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
                    on_click=self.on_kind,
                    params={"kind": kind, "label": row["label"]},
                    variant="contained" if selection["kind"] == kind else "outlined",
                    disabled=count == 0,
                )
        self._render_mixing(ctx, card, stored, selection)
        # What they say is what they do, whatever was clicked in another window since.
        chosen = {key: selection[key] for key in ("kind", "label", "other")}
        actions = card.h_stack("actions", gap=1)
        actions.btn(
            "select_all",
            "Select all",
            icon="check_box",
            on_click=self.on_select_all,
            params={"selection": chosen},
            disabled=not selection["count"],
        )
        actions.btn("map", "Embeddings", icon="bubble_chart", on_click=self.on_map)
        actions.btn("back", "Back", icon="undo", on_click=self.on_back)
        tagging = card.h_stack("tagging", gap=1, align_y="center")
        tagging.str("tag", view=types.TextFieldView(placeholder="Tag", compact=True, space=6))
        tagging.btn(
            "tag_all",
            f"Tag {selection['count'] or 0:,}",
            icon="local_offer",
            on_click=self.on_tag,
            params={"selection": chosen},
            disabled=not selection["count"],
        )

    def _render_mixing(
        self, ctx: Any, card: types.Object, stored: StoredSeparability, selection: dict[str, Any]
    ) -> None:
        label = selection["label"]
        others = mixing_with(stored, label)
        if not others:
            return
        table = compact_table(clickable=True, on_click_cell=self.on_pair)
        add_show_button(table, "Boundary", self.on_pair)
        heads = ("Mixes with", "Taken for it", "Taken for this", "Neighbours")
        for key, head in zip(("other", "out", "in", "neighbors"), heads):
            table.add_column(key, label=head)
        rows = []
        for number, other in enumerate(others):
            out = stored.pairs.get((label, other), {})
            back = stored.pairs.get((other, label), {})
            rows.append(
                [
                    other,
                    percent(out.get("predicted_share", 0)),
                    percent(back.get("predicted_share", 0)),
                    percent(out.get("neighbor_share")),
                ]
            )
            sentences = (
                f"{rows[-1][1]} of {label} are predicted as {other}: shows those of {label} that "
                f"come nearest to {other}.",
                f"{rows[-1][2]} of {other} are predicted as {label}: shows those of {other} that "
                f"come nearest to {label}.",
                f"{rows[-1][3]} of the neighbours of {label} are of {other}.",
            )
            for column, sentence in enumerate(sentences):
                table.add_tooltip(number, column + 1, sentence)
        chosen = [n for n, other in enumerate(others) if other == selection["other"]]
        columns = ["other", "out", "in", "neighbors"]
        default = {"rows": rows, "columns": columns, "selectedRows": chosen}
        card.obj(f"mixing_{stored.report['order'].index(label)}", view=table, default=default)

    def _render_classes(
        self,
        ctx: Any,
        panel: types.Object,
        stored: StoredSeparability,
        other: StoredSeparability | None,
        chart: bool,
    ) -> None:
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
            on_change=self.on_measure,
        )
        tools.str(
            "search",
            label="Search",
            view=types.TextFieldView(placeholder="Name of a class", space=6),
            on_change=self.on_search,
        )
        rows, found = page_of(ctx, stored)
        key = measure_key(ctx)
        if not rows:
            panel.md("No class has such a name", name="no_class")
            return
        if chart:
            others = other.classes if other is not None else None
            data, layout = _figures.bars(
                MEASURES[key], rows, stored.run.key, others, other.run.key if other else None
            )
            panel.md(MEASURES[key].sentence, name="sentence")
            panel.plot(
                "bars", data=data, layout=layout, config=_figures.CONFIG, on_click=self.on_bar
            )
        else:
            self._render_table(ctx, panel, rows, other)
        self._render_pages(ctx, panel, found)

    def _render_table(
        self,
        ctx: Any,
        panel: types.Object,
        rows: list[dict[str, Any]],
        other: StoredSeparability | None,
    ) -> None:
        columns = columns_of(ctx, other)
        table = compact_table(clickable=True, on_click_cell=self.on_cell)
        add_show_button(table, "Show", self.on_row)
        sort, descending = sorting(ctx)
        for key, head in columns:
            arrow = f"{NO_BREAK}{'▼' if descending else '▲'}" if key == sort else ""
            table.add_column(key, label=head + arrow)
        cells = []
        for number, row in enumerate(rows):
            against = other.classes.get(row["label"]) if other is not None else None
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

    def _render_pages(self, ctx: Any, panel: types.Object, found: int) -> None:
        if found <= PAGE:
            return
        page = get_state(ctx, "page") or 0
        pages = panel.h_stack("pages", gap=1, align_y="center")
        pages.btn(
            "previous",
            "Previous",
            variant="outlined",
            icon="navigate_before",
            on_click=self.on_page,
            params={"page": page - 1},
            disabled=page == 0,
        )
        last = min((page + 1) * PAGE, found)
        pages.md(f"{page * PAGE + 1:,} to {last:,} of {found:,}", name="place")
        pages.btn(
            "next",
            "Next",
            variant="outlined",
            icon="navigate_next",
            on_click=self.on_page,
            params={"page": page + 1},
            disabled=last == found,
        )

    def _render_matrix(self, ctx: Any, panel: types.Object, stored: StoredSeparability) -> None:
        choices = types.DropdownView()
        choices.add_choice("predicted_share", label="Held-out predictions")
        choices.add_choice("neighbor_share", label="Nearest neighbours")
        panel.enum(
            "share",
            choices.values(),
            view=choices,
            label="Share of",
            on_change=self.on_share,
        )
        share = get_state(ctx, "share") or "predicted_share"
        total = len(stored.report["order"])
        labels, page = matrix_labels(ctx, stored)
        data, layout = _figures.confusion(labels, stored.pairs, stored.classes, share)
        panel.md(
            "Rows are the classes, columns what they are taken for; classes that are confused "
            "stand together. A click on a square shows the samples on the boundary, on the grey "
            "diagonal the class.",
            name="reading",
        )
        panel.plot(
            "matrix", data=data, layout=layout, config=_figures.CONFIG, on_click=self.on_square
        )
        if total <= MATRIX:
            return
        buttons = panel.h_stack("matrix_pages", gap=1, align_y="center")
        if page == "all":
            buttons.btn(
                "matrix_few",
                f"The {MATRIX} most confused",
                variant="outlined",
                on_click=self.on_matrix,
                params={"matrix": 0},
            )
            return
        last = min((page + 1) * MATRIX, total)
        buttons.btn(
            "matrix_previous",
            "Previous",
            variant="outlined",
            icon="navigate_before",
            on_click=self.on_matrix,
            params={"matrix": page - 1},
            disabled=page == 0,
        )
        buttons.md(f"{page * MATRIX + 1:,} to {last:,} of {total:,}", name="matrix_place")
        buttons.btn(
            "matrix_next",
            "Next",
            variant="outlined",
            icon="navigate_next",
            on_click=self.on_matrix,
            params={"matrix": page + 1},
            disabled=last == total,
        )
        if total <= MAX_MATRIX:
            buttons.btn(
                "matrix_all",
                f"All {total:,}",
                variant="outlined",
                on_click=self.on_matrix,
                params={"matrix": "all"},
            )

    def _render_more(self, ctx: Any, panel: types.Object, stored: StoredSeparability) -> None:
        """Comparison of embeddings, slices, and what the numbers mean."""
        comparison, slices = stored.report.get("comparison"), stored.report.get("slices")
        prediction = stored.run.facts.special.get("field_prediction")
        if comparison:
            panel.md(f"**Embeddings**: {comparison['verdict']}", name="comparison")
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
        if slices:
            by = stored.run.facts.parameters.get("by")
            panel.md(f"**Slices of** `{by}`", name="slices_title")
            rows = [
                [
                    row["value"],
                    whole(row["count"]),
                    percent(row["balanced_accuracy"]),
                    row["verdict"],
                ]
                for row in slices
            ]
            heads = ("Slice", "Count", "Bal. accuracy", "Against the rest")
            add_plain_table(panel, "slices_table", heads, rows)
            if prediction:
                panel.md(f"`{by}`: {prediction['verdict']}", name="prediction")
        panel.md("**What the numbers mean**\n\n" + help_text(), name="help")
        panel.btn("compute_again", "Compute again", icon="refresh", on_click=self.on_compute)


def _version(run: Run) -> str:
    return f"{run.key} {run.written_at}"


def _unexpected(error: Exception) -> str:
    return f"{type(error).__name__}: {error}; the server's log has the details"
