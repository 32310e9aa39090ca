"""What differs in places between two aligned images, beyond what the rest of the pair explains.

Recompression, blur, noise and resampling leave differences that grow with noise and with slopes,
and how much is read off the pair itself. What is left lies in regions: other words, digits, prints.
A region that holds the same tones and colors at other places is other content in the same ink; one
that was put onto an image, a watermark or a thing before a camera, brings tones of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# Pixels of a block, and of the parts of a block whose differences are measured.
BLOCK, PART = 24, 8

# Square of the noise that is explained at least, and the square of a misplacement in pixels.
LEAST_NOISE, LEAST_MISPLACED, MOST_MISPLACED = 8.0, 0.02, 0.25

# A part differs when the square of its difference is this many times what is explained. A region is
# sure with this peak and sum of these ratios. Of the parts of twelve kinds of edits of photos and
# of scanned forms, regions have a sum of 60 at most, except where something was clipped or put on;
# of forms, screens, captions and labels with other words the largest one has 480 at least.
DIFFERENT, SURE_PEAK, SURE_SUM = 4.0, 14.0, 40.0

# Gray levels of deviation from which a region holds something, in either image.
STRUCTURE = 8.0

# A region is ink on a ground when two tones explain this share of the variance in either image, and
# the tones are the same in both to this share of their distance of so many levels.
TWO_TONES, SAME_TONES, LEAST_CONTRAST = 0.8, 0.2, 40.0

# Regions that are measured at most, the largest ones.
MOST_REGIONS = 64


@dataclass(frozen=True)
class Differences:
    """What differs in places.

    Attributes:
        sure: number of regions that differ surely
        rearranged: share of what these differ by that the same tones and colors at other places
            explain, or the same ink on the same ground, in [0, 1]
    """

    sure: int = 0
    rearranged: float = 0.0


def local_differences(
    mine: np.ndarray,
    toned: np.ndarray,
    places: np.ndarray,
    colors: tuple[np.ndarray, np.ndarray],
) -> Differences:
    """Regions of parts that differ.

    Args:
        mine, toned: (n, 24, 24) float32 aligned blocks of gray levels in one tone
        places: (n, 2) int64 their row and column, in blocks
        colors: both images, (height, width, 2) float32, a* and b*
    """
    if not len(mine):
        return Differences()
    gap = mine - toned
    gap -= np.median(gap, axis=(1, 2), keepdims=True)
    power = _parts(gap**2).mean(axis=2)
    ratio = power / _explained(power, np.maximum(_slope(mine), _slope(toned)))
    different = ratio > DIFFERENT
    if not different.any():
        return Differences()
    across = BLOCK // PART
    rows = places[:, :1] * across + np.repeat(np.arange(across), across)
    columns = places[:, 1:] * across + np.tile(np.arange(across), across)
    grid = np.zeros((rows.max() + 2, columns.max() + 2), np.uint8)
    grid[rows[different], columns[different]] = 1
    # Letters of one word belong together across a part that does not differ.
    _, label = cv2.connectedComponents(cv2.dilate(grid, np.ones((2, 2), np.uint8)))
    region = label[rows[different], columns[different]]
    ratio = ratio[different]
    total = np.bincount(region, ratio)
    peak = np.zeros(len(total))
    np.maximum.at(peak, region, ratio)
    sure = np.flatnonzero((total >= SURE_SUM) & (peak >= SURE_PEAK))
    largest = sure[np.argsort(-total[sure], kind="stable")[:MOST_REGIONS]]
    one, other, apart = (_parts(blocks)[different] for blocks in (mine, toned, gap))
    down, right = rows[different], columns[different]
    explained = whole = 0.0
    for number in largest.tolist():
        at = region == number
        whole += total[number]
        if _same_two_tones(one[at].ravel(), other[at].ravel()):
            explained += total[number]
            continue
        gray = abs(np.sort(one[at], axis=None) - np.sort(other[at], axis=None)).mean()
        # The gap has been freed of a difference of level, which is one of tones.
        difference = max(abs(apart[at]).mean(), abs(one[at] - other[at]).mean())
        for plane in range(2):
            a, b = (_at_parts(image[..., plane], down[at], right[at]) for image in colors)
            gray += abs(np.sort(a) - np.sort(b)).mean()
            difference += abs(a - b).mean()
        explained += total[number] * max(0.0, 1 - gray / max(difference, 1e-3))
    return Differences(len(sure), float(explained / whole) if whole else 0.0)


def _explained(power: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """The squared difference (n, 9) that noise and a misplacement explain, as the pair shows."""
    flat = slope <= np.quantile(slope, 0.3)
    noise = max(LEAST_NOISE, 2 * float(np.median(power[flat])))
    steep = slope > 2 * noise
    misplaced = LEAST_MISPLACED
    if steep.sum() > 8:
        misplaced = 2 * float(np.median((power[steep] - noise / 2) / slope[steep]))
    return noise + np.clip(misplaced, LEAST_MISPLACED, MOST_MISPLACED) * slope


def _parts(blocks: np.ndarray) -> np.ndarray:
    """Blocks (n, 24, 24) as parts, (n, 9, 64)."""
    across = BLOCK // PART
    parts = blocks.reshape(-1, across, PART, across, PART).swapaxes(2, 3)
    return parts.reshape(len(blocks), across**2, PART**2)


def _slope(blocks: np.ndarray) -> np.ndarray:
    """Mean squared slope of the parts: (n, 9), in gray levels per pixel, squared."""
    down, right = np.gradient(blocks, axis=(1, 2))
    return _parts(down**2 + right**2).mean(axis=2)


def _same_two_tones(mine: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether pixels of a region have two tones each, and the same ones: ink on a ground."""
    dark, bright, explained = _two_tones(mine)
    other_dark, other_bright, other_explained = _two_tones(theirs)
    contrast = min(bright - dark, other_bright - other_dark)
    shift = max(abs(dark - other_dark), abs(bright - other_bright))
    both = min(explained, other_explained) > TWO_TONES
    return bool(both and contrast > LEAST_CONTRAST and shift < SAME_TONES * contrast)


def _two_tones(pixels: np.ndarray) -> tuple[float, float, float]:
    """Otsu's two tones of pixels, and the share of the variance that they explain."""
    pixels = np.sort(pixels)
    number = len(pixels)
    count = np.arange(1, number)
    below = np.cumsum(pixels, dtype=np.float64)
    dark = below[:-1] / count
    bright = (below[-1] - below[:-1]) / (number - count)
    between = (bright - dark) ** 2 * count * (number - count) / number**2
    # A twentieth of the pixels is no tone.
    between[np.minimum(count, number - count) < number / 20] = 0
    best = int(between.argmax())
    share = between[best] / max(float(pixels.var()), 1e-6)
    return float(dark[best]), float(bright[best]), float(share)


def _at_parts(plane: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The pixels of parts of a plane, every second one."""
    step = np.arange(0, PART, 2)
    down = (rows[:, None] * PART + step)[:, :, None]
    right = (columns[:, None] * PART + step)[:, None, :]
    return plane[down, right].ravel()
