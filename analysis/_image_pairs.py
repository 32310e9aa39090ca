"""Compares pairs of small gray images: aligned with each other, how far do their details agree?

Cheap questions first, for all pairs at once: all eight turns and mirrors are correlated at 24 x 24,
and one image is looked for inside the other at falling sizes. Only what looks alike by then is
aligned (ECC: Evangelidis and Psarakis, "Parametric image alignment using enhanced correlation
coefficient maximization", 2008, in OpenCV). Import inside functions: OpenCV takes time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

import cv2
import numpy as np

from ..cores import num_cores
from ..pictures.small_images import SIDE, SmallImages
from ..process import one_opencv_thread, short_turns
from ..steps import ProgressCallback
from ._crop_kernels import find_crops
from ._parallel import in_parts

# Pairs at once, and pairs per task of a thread.
BLOCK, TASK = 4096, 32

COARSE = 24

# Sides of a crop, as shares of the whole. Alignment covers what lies between.
CROP_SCALES = (0.92, 0.84, 0.76, 0.68, 0.60, 0.52)

# A turn other than the mirror must look better than the upright image and its mirror by this
# much, for it is rarer.
TURN_MARGIN = 0.1

# Pairs less alike than this at 24 x 24, in any position, are not looked at further.
COARSE_GATE = 0.6
# Details are compared without alignment first; pairs that agree this well need none, and with less
# than the lower one even after template matching, alignment has nothing to hold on to. At 0.15,
# comparing takes a fifth less time, and of images turned by 8 degrees an eighth fewer are found.
CLEAR_AGREEMENT, HOPELESS_AGREEMENT = 0.96, 0.05

# Gray levels of local contrast that count as nothing: noise, JPEG artifacts.
NOISE = 4.0
# Contrast to which images are brought, and the most by which it is raised.
CONTRAST, MAX_GAIN = 50.0, 5.0

# What the common part must cover: of one image, and of the other.
MIN_OVERLAP, MIN_OTHER_OVERLAP = 0.6, 0.2

# Changes, by which they are named: a rotation by this angle; a crop leaves less than this share of
# the other image; a gray image has less than this spread of its channels; sizes differ by this
# factor; brightness by these gray levels or contrast by this factor; sharpness by this factor; and
# one pixel in a hundred by this many deviations.
ROTATED, CROP_SHARE, GRAY_SPREAD, RESCALED = 0.03, 0.93, 3.0, 1.15
TONE_SHIFT, TONE_CONTRAST, BLURRED, RETOUCHED = 8.0, 1.15, 1.25, 0.8

IDENTITY = np.eye(2, 3, dtype=np.float32)


def compare_pairs(
    gray: np.ndarray,
    pairs: np.ndarray,
    of_objects: bool = False,
    progress: ProgressCallback | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compares pairs of small images.

    Args:
        gray: (n, 64, 64) uint8
        pairs: (m, 2) int64
        of_objects: the images are boxes around objects; one inside the other is another object
        progress: called with the share of the pairs that is done

    Returns:
        agreement (m,) float32 in [-1, 1], of the aligned details; 0 where nothing was found.
        orientation (m,) int8 of the right image, see ``turn``.
        placed (m, 2, 3) float32, the map from the left image's pixels to the turned right one's
    """
    agreement = np.zeros(len(pairs), np.float32)
    orientation = np.zeros(len(pairs), np.int8)
    placed = np.tile(IDENTITY, (len(pairs), 1, 1))
    other_overlap = MIN_OVERLAP if of_objects else MIN_OTHER_OVERLAP
    with threads() as pool:
        for start in range(0, len(pairs), BLOCK):
            block = pairs[start : start + BLOCK]
            for place, found in _compare_block(gray, block, other_overlap, pool):
                m = start + place
                agreement[m], orientation[m], placed[m] = found
            if progress is not None:
                progress((start + len(block)) / len(pairs))
    return agreement, orientation, placed


def _compare_block(
    gray: np.ndarray, pairs: np.ndarray, other_overlap: float, pool: Executor
) -> Iterator[tuple[int, tuple[float, int, np.ndarray]]]:
    """What is found about the pairs that look somewhat alike, by their places."""
    involved, places = np.unique(pairs, return_inverse=True)
    left, right = places.reshape(-1, 2).T.copy()
    coarse = np.stack([_shrink(gray[row], COARSE) for row in involved]).astype(np.float32)
    turned = _turned_correlations(coarse, left, right)
    sides = np.array([round(COARSE * scale) for scale in CROP_SCALES])
    crops = np.empty((len(pairs), 2, 5), np.float32)

    def search(first: int, last: int) -> None:
        find_crops(coarse, left, right, sides, first, last, crops)

    in_parts(search, len(pairs), pool)
    score = np.maximum(turned.max(axis=1), crops[:, :, 0].max(axis=1))
    undecided = np.flatnonzero(score >= COARSE_GATE)

    def compare(first: int) -> list[tuple[float, int, np.ndarray]]:
        return [
            _compare(gray[one], gray[other], turned[place], crops[place], other_overlap)
            for place in undecided[first : first + TASK]
            for one, other in [pairs[place]]
        ]

    tasks = pool.map(compare, range(0, len(undecided), TASK))
    return zip(undecided.tolist(), itertools.chain.from_iterable(tasks))


def kinds_of_change(
    small: SmallImages, pairs: np.ndarray, orientation: np.ndarray, placed: np.ndarray
) -> list[str]:
    """Names what happened between the images of confirmed pairs, the greatest change first."""
    sharpness = {row: _sharpness(small.gray[row]) for row in np.unique(pairs).tolist()}
    return [
        _kind_of_change(small, left, right, int(way), maps, sharpness)
        for (left, right), way, maps in zip(pairs.tolist(), orientation, placed)
    ]


def _kind_of_change(
    small: SmallImages,
    left: int,
    right: int,
    orientation: int,
    placed: np.ndarray,
    sharpness: dict[int, float],
) -> str:
    if orientation == 4:
        return "mirror"
    angle = np.arctan2(placed[1, 0] - placed[0, 1], placed[0, 0] + placed[1, 1])
    if orientation or abs(angle) > ROTATED:
        return "rotation"
    mask, *shares = common_part(placed)
    if min(shares) < CROP_SHARE:
        return "crop"
    gray, colorful = sorted((small.color[left], small.color[right]))
    if gray < GRAY_SPREAD and colorful > 3 * GRAY_SPREAD:
        return "gray"
    sizes = sorted((small.num_pixels[left], small.num_pixels[right]))
    if sizes[1] > RESCALED * sizes[0]:
        return "rescale"
    blurred, sharp = sorted((sharpness[left], sharpness[right]))
    if sharp > BLURRED * blurred:
        return "blur"
    mine = small.gray[left].astype(np.float32)[mask]
    other = warp(small.gray[right].astype(np.float32), placed)[mask]
    mine_mean, mine_deviation = mine.mean(), mine.std() + 1
    other_mean, other_deviation = other.mean(), other.std() + 1
    contrast = max(mine_deviation / other_deviation, other_deviation / mine_deviation)
    if abs(mine_mean - other_mean) > TONE_SHIFT or contrast > TONE_CONTRAST:
        return "tone"
    gap = np.abs((mine - mine_mean) / mine_deviation - (other - other_mean) / other_deviation)
    # Faster than the quantile: one pixel in a hundred lies beyond.
    retouched = np.count_nonzero(gap > RETOUCHED) > 0.01 * gap.size
    return "retouched" if retouched else "recompression"


def _sharpness(image: np.ndarray) -> float:
    """Detail of the finest scale as a share of the contrast."""
    image = contrast(image)
    return float(cv2.meanStdDev(cv2.Laplacian(image, cv2.CV_32F))[1][0, 0]) + 1e-3


def turn(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turned left by ``orientation % 4`` quarters, then mirrored if it is 4 or more."""
    image = np.rot90(image, orientation % 4)
    return np.ascontiguousarray(image[:, ::-1] if orientation >= 4 else image)


def warp(image: np.ndarray, placed: np.ndarray) -> np.ndarray:
    """The (turned) right image as seen in the left one's place."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    border = cv2.BORDER_REPLICATE
    return cv2.warpAffine(image, placed, (SIDE, SIDE), flags=flags, borderMode=border)


def common_part(placed: np.ndarray) -> tuple[np.ndarray, float, float]:
    """What of the left image lies on the right one: a mask, and the shares of both images."""
    x = placed[0, 0] * COLUMNS + placed[0, 1] * COLUMNS.T + placed[0, 2]
    y = placed[1, 0] * COLUMNS + placed[1, 1] * COLUMNS.T + placed[1, 2]
    mask = (x > -0.5) & (x < SIDE - 0.5) & (y > -0.5) & (y < SIDE - 0.5)
    share = float(np.count_nonzero(mask)) / SIDE**2
    area = abs(placed[0, 0] * placed[1, 1] - placed[0, 1] * placed[1, 0])
    return mask, share, min(share * float(area), 1.0)


COLUMNS = np.tile(np.arange(SIDE, dtype=np.float32), (SIDE, 1))


@contextmanager
def threads() -> Iterator[ThreadPoolExecutor]:
    """One thread per core, that hand on the interpreter's lock sooner: OpenCV's calls are short."""
    with short_turns(), one_opencv_thread(), ThreadPoolExecutor(num_cores()) as pool:
        yield pool


def _turned_correlations(coarse: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Correlations (m, 8) of images with another's eight turns and mirrors."""
    rows = coarse.reshape(len(coarse), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    # One gray level of contrast says nothing.
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), COARSE)
    places = np.arange(COARSE**2).reshape(COARSE, COARSE)
    mine, others = rows[left], rows[right]
    turns = [turn(places, orientation).ravel() for orientation in range(8)]
    return np.stack([np.einsum("ij,ij->i", mine, others[:, order]) for order in turns], axis=1)


def _compare(
    left: np.ndarray,
    right: np.ndarray,
    turned: np.ndarray,
    crops: np.ndarray,
    other_overlap: float,
) -> tuple[float, int, np.ndarray]:
    """Agreement, orientation and map of two small images, from their coarse correlations."""
    starts = [(turned[0], 0, IDENTITY), (turned[4], 4, IDENTITY)]
    best = int(np.argmax(turned))
    if turned[best] > max(turned[0], turned[4]) + TURN_MARGIN:
        starts.append((turned[best], best, IDENTITY))
    for orientation, crop in zip((0, 4), crops):
        if crop[0] > turned[orientation]:
            starts.append((crop[0], orientation, _crop_map(*crop[1:])))
    starts = [start for start in starts if start[0] >= COARSE_GATE]
    if not starts:
        return 0.0, 0, IDENTITY
    base = contrast(left)
    details = details_of(base)
    images = {orientation: contrast(turn(right, orientation)) for _, orientation, _ in starts}
    found = []
    for _, orientation, placed in starts:
        agreement = agreement_of(details, images[orientation], placed, other_overlap)
        if agreement >= CLEAR_AGREEMENT:
            return agreement, orientation, placed
        found.append((agreement, orientation, placed))
    found.sort(key=lambda start: -start[0])
    best_found = found[0]
    for agreement, orientation, placed in found[:2]:
        if agreement < HOPELESS_AGREEMENT:
            break
        aligned = align(base, images[orientation], placed)
        if aligned is None:
            continue
        agreement = agreement_of(details, images[orientation], aligned, other_overlap)
        if agreement > best_found[0]:
            best_found = (agreement, orientation, aligned)
        if agreement >= CLEAR_AGREEMENT:
            break
    return best_found


def _shrink(image: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


def contrast(image: np.ndarray) -> np.ndarray:
    deviation = max(float(cv2.meanStdDev(image)[1][0, 0]), 1e-3)
    return image.astype(np.float32) * np.float32(min(CONTRAST / deviation, MAX_GAIN))


def details_of(image: np.ndarray) -> np.ndarray:
    """The image without its local mean and contrast."""
    image = cv2.GaussianBlur(image, (5, 5), 1.0)
    image = image - cv2.blur(image, (9, 9))
    return image / cv2.sqrt(cv2.blur(image * image, (9, 9)) + np.float32(NOISE**2))


def agreement_of(
    details: np.ndarray, right: np.ndarray, placed: np.ndarray, other_overlap: float
) -> float:
    """Correlation of the details in the common part; -1 where that is too small."""
    if placed is IDENTITY:
        other = details_of(right)
    else:
        mask, share, other_share = common_part(placed)
        low, high = sorted((share, other_share))
        if high < MIN_OVERLAP or low < other_overlap:
            return -1.0
        other = details_of(warp(right, placed)) * mask
        details = details * mask
    lengths = cv2.norm(details) * cv2.norm(other)
    return float(np.vdot(details, other)) / max(lengths, 1e-6)


def _crop_map(side: float, inside: float, x: float, y: float) -> np.ndarray:
    """The map from the left image's pixels to the right one's, of a crop that was found."""
    scale, unit = side / COARSE, SIDE / COARSE
    if inside:
        return np.array([[scale, 0, unit * x], [0, scale, unit * y]], np.float32)
    return np.array(
        [[1 / scale, 0, -unit * x / scale], [0, 1 / scale, -unit * y / scale]], np.float32
    )


def align(
    left: np.ndarray, right: np.ndarray, placed: np.ndarray, mask: np.ndarray | None = None
) -> np.ndarray | None:
    """The affine map that aligns the images; None if none is found or it distorts too much."""
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-3)
    motion = cv2.MOTION_AFFINE
    try:
        _, aligned = cv2.findTransformECC(left, right, placed.copy(), motion, criteria, mask, 5)
    except cv2.error:
        return None
    long, short = np.linalg.svd(aligned[:, :2], compute_uv=False)
    angle = abs(np.arctan2(aligned[1, 0] - aligned[0, 1], aligned[0, 0] + aligned[1, 1]))
    # A crop of half the side, with another aspect ratio, a little turned. What needs more is two
    # images that were bent to look alike.
    if long > 2.2 or short < 0.45 or long > 1.7 * short or angle > 0.35:
        return None
    return aligned
