"""What "Dataset quality" shows: a card for each finding, the runs, and the buttons of the audit."""

from typing import TYPE_CHECKING, Any

import fiftyone.operators.types as types

from ..checks.duplicates import DUPLICATES
from ..checks.overview import WHOLE, Card, images_of, read_history
from ..checks.progress import counted
from ..checks.separability import SEPARABILITY
from ..checks.thresholds import has_threshold
from ..markup import code, markdown
from ..storage.runs import COMPUTING, DESCRIBING, Run
from ._figures import CONFIG, history
from ._measures import percent
from ._state import get_state
from ._tables import compact_table, wrapping_row

if TYPE_CHECKING:
    from .dataset_quality import DatasetQuality

# Of a thumbnail on the screen, and of the row of them with what follows.
WIDTH, HEIGHT = "84px", "64px"

# What the panel's state holds: the view whose samples it has tagged last.
TAGGED = "tagged"


def draw_nothing(panel: types.Object, events: "DatasetQuality", count: int) -> None:
    """Adds what to do where there is no run yet."""
    panel.md(
        f"**No results for these {count:,} samples yet**\n\nAn audit computes embeddings and finds "
        "duplicates, leaks between splits, label issues, outliers and weak classes. Its form "
        "shows what it will do and how long that takes; no label or file is changed.",
        name="hint",
    )
    panel.btn(
        "audit", "Run audit", icon="fact_check", variant="contained", on_click=events.on_audit
    )
    panel.btn("refresh", "Refresh", icon="refresh", on_click=events.on_refresh)


def draw_overview(
    panel: types.Object, ctx: Any, events: "DatasetQuality", runs: list[Run], cards: list[Card]
) -> None:
    """Adds the findings, the most urgent first, what is solved last, and the runs.

    Args:
        panel: what is added to
        ctx: the context of the event
        events: what clicks call
        runs: the runs, the latest first
        cards: the findings
    """
    stale = set(str(get_state(ctx, "stale") or "").split()) & {run.key for run in runs}
    _head(panel, events, runs, stale)
    if not cards:
        panel.md("**No issues found**", name="nothing")
    ordered = sorted(enumerate(cards), key=lambda entry: (_is_done(entry[1]), entry[0]))
    for number, (_, card) in enumerate(ordered):
        _card(panel, ctx, events, number, card, card.run.key in stale)
    _over_time(panel, runs)
    _runs(panel, events, runs, stale)


def _is_done(card: Card) -> bool:
    return card.solved or (card.queue is not None and not card.queue.num_open)


def _head(panel: types.Object, events: "DatasetQuality", runs: list[Run], stale: set[str]) -> None:
    when = max(run.written_at or "" for run in runs)[:16].replace("T", " ")
    panel.md(f"Last computed {when} UTC{_made_by(runs)}", name="when")
    if stale:
        keys = ", ".join(map(code, sorted(stale)))
        panel.view(
            "stale",
            types.AlertView(
                severity="warning",
                label=f"{counted(len(stale), 'run')} out of date",
                description="Labels, samples or embeddings have changed since. Update audit "
                "repeats the affected runs with the same settings and keeps your reviews.",
            ),
        )
        panel.md(f"Out of date: {keys}", name="stale_keys")
    row = panel.h_stack("head", gap=1, componentsProps=wrapping_row())
    look = "contained" if stale else "outlined"
    row.btn("update", "Update audit", icon="update", variant=look, on_click=events.on_update)
    for name, text, icon, event in (
        ("audit", "Run audit", "fact_check", events.on_audit),
        ("report", "Export report", "description", events.on_report),
        ("refresh", "Refresh", "refresh", events.on_refresh),
    ):
        row.btn(name, text, icon=icon, variant="outlined", on_click=event)


def _made_by(runs: list[Run]) -> str:
    """What made the embeddings, as far as it is known."""
    known = {
        f"{code(run.facts.embeddings[0])} by {markdown(run.facts.model)}"
        for run in runs
        if run.operator in (COMPUTING, DESCRIBING) and run.facts.embeddings and run.facts.model
    }
    return f"; embeddings {', '.join(sorted(known))}" if known else ""


def _card(
    panel: types.Object,
    ctx: Any,
    events: "DatasetQuality",
    number: int,
    card: Card,
    stale: bool,
) -> None:
    found, queue = card.found, card.queue
    states = []
    if card.solved:
        states.append("solved")
    elif queue is not None and queue.decided:
        states.append("reviewed" if not queue.num_open else "open")
        progress = f"{len(queue.decided):,} of {len(queue.ids):,} reviewed"
        if card.precision is not None:
            progress += f", {percent(card.precision)} of them confirmed"
        states.append(progress)
    else:
        states.append("open")
    if stale:
        states.append("out of date")
    if card.before is not None and card.before[0] != found.count:
        states.append(f"{card.before[0]:,} before ({card.before[1][:10]})")
    text = f"---\n\n**{markdown(found.what)}** · {' · '.join(states)}\n\n{markdown(found.how_sure)}"
    panel.md(text, name=f"found{number}")
    if not card.solved:
        _images(panel, ctx, number, card)
    _actions(panel, ctx, events, number, card)


def _images(panel: types.Object, ctx: Any, number: int, card: Card) -> None:
    from ..report.thumbnails import make_thumbnails

    images = images_of(ctx.dataset, card)
    made = [one.uri for one in make_thumbnails(images).values() if one.uri is not None]
    if not made:
        return
    columns = {"gridTemplateColumns": f"repeat(auto-fill, {WIDTH})", "gridAutoFlow": "row"}
    row = panel.h_stack(
        f"images{number}", gap=1, width="100%", componentsProps={"grid": {"sx": columns}}
    )
    for place, uri in enumerate(made):
        row.view(
            f"image{number}_{place}",
            types.ImageView(width=WIDTH, height=HEIGHT, alt=card.found.what),
            default=uri,
        )


def _actions(
    panel: types.Object, ctx: Any, events: "DatasetQuality", number: int, card: Card
) -> None:
    found, of_run = card.found, {"run_key": card.run.key}
    row = panel.h_stack(f"actions{number}", gap=1, componentsProps=wrapping_row())

    def action(name: str, text: str, icon: str, event: Any, **more: Any) -> None:
        row.btn(
            f"{name}{number}",
            text,
            icon=icon,
            variant=more.pop("variant", "outlined"),
            on_click=event,
            params={**of_run, **more},
        )

    decides = found.kind not in WHOLE
    reviewable = card.queue is not None and card.queue.num_open and not card.solved
    if reviewable and card.run.views:
        action("review", "Review", "rate_review", events.on_review, variant="contained")
    if found.view is not None:
        action("show", "Show", "visibility", events.on_show, view=found.view)
        add = get_state(ctx, TAGGED) != found.view
        text = "Tag" if add else "Untag"
        action("tag", text, "local_offer", events.on_tag, view=found.view, add=add)
    if found.check == DUPLICATES.name and card.run.facts.about.patches_field is None:
        action("groups", "Groups", "filter_none", events.on_groups)
    if decides and has_threshold(card.run):
        action("threshold", "Threshold", "tune", events.on_threshold, open=True)
    if found.check == DUPLICATES.name and decides:
        action("remove", "Remove…", "delete_sweep", events.on_remove)
    if found.check == SEPARABILITY.name:
        action("classes", "Show classes", "scatter_plot", events.on_classes)
    text, icon = ("Reopen", "undo") if card.solved else ("Solved", "done")
    solved = not card.solved
    action("solved", text, icon, events.on_solved, kind=found.kind, solved=solved)


def _over_time(panel: types.Object, runs: list[Run]) -> None:
    """Adds what the runs reported since they were first made, where one has replaced another."""
    lines = read_history(run for run in runs if run.finished)
    if not lines:
        return
    panel.md("---\n\n**Over time**", name="over_time")
    data, layout = history(lines)
    panel.plot("history", data=data, layout=layout, config=CONFIG)


def _runs(panel: types.Object, events: "DatasetQuality", runs: list[Run], stale: set[str]) -> None:
    panel.md("---\n\n**Runs**", name="runs_title")
    table = compact_table()
    table.add_row_action("delete", events.on_delete, label="Delete")
    columns = ["run", "operator", "when", "state"]
    for key, head in zip(columns, ("Run", "Operator", "When (UTC)", "State")):
        table.add_column(key, label=head)
    rows = [
        [
            run.key,
            run.operator,
            (run.written_at or "")[:16].replace("T", " "),
            "out of date" if run.key in stale else "unfinished" if not run.finished else "",
        ]
        for run in runs
    ]
    panel.obj("runs", view=table, default={"rows": rows, "columns": columns})
