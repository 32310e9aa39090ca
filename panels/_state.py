"""What the panel keeps between two events, and what follows from it: order, page, matrix, view.

What was chosen in the panel is in its state. The state holds no lists: FiftyOne's App merges a new
list into the old one, item by item, and what the old one had beyond stays. For the same reason
tables bring their rows as defaults.

What the panel has put in the grid is in FiftyOne's execution store: for each change of a panel's
state the App loads its page again, which would double the time until the grid shows what was
clicked.
"""

import hashlib
import json
import threading
import uuid
from collections.abc import Sequence
from typing import Any

from ..errors import UserError
from ..storage import separability as store
from ..storage.runs import Run
from ..storage.separability import StoredSeparability
from ._measures import MEASURES, default_descending, worst_first

# The value of a choice that stands for no value; the App shows an empty one as a blank.
NONE = "(none)"

# What is chosen at first.
CHOICES = {"tab": "classes", "tools.measure": "f1", "share": "predicted_share"}

# Classes on one page of the table and the chart, and in the matrix.
PAGE, MATRIX = 15, 30

# Up to so many classes the matrix can be shown whole: 40,000 cells.
MAX_MATRIX = 200

# Classes that the selected one mixes with.
NAMED_PAIRS = 4

# How long the store keeps what a panel has shown, in seconds: a panel stays open for days.
KEPT_FOR = 30 * 24 * 3600

# Characters of the view that one goes back to, and views of the panel that are remembered.
MAX_BEFORE, MAX_OWN = 8_000_000, 20

# Held while what was shown is read and written again: a double click is two events at once.
_clicking = threading.Lock()


def get_state(ctx: Any, key: str) -> Any:
    return ctx.panel.state.get(key)


def set_state(ctx: Any, values: dict[str, Any]) -> None:
    """Sets what differs: every change is sent to the browser."""
    changed = {key: value for key, value in values.items() if get_state(ctx, key) != value}
    if changed:
        ctx.panel.state.set(changed)


def new_seat(ctx: Any) -> dict[str, str]:
    """Changes of the state that give a panel an entry of its own in the store, with what it holds.

    For panels that are opened or loaded again: windows that show the same workspace have panels of
    the same id.
    """
    seat = uuid.uuid4().hex
    if shown := get_shown(ctx):
        _keep(ctx, seat, shown)
    return {"seat": seat}


def get_shown(ctx: Any) -> dict[str, Any]:
    """What the panel has put in the grid.

    Returns:
        a dict that is empty if that is nothing, or else holds ``selection`` (``kind``, ``label``,
        ``other`` and ``count`` of what was clicked last, or None), and, once there was something
        to show, ``own`` (the signatures of the latest views) and ``before`` (what the grid showed
        before the first of them, as JSON)
    """
    return _store(ctx).get(_key(ctx, get_state(ctx, "seat"))) or {}


def set_shown(ctx: Any, shown: dict[str, Any]) -> None:
    """Keeps what ``get_shown`` returns; nothing, if it is empty."""
    if shown:
        _keep(ctx, get_state(ctx, "seat"), shown)
    else:
        _store(ctx).delete(_key(ctx, get_state(ctx, "seat")))


def shown_since(ctx: Any, shown: dict[str, Any], view: Any) -> dict[str, Any]:
    """What ``get_shown`` returns once the grid shows a view of the panel."""
    if not is_shown(ctx, shown.get("own", [])):
        before = json.dumps(current_view(ctx))
        # A view of half a million ids is too long for the store: "Back" shows all samples then.
        before = before if len(before) < MAX_BEFORE else "{}"
        if before != shown.get("before"):
            shown = {"own": [], "before": before}
    # An event may come from a page that does not show the latest of them yet.
    own = [*shown["own"], signature(store.stages_of(view))]
    return {**shown, "own": own[-MAX_OWN:]}


def _store(ctx: Any) -> Any:
    return ctx.store("@embedding/quality/class_separability")


def _keep(ctx: Any, seat: str | None, shown: dict[str, Any]) -> None:
    _store(ctx).set(_key(ctx, seat), shown, ttl=KEPT_FOR, policy="evict")
    # The store counts the time from the first entry on.
    _store(ctx).update_ttl(_key(ctx, seat), KEPT_FOR)


def _key(ctx: Any, seat: str | None) -> str:
    return f"{ctx.params['panel_id']} {seat}"


def named_run(runs: list[Run], key: str | None) -> Run | None:
    return next((run for run in runs if run.key == key), None)


def version(run: Run) -> str:
    """Distinguishes a run from one of the same key that was computed later."""
    return f"{run.key} {run.written_at}"


def is_current(ctx: Any, runs: list[Run]) -> bool:
    """Whether what was seen last is still there; runs are deleted and computed again."""
    run = named_run(runs, get_state(ctx, "top.run"))
    others = (NONE, *(other.key for other in runs))
    return (
        run is not None
        and get_state(ctx, "read") == version(run)
        and get_state(ctx, "top.other") in others
    )


def seen_runs(ctx: Any) -> tuple[StoredSeparability, StoredSeparability | None]:
    """The run that is looked at, and the one that it is compared with.

    Raises:
        UserError: if they are not what is seen any more: what was clicked may have moved
    """
    runs = store.separability_runs(ctx.dataset)
    run = named_run(runs, get_state(ctx, "top.run"))
    if run is None or not is_current(ctx, runs):
        raise UserError("The run was deleted or recomputed; this is the current one")
    other = named_run(runs, get_state(ctx, "top.other"))
    stored = store.read_separability(ctx.dataset, run)
    if other is None or other.key == run.key:
        return stored, None
    return stored, store.read_separability(ctx.dataset, other)


def measure_key(ctx: Any) -> str:
    key = get_state(ctx, "sort")
    return key if key in MEASURES else "f1"


def sorting(ctx: Any) -> tuple[str, bool]:
    """The column that is sorted by, and whether the largest come first."""
    return get_state(ctx, "sort") or "f1", bool(get_state(ctx, "descending"))


def sort_by(ctx: Any, key: str) -> None:
    """Sorts by a column; once more, the other way round."""
    if key in ("against", "difference", "advice"):
        return
    before, descending = sorting(ctx)
    descending = not descending if key == before else default_descending(key)
    state = {"sort": key, "descending": descending, "page": 0}
    if key in MEASURES:
        state["tools.measure"] = key
    set_state(ctx, state)


def page_of(ctx: Any, stored: StoredSeparability) -> tuple[list[dict[str, Any]], int]:
    """The classes on the page that is looked at, and how many are found in all."""
    text = (get_state(ctx, "searched") or "").strip().lower()
    rows = [row for row in stored.classes.values() if text in row["label"].lower()]
    rows = worst_first(rows, *sorting(ctx))
    start = (get_state(ctx, "page") or 0) * PAGE
    return rows[start : start + PAGE], len(rows)


def mixing_with(stored: StoredSeparability, label: str) -> list[str]:
    """The classes that one mixes with most, in either direction."""
    strength: dict[str, float] = {}
    for (first, second), pair in stored.pairs.items():
        if label in (first, second) and pair["boundary"]:
            other = second if first == label else first
            share = pair["predicted_share"] + pair["neighbor_share"] / 1000
            strength[other] = max(strength.get(other, 0.0), share)
    return sorted(strength, key=lambda name: (-strength[name], name))[:NAMED_PAIRS]


def matrix_labels(ctx: Any, stored: StoredSeparability) -> tuple[list[str], int | str]:
    """The classes in the matrix, in their stored order, and which page of them that is.

    When there are many, the first page are those that are confused most.
    """
    order, page = stored.report["order"], get_state(ctx, "matrix") or 0
    if len(order) <= MATRIX:
        return order, 0
    if page == "all" and len(order) <= MAX_MATRIX:
        return order, "all"
    page = page if isinstance(page, int) else 0
    strongest = sorted(stored.report["pairs"], key=lambda pair: -pair["predicted_share"])
    ranked = [label for pair in strongest for label in (pair["label"], pair["other"])]
    ranked = list(dict.fromkeys([*ranked, *order]))
    chosen = set(ranked[page * MATRIX : (page + 1) * MATRIX])
    return [label for label in order if label in chosen], page


def form_parameters(run: Run) -> dict[str, Any]:
    """The parameters of a run as its form asks for them."""
    given = {**run.facts.parameters, "run_key": run.key}
    names = given.pop("embeddings")
    names = [names] if isinstance(names, str) else names
    given["embeddings"] = names[0]
    if len(names) > 1:
        given["compare_with"] = names[1]
    given.pop("seed", None)
    return {key: value for key, value in given.items() if value is not None}


def view_of(ctx: Any, stored: StoredSeparability, kind: str, label: str, other: str | None) -> Any:
    if kind == "class":
        return store.class_view(ctx.dataset, stored, label)
    if kind == "pair":
        return store.pair_view(ctx.dataset, stored, label, other or "")
    return store.flagged_view(ctx.dataset, stored, label, kind)


def show(
    ctx: Any, stored: StoredSeparability, kind: str, label: str, other: str | None = None
) -> None:
    """Shows samples in the grid and remembers what was shown before the first of them."""
    selection: dict[str, Any] = {"kind": kind, "label": label, "other": other, "count": None}
    try:
        view = view_of(ctx, stored, kind, label, other)
    except UserError:
        # Even if there is nothing to show, the class is selected: its numbers say why.
        with _clicking:
            set_shown(ctx, {**get_shown(ctx), "selection": selection})
        raise
    selection["count"] = len(view)
    with _clicking:
        shown = shown_since(ctx, get_shown(ctx), view)
        set_shown(ctx, {**shown, "selection": selection})
    ctx.ops.set_view(view=view)


def current_view(ctx: Any) -> dict[str, Any]:
    """What the grid shows, so that one can go back to it."""
    if ctx.request_params.get("view_name"):
        return {"name": ctx.request_params["view_name"]}
    if ctx.request_params.get("filters"):
        return {"stages": store.stages_of(ctx.view)}
    return {"stages": ctx.request_params.get("view") or []}


def is_shown(ctx: Any, own: Sequence[str]) -> bool:
    """Whether the grid shows one of the views with these signatures, perhaps filtered further."""
    seen = signature(ctx.request_params.get("view") or [])
    return any(seen.startswith(one) for one in own)


def signature(stages: list[dict[str, Any]]) -> str:
    """A hash of each stage of a view, without what FiftyOne adds to it, one after the other."""
    texts = (
        json.dumps(
            [stage["_cls"], [[k, v] for k, v in stage["kwargs"] if not k.startswith("_")]],
            sort_keys=True,
            default=str,
        )
        for stage in stages
    )
    return " ".join(hashlib.blake2b(text.encode(), digest_size=8).hexdigest() for text in texts)
