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
from ..markup import from_plotly
from ..process import unexpected
from ..storage import separability as store
from ._measures import MEASURES, default_descending
from ._rendering import as_property, draw_panel, draw_trouble
from ._state import (
    CHOICES,
    NONE,
    form_parameters,
    get_shown,
    get_state,
    is_current,
    is_shown,
    mixing_with,
    named_run,
    new_seat,
    page_of,
    seen_runs,
    set_shown,
    set_state,
    show,
    signature,
    sort_by,
    version,
    view_of,
)
from ._tables import columns_of, help_text

logger = logging.getLogger(__name__)

OPERATOR = "@embedding/quality/compute_separability"
EMBEDDINGS_OPERATOR = "@embedding/quality/compute_embeddings"
MAP_OPERATOR = "@embedding/quality/compute_visualization"

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
            ctx.ops.notify(f"Class separability: {unexpected(error)}", variant="error")
        return None

    return run


class ClassSeparability(foo.Panel):
    """Shows which classes the embeddings separate, and the samples behind each number."""

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
        return {"read": version(run), "stale": "; ".join(changes or ())}

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
        stored, other = seen_runs(ctx)
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
            show(ctx, stored, "pair", chosen["label"], chosen["confused_with"])
        else:
            show(ctx, stored, "class", chosen["label"])

    @guarded
    def on_row(self, ctx: Any) -> None:
        stored, _ = seen_runs(ctx)
        rows, _ = page_of(ctx, stored)
        show(ctx, stored, "class", rows[int(ctx.params["row"])]["label"])

    @guarded
    def on_bar(self, ctx: Any) -> None:
        stored, _ = seen_runs(ctx)
        show(ctx, stored, "class", from_plotly(str(ctx.params["y"])))

    @guarded
    def on_square(self, ctx: Any) -> None:
        """A click in the matrix: the diagonal shows a class, the rest pairs."""
        stored, _ = seen_runs(ctx)
        label, other = from_plotly(str(ctx.params["y"])), from_plotly(str(ctx.params["x"]))
        show(ctx, stored, *(("class", label) if label == other else ("pair", label, other)))

    @guarded
    def on_pair(self, ctx: Any) -> None:
        """A click in the table of what the selected class mixes with."""
        stored, _ = seen_runs(ctx)
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
        show(ctx, stored, "pair", *chosen)

    @guarded
    def on_kind(self, ctx: Any) -> None:
        stored, _ = seen_runs(ctx)
        show(ctx, stored, ctx.params["kind"], ctx.params["label"])

    @guarded
    def on_select_all(self, ctx: Any) -> None:
        stored, _ = seen_runs(ctx)
        view = view_of(ctx, stored, **ctx.params["selection"])
        if not is_shown(ctx, [signature(store.stages_of(view))]):
            ctx.ops.set_view(view=view)
        ctx.ops.set_selected_samples(store.ids_of(view))

    @guarded
    def on_tag(self, ctx: Any) -> None:
        stored, _ = seen_runs(ctx)
        name = str(get_state(ctx, "card.tagging.tag") or "").strip()
        count = store.tag(view_of(ctx, stored, **ctx.params["selection"]), name)
        ctx.ops.reload_dataset()
        ctx.ops.notify(f"{count:,} {stored.noun} tagged {name!r}", variant="success")

    @guarded
    def on_visualization(self, ctx: Any) -> None:
        """Opens FiftyOne's Embeddings panel beside the samples, or the form that makes a plot."""
        stored, _ = seen_runs(ctx)
        if store.visualization_key(ctx.dataset, stored) is not None:
            # A tab beside the samples: a third column would leave none of them room.
            ctx.ops.open_panel("Embeddings")
            return
        parameters = {"embeddings": stored.embeddings}
        if stored.patches_field is not None:
            parameters["patches_field"] = stored.patches_field
        ctx.ops.notify("There is no visualization of these embeddings yet", variant="info")
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
        state: dict[str, Any] = {
            key: value for key, value in CHOICES.items() if get_state(ctx, key) is None
        }
        state |= {"at_work": store.running(ctx.dataset, OPERATOR)}
        if opened:
            state |= new_seat(ctx)
        changes: list[str] | None = []
        is_new = False
        if run is not None:
            stored = store.read_separability(ctx.dataset, run)
            changes = store.changes(ctx.dataset, stored, compare=False)
            state["top.run"] = run.key
            other = get_state(ctx, "top.other")
            if other == run.key or named_run(runs, other) is None:
                state["top.other"] = NONE
            if get_state(ctx, "read") != version(run):
                state |= {"read": version(run), "page": 0, "matrix": 0, "stale": ""}
                is_new = True
        if changes is not None:
            state["stale"] = "; ".join(changes)
        set_state(ctx, state)
        if is_new and (shown := get_shown(ctx)):
            set_shown(ctx, {**shown, "selection": None})
        if run is not None and changes is None:
            ctx.prompt(
                self.method_to_uri("check"),
                params={"run": run.key},
                on_success=self.on_checked,
                skip_prompt=True,
            )

    def render(self, ctx: Any) -> types.Property:
        panel = types.Object()
        try:
            self._render(ctx, panel)
        except UserError as error:
            panel = types.Object()
            draw_trouble(panel, self, str(error))
        except Exception as error:
            logger.exception("The panel cannot be displayed")
            panel = types.Object()
            draw_trouble(panel, self, unexpected(error))
        return as_property(panel)

    def _render(self, ctx: Any, panel: types.Object) -> None:
        if ctx.dataset is None:
            panel.md("Open a dataset first", name="hint")
            return
        runs = store.separability_runs(ctx.dataset)
        if runs and not is_current(ctx, runs):
            self._read(ctx, get_state(ctx, "top.run"))
        draw_panel(panel, ctx, self, runs)
