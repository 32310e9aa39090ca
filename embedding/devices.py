"""A model on a device that may be full, or that this build of torch does not support."""

import contextlib
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from ..errors import UserError
from ..process import OUT_OF_MEMORY, UNSUPPORTED, device_fault
from .identity import EmbeddingModel

logger = logging.getLogger(__name__)


OTHER_DEVICES = "Omit device for the fastest available, or pass device='cpu'"

# Devices of torch that hold shapes only.
WITHOUT_VALUES = ("meta",)


def resolve_device(device: str | None) -> str:
    """The device that is asked for, or a GPU if there is one, or the CPU.

    Raises:
        UserError: if a device that is asked for by name cannot be used
    """
    import torch

    named = str(device).strip().lower()
    if device is None or named == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if named.partition(":")[0] == "cpu":
        # torch has one CPU, whatever its number.
        return "cpu"
    device = "cuda" if named == "gpu" else named
    if device in WITHOUT_VALUES:
        raise UserError(f"device={device!r} cannot compute. {OTHER_DEVICES}")
    try:
        torch.zeros(1, device=device)
    except (NotImplementedError, ImportError) as error:
        raise UserError(
            f"device={device!r} cannot be used here: this PyTorch was built without it. "
            f"{OTHER_DEVICES}"
        ) from error
    except (RuntimeError, AssertionError) as error:
        # There is such a device: the model will make do without it, and say so.
        if device_fault(error) in (OUT_OF_MEMORY, UNSUPPORTED):
            return device
        raise UserError(
            f"device={device!r} cannot be used here: {_reason(error)}. {OTHER_DEVICES}"
        ) from error
    return device


def load_on_device(load: Callable[[str], EmbeddingModel], device: str) -> EmbeddingModel:
    """A model on a device, or on the CPU where the device turns out to be full or unsupported.

    Args:
        load: loads the model on a device
        device: ``"cpu"``, ``"cuda"``, …

    Returns:
        the model; its ``notes`` say what has become of the device
    """
    return load(device) if device == "cpu" else FallbackModel(load, device)


class FallbackModel:
    """An ``EmbeddingModel`` that goes on in smaller batches, and then on the CPU.

    Who the model is does not change: its embeddings agree on all devices. ``embed`` must not be
    called by several threads at once.
    """

    parallel = False

    def __init__(self, load: Callable[[str], EmbeddingModel], device: str) -> None:
        self.notes: list[str] = []
        self._load, self._device = load, device
        # Embedded at once, where that is less than what comes at once.
        self._largest: int | None = None
        fault = None
        try:
            self._model: Any = load(device)
        except Exception as error:
            if device_fault(error) is None:
                raise
            fault = error.with_traceback(None)
        # Not within the handler: the traceback holds what is on the device.
        if fault is not None:
            self._use_cpu(fault)
        self.identity = self._model.identity
        self.min_side = self._model.min_side
        self.batch_size = self._model.batch_size

    def prepare(self, image: Image.Image) -> np.ndarray:
        """One RGB image to one input array; called from several threads."""
        return self._model.prepare(image)

    def embed(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Input arrays to ``(num_inputs, dim)`` float32 embeddings, wherever there is room."""
        vectors: list[np.ndarray] = []
        while len(vectors) < len(inputs):
            size = min(self._largest or len(inputs), len(inputs))
            part = inputs[len(vectors) : len(vectors) + size]
            try:
                # Of one size each, so that an embedding does not depend on how many come with it.
                batch = self._model.embed(part + part[:1] * (size - len(part)))
                vectors.extend(batch[: len(part)])
                continue
            except Exception as error:
                if self._device == "cpu" or device_fault(error) is None:
                    raise
                fault = error.with_traceback(None)
            if device_fault(fault) == OUT_OF_MEMORY and size > 1:
                self._use_smaller_batches(size // 2)
            else:
                self._use_cpu(fault)
        return np.stack(vectors)

    def _use_smaller_batches(self, size: int) -> None:
        self._largest = size
        _empty_cache(self._device)
        self._say(f"The device {self._device!r} {OUT_OF_MEMORY}: batches of {size} were embedded")

    def _use_cpu(self, fault: Exception) -> None:
        self._model = None
        _empty_cache(self._device)
        self._say(
            f"The device {self._device!r} {device_fault(fault)} ({_reason(fault)}): "
            "embedded on the CPU"
        )
        self._device = "cpu"
        self._model = self._load("cpu")
        self._largest = self._model.batch_size

    def _say(self, note: str) -> None:
        # The last word on a device stands for those before.
        self.notes[:] = [note]
        logger.warning(note)


def _reason(error: BaseException) -> str:
    said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    # torch lists every kind of device that it was ever built for.
    return "PyTorch does not know this device" if said.startswith("Expected one of") else said


def _empty_cache(device: str) -> None:
    """Gives memory that torch keeps for later back to the device."""
    import torch

    # A device on which something went wrong may refuse this, too.
    with contextlib.suppress(RuntimeError, AssertionError):
        if device.startswith("cuda") and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        elif device.startswith("mps"):
            torch.mps.empty_cache()
