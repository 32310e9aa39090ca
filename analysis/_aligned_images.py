"""Two images laid over each other: at one scale, equally sharp, and block by block.

Import inside functions: OpenCV takes time.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ._local_differences import BLOCK, LEAST_MISPLACED, PART

# By how many pixels the place of a block may be off (small errors of the alignment, parallax).
REACH = 5

# Gray levels of deviation from which a block holds something; and the square of the noise up to
# which a part of one is equal, beside the least misplacement.
STRUCTURE, NOISE = 8.0, 9.0

# What lies so near the edge of an image, as a share of the longer side, is none of it: a page that
# lay askew on a scanner, a photo that was turned by half a degree.
EDGE = 0.01

# Share of a block that must lie within both images.
LEAST_INSIDE = 0.5

# Blocks that are equal as they lie, up to noise, are measured up to this many, and up to this many
# for each other block: the tones of the images are read off them.
EQUAL_BLOCKS, EQUAL_PER_OTHER = 64, 3

# A map is corrected by blocks that correlate so well, so many at least, and of which none lies
# farther off than this many times the median.
WELL_PLACED, FEWEST_PLACED, FARTHEST = 0.8, 6, 3.0


@dataclass(frozen=True)
class Overlaid:
    """Two images of one scale, the second laid over the first.

    Attributes:
        left, moved: (height, width, 3) uint8
        inside: (height, width) bool, where there are both
        placed: (3, 3) the map from the pixels of the left image as given to those of the right one
        scale: size of the left one as a share of the given one
    """

    left: np.ndarray
    moved: np.ndarray
    inside: np.ndarray
    placed: np.ndarray
    scale: float

    def blocks(self) -> Blocks:
        """The blocks that hold something."""
        grays = _equally_sharp(_gray(self.left), _gray(self.moved), self.inside)
        return _aligned_blocks(*grays, self.inside)

    def corrected(self, blocks: Blocks) -> np.ndarray:
        """The map as the blocks of these images say: (3, 3)."""
        mine, theirs = blocks.mine, blocks.theirs
        well = np.isfinite(blocks.moved[:, 0]) & (correlations(mine, theirs) > WELL_PLACED)
        middle = blocks.places[well][:, ::-1] * BLOCK + (BLOCK - 1) / 2
        points: np.ndarray = np.zeros((len(middle), 2, 6))
        for axis in range(2):
            points[:, axis, 3 * axis : 3 * axis + 2] = middle
            points[:, axis, 3 * axis + 2] = 1
        # A block that holds a line alone may lie anywhere along it.
        held = _held(mine[well])
        points = held @ points
        moved = np.einsum("nij,nj->ni", held, blocks.moved[well])
        kept = np.ones(len(points), bool)
        for _ in range(3):
            if kept.sum() < FEWEST_PLACED:
                return self.placed
            known = points[kept].reshape(-1, 6), moved[kept].ravel()
            fitted = np.linalg.lstsq(*known, rcond=None)[0]
            off = np.hypot(*(moved - points @ fitted).T)
            kept = off <= max(FARTHEST * float(np.median(off)), 0.3)
        correction = np.eye(3)
        correction[:2] += fitted.reshape(2, 3)
        to_here = resizing(self.scale, self.scale)
        return self.placed @ np.linalg.inv(to_here) @ correction @ to_here


def overlaid(left: np.ndarray, right: np.ndarray, placed: np.ndarray, side: int) -> Overlaid:
    """Lays the right image over the left one, both at the scale of the coarser one.

    Args:
        left, right: (height, width, 3) uint8
        placed: (3, 3) the map from the left one's pixels to the right one's
        side: their longer sides in pixels, at most
    """
    between = np.sqrt(abs(np.linalg.det(placed[:2, :2])))
    share = min(1.0, side / max(left.shape), side / max(right.shape) * between)
    # Pixels of the finer image are not invented in the coarser one.
    mine = min(share, between) if between < 0.9 else share
    theirs = mine / between if between > 1.1 or mine < 1 else 1.0
    small_left, to_left = _resized(left, mine)
    small_right, to_right = _resized(right, min(theirs, 1.0))
    between_small = (to_right @ placed @ np.linalg.inv(to_left))[:2].astype(np.float32)
    size, inverse = small_left.shape[1::-1], cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(
        small_right,
        between_small,
        size,
        flags=cv2.INTER_LINEAR | inverse,
        borderMode=cv2.BORDER_REPLICATE,
    )
    theirs_inside = cv2.warpAffine(
        _within_edges(small_right.shape), between_small, size, flags=cv2.INTER_NEAREST | inverse
    )
    inside = (_within_edges(small_left.shape) & theirs_inside) > 0
    return Overlaid(small_left, moved, inside, placed, small_left.shape[1] / left.shape[1])


def _within_edges(shape: tuple[int, ...]) -> np.ndarray:
    """255 where an image shows something, 0 along its edges: (height, width) uint8."""
    height, width = shape[:2]
    edge = round(EDGE * max(height, width))
    within = np.zeros((height, width), np.uint8)
    within[edge : height - edge, edge : width - edge] = 255
    return within


def resizing(across: float, down: float) -> np.ndarray:
    """The map (3, 3) from an image's pixels to those of a resized one."""
    return np.array([[across, 0, across / 2 - 0.5], [0, down, down / 2 - 0.5], [0, 0, 1]])


def correlations(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Correlations (n,) of blocks, two (n, 24, 24)."""
    apart = [blocks - blocks.mean(axis=(1, 2), keepdims=True) for blocks in (mine, theirs)]
    power = [np.einsum("nij,nij->n", blocks, blocks) for blocks in apart]
    return np.einsum("nij,nij->n", *apart) / np.sqrt(power[0] * power[1] + 1e-3)


def _held(blocks: np.ndarray) -> np.ndarray:
    """How firmly the slopes of blocks (n, 24, 24) hold their places: roots (n, 2, 2)."""
    down, right = np.gradient(blocks, axis=(1, 2))
    slopes = np.stack([right, down], axis=-1).reshape(len(blocks), -1, 2)
    tensor = slopes.swapaxes(1, 2) @ slopes
    values, vectors = np.linalg.eigh(tensor / np.trace(tensor, axis1=1, axis2=2)[:, None, None])
    return np.sqrt(np.maximum(values, 0))[:, :, None] * vectors.swapaxes(1, 2)


def _resized(image: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """A smaller version, and the map (3, 3) to its pixels."""
    height, width = image.shape[:2]
    if scale < 1:
        size = [min(max(16, round(side * scale)), side) for side in (width, height)]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return image, resizing(image.shape[1] / width, image.shape[0] / height)


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


@dataclass(frozen=True)
class Blocks:
    """Blocks that hold something in either image, each where it fits best.

    Attributes:
        mine, theirs: (n, 24, 24) float32 gray levels
        lying: (n, 24, 24) float32, the second image's as they lie
        inside: (n, 24, 24) bool, where there are both
        places: (n, 2) int64 row and column, in blocks
        moved: (n, 2) float32, by how many pixels to the right and down they fit best; NaN where
            nothing fits
        equal: number of further blocks that are equal as they lie
    """

    mine: np.ndarray
    theirs: np.ndarray
    lying: np.ndarray
    inside: np.ndarray
    places: np.ndarray
    moved: np.ndarray
    equal: int


def _aligned_blocks(left: np.ndarray, right: np.ndarray, inside: np.ndarray) -> Blocks:
    """Aligns blocks of two gray images; of many that are equal as they lie, only some."""
    below, beside = (-side % BLOCK for side in left.shape)
    left, right, within = (
        cv2.copyMakeBorder(values, 0, below, 0, beside, cv2.BORDER_REPLICATE)
        for values in (left, right, inside.astype(np.uint8))
    )
    there = _parts(within, BLOCK)
    whole = there.mean(axis=(2, 3)) > LEAST_INSIDE
    variance = np.maximum(_variances(left), _variances(right))
    margin = REACH + 1
    edges = cv2.copyMakeBorder(right, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    mine, theirs, moved = [], [], []
    holding = whole & (variance >= STRUCTURE**2)
    looked_at = _without_most_equal(holding, left, right)
    places = np.argwhere(looked_at)
    middle = (BLOCK - 1) / 2
    for row, column in places.tolist():
        y, x = row * BLOCK, column * BLOCK
        block = left[y : y + BLOCK, x : x + BLOCK]
        around = edges[y + 1 : y + 1 + BLOCK + 2 * REACH, x + 1 : x + 1 + BLOCK + 2 * REACH]
        fits = cv2.matchTemplate(around, block, cv2.TM_CCOEFF_NORMED)
        _, best, _, (right_by, down_by) = cv2.minMaxLoc(fits)
        if 0.5 < best < 1.5:  # infinite where a block is flat
            by_x = right_by + _peak(fits[down_by], right_by) - REACH
            by_y = down_by + _peak(fits[:, right_by], down_by) - REACH
            center = x + by_x + margin + middle, y + by_y + margin + middle
            other = cv2.getRectSubPix(edges, (BLOCK, BLOCK), center)
            moved.append((by_x, by_y))
        else:
            other = right[y : y + BLOCK, x : x + BLOCK]
            moved.append((np.nan, np.nan))
        mine.append(block)
        theirs.append(other)
    shape = (-1, BLOCK, BLOCK)
    one, other = (np.reshape(blocks, shape).astype(np.float32) for blocks in (mine, theirs))
    moves = np.array(moved, np.float32).reshape(-1, 2)
    at = tuple(places.T)
    lying, there = _parts(right, BLOCK)[at], there[at] > 0
    return Blocks(one, other, lying, there, places, moves, int(holding.sum() - looked_at.sum()))


def _without_most_equal(holding: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Blocks (rows, columns) bool to align and measure: few of those that need neither.

    Most blocks of two frames of a fixed camera, or of a page scanned twice that was placed well,
    differ by what noise and a small misplacement explain; measuring all takes six times as long
    and finds nothing more.
    """
    down, right_by = (cv2.Sobel(left, cv2.CV_32F, *way, ksize=1) / 2 for way in ((0, 1), (1, 0)))
    gap = left - right
    across = left.shape[1] // PART, left.shape[0] // PART
    power, slope = (
        _parts(cv2.resize(values, across, interpolation=cv2.INTER_AREA), BLOCK // PART)
        for values in (gap * gap, down * down + right_by * right_by)
    )
    equal = holding & (power <= NOISE + LEAST_MISPLACED * slope).all(axis=(2, 3))
    places = np.flatnonzero(equal)
    kept = max(EQUAL_BLOCKS, EQUAL_PER_OTHER * int(holding.sum() - len(places)))
    step = -(-len(places) // kept)
    looked_at = holding.copy()
    if step > 1:
        left_out = np.ones(len(places), bool)
        left_out[::step] = False
        looked_at.flat[places[left_out]] = False
    return looked_at


def _variances(gray: np.ndarray) -> np.ndarray:
    """Variances of the blocks: (rows, columns) float32."""
    size = gray.shape[1] // BLOCK, gray.shape[0] // BLOCK
    mean, mean_square = (
        cv2.resize(values, size, interpolation=cv2.INTER_AREA) for values in (gray, gray * gray)
    )
    return mean_square - mean * mean


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
