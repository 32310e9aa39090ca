"""All that an image file shows, as one digest: every frame, channel and bit.

Stands apart from ``images.load_image``, which keeps what a model sees: one frame, 8 bits, no
transparency. A user deletes files on the word "exact".
"""

from __future__ import annotations

import contextlib
import hashlib

import numpy as np
from PIL import Image

from .images import MOST_PIXELS, near, opened, upright
from .numbers import is_cut_down, read_with_opencv

# Formats of which Pillow, or OpenCV for more than 8 bits, gives all that is in them. Others hold
# layers, further sizes, or more bits than it reports, such as PSD, ICO, JPEG 2000 and AVIF.
COMPARED = ("PNG", "JPEG", "MPO", "GIF", "WEBP", "TIFF", "BMP", "TGA", "PCX", "SGI")

# Modes of 8 bits that are colors with an opacity, and those that are gray or RGB in fewer bytes.
WITH_OPACITY, OPAQUE = ("LA", "PA", "RGBA", "La", "RGBa"), ("1", "L", "P", "RGB", "RGBX")


def pixel_digest(path: str) -> bytes | None:
    """A digest of the pixels of all frames, the same for the same pixels in another container.

    Returns:
        16 bytes; None where the file cannot be read in full
    """
    # Decoders raise nearly anything for damaged files.
    with contextlib.suppress(Exception), near(path) as local:
        return _digest_of(local)
    return None


def _digest_of(path: str) -> bytes | None:
    digest = hashlib.blake2b(digest_size=16)
    with opened(path) as image:
        if image.format not in COMPARED or image.width * image.height > MOST_PIXELS:
            return None
        num_frames = getattr(image, "n_frames", 1)
        for frame in range(num_frames):
            image.seek(frame)
            if not is_cut_down(image):
                kind, pixels = _canonical(upright(image.copy(), image))
            elif num_frames == 1 and (found := read_with_opencv(path)) is not None:
                kind, pixels = f"deep {image.getexif().get(0x0112, 1)}", found
            else:
                return None
            digest.update(f"{kind} {pixels.dtype.str} {pixels.shape}".encode())
            digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def _canonical(image: Image.Image) -> tuple[str, np.ndarray]:
    """The pixels of a frame in the form that all containers of the same pixels share."""
    if image.mode in WITH_OPACITY or (image.mode in OPAQUE and image.has_transparency_data):
        layers = np.asarray(image.convert("RGBA"))
        if (layers[..., 3] < 255).any():
            return "RGBA", layers
        return "RGB", layers[..., :3]
    if image.mode in OPAQUE:
        return "RGB", np.asarray(image.convert("RGB"))
    if image.mode.startswith("I"):
        return "integers", np.asarray(image).astype(np.int64)
    return image.mode, np.asarray(image)
