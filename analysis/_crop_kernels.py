"""The compiled search for a crop. Import inside functions: numba takes time.

Template matching of small images, both ways round, as ``cv2.matchTemplate`` does it with
TM_CCOEFF_NORMED; but for all pairs in one call, which takes a tenth of the time.
"""

from __future__ import annotations

import numpy as np

from ._parallel import compiled


@compiled
def _shrink(image, side, out):
    """Bilinear samples of a square image at (side, side), with mean 0 and length 1."""
    size = image.shape[0]
    step = np.float32(size / side)
    total = np.float32(0)
    for i in range(side):
        y = min((i + np.float32(0.5)) * step - np.float32(0.5), np.float32(size - 1))
        top = min(int(y), size - 2)
        below = y - top
        for j in range(side):
            x = min((j + np.float32(0.5)) * step - np.float32(0.5), np.float32(size - 1))
            left = min(int(x), size - 2)
            right = x - left
            value = (1 - below) * ((1 - right) * image[top, left] + right * image[top, left + 1])
            value += below * ((1 - right) * image[top + 1, left] + right * image[top + 1, left + 1])
            out[i, j] = value
            total += value
    mean = total / (side * side)
    squares = np.float32(0)
    for i in range(side):
        for j in range(side):
            out[i, j] -= mean
            squares += out[i, j] * out[i, j]
    # One gray level of contrast says nothing.
    length = max(np.sqrt(squares), np.float32(side))
    for i in range(side):
        for j in range(side):
            out[i, j] /= length


@compiled
def _add_up(image, sums, squares):
    """Sums of all values, and of their squares, above and left of each pixel."""
    size = image.shape[0]
    for i in range(size):
        total = np.float32(0)
        square = np.float32(0)
        for j in range(size):
            total += image[i, j]
            square += image[i, j] * image[i, j]
            sums[i + 1, j + 1] = sums[i, j + 1] + total
            squares[i + 1, j + 1] = squares[i, j + 1] + square


@compiled
def _within(sums, x, y, side):
    return sums[y + side, x + side] - sums[y, x + side] - sums[y + side, x] + sums[y, x]


@compiled
def _best_place(whole, sums, squares, part, side):
    """The highest correlation of a normalized part with any place of an image: (score, x, y)."""
    size = whole.shape[0]
    best, best_x, best_y = np.float32(-1), 0, 0
    for y in range(size - side + 1):
        for x in range(size - side + 1):
            product = np.float32(0)
            for i in range(side):
                window = whole[y + i, x : x + side]
                row = part[i, :side]
                for j in range(side):
                    product += window[j] * row[j]
            total = _within(sums, x, y, side)
            spread = _within(squares, x, y, side) - total * total / (side * side)
            score = product / max(np.sqrt(max(spread, 0.0)), side)
            if score > best:
                best, best_x, best_y = score, x, y
    return best, best_x, best_y


@compiled
def find_crops(coarse, lefts, rights, sides, start, stop, found):
    """Places one image of each pair, made smaller, in the other one.

    Args:
        coarse: (n, size, size) float32
        lefts, rights: (m,) int64, rows of ``coarse``
        sides: the sides in pixels at which the smaller one is tried
        start, stop: the pairs to do
        found: (m, 2, 5) float32, filled for the right image as it is and mirrored: the score,
            side, 1 if the left one is the part else 0, x, y
    """
    size = coarse.shape[1]
    part = np.empty((size, size), np.float32)
    both = np.empty((2, size, size), np.float32)
    sums = np.zeros((2, size + 1, size + 1), np.float64)
    squares = np.zeros((2, size + 1, size + 1), np.float64)
    for m in range(start, stop):
        both[0] = coarse[lefts[m]]
        _add_up(both[0], sums[0], squares[0])
        for mirrored in range(2):
            both[1] = coarse[rights[m]]
            if mirrored:
                both[1] = coarse[rights[m]][:, ::-1]
            _add_up(both[1], sums[1], squares[1])
            out = found[m, mirrored]
            out[0] = -1
            for side in sides:
                for inside in range(2):
                    _shrink(both[1 - inside], side, part)
                    score, x, y = _best_place(
                        both[inside], sums[inside], squares[inside], part, side
                    )
                    if score > out[0]:
                        out[0] = score
                        out[1] = side
                        out[2] = inside
                        out[3] = x
                        out[4] = y
