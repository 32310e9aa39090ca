"""Settings of the whole process: who needs them is counted, and the last one restores them.

Operators overlap in the threads of FiftyOne's server, so none may note down a setting, change it
and write back what it noted: the second notes down what the first has set, and that stays for
good. What the user sets in the meantime is theirs and stays, too. Where a setting can be one
thread's own, as torch's number of threads, no other thread sees a change at all.
"""

import contextlib
import errno
import importlib
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

# FiftyOne loads a plugin under a name of its own beside the package that scripts import: both
# copies of this module count together.
_shared: dict[str, Any] = vars(sys).setdefault("_embedding_quality_settings", {})


class _Setting:
    """One setting that has a value of ours as long as somebody needs it."""

    def __init__(self, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        self._read, self._write = read, write
        self._lock = threading.Lock()
        self._holders: set[object] = set()
        self._before = self._ours = None

    @contextlib.contextmanager
    def held(self, value: Any) -> Iterator[None]:
        """Sets the value; the last of all holders to leave restores what the first one found.

        A value that is not ours by then was set by the user meanwhile: that one stays.
        """
        holder = object()
        try:
            with self._lock:
                if not self._holders:
                    self._before = self._read()
                    self._holders.add(holder)
                    self._write(value)
                    self._ours = self._read()
                self._holders.add(holder)
            yield
        finally:
            with self._lock:
                last = self._holders == {holder}
                if last and self._read() == self._ours:
                    self._write(self._before)
                self._holders.discard(holder)


def _counted(name: str, read: Callable[[], Any], write: Callable[[Any], None]) -> _Setting:
    return _shared.setdefault(name, _Setting(read, write))


def short_turns() -> contextlib.AbstractContextManager[None]:
    """Hands Python's lock on after half a millisecond instead of five.

    Calls that let go of the lock some hundred times, a model's forward pass or OpenCV's short
    functions, would otherwise wait as often behind a thread that opens an image.
    """
    setting = _counted("switch interval", sys.getswitchinterval, sys.setswitchinterval)
    return setting.held(0.0005)


def one_opencv_thread() -> contextlib.AbstractContextManager[None]:
    """Keeps OpenCV from starting threads of its own beside the threads that call it."""
    import cv2

    return _counted("OpenCV threads", cv2.getNumThreads, cv2.setNumThreads).held(1)


def hub_offline() -> contextlib.AbstractContextManager[None]:
    """Lets the Hugging Face hub's client answer from its cache alone."""
    from huggingface_hub import constants

    setting = _counted(
        "Hugging Face hub offline",
        lambda: constants.HF_HUB_OFFLINE,
        lambda value: setattr(constants, "HF_HUB_OFFLINE", value),
    )
    return setting.held(True)


def without_bars() -> contextlib.AbstractContextManager[None]:
    """Keeps the library transformers from drawing a bar while it loads weights."""
    from transformers.utils import logging as transformers

    def show(shown: bool) -> None:
        (transformers.enable_progress_bar if shown else transformers.disable_progress_bar)()

    return _counted("transformers bars", transformers.is_progress_bar_enabled, show).held(False)


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """Computes torch's operations in this thread alone: its threads wait by spinning."""
    import torch

    before = _set_torch_threads_here(1)
    try:
        yield
    finally:
        if torch.get_num_threads() == 1:
            _set_torch_threads_here(before)


def use_one_torch_thread() -> None:
    """From now on, torch computes what this thread asks for in this thread alone.

    For the threads of a pool, which end with it. Others are not touched.
    """
    _set_torch_threads_here(1)


def _set_torch_threads_here(number: int) -> int:
    """Sets torch's number of threads for this thread only, and returns what it was.

    Each thread has a number of its own, but what is set last becomes that of every thread that
    has not called torch yet, of the server's threads, say, which live on. So that is set back,
    in a thread that ends at once, 1 ms after. What it was is read under the same lock: a thread
    that calls torch for the first time takes over what it finds.
    """
    with _shared.setdefault("torch threads", threading.Lock()):
        import torch

        before = torch.get_num_threads()
        of_new_threads = _in_new_thread(torch.get_num_threads)
        try:
            torch.set_num_threads(number)
        finally:
            _in_new_thread(lambda: torch.set_num_threads(of_new_threads))
    return before


def _in_new_thread(function: Callable[[], T]) -> T:
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(function()), name="torch-threads")
    thread.start()
    thread.join()
    return results[0]


def import_alone(name: str) -> Any:
    """Imports a library that imports torchvision, while no other thread of ours imports one.

    Two threads that import timm and open_clip for the first time at once both fail: the modules of
    torchvision import each other in a circle, which only one thread at a time can walk.
    """
    with _shared.setdefault("imports", threading.Lock()):
        return importlib.import_module(name)


@contextlib.contextmanager
def without_messages(packages: tuple[str, ...]) -> Iterator[None]:
    """Drops what libraries log in this thread; levels and other threads stay as they are.

    Args:
        packages: their names; some log by a logger of their own, some by the root logger
    """
    thread = threading.get_ident()

    def keep(record: logging.LogRecord) -> bool:
        if record.thread != thread:
            return True
        by_name = record.name.split(".")[0] in packages
        path = _slashes(record.pathname)
        return not by_name and not any(f"/{name}/" in path for name in packages)

    loggers = [logging.getLogger(), *map(logging.getLogger, packages)]
    filtered = [*loggers, *(handler for logger in loggers for handler in logger.handlers)]
    for place in filtered:
        place.addFilter(keep)
    try:
        yield
    finally:
        for place in filtered:
            place.removeFilter(keep)


def _slashes(path: str) -> str:
    return path.replace("\\", "/")


# What may be wrong with a device, as a message goes on.
OUT_OF_MEMORY = "is out of memory"
UNSUPPORTED = "is not supported by this build of PyTorch"
UNUSABLE = "cannot be used"

# What the system says where a thread cannot be started, and MongoDB where its disk is full.
_NO_THREADS, _OUT_OF_DISK = "can't start new thread", 14031

# What torch says of a device, at the first call or at any later one.
_OF_DEVICES = re.compile(
    r"no kernel image|\bCUDA\b|cuDNN|CUDNN_|CUBLAS_|CUSOLVER_|\bHIP\b|\bMPS\b|\bXPU\b|NVIDIA"
)


def device_fault(error: BaseException) -> str | None:
    """One of the three above, or None where it is not the device that is at fault."""
    import torch

    message = str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return OUT_OF_MEMORY
    # Torch's own errors are RuntimeErrors; a build without the device fails an assertion.
    if not isinstance(error, RuntimeError | AssertionError) or not _OF_DEVICES.search(message):
        return None
    if "out of memory" in message or "ALLOC_FAILED" in message:
        return OUT_OF_MEMORY
    # Operators that a device lacks are NotImplementedErrors.
    unsupported = "no kernel image" in message or isinstance(error, NotImplementedError)
    return UNSUPPORTED if unsupported else UNUSABLE


def machine_fault(error: BaseException) -> str | None:
    """What the machine lacks, with the way out, or None where it is not the machine's fault."""
    from pymongo.errors import ConnectionFailure, OperationFailure

    about = " ".join(str(error).split())[:200]
    if isinstance(error, ConnectionFailure):
        return f"the database does not answer ({about}); start it again, and see its log"
    no_disk = isinstance(error, OperationFailure) and error.code == _OUT_OF_DISK
    if no_disk or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
        return f"the disk is full ({about}); make room on it"
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | OSError)
        and (_NO_THREADS in about or "Cannot allocate memory" in about)
    ):
        about = f" ({about})" if about else ""
        return f"there is not enough memory{about}; end other programs, or work on a smaller view"
    return None


def unexpected(error: Exception) -> str:
    """What a panel says of an error that is not the user's."""
    if (fault := machine_fault(error)) is not None:
        return f"It was interrupted: {fault}. Then do it again"
    return f"{type(error).__name__}: {error}; the server's log has the details"
