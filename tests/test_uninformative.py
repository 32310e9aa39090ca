"""Images without information are found, and photos are left alone."""

import math

import numpy as np
import pytest
from fiftyone_embedding_quality.analysis.uninformative import (
    BLURRED,
    BRIGHT,
    DARK,
    ODD_ASPECT,
    ODD_SIZE,
    ONE_COLOR,
    find_uninformative,
)
from fiftyone_embedding_quality.pictures.images import load_image
from fiftyone_embedding_quality.pictures.measures import measure, measure_files
from PIL import Image, ImageEnhance, ImageFilter


def judged(paths, boxes=None):
    """What is found in files: they are measured first, as the analysis opens none."""
    return find_uninformative(measure_files(paths, boxes))


def textured(width=300, height=200, seed=0):
    """An image with detail at every scale, as photos have: noise whose amplitude falls as 1/f."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(width), np.fft.fftfreq(height)))
    frequency[0, 0] = 1
    waves = np.fft.fft2(rng.standard_normal((3, height, width))) / frequency
    pixels = np.fft.ifft2(waves).real
    pixels = 128 + 50 * (pixels - pixels.mean()) / pixels.std()
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def blurred(image, share):
    return image.filter(ImageFilter.GaussianBlur(share * min(image.size)))


def grainy(color, deviation, seed=0):
    noise = np.random.default_rng(seed).normal(0, deviation, (200, 300, 3))
    return Image.fromarray((np.array(color) + noise).clip(0, 255).astype(np.uint8))


BROKEN = {
    "black": (Image.new("RGB", (300, 200)), DARK),
    "night": (ImageEnhance.Brightness(textured()).enhance(0.15), DARK),
    "dark with sensor noise": (grainy((12, 10, 14), 8), DARK),
    "white": (Image.new("RGB", (300, 200), "white"), BRIGHT),
    "overexposed": (Image.blend(textured(), Image.new("RGB", (300, 200), "white"), 0.93), BRIGHT),
    "red": (Image.new("RGB", (300, 200), (200, 30, 30)), ONE_COLOR),
    "gray with sensor noise": (grainy((120, 120, 120), 4), ONE_COLOR),
    "blurred": (blurred(textured(), 0.08), BLURRED),
    "blurred large": (blurred(textured(900, 600), 0.06), BLURRED),
    "blurred small": (blurred(textured(64, 64), 0.08), BLURRED),
    "blurred and of low contrast": (
        ImageEnhance.Contrast(blurred(textured(), 0.1)).enhance(0.7),
        BLURRED,
    ),
}


@pytest.fixture
def save(tmp_path):
    def save(image, name, extension="png"):
        path = tmp_path / f"{name}.{extension}"
        image.save(path)
        return str(path)

    return save


@pytest.mark.parametrize("name", BROKEN)
def test_images_without_information_are_found(name, save):
    image, reason = BROKEN[name]
    assert judged([save(image, "picture")]).reasons == [reason]
    assert judged([save(image, "picture", "jpg")]).reasons == [reason]


@pytest.mark.parametrize(
    "image",
    [
        textured(),
        textured(32, 32),
        textured(1000, 750),
        ImageEnhance.Contrast(textured()).enhance(0.4),
        ImageEnhance.Brightness(textured()).enhance(0.6),
        textured().convert("L").convert("RGB"),
        blurred(textured(), 0.005),
    ],
)
def test_ordinary_images_are_left_alone(image, save):
    assert judged([save(image, "picture")]).reasons == [None]


def test_contrast_and_size_do_not_change_the_sharpness():
    sharpness = measure(textured(400, 400)).sharpness
    fainter = ImageEnhance.Contrast(textured(400, 400)).enhance(0.3)
    larger = textured(400, 400).resize((1600, 1600), Image.Resampling.BICUBIC)
    assert measure(fainter).sharpness == pytest.approx(sharpness, rel=0.05)
    assert measure(larger).sharpness == pytest.approx(sharpness, rel=0.1)


def test_odd_sizes_and_shapes_are_relative_to_the_others(save):
    usual = [save(textured(300 + 5 * i, 200, seed=i), f"usual{i}") for i in range(12)]
    odd = [save(textured(50, 33), "small"), save(textured(900, 90), "panorama")]
    found = judged(usual + odd)
    assert found.reasons == [None] * 12 + [ODD_SIZE, ODD_ASPECT]
    panoramas = [save(textured(900, 90, seed=i), f"panorama{i}") for i in range(12)]
    assert judged(panoramas).reasons == [None] * 12
    assert judged(usual[:4] + odd).reasons == [None] * 6  # too few to say


def test_what_most_images_share_is_no_reason(save):
    enlarged = [save(blurred(textured(seed=i), 0.08), f"enlarged{i}") for i in range(12)]
    black = save(Image.new("RGB", (300, 200)), "black")
    found = judged([*enlarged, black])
    assert found.reasons == [None] * 12 + [DARK] and found.common == (BLURRED,)


@pytest.mark.slow
def test_large_photos_are_measured_in_full_size(save):
    files = [save(textured(300, 200, seed=i), f"usual{i}") for i in range(12)]
    measures = measure_files([*files, save(textured(3000, 2000), "large", "jpg")])
    assert find_uninformative(measures).reasons[-1] == ODD_SIZE
    assert (measures.width[-1], measures.height[-1]) == (3000, 2000)


def test_portrait_and_landscape_mix_freely(save):
    shapes = [(300, 200), (200, 300)] * 8
    files = [save(textured(*shape, seed=i), f"picture{i}") for i, shape in enumerate(shapes)]
    assert judged(files).reasons == [None] * 16


def test_unreadable_files_keep_their_place(save, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    files = [save(textured(), "good"), str(broken), str(tmp_path / "gone.png")]
    measures = measure_files(files)
    assert find_uninformative(measures).reasons == [None, None, None]
    assert measures.measured.tolist() == [True, False, False]
    assert measures.errors == {1: "not an image that Pillow can read", 2: "file not found"}


def test_objects_are_judged_by_their_own_pixels(save):
    image = textured()
    image.paste((0, 0, 0), (0, 0, 60, 200))
    path = save(image, "picture")
    boxes = [(0, 0, 0.2, 1), (0.3, 0.1, 0.5, 0.8), None, (0.5, 0.5, 0.02, 0.01), (2, 0, 1, 1)]
    boxes.append((0.1, 0.1, math.nan, 1))
    measures = measure_files([path] * len(boxes), boxes)
    reasons = find_uninformative(measures).reasons
    assert reasons[:3] == [DARK, None, None]
    assert (measures.width[0], measures.height[0]) == (60, 200)
    assert math.isnan(measures.sharpness[3])  # 6 x 2 pixels are not called blurred
    assert reasons[3] in (None, ONE_COLOR)
    assert "no pixel" in measures.errors[4] and "finite" in measures.errors[5]


def test_an_object_without_a_box_cannot_be_judged(save):
    path = save(textured(), "picture")
    measures = measure_files([path, path], [(), (0, 0, 1, 1)])
    assert measures.errors == {0: "the patch has no box"}
    assert measures.measured.tolist() == [False, True]


def test_each_file_is_decoded_once_in_any_order(save, monkeypatch):
    dark, light = save(Image.new("RGB", (60, 40)), "dark"), save(textured(60, 40), "light")
    decoded = []
    monkeypatch.setattr(
        "fiftyone_embedding_quality.pictures.measures.load_image",
        lambda path, *side: decoded.append(path) or load_image(path, *side),
    )
    boxes = [(0, 0, 0.5, 1), (0, 0, 1, 0.5)] * 3
    found = measure_files([dark, light] * 3, boxes)
    assert sorted(decoded) == [dark, light]
    assert find_uninformative(found).reasons == [DARK, None] * 3
    assert found.width.tolist() == [30, 60] * 3


def test_shapes_of_objects_are_not_judged(save):
    path = save(textured(), "picture")
    boxes = [(0.1, 0.1, 0.5, 0.5)] * 20 + [(0, 0, 1, 0.1), (0, 0, 0.1, 0.1)]
    found = judged([path] * len(boxes), boxes)
    assert not {ODD_SIZE, ODD_ASPECT} & set(found.reasons)


def test_order_of_images_does_not_matter(save):
    files = [save(textured(300, 200, seed=i), f"picture{i}") for i in range(12)]
    files += [save(image, name) for name, (image, _) in BROKEN.items()]
    reasons = dict(zip(files, judged(files).reasons))
    shuffled = files[::-1]
    assert dict(zip(shuffled, judged(shuffled).reasons)) == reasons


def test_progress_ends_at_one_and_boxes_must_fit(save):
    path = save(textured(), "picture")
    seen = []
    measure_files([path, path], [None, (0, 0, 1, 1)], progress=seen.append)
    assert seen == [1.0]
    assert judged([]).reasons == []
    with pytest.raises(ValueError, match="1 boxes for 2 images"):
        measure_files([path, path], [None])


def test_photos(shared):
    """Of real photos few are flagged; darkened, whitened or strongly blurred nearly all are."""
    files = sorted(str(path) for path in (shared / "data/coco128/data").glob("*.jpg"))
    assert sum(reason is not None for reason in judged(files).reasons) <= 2


@pytest.mark.slow
def test_damaged_photos(shared, save):
    files = sorted((shared / "data/coco128/data").glob("*.jpg"))[::4]
    images = [Image.open(path).convert("RGB") for path in files]
    damages = {
        DARK: lambda image: ImageEnhance.Brightness(image).enhance(0.15),
        BLURRED: lambda image: blurred(image, 0.06),
    }
    for reason, damage in damages.items():
        paths = [save(damage(image), f"{reason}{i}", "jpg") for i, image in enumerate(images)]
        # One by one: what a whole set has in common is no reason.
        found = [judged([path]).reasons[0] for path in paths]
        assert sum(each == reason for each in found) >= 0.9 * len(files)
