"""What kind of file it is that Pillow does not open, by its first bytes, and the way out."""

from __future__ import annotations

import functools

# Sorts of files by what they begin with, and what to do about them.
BEGINNINGS = (
    (b"\xff\x0a", "JPEG XL, which Pillow does not read; convert it to PNG or JPEG"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL, which Pillow does not read; convert it to PNG or JPEG"),
    (b"%PDF", "a PDF document, not an image; convert its pages to images"),
    (b"\x93NUMPY", "a NumPy array, not an image; save it as TIFF or PNG"),
    (b"PK\x03\x04", "a ZIP archive, not an image"),
    (b"\x1f\x8b", "a gzip archive, not an image"),
    (b"\x1aE\xdf\xa3", "a video, not an image"),
    (b"\x89HDF", "an HDF5 file, not an image"),
)
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
VIDEO_BRANDS = (b"isom", b"iso2", b"mp41", b"mp42", b"qt  ", b"avc1", b"M4V ")

HEIC = (
    "HEIC, which needs a package: pip install pillow-heif (or convert it to JPEG); if that is "
    "installed, the file is damaged"
)
AVIF = (
    "AVIF, which this version of Pillow does not read: pip install --upgrade pillow (or convert "
    "it to JPEG)"
)


@functools.cache
def register_heif() -> bool:
    """Lets Pillow open HEIC files where pillow-heif is installed."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def unreadable_format(path: str) -> str:
    """Why Pillow does not open a file, in words for its user."""
    with open(path, "rb") as file:
        start = file.read(1024)
    for beginning, reason in BEGINNINGS:
        if start.startswith(beginning):
            return reason
    if start[4:8] == b"ftyp":
        brand = start[8:12]
        if brand in (b"avif", b"avis"):
            from PIL import features

            damaged = features.check("avif")
            return "damaged file: an AVIF image that cannot be decoded" if damaged else AVIF
        if brand in HEIC_BRANDS:
            return HEIC
        if brand in VIDEO_BRANDS:
            return "a video, not an image"
    if start[128:132] == b"DICM":
        return "a DICOM file, which Pillow does not read; convert it to PNG or TIFF"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<svg", b"<?xml")) and b"<svg" in text:
        return "an SVG drawing, which has no pixels; render it to PNG"
    if text.startswith((b"<!doctype html", b"<html")):
        return "an HTML page, not an image (a failed download?)"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the image; run git lfs pull"
    return "not an image that Pillow can read"
