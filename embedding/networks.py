"""Networks of torch and of FiftyOne's model zoo behind the two calls of an ``EmbeddingModel``."""

import importlib.metadata
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from .identity import ModelIdentity
from .precision import choose_precision, core_batch, probe_photos
from .preprocessing import FastPreprocessing, array_transform, in_words, steps_of
from .weights import hash_weights


class TorchModel:
    """A torch network with a torchvision preprocessing, in the fastest precision that agrees.

    Where the device computes with 16 bits in hardware, the weights are kept in the first type in
    which the embeddings of real images stay within a cosine of 0.999 of float32. Measured on a CPU:
    ViT-B-32 in bfloat16 5 times faster (cosine 0.9999), EfficientNet-Lite0, which bfloat16 takes
    to 0.997, in float16 4 times (0.9999).
    """

    notes: Sequence[str] = ()

    def __init__(self, name, weights, model, embed, transform, device) -> None:
        import torch

        model.eval().requires_grad_(False)
        weights_hash = hash_weights(model)
        self._device = device
        self._preprocessing = FastPreprocessing.from_transform(transform)
        self.prepare = self._preprocessing or array_transform(transform)
        self.min_side = self._preprocessing.size if self._preprocessing else 0
        self.parallel = device == "cpu"
        self.batch_size = core_batch(model) if self.parallel else 128

        model.to(device, memory_format=torch.channels_last)
        self._embed, self._dtype = choose_precision(
            model, embed, device, self._run, [self.prepare(photo) for photo in probe_photos()]
        )
        self.identity = ModelIdentity(
            name=name,
            weights=weights,
            weights_hash=weights_hash,
            preprocessing=steps_of(transform),
            dim=self.embed([self.prepare(Image.new("RGB", (64, 64)))]).shape[1],
            precision=str(self._dtype).removeprefix("torch."),
            libraries=library_versions("torch", "torchvision", "open_clip_torch", "timm", "pillow"),
            former_words=in_words(transform),
        )

    def embed(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Input arrays from ``prepare`` to ``(num_inputs, dim)`` float32 embeddings."""
        return self._run(self._embed, self._dtype, inputs)

    def _run(self, embed, dtype, inputs) -> np.ndarray:
        import torch

        with torch.inference_mode():
            batch = torch.from_numpy(np.stack(inputs)).to(self._device)
            if self._preprocessing:
                batch = self._preprocessing.normalize(batch, dtype)
            else:
                batch = batch.to(dtype, memory_format=torch.channels_last)
            return embed(batch).float().cpu().numpy()


class ZooModel:
    """A FiftyOne zoo model behind the same two calls."""

    notes: Sequence[str] = ()
    min_side = 0
    batch_size = 32
    parallel = False

    def __init__(self, name: str, model: Any) -> None:
        self._model = model
        # Transforms that end in inputs of one shape can run in the loading threads.
        self._transform = None if model.ragged_batches else model.transforms
        model.preprocess = self._transform is None
        if self._transform is not None:
            self._transform = array_transform(self._transform)
        network = getattr(model, "_model", None)
        self.identity = ModelIdentity(
            name=f"zoo:{name}",
            weights="FiftyOne's model zoo",
            weights_hash=hash_weights(network) if hasattr(network, "state_dict") else name,
            preprocessing=steps_of(model.transforms),
            dim=self.embed([self.prepare(Image.new("RGB", (64, 64)))]).shape[1],
            precision="the zoo model's own",
            libraries=library_versions("fiftyone", "torch", "torchvision"),
            former_words=in_words(model.transforms),
        )

    def prepare(self, image: Image.Image) -> np.ndarray:
        pixels = np.asarray(image)
        return pixels if self._transform is None else self._transform(pixels)

    def embed(self, inputs: list[np.ndarray]) -> np.ndarray:
        import torch

        if self._transform is not None:
            inputs = torch.from_numpy(np.stack(inputs))
        vectors = np.asarray(self._model.embed_all(inputs), dtype=np.float32)
        return vectors.reshape(len(vectors), -1)


def library_versions(*packages: str) -> dict[str, str]:
    return {package: importlib.metadata.version(package) for package in packages}
