"""Small images that travel inside a page, as data URIs."""

import base64
import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from ..cores import num_cores
from ..pictures.images import UnreadableImageError, crop_square, load_image

# The longer side in pixels, and a JPEG quality at which images of that size take 4 to 8 kB.
SIDE, QUALITY = 160, 72

Box = tuple[float, ...] | None
ImageRegion = tuple[str, Box]


@dataclass(frozen=True)
class Thumbnail:
    """A small image, or the reason why there is none.

    Attributes:
        uri: the JPEG as a data URI, or None
        width, height: of the thumbnail in pixels, 0 without one
        error: the reason, or None
    """

    uri: str | None
    width: int = 0
    height: int = 0
    error: str | None = None


def make_thumbnails(
    images: Iterable[ImageRegion], progress: Callable[[float], None] | None = None
) -> dict[ImageRegion, Thumbnail]:
    """Makes a thumbnail of each image, or of the object in its box.

    Args:
        images: files, each with None or the relative box of an object
        progress (None): called with the share that is done

    Returns:
        the thumbnail of each
    """
    wanted = list(dict.fromkeys(images))
    made = {}
    with ThreadPoolExecutor(num_cores()) as pool:
        for number, (image, thumbnail) in enumerate(zip(wanted, pool.map(_thumbnail, wanted)), 1):
            made[image] = thumbnail
            if progress is not None:
                progress(number / len(wanted))
    return made


def _thumbnail(region: ImageRegion) -> Thumbnail:
    path, box = region
    try:
        # Of a small object, the image is needed in a size at which the object has its pixels.
        share = min((side for side in (box or ())[2:] if side > 0), default=1.0)
        image = load_image(path, min_side=round(SIDE / max(share, 0.01)))
        if box is not None:
            image = crop_square(image, box)
    except UnreadableImageError as error:
        return Thumbnail(None, error=str(error))
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    # Without the EXIF block and the color profile of the original, which can be large.
    image.save(stream, "JPEG", quality=QUALITY, optimize=True, exif=b"", icc_profile=None)
    text = base64.b64encode(stream.getvalue()).decode()
    return Thumbnail(f"data:image/jpeg;base64,{text}", *image.size)
