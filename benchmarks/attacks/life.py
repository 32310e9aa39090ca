"""A long life: many operators one after the other in one process.

Memory and threads level off, and the settings of the process are as at the start.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .base import Tally, ask

# MiB that a process may grow by while it does again what it has done before.
GROWTH = 100


def attack(calls: int, seed: int, home: Path) -> Iterator[Tally]:
    """Calls so many operators; the first half warms up."""
    from battery import called, parameters_of, prepare
    from killing_cases import of_samples

    rng = np.random.default_rng(seed)
    base, tally = of_samples(), Tally("operators in one process")
    # What libraries set when they are imported is theirs: these come first.
    for name in called():
        _round(tally, base, name, parameters_of, prepare)
    settings, half, figures = _settings(), 0, {}
    for number in range(calls):
        _round(tally, base, str(rng.choice(called())), parameters_of, prepare)
        if number + 1 in (calls // 2, calls):
            gc.collect()
            figures[number + 1] = (_held(), threading.active_count(), _descriptors())
            half = half or number + 1
    for number, (held, threads, files) in figures.items():
        print(f"After {number} calls: {held:,.0f} MiB, {threads} threads, {files} open files")
    (held, threads, files), (later, more, opened) = figures[half], figures[calls]
    if later - held > GROWTH:
        tally.fault("lost", f"{later - held:,.0f} MiB between calls {half} and {calls}")
    if more > threads + 2 or opened > files + 5:
        tally.fault("lost", f"threads {threads} → {more}, open files {files} → {opened}")
    for name, value in _settings().items():
        if value != settings[name]:
            tally.fault("lost", f"the setting {name} is {value}, not {settings[name]}")
    base.delete()
    yield tally


def _round(tally: Tally, base, name: str, parameters_of, prepare) -> None:
    dataset = base.clone()
    prepare(name, dataset)
    ask(tally, name, dataset, 300, **parameters_of(name, dataset))
    dataset.delete()


def _held() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _settings() -> dict:
    import cv2
    import torch
    from PIL import Image

    named = (None, "huggingface_hub", "open_clip", "fiftyone", "numba")
    loggers = [logging.getLogger(name) for name in named]
    return {
        "torch threads": torch.get_num_threads(),
        "torch gradients": torch.is_grad_enabled(),
        "torch deterministic": torch.are_deterministic_algorithms_enabled(),
        "torch default type": str(torch.get_default_dtype()),
        "OpenCV threads": cv2.getNumThreads(),
        "switch interval": sys.getswitchinterval(),
        "recursion limit": sys.getrecursionlimit(),
        "levels of loggers": [one.level for one in loggers],
        "filters of loggers": [len(one.filters) for one in loggers],
        "warnings": len(warnings.filters),
        "numpy errors": np.geterr(),
        "numpy state": np.random.get_state()[1][:4].tolist(),
        "limit of pixels": Image.MAX_IMAGE_PIXELS,
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "hook": sys.excepthook is sys.__excepthook__,
    }
