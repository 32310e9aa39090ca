"""Images at the size at which words can be read, read when a pair is looked at closely.

Stands apart from ``small_images`` because few images of a set are wanted: those of pairs that
look alike when small.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .images import Box, UnreadableImageError, load_frames

# The longer side in pixels. Text of 14 pixels on a screen of 1,920 is 11 pixels high then; at 512
# pixels it is 4 high, and other digits are lost in what noise and resampling leave.
CLOSER_SIDE = 1536

# Bytes held at once: neighbors in the order of the pairs share images.
MAX_HELD = 2**28


@dataclass(frozen=True)
class ImageOrPatch:
    """An image file, or an object in it.

    Attributes:
        path: the file
        box: relative ``(x, y, width, height)`` of the object, None for the whole image
    """

    path: str
    box: Box | None = None


class CloserImages:
    """Images at 1,536 pixels, read again from their files; a few are held."""

    def __init__(self, images: Sequence[ImageOrPatch]) -> None:
        self._images = images
        self._held: OrderedDict[int, list[np.ndarray]] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.Lock()

    def frames(self, row: int) -> list[np.ndarray]:
        """The first frame of an image, and of an animation the middle and last, too.

        Returns:
            up to three (height, width, 3) uint8 with a longer side of at most 1,536; none where the
            file cannot be read any more
        """
        with self._lock:
            if row in self._held:
                self._held.move_to_end(row)
                return self._held[row]
        found = self._read(self._images[row])
        with self._lock:
            if row not in self._held:  # by another thread
                self._held[row] = found
                self._num_bytes += sum(pixels.nbytes for pixels in found)
            while self._num_bytes > MAX_HELD:
                _, oldest = self._held.popitem(last=False)
                self._num_bytes -= sum(pixels.nbytes for pixels in oldest)
        return found

    def _read(self, wanted: ImageOrPatch) -> list[np.ndarray]:
        import cv2

        found = []
        try:
            side = CLOSER_SIDE if wanted.box is None else 0
            for image in load_frames(wanted.path, side):
                pixels = np.asarray(image)
                if wanted.box is not None:
                    pixels = cut(pixels, wanted.box)
                scale = CLOSER_SIDE / max(pixels.shape[:2])
                if scale < 1:
                    size = [max(1, round(side * scale)) for side in pixels.shape[1::-1]]
                    pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
                found.append(np.ascontiguousarray(pixels))
        except UnreadableImageError:
            return []
        return found


def cut(pixels: np.ndarray, box: Box) -> np.ndarray:
    """The pixels in a relative box, at least one."""
    values = np.asarray(box, float)
    if values.shape != (4,) or not np.isfinite(values).all() or (values[2:] <= 0).any():
        raise UnreadableImageError(f"box {list(box)} is not a position and a size")
    height, width = pixels.shape[:2]
    left, right = np.clip([values[0], values[0] + values[2]], 0, 1) * width
    top, bottom = np.clip([values[1], values[1] + values[3]], 0, 1) * height
    if right <= left or bottom <= top:
        raise UnreadableImageError("box is outside the image")
    left, top = min(int(left), width - 1), min(int(top), height - 1)
    return pixels[top : max(round(bottom), top + 1), left : max(round(right), left + 1)]
