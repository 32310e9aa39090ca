"""Whether two aligned images have the same colors, up to saturation, white balance, and gray.

Import inside functions: OpenCV takes time.
"""

from __future__ import annotations

import cv2
import numpy as np

# Cells per side of which the mean colors are compared.
CELLS = 16

# Distances in the plane of a* and b*: a cell is colored from the first on; the colors of a cell
# agree within the second or this share of their strength. Below the third (root mean square) an
# image is gray. Of twelve kinds of edits of images, colors agree in 0.9 of the cells at least.
COLORED, NEAR, NEAR_SHARE, GRAY = 8.0, 10.0, 0.33, 3.0

# On a plain ground colors are the content: shirts of one cut.
PLAIN_SHARE = 0.15

# On a plain ground, a gray version keeps its gray levels to within this many, and saturation
# changes by the second factor at most: gray surfaces of another brightness are other content.
GRAY_TONE, MOST_SATURATION, PLAIN_SATURATION = 25.0, 3.0, 1.6

# On a plain ground that stays within the first many gray levels, what changes by the second many is
# other content: a brighter version of an image is brighter by 45 at most where white is clipped.
SAME_GROUND, RECOLORED = 6.0, 50.0

# Other colors count as a share of the colored part, and of this share of the image at least: a box
# that was drawn on it is a retouch.
FEWEST_SHARE = 0.24

# White balance moves all colors by as much at most.
MOST_SHIFT = 14.0

# Cells this dark or bright (L*) have lost their color.
CLIPPED = (6.0, 94.0)

# Colors that vary by the first (root mean square, of a* and b*) in both images, and correlate less
# than the second, are others: edits of photos stay above 0.94, in other hues they are 0.6 at most.
VARIED, SAME_HUES = 2.0, 0.75

# In a drawing, a surface whose gray levels deviate by less than the first is of one color, which is
# content: distance (L*a*b*) from which it is another one, on so many cells. Recompression moves it
# by 1, a scan by 2. So large a share of the colored part is such in 3 of 800 photos of Caltech-101.
FLAT, OTHER_SURFACE, FEWEST_CELLS, FLAT_SHARE = 1.5, 4.0, 3, 0.25

# A ground this dark says nothing of the light.
DARKEST_GROUND = 60


def color_agreement(
    left: np.ndarray, right: np.ndarray, inside: np.ndarray, plain: bool = False
) -> float:
    """Share of the colored cells in which the colors agree, in [0, 1]; 1 where nothing is colored.

    Args:
        left, right: (height, width, 3) uint8, aligned
        inside: (height, width) bool, where there are both
        plain: the images show something on a plain ground, which must have the very color
    """
    cover = cv2.resize(inside.astype(np.float32), (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    within = cover.ravel() > 0.9
    mine, theirs = (_cells(image)[within] for image in (left, right))
    light = np.stack([mine[:, 0], theirs[:, 0]])
    mine, theirs = mine[:, 1:], theirs[:, 1:]
    strength = np.stack([np.linalg.norm(mine, axis=1), np.linalg.norm(theirs, axis=1)])
    colored = strength.max(axis=0) > COLORED
    if colored.sum() < 3:
        return 1.0
    duller, brighter = np.sort(np.sqrt((strength**2).mean(axis=1)))
    if duller < GRAY:
        tone = float(np.median(abs(_grays(left) - _grays(right))[within][colored]))
        return float(not plain or tone < GRAY_TONE or brighter < 2 * GRAY)
    clipped = np.logical_or.reduce((light < CLIPPED[0]) | (light > CLIPPED[1]), axis=0)
    if _other_hues(mine, theirs, ~clipped):
        return 0.0
    scale, shift = _saturation_and_shift(mine, theirs)
    limit = PLAIN_SATURATION if plain else MOST_SATURATION
    near_share = PLAIN_SHARE if plain else NEAR_SHARE
    scale = np.clip(scale, 1 / limit, limit)
    gap = np.linalg.norm(theirs - scale * mine - shift, axis=1)
    expected = np.maximum(scale * strength[0], strength[1])
    agree = gap <= np.maximum(NEAR, near_share * expected)
    wrong = colored & ~clipped & ~agree
    if plain:
        wrong |= colored & _recolored(_grays(left)[within], _grays(right)[within], colored)
    return 1 - float(wrong.sum() / max(colored.sum(), FEWEST_SHARE * len(colored)))


def surfaces_agree(left: np.ndarray, right: np.ndarray, inside: np.ndarray) -> bool:
    """Whether flat surfaces of two drawings have the same colors, seen in the light of the ground.

    Args:
        left, right: (height, width, 3) uint8, aligned
        inside: (height, width) bool, where there are both
    """
    side = 8 * CELLS
    mine, theirs = (
        cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in (left, right)
    )
    cover = cv2.resize(inside.astype(np.float32), (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(mine, cv2.COLOR_RGB2GRAY)
    commonest = np.bincount(gray.ravel() >> 3, minlength=32).argmax()
    ground = gray >> 3 == commonest
    tones = [np.median(image[ground], axis=0) for image in (mine, theirs)]
    light = tones[0] / np.maximum(tones[1], 1) if np.min(tones) >= DARKEST_GROUND else np.ones(3)
    theirs = (theirs * light).clip(0, 255).astype(np.uint8)
    flat = (cover.ravel() > 0.9) & (_deviations(mine) < FLAT) & (_deviations(theirs) < FLAT)
    one, other = _cells(mine), _cells(theirs)
    strength = np.stack([np.linalg.norm(cells[:, 1:], axis=1) for cells in (one, other)])
    colored = strength.max(axis=0) > COLORED
    if (flat & colored).sum() < FLAT_SHARE * colored.sum():
        return True
    if (strength < COLORED).all(axis=1).any():  # a gray version has the same gray levels
        apart = abs(_grays(mine) - _grays(theirs)) / 2
    else:
        apart = np.linalg.norm(one - other, axis=1)
    return bool((flat & (apart > OTHER_SURFACE)).sum() < FEWEST_CELLS)


def _deviations(image: np.ndarray) -> np.ndarray:
    """Deviation of the gray levels within cells of 8 pixels: (256,) float32."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return gray.reshape(CELLS, 8, CELLS, 8).std(axis=(1, 3)).ravel()


def _recolored(mine: np.ndarray, theirs: np.ndarray, colored: np.ndarray) -> np.ndarray:
    """Which cells (n,) are much brighter or darker though the plain ground is as it was."""
    if colored.all() or abs(np.median(mine[~colored]) - np.median(theirs[~colored])) > SAME_GROUND:
        return np.zeros(len(mine), bool)
    return abs(mine - theirs) > RECOLORED


def _other_hues(mine: np.ndarray, theirs: np.ndarray, known: np.ndarray) -> bool:
    """Whether the colors (n, 2) of two images vary, and differently, in the cells (n,) bool."""
    if known.sum() < 3:
        return False
    one, other = (colors[known] - colors[known].mean(axis=0) for colors in (mine, theirs))
    power = float((one**2).sum()), float((other**2).sum())
    if min(power) < VARIED**2 * known.sum():
        return False
    return float((one * other).sum()) < SAME_HUES * np.sqrt(power[0] * power[1])


def _cells(image: np.ndarray) -> np.ndarray:
    """Mean L*, a*, b* of the cells: (256, 3) float32."""
    cells = cv2.resize(image, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(cells.astype(np.float32) / 255, cv2.COLOR_RGB2Lab).reshape(-1, 3)


def _grays(image: np.ndarray) -> np.ndarray:
    """Mean gray levels of the cells: (256,) float32."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.resize(gray, (CELLS, CELLS), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()


def _saturation_and_shift(mine: np.ndarray, theirs: np.ndarray) -> tuple[float, np.ndarray]:
    """The factor and the shift (2,) that bring colors (n, 2) closest to the others."""
    middle, other = np.median(mine, axis=0), np.median(theirs, axis=0)
    spread = float(((mine - middle) ** 2).sum())
    product = float(((mine - middle) * (theirs - other)).sum())
    # Fitted to either side, so that noise does not shrink it.
    back = float(((theirs - other) ** 2).sum())
    scale = np.sqrt(back / spread) if product > 0 and spread > 0 else 0.0
    shift = other - np.clip(scale, 1 / MOST_SATURATION, MOST_SATURATION) * middle
    length = float(np.linalg.norm(shift))
    return scale, shift * min(1.0, MOST_SHIFT / max(length, 1e-6))
