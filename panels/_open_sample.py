"""What the open sample is, of which runs, and which comes next: read at each event, never kept.

The target of a decision is the sample or patch that is open in the App, whatever is ticked in the
grid.
"""

from dataclasses import dataclass
from typing import Any

import fiftyone.core.patches as fop

from ..checks.card_actions import shown_fields
from ..checks.evidence import latest_of
from ..checks.label_issue_columns import LABEL_ISSUES
from ..checks.queues import Queue, has_queue, queue_of
from ..errors import UserError
from ..storage.runs import Run, plugin_runs
from ..storage.target import SEPARATOR, About
from ._state import signature

# Where the panels share what is reviewed, and for how long, in seconds.
STORE, KEPT_FOR = "@embedding/quality/why_this_sample", 30 * 24 * 3600

# The operator that opens a sample once the App shows its view.
OPEN_IN_VIEW = "@embedding/quality/open_sample_in_view"

# The saved views that show all of a queue; others show a part, as those of a pair of classes do.
WHOLE = (": redundant", ": flagged")

# Whose queue comes first where a sample is in several.
FIRST = LABEL_ISSUES.name


@dataclass(frozen=True)
class Place:
    """Where a person is.

    Attributes:
        id: the open sample, or patch with its sample; None if none is open
        about: samples, or patches of a field
        runs: what is known of them, by the checks' names
        queue: what comes before and after
        queued: the run whose findings the queue holds; None if it holds those of a view
        others: what was found of something else than what is open: patches, say, of an image
    """

    id: str | None
    about: About
    runs: dict[str, Run]
    queue: Queue
    queued: Run | None
    others: tuple[Run, ...] = ()


def find_place(ctx: Any) -> Place:
    """Where a person is.

    Raises:
        UserError: if the open view is of a kind that is not reviewed one by one
    """
    runs = plugin_runs(ctx.dataset)
    name = ctx.request_params.get("view_name")
    queued = next((run for run in runs if name in run.views and has_queue(run)), None)
    if queued is None:
        queued = _intention(ctx, runs)
    about = queued.facts.about if queued is not None else _about(ctx)
    found = latest_of([run for run in runs if has_queue(run)], about)
    queue = Queue(())
    if queued is None and _is_view(ctx):
        queue = Queue(tuple(ctx.view.values("id")))
    elif queued is None:
        queued, queue = _likeliest(ctx, found)
    else:
        queue = queue_of(ctx.dataset, queued)
        if name in queued.views and not name.endswith(WHOLE):
            queue = queue.within(ctx.view.values("id"))
    if queued is not None:
        found |= {queued.operator: queued}
    others = tuple(
        run
        for run in runs
        if run.finished and has_queue(run) and run.facts.about != about and run.views
    )
    return Place(_open_id(ctx, queue), about, found, queue, queued, others)


def _likeliest(ctx: Any, runs: dict[str, Run]) -> tuple[Run | None, Queue]:
    """Without a view: the run that has flagged the open sample, or else the first to review."""
    ordered = sorted(filter(has_queue, runs.values()), key=lambda run: run.operator != FIRST)
    queues = [(run, queue_of(ctx.dataset, run)) for run in ordered]
    holding = [one for one in queues if one[1].place(ctx.current_sample) is not None]
    undecided = [one for one in queues if one[1].num_open]
    return next(iter([*holding, *undecided, *queues]), (None, Queue(())))


def intend(ctx: Any, run: Run) -> None:
    """Remembers that a run is about to be reviewed, until the App shows its view.

    The App may open a sample, and report it, before it has changed the view.
    """
    store = ctx.store(STORE)
    store.set(_intended(ctx), {"run_key": run.key, "view": _view_key(ctx)}, ttl=KEPT_FOR)


def open_queue(ctx: Any, run: Run) -> None:
    """Puts what a run flagged in the grid, and opens the first that is not decided.

    Raises:
        UserError: if there is nothing left to decide
    """
    queue = queue_of(ctx.dataset, run) if has_queue(run) and run.views else Queue(())
    first = queue.after(None)
    if first is None:
        raise UserError("Everything in it is reviewed")
    open_in_view(ctx, run, first)


def open_in_view(ctx: Any, run: Run, id_: str) -> None:
    """Opens a sample or patch in the saved view of what a run flagged."""
    intend(ctx, run)
    view = next((name for name in run.views if name.endswith(WHOLE)), run.views[0])
    if ctx.request_params.get("view_name") == view:
        ctx.ops.open_sample(id=app_id(id_))
        return
    # An open sample that the new view does not hold would be an error of the App's.
    ctx.ops.close_sample()
    show_view(ctx, run, view, id_)


def show_view(ctx: Any, run: Run, view: str, id_: str | None = None) -> None:
    """Shows a saved view of a run with the fields of its findings, and opens a sample of it.

    The App chooses other fields when a view is loaded, so these are set once it is.
    """
    if ctx.request_params.get("view_name") != view:
        ctx.ops.set_view(name=view)
    shown = {"view": view, "fields": shown_fields(run), "id": id_ and app_id(id_)}
    ctx.trigger(OPEN_IN_VIEW, shown)


def is_shown(ctx: Any, place: Place, run: Run) -> bool:
    """Whether the App shows what a run has flagged: its queue, or all of the dataset's images."""
    if place.queued is not None and place.queued.key == run.key:
        return True
    return run.facts.about == About() == place.about and not _is_view(ctx)


def _intention(ctx: Any, runs: list[Run]) -> Run | None:
    intended = ctx.store(STORE).get(_intended(ctx)) or {}
    if intended.get("view") != _view_key(ctx):
        return None
    return next((run for run in runs if run.key == intended.get("run_key")), None)


def _intended(ctx: Any) -> str:
    return f"review {ctx.dataset._doc.id}"


def _view_key(ctx: Any) -> str:
    """Identifies the view that the App says it shows."""
    name = ctx.request_params.get("view_name") or ""
    return f"{name} {signature(ctx.request_params.get('view') or [])}"


def _is_view(ctx: Any) -> bool:
    shown = ("view", "view_name", "filters", "extended")
    return any(ctx.request_params.get(name) for name in shown)


def _about(ctx: Any) -> About:
    stages = ctx.request_params.get("view") or []
    kinds = [str(stage.get("_cls", "")).rpartition(".")[2] for stage in stages]
    if "ToPatches" in kinds or ctx.request_params.get("view_name"):
        view = ctx.view
        if isinstance(view, fop.PatchesView) and not isinstance(view, fop.EvaluationPatchesView):
            return About(patches_field=view.patches_field)
        if view._is_generated:
            raise UserError("This view cannot be reviewed one by one; open the samples")
    elif {"ToFrames", "ToClips", "ToEvaluationPatches", "ToTrajectories"} & set(kinds):
        raise UserError("This view cannot be reviewed one by one; open the samples")
    return About()


def _open_id(ctx: Any, queue: Queue) -> str | None:
    """The open sample or patch, with its sample where the queue knows that."""
    id_ = ctx.current_sample
    place = queue.place(id_)
    return id_ if place is None else queue.ids[place]


def app_id(id_: str) -> str:
    """What the App calls a sample or patch."""
    return id_.partition(SEPARATOR)[0]
