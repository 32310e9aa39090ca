"""Looks closely at a pair that looks alike when small: block by block, and in color.

What separates a copy from other content in the same layout is a place in which both images have
something, and not the same: other words, digits, curves. Recompression, blur, noise, tone and
resampling leave little once the blocks are aligned, made equally sharp and brought to one tone.
Import inside functions: OpenCV takes time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..pictures.small_images import SIDE
from ._aligned_images import Blocks, Overlaid, correlations, overlaid, resizing
from ._block_colors import color_agreement, surfaces_agree
from ._local_differences import PART, Differences, local_differences, part_powers

# The longer side at which images are compared as a whole. What differs in places is looked for once
# more, as large as they are, and placed as this comparison says.
WHOLE_SIDE = 512

# Blocks below which details say nothing, and below which they do not speak for a weak pair.
FEWEST_BLOCKS, FEWEST_STRONG = 6, 16

# Gray levels around a tone that belong to it, and the share of the pixels in the commonest tone of
# what lies on a plain ground. Graphics have such a share of pixels in three tones (forms, receipts,
# screens, drawings 0.94 and more, photos 0.3 to 0.9), or one in the commonest one (pages of text
# 0.8). From the last share in three tones on, surfaces must have the very color.
TONE_WIDTH, MOST_GROUND, FEW_TONES, PAPER, SURFACES = 8, 0.6, 0.92, 0.78, 0.8

# What a copy has in common with its original: colors, correlation, and blocks that match. A weak
# pair, whose small images agree too little for this set, must match better.
SAME_COLOR, SAME_DETAIL, SAME_BLOCKS, STRONG_BLOCKS = 0.75, 0.9, 0.82, 0.9

# The spread of a tone, in gray levels, counts up to this: where a channel was clipped, one gray
# level comes from several; in whole at so many levels at either end, where all channels were.
MOST_SPREAD, CLIPPED = 12.0, 6

# The peak and the sum from which a region differs surely. The parts of scanned forms, pages and
# receipts have a peak of 4 at most, and those of receipts that differ in one digit 7 to 60. Where
# photos were clipped, some lie above; other words on photos have sums of thousands.
SURE, SURE_IN_GRAPHICS = (20.0, 150.0), (6.0, 6.0)

# In a photo, regions that differ are other words where so much of them is the same ink at other
# places. In graphics every region that differs is other content.
SAME_INK = 0.38


@dataclass(frozen=True)
class Look:
    """What two images have in common, seen closely.

    Attributes:
        blocks: number of blocks that hold something in either image
        correlation: their median correlation; 1 where there are too few of them
        matched: share of them whose correlation is above 0.6; 1 where there are too few
        color: share of the colored part in which the colors agree, in [0, 1]
        graphic: a drawing, a page or a screen: nearly all pixels have one of three tones
        differences: what differs in places, at the size at which it can be seen
    """

    blocks: int
    correlation: float
    matched: float
    color: float
    graphic: bool
    differences: Differences

    @property
    def same_content(self) -> bool:
        """Nothing that was seen shows different content."""
        if not self.alike:
            return False
        if self.graphic:
            return self.differences.sure == 0
        return self.differences.rearranged < SAME_INK

    @property
    def alike(self) -> bool:
        """The images as a whole are the same."""
        return (
            self.color >= SAME_COLOR
            and self.correlation >= SAME_DETAIL
            and self.matched >= SAME_BLOCKS
        )

    @property
    def strong(self) -> bool:
        """Enough was seen to recognize the same content by itself."""
        return self.same_content and self.blocks >= FEWEST_STRONG and self.matched >= STRONG_BLOCKS


def look_closely(left: np.ndarray, right: np.ndarray, orientation: int, placed: np.ndarray) -> Look:
    """Compares two images in detail: as a whole at 512 pixels, then in places as large as given.

    Args:
        left, right: (height, width, 3) uint8
        orientation: of the right image, as ``compare_pairs`` gives it
        placed: (2, 3) the map from the left small image's pixels to the turned right one's
    """
    right = np.rot90(right, orientation % 4)
    right = np.ascontiguousarray(right[:, ::-1] if orientation >= 4 else right)
    to_left, to_right = (resizing(SIDE / im.shape[1], SIDE / im.shape[0]) for im in (left, right))
    between = np.linalg.inv(to_right) @ np.vstack([placed, [0, 0, 1]]) @ to_left
    seen = overlaid(left, right, between, WHOLE_SIDE)
    blocks = seen.blocks()
    look = _as_a_whole(seen, blocks)
    if not look.alike:
        return look
    seen = overlaid(left, right, seen.corrected(blocks), max(*left.shape, *right.shape))
    blocks = seen.blocks()
    return replace(look, differences=_in_places(seen, blocks, look.graphic))


def _as_a_whole(seen: Overlaid, blocks: Blocks) -> Look:
    ground, few = _commonest_tones(seen.left)
    color = color_agreement(seen.left, seen.moved, seen.inside, ground >= MOST_GROUND)
    graphic = few >= FEW_TONES or ground >= PAPER
    if few >= SURFACES and not surfaces_agree(seen.left, seen.moved, seen.inside):
        color = 0.0
    full = blocks.inside.all(axis=(1, 2))
    number = int(full.sum()) + blocks.equal
    if full.sum() < FEWEST_BLOCKS:
        return Look(number, 1.0, 1.0, color, graphic, Differences())
    correlation = correlations(blocks.mine[full], blocks.theirs[full])
    matched = ((correlation > 0.6).sum() + blocks.equal) / number
    middle = float(np.median(np.append(correlation, np.ones(blocks.equal))))
    return Look(number, middle, float(matched), color, graphic, Differences())


def _in_places(seen: Overlaid, blocks: Blocks, graphic: bool) -> Differences:
    mine, theirs = blocks.mine, blocks.theirs
    if not len(mine):
        return Differences()
    alike = correlations(mine, theirs) > 0.8
    if alike.sum() < 2:
        alike[:] = True
    tone, spread = _tone(theirs[alike], mine[alike])
    _, spread_back = _tone(mine[alike], theirs[alike])
    # A block that holds the end of a stroke may fit beside its place: what agrees either way does.
    fitting, lying = (_toned(blocks_of, tone) for blocks_of in (theirs, blocks.lying))
    better = part_powers(mine - lying) < part_powers(mine - fitting)
    pixels = better.repeat(PART, axis=1).repeat(PART, axis=2)
    toned = np.where(pixels, lying, fitting)
    level, mine_level = (np.clip(each, 0, 255).astype(np.uint8) for each in (theirs, mine))
    spread = np.maximum(_bounded(spread)[level], _bounded(spread_back)[mine_level])
    if graphic:  # the tones between ink and ground lie on edges, which are counted as such
        spread[:] = 0
    surely = SURE_IN_GRAPHICS if graphic else SURE
    toned = np.where(blocks.inside, toned, mine)
    return local_differences(mine, toned, spread, blocks.places, (seen.left, seen.moved), surely)


def _toned(blocks: np.ndarray, tone: np.ndarray) -> np.ndarray:
    """Blocks (n, 24, 24) in the tone of the other image, whose 256 levels are given."""
    level = np.clip(blocks, 0, 255).astype(np.uint8)
    return tone[level] + (blocks - level) * np.diff(tone, append=tone[-1:])[level]


def _bounded(spread: np.ndarray) -> np.ndarray:
    """The spread of 256 levels, bounded where nothing was clipped."""
    bounded = np.minimum(spread, MOST_SPREAD)
    bounded[:CLIPPED], bounded[-CLIPPED:] = spread[:CLIPPED], spread[-CLIPPED:]
    return bounded


def _commonest_tones(image: np.ndarray) -> tuple[float, float]:
    """Share of the pixels in the commonest gray tone, and in the three commonest."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    count = np.bincount(gray.ravel(), minlength=256).astype(float)
    shares = []
    for _ in range(3):
        around = np.convolve(count, np.ones(2 * TONE_WIDTH + 1), "same")
        best = int(around.argmax())
        shares.append(float(around[best]) / gray.size)
        count[max(best - TONE_WIDTH, 0) : best + TONE_WIDTH + 1] = 0
    return shares[0], sum(shares)


LEVELS = np.arange(4, 256, 8)


def _tone(values: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What 256 gray levels are in the other image, by the median of each eighth, and the spread.

    Returns:
        two (256,) float32; the spread is the larger distance of the median from a quartile
    """
    level = np.clip(values[:, ::3, ::3], 0, 255).astype(np.int64).ravel() >> 3
    others = others[:, ::3, ::3].ravel()
    order = np.lexsort((others, level))
    others = others[order]
    count = np.bincount(level, minlength=len(LEVELS))
    known = np.flatnonzero(count > min(8, int(count.max()) - 1))
    start, count = (np.cumsum(count) - count)[known], count[known]
    low, middle, high = (others[start + count * quarter // 4] for quarter in (1, 2, 3))
    spread = np.maximum(high - middle, middle - low)
    all_levels = np.arange(256)
    tone, spread = (np.interp(all_levels, LEVELS[known], each) for each in (middle, spread))
    return tone.astype(np.float32), spread.astype(np.float32)
