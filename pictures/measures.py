"""What is measured on the pixels of images and objects: size, brightness, color, sharpness.

Stands apart from the evaluation because files are slow and fail, one by one: each is decoded once,
in threads, and one that cannot be read leaves a reason. Measured at a small size, as cleanvision
does (Apache-2.0, github.com/cleanlab/cleanvision); see ``analysis.uninformative``.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ..cores import num_cores
from ..steps import ProgressCallback
from .images import Box, UnreadableImageError, full_size, load_image, near

# Too few pixels to distinguish blur from a plain surface.
SMALLEST_EVALUATED_SIDE = 16

# Longest sides in pixels at which brightness and color, and sharpness, are measured.
COLOR_SIDE, SHARPNESS_SIDE = 256, 64


@dataclass(frozen=True)
class Measures:
    """What is measured on one image or object.

    Attributes:
        width, height: pixels, of the object where there is a box
        darkest, brightest: 1st and 99th percentile of the perceived brightness, in [0, 1]
        color_range: largest difference of a color channel between these percentiles, in [0, 1]
        sharpness: standard deviation of the Laplacian over that of the gray values, at 64 pixels;
            about 1 in images. None where it cannot be determined
        brightness: mean perceived brightness, in [0, 1]
        saturation: mean difference between the channels, by the mean of the largest, in [0, 1]
        warmth: mean red less mean blue, by their sum, in [-1, 1]
    """

    width: int
    height: int
    darkest: float
    brightest: float
    color_range: float
    sharpness: float | None
    brightness: float
    saturation: float
    warmth: float


@dataclass(frozen=True)
class FileMeasures:
    """What is measured on n images or objects; NaN, and 0 for pixels, where one has no pixels.

    Attributes:
        whole: (n,) bool, a whole image, not an object in one
        width, height: (n,) int64, pixels, of the object where there is a box
        darkest, brightest: (n,) float64, 1st and 99th percentile of the perceived brightness, in
            [0, 1]
        color_range: (n,) float64, largest difference of a color channel between these
            percentiles, in [0, 1]
        sharpness: (n,) float64, as in ``Measures``; NaN where it cannot be determined, too
        brightness, saturation, warmth: (n,) float64, as in ``Measures``
        errors: why one could not be measured, by its row
        notes: what a user should know of how one was read, by its row
    """

    whole: np.ndarray
    width: np.ndarray
    height: np.ndarray
    darkest: np.ndarray
    brightest: np.ndarray
    color_range: np.ndarray
    sharpness: np.ndarray
    brightness: np.ndarray
    saturation: np.ndarray
    warmth: np.ndarray
    errors: dict[int, str]
    notes: dict[int, str] = field(default_factory=dict)

    @property
    def measured(self) -> np.ndarray:
        """(n,) bool."""
        return self.width > 0


def measure_files(
    paths: Sequence[str],
    boxes: Sequence[Box | None] | None = None,
    progress: ProgressCallback | None = None,
) -> FileMeasures:
    """Measures images, or objects in images.

    Args:
        paths: n image files; each is decoded once, whatever the number and order of its objects
        boxes: relative ``(x, y, width, height)`` of objects, None for the whole image
        progress: called with the share of the work that is done, in [0, 1]

    Raises:
        ValueError: if there is not one box per path
    """
    if boxes is None:
        boxes = [None] * len(paths)
    if len(boxes) != len(paths):
        raise ValueError(f"There are {len(boxes)} boxes for {len(paths)} images")
    rows_of: dict[str, list[int]] = {}
    for row, path in enumerate(paths):
        rows_of.setdefault(path, []).append(row)
    files = list(rows_of.values())

    def measure_file(rows: list[int]) -> tuple[list[Measures | str], str | None]:
        return _measure_file(paths[rows[0]], [boxes[row] for row in rows])

    size = np.zeros((2, len(paths)), np.int64)
    values = np.full((7, len(paths)), np.nan)
    errors, notes = {}, {}
    with ThreadPoolExecutor(num_cores()) as pool:
        for done, (rows, (found, note)) in enumerate(zip(files, pool.map(measure_file, files)), 1):
            if note:
                notes.update(dict.fromkeys(rows, note))
            for row, one in zip(rows, found):
                if isinstance(one, str):
                    errors[row] = one
                    continue
                size[:, row] = one.width, one.height
                # None, what cannot be determined, becomes NaN.
                values[:, row] = (
                    one.darkest, one.brightest, one.color_range, one.sharpness,
                    one.brightness, one.saturation, one.warmth,
                )  # fmt: skip
            if progress is not None:
                progress(done / len(files))
    whole = np.array([box is None for box in boxes], bool)
    errors, notes = dict(sorted(errors.items())), dict(sorted(notes.items()))
    width, height = size
    darkest, brightest, color_range, sharpness, brightness, saturation, warmth = values
    return FileMeasures(
        whole, width, height, darkest, brightest, color_range, sharpness,
        brightness, saturation, warmth, errors, notes,
    )  # fmt: skip


def _measure_file(path: str, boxes: list[Box | None]) -> tuple[list[Measures | str], str | None]:
    """Measures, or the reason why there are none, for every box of one file; and a note on it."""
    whole = all(box is None for box in boxes)
    try:
        with near(path) as local:
            image = load_image(local, COLOR_SIDE if whole else 0)
            # A large image was decoded at a fraction of its size.
            size = full_size(local, image) if whole else image.size
    except UnreadableImageError as error:
        return [str(error)] * len(boxes), None
    found: list[Measures | str] = []
    for box in boxes:
        try:
            found.append(measure(image, size) if box is None else measure(_crop(image, box)))
        except UnreadableImageError as error:
            found.append(str(error))
    return found, image.info.get("note")


def measure(image: Image.Image, size: tuple[int, int] | None = None) -> Measures:
    """Measures one image of mode RGB, which may have been reduced from a size."""
    pixels = np.asarray(_shrink(image, COLOR_SIDE), np.float32).reshape(-1, 3) / 255
    # The perceived brightness as in cleanvision (alienryderflex.com/hsp.html).
    brightness = np.sqrt(pixels**2 @ np.array([0.241, 0.691, 0.068], np.float32))
    darkest, brightest = np.percentile(brightness, [1, 99])
    low, high = np.percentile(pixels, [1, 99], axis=0)
    red, _, blue = pixels.mean(axis=0).tolist()
    largest = pixels.max(axis=1)
    return Measures(
        width=(size or image.size)[0],
        height=(size or image.size)[1],
        darkest=float(darkest),
        brightest=float(brightest),
        color_range=float((high - low).max()),
        sharpness=_sharpness(image),
        brightness=float(brightness.mean()),
        saturation=float((largest - pixels.min(axis=1)).mean() / max(largest.mean(), 1e-6)),
        warmth=(red - blue) / max(red + blue, 1e-6),
    )


def _sharpness(image: Image.Image) -> float | None:
    """Standard deviation of the Laplacian, relative to that of the gray values.

    Relative, because an image of low contrast is not a blurred one; at a small size, because only
    blur that leaves no detail even there is meant.
    """
    gray = np.asarray(_shrink(image, SHARPNESS_SIDE).convert("L"), np.float32)
    deviation = gray.std()
    if min(image.size) < SMALLEST_EVALUATED_SIDE or min(gray.shape) < 3 or deviation < 1:
        return None
    around = gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:]
    return float((4 * gray[1:-1, 1:-1] - around).std() / deviation)


def _shrink(image: Image.Image, longest: int) -> Image.Image:
    """The image with a longest side of at most this many pixels, by averaging."""
    scale = longest / max(image.size)
    if scale >= 1:
        return image
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BOX)


def _crop(image: Image.Image, box: Box) -> Image.Image:
    """The box alone, at least one pixel: surroundings would hide an object without information."""
    if len(box) == 0:
        raise UnreadableImageError("the patch has no box")
    x, y, width, height = box
    with np.errstate(over="ignore"):
        edges = np.array([x, y, x + width, y + height], float) * np.tile(image.size, 2)
    if not np.isfinite(edges).all():
        raise UnreadableImageError(f"box {list(box)} is not four finite numbers")
    left, top, right, bottom = np.rint(np.clip(edges, 0, np.tile(image.size, 2))).astype(int)
    if width <= 0 or height <= 0 or right <= left or bottom <= top:
        raise UnreadableImageError("box contains no pixel of the image")
    return image.crop((left, top, right, bottom))
