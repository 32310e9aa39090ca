"""A model's own preprocessing: torchvision's transforms, on bytes and in bounded memory."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

# What torch calls the filters that it shares with Pillow.
TORCH_MODES = {Image.Resampling.BILINEAR: "bilinear", Image.Resampling.BICUBIC: "bicubic"}


@dataclass(frozen=True)
class FastPreprocessing:
    """Resize the short side, crop the center, normalize: the usual preprocessing, on bytes.

    The same as the torchvision transforms that it is made of, up to rounding, but only the
    pixels inside the crop of a large image are resized, one of extreme aspect ratio needs no
    more memory than any other, small ones are resized by torch (half of Pillow's time), and the
    normalization runs on the batch.
    ``rounded`` is what the longer side of the resized image and the crop's corner are brought
    to whole pixels by: False as torchvision does it (floor, round), True the other way about.
    """

    size: int
    crop: int
    interpolation: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rounded: bool = False

    @classmethod
    def from_transform(cls, transform: Any) -> "FastPreprocessing | None":
        """The equivalent of a torchvision pipeline, or None if it does anything else."""
        if isinstance(transform, cls):
            return transform
        from torchvision.transforms import CenterCrop, Normalize, Resize
        from torchvision.transforms.functional import InterpolationMode, pil_modes_mapping

        steps = {type(step).__name__: step for step in getattr(transform, "transforms", ())}
        # open_clip converts to RGB by a step of its own; our images are RGB already.
        known = {"Resize", "CenterCrop", "Normalize", "ToTensor", "MaybeToTensor"}
        known |= {"MaybeConvertMode", "function"}
        resize, crop, normalize = map(steps.get, ("Resize", "CenterCrop", "Normalize"))
        if set(steps) - known or not (
            isinstance(resize, Resize)
            and isinstance(crop, CenterCrop)
            and isinstance(normalize, Normalize)
            and resize.max_size is None
            and isinstance(resize.interpolation, InterpolationMode)
        ):
            return None
        size = resize.size if isinstance(resize.size, int) else None
        if size is None and len(resize.size) == 1:
            size = resize.size[0]
        crops = set(crop.size)
        if size is None or len(crops) != 1 or max(crops) > size:
            return None
        return cls(
            size=size,
            crop=crops.pop(),
            interpolation=pil_modes_mapping[resize.interpolation],
            mean=tuple(float(value) for value in normalize.mean),
            std=tuple(float(value) for value in normalize.std),
        )

    def __call__(self, image: Image.Image) -> np.ndarray:
        """An RGB image to ``(crop, crop, 3)`` uint8."""
        width, height = image.size
        whole, corner = (round, math.floor) if self.rounded else (int, round)
        shorter = min(width, height)
        resized = whole(self.size * width / shorter), whole(self.size * height / shorter)
        left, top = (corner((side - self.crop) / 2) for side in resized)
        if self.interpolation in TORCH_MODES and max(*image.size, *resized) <= 3 * self.crop:
            return self._resize_small(image, resized)[
                top : top + self.crop, left : left + self.crop
            ]
        scale_x, scale_y = width / resized[0], height / resized[1]
        box = (
            left * scale_x,
            top * scale_y,
            min((left + self.crop) * scale_x, width),
            min((top + self.crop) * scale_y, height),
        )
        return np.asarray(
            image.resize((self.crop, self.crop), self.interpolation, box=box, reducing_gap=3.0)
        )

    def _resize_small(self, image: Image.Image, size: tuple[int, int]) -> np.ndarray:
        """The same filters as Pillow's, antialiased, without its fourth byte per pixel."""
        import torch

        pixels = torch.from_numpy(np.array(image))[None].permute(0, 3, 1, 2)
        resized = torch.nn.functional.interpolate(
            pixels, size[::-1], mode=TORCH_MODES[self.interpolation], antialias=True
        )
        return resized[0].permute(1, 2, 0).numpy()

    def normalize(self, batch: Any, dtype: Any) -> Any:
        """``(n, crop, crop, 3)`` uint8 to ``(n, 3, crop, crop)`` of a type in channels_last.

        Whole rows of pixels at once, and on a CPU image by image, within its cache.
        """
        import torch

        mean, std = (
            torch.tensor(values, device=batch.device).repeat(self.crop)
            for values in (self.mean, self.std)
        )
        normalized = torch.empty(batch.shape, dtype=dtype, device=batch.device)
        step = 1 if batch.device.type == "cpu" else len(batch)
        for source, target in zip(batch.flatten(2).split(step), normalized.flatten(2).split(step)):
            target.copy_(torch.addcmul(-mean / std, source.float(), 1 / (255 * std)))
        return normalized.permute(0, 3, 1, 2)


def steps_of(transform: Any) -> str:
    """What a transform does, in words of our own: the kinds of its steps and their settings.

    torchvision's own words change between versions, and an embedding does not.
    """
    is_fast = isinstance(transform, FastPreprocessing)
    fast = transform if is_fast else FastPreprocessing.from_transform(transform)
    if fast is not None:
        mean, std = (
            " ".join(f"{value:.6g}" for value in values) for values in (fast.mean, fast.std)
        )
        filter_name = Image.Resampling(fast.interpolation).name.lower()
        rounding = ", rounded" if fast.rounded else ""
        return (
            f"resize {fast.size} {filter_name}{rounding}; crop {fast.crop}; mean {mean}; std {std}"
        )
    return "; ".join(_step(step) for step in getattr(transform, "transforms", [transform]))


def _step(step: Any) -> str:
    """One step: its kind, and what of its settings are numbers, words, or lists of such."""
    name = getattr(step, "__name__", type(step).__name__)
    settings = []
    for key, value in sorted(getattr(step, "__dict__", {}).items()):
        value = getattr(value, "value", value)
        if not key.startswith("_") and isinstance(value, (bool, int, float, str, tuple, list)):
            settings.append(f"{key} {value}")
    return " ".join([name, *settings])


def in_words(transform: Any) -> str:
    """A transform on one line; the addresses of functions differ in each process."""
    return re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(transform).split()))


def array_transform(transform: Any) -> Callable[[Any], np.ndarray]:
    """A transform whose result is an array."""

    def apply(image: Any) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return np.asarray(transform(image))

    return apply
