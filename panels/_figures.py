"""Plotly figures of the panel, as dictionaries: bars of a measure, and the confusion of classes.

Text and lines take the colors of the App's theme. What carries meaning is colored so that it can
be distinguished by everyone, on dark and on light: a blue and an orange of Okabe and Ito's palette
that differ in lightness, and cividis.

Names are escaped wherever Plotly shows them, on its axes too, from where a click brings them:
``markup.from_plotly`` makes names of them again.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..markup import plotly
from ._measures import Measure, percent

BLUE, ORANGE, GRAY = "#4a90c4", "#e69f00", "#8c8c8c"
# Okabe and Ito's, those that show on dark and on light; a dash distinguishes lines without color.
COLORS = (BLUE, ORANGE, "#009e73", "#d55e00", "#cc79a7", "#56b4e9")
DASHES = ("solid", "dash", "dot")
FAINT = "rgba(128, 128, 128, 0.25)"

# Long names are cut at their end, on axes only.
MAX_NAME = 18

CONFIG = {"displayModeBar": False, "scrollZoom": False, "doubleClick": False}

Figure = tuple[list[dict[str, Any]], dict[str, Any]]


def bars(
    measure: Measure,
    rows: Sequence[dict[str, Any]],
    run_key: str,
    others: dict[str, dict[str, Any]] | None = None,
    other_key: str | None = None,
) -> Figure:
    """One bar for each class, the first on top; a second for the run compared with.

    Returns:
        the traces and the layout
    """
    labels = [row["label"] for row in rows]
    places = [plotly(label) for label in labels]
    values = [row[measure.key] for row in rows]
    shown = "%{x:.0%}" if measure.is_share else "%{x:,.3~g}"
    trace = {
        "type": "bar",
        "orientation": "h",
        "name": plotly(run_key),
        "y": places,
        "x": values,
        "marker": {"color": BLUE},
        "hovertemplate": f"{shown}<extra>{plotly(run_key)}</extra>",
    }
    if measure.key == "recall":
        trace["error_x"] = {
            "type": "data",
            "symmetric": False,
            "array": [_difference(row["recall_high"], row["recall"]) for row in rows],
            "arrayminus": [_difference(row["recall"], row["recall_low"]) for row in rows],
            "color": GRAY,
            "thickness": 1,
            "width": 2,
        }
    traces = [trace]
    if others is not None:
        traces.append(
            {
                **{key: value for key, value in trace.items() if key != "error_x"},
                "name": plotly(other_key),
                "x": [others.get(label, {}).get(measure.key) for label in labels],
                "marker": {"color": ORANGE},
                "hovertemplate": f"{shown}<extra>{plotly(other_key)}</extra>",
            }
        )
    if measure.key == "purity":
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "by chance",
                "y": places,
                "x": [row["purity_expected"] for row in rows],
                "marker": {"symbol": "line-ns-open", "size": 9, "color": GRAY},
                "hovertemplate": "%{x:.0%}<extra>by chance</extra>",
            }
        )
    height = 22 if others is None else 32
    axis = {"side": "top", "fixedrange": True, "title": {"text": ""}, "nticks": 6}
    if measure.is_share:
        axis |= {"range": [0, 1.02], "tickformat": ".0%"}
    layout = {
        "height": 70 + height * len(rows) + (24 if len(traces) > 1 else 0),
        "margin": {"t": 36, "l": 8, "r": 12, "b": 8 if len(traces) == 1 else 30},
        "bargap": 0.25,
        "barmode": "group",
        "dragmode": False,
        "hovermode": "y",  # a click beside a bar means its class, for a bar may have no length
        "xaxis": axis,
        "yaxis": _names(labels) | {"autorange": "reversed", "showgrid": False},
        "showlegend": len(traces) > 1,
        "legend": {"orientation": "h", "x": 0, "y": 0, "yanchor": "top", "traceorder": "normal"},
        "hoverlabel": {"align": "left"},
        "font": {"size": 12},
    }
    return traces, layout


def confusion(
    labels: Sequence[str],
    pairs: dict[tuple[str, str], dict[str, Any]],
    classes: dict[str, dict[str, Any]],
    key: str,
) -> Figure:
    """What each class (row) is predicted as (column); the diagonal is gray.

    Args:
        labels: the classes, in their order
        pairs: the measures of pairs
        classes: the measures of classes
        key: ``"predicted_share"`` or ``"neighbor_share"``

    Returns:
        the traces and the layout
    """
    what = "predicted as" if key == "predicted_share" else "neighbors of class"
    own = "recall" if key == "predicted_share" else "purity"
    shares = [
        [None if a == b else pairs.get((a, b), {}).get(key, 0.0) for b in labels] for a in labels
    ]
    largest = max((share for row in shares for share in row if share is not None), default=0)
    places = [plotly(label) for label in labels]
    heat = {
        "type": "heatmap",
        "x": places,
        "y": places,
        "z": shares,
        "zmin": 0,
        "zmax": max(largest, 0.05),
        "colorscale": "Cividis",
        "hoverongaps": False,
        "xgap": 1 if len(labels) <= 60 else 0,
        "ygap": 1 if len(labels) <= 60 else 0,
        "hovertemplate": f"%{{z:.1%}} of %{{y}} {what} %{{x}}<extra></extra>",
        "colorbar": {
            "orientation": "h",
            "y": 1,
            "yanchor": "bottom",
            "x": 0.5,
            "thickness": 8,
            "len": 1,
            "tickformat": ".0%",
            "nticks": 6,
            "ypad": 4,
            "outlinewidth": 0,
            "tickfont": {"size": 10},
        },
    }
    diagonal = {
        "type": "heatmap",
        "x": places,
        "y": places,
        "z": [[0 if a == b else None for b in labels] for a in labels],
        "text": [[percent(classes[a][own]) if a == b else "" for b in labels] for a in labels],
        "colorscale": [[0, FAINT], [1, FAINT]],
        "showscale": False,
        "hoverongaps": False,
        "xgap": heat["xgap"],
        "ygap": heat["ygap"],
        "hovertemplate": f"%{{y}}: {own} %{{text}}<extra></extra>",
    }
    cell = 15 if len(labels) <= 60 else 5
    layout = {
        "height": 190 + max(cell * len(labels), 130),
        "margin": {"t": 48, "l": 8, "r": 12, "b": 8},
        "dragmode": False,
        "xaxis": _names(labels) | {"tickangle": 90, "showgrid": False},
        "yaxis": _names(labels) | {"autorange": "reversed", "showgrid": False},
        "hoverlabel": {"align": "left"},
        "font": {"size": 11},
    }
    return [heat, diagonal], layout


def history(lines: Mapping[tuple[str, str], Sequence[tuple[str, float]]]) -> Figure:
    """What runs reported over time: counts of findings, and above them balanced accuracy.

    Args:
        lines: by run and kind, when it was reported (ISO 8601, UTC) and how much

    Returns:
        the traces and the layout
    """
    traces, of_kind = [], Counter(kind for _, kind in lines)
    for number, ((run_key, kind), points) in enumerate(lines.items()):
        accuracy = kind == "accuracy"
        name = f"{kind} ({plotly(run_key)})" if of_kind[kind] > 1 else kind
        shown = "%{y:.1%}" if accuracy else "%{y:,}"
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": name,
                "x": [when[:19] for when, _ in points],
                "y": [value for _, value in points],
                "yaxis": "y2" if accuracy else "y",
                "line": {"color": COLORS[number % len(COLORS)], "dash": DASHES[number % 3]},
                "hovertemplate": f"{shown}, %{{x|%Y-%m-%d %H:%M}}<extra>{name}</extra>",
            }
        )
    axis = {"fixedrange": True, "title": {"text": ""}}
    has_accuracy = bool(of_kind["accuracy"])
    layout = {
        "height": 250 + 60 * has_accuracy,
        "margin": {"t": 8, "l": 44, "r": 12, "b": 60},
        "dragmode": False,
        "xaxis": axis | {"type": "date", "nticks": 5},
        "yaxis": axis | {"rangemode": "tozero", "domain": [0, 0.66 if has_accuracy else 1]},
        "yaxis2": axis | {"tickformat": ".0%", "domain": [0.74, 1], "nticks": 4},
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": -0.16, "yanchor": "top"},
        "font": {"size": 12},
    }
    return traces, layout


def _names(labels: Sequence[str]) -> dict[str, Any]:
    """An axis of names: those that look like numbers are still names."""
    return {
        "type": "category",
        "fixedrange": True,
        "title": {"text": ""},
        "zeroline": False,
        "tickmode": "array",
        "tickvals": [plotly(label) for label in labels],
        "ticktext": [
            plotly(label if len(label) <= MAX_NAME else label[: MAX_NAME - 1] + "…")
            for label in labels
        ],
        "showticklabels": len(labels) <= 60,
    }


def _difference(high: float | None, low: float | None) -> float:
    return 0.0 if high is None or low is None else high - low
