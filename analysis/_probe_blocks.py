"""Work on blocks of rows in a pool of threads, and sums of it in an order that never changes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

# Rows handled at once where a block of (rows, classes) is needed.
BLOCK_ROWS = 2048


def row_blocks(start: int, stop: int) -> list[slice]:
    return [slice(first, min(first + BLOCK_ROWS, stop)) for first in range(start, stop, BLOCK_ROWS)]


def run_blocks(pool: Executor, work: Callable[[slice], object], blocks: list[slice]) -> None:
    for _ in pool.map(work, blocks):
        pass


def total_of(pool: Executor, work: Callable[[slice], Any], blocks: list[slice]) -> Any:
    """The sum of what ``work`` returns for the blocks, always in the same order."""
    results = pool.map(work, blocks)
    total = next(results)
    for result in results:
        if isinstance(total, tuple):
            for sum_, summand in zip(total, result):
                sum_.add_(summand)
        else:
            total.add_(result)
    return total
