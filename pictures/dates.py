"""When images were taken, as their files say."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..cores import num_cores
from .images import near, opened

# EXIF: the block of the camera's entries, and its original, digitized and last change, the best
# first; each with the tag of its fraction of a second.
CAMERA = 0x8769
ORIGINAL, DIGITIZED, CHANGED = (0x9003, 0x9291), (0x9004, 0x9292), (0x0132, 0x9290)


def taken_at(paths: Sequence[str]) -> np.ndarray:
    """The EXIF dates of image files: when taken, else digitized, else last changed.

    Cameras write local time mostly, so that dates of two time zones are hours off.

    Args:
        paths: of n files; each is opened once, and its pixels are not decoded

    Returns:
        (n,) float64, seconds since 1970 by the camera's clock; NaN where a file holds no date
    """
    files = sorted(set(paths))
    with ThreadPoolExecutor(num_cores()) as pool:
        known = dict(zip(files, pool.map(_date, files)))
    return np.array([known[path] for path in paths], np.float64)


def _date(path: str) -> float:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged entries
            with near(path) as local, opened(local) as image:
                exif = image.getexif()
                camera = exif.get_ifd(CAMERA)
    except Exception:  # whatever a damaged file raises, it holds no date
        return np.nan
    for tag, fraction in (ORIGINAL, DIGITIZED, CHANGED):
        text = str(camera.get(tag) or exif.get(tag) or "").strip().rstrip("\0")
        part = str(camera.get(fraction) or "").strip().rstrip("\0")
        try:
            date = datetime.datetime.strptime(text[:19], "%Y:%m:%d %H:%M:%S")
        except ValueError:
            continue
        seconds = date.replace(tzinfo=datetime.timezone.utc).timestamp()
        return seconds + (float(f"0.{part}") if part.isdecimal() else 0)
    return np.nan
