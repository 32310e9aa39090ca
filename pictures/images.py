"""One image file to one upright 8-bit RGB image, or a reason why not.

Stands apart from the models because every reader of images (embedding, duplicates, quality
checks) must see the same pixels, and because a broken file is an ordinary event here: it becomes
an ``UnreadableImageError`` with a reason, never a traceback.
"""

import contextlib
import io
import math
import os
import stat
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from .formats import register_heif, unreadable_format
from .numbers import deep_pixels, read_with_opencv, rgb_of_numbers
from .remote import RemoteFileError, local_file

# Pillow refuses images above twice MAX_IMAGE_PIXELS (about 179 million). That limit bounds the
# memory of a decoding thread, so it stays; only the warning below it is noise here.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# A JPEG above this many pixels is decoded at a fraction of its size, if that is enough: an image of
# 12 megapixels then takes a sixteenth of the memory and a fourth of the time. Smaller ones are not,
# because the embedding of a sensitive network feels the other resampling (cosine 0.998 to 0.9999).
LARGE_PIXELS = 4_000_000

# Formats that libjpeg decodes at a fraction of their size, of an eighth at least.
REDUCIBLE, LARGEST_FRACTION = ("JPEG", "MPO"), 8

# Pixels of an image that Pillow opens at most.
MOST_PIXELS = 2 * Image.MAX_IMAGE_PIXELS

# The marker that ends a JPEG, and the rows of pixels that may be lacking: a row of its blocks.
END_OF_JPEG, BLOCK_ROWS = b"\xff\xd9", 16

TIFF_BEGINNINGS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")

Box = tuple[float, ...]  # (x, y, width, height), or empty without a usable geometry


class UnreadableImageError(Exception):
    """An image that has no pixels for us; ``str()`` of it is a reason for people."""


def load_image(path: str, min_side: int = 0) -> Image.Image:
    """Decodes an image file.

    The EXIF orientation is applied, the first frame of animated and multi-page files is taken,
    transparency is laid over white, and palette, CMYK and grayscale images become 8-bit RGB.
    Numbers of more than 8 bits are scaled to black and white as ``numbers.value_range`` says.

    Args:
        path: the image file, on this machine or elsewhere, see ``remote``
        min_side (0): the shorter side in pixels that the caller needs. A large JPEG is then
            decoded at a fraction of its size (libjpeg's scaled DCT) that is still at least this
            large; 0 decodes it in full

    Returns:
        a PIL image of mode RGB. ``info["note"]`` says what a user should know of how it was read,
        where there is something

    Raises:
        UnreadableImageError: with the reason, if there is no image to be had
    """
    with near(path) as local:
        return _load_image(local, min_side)


@contextlib.contextmanager
def near(path: str) -> Iterator[str]:
    """A path on this machine of an image file that may be remote, for as long as it is read.

    Raises:
        UnreadableImageError: with the reason, if a remote file cannot be had
    """
    try:
        with local_file(path) as local:
            yield local
    except RemoteFileError as error:
        raise UnreadableImageError(str(error)) from error


def _load_image(path: str, min_side: int) -> Image.Image:
    try:
        with opened(path) as image:
            reduce(image, min_side)
            deep = deep_pixels(image, path)
            if deep is not None:
                return upright(rgb_of_numbers(deep), image)
            image.load()
            return _to_rgb(upright(image, image))
    except UnreadableImageError:
        raise
    # Pillow's decoders raise nearly anything for damaged files; none may end the run.
    except Exception as error:
        with contextlib.suppress(Exception):
            if (image := _rescued(path, error)) is not None:
                return image
        raise UnreadableImageError(_reason(path, error)) from error


def load_frames(path: str, min_side: int = 0) -> list[Image.Image]:
    """An image as ``load_image`` gives it, and of several frames the middle and the last one, too.

    Raises:
        UnreadableImageError: as ``load_image``, or if a frame cannot be read
    """
    with near(path) as local:
        return _load_frames(local, min_side)


def _load_frames(path: str, min_side: int) -> list[Image.Image]:
    frames = [load_image(path, min_side)]
    try:
        with opened(path) as image:
            # The others of an MPO are views of the same scene.
            last = 0 if image.format == "MPO" else getattr(image, "n_frames", 1) - 1
            for place in sorted({last // 2, last} - {0}):
                image.seek(place)
                deep = deep_pixels(image, path)
                frame = image.copy() if deep is None else rgb_of_numbers(deep)
                frames.append(frame if deep is not None else _to_rgb(upright(frame, image)))
    except UnreadableImageError:
        raise
    except UnidentifiedImageError:
        pass  # read by OpenCV, the first page alone
    except Exception as error:
        raise UnreadableImageError(_reason(path, error)) from error
    return frames


@contextlib.contextmanager
def opened(path: str) -> Iterator[Image.Image]:
    """A file opened by Pillow, whose pixels ``load()`` decodes.

    Pillow refuses to open what would not fit into memory; a JPEG does, reduced, and is opened.

    Raises:
        UnreadableImageError: of what is no file, which would be waited for: a pipe has no end; and
            of PostScript, which Pillow has a program execute
    """
    register_heif()
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(path)
    if not stat.S_ISREG(found.st_mode):
        raise UnreadableImageError("a pipe, a socket or a device, not a file")
    if found.st_size == 0:
        raise UnreadableImageError("file is empty")
    try:
        image = Image.open(path)
    except Image.DecompressionBombError as error:
        try:
            image = JpegImageFile(path)
        except SyntaxError:
            raise error from None
        if image.info.get("progressive"):  # libjpeg would hold all of it at once
            image.close()
            raise
    with image:
        if image.format == "EPS":
            raise UnreadableImageError("a PostScript program, not an image; convert it to PNG")
        yield image


def full_size(path: str, image: Image.Image) -> tuple[int, int]:
    """Width and height in the file, upright, of an image that was perhaps reduced."""
    if max(image.size) * LARGEST_FRACTION < math.isqrt(LARGE_PIXELS):
        return image.size
    try:
        with opened(path) as header:
            width, height = header.size
    except UnidentifiedImageError:
        return image.size
    return (width, height) if (width < height) == (image.width < image.height) else (height, width)


def reduce(image: Image.Image, min_side: int = 0) -> None:
    """Lets a large JPEG that was opened be decoded at a fraction of its size.

    Args:
        image: not decoded yet
        min_side (0): the shorter side that is enough; 0 reduces only what would not fit into memory
    """
    num_pixels = image.width * image.height
    if image.format in REDUCIBLE and num_pixels > LARGE_PIXELS:
        # libjpeg reduces by powers of two.
        fraction = 2 ** max(math.ceil(math.log(num_pixels / MOST_PIXELS, 4)), 0)
        size = min(image.width // fraction, image.height // fraction, min_side or image.width)
        if size < min(image.size):
            image.draft(image.mode, (size, size))


def _rescued(path: str, error: Exception) -> Image.Image | None:
    """What can be had of a file that Pillow does not decode, or None."""
    if isinstance(error, UnidentifiedImageError):
        with open(path, "rb") as file:
            if file.read(4) not in TIFF_BEGINNINGS:
                return None
        pixels = read_with_opencv(path)
        return None if pixels is None else rgb_of_numbers(pixels)
    if isinstance(error, OSError) and "truncated" in str(error):
        return _ended_jpeg(path)
    return None


def _ended_jpeg(path: str) -> Image.Image | None:
    """A JPEG that lacks its last bytes, if these say no more than its last rows of blocks."""
    with open(path, "rb") as file:
        content = io.BytesIO(file.read() + END_OF_JPEG)
    with Image.open(content) as image:
        if image.format not in REDUCIBLE or image.info.get("progressive"):
            return None
        image.load()
        # What is lacking comes out as blocks of plain gray.
        pixels = np.asarray(image.convert("RGB"))
        block = pixels[: max(len(pixels) - BLOCK_ROWS, 1)][-8:, -8:]
        if (block == 128).all():
            return None
        image = _to_rgb(upright(image, image))
    image.info["note"] = "a truncated JPEG, read without its last bytes"
    return image


def upright(image: Image.Image, source: Image.Image) -> Image.Image:
    """An image turned by the EXIF orientation of the file that it was read from."""
    # A damaged EXIF block says nothing about the pixels.
    with contextlib.suppress(Exception):
        if image is not source and (orientation := source.getexif().get(0x0112)):
            image.getexif()[0x0112] = orientation
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _reason(path: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "file not found"
    if isinstance(error, IsADirectoryError):
        return "a folder, not a file"
    if isinstance(error, PermissionError):
        return "no permission to read the file"
    if isinstance(error, UnidentifiedImageError):
        return unreadable_format(path)
    if isinstance(error, Image.DecompressionBombError):
        limit = MOST_PIXELS // 10**6
        return f"more than {limit} million pixels; resize it, or save it as a baseline JPEG"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if "\0" in path:
        return "not a file path: it contains a null byte"
    return f"damaged file: {error}"


def crop_square(image: Image.Image, box: Box) -> Image.Image:
    """Cuts the square around a box out of an image.

    The square has the box's longer side and is moved inwards at the image's border, so that the
    whole object survives the square input of a model, with some of its surroundings instead of
    being squashed or losing its ends. Measured on the objects of COCO128 with ``cnn``, 5-NN
    accuracy across images: square 0.44, squashed box 0.41, box with its ends cropped 0.40.

    Args:
        image: a PIL image
        box: relative ``(x, y, width, height)``; parts outside the image are cut off

    Returns:
        a PIL image

    Raises:
        UnreadableImageError: with the reason, if the box contains no pixel of the image
    """
    values = np.asarray(box, dtype=float)
    if values.shape != (4,) or not np.isfinite(values).all():
        raise UnreadableImageError(f"box {list(box)} is not four finite numbers")
    x, y, width, height = values
    if width <= 0 or height <= 0:
        raise UnreadableImageError("box of zero size")
    left, right = np.clip([x, x + width], 0, 1) * image.width
    top, bottom = np.clip([y, y + height], 0, 1) * image.height
    if right <= left or bottom <= top:
        raise UnreadableImageError("box is outside the image")

    side = max(right - left, bottom - top, 1)
    left, right = _interval((left + right) / 2, side, image.width)
    top, bottom = _interval((top + bottom) / 2, side, image.height)
    return image.crop((left, top, right, bottom))


def _interval(center: float, length: float, limit: int) -> tuple[int, int]:
    length = min(round(length), limit)
    start = min(max(round(center - length / 2), 0), limit - length)
    return start, start + length


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
