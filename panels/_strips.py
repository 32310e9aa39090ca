"""Rows of captioned thumbnails, and short texts for what has little room."""

from collections.abc import Callable, Sequence
from typing import Any

import fiftyone.operators.types as types

from ..checks.evidence import Other
from ..markup import markdown

# Width and height of thumbnails on the screen.
SMALL, LARGE = ("96px", "76px"), ("200px", "160px")


def draw_strip(
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
        thumbnail, text = made[(other.filepath, other.box)], short(caption(other), 32)
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
    """Properties of a row of images that goes on below, with room for its captions."""
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


def short(text: str, length: int = 36) -> str:
    """A text for a button or caption; a long one is cut in its middle."""
    if len(text) <= length:
        return text
    half = (length - 1) // 2
    return f"{text[:half]}…{text[-half:]}"
