"""Numbers of more than 8 bits to 8-bit RGB: which of them are black and white.

16-bit and 32-bit integers and floating point come from microscopes, scanners, depth and thermal
cameras and maps. Their files seldom say which range they use, and shown by that of their type,
12-bit values in a 16-bit file are black.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

# Values that stand for white by custom, with 0 for black: of 8, 10, 12, 14 and 16 bits, and of
# floating point. They are taken where the image reaches from WHITE_FROM of them upwards and spans
# SPANNED of them at least, so that images of one camera keep their brightness.
WHITES, FLOAT_WHITES = (255, 1023, 4095, 16383, 65535), (1.0, 255.0, 65535.0)
WHITE_FROM, SPANNED = 0.5, 0.25

# A share of the pixels at each end that is clipped where it lies farther out than the rest spans: a
# hot pixel must not turn the others black.
CLIPPED = 0.001


def value_range(values: np.ndarray) -> tuple[float, float, bool]:
    """The values that become black and white.

    Args:
        values: integers or floating point, any shape

    Returns:
        black, white, and whether they are the image's own range and not a customary one

    Raises:
        ValueError: if no value is finite
    """
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values.ravel()
    if finite.size == 0:
        raise ValueError("it holds no finite number")
    low, high = float(finite.min()), float(finite.max())
    if low == high:
        return (0.0, high, True) if high > 0 else (low, low + 1, True)
    rank = max(1, int(CLIPPED * finite.size))
    if finite.size > 2 * rank:
        inner = np.partition(finite, (rank, finite.size - 1 - rank))
        inner_low, inner_high = float(inner[rank]), float(inner[-1 - rank])
        span = inner_high - inner_low
        if span > 0:
            low = low if inner_low - low <= span else inner_low
            high = high if high - inner_high <= span else inner_high
    whites = FLOAT_WHITES if values.dtype.kind == "f" else WHITES
    for white in whites:
        if low >= 0 and WHITE_FROM * white < high <= white and high - low >= SPANNED * white:
            return 0.0, float(white), False
    return low, high, True


def rgb_of_numbers(values: np.ndarray) -> Image.Image:
    """Numbers (height, width) or (height, width, 3 or 4) scaled to an RGB image.

    The channels share one range. NaN becomes black; a fourth channel is opacity, over white.

    Returns:
        the image, with ``info["note"]`` where it was scaled by its own range
    """
    colors = values[..., :3] if values.ndim == 3 else values
    black, white, own = value_range(colors)
    with np.errstate(invalid="ignore"):
        scaled = (colors.astype(np.float64) - black) / (white - black)
    scaled = np.nan_to_num(scaled, nan=0.0, posinf=1.0, neginf=0.0).clip(0, 1)
    if values.ndim == 3 and values.shape[2] == 4:
        opaque = values[..., 3:].astype(np.float64)
        top = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else max(opaque.max(), 1)
        scaled = scaled * opaque / top + 1 - opaque / top
    image = Image.fromarray(np.round(scaled * 255).astype(np.uint8)).convert("RGB")
    if own:
        image.info["note"] = OWN_RANGE
        image.info["range"] = (black, white)
    return image


OWN_RANGE = "more than 8 bits, scaled by the image's own range"


def raw_depth(image: Image.Image) -> tuple[int, bool]:
    """Bits per channel in the file of an opened image that is not decoded yet, and signedness.

    Pillow's decoders name what they unpack, as "RGB;16B" or "I;16S": 8 where they name nothing.
    """
    for tile in image.tile:
        rawmode = tile[3] if isinstance(tile[3], str) else str((tile[3] or ("",))[0])
        depth = rawmode.partition(";")[2]
        digits = depth.rstrip("ABFLNRS")
        if digits.isdigit():
            return int(digits), "S" in depth or "F" in depth
    return 8, False


def is_cut_down(image: Image.Image) -> bool:
    """Whether an opened image, not decoded yet, has more bits than Pillow's mode for it keeps."""
    kept = 16 if image.mode.startswith("I;16") else 32 if image.mode in ("I", "F") else 8
    return raw_depth(image)[0] > kept


def deep_pixels(image: Image.Image, path: str) -> np.ndarray | None:
    """The numbers of an opened image with more than 8 bits per channel; None with 8.

    Returns:
        (height, width) of any type, or (height, width, 3 or 4), red first
    """
    if is_cut_down(image):
        # Where OpenCV cannot read them, Pillow's first 8 bits are better than nothing.
        return read_with_opencv(path)
    if not image.mode.startswith(("I", "F")):
        return None
    depth, signed = raw_depth(image)
    image.load()
    pixels = np.asarray(image)
    return pixels.view(np.uint32) if depth == 32 and not signed and image.mode == "I" else pixels


def read_with_opencv(path: str) -> np.ndarray | None:
    """The pixels that OpenCV reads of a file's first page, red first; None if it cannot."""
    import cv2

    pixels = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    if pixels is not None and pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        order = [2, 1, 0, 3][: pixels.shape[2]]
        pixels = np.ascontiguousarray(pixels[..., order])
    return pixels
