"""What "Why this sample?" shows of a label: the suggestion, who says what, and the decisions."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import fiftyone.operators.types as types

from ..checks.evidence import Evidence, RunEvidence
from ..checks.label_issue_columns import LABEL_ISSUES
from ..checks.reviews import known_classes
from ..markup import markdown
from ..storage.labels import label_field_of
from ..storage.reviews import DISTINCT, FITS, REMOVE, TYPICAL
from ._measures import percent
from ._open_sample import Place, app_id
from ._state import get_state
from ._strips import draw_strip, short
from ._tables import wrapping_row

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
    FITS: "the caption fits",
    REMOVE: "tagged to be removed",
}

# Classes that the choice of a label offers; others can be typed.
MAX_CLASSES = 1000


def draw_label(
    panel: types.Object,
    ctx: Any,
    events: "WhyThisSample",
    place: Place,
    evidence: Evidence,
    known: RunEvidence,
) -> bool:
    """Adds what is known of a label, and what there is to decide."""
    facts, label = known.facts, evidence.seen.label
    suggested = facts.get("suggested")
    decided = facts["review"] is not None and not facts["flagged"]
    if decided:
        draw_decided(panel, events, place, known, _change(evidence))
    elif facts["flagged"] and suggested is not None:
        text = f"**{markdown(label)} → {markdown(suggested)}**"
        if (sure := facts.get("suggested_confidence")) is not None:
            text += f", confidence {percent(sure)} (not calibrated)"
        panel.md(text, name="label_title")
    elif facts["flagged"]:
        panel.md(f"**{markdown(label)}** is likely wrong{_reason(facts)}", name="label_title")
    else:
        panel.md(f"Label **{markdown(label)}**: not flagged", name="label_title")
    if not decided:
        _label_decisions(panel, ctx, events, place, evidence, known)
    panel.md(_votes(facts), name="votes")
    if known.others:
        title = "Neighbors with other labels"
        if known.num_others > len(known.others):
            title += f" ({len(known.others)} of {known.num_others:,})"
        draw_strip(panel, "against", title, known.others, lambda other: other.label or "no label")
    return True


def _change(evidence: Evidence) -> str:
    now, before = evidence.seen.label, evidence.original
    if before is None or before == now:
        return f"**{markdown(now)}**"
    return f"**{markdown(before)} → {markdown(now)}**"


def _reason(facts: Mapping[str, Any]) -> str:
    parts = [markdown(facts["reason"])] if facts.get("reason") else []
    for what in ("wrong", "missing"):
        if facts.get(what) and all(isinstance(name, str) for name in facts[what]):
            parts.append(f"{what}: {markdown(', '.join(facts[what]))}")
    return f" ({'; '.join(parts)})" if parts else ""


def _votes(facts: Mapping[str, Any]) -> str:
    said = []
    for name, who in (("probe", "Classifier"), ("neighbors", "Neighbors")):
        if facts.get(name) is not None:
            sure = facts.get(f"{name}_confidence")
            share = f" {percent(sure)}" if sure is not None else ""
            said.append(f"{who}: **{markdown(facts[name])}**{share}")
    if facts["quality"] is not None:
        said.append(f"Label quality {facts['quality']:.2f}")
    return " · ".join(said) or "No other label is more likely"


def _label_decisions(
    panel: types.Object,
    ctx: Any,
    events: "WhyThisSample",
    place: Place,
    evidence: Evidence,
    known: RunEvidence,
) -> None:
    facts, label = known.facts, evidence.seen.label
    asked = {"id": place.id, "run_key": known.run.key}
    row = panel.h_stack("decisions", gap=1, align_y="center", componentsProps=wrapping_row())

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
        decide("accept", short(text), "check", "contained", decision="accept")
    decide("keep", short(f"Keep {label}"), "shield", "outlined", decision="keep")
    others = dict.fromkeys((facts.get("probe"), facts.get("neighbors")))
    for number, other in enumerate(others):
        if other and other not in (label, facts.get("suggested")):
            decide(
                f"other{number}", short(f"Set {other}"), "edit", "outlined",
                decision="set", label=other,
            )  # fmt: skip
    _choice(panel, ctx, events, place, asked, evidence, known)


def _choice(
    panel: types.Object,
    ctx: Any,
    events: "WhyThisSample",
    place: Place,
    asked: dict[str, str | None],
    evidence: Evidence,
    known: RunEvidence,
) -> None:
    """The choice of any other label, with a button that can be pressed when there is one."""
    names = types.AutocompleteView(space=6)
    several = label_field_of(evidence.target, known.run.facts.required_label_field).several
    for name in _classes(evidence, known)[:MAX_CLASSES]:
        names.add_choice(name, label=name)
    wide = {"gridTemplateColumns": "minmax(0, 320px) max-content", "alignItems": "end"}
    row = panel.h_stack(choice_of(place), gap=1, componentsProps={"grid": {"sx": wide}})
    title = "Other labels, separated by commas" if several else "Another label"
    row.str("label", label=title, view=names, on_change=events.on_label)
    chosen = str(get_state(ctx, f"{choice_of(place)}.label") or "").strip()
    row.btn(
        "set",
        short(f"Set {chosen}") if chosen else "Set",
        icon="edit",
        variant="outlined",
        on_click=events.on_decide,
        params={**asked, "decision": "set"},
        disabled=not chosen,
    )


def choice_of(place: Place) -> str:
    """The part of the panel's state that holds a label, of this sample alone."""
    return f"choice_{app_id(place.id or '')}"


def _classes(evidence: Evidence, known: RunEvidence) -> list[str]:
    classes = known.run.facts.special.get("classes") or ()
    if names := [row["label"] for row in classes if row.get("label")]:
        return names
    return known_classes(evidence.target, known.run.facts.required_label_field)


def draw_decided(
    panel: types.Object, events: "WhyThisSample", place: Place, known: RunEvidence, what: str
) -> None:
    of_label = known.run.operator == LABEL_ISSUES.name
    row = panel.h_stack(f"decided_{known.run.operator}", gap=1, align_y="center")
    words = WORDS.get(known.facts["review"], markdown(known.facts["review"]))
    row.md(f"{what}{': ' if of_label else 'Decided: '}{words}", name="decided")
    row.btn(
        "take_back",
        "Withdraw review",
        icon="undo",
        variant="outlined",
        on_click=events.on_take_back,
        params={"id": place.id, "run_key": known.run.key},
    )
