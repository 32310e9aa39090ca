"""The panel "Dataset quality": what the runs found, kept, with what there is to do about each.

It reads stored runs and does not compute. Whether they are out of date takes seconds to find out of
large datasets, and is asked in an event of its own.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any

import fiftyone.operators as foo
import fiftyone.operators.types as types

from ..checks.card_actions import groups_view, mark_solved, shown_fields, tag_view
from ..checks.overview import read_cards
from ..checks.thresholds import has_threshold, move_threshold
from ..checks.update import repeatable, stale_runs
from ..errors import UserError
from ..process import unexpected
from ..storage.locks import guard
from ..storage.runs import DESCRIBING, Run, plugin_runs, read_run
from ._open_sample import open_queue, show_view
from ._overview import TAGGED, draw_nothing, draw_overview
from ._state import get_state, set_state
from ._tables import fitted
from ._threshold import OPEN, draw_threshold, new_slider

logger = logging.getLogger(__name__)

PREFIX = "@embedding/quality/"

Handler = Callable[..., Any]


def guarded(handler: Handler) -> Handler:
    """Turns an error of a handler into a message; uncaught, it would replace the whole panel."""

    @functools.wraps(handler)
    def run(self: "DatasetQuality", ctx: Any) -> Any:
        try:
            with guard:
                ctx.dataset.reload()
            return handler(self, ctx)
        except UserError as error:
            ctx.ops.notify(str(error), variant="warning")
        except Exception as error:
            logger.exception("%s failed", handler.__name__)
            ctx.ops.notify(f"Dataset quality: {unexpected(error)}", variant="error")
        return None

    return run


class DatasetQuality(foo.Panel):
    """The home of an audit: its findings, how far their review is, and the next step of each."""

    @property
    def config(self) -> foo.PanelConfig:
        return foo.PanelConfig(
            name="dataset_quality",
            label="Dataset quality",
            icon="fact_check",
            help_markdown=(
                "What the checks of this plugin found on this dataset, and the state of your "
                "review. Show opens a finding in the grid, Review goes through it one by one "
                "with **Why this sample?** beside the sample. Files are never changed."
            ),
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
        self._ask(ctx)

    @guarded
    def on_change_dataset(self, ctx: Any) -> None:
        ctx.panel.state.clear()
        self._ask(ctx)

    @guarded
    def on_refresh(self, ctx: Any) -> None:
        set_state(ctx, {OPEN: None})
        self._ask(ctx)

    @guarded
    def check(self, ctx: Any) -> dict[str, str] | None:
        """Which runs are out of date: an event of its own, for it is long."""
        return {"stale": " ".join(sorted(stale_runs(ctx.dataset)))}

    @guarded
    def on_checked(self, ctx: Any) -> None:
        result = ctx.params.get("result") or {}
        set_state(ctx, {"stale": result.get("stale", "")})

    def _ask(self, ctx: Any) -> None:
        if ctx.dataset is not None and read_cards(ctx.dataset):
            ctx.prompt(self.method_to_uri("check"), on_success=self.on_checked, skip_prompt=True)

    # What is clicked

    @guarded
    def on_show(self, ctx: Any) -> None:
        show_view(ctx, _run_of(ctx), ctx.params["view"])

    @guarded
    def on_review(self, ctx: Any) -> None:
        """Puts what was flagged in the grid and opens the first that is not decided."""
        open_queue(ctx, _run_of(ctx))

    @guarded
    def on_groups(self, ctx: Any) -> None:
        run = _run_of(ctx)
        ctx.ops.set_view(view=groups_view(ctx.dataset, run))
        ctx.ops.set_active_fields(shown_fields(run))

    @guarded
    def on_classes(self, ctx: Any) -> None:
        ctx.ops.open_panel("class_separability", layout="horizontal")

    @guarded
    def on_threshold(self, ctx: Any) -> None:
        """Shows the threshold of a finding, or all findings again."""
        key = ctx.params["run_key"] if ctx.params["open"] else None
        set_state(ctx, {OPEN: key, **new_slider(ctx)})

    def on_slide(self, ctx: Any) -> None:
        """The panel is drawn with what its state now says of the slider."""

    @guarded
    def on_move(self, ctx: Any) -> None:
        """Moves the threshold of a finding: flags and view follow."""
        done = move_threshold(ctx.dataset, ctx.params["run_key"], ctx.params["threshold"])
        set_state(ctx, new_slider(ctx))
        ctx.ops.notify(f"{done['flagged']:,} flagged, {done['before']:,} before", variant="success")
        ctx.ops.reload_dataset()

    @guarded
    def on_tag(self, ctx: Any) -> None:
        """Tags what a finding shows, or takes the tag away, as the button was drawn to do."""
        view, add = ctx.params["view"], ctx.params["add"]
        name, count = tag_view(ctx.dataset, view, add)
        set_state(ctx, {TAGGED: view if add else None})
        now = f"tagged {name}; Untag takes it away" if add else f"without the tag {name} again"
        ctx.ops.notify(f"{count:,} {now}", variant="success")
        ctx.ops.reload_dataset()

    @guarded
    def on_solved(self, ctx: Any) -> None:
        mark_solved(ctx.dataset, ctx.params["run_key"], ctx.params["kind"], ctx.params["solved"])

    @guarded
    def on_remove(self, ctx: Any) -> None:
        parameters = {"run_key": ctx.params["run_key"]}
        ctx.prompt(PREFIX + "remove_redundant", params=parameters, on_success=self.on_refresh)

    @guarded
    def on_delete(self, ctx: Any) -> None:
        runs, row = _runs(ctx), int(ctx.params["row"])
        if not 0 <= row < len(runs):
            raise UserError("The run was deleted")
        # Its form names it, and what goes with it, before anything is deleted.
        parameters = {"run_key": runs[row].key}
        ctx.prompt(PREFIX + "delete_run", params=parameters, on_success=self.on_refresh)

    @guarded
    def on_audit(self, ctx: Any) -> None:
        ctx.prompt(PREFIX + "audit", on_success=self.on_refresh)

    @guarded
    def on_update(self, ctx: Any) -> None:
        ctx.prompt(PREFIX + "update_audit", on_success=self.on_refresh, skip_prompt=True)

    @guarded
    def on_report(self, ctx: Any) -> None:
        ctx.prompt(PREFIX + "export_report")

    # Showing

    def render(self, ctx: Any) -> types.Property:
        panel = types.Object()
        try:
            self._render(ctx, panel)
        except UserError as error:
            panel = types.Object()
            self._trouble(panel, str(error))
        except Exception as error:
            logger.exception("The panel cannot be displayed")
            panel = types.Object()
            self._trouble(panel, unexpected(error))
        view = types.GridView(
            orientation="vertical", gap=1, align_x="left", componentsProps=fitted()
        )
        return types.Property(panel, view=view)

    def _render(self, ctx: Any, panel: types.Object) -> None:
        if ctx.dataset is None:
            panel.md("Open a dataset first", name="hint")
            return
        key = get_state(ctx, OPEN)
        opened = None if key is None else read_run(ctx.dataset, key)
        if opened is not None and has_threshold(opened):
            draw_threshold(panel, ctx, self, opened)
            return
        runs, cards = _runs(ctx), read_cards(ctx.dataset)
        if not runs:
            draw_nothing(panel, self, len(ctx.dataset))
            return
        draw_overview(panel, ctx, self, runs, cards)

    def _trouble(self, panel: types.Object, text: str) -> None:
        panel.view("error", types.Error(label="Dataset quality", description=text))
        panel.btn("refresh", "Refresh", icon="refresh", on_click=self.on_refresh)


def _runs(ctx: Any) -> list[Run]:
    """The runs that are listed, the latest first; with descriptions where there are others."""
    runs = repeatable(ctx.dataset)
    if runs:
        runs += plugin_runs(ctx.dataset, DESCRIBING)
    return sorted(runs, key=lambda run: (run.written_at or "", run.key), reverse=True)


def _run_of(ctx: Any) -> Run:
    run = read_run(ctx.dataset, ctx.params["run_key"])
    if run is None:
        raise UserError("The run was deleted")
    return run
