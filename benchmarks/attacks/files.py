"""Image files that are damaged in every way that files are, from a seeded generator."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

# What is in a file of each format that Pillow writes; it does not say which modes one takes.
MODES = ("RGB", "L", "P", "1", "RGBA", "CMYK", "I;16", "F")


def originals(rng: np.random.Generator) -> dict[str, bytes]:
    """An image in every format, and in each of its modes, that Pillow writes."""
    Image.init()
    photo = Image.fromarray(rng.integers(0, 255, (40, 56, 3), np.uint8))
    found = {}
    for kind in sorted(Image.SAVE):
        for mode in MODES:
            file = io.BytesIO()
            try:
                photo.convert("I").convert(mode) if mode == "I;16" else photo.convert(mode)
                image = photo.convert("L").convert("I") if mode == "I;16" else photo
                image.convert(mode).save(file, kind)
            except Exception:
                continue
            found[f"{kind} {mode}"] = file.getvalue()
    frames = [photo.rotate(angle) for angle in range(0, 50, 10)]
    for kind in ("GIF", "WEBP", "TIFF", "PNG", "MPO"):
        file = io.BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=frames[1:])
        found[f"{kind} frames"] = file.getvalue()
    return found


def damaged(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """One way to damage a file, and what is left of it."""
    place = int(rng.integers(0, max(len(content), 1)))
    way = int(rng.integers(0, 8))
    raw = bytearray(content)
    if way == 0:
        return "cut", content[:place]
    if way == 1:
        for bit in rng.integers(0, 8 * len(raw), int(rng.integers(1, 40))):
            raw[bit // 8] ^= 1 << (bit % 8)
        return "bits flipped", bytes(raw)
    if way == 2:  # the head says what the rest is
        for bit in rng.integers(0, 8 * min(len(raw), 64), 3):
            raw[bit // 8] ^= 1 << (bit % 8)
        return "bits of its head flipped", bytes(raw)
    if way == 3:
        return "zeros", content[:place] + bytes(len(content) - place)
    if way == 4:
        return "a piece lacks", content[: place // 2] + content[place:]
    if way == 5:
        return "a piece twice", content[:place] + content[place // 2 :]
    if way == 6:
        noise = rng.integers(0, 256, 64, np.uint8).tobytes()
        return "noise within", content[:place] + noise + content[place + 64 :]
    raw[place : place + 4] = b"\xff" * len(raw[place : place + 4])
    return "a number that is huge", bytes(raw)


def _png(width: int, height: int, rows: int) -> bytes:
    """A PNG that says how large it is, and holds some rows of it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        sum_ = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", sum_)

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(3 * width + 1)) for _ in range(rows)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bombs() -> dict[str, bytes]:
    """Small files that say that they are large, or are."""
    found = {
        "bomb 30000x30000.png": _png(30_000, 30_000, 600),
        "bomb 60000x60000, no rows.png": _png(60_000, 60_000, 0),
        "bomb 13000x13000.png": _png(13_000, 13_000, 13_000),
        "bomb 1x65500.png": _png(1, 65_500, 65_500),
        "bomb of text.png": _with_text(_png(8, 8, 8)),
        "bomb of letters.svg": b'<svg xmlns="http://www.w3.org/2000/svg">' + b"<g>" * 10_000,
    }
    file = io.BytesIO()
    black = Image.new("L", (200, 200))
    black.save(file, "GIF", save_all=True, append_images=[black.copy() for _ in range(400)])
    found["bomb of frames.gif"] = file.getvalue()
    header = struct.pack("<IiiHHIIiiII", 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0)
    found["bomb.bmp"] = b"BM" + struct.pack("<IHHI", 2**31, 0, 0, 54) + header
    found["bomb.ppm"] = b"P6 99999999 99999999 255\n"
    found["bomb.eps"] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n"
    return found


def _with_text(png: bytes) -> bytes:
    packed = zlib.compress(bytes(200_000_000), 9)
    data = b"zTXt" + b"note\0\0" + packed
    chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    return png[:33] + chunk + png[33:]


def no_files(folder: Path) -> Iterator[str]:
    """Paths at which there is something else than a file, or nothing."""
    (folder / "a folder.png").mkdir()
    yield str(folder / "a folder.png")
    os.mkfifo(folder / "pipe.png")
    yield str(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(folder / "socket.png"))
    yield str(folder / "socket.png")
    for name, aim in (("loop", "loop.png"), ("dangling", "nowhere"), ("endless", "/dev/zero")):
        (folder / f"{name}.png").symlink_to(aim)
        yield str(folder / f"{name}.png")
    yield from ("/dev/zero", "/dev/null", "/dev/stdin", "/dev/tty", "/proc/self/mem", "/proc/kmsg")
    yield from ("/", "/absent.png", "/absent/" * 900, f"/{'x' * 300}.png", "/proc/self/environ")
    yield from ("s3://bucket/one.png", "http://127.0.0.1:9/one.png", "file:///etc/hostname")
    yield f"{folder}/../../../../../../etc/passwd"
    (folder / "empty.jpg").touch()
    yield str(folder / "empty.jpg")
    yield str(folder / "zero\0byte.png")


def denied(folder: Path, content: bytes) -> Iterator[str]:
    """Files that this user may not read."""
    (folder / "locked").mkdir()
    for path in (folder / "locked" / "inside.png", folder / "denied.png"):
        path.write_bytes(content)
        path.chmod(0)
        yield str(path)
    (folder / "locked").chmod(0)
