"""Every kind of image becomes an upright RGB image, or a reason."""

import cv2
import numpy as np
import pytest
from fiftyone_embedding_quality.pictures import images
from fiftyone_embedding_quality.pictures.images import (
    UnreadableImageError,
    crop_square,
    load_image,
)
from PIL import Image

# Left half dark, right half bright, top left corner marked: orientation and brightness show.
PATTERN = np.full((40, 60), 64, np.uint8)
PATTERN[:, 30:] = 192
PATTERN[:10, :10] = 255


def _levels(image: Image.Image) -> tuple[int, int, int]:
    gray = np.asarray(image.convert("L"))
    height, width = gray.shape
    return gray[height // 2, width // 4], gray[height // 2, 3 * width // 4], gray[2, 2]


def _close(levels, expected, tolerance=6):
    return np.allclose(np.array(levels, int), expected, atol=tolerance)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("1", "png"), ("L", "png"), ("L", "jpg"), ("P", "png"), ("P", "gif"), ("RGB", "bmp"),
     ("RGB", "webp"), ("CMYK", "jpg"), ("CMYK", "tif"), ("YCbCr", "jpg"), ("LAB", "tif")],
)  # fmt: skip
def test_modes(tmp_path, mode, suffix):
    path = tmp_path / f"picture.{suffix}"
    source = Image.fromarray(PATTERN)
    expected = (64, 192, 255)
    if mode == "1":
        source, expected = source.point(lambda value: 255 * (value > 128), "1"), (0, 255, 255)
    elif mode == "LAB":
        from PIL import ImageCms

        to_lab = ImageCms.buildTransform(
            ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
        )
        source = ImageCms.applyTransform(source.convert("RGB"), to_lab)
    elif mode == "P":
        source = source.quantize()
    elif mode != "L":
        source = source.convert("RGB").convert(mode)
    source.save(path)
    image = load_image(str(path))
    assert image.mode == "RGB"
    assert image.size == (60, 40)
    assert _close(_levels(image), expected, tolerance=12 if mode == "LAB" else 6)


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_16_bit_grayscale_keeps_its_brightness(tmp_path, dtype):
    path = tmp_path / "picture.tif"
    values = (PATTERN.astype(np.uint32) * 257).astype(dtype)
    mode = "I;16" if dtype == "<u2" else "I;16B"
    Image.frombytes(mode, (60, 40), values.tobytes()).save(path)
    assert _close(_levels(load_image(str(path))), (64, 192, 255), 1)


RAMP = np.linspace(0, 1, 4096, dtype=np.float32).reshape(64, 64)


@pytest.mark.parametrize(
    ("low", "high", "dtype", "white"),
    [
        (0, 110, np.uint16, None),
        (0, 300, np.uint16, None),
        (0, 900, np.uint16, 1023),
        (0, 3000, np.uint16, 4095),
        (0, 65000, np.uint16, 65535),
        (29_000, 31_000, np.uint16, None),
        (-1000, 2000, np.int32, None),
        (0, 70_000, np.int32, None),
        (0, 0.9, np.float32, 1),
        (0, 1.2, np.float32, None),
        (0, 1e-3, np.float32, None),
        (0, 200, np.float32, 255),
        (0, 300, np.float32, None),
        (-1000, 2000, np.float32, None),
    ],
)
def test_nothing_turns_black_in_silence(tmp_path, low, high, dtype, white):
    """Gray levels follow the numbers; a range of the image's own is told."""
    values = (low + RAMP * (high - low)).astype(dtype)
    path = tmp_path / "numbers.tif"
    Image.fromarray(values).save(path)
    image = load_image(str(path))
    black = low if white is None else 0
    expected = (values - float(black)) / ((white or high) - black) * 255
    assert np.abs(np.asarray(image)[..., 0] - expected).max() <= 1
    assert ("note" in image.info) == (white is None)


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan, 1e9])
def test_one_odd_pixel_costs_the_others_nothing(tmp_path, odd):
    values = RAMP * 300
    values[5, 7] = odd
    path = tmp_path / "numbers.tif"
    Image.fromarray(values).save(path)
    levels = np.asarray(load_image(str(path)))[..., 0].astype(int)
    levels[5, 7] = round(RAMP[5, 7] * 255)
    assert np.abs(levels - RAMP * 255).max() <= 2


def test_no_finite_number_is_a_reason(tmp_path):
    path = tmp_path / "numbers.tif"
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(path)
    with pytest.raises(UnreadableImageError, match="no finite number"):
        load_image(str(path))


@pytest.mark.parametrize(("suffix", "dtype"), [("png", "u2"), ("tif", "u2"), ("tif", "f4")])
def test_deep_colors_share_one_range(tmp_path, suffix, dtype):
    path = tmp_path / f"numbers.{suffix}"
    colors = np.stack([RAMP * 300, RAMP * 150, RAMP * 0], axis=-1)
    cv2.imwrite(str(path), colors[..., ::-1].astype(dtype))
    assert np.asarray(load_image(str(path)))[63, 63].tolist() == [255, 128, 0]


def test_a_jpeg_without_its_end_is_read_and_half_of_one_is_not(tmp_path):
    source = np.kron(np.random.default_rng(0).integers(0, 255, (12, 12, 3), np.uint8), TILE)
    whole, cut = tmp_path / "whole.jpg", tmp_path / "cut.jpg"
    Image.fromarray(source).save(whole)
    content = whole.read_bytes()
    cut.write_bytes(content[:-2])
    image = load_image(str(cut))
    assert np.array_equal(image, load_image(str(whole)))
    assert "truncated" in image.info["note"]
    cut.write_bytes(content[: len(content) * 9 // 10])
    with pytest.raises(UnreadableImageError, match="damaged file"):
        load_image(str(cut))


TILE = np.ones((16, 16, 1), np.uint8)


def test_a_jpeg_larger_than_fits_is_read_reduced(tmp_path, monkeypatch):
    path = tmp_path / "image.jpg"
    Image.fromarray(PATTERN).resize((3000, 2000)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500_000)
    monkeypatch.setattr(images, "MOST_PIXELS", 1_000_000)
    assert load_image(str(path)).size == (750, 500)
    assert load_image(str(path), 400).size == (750, 500)
    assert load_image(str(path), 200).size == (375, 250)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "HEIC.*pip install pillow-heif"),
        (b"\xff\x0a" + bytes(99), "JPEG XL"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\n<!DOCTYPE html><title>404</title>", "HTML"),
        (bytes(128) + b"DICM" + bytes(99), "DICOM"),
        (b"\x93NUMPY\x01\0v\0" + bytes(99), "NumPy"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_formats_that_pillow_does_not_open_are_named(tmp_path, content, words):
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=words):
        load_image(str(path))


def test_floating_point_is_stretched(tmp_path):
    path = tmp_path / "picture.tif"
    Image.fromarray(PATTERN.astype(np.float32) * 1000 - 50_000).save(path)
    low, high, corner = _levels(load_image(str(path)))
    assert low == 0
    assert corner == 255
    assert 160 < high < 180


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA", "P"])
def test_transparency_lies_over_white(tmp_path, mode):
    path = tmp_path / "picture.png"
    layer = Image.fromarray(np.full((40, 60), 20, np.uint8)).convert("RGBA")
    layer.paste((0, 0, 0, 0), (30, 0, 60, 40))
    if mode == "P":
        layer.save(path)
        layer = Image.open(path).quantize()
    elif mode != "RGBA":
        layer = layer.convert("LA")
    layer.save(path)
    low, high, _ = _levels(load_image(str(path)))
    assert (low, high) == (20, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("min_side", [0, 16])
def test_exif_orientation(tmp_path, orientation, min_side, monkeypatch):
    """Whatever the stored orientation, the image comes out as it was before it was stored."""
    stored = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    source = Image.fromarray(PATTERN).resize((240, 160), Image.Resampling.NEAREST)
    source = source.transpose(stored) if stored is not None else source
    monkeypatch.setattr(images, "LARGE_PIXELS", 1000)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "picture.jpg"
    source.save(path, exif=exif, quality=95)
    image = load_image(str(path), min_side)
    assert image.width / image.height == 1.5
    assert (image.width < 240) == bool(min_side)
    assert _close(_levels(image), (64, 192, 255))


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_first_frame(tmp_path, suffix):
    path = tmp_path / f"picture.{suffix}"
    frames = [Image.fromarray(PATTERN).convert("RGB"), Image.new("RGB", (60, 40), "black")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert _close(_levels(load_image(str(path))), (64, 192, 255), 20)


def test_a_large_jpeg_is_decoded_no_larger_than_needed(tmp_path):
    path = tmp_path / "picture.jpg"
    Image.fromarray(PATTERN).resize((3000, 2000)).save(path)
    assert load_image(str(path), 512).size == (1500, 1000)
    assert load_image(str(path)).size == (3000, 2000)
    Image.fromarray(PATTERN).resize((1500, 1000)).save(path)
    assert load_image(str(path), 512).size == (1500, 1000)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 2)])
def test_sizes_that_occur(tmp_path, size, cnn):
    path = tmp_path / "picture.png"
    Image.new("RGB", size, "red").save(path)
    prepared = cnn.prepare(load_image(str(path), 512))
    assert prepared.shape == (224, 224, 3)
    assert (prepared == (255, 0, 0)).all()


def test_reasons(tmp_path):
    good = tmp_path / "good.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)).save(good)
    png = tmp_path / "good.png"
    Image.open(good).save(png)
    bomb = tmp_path / "bomb.png"
    Image.new("1", (14_000, 14_000)).save(bomb)
    files = {
        "missing.jpg": (None, "file not found"),
        "empty.jpg": (b"", "file is empty"),
        "text.jpg": (b"this is not a picture", "not an image that Pillow can read"),
        "truncated.jpg": (good.read_bytes()[:3000], "damaged file"),
        "truncated.png": (png.read_bytes()[:3000], "damaged file"),
        "header.jpg": (good.read_bytes()[:20], "not an image|damaged file"),
        "bomb.png": (bomb.read_bytes(), "more than 178 million pixels"),
    }
    for name, (content, reason) in files.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableImageError, match=reason):
            load_image(str(tmp_path / name))
    with pytest.raises(UnreadableImageError, match="a folder"):
        load_image(str(tmp_path))


def test_a_damaged_exif_block_costs_nothing(tmp_path):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add(b"eXIf", b"nonsense")
    path = tmp_path / "picture.png"
    Image.fromarray(PATTERN).save(path, pnginfo=info)
    assert _close(_levels(load_image(str(path))), (64, 192, 255))


def test_crop_square_holds_the_whole_object():
    image = Image.new("RGB", (100, 100))
    image.paste("red", (10, 40, 90, 50))
    crop = crop_square(image, (0.1, 0.4, 0.8, 0.1))
    assert crop.size == (80, 80)
    assert (np.asarray(crop)[:, :, 0] == 255).sum() == 80 * 10


def test_crop_square_is_moved_inwards_at_the_border():
    image = Image.new("RGB", (100, 60))
    image.paste("red", (90, 0, 100, 40))
    crop = crop_square(image, (0.9, -0.2, 0.3, 0.2 + 40 / 60))
    assert crop.size == (40, 40)
    assert (np.asarray(crop)[:, :, 0] == 255).sum() == 10 * 40
    assert crop_square(image, (0.0, 0.0, 1.0, 1.0)).size == (100, 60)
    assert crop_square(image, (0.5, 0.5, 1e-6, 1e-6)).size == (1, 1)


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((0.5, 0.5, 0.0, 0.1), "zero size"),
        ((0.5, 0.5, 0.1, -0.1), "zero size"),
        ((1.2, 0.5, 0.1, 0.1), "outside"),
        ((-0.5, 0.5, 0.1, 0.1), "outside"),
        ((0.5, float("nan"), 0.1, 0.1), "finite"),
        ((), "finite"),
    ],
)
def test_boxes_without_pixels(box, reason):
    with pytest.raises(UnreadableImageError, match=reason):
        crop_square(Image.new("RGB", (100, 100)), box)
