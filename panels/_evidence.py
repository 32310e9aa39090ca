"""What "Why this sample?" shows of one sample or patch: a section for each run, with decisions."""

from typing import TYPE_CHECKING, Any

import fiftyone.operators.types as types

from ..checks.evidence import Evidence, Other, RunEvidence
from ..markup import code, markdown
from ..storage.reviews import DISTINCT, FITS, REMOVE, TYPICAL
from ._label_evidence import draw_decided, draw_label
from ._measures import percent
from ._open_sample import Place
from ._strips import LARGE, draw_strip, short
from ._tables import wrapping_row

if TYPE_CHECKING:
    from .why_this_sample import WhyThisSample

# Runs on something else that are offered.
MAX_OTHERS = 6

# Characters of a caption that are shown.
MAX_CAPTION = 300


def draw_hint(panel: types.Object, events: "WhyThisSample", place: Place) -> None:
    """Adds what to do where nothing is open, or nothing is known."""
    if not place.runs and place.others:
        panel.md(
            f"**No check covers {place.about.words}**; these open what the checks cover:",
            name="hint",
        )
        for number, run in enumerate(place.others[:MAX_OTHERS]):
            panel.btn(
                f"other{number}",
                short(f"Review {run.key}: {run.facts.about.words}", 60),
                icon="rate_review",
                variant="outlined",
                on_click=events.on_other,
                params={"run_key": run.key},
            )
        return
    if not place.runs:
        panel.md(
            "**No results yet**\n\nRun **Quality: audit**; this panel then shows its findings "
            "for each sample, and you review them here.",
            name="hint",
        )
        return
    open_, total = place.queue.num_open, len(place.queue.ids)
    what = f" of {code(place.queued.key)}" if place.queued is not None else ""
    if not open_:
        panel.md(
            f"**Everything is reviewed**{what}. Open a sample to see its findings.", name="hint"
        )
        return
    panel.md(
        f"**{open_:,} of {total:,}{what} to review.** Open a sample, or start with the first.",
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
        undo: whether there is a decision to undo
    """
    _progress(panel, events, place, undo)
    sections = [
        (evidence.label, lambda known: draw_label(panel, ctx, events, place, evidence, known)),
        (evidence.duplicate, lambda known: _duplicate(panel, events, place, evidence, known)),
        (evidence.outlier, lambda known: _outlier(panel, events, place, known)),
        (evidence.caption, lambda known: _caption(panel, events, place, evidence, known)),
    ]
    # What the queue is about comes first.
    queued = place.queued.key if place.queued is not None else None
    sections.sort(key=lambda section: section[0] is None or section[0].run.key != queued)
    drawn = [draw(known) for known, draw in sections if known is not None]
    if not any(drawn):
        panel.md("No check found an issue here.", name="nothing")
    if evidence.duplicate is None or not evidence.duplicate.others:
        seen = [evidence.seen]
        draw_strip(panel, "open", None, seen, lambda other: other.label or "no label", LARGE)
    _facts(panel, evidence)


def _progress(panel: types.Object, events: "WhyThisSample", place: Place, undo: bool) -> None:
    queue, index = place.queue, place.queue.place(place.id)
    row = panel.h_stack("moves", gap=1, align_y="center", componentsProps=wrapping_row())
    where = {"params": {"id": place.id}, "variant": "outlined"}
    row.btn("back", "Back", icon="arrow_back", on_click=events.on_back, disabled=not index, **where)
    row.btn("skip", "Skip", icon="arrow_forward", on_click=events.on_skip, **where)
    row.btn("undo", "Undo", icon="undo", on_click=events.on_undo, disabled=not undo, **where)
    total, done = len(queue.ids), len(queue.decided)
    if not total:
        return
    text = f"{index + 1:,} of {total:,}" if index is not None else f"{total:,} in the queue"
    if place.queued is not None:
        text += f" in {code(place.queued.key)}, {done:,} reviewed"
        panel.float("progress", default=done / total, view=types.ProgressView(variant="linear"))
    row.md(text, name="where")
    if place.queued is not None and done == total:
        finish = panel.h_stack("finish", gap=1, align_y="center")
        finish.md("**Everything in this queue is reviewed.**", name="finished")
        finish.btn("close", "Finish", icon="done", variant="contained", on_click=events.on_finish)


# Duplicates, outliers and captions


def _duplicate(
    panel: types.Object,
    events: "WhyThisSample",
    place: Place,
    evidence: Evidence,
    known: RunEvidence,
) -> bool:
    facts = known.facts
    if facts["group"] is None:
        return False
    kept = facts["keep"] and facts["review"] is None
    field = known.run.facts.parameters.get("text_field")
    what = "Exact copy" if facts["kind"] == "exact" else "Near-duplicate"
    text = f"**{what}**{f' by its text in {code(field)}' if field else ''}"
    text += f", one of {known.num_others:,}"
    if kept:
        text += ": **this is the representative**"
    elif facts["change"]:
        compared = "words" if field else "pixels"
        sure = f", {compared} agree {percent(facts['agreement'])}" if facts["agreement"] else ""
        text += f": {markdown(facts['change'])}{sure}"
    panel.md(text, name="duplicate_title")
    if not kept:
        _decisions(
            panel, "duplicate", events, place, known,
            ((DISTINCT, "Not a duplicate", "call_split"), (REMOVE, "Tag to remove", "delete")),
        )  # fmt: skip
    draw_strip(panel, "members", "Its group", known.others, lambda other: _member(other, place))
    return True


def _member(other: Other, place: Place) -> str:
    parts = [other.label, other.split]
    if other.id.partition("@")[0] == (place.id or "").partition("@")[0]:
        parts.append("this image")
    if other.facts.get("keep"):
        parts.append("kept")
    return " · ".join(part for part in parts if part) or "no label"


def _outlier(
    panel: types.Object, events: "WhyThisSample", place: Place, known: RunEvidence
) -> bool:
    facts = known.facts
    if not facts["flagged"] and facts["review"] is None:
        return False
    reason = markdown(facts["reason"] or "unlike the other samples")
    text = f"**Outlier**: {reason}"
    if facts["score"] is not None:
        text += f", score {facts['score']:.2f}"
    panel.md(text, name="outlier_title")
    _decisions(
        panel, "outlier", events, place, known,
        ((TYPICAL, "Not an outlier", "check"), (REMOVE, "Tag to remove", "delete")),
    )  # fmt: skip
    return True


def _caption(
    panel: types.Object,
    events: "WhyThisSample",
    place: Place,
    evidence: Evidence,
    known: RunEvidence,
) -> bool:
    facts = known.facts
    if not facts["flagged"] and facts["review"] is None:
        return False
    text = (
        f"**The caption does not match its image**, place {facts['rank']:,}"
        if facts["rank"]
        else "**Caption**"
    )
    if facts["score"] is not None:
        text += f": {percent(facts['score'])} of other pairings match at least as well"
    if evidence.text:
        text += f"\n\n> {markdown(short(' '.join(evidence.text.split()), MAX_CAPTION))}"
    panel.md(text, name="caption_title")
    _decisions(
        panel, "caption", events, place, known,
        ((FITS, "Caption matches", "check"), (REMOVE, "Tag to remove", "delete")),
    )  # fmt: skip
    return True


def _decisions(
    panel: types.Object,
    name: str,
    events: "WhyThisSample",
    place: Place,
    known: RunEvidence,
    offered: tuple[tuple[str, str, str], ...],
) -> None:
    """Adds the decisions that are offered, or the one that was made."""
    if known.facts["review"] is not None:
        draw_decided(panel, events, place, known, "")
        return
    row = panel.h_stack(f"{name}_decisions", gap=1, componentsProps=wrapping_row())
    for decision, text, icon in offered:
        row.btn(
            f"{name}_{decision}",
            text,
            icon=icon,
            variant="outlined",
            on_click=events.on_decide,
            params={"id": place.id, "run_key": known.run.key, "decision": decision},
        )


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
