"""What "Why this sample?" shows of one sample or patch: a section for each run, with decisions."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import fiftyone.operators.types as types

from ..checks.evidence import Evidence, Known, Other
from ..checks.label_issue_columns import LABEL_ISSUES
from ..checks.reviews import known_classes
from ..markup import code, markdown
from ..storage.labels import label_field_of
from ..storage.reviews import DISTINCT, REMOVE, TYPICAL
from ._measures import percent
from ._open_sample import Place, app_id
from ._state import get_state
from ._tables import fitted_row

if TYPE_CHECKING:
    from .why_this_sample import WhyThisSample

WORDS = {
    "accepted": "the suggestion was accepted",
    "changed": "another label was set",
    "kept": "the label was kept",
    "corrected": "another label was set",
    "verified": "the label was kept",
    DISTINCT: "not a duplicate",
    TYPICAL: "not an outlier",
    REMOVE: "tagged to be removed",
}

# Classes that the choice of a label offers; others can be typed.
MAX_CLASSES = 1000

# Width and height of thumbnails on the screen.
SMALL, LARGE = ("96px", "76px"), ("200px", "160px")


def draw_hint(panel: types.Object, events: "WhyThisSample", place: Place) -> None:
    """Adds what to do where nothing is open, or nothing is known."""
    if not place.runs:
        panel.md(
            "**Nothing is known yet**\n\nRun **Quality: audit**; this panel then shows what its "
            "checks found out about each sample, and takes your decisions.",
            name="hint",
        )
        return
    open_, total = place.queue.num_open, len(place.queue.ids)
    what = f" of {code(place.queued.key)}" if place.queued is not None else ""
    if not open_:
        panel.md(f"**Nothing is left to decide**{what}. Open a sample to see why.", name="hint")
        return
    panel.md(
        f"**{open_:,} of {total:,}{what} left to decide.** Open a sample, or start with the first.",
        name="hint",
    )
    panel.btn(
        "start",
        "Start the review",
        icon="play_arrow",
        variant="contained",
        on_click=events.on_start,
    )


def draw_evidence(
    panel: types.Object,
    ctx: Any,
    events: "WhyThisSample",
    place: Place,
    evidence: Evidence,
    undo: bool,
) -> None:
    """Adds everything that is known of a sample or patch.

    Args:
        panel: what is added to
        ctx: the context of the event
        events: what clicks call
        place: where the person is
        evidence: what is known
        undo: whether there is a decision to take back
    """
    _progress(panel, events, place, undo)
    sections = [
        (evidence.label, lambda known: _label(panel, ctx, events, place, evidence, known)),
        (evidence.duplicate, lambda known: _duplicate(panel, events, place, evidence, known)),
        (evidence.outlier, lambda known: _outlier(panel, events, place, known)),
    ]
    # What the queue is about comes first.
    queued = place.queued.key if place.queued is not None else None
    sections.sort(key=lambda section: section[0] is None or section[0].run.key != queued)
    drawn = [draw(known) for known, draw in sections if known is not None]
    if not any(drawn):
        panel.md("No check found anything about it.", name="nothing")
    if evidence.duplicate is None or not evidence.duplicate.others:
        seen = [evidence.seen]
        _strip(panel, "open", None, seen, lambda other: other.label or "no label", LARGE)
    _facts(panel, evidence)


def _progress(panel: types.Object, events: "WhyThisSample", place: Place, undo: bool) -> None:
    queue, at = place.queue, place.queue.place(place.id)
    row = panel.h_stack("moves", gap=1, align_y="center", componentsProps=fitted_row())
    where = {"params": {"id": place.id}, "variant": "outlined"}
    row.btn("back", "Back", icon="arrow_back", on_click=events.on_back, disabled=not at, **where)
    row.btn("skip", "Skip", icon="arrow_forward", on_click=events.on_skip, **where)
    row.btn("undo", "Undo", icon="undo", on_click=events.on_undo, disabled=not undo, **where)
    total, done = len(queue.ids), len(queue.decided)
    if not total:
        return
    text = f"{at + 1:,} of {total:,}" if at is not None else f"{total:,} in the queue"
    if place.queued is not None:
        text += f" in {code(place.queued.key)}, {done:,} decided"
        panel.float("progress", default=done / total, view=types.ProgressView(variant="linear"))
    row.md(text, name="where")
    if place.queued is not None and done == total:
        finish = panel.h_stack("finish", gap=1, align_y="center")
        finish.md("**Everything in this queue is decided.**", name="finished")
        finish.btn("close", "Finish", icon="done", variant="contained", on_click=events.on_finish)


# Label issues


def _label(
    panel: types.Object,
    ctx: Any,
    events: "WhyThisSample",
    place: Place,
    evidence: Evidence,
    known: Known,
) -> bool:
    facts, label, run_key = known.facts, evidence.seen.label, known.run.key
    suggested = facts.get("suggested")
    decided = facts["review"] is not None and not facts["flagged"]
    if decided:
        _decided(panel, events, place, known, _change(evidence))
    elif facts["flagged"] and suggested is not None:
        sure = percent(facts.get("suggested_confidence"))
        text = f"**{markdown(label)} → {markdown(suggested)}**, {sure} sure"
        panel.md(text, name="label_title")
    elif facts["flagged"]:
        panel.md(f"**{markdown(label)}** is likely wrong{_told(facts)}", name="label_title")
    else:
        panel.md(f"Label **{markdown(label)}**: not flagged", name="label_title")
    if not decided:
        _label_decisions(panel, ctx, events, place, evidence, known)
    panel.md(_witnesses(facts), name="witnesses")
    if known.others:
        title = "Neighbors that speak against the label"
        if known.num_others > len(known.others):
            title += f" ({len(known.others)} of {known.num_others:,})"
        _strip(panel, "against", title, known.others, lambda other: other.label or "no label")
    return bool(facts["flagged"] or decided or run_key)


def _change(evidence: Evidence) -> str:
    now, before = evidence.seen.label, evidence.original
    if before is None or before == now:
        return f"**{markdown(now)}**"
    return f"**{markdown(before)} → {markdown(now)}**"


def _told(facts: dict[str, Any]) -> str:
    parts = [markdown(facts["reason"])] if facts.get("reason") else []
    for what in ("wrong", "missing"):
        if facts.get(what) and all(isinstance(name, str) for name in facts[what]):
            parts.append(f"{what}: {markdown(', '.join(facts[what]))}")
    return f" ({'; '.join(parts)})" if parts else ""


def _witnesses(facts: dict[str, Any]) -> str:
    said = []
    for name, who in (("probe", "Classifier"), ("neighbors", "Neighbors")):
        if facts.get(name) is not None:
            sure = facts.get(f"{name}_confidence")
            share = f" {percent(sure)}" if sure is not None else ""
            said.append(f"{who}: **{markdown(facts[name])}**{share}")
    if facts["quality"] is not None:
        said.append(f"Label quality {percent(facts['quality'])}")
    return " · ".join(said) or "No other label is likelier"


def _label_decisions(
    panel: types.Object,
    ctx: Any,
    events: "WhyThisSample",
    place: Place,
    evidence: Evidence,
    known: Known,
) -> None:
    facts, label = known.facts, evidence.seen.label
    asked = {"id": place.id, "run_key": known.run.key}
    row = panel.h_stack("decisions", gap=1, align_y="center", componentsProps=fitted_row())

    def decide(name: str, text: str, icon: str, look: str, **more: Any) -> None:
        row.btn(
            name,
            text,
            icon=icon,
            variant=look,
            on_click=events.on_decide,
            params={**asked, **more},
        )

    accepts = facts["flagged"] and (
        facts.get("suggested") or facts.get("wrong") or facts["missing"]
    )
    if accepts:
        text = f"Accept {facts['suggested']}" if facts.get("suggested") else "Accept"
        decide("accept", _short(text), "check", "contained", decision="accept")
    decide("keep", _short(f"Keep {label}"), "shield", "outlined", decision="keep")
    others = dict.fromkeys((facts.get("probe"), facts.get("neighbors")))
    for number, other in enumerate(others):
        if other and other not in (label, facts.get("suggested")):
            decide(
                f"other{number}", _short(f"Set {other}"), "edit", "outlined",
                decision="set", label=other,
            )  # fmt: skip
    _choice(panel, ctx, events, place, asked, evidence, known)


def _choice(
    panel: types.Object,
    ctx: Any,
    events: "WhyThisSample",
    place: Place,
    asked: dict[str, str],
    evidence: Evidence,
    known: Known,
) -> None:
    """The choice of any other label, with a button that can be pressed when there is one."""
    names = types.AutocompleteView(space=6)
    several = label_field_of(evidence.target, known.run.facts.label_field).several
    for name in _classes(evidence, known)[:MAX_CLASSES]:
        names.add_choice(name, label=name)
    wide = {"gridTemplateColumns": "minmax(0, 320px) max-content", "alignItems": "end"}
    row = panel.h_stack(choice_of(place), gap=1, componentsProps={"grid": {"sx": wide}})
    title = "Other labels, with commas between them" if several else "Another label"
    row.str("label", label=title, view=names, on_change=events.on_label)
    chosen = str(get_state(ctx, f"{choice_of(place)}.label") or "").strip()
    row.btn(
        "set",
        _short(f"Set {chosen}") if chosen else "Set",
        icon="edit",
        variant="outlined",
        on_click=events.on_decide,
        params={**asked, "decision": "set"},
        disabled=not chosen,
    )


def choice_of(place: Place) -> str:
    """The part of the panel's state that holds a label, of this sample alone."""
    return f"choice_{app_id(place.id)}"


def _classes(evidence: Evidence, known: Known) -> list[str]:
    told = known.run.facts.special.get("classes") or ()
    if names := [row["label"] for row in told if row.get("label")]:
        return names
    return known_classes(evidence.target, known.run.facts.label_field)


# Duplicates and outliers


def _duplicate(
    panel: types.Object, events: "WhyThisSample", place: Place, evidence: Evidence, known: Known
) -> bool:
    facts = known.facts
    if facts["group"] is None:
        return False
    kept = facts["keep"] and facts["review"] is None
    what = "Exact copy" if facts["kind"] == "exact" else "Near-duplicate"
    text = f"**{what}**, one of {known.num_others:,}"
    if kept:
        text += ": **this one is kept**"
    elif facts["change"]:
        sure = f", pixels agree {percent(facts['agreement'])}" if facts["agreement"] else ""
        text += f": {markdown(facts['change'])}{sure}"
    panel.md(text, name="duplicate_title")
    if facts["review"] is not None:
        _decided(panel, events, place, known, "")
    elif not kept:
        _decisions(
            panel, "duplicate", events, place, known,
            ((DISTINCT, "Not a duplicate", "call_split"), (REMOVE, "Tag to remove", "delete")),
        )  # fmt: skip
    _strip(panel, "members", "Its group", known.others, lambda other: _member(other, place))
    return True


def _member(other: Other, place: Place) -> str:
    parts = [other.label, other.split]
    if other.id.partition("@")[0] == (place.id or "").partition("@")[0]:
        parts.append("this one")
    if other.facts.get("keep"):
        parts.append("kept")
    return " · ".join(part for part in parts if part) or "no label"


def _outlier(panel: types.Object, events: "WhyThisSample", place: Place, known: Known) -> bool:
    facts = known.facts
    if not facts["flagged"] and facts["review"] is None:
        return False
    reason = markdown(facts["reason"] or "unlike the others")
    text = f"**Outlier**: {reason}"
    if facts["score"] is not None:
        text += f", score {facts['score']:.2f}"
    panel.md(text, name="outlier_title")
    if facts["review"] is not None:
        _decided(panel, events, place, known, "")
    else:
        _decisions(
            panel, "outlier", events, place, known,
            ((TYPICAL, "Not an outlier", "check"), (REMOVE, "Tag to remove", "delete")),
        )  # fmt: skip
    return True


def _decisions(
    panel: types.Object,
    name: str,
    events: "WhyThisSample",
    place: Place,
    known: Known,
    offered: tuple[tuple[str, str, str], ...],
) -> None:
    row = panel.h_stack(f"{name}_decisions", gap=1, componentsProps=fitted_row())
    for decision, text, icon in offered:
        row.btn(
            f"{name}_{decision}",
            text,
            icon=icon,
            variant="outlined",
            on_click=events.on_decide,
            params={"id": place.id, "run_key": known.run.key, "decision": decision},
        )


def _decided(
    panel: types.Object, events: "WhyThisSample", place: Place, known: Known, what: str
) -> None:
    of_label = known.run.operator == LABEL_ISSUES.name
    row = panel.h_stack(f"decided_{known.run.operator}", gap=1, align_y="center")
    words = WORDS.get(known.facts["review"], markdown(known.facts["review"]))
    row.md(f"{what}{': ' if of_label else 'Decided: '}{words}", name="decided")
    row.btn(
        "take_back",
        "Take back",
        icon="undo",
        variant="outlined",
        on_click=events.on_take_back,
        params={"id": place.id, "run_key": known.run.key},
    )


# Images and facts


def _strip(
    panel: types.Object,
    name: str,
    title: str | None,
    others: Sequence[Other],
    caption: Callable[[Other], str],
    size: tuple[str, str] = SMALL,
) -> None:
    """Adds a row of captioned thumbnails."""
    from ..report.thumbnails import make_thumbnails

    if title is not None:
        panel.md(title, name=f"{name}_title")
    width, height = size
    made = make_thumbnails((other.filepath, other.box) for other in others)
    strip = panel.h_stack(name, gap=1, width="100%", componentsProps=_wrapping(width))
    for number, other in enumerate(others):
        thumbnail, text = made[(other.filepath, other.box)], _short(caption(other), 32)
        if thumbnail.uri is None:
            strip.md(f"{markdown(text)}: cannot be read", name=f"{name}{number}")
            continue
        strip.view(
            f"{name}{number}",
            types.ImageView(width=width, height=height, alt=text),
            default=thumbnail.uri,
            label=text,
        )


def _wrapping(width: str) -> dict[str, Any]:
    """Properties of a row of pictures that goes on below, with room for its captions."""
    columns = f"repeat(auto-fill, {width})"
    return {
        "grid": {
            "sx": {
                "gridAutoFlow": "row",
                "gridTemplateColumns": columns,
                "pb": 6,
                "alignItems": "end",
            }
        }
    }


def _facts(panel: types.Object, evidence: Evidence) -> None:
    parts = [code(evidence.seen.filepath.replace("\\", "/").rpartition("/")[2])]
    measured = evidence.measured
    if "width" in measured and "height" in measured:
        parts.append(f"{measured['width']:,} × {measured['height']:,}")
    if "bytes" in measured:
        parts.append(f"{measured['bytes'] / 1000:,.0f} kB")
    if evidence.seen.split:
        parts.append(markdown(evidence.seen.split))
    panel.md(" · ".join(parts), name="facts")


def _short(text: str, length: int = 36) -> str:
    """A text for a button or caption; a long one is cut in its middle."""
    if len(text) <= length:
        return text
    half = (length - 1) // 2
    return f"{text[:half]}…{text[-half:]}"
