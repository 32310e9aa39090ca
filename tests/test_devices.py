"""A device that is full or unsupported costs time, not the run, and the result says so.

The devices are made up: a model stands on them that raises what torch raises there. What is
computed on the CPU after that is a real model.
"""

import importlib

import numpy as np
import pytest
import torch
from fiftyone_embedding_quality.embedding import devices
from fiftyone_embedding_quality.embedding.registry import load_model
from fiftyone_embedding_quality.process import OUT_OF_MEMORY, UNSUPPORTED, UNUSABLE, device_fault
from PIL import Image

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
NO_KERNEL = RuntimeError(
    "CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors ..."
)
NO_OPERATOR = NotImplementedError(
    "The operator 'aten::_upsample_bicubic2d_aa' is not currently implemented for the MPS device"
)


class Device:
    """The model ``cnn`` on a device with room for some inputs at once."""

    def __init__(self, cnn, room: int, fault: Exception) -> None:
        self.cnn, self.room, self.fault = cnn, room, fault
        self.sizes: list[int] = []

    def load(self, device: str):
        if device == "cpu":
            return self.cnn
        if self.room == 0:
            raise self.fault
        self.identity, self.min_side = self.cnn.identity, self.cnn.min_side
        self.batch_size, self.prepare = 16, self.cnn.prepare
        return self

    def embed(self, inputs):
        self.sizes.append(len(inputs))
        if len(inputs) > self.room:
            raise self.fault
        return self.cnn.embed(inputs)


@pytest.fixture(scope="module")
def inputs(cnn):
    rng = np.random.default_rng(51)
    return [
        cnn.prepare(Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8))) for _ in range(20)
    ]


@pytest.fixture(scope="module")
def expected(cnn, inputs):
    return np.concatenate([cnn.embed([one]) for one in inputs])


def _agree(first, second) -> bool:
    first, second = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second))
    return first.shape == second.shape and (first * second).sum(axis=1).min() > 0.999


def test_smaller_batches_where_memory_is_short(cnn, inputs, expected):
    device = Device(cnn, room=5, fault=FULL)
    model = devices.load_on_device(device.load, "cuda")
    assert model.notes == []
    assert _agree(model.embed(inputs), expected)
    # What did not fit is not tried again, and all batches are of one size.
    assert device.sizes == [20, 10, 5, 5, 5, 5]
    assert _agree(model.embed(inputs[:7]), expected[:7])
    assert device.sizes[6:] == [5, 5]
    assert model.notes == ["The device 'cuda' is out of memory: batches of 5 were embedded"]


@pytest.mark.parametrize(
    ("room", "fault", "words"),
    [
        (0, FULL, "'cuda:1' is out of memory (CUDA out of memory. Tried to allocate 2.00 GiB)"),
        (0, NO_KERNEL, "'cuda:1' is not supported by this build of PyTorch (CUDA error: no kernel"),
        (1, NO_KERNEL, "'cuda:1' is not supported by this build of PyTorch (CUDA error: no kernel"),
        (1, NO_OPERATOR, "'cuda:1' is not supported by this build of PyTorch (The operator"),
    ],
)
def test_the_cpu_where_the_device_cannot_do_it(cnn, inputs, expected, room, fault, words, caplog):
    model = devices.load_on_device(Device(cnn, room, fault).load, "cuda:1")
    assert _agree(model.embed(inputs), expected)
    (note,) = model.notes
    assert words in note and note.endswith("embedded on the CPU")
    assert note in caplog.text
    assert model.identity == cnn.identity


def test_the_cpu_where_not_even_one_fits(cnn, inputs, expected):
    device = Device(cnn, room=3, fault=FULL)
    model = devices.load_on_device(device.load, "mps")
    assert _agree(model.embed(inputs[:3]), expected[:3])
    device.room = 0  # another process takes it all
    assert _agree(model.embed(inputs), expected)
    assert device.sizes[-1] == 1
    (note,) = model.notes
    assert note.startswith("The device 'mps' is out of memory (CUDA out of memory.")


def test_what_is_not_the_devices_fault_is_raised(cnn, inputs):
    device = Device(cnn, room=3, fault=ValueError("cannot take this image"))
    model = devices.load_on_device(device.load, "cuda")
    with pytest.raises(ValueError, match="cannot take this image"):
        model.embed(inputs)
    with pytest.raises(ValueError, match="cannot take"):
        devices.load_on_device(Device(cnn, 0, device.fault).load, "cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs torch to refuse CUDA by itself")
def test_torchs_own_refusal_is_understood(monkeypatch, inputs, expected):
    """A driver that torch finds and cannot use: the first call on the device raises."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    model = load_model("cnn")
    assert _agree(model.embed(inputs), expected)
    assert model.notes[0].startswith("The device 'cuda' cannot be used (")


def test_compute_embeddings_says_so(digits, compute_embeddings, cnn, monkeypatch):
    package = type(compute_embeddings).__module__.rsplit(".operators.", 1)[0]
    registry = importlib.import_module(f"{package}.embedding.registry")
    full = Device(cnn, 0, FULL)
    monkeypatch.setattr(registry, "resolve_device", lambda _: "cuda")
    monkeypatch.setattr(registry, "_load_packaged_cnn", lambda *args: full.load(args[-1]))
    result = compute_embeddings(digits, model="cnn", device="cuda")
    assert result["computed"] == 20
    (note,) = result["notes"]
    assert "'cuda' is out of memory" in note
    assert "is out of memory" in compute_embeddings.summary(result)
    monkeypatch.undo()
    assert compute_embeddings(digits, model="cnn", device="cpu")["notes"] == []


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (FULL, OUT_OF_MEMORY),
        (RuntimeError("CUDA error: out of memory"), OUT_OF_MEMORY),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling x"), OUT_OF_MEMORY),
        (RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"), OUT_OF_MEMORY),
        (NO_KERNEL, UNSUPPORTED),
        (NO_OPERATOR, UNSUPPORTED),
        (RuntimeError("Found no NVIDIA driver on your system."), UNUSABLE),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"), UNUSABLE),
        (AssertionError("Torch not compiled with CUDA enabled"), UNUSABLE),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (1x2 and 3x4)"), None),
        (RuntimeError("Expected all tensors on the same device, but found cuda:0 and cpu"), None),
        (MemoryError("CUDA"), None),
        (KeyboardInterrupt(), None),
    ],
)
def test_whose_fault_it_is(error, fault):
    assert device_fault(error) == fault
