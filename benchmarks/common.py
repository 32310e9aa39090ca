"""What the benchmarks share: vectors like real embeddings, and the cost of a call."""

from __future__ import annotations

import importlib.util
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Cost:
    """What calls cost: medians over the repetitions, and the most memory of any.

    Attributes:
        seconds: wall time
        cpu_seconds: of all threads
        peak_mib: resident memory beyond what was held before, MiB
        result: of the last call
    """

    seconds: float
    cpu_seconds: float
    peak_mib: float
    result: object


def clustered_vectors(
    num_rows: int, dim: int = 512, clusters: int = 100, seed: int = 0
) -> np.ndarray:
    """Unit vectors as image models make them: (num_rows, dim) float32.

    Clusters of 20 dimensions each, in a common space of 96, within a narrow cone as CLIP's; some
    rows are exact copies, near copies, or far from everything.
    """
    rng = np.random.default_rng(seed)
    space = np.linalg.qr(rng.standard_normal((dim, 96)))[0].T
    falling = 1 / np.sqrt(np.arange(1, 97))
    falling /= np.linalg.norm(falling)
    centers = 0.55 * rng.standard_normal((clusters, 96)) * falling
    within = 1 / np.sqrt(np.arange(1, 21))
    within *= 0.55 / np.linalg.norm(within)
    cone = rng.standard_normal(dim)
    cone *= 0.6 / np.linalg.norm(cone)

    of = rng.integers(0, clusters, num_rows)
    vectors = np.empty((num_rows, dim), np.float32)
    for cluster in range(clusters):
        rows = np.flatnonzero(of == cluster)
        axes = np.linalg.qr(rng.standard_normal((96, 20)))[0].T
        around = rng.standard_normal((len(rows), 20)) * within
        vectors[rows] = (centers[cluster] + around @ axes) @ space + cone
    vectors += 0.012 * rng.standard_normal((num_rows, dim), dtype=np.float32)

    shuffled = rng.permutation(num_rows)
    copies, near, far, rest = np.split(shuffled, [num_rows // 200, num_rows // 67, num_rows // 50])
    vectors[far] = rng.standard_normal((len(far), dim), dtype=np.float32) / np.sqrt(dim) + cone
    vectors[copies] = vectors[rng.choice(rest, len(copies))]
    vectors[near] = vectors[rng.choice(rest, len(near))]
    vectors[near] += 0.003 * rng.standard_normal((len(near), dim), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def interleaved(calls: dict[str, Callable[[], object]], repetitions: int) -> dict[str, Cost]:
    """Runs calls in turn, so that other load on the machine meets them all alike."""
    costs: dict[str, list[Cost]] = {name: [] for name in calls}
    for _ in range(repetitions):
        for name, call in calls.items():
            costs[name].append(_cost(call))
    return {
        name: Cost(
            seconds=statistics.median(cost.seconds for cost in several),
            cpu_seconds=statistics.median(cost.cpu_seconds for cost in several),
            peak_mib=max(cost.peak_mib for cost in several),
            result=several[-1].result,
        )
        for name, several in costs.items()
    }


def require_peers(*modules: str, otherwise: str = "") -> None:
    """Ends here, before anything is computed, if a peer is not installed.

    Args:
        modules: of the peers; "datasets" tells whether Datalab is installed with all it needs
        otherwise: what else can be done, beginning with ", or"
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"Peers that need {', '.join(missing)}: pip install -e '.[bench]'{otherwise}")


def print_row(*cells: object) -> None:
    """Prints one row of a table: a wide first cell, numbers to two digits."""
    texts = [f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells]
    print(f"{texts[0]:<34}" + "".join(f"{text:>14}" for text in texts[1:]), flush=True)


def _cost(call: Callable[[], object]) -> Cost:
    before = peak = _resident_mib()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, _resident_mib())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start, cpu = time.perf_counter(), time.process_time()
    result = call()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    done.set()
    watcher.join()
    return Cost(seconds, cpu_seconds, peak - before, result)


def _resident_mib() -> float:
    """Resident memory of this process; 0 where the system does not say (only Linux does)."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0
