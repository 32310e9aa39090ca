"""Writes to the database beside the computation that produces the values."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class BackgroundWriter:
    """Hands values to a writing function in one thread, as soon as the last write is done.

    What arrives during a write goes out together in the next: one write costs much the same for
    30 values as for 300. Leaving the block writes what is left, also after an error or an
    interrupt, so that nothing finished is lost.

    Args:
        write: called with all values that have arrived, by key
    """

    def __init__(self, write: Callable[[dict[str, Any]], None]) -> None:
        self._write = write
        self._waiting: dict[str, Any] = {}
        self._pool = ThreadPoolExecutor(1, "write-values")
        self._running: Future | None = None

    def put(self, values: dict[str, Any]) -> None:
        """Adds values; raises what the last write raised."""
        self._waiting.update(values)
        if self._running is None or self._running.done():
            self._flush()

    def _flush(self) -> None:
        if self._running is not None:
            self._running.result()
        if self._waiting:
            self._running = self._pool.submit(self._write, self._waiting)
            self._waiting = {}

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._flush()
            if self._running is not None:
                self._running.result()
        finally:
            self._pool.shutdown()
