"""How many processor cores there are for us, and how fast they are."""

import functools
import math
import os
from collections.abc import Iterator
from pathlib import Path


def num_cores(root: str = "/") -> int:
    """The number of cores that this process may use: by affinity, and by a container's CPU quota.

    Args:
        root: the folder in which /proc and /sys are, for tests

    Returns:
        at least 1; a quota of 1.5 cores counts as 2
    """
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _quota(root))))


@functools.lru_cache(maxsize=8)
def has_fast_16_bits(root: str = "/") -> bool:
    """Whether the processor multiplies 16-bit numbers in hardware (AMX or AVX-512), on Linux.

    For what forms say in advance: torch knows it on every system, but takes seconds to import.

    Args:
        root: the folder in which /proc is, for tests
    """
    flags = set(_read(Path(root) / "proc/cpuinfo").split())
    return bool(flags & {"amx_bf16", "avx512_bf16"})


@functools.lru_cache(maxsize=8)
def _quota(root: str) -> float:
    """The least CPU quota of this process's control groups and their parents, in cores.

    Read once: it is asked for in loops, and is set when a container starts.
    """
    return min(_quotas(Path(root)), default=math.inf)


def _quotas(root: Path) -> Iterator[float]:
    """Quotas in cores, by version 2 of control groups and by version 1."""
    mounts = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        if not controllers:
            for folder in _with_parents(mounts, group):
                yield from _cores(*_read(folder / "cpu.max").split()[:2])
        elif "cpu" in controllers.split(","):
            for mount in {controllers, "cpu"}:
                for folder in _with_parents(mounts / mount, group):
                    quota = _read(folder / "cpu.cfs_quota_us").strip()
                    yield from _cores(quota, _read(folder / "cpu.cfs_period_us").strip())


def _with_parents(mount: Path, group: str) -> Iterator[Path]:
    """The folder of a group and of those around it.

    Inside a container the path may be the host's, which is not there: then the mount itself is the
    container's group.
    """
    parts = [part for part in group.split("/") if part not in ("", "..")]
    for length in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:length])


def _cores(quota: str = "", period: str = "") -> Iterator[float]:
    """Microseconds of computing per period, as cores; "max" and -1 are no limit."""
    if quota.isdecimal() and period.isdecimal() and int(quota) and int(period):
        yield int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
