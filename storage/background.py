"""Writes to the database beside the computation that produces the values."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

# Seconds from one write to the next: what a killed process may lose.
INTERVAL = 0.5


class BackgroundWriter:
    """Hands values to a writing function in one thread, every half second.

    What arrives meanwhile goes out together: one write costs much the same for 10 values as for
    300, and what is written takes time from what is computed. Leaving the block writes what is
    left, also after an error or an interrupt, so that nothing finished is lost.

    Args:
        write: called with all values that have arrived, by key
    """

    def __init__(self, write: Callable[[dict[str, Any]], None]) -> None:
        self._write = write
        self._waiting: dict[str, Any] = {}
        self._pool = ThreadPoolExecutor(1, "write-values")
        self._running: Future | None = None
        self._next = time.monotonic() + INTERVAL

    def put(self, values: dict[str, Any]) -> None:
        """Adds values; raises what the last write raised."""
        self._waiting.update(values)
        done = self._running is None or self._running.done()
        if done and time.monotonic() >= self._next:
            self._flush()
            self._next = time.monotonic() + INTERVAL

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
