"""How far work is, as a share: of one step, and of the whole that it is a part of."""

from __future__ import annotations

from collections.abc import Callable

ProgressCallback = Callable[[float], None]


def part_of(
    progress: ProgressCallback | None, start: float, stop: float
) -> ProgressCallback | None:
    """The progress of a step that takes the whole from ``start`` to ``stop``, both in [0, 1]."""
    if progress is None:
        return None
    return lambda share: progress(start + share * (stop - start))
