"""How this room uses all cores: compiled loops that release the interpreter, run in threads.

Threads of our own, and not numba's or torch's: their pools wait by spinning, so that taking turns
between two of them, or sharing the machine with another program, costs up to ten times the work
(measured on two cores); numba's "workqueue" pool, the only one in many macOS installations, ends
the process when two threads use it at once; and loops without ``parallel=True`` compile faster.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from ..cores import num_cores

Function = TypeVar("Function", bound=Callable)

# Sums may be reordered, and no NaN occurs; infinity does.
FAST_MATH = {"reassoc", "contract", "arcp", "nsz", "nnan"}

# Fewer rows than this are not worth handing to another thread.
SMALLEST_PART = 512


def compiled(function: Function) -> Function:
    """Compiles a function with numba; it runs without the interpreter's lock.

    The machine code is kept on disk, so that a fresh process starts fast. numba keeps it beside
    the source or, where that cannot be written, in the user's cache folder; where neither can be
    written it refuses, and the function is compiled again in each process.
    """
    import numba

    # What is kept names the module, which is another one where the plugin is installed with pip as
    # well as by FiftyOne; without the module in its name, each would find the other's.
    function.__qualname__ = f"{function.__module__}.{function.__qualname__}"
    try:
        return numba.njit(cache=True, nogil=True, fastmath=FAST_MATH)(function)
    except RuntimeError:
        return numba.njit(nogil=True, fastmath=FAST_MATH)(function)


def in_parts(work: Callable[[int, int], None], size: int, pool: Executor) -> None:
    """Runs ``work(start, stop)`` on equal parts of ``range(size)``, one per core."""
    parts = min(num_cores(), size // SMALLEST_PART)
    if parts < 2:
        work(0, size)
        return
    edges = [size * part // parts for part in range(parts + 1)]
    list(pool.map(work, edges[:-1], edges[1:]))
