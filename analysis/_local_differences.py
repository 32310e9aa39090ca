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

# A part differs when the square of its difference is this many times what is explained.
DIFFERENT = 4.0

# A region is ink on a ground when two tones explain this share of the variance in either image, and
# the tones are the same in both to this share of their distance, of so many levels. What changes
# does so by this share of the distance, for this share of its power: 0.8 to 0.9 of other digits,
# and 0.5 of a watermark that shines through.
TWO_TONES, SAME_TONES, LEAST_CONTRAST, FULL_CHANGE, FULL_SHARE = 0.8, 0.2, 40.0, 0.75, 0.65

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
    spread: np.ndarray,
    places: np.ndarray,
    images: tuple[np.ndarray, np.ndarray],
    surely: tuple[float, float],
) -> Differences:
    """Regions of parts that differ.

    Args:
        mine, toned: (n, 24, 24) float32 aligned blocks of gray levels in one tone
        spread: (n, 24, 24) float32 by how many gray levels one tone differs
        places: (n, 2) int64 their row and column, in blocks
        images: both, (height, width, 3) uint8, from which the blocks were cut
        surely: largest and summed ratio of difference to what is explained, from which a region
            differs surely
    """
    if not len(mine):
        return Differences()
    gap = mine - toned
    gap -= np.median(gap, axis=(1, 2), keepdims=True)
    power = part_powers(gap).reshape(len(gap), -1)
    explained = _explained(power, np.maximum(_slope(mine), _slope(toned)))
    ratio = power / (explained + 2 * _parts(spread**2).mean(axis=2))
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
    sure = np.flatnonzero((peak >= surely[0]) & (total >= surely[1]))
    if not len(sure):
        return Differences()
    colors = [
        cv2.cvtColor(image, cv2.COLOR_RGB2Lab)[..., 1:].astype(np.float32) for image in images
    ]
    largest = sure[np.argsort(-total[sure], kind="stable")[:MOST_REGIONS]]
    one, other, apart = (_parts(blocks)[different] for blocks in (mine, toned, gap))
    down, right = rows[different], columns[different]
    rearranged = whole = 0.0
    for number in largest.tolist():
        at = region == number
        whole += total[number]
        if _same_ink(one[at].ravel(), other[at].ravel()):
            rearranged += total[number]
            continue
        gray = abs(np.sort(one[at], axis=None) - np.sort(other[at], axis=None)).mean()
        # The gap has been freed of a difference of level, which is one of tones.
        difference = max(abs(apart[at]).mean(), abs(one[at] - other[at]).mean())
        for plane in range(2):
            a, b = (_at_parts(image[..., plane], down[at], right[at]) for image in colors)
            gray += abs(np.sort(a) - np.sort(b)).mean()
            difference += abs(a - b).mean()
        rearranged += total[number] * max(0.0, 1 - gray / max(difference, 1e-3))
    return Differences(len(sure), float(rearranged / whole))


def part_powers(gap: np.ndarray) -> np.ndarray:
    """Mean squares of the parts of blocks (n, 24, 24), without their medians: (n, 3, 3)."""
    across = BLOCK // PART
    gap = gap - np.median(gap, axis=(1, 2), keepdims=True)
    return (gap * gap).reshape(-1, across, PART, across, PART).mean(axis=(2, 4))


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


def _same_ink(mine: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether pixels of a region change between two tones, which are the same in both images."""
    dark, bright, explained = _two_tones(mine)
    other_dark, other_bright, other_explained = _two_tones(theirs)
    contrast = min(bright - dark, other_bright - other_dark)
    shift = max(abs(dark - other_dark), abs(bright - other_bright))
    if min(explained, other_explained) < TWO_TONES or contrast < LEAST_CONTRAST:
        return False
    power = (mine - theirs) ** 2
    from_tone_to_tone = (
        power[power > (FULL_CHANGE * contrast) ** 2].sum() > FULL_SHARE * power.sum()
    )
    return bool(shift < SAME_TONES * contrast and from_tone_to_tone)


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
    """The pixels of parts of a plane, every second one; the last blocks may reach beyond it."""
    step = np.arange(0, PART, 2)
    height, width = plane.shape
    down = np.minimum(rows[:, None] * PART + step, height - 1)[:, :, None]
    right = np.minimum(columns[:, None] * PART + step, width - 1)[:, None, :]
    return plane[down, right].ravel()
