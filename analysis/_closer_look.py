"""Looks closely at a pair that looks alike when small: block by block, and in color.

What separates a copy from other content in the same layout is a block in which both images have
something, and not the same: other words, digits, curves. Recompression, blur, noise, tone and
resampling leave little once the blocks are aligned, made equally sharp and brought to one tone; a
watermark or a retouch puts something into one image only. Import inside functions: OpenCV takes
time.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..pictures.small_pictures import SIDE
from ._block_colors import color_agreement

# Pixels of a block, by how many its place may be off (small errors of the alignment, parallax), and
# pixels of the parts of a block whose differences are measured.
BLOCK, REACH, PART = 24, 5, 8

# Gray levels of deviation from which a block or a part holds something.
STRUCTURE = 8.0

# A part differs when the square of the difference is this many times what noise, spread of the tone
# and a misplacement of half a pixel explain. Of twelve kinds of edits of images (COCO, Caltech-101)
# 95 % have no such part; two forms with other numbers have 3 at least and 72 at the median.
DIFFERENT, NOISE, MISPLACED, MOST_SPREAD = 4.0, 9.0, 0.25, 12.0

# A block holds ink in both images when two tones explain this share of the variance of either, the
# tones are the same in both to this share of their distance of so many levels, and the differences
# go both ways by this share: other words in the same ink. An overlay goes one way.
TWO_TONES, SAME_TONES, LEAST_CONTRAST, BOTH_WAYS = 0.7, 0.25, 25.0, 0.15

# Blocks below which details say nothing.
FEWEST_BLOCKS = 6

# Blocks that are equal as they lie, up to noise, are measured up to this many, and up to this many
# for each other block: the tones of the images are read off them.
EQUAL_BLOCKS, EQUAL_PER_OTHER = 64, 3

# Gray levels around the commonest one that are ground: paper, the background of a screen.
GROUND_WIDTH = 8

# What a copy has in common with its original: colors, correlation, and blocks that match. A weak
# pair, whose small images agree too little for this set, must match better.
SAME_COLOR, SAME_DETAIL, SAME_BLOCKS, STRONG_BLOCKS = 0.75, 0.9, 0.82, 0.9

# Other words in place of words: this many inked blocks and this share of the differing ones, or
# many. Where this share of an image is ground, two inked blocks are enough, or two parts in which
# both have something, if one is inked, or most that differ are such and do not lie scattered.
# Captions have 13 inked blocks at least, small objects that move before a camera 10 at most.
FEW_INKED, INKED_SHARE, MANY_INKED, MOST_GROUND, FEW_MUTUAL = 3, 0.3, 12, 0.6, 2


@dataclass(frozen=True)
class Look:
    """What two images have in common, seen closely.

    Attributes:
        blocks: number of blocks that hold something in either image
        correlation: their median correlation; 1 where there are too few of them
        matched: share of them whose correlation is above 0.6; 1 where there are too few
        different: number of parts of blocks that differ
        mutual: number of these in which both images hold something
        differing: number of blocks with a part that differs
        inked: number of these in which both images have the same two tones at different places
        ground: share of the pixels in the left image's commonest tone
        color: share of the colored part in which the colors agree, in [0, 1]
    """

    blocks: int
    correlation: float
    matched: float
    different: int
    mutual: int
    differing: int
    inked: int
    ground: float
    color: float

    @property
    def same_content(self) -> bool:
        """Nothing that was seen shows different content."""
        if self.color < SAME_COLOR or self.correlation < SAME_DETAIL or self.matched < SAME_BLOCKS:
            return False
        if self.inked >= max(FEW_INKED, INKED_SHARE * self.differing) or self.inked >= MANY_INKED:
            return False
        if self.ground < MOST_GROUND:
            return True
        gathered = self.different >= 2 * self.differing and 2 * self.mutual >= self.different
        return self.inked < FEW_MUTUAL and not (
            self.mutual >= FEW_MUTUAL and (self.inked or gathered)
        )

    @property
    def strong(self) -> bool:
        """Enough was seen to recognize the same content by itself."""
        return self.same_content and self.blocks >= FEWEST_BLOCKS and self.matched >= STRONG_BLOCKS


def look_closely(left: np.ndarray, right: np.ndarray, orientation: int, placed: np.ndarray) -> Look:
    """Compares two images in detail.

    Args:
        left, right: (height, width, 3) uint8
        orientation: of the right image, as ``compare_pairs`` gives it
        placed: (2, 3) the map from the left small image's pixels to the turned right one's
    """
    right = np.rot90(right, orientation % 4)
    right = np.ascontiguousarray(right[:, ::-1] if orientation >= 4 else right)
    left, right, placed = _at_one_scale(left, right, placed)
    size = left.shape[1::-1]
    inverse = cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(
        right, placed, size, flags=cv2.INTER_LINEAR | inverse, borderMode=cv2.BORDER_REPLICATE
    )
    whole = np.full(right.shape[:2], 255, np.uint8)
    inside = cv2.warpAffine(whole, placed, size, flags=cv2.INTER_NEAREST | inverse) > 0
    grays = _equally_sharp(_gray(left), _gray(moved), inside)
    mine, theirs, equal = _aligned_blocks(*grays, inside)
    ground = _ground(grays[0])
    color = color_agreement(left, moved, inside, ground >= MOST_GROUND)
    if len(mine) < FEWEST_BLOCKS:
        return Look(len(mine), 1.0, 1.0, 0, 0, 0, 0, ground, color)
    return _measured(mine, theirs, equal, ground, color)


def _ground(gray: np.ndarray) -> float:
    """Share of the pixels in the commonest tone."""
    count = np.bincount(np.clip(gray, 0, 255).astype(np.uint8).ravel(), minlength=256)
    return float(np.convolve(count, np.ones(2 * GROUND_WIDTH + 1), "same").max() / gray.size)


def _at_one_scale(
    left: np.ndarray, right: np.ndarray, placed: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both images at the scale of the coarser one, and the map between their pixels."""

    def to_small(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        x, y = SIDE / width, SIDE / height
        return np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5], [0, 0, 1]])

    def between() -> np.ndarray:
        return np.linalg.solve(to_small(right), np.vstack([placed, [0, 0, 1]])) @ to_small(left)

    scale = np.sqrt(abs(np.linalg.det(between()[:2, :2])))
    if scale < 0.9:
        left = _resized(left, scale)
    elif scale > 1.1:
        right = _resized(right, 1 / scale)
    return left, right, between()[:2].astype(np.float32)


def _resized(image: np.ndarray, scale: float) -> np.ndarray:
    size = [max(16, round(side * scale)) for side in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _gray(image: np.ndarray) -> np.ndarray:
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.GaussianBlur(gray, (5, 5), 0.8).astype(np.float32)


def _equally_sharp(
    left: np.ndarray, right: np.ndarray, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The sharper one blurred until it is no sharper than the other."""

    def sharpness(gray: np.ndarray) -> float:
        detail = cv2.Laplacian(gray, cv2.CV_32F)[inside]
        return float(np.sqrt(np.mean(detail**2)) / (gray[inside].std() + 1))

    if not inside.any():
        return left, right
    mine, theirs = sharpness(left), sharpness(right)
    if max(mine, theirs) < 1.15 * min(mine, theirs):
        return left, right
    sharper, wanted = (left, theirs) if mine > theirs else (right, mine)
    for deviation in (0.7, 1.0, 1.5, 2.0, 3.0, 4.5, 6.0):
        blurred = cv2.GaussianBlur(sharper, (0, 0), deviation)
        if sharpness(blurred) < wanted:
            break
    return (blurred, right) if mine > theirs else (left, blurred)


def _aligned_blocks(
    left: np.ndarray, right: np.ndarray, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Blocks that hold something in either image, each where it fits best: (n, 24, 24) float32.

    Of many that are equal as they lie, only some; the last value counts the others.
    """
    height, width = (side - side % BLOCK for side in left.shape)
    if min(height, width) < BLOCK:
        return np.empty((0, BLOCK, BLOCK)), np.empty((0, BLOCK, BLOCK)), 0
    whole = _parts(inside[:height, :width], BLOCK).min(axis=(2, 3))
    deviation = np.maximum(
        *(_parts(gray[:height, :width], BLOCK).std(axis=(2, 3)) for gray in (left, right))
    )
    margin = REACH + 1
    edges = cv2.copyMakeBorder(right, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    mine, theirs = [], []
    holding = whole & (deviation >= STRUCTURE)
    looked_at = _without_most_equal(holding, left[:height, :width], right[:height, :width])
    for row, column in np.argwhere(looked_at).tolist():
        y, x = row * BLOCK, column * BLOCK
        block = left[y : y + BLOCK, x : x + BLOCK]
        around = edges[y + 1 : y + 1 + BLOCK + 2 * REACH, x + 1 : x + 1 + BLOCK + 2 * REACH]
        fits = cv2.matchTemplate(around, block, cv2.TM_CCOEFF_NORMED)
        _, best, _, (right_by, down_by) = cv2.minMaxLoc(fits)
        if 0.5 < best < 1.5:  # infinite where a block is flat
            center_x = x + 1 + right_by + _peak(fits[down_by], right_by) + (BLOCK - 1) / 2
            center_y = y + 1 + down_by + _peak(fits[:, right_by], down_by) + (BLOCK - 1) / 2
            other = cv2.getRectSubPix(edges, (BLOCK, BLOCK), (center_x, center_y))
        else:
            other = right[y : y + BLOCK, x : x + BLOCK]
        mine.append(block)
        theirs.append(other)
    shape = (-1, BLOCK, BLOCK)
    one, other = (np.reshape(blocks, shape).astype(np.float32) for blocks in (mine, theirs))
    return one, other, int(holding.sum() - looked_at.sum())


def _without_most_equal(holding: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Blocks (rows, columns) bool to align and measure: few of those that need neither.

    Most blocks of two frames of a fixed camera differ by noise alone; measuring all takes six
    times as long and finds nothing more.
    """
    gap = _parts(left - right, BLOCK)
    gap = gap - gap.mean(axis=(2, 3), keepdims=True)
    part = gap.reshape(*gap.shape[:2], BLOCK // PART, PART, BLOCK // PART, PART)
    equal = holding & ((part**2).mean(axis=(3, 5)).max(axis=(2, 3)) <= NOISE)
    places = np.flatnonzero(equal)
    kept = max(EQUAL_BLOCKS, EQUAL_PER_OTHER * int(holding.sum() - len(places)))
    step = -(-len(places) // kept)
    looked_at = holding.copy()
    if step > 1:
        left_out = np.ones(len(places), bool)
        left_out[::step] = False
        looked_at.flat[places[left_out]] = False
    return looked_at


def _peak(fits: np.ndarray, place: int) -> float:
    """How far beside a place the parabola through it and its neighbors is highest."""
    if not 0 < place < len(fits) - 1:
        return 0.0
    before, here, after = fits[place - 1 : place + 2].tolist()
    bend = before - 2 * here + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0


def _parts(values: np.ndarray, side: int) -> np.ndarray:
    """(height, width) as (rows, columns, side, side)."""
    height, width = values.shape
    return values.reshape(height // side, side, width // side, side).swapaxes(1, 2)


def _measured(
    mine: np.ndarray, theirs: np.ndarray, equal: int, ground: float, color: float
) -> Look:
    """What aligned blocks, two (n, 24, 24) float32, and further equal ones have in common."""
    apart = [blocks - blocks.mean(axis=(1, 2), keepdims=True) for blocks in (mine, theirs)]
    power = [np.einsum("nij,nij->n", blocks, blocks) for blocks in apart]
    product = np.einsum("nij,nij->n", *apart)
    correlation = product / np.sqrt(power[0] * power[1] + 1e-3)
    alike = correlation > 0.8
    if alike.sum() < 2:
        alike[:] = True
    tone, spread = _tone(theirs[alike], mine[alike])
    _, spread_back = _tone(mine[alike], theirs[alike])
    levels = [np.clip(blocks, 0, 255).astype(np.uint8) for blocks in (mine, theirs)]
    toned = _between_levels(tone)[levels[1]] + (theirs - levels[1]) * _slopes(tone)[levels[1]]
    gap = mine - toned
    gap -= np.median(gap, axis=(1, 2), keepdims=True)
    allowed = np.maximum(
        _between_levels(spread)[levels[1]], _between_levels(spread_back)[levels[0]]
    )
    allowed = np.minimum(allowed, MOST_SPREAD)
    slope = np.maximum(_mean_slope(mine), _mean_slope(toned))
    explained = 2 * _part_means(allowed**2) + MISPLACED * slope + NOISE
    different = _part_means(gap**2) > DIFFERENT * explained
    deviation = [_part_means(blocks**2) - _part_means(blocks) ** 2 for blocks in (mine, toned)]
    mutual = different & (np.minimum(*deviation) >= STRUCTURE**2)
    differing = different.any(axis=(1, 2))
    inked = _inked(mine[differing], toned[differing], gap[differing])
    return Look(
        blocks=len(mine) + equal,
        correlation=float(np.median(np.append(correlation, np.ones(equal)))),
        matched=float((correlation > 0.6).sum() + equal) / (len(mine) + equal),
        different=int(different.sum()),
        mutual=int(mutual.sum()),
        differing=int(differing.sum()),
        inked=int(inked.sum()),
        ground=ground,
        color=color,
    )


LEVELS = np.arange(4, 256, 8)


def _tone(values: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What 32 gray levels are in the other image: the median (32,), and its spread (32,)."""
    level = np.clip(values[:, ::2, ::2], 0, 255).astype(np.int64).ravel() >> 3
    others = others[:, ::2, ::2].ravel()
    order = np.lexsort((others, level))
    others = others[order]
    count = np.bincount(level, minlength=len(LEVELS))
    known = np.flatnonzero(count > min(8, count.max() - 1))
    start, count = (np.cumsum(count) - count)[known], count[known]
    low, middle, high = (others[start + count * quarter // 4] for quarter in (1, 2, 3))
    spread = np.maximum(high - middle, middle - low)
    return np.interp(LEVELS, LEVELS[known], middle), np.interp(LEVELS, LEVELS[known], spread)


def _between_levels(values: np.ndarray) -> np.ndarray:
    """Values at 32 levels as a table of all 256 gray levels: (256,) float32."""
    return np.interp(np.arange(256), LEVELS, values).astype(np.float32)


def _slopes(values: np.ndarray) -> np.ndarray:
    """How fast the values rise from each of 256 gray levels to the next: (256,) float32."""
    table = _between_levels(values)
    return np.diff(table, append=table[-1:])


def _part_means(blocks: np.ndarray) -> np.ndarray:
    """(n, 24, 24) to the means of its parts, (n, 3, 3)."""
    side = BLOCK // PART
    return blocks.reshape(-1, side, PART, side, PART).mean(axis=(2, 4))


def _mean_slope(blocks: np.ndarray) -> np.ndarray:
    """Mean squared slope of the parts: (n, 3, 3), in gray levels per pixel, squared."""
    down, right = np.gradient(blocks, axis=(1, 2))
    return _part_means(down**2 + right**2)


def _inked(mine: np.ndarray, theirs: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Which blocks show the same two tones in both images, at different places: (n,) bool."""
    if len(mine) == 0:
        return np.zeros(0, bool)
    dark, bright, explained = _two_tones(mine.reshape(len(mine), -1))
    other_dark, other_bright, other_explained = _two_tones(theirs.reshape(len(mine), -1))
    contrast = np.minimum(bright - dark, other_bright - other_dark)
    shift = np.maximum(abs(dark - other_dark), abs(bright - other_bright))
    upward = np.where(gap > 0, gap**2, 0).sum(axis=(1, 2)) / (gap**2).sum(axis=(1, 2))
    return (
        (np.minimum(explained, other_explained) > TWO_TONES)
        & (shift < SAME_TONES * contrast)
        & (contrast > LEAST_CONTRAST)
        & (np.minimum(upward, 1 - upward) > BOTH_WAYS)
    )


def _two_tones(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Otsu's two tones of rows of pixels, and the share of the variance that they explain."""
    pixels = np.sort(pixels, axis=1)
    num_pixels = pixels.shape[1]
    count = np.arange(1, num_pixels)
    below = np.cumsum(pixels, axis=1)
    dark = below[:, :-1] / count
    bright = (below[:, -1:] - below[:, :-1]) / (num_pixels - count)
    between = (bright - dark) ** 2 * count * (num_pixels - count) / num_pixels**2
    # A twentieth of the pixels is no tone.
    between[:, np.minimum(count, num_pixels - count) < num_pixels / 20] = 0
    best, rows = between.argmax(axis=1), np.arange(len(pixels))
    explained = between[rows, best] / np.maximum(pixels.var(axis=1), 1e-6)
    return dark[rows, best], bright[rows, best], explained
