"""Writes to the database beside the computation that produces the values."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

logger = logging.getLogger(__name__)

# Seconds from one write to the next: what a killed process may lose.
INTERVAL = 0.5

# Values that may wait for the write that goes on: 12 MB of 1,280 dimensions.
MAX_WAITING = 2048

# Seconds until a write that failed is tried again.
PAUSE = 1.0


class BackgroundWriter:
    """Hands values to a writing function in one thread, every half second.

    What arrives meanwhile goes out together: one write costs much the same for 10 values as for
    300, and what is written takes time from what is computed. Where the database is slower than
    the computation, that waits. Values are kept until they are written: what a failed write held is
    tried once more, and leaving the block writes what is left, also after an error or an interrupt.

    Args:
        write: called with all values that have arrived, by key; may be called with some of them
            again after it failed
    """

    def __init__(self, write: Callable[[dict[str, Any]], None]) -> None:
        self._write = write
        self._waiting: dict[str, Any] = {}
        self._in_flight: dict[str, Any] = {}
        self._pool = ThreadPoolExecutor(1, "write-values")
        self._running: Future | None = None
        self._next = time.monotonic() + INTERVAL

    def put(self, values: dict[str, Any]) -> None:
        """Adds values; raises what the last write raised, and keeps its values."""
        self._waiting.update(values)
        due = time.monotonic() >= self._next
        if len(self._waiting) >= MAX_WAITING or (due and self._is_idle()):
            self._settle()
            self._in_flight = self._waiting
            self._running = self._pool.submit(self._try_twice, self._in_flight)
            self._waiting = {}
            self._next = time.monotonic() + INTERVAL

    def _is_idle(self) -> bool:
        return self._running is None or self._running.done()

    def _settle(self) -> None:
        """Waits for the write that goes on; if it failed, its values wait again."""
        if self._running is None:
            return
        if (error := self._running.exception()) is not None:
            self._waiting = {**self._in_flight, **self._waiting}
        self._running = None
        if error is not None:
            raise error

    def _try_twice(self, values: dict[str, Any]) -> None:
        try:
            self._write(values)
        except Exception as error:
            logger.debug("A write of %d values is tried again: %s", len(values), error)
            time.sleep(PAUSE)
            self._write(values)

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(self, *_: object) -> None:
        # Handed to the writing thread before anything waits: an interrupt ends only the waiting.
        last = self._pool.submit(self._write_rest)
        # Not joined: Python takes a thread whose join is interrupted for ended, and exits.
        self._pool.shutdown(wait=False)
        try:
            last.result()
        except KeyboardInterrupt:
            wait([last])
            raise

    def _write_rest(self) -> None:
        """In the writing thread, so that the write that went on has ended."""
        if self._running is not None and self._running.exception() is not None:
            self._waiting = {**self._in_flight, **self._waiting}
        if self._waiting:
            self._try_twice(self._waiting)
