"""The threshold of a finding of "Dataset quality": a histogram, a slider with a live count, Apply.

While it is open the panel shows nothing else: FiftyOne's App draws the whole panel for each move.
"""

from typing import TYPE_CHECKING, Any

import fiftyone.operators.types as types

from ..checks.thresholds import STEPS, Scores, read_scores
from ..markup import code
from ..storage.runs import Run
from ._figures import BLUE, CONFIG, GRAY, ORANGE, Figure
from ._state import get_state
from ._tables import wrapping_row

if TYPE_CHECKING:
    from .dataset_quality import DatasetQuality

# What the panel's state holds: the run whose threshold is open, and how many sliders there were.
OPEN, SLIDERS = "threshold_of", "sliders"


def new_slider(ctx: Any) -> dict[str, int]:
    """The change of the state with which the next slider forgets where the last one stood."""
    return {SLIDERS: int(get_state(ctx, SLIDERS) or 0) + 1}


def draw_threshold(panel: types.Object, ctx: Any, events: "DatasetQuality", run: Run) -> None:
    """Adds histogram, slider and buttons, and nothing else: each move draws all of it anew."""
    panel.md(f"**Threshold of {code(run.key)}**", name="threshold_of_run")
    row = panel.h_stack("threshold_head", gap=1, componentsProps=wrapping_row())
    of_run = {"run_key": run.key}
    row.btn(
        "all_findings",
        "All findings",
        icon="arrow_back",
        variant="outlined",
        on_click=events.on_threshold,
        params={**of_run, "open": False},
    )
    flagged = f"{run.key}: flagged"
    if flagged in run.views:
        row.btn(
            "show_flagged",
            "Show",
            icon="visibility",
            variant="outlined",
            on_click=events.on_show,
            params={**of_run, "view": flagged},
        )
    scores = read_scores(ctx.dataset, run)
    # The slider knows no 0: with less than its least value, it would report a change of its own.
    own = min(max(round(scores.nearest() * STEPS), 1), STEPS - 1)
    # Where a slider stands is in the state under its name. A default that follows it would be an
    # event of its own, and two answers that cross would set one another off without end.
    slider = f"slider{get_state(ctx, SLIDERS)}"
    chosen = round(get_state(ctx, slider) or own)
    data, layout = _histogram(scores, chosen)
    panel.plot("histogram", data=data, layout=layout, config=CONFIG)
    panel.float(
        slider,
        label="Quality" if scores.low else "Score",
        default=own,
        min=1,
        max=STEPS - 1,
        view=types.SliderView(value_label_display="off"),  # it would say 1.000000
        on_change=events.on_slide,
    )
    panel.md(_forecast(scores, chosen / STEPS), name="above")
    row = panel.h_stack("thresholds", gap=1, componentsProps=wrapping_row())
    apply = {**of_run, "threshold": chosen / STEPS}
    row.btn(
        "apply",
        f"Flag {'up to' if scores.low else 'from'} {chosen / STEPS:.2f}",
        icon="done",
        variant="contained",
        disabled=scores.threshold is not None and chosen == own,
        on_click=events.on_move,
        params=apply,
    )
    if scores.moved:
        row.btn(
            "reset",
            "Reset",
            icon="undo",
            variant="outlined",
            on_click=events.on_move,
            params={**apply, "threshold": None},
        )


def _forecast(scores: Scores, chosen: float) -> str:
    """How many the slider would flag, and what is flagged now."""
    count = int(scores.flags(chosen).sum())
    if scores.threshold is None:
        now = f"{int(scores.now.sum()):,} are flagged now, based on more than their quality"
    else:
        now = f"the threshold is {scores.threshold:.2f}" + (", set manually" * scores.moved)
    return f"**{count:,} flagged at {_reached(scores, f'{chosen:.2f}')}**; {now}"


def _reached(scores: Scores, threshold: str) -> str:
    return f"quality {threshold} or less" if scores.low else f"score {threshold} or more"


def _histogram(scores: Scores, chosen: int) -> Figure:
    """How many have which score, those that would be flagged in another color.

    Pointing at a bar says what its threshold would flag, without asking the server.
    """
    reached = _reached(scores, "%{customdata[0]:.2f}")
    trace = {
        "type": "bar",
        "x": [(place + 0.5) / STEPS for place in range(STEPS)],
        "y": list(scores.counts),
        "marker": {
            "color": [ORANGE if (place < chosen) == scores.low else BLUE for place in range(STEPS)]
        },
        "customdata": scores.forecasts,
        "hovertemplate": f"<b>%{{customdata[1]:,}} flagged</b> at {reached}<br>"
        "%{y:,} in this bar<extra></extra>",
    }
    line = {
        "type": "line",
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": GRAY, "dash": "dot"},
    }
    line |= {"x0": chosen / STEPS, "x1": chosen / STEPS}
    layout = {
        "height": 150,
        "margin": {"t": 8, "l": 56, "r": 12, "b": 30},
        "bargap": 0.05,
        "dragmode": False,
        "hovermode": "x",  # low bars, too
        "hoverlabel": {"bgcolor": "white", "font": {"color": "black"}},
        "showlegend": False,
        "shapes": [line],
        "xaxis": {"range": [0, 1], "fixedrange": True, "title": {"text": ""}},
        # Few are unusual: on a linear axis they would not be seen.
        "yaxis": {
            "type": "log",
            "fixedrange": True,
            "tickvals": [10**power for power in range(7)],
            "title": {"text": "Count (log)", "font": {"size": 11}},
        },
        "font": {"size": 12},
    }
    return [trace], layout
