"""Pictures without information: all dark, all bright, of one colour, extremely blurred, odd shapes.

The definitions follow cleanvision (Apache-2.0, github.com/cleanlab/cleanvision): percentiles of the
perceived brightness, edges at a small size, quartiles of the sizes. It is not called itself: it
loads files in its own way and in processes, needs pandas and matplotlib, knows no boxes, and of
COCO photos blurred by 4 or 15 % of a side (standard deviation) it finds 38 and 25 %, because it
looks at edges without the contrast; relative to the contrast they find 97 and 100 %.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..cores import num_cores
from ..embedding.images import Box, UnreadableImageError, load_image

DARK, BRIGHT, ONE_COLOR, BLURRED = "dark", "bright", "one color", "blurred"
ODD_SIZE, ODD_ASPECT = "odd size", "odd aspect ratio"

# The brightest hundredth of a dark picture is darker than this and the darkest hundredth of a
# bright one brighter. Of 628 photos of Caltech-101 and COCO the darkest reaches 0.30, and the
# brightest, a drawing on white, has 0.55.
DARK_BELOW, BRIGHT_ABOVE = 0.25, 0.85

# Channels of a picture of one colour differ by less across the picture. The least of the photos
# above is 0.35.
ONE_COLOR_BELOW = 0.12

# The least sharpness of the photos above is 0.44; blurred by 4 % of the shorter side (standard
# deviation of the Gaussian), 0.11 at the median, by 2 %, 0.28. A pyramid in a sandstorm has 0.25.
BLURRED_BELOW = 0.22

# Too few pixels to tell blur from a plain surface.
SMALLEST_JUDGED_SIDE = 16

# A size or aspect ratio is odd when it lies farther than three times the distance between the
# quartiles from them (as in cleanvision), and by at least a factor of two.
QUARTILE_DISTANCES, SMALLEST_FACTOR = 3.0, 2.0

# Quartiles and shares of fewer pictures say nothing.
FEWEST_PICTURES = 10

# What holds for more of the pictures than this is how the set was made: enlarged, at night, …
COMMON_SHARE = 0.2

# Longest sides in pixels at which brightness and colour, and sharpness, are measured.
COLOR_SIDE, SHARPNESS_SIDE = 256, 64

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Measures:
    """What is measured on one picture or object.

    Attributes:
        width, height: pixels, of the object where there is a box
        darkest, brightest: 1st and 99th percentile of the perceived brightness, in [0, 1]
        color_range: largest difference of a colour channel between these percentiles, in [0, 1]
        sharpness: standard deviation of the Laplacian over that of the grey values, at 64 pixels;
            about 1 in photos. None where it cannot be told
    """

    width: int
    height: int
    darkest: float
    brightest: float
    color_range: float
    sharpness: float | None


@dataclass(frozen=True)
class Uninformative:
    """What is known of every picture, in the order of the paths.

    Attributes:
        reasons: why it is without information (DARK, BRIGHT, ONE_COLOR, BLURRED, ODD_SIZE or
            ODD_ASPECT, the first that holds), or None
        common: what was found in more than COMMON_SHARE of the pictures, and so is no reason
        measures: None where the picture could not be read
        errors: why it could not be read, or None
    """

    reasons: list[str | None]
    common: tuple[str, ...]
    measures: list[Measures | None]
    errors: list[str | None]


def find_uninformative(
    paths: Sequence[str],
    boxes: Sequence[Box | None] | None = None,
    progress: Progress | None = None,
) -> Uninformative:
    """Finds pictures, or objects in pictures, that hold no information.

    Args:
        paths: picture files; each is decoded once, whatever the number and order of its objects
        boxes: relative ``(x, y, width, height)`` of objects, None for the whole picture. Sizes and
            shapes of objects vary by nature and are not judged
        progress: called with the share of the work that is done, in [0, 1]

    Raises:
        ValueError: if there is not one box per path
    """
    if boxes is None:
        boxes = [None] * len(paths)
    if len(boxes) != len(paths):
        raise ValueError(f"There are {len(boxes)} boxes for {len(paths)} pictures")

    members_of: dict[str, list[int]] = {}
    for index, path in enumerate(paths):
        members_of.setdefault(path, []).append(index)
    files = list(members_of.values())

    def measure_file(members: list[int]) -> list[Measures | str]:
        return _measure_file(paths[members[0]], [boxes[index] for index in members])

    measures: list[Measures | None] = [None] * len(paths)
    errors: list[str | None] = [None] * len(paths)
    with ThreadPoolExecutor(num_cores()) as pool:
        for done, (members, found) in enumerate(zip(files, pool.map(measure_file, files)), 1):
            for index, outcome in zip(members, found):
                kind = errors if isinstance(outcome, str) else measures
                kind[index] = outcome
            if progress is not None:
                progress(done / len(files))

    reasons = [measured and _reason(measured) for measured in measures]
    num_measured = sum(measured is not None for measured in measures)
    common = tuple(
        reason
        for reason, count in Counter(filter(None, reasons)).most_common()
        if num_measured >= FEWEST_PICTURES and count > COMMON_SHARE * num_measured
    )
    reasons = [None if reason in common else reason for reason in reasons]
    whole = [
        index
        for index, (box, measured) in enumerate(zip(boxes, measures))
        if box is None and measured
    ]
    if len(whole) >= FEWEST_PICTURES:
        width = np.array([measures[index].width for index in whole], float)
        height = np.array([measures[index].height for index in whole], float)
        for reason, odd in (
            (ODD_ASPECT, _is_odd(np.log(width / height))),
            (ODD_SIZE, _is_odd(np.log(width * height) / 2)),
        ):
            for position in np.flatnonzero(odd):
                reasons[whole[position]] = reasons[whole[position]] or reason
    return Uninformative(reasons, common, measures, errors)


def _measure_file(path: str, boxes: list[Box | None]) -> list[Measures | str]:
    """Measures, or the reason why there are none, for every box of one file."""
    whole = all(box is None for box in boxes)
    try:
        image = load_image(path, COLOR_SIDE if whole else 0)
        # A large picture was decoded at a fraction of its size.
        size = _upright_size(path, image) if whole else image.size
    except UnreadableImageError as error:
        return [str(error)] * len(boxes)
    found: list[Measures | str] = []
    for box in boxes:
        try:
            found.append(measure(image, size) if box is None else measure(_crop(image, box)))
        except UnreadableImageError as error:
            found.append(str(error))
    return found


def _upright_size(path: str, image: Image.Image) -> tuple[int, int]:
    with Image.open(path) as header:
        width, height = header.size
    return (width, height) if (width < height) == (image.width < image.height) else (height, width)


def measure(image: Image.Image, size: tuple[int, int] | None = None) -> Measures:
    """Measures one picture of mode RGB, which may have been reduced from a size."""
    pixels = np.asarray(_shrink(image, COLOR_SIDE), np.float32).reshape(-1, 3) / 255
    # The perceived brightness as in cleanvision (alienryderflex.com/hsp.html).
    brightness = np.sqrt(pixels**2 @ np.float32([0.241, 0.691, 0.068]))
    darkest, brightest = np.percentile(brightness, [1, 99])
    low, high = np.percentile(pixels, [1, 99], axis=0)
    return Measures(
        width=(size or image.size)[0],
        height=(size or image.size)[1],
        darkest=float(darkest),
        brightest=float(brightest),
        color_range=float((high - low).max()),
        sharpness=_sharpness(image),
    )


def _sharpness(image: Image.Image) -> float | None:
    """Standard deviation of the Laplacian, relative to that of the grey values.

    Relative, because a picture of low contrast is not a blurred one; at a small size, because only
    blur that leaves no detail even there is meant.
    """
    gray = np.asarray(_shrink(image, SHARPNESS_SIDE).convert("L"), np.float32)
    deviation = gray.std()
    if min(image.size) < SMALLEST_JUDGED_SIDE or min(gray.shape) < 3 or deviation < 1:
        return None
    around = gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:]
    return float((4 * gray[1:-1, 1:-1] - around).std() / deviation)


def _shrink(image: Image.Image, longest: int) -> Image.Image:
    """The picture with a longest side of at most this many pixels, by averaging."""
    scale = longest / max(image.size)
    if scale >= 1:
        return image
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BOX)


def _reason(measured: Measures) -> str | None:
    if measured.brightest < DARK_BELOW:
        return DARK
    if measured.darkest > BRIGHT_ABOVE:
        return BRIGHT
    if measured.color_range < ONE_COLOR_BELOW:
        return ONE_COLOR
    if measured.sharpness is not None and measured.sharpness < BLURRED_BELOW:
        return BLURRED
    return None


def _is_odd(logarithms: np.ndarray) -> np.ndarray:
    """Which values lie far outside the quartiles: (n,) logarithms to (n,) bool."""
    low, high = np.quantile(logarithms, [0.25, 0.75])
    reach = max(QUARTILE_DISTANCES * (high - low), np.log(SMALLEST_FACTOR))
    return (logarithms < low - reach) | (logarithms > high + reach)


def _crop(image: Image.Image, box: Box) -> Image.Image:
    """The box alone, at least one pixel: surroundings would hide an object without information."""
    if len(box) == 0:
        raise UnreadableImageError("the object has no box")
    x, y, width, height = box
    edges = np.array([x, y, x + width, y + height], float) * np.tile(image.size, 2)
    if not np.isfinite(edges).all():
        raise UnreadableImageError(f"box {list(box)} is not four finite numbers")
    left, top, right, bottom = np.rint(np.clip(edges, 0, np.tile(image.size, 2))).astype(int)
    if width <= 0 or height <= 0 or right <= left or bottom <= top:
        raise UnreadableImageError("box holds no pixel of the picture")
    return image.crop((left, top, right, bottom))
