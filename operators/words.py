"""Lines that several summaries have."""

from typing import Any

from ..checks.progress import counted
from ..markup import markdown


def skipped_lines(result: dict[str, Any]) -> list[str]:
    """What was not evaluated, and why, for summaries."""
    return [
        f"- {counted_of(count, result['things'])} skipped: {markdown(reason)}"
        for reason, count in sorted(result["skipped"].items(), key=lambda item: -item[1])
    ]


def counted_of(count: int, noun: str) -> str:
    """A number of samples, frames or patches: ``1 patch``, ``1,200 patches``."""
    return counted(count, {"patches": "patch"}.get(noun, noun.removesuffix("s")))
