"""Pairs of which one image is turned by any angle: found on rings around the middle.

A turn shifts what lies on a ring, so one correlation over all angles gives the angle; only what
agrees then is aligned. Import inside functions: OpenCV takes time.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..pictures.small_images import SIDE, SmallImages
from ._image_pairs import MIN_OTHER_OVERLAP, agreement_of, align, contrast, details_of, threads

# Rings, the outermost as a share of the shorter half side, and angles on each: 5 degrees apart.
RINGS, OUTERMOST, ANGLES = 14, 0.95, 72

# Correlation on the rings from which a turn is aligned, and pairs per task of a thread.
RING_GATE, TASK = 0.6, 64


def compare_turned(small: SmallImages, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compares pairs (m, 2) that may be turned against each other.

    Returns:
        agreement (m,) float32 as of ``compare_pairs``, 0 where no turn was found, and the maps
        (m, 2, 3) float32 from the left image's pixels to the right one's
    """
    agreement = np.zeros(len(pairs), np.float32)
    placed = np.tile(np.eye(2, 3, dtype=np.float32), (len(pairs), 1, 1))
    if small.aspect is None:
        return agreement, placed
    height = np.sqrt(small.num_pixels / small.aspect)
    sides = np.stack([height * small.aspect, height], axis=1)

    def compare(first: int) -> None:
        for place in range(first, min(first + TASK, len(pairs))):
            left, right = pairs[place].tolist()
            found = _turned(small.gray[left], small.gray[right], sides[left], sides[right])
            if found is not None:
                agreement[place], placed[place] = found

    with threads() as pool:
        list(pool.map(compare, range(0, len(pairs), TASK)))
    return agreement, placed


def _turned(
    left: np.ndarray, right: np.ndarray, left_sides: np.ndarray, right_sides: np.ndarray
) -> tuple[float, np.ndarray] | None:
    """Agreement and map of two small images (64, 64) of (width, height) pixels, or None."""
    radius = OUTERMOST * min(left_sides.min(), right_sides.min()) / 2
    mine, theirs = _rings(left, left_sides, radius), _rings(right, right_sides, radius)
    # All turns at once: the correlation theorem, ring by ring.
    spectrum = np.fft.rfft(mine, axis=1).conj() * np.fft.rfft(theirs, axis=1)
    fits = np.fft.irfft(spectrum.sum(axis=0), ANGLES)
    fits /= max(float(np.linalg.norm(mine) * np.linalg.norm(theirs)), 1e-6)
    best = int(fits.argmax())
    if fits[best] < RING_GATE or best in (0, 1, ANGLES - 1):
        return None
    angle = 2 * np.pi * best / ANGLES
    cosine, sine = np.cos(angle), np.sin(angle)
    to_left, to_right = SIDE / left_sides, SIDE / right_sides
    turn = np.array([[cosine, -sine], [sine, cosine]]) * to_right[:, None] / to_left[None, :]
    middle = (SIDE - 1) / 2
    start = np.column_stack([turn, middle - turn @ [middle, middle]]).astype(np.float32)
    base, other = contrast(left), contrast(right)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    upright = cv2.warpAffine(
        other, start, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    whole = np.full((SIDE, SIDE), 255, np.uint8)
    mask = cv2.warpAffine(whole, start, (SIDE, SIDE), flags=cv2.INTER_NEAREST | flags)
    aligned = align(base, upright, np.eye(2, 3, dtype=np.float32), mask)
    if aligned is None:
        return None
    corner = np.array([[0, 0, 1]])
    placed = (np.vstack([start, corner]) @ np.vstack([aligned, corner]))[:2].astype(np.float32)
    return agreement_of(details_of(base), other, placed, MIN_OTHER_OVERLAP), placed


def _rings(small: np.ndarray, sides: np.ndarray, radius: float) -> np.ndarray:
    """Gray levels on rings around the middle: (14, 72) float32, each ring without its mean."""
    scale = (SIDE / sides * radius)[:, None, None]
    x, y = (scale * CIRCLES + (SIDE - 1) / 2).astype(np.float32)
    blurred = cv2.GaussianBlur(small, (3, 3), 0)
    rings = cv2.remap(blurred, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    rings = rings.astype(np.float32)
    return (rings - rings.mean(axis=1, keepdims=True)) * WEIGHTS


_radii = (np.arange(RINGS) + 1)[:, None] / RINGS
_angles = 2 * np.pi * np.arange(ANGLES)[None] / ANGLES
CIRCLES = np.stack([_radii * np.cos(_angles), _radii * np.sin(_angles)])
WEIGHTS = np.sqrt(_radii).astype(np.float32)
