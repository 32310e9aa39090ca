"""Small gray versions of images, side by side in one array: what comparing images needs.

Stands apart because finding copies and confirming near-duplicates share it: each file is decoded
once, in threads, and what is kept of an image has the same size whatever the image's.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from ..cores import num_cores
from ..steps import ProgressCallback
from .closer import CloserImages, ImageOrPatch, cut
from .images import Box, UnreadableImageError, full_size, load_image, near

# Pixels per side. Squashed to a square, so that a change of the aspect ratio is no change, and a
# crop with another one is an affine map like any other.
SIDE = 64

# Small images held in memory at most, 512 MiB of them; beyond, they lie in a temporary file.
MAX_HELD = 2**17

# Files handed to the threads at once: their futures must not grow with the set.
BLOCK = 1024


@dataclass(frozen=True)
class SmallImages:
    """Small gray images and the facts by which a reviewer chooses between copies.

    Attributes:
        images: the n images or objects that were read
        gray: (n, 64, 64) uint8, squashed to a square; zeros where unreadable
        color: (n,) float32, mean spread between the channels in gray levels, 0 for gray images
        num_pixels: (n,) int64, of the image (or of the box) at full size; 0 where unreadable
        num_bytes: (n,) int64, of the file; 0 where unreadable
        reasons: why an image could not be read, by its row
        reduced: (n,) bool, decoded at a fraction of its size; None where that is not known
        notes: what is to be known of how an image was read, by its row
        frames: reads the frames of a row at a size at which words can be read, as
            ``closer.CloserImages.frames``; None where there are no files
        aspect: (n,) float32, width by height, 1 where unreadable; None where it is not known
    """

    images: Sequence[ImageOrPatch]
    gray: np.ndarray
    color: np.ndarray
    num_pixels: np.ndarray
    num_bytes: np.ndarray
    reasons: dict[int, str]
    reduced: np.ndarray | None = None
    notes: dict[int, str] = field(default_factory=dict)
    frames: Callable[[int], list[np.ndarray]] | None = None
    aspect: np.ndarray | None = None

    @property
    def readable(self) -> np.ndarray:
        """(n,) bool."""
        return self.num_pixels > 0

    @property
    def whole(self) -> bool:
        """None of them is an object in an image."""
        return all(image.box is None for image in self.images)

    def same_bytes(self, row: int, other: int) -> bool:
        """Whether the files of two rows hold the same bytes."""
        one, two = self.images[row].path, self.images[other].path
        return self.num_bytes[row] == self.num_bytes[other] and (one == two or _equal(one, two))


def read_small_images(
    images: Sequence[ImageOrPatch], progress: ProgressCallback | None = None
) -> SmallImages:
    """Decodes every file once and keeps a small gray version of each image.

    Args:
        images: n images or objects, in any order
        progress: called with the share of the files that is done
    """
    num_images = len(images)
    shape = (num_images, SIDE, SIDE)
    if num_images <= MAX_HELD:
        gray = np.zeros(shape, np.uint8)
    else:
        # The file lives as long as the array that maps it.
        gray = np.memmap(tempfile.TemporaryFile(), np.uint8, "w+", shape=shape)  # noqa: SIM115
    color, aspect = np.zeros((2, num_images), np.float32)
    num_pixels, num_bytes = np.zeros((2, num_images), np.int64)
    reduced = np.zeros(num_images, bool)
    reasons, notes = {}, {}
    rows_of: dict[str, list[int]] = {}
    for row, image in enumerate(images):
        rows_of.setdefault(image.path, []).append(row)
    files = list(rows_of)

    def read(path: str) -> None:
        rows = rows_of[path]
        whole = all(images[row].box is None for row in rows)
        try:
            with near(path) as local:
                pixels, full, note = _decode(local, whole)
                size = os.path.getsize(local)
        except UnreadableImageError as error:
            reasons.update(dict.fromkeys(rows, str(error)))
            return
        reduced[rows] = pixels.shape[0] * pixels.shape[1] < full
        if note:
            notes.update(dict.fromkeys(rows, note))
        for row in rows:
            try:
                gray[row], color[row], num_pixels[row], aspect[row] = _small(
                    pixels, full, images[row].box
                )
                num_bytes[row] = size
            except UnreadableImageError as error:
                reasons[row] = str(error)

    with ThreadPoolExecutor(num_cores()) as pool:
        for start in range(0, len(files), BLOCK):
            block = files[start : start + BLOCK]
            list(pool.map(read, block))
            if progress is not None:
                progress((start + len(block)) / len(files))
    reasons, notes = dict(sorted(reasons.items())), dict(sorted(notes.items()))
    closer = CloserImages(images).frames
    facts = (color, num_pixels, num_bytes, reasons, reduced, notes)
    return SmallImages(images, gray, *facts, closer, np.where(aspect > 0, aspect, 1))


def _decode(path: str, whole: bool) -> tuple[np.ndarray, int, str | None]:
    """The pixels of a file, perhaps reduced, their number at full size, and a note."""
    # Objects need more of the image than the whole does.
    image = load_image(path, min_side=2 * SIDE if whole else 16 * SIDE)
    width, height = full_size(path, image)
    return np.asarray(image), width * height, image.info.get("note")


def _equal(one: str, two: str) -> bool:
    try:
        with open(one, "rb") as mine, open(two, "rb") as theirs:
            while (block := mine.read(2**20)) == theirs.read(2**20):
                if not block:
                    return True
    except OSError:
        pass
    return False


def _small(
    pixels: np.ndarray, num_pixels: int, box: Box | None
) -> tuple[np.ndarray, float, int, float]:
    """The small gray image, its color, its number of pixels at full size, and its aspect."""
    import cv2

    if box is not None:
        full = pixels
        pixels = cut(full, box)
        num_pixels = max(1, round(num_pixels * pixels[..., 0].size / full[..., 0].size))
    smaller = min(pixels.shape[:2]) < SIDE
    way = cv2.INTER_LINEAR if smaller else cv2.INTER_AREA
    small = cv2.resize(pixels, (SIDE, SIDE), interpolation=way)
    spread = small.max(axis=2).astype(np.float32) - small.min(axis=2)
    aspect = pixels.shape[1] / pixels.shape[0]
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), float(spread.mean()), num_pixels, aspect
