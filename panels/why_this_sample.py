"""The panel "Why this sample?": what the runs know of the open sample or patch, and decisions.

Each button names the sample or patch that it was drawn for, so that a click that comes late never
decides about another one. Nothing is kept between two events but the last decisions, for Undo: what
comes next and how many are left is read from the database.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any

import fiftyone.operators as foo
import fiftyone.operators.types as types

from ..checks.evidence import read_evidence
from ..checks.finding_reviews import review_finding
from ..checks.label_issue_columns import LABEL_ISSUES
from ..checks.reviews import review_label_issues
from ..errors import UserError
from ..process import unexpected
from ..storage.few import few
from ..storage.locks import guard
from ..storage.runs import read_run
from ._evidence import draw_evidence, draw_hint
from ._label_evidence import choice_of
from ._open_sample import (
    KEPT_FOR,
    STORE,
    Place,
    app_id,
    find_place,
    is_shown,
    open_in_view,
    open_queue,
)
from ._state import get_state
from ._tables import fitted

logger = logging.getLogger(__name__)

# Decisions that Undo withdraws one after the other.
MAX_UNDO = 100

Handler = Callable[..., Any]


def guarded(handler: Handler) -> Handler:
    """Turns an error of a handler into a message; uncaught, it would replace the whole panel."""

    @functools.wraps(handler)
    def run(self: "WhyThisSample", ctx: Any) -> None:
        try:
            with guard:
                ctx.dataset.reload()
            handler(self, ctx)
        except UserError as error:
            ctx.ops.notify(str(error), variant="warning")
        except Exception as error:
            logger.exception("%s failed", handler.__name__)
            ctx.ops.notify(f"Why this sample: {unexpected(error)}", variant="error")

    return run


class WhyThisSample(foo.Panel):
    """Shows what speaks for and against one sample or patch, and takes a decision per click."""

    @property
    def config(self) -> foo.PanelConfig:
        return foo.PanelConfig(
            name="why_this_sample",
            label="Why this sample?",
            icon="help_center",
            help_markdown=(
                "What the checks of this plugin found for the open sample or patch. Each "
                "decision is one click and opens the next item of the queue; Undo reverts the "
                "last one. Only Accept and Set change labels; files are never changed."
            ),
            surfaces="grid modal",
            allow_multiple=False,
        )

    # Events. FiftyOne repeats them, so that each can run twice without harm.

    def on_load(self, ctx: Any) -> None:
        """Drawn afresh, as after each event."""

    def on_change_current_sample(self, ctx: Any) -> None:
        """Drawn afresh."""

    def on_change_view(self, ctx: Any) -> None:
        """Drawn afresh: the view decides the queue, and may come after the sample."""

    def on_change_dataset(self, ctx: Any) -> None:
        ctx.panel.state.clear()

    @guarded
    def on_start(self, ctx: Any) -> None:
        _go(ctx, find_place(ctx).queue.after(None))

    @guarded
    def on_decide(self, ctx: Any) -> None:
        """One decision on the open sample, and on to the next."""
        (place, id_), decision = _asked(ctx), ctx.params["decision"]
        label = ctx.params.get("label")
        if decision == "set" and not label:
            label = str(get_state(ctx, f"{choice_of(place)}.label") or "").strip()
            if not label:
                raise UserError("Choose the label to set first")
        following = place.queue.after(place.id)
        key = ctx.params["run_key"]
        queued = place.queued is not None and place.queued.key == key
        # The second half of a double click: its buttons are not drawn for what is decided.
        if not (queued and place.id in place.queue.decided):
            _decide(ctx, key, id_, decision, label)
            _remember(ctx, key, id_)
        _go(ctx, following)

    @guarded
    def on_undo(self, ctx: Any) -> None:
        """Undoes the last decision, and opens what it was about."""
        history = _history(ctx)
        if not history:
            raise UserError("There is nothing to undo")
        last = history.pop()
        place = find_place(ctx)
        _decide(ctx, last["run_key"], last["id"], "undo")
        _keep_history(ctx, history)
        if app_id(last["id"]) == ctx.current_sample:
            return
        run = read_run(ctx.dataset, last["run_key"])
        if run is not None and is_shown(ctx, place, run):
            _go(ctx, last["id"])
        elif run is not None and run.views:  # decided in another view, of patches say
            open_in_view(ctx, run, last["id"])

    @guarded
    def on_take_back(self, ctx: Any) -> None:
        """Withdraws the decision on the open sample."""
        (_, id_), key = _asked(ctx), ctx.params["run_key"]
        _decide(ctx, key, id_, "undo")
        kept = [one for one in _history(ctx) if (one["run_key"], one["id"]) != (key, id_)]
        _keep_history(ctx, kept)

    @guarded
    def on_skip(self, ctx: Any) -> None:
        place, _ = _asked(ctx)
        _go(ctx, place.queue.after(place.id))

    @guarded
    def on_back(self, ctx: Any) -> None:
        place, _ = _asked(ctx)
        before = place.queue.before(place.id)
        if before is None:
            raise UserError("This is the first one")
        _go(ctx, before)

    @guarded
    def on_other(self, ctx: Any) -> None:
        """From an image to the patches on which there is to decide, or back."""
        run = read_run(ctx.dataset, ctx.params["run_key"])
        if run is None or not run.views:
            raise UserError("The run was deleted; run the operator again")
        open_queue(ctx, run)

    @guarded
    def on_finish(self, ctx: Any) -> None:
        ctx.ops.close_sample()
        ctx.ops.reload_dataset()

    def on_refresh(self, ctx: Any) -> None:
        """Drawn afresh."""

    def on_label(self, ctx: Any) -> None:
        """Drawn afresh, with a button that names the label."""

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
        place = find_place(ctx)
        if place.id is None or not place.runs:
            draw_hint(panel, self, place)
            return
        evidence = read_evidence(ctx.dataset, place.about, place.id, place.runs)
        draw_evidence(panel, ctx, self, place, evidence, bool(_history(ctx)))

    def _trouble(self, panel: types.Object, text: str) -> None:
        panel.view("error", types.Error(label="Why this sample?", description=text))
        panel.btn("refresh", "Refresh", icon="refresh", on_click=self.on_refresh)


def _asked(ctx: Any) -> tuple[Place, str]:
    """Where a person is, and what is open, if the clicked button was drawn for that.

    Raises:
        UserError: if another sample is open by now
    """
    place = find_place(ctx)
    if place.id is None or app_id(place.id) != app_id(ctx.params["id"]):
        raise UserError("Another sample has been opened since; nothing was changed")
    return place, place.id


def _decide(ctx: Any, key: str, id_: str, decision: str, label: str | None = None) -> None:
    """Reviews one sample or patch by a run.

    Raises:
        UserError: if it cannot be done; nothing is changed then
    """
    run = read_run(ctx.dataset, key)
    if run is None:
        raise UserError("The run was deleted; nothing was changed")
    target = few(ctx.dataset, run.facts.about, [id_])
    if run.operator != LABEL_ISSUES.name:
        review_finding(target, run, decision)
        return
    unflagged = decision in ("keep", "set")
    done = review_label_issues(
        target, decision=decision, label=label, unflagged=unflagged, run_key=key
    )
    if not done["reviewed"]:
        reasons = ", ".join(done["skipped"]) or "it no longer exists"
        raise UserError(f"Nothing was changed: {reasons}")


def _go(ctx: Any, following: str | None) -> None:
    """Opens a sample or patch, if there is one, and draws it already while the App opens it."""
    if following is None:
        ctx.ops.notify("Everything else in this queue is reviewed", variant="success")
        return
    ctx.ops.open_sample(id=app_id(following))
    ctx.request_params["current_sample"] = app_id(following)


# The last decisions, for Undo


def _history(ctx: Any) -> list[dict[str, str]]:
    return (ctx.store(STORE).get(_key(ctx)) or {}).get("decided", [])


def _remember(ctx: Any, key: str, id_: str) -> None:
    _keep_history(ctx, [*_history(ctx), {"run_key": key, "id": id_}])


def _keep_history(ctx: Any, history: list[dict[str, str]]) -> None:
    kept = {"decided": history[-MAX_UNDO:]}
    ctx.store(STORE).set(_key(ctx), kept, ttl=KEPT_FOR, policy="evict")


def _key(ctx: Any) -> str:
    # The App gives a panel of the modal the same id whenever it is opened.
    return str(ctx.params.get("panel_id"))
