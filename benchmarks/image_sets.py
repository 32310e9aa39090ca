"""Sets of images that are made here, each with the right answer: what duplicates are, and are not.

    python benchmarks/image_sets.py DATA [--sets forms chats] [--seeds 0 7]

DATA is the folder of the development sets; its photos of COCO are the material. A set says of each
file which content it shows: files of one content are duplicates, all others are not. Told are pairs
in one group that show other content (there should be none), and the share of files that are grouped
with another file of their content, of those that have one.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from common import print_row
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.analysis.vectors import unit_rows
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

# An image and the content that it shows; or its frames.
Made = Iterator[tuple[Image.Image | list[Image.Image], str, str]]


class Material:
    """What sets are made of: random numbers, photos, fonts and words, all by one seed."""

    def __init__(self, photos: list[Path], seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self._photos = [photos[place] for place in self.rng.permutation(len(photos))]
        names = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf", "STIXGeneral.ttf")
        self._font = names[seed % len(names)]
        letters = list("abcdefghijklmnopqrstuvwxyz")
        self._words = ["".join(self.rng.choice(letters, n)) for n in self.rng.integers(2, 10, 600)]

    def photo(self, place: int) -> Image.Image:
        return Image.open(self._photos[place % len(self._photos)]).convert("RGB")

    def font(self, size: int) -> ImageFont.FreeTypeFont:
        import matplotlib

        folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
        return ImageFont.truetype(str(folder / self._font), size)

    def words(self, number: int) -> str:
        return " ".join(self.rng.choice(self._words, number))

    def color(self, low: int = 0, high: int = 255) -> tuple[int, ...]:
        return tuple(self.rng.integers(low, high, 3).tolist())

    def noise(self, image: Image.Image, deviation: float, gain: float = 1.0) -> Image.Image:
        pixels = np.asarray(image).astype(float) * gain
        pixels += self.rng.normal(0, deviation, pixels.shape)
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))

    def scan(self, image: Image.Image, blur: float = 0.0) -> Image.Image:
        """The page again: a little turned, noisy, perhaps blurred."""
        angle = self.rng.normal() * 0.5
        turned = image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=245)
        return self.noise(turned.filter(ImageFilter.GaussianBlur(blur)), 6)


def screens(of: Material) -> Made:
    """Screenshots of 15 layouts, each four times with other words."""
    for layout in range(15):
        ground, bar, ink = of.color(200, 255), of.color(30, 160), of.color(0, 80)
        blocks = of.rng.integers([40, 70, 6, 2], [500, 560, 14, 6], (6, 4)).tolist()
        font, head = of.font(int(of.rng.integers(11, 16))), of.font(18)
        for copy in range(4):
            image = Image.new("RGB", (960, 640), ground)
            draw = ImageDraw.Draw(image)
            draw.rectangle([0, 0, 960, 44], fill=bar)
            draw.text((16, 10), of.words(2), font=head, fill="white")
            for x, y, width, lines in blocks:
                for line in range(lines):
                    draw.text((x, y + 20 * line), of.words(width // 2), font=font, fill=ink)
            yield image, f"{layout}-{copy}", "png"


def forms(of: Material) -> Made:
    """One form, filled in 40 times, five of them scanned twice."""
    font, big = of.font(14), of.font(20)
    for number in range(40):
        image = Image.new("L", (620, 877), 250)
        draw = ImageDraw.Draw(image)
        draw.text((200, 40), "INVOICE", font=big, fill=0)
        for k in range(10):
            draw.rectangle([50, 100 + 70 * k, 570, 150 + 70 * k], outline=60)
            draw.text((55, 102 + 70 * k), f"Field {k}", font=font, fill=80)
            value = f"{of.rng.integers(10_000, 99_999)}" if number % 2 else of.words(3)
            draw.text((160, 115 + 70 * k), value, font=big, fill=10)
        for _ in range(2 if number < 5 else 1):
            yield of.scan(image), str(number), "jpg"


def chats(of: Material) -> Made:
    """Screens of a chat: bubbles at the same places with other words."""
    font = of.font(15)
    places = [(20 + 160 * (k % 2), 60 + 84 * k, int(of.rng.integers(150, 210))) for k in range(7)]
    for number in range(60):
        image = Image.new("RGB", (390, 700), (236, 229, 221))
        draw = ImageDraw.Draw(image)
        draw.rectangle([0, 0, 390, 44], fill=(7, 94, 84))
        draw.text((50, 12), of.words(1), font=font, fill="white")
        for k, (x, y, width) in enumerate(places):
            fill = (220, 248, 198) if k % 2 else (255, 255, 255)
            draw.rounded_rectangle([x, y, x + width, y + 62], 10, fill=fill)
            for line in range(3):
                text = of.words(2)[: width // 9]
                draw.text((x + 8, y + 5 + 18 * line), text, font=font, fill=(20, 20, 20))
        yield image, str(number), "png"


def captions(of: Material) -> Made:
    """Photos, each four times under another caption."""
    for number in range(15):
        photo = ImageOps.fit(of.photo(number), (480, 400))
        for copy in range(4):
            image = photo.copy()
            for y in (12, 340):
                ImageDraw.Draw(image).text(
                    (20, y), of.words(3).upper()[:26], font=of.font(28), fill="white",
                    stroke_width=2, stroke_fill="black",
                )  # fmt: skip
            yield image, f"{number}-{copy}", "jpg"


SHIRT = [(120, 90), (160, 70), (240, 70), (280, 90), (340, 140), (310, 190), (280, 165),
         (280, 340), (120, 340), (120, 165), (90, 190), (60, 140)]  # fmt: skip


def shirts(of: Material) -> Made:
    """Shirts of one cut in other colors, half of them with other letters, a little moved."""
    for number in range(40):
        color = of.color()
        x, y = of.rng.integers(-6, 6, 2)
        image = Image.new("RGB", (400, 400), "white")
        draw = ImageDraw.Draw(image)
        draw.polygon([(a + x, b + y) for a, b in SHIRT], fill=color, outline=(60, 60, 60))
        if number % 2:
            ink = "white" if sum(color) < 380 else "black"
            text = of.words(1)[:4].upper()
            draw.text((150 + x, 180 + y), text, font=of.font(26), fill=ink)
        yield image, str(number), "jpg"


def bottles(of: Material) -> Made:
    """Bottles of one shape with other labels; half of them differ in the letters alone."""
    for number in range(40):
        paper = of.color(120, 255) if number % 2 else (235, 225, 190)
        image = Image.new("RGB", (300, 500), "white")
        draw = ImageDraw.Draw(image)
        draw.rounded_rectangle([100, 150, 200, 460], 25, fill=(30, 80, 40))
        draw.rectangle([130, 60, 170, 160], fill=(30, 80, 40))
        draw.rectangle([128, 40, 172, 75], fill=(150, 20, 20))
        draw.rectangle([100, 240, 200, 380], fill=paper)
        draw.text((108, 290), of.words(1)[:5].upper(), font=of.font(24), fill="black")
        yield image, str(number), "jpg"


def hues(of: Material) -> Made:
    """Photos, and the same in other hues: another color of things is another thing."""
    for number in range(30):
        photo = of.photo(number)
        yield photo, f"{number}", "jpg"
        if np.ptp(np.asarray(photo), axis=2).mean() < 12:  # gray in every hue
            continue
        hue, saturation, value = photo.convert("HSV").split()
        turn = int(of.rng.choice([64, 96, 128, 160]))
        hue = hue.point(lambda level, turn=turn: (level + turn) % 256)
        yield Image.merge("HSV", (hue, saturation, value)).convert("RGB"), f"{number}-hue", "jpg"


def rescans(of: Material) -> Made:
    """Pages of text, 20 of 60 scanned twice."""
    font = of.font(14)
    for number in range(60):
        image = Image.new("L", (620, 877), 250)
        draw = ImageDraw.Draw(image)
        for line in range(38):
            draw.text((50, 60 + 20 * line), of.words(9)[:62], font=font, fill=20)
        for scanned in range(2 if number < 20 else 1):
            yield of.scan(image, 0.8 * scanned), str(number), "jpg"


def turned(of: Material) -> Made:
    """Photos, half of them also turned by an angle between 15 and 75 degrees."""
    for number in range(60):
        photo = of.photo(number)
        yield photo, str(number), "jpg"
        if number < 30:
            angle = 30 if number % 2 else float(of.rng.uniform(15, 75))
            yield photo.rotate(angle, Image.Resampling.BICUBIC, number % 4 == 0), str(number), "jpg"


def cameras(of: Material) -> Made:
    """Two fixed cameras before which small things move, and events that fill the image."""
    for camera in range(2):
        ground = ImageOps.fit(of.photo(60 + camera), (480, 360))
        things = [ImageOps.fit(of.photo(70 + 4 * camera + k), (48, 48)) for k in range(3)]
        for frame in range(87):
            image, content = ground.copy(), str(camera)
            for thing in things[: of.rng.integers(0, 4)]:
                image.paste(thing, tuple(of.rng.integers(20, 300, 2).tolist()))
            if frame >= 83:
                content = f"{camera}-{frame}"
                event = ImageOps.fit(of.photo(100 + 10 * camera + frame), (220, 260))
                image.paste(event, (int(of.rng.integers(0, 200)), 60))
            yield of.noise(image, 3), content, "jpg"


def bursts(of: Material) -> Made:
    """Bursts of six frames from a hand that shakes, under light that flickers."""
    for number in range(20):
        photo = of.photo(number)
        width, height = photo.size
        for _ in range(6):
            frame = photo.rotate(of.rng.normal() * 0.7, Image.Resampling.BICUBIC)
            x, y = (0.05 + of.rng.normal(0, 0.015, 2)).clip(0, 0.1) * photo.size
            frame = frame.crop((int(x), int(y), int(x + 0.9 * width), int(y + 0.9 * height)))
            yield of.noise(frame, 4, of.rng.normal(1, 0.03)), str(number), "jpg"


def tiles(of: Material) -> Made:
    """Tiles of one large aerial image that share nothing."""
    side = 1280
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(side)] * 2)) + 1 / side
    spectrum = np.fft.fft2(of.rng.standard_normal((side, side))) / frequency**1.3
    land = np.real(np.fft.ifft2(spectrum))
    land = (land - land.mean()) / land.std() * 30
    image = np.stack([land + 90, land * 0.8 + 110, land * 0.5 + 70], axis=-1)
    y, x = np.mgrid[:side, :side]
    for _ in range(60):
        left, top = of.rng.integers(0, side - 200, 2)
        width, height = of.rng.integers(80, 220, 2)
        angle = of.rng.uniform(0, 3.14)
        rows = 10 * np.sin((x * np.cos(angle) + y * np.sin(angle)) / 3)
        part = np.s_[top : top + height, left : left + width]
        image[part] = np.array(of.color(60, 180)) + rows[part][..., None]
    image = Image.fromarray(image.clip(0, 255).astype(np.uint8))
    for number in range(100):
        left, top = 128 * (number % 10), 128 * (number // 10)
        yield image.crop((left, top, left + 128, top + 128)), str(number), "png"


def transparent(of: Material) -> Made:
    """White drawings on a transparent ground."""
    for number in range(60):
        image = Image.new("RGBA", (96, 96), (255, 255, 255, 0))
        draw = ImageDraw.Draw(image)
        for _ in range(3):
            x, y, side = of.rng.integers([5, 5, 15], [60, 60, 35]).tolist()
            shape = draw.ellipse if of.rng.random() < 0.5 else draw.rectangle
            shape([x, y, x + side, y + side], outline="white", width=4)
        yield image, str(number), "png"


def deep(of: Material) -> Made:
    """Cells in 16-bit images with values to 110, and to 3000."""
    y, x = np.mgrid[:128, :128]
    for number in range(60):
        values = np.zeros((128, 128))
        for left, top, size in of.rng.integers([0, 0, 4], [128, 128, 14], (12, 3)):
            values += np.exp(-((x - left) ** 2 + (y - top) ** 2) / (2.0 * size**2))
        values = values / values.max() * (110 if number % 2 else 3000)
        values += of.rng.integers(0, 3, values.shape)
        yield Image.fromarray(values.astype(np.uint16)), str(number), "png"


def animated(of: Material) -> Made:
    """Animations and documents of several pages that begin with the same frame."""
    first = Image.new("RGB", (128, 96), "black")
    ImageDraw.Draw(first).text((20, 40), "loading", font=of.font(16), fill="white")
    for number in range(40):
        cells = of.rng.integers(0, 255, (3, 6, 6, 3), np.uint8)
        frames = [Image.fromarray(c).resize((128, 96), Image.Resampling.BICUBIC) for c in cells]
        yield [first, *frames], str(number), ("gif", "webp", "png", "tif")[number % 4]


def receipts(of: Material) -> Made:
    """Receipts of one shop: other goods, or one digit of one sum; ten are scanned twice."""
    font = of.font(15)
    goods = [of.words(2) for _ in range(12)]
    for number in range(20):
        prices = [f"{price / 100:8.2f}" for price in of.rng.integers(100, 9999, 12)]
        for other in range(2):
            if other:  # in one digit
                line, place = int(of.rng.integers(12)), int(of.rng.choice([4, 6, 7]))
                price = list(prices[line])
                price[place] = of.rng.choice([one for one in "0123456789" if one != price[place]])
                prices[line] = "".join(price)
            image = Image.new("L", (420, 560), 248)
            draw = ImageDraw.Draw(image)
            draw.text((120, 30), "CORNER SHOP", font=of.font(20), fill=10)
            for row, (name, price) in enumerate(zip(goods, prices)):
                draw.text((40, 90 + 32 * row), name[:16], font=font, fill=20)
                draw.text((280, 90 + 32 * row), price, font=font, fill=20)
            for _ in range(2 if number < 10 and not other else 1):
                yield of.scan(image), f"{number}-{other}", "jpg"


def signs(of: Material) -> Made:
    """Road signs with other numbers before one view, half of them on a plain ground."""
    view = ImageOps.fit(of.photo(3), (400, 400))
    for number in range(30):
        image = view.copy() if number % 2 else Image.new("RGB", (400, 400), (170, 200, 230))
        draw = ImageDraw.Draw(image)
        draw.rectangle([194, 300, 206, 400], fill=(120, 120, 120))
        draw.ellipse([90, 90, 310, 310], fill=(200, 20, 30))
        draw.ellipse([118, 118, 282, 282], fill="white")
        text = str(10 + number // 2 * 5)
        draw.text((200, 200), text, font=of.font(90), fill="black", anchor="mm")
        yield of.noise(image, 3), str(number), "jpg"


def covers(of: Material) -> Made:
    """Books of one series: one layout and drawing, other titles and authors."""
    top, bottom = of.color(60, 200), of.color(60, 200)
    photo = ImageOps.fit(of.photo(5), (300, 200))
    for number in range(30):
        image = Image.new("RGB", (400, 600), top)
        draw = ImageDraw.Draw(image)
        draw.rectangle([0, 400, 400, 600], fill=bottom)
        image.paste(photo, (50, 180))
        draw.text((50, 50), of.words(2)[:18].title(), font=of.font(36), fill="white")
        draw.text((50, 110), of.words(3)[:26].title(), font=of.font(22), fill="white")
        draw.text((50, 520), of.words(2)[:18].upper(), font=of.font(26), fill="white")
        yield image, str(number), "jpg"


def plots(of: Material) -> Made:
    """Plots with the same axes and other curves."""
    for number in range(30):
        image = Image.new("RGB", (480, 360), "white")
        draw = ImageDraw.Draw(image)
        draw.rectangle([60, 30, 440, 310], outline="black", width=2)
        for k in range(6):
            draw.text((30, 300 - 54 * k), str(20 * k), font=of.font(13), fill="black")
            draw.text((60 + 74 * k, 318), str(k), font=of.font(13), fill="black")
        for color in ("#1f77b4", "#ff7f0e")[: 1 + number % 2]:
            steps = of.rng.normal(0, 12, 60).cumsum()
            y = (170 + steps - steps.mean()).clip(40, 300)
            draw.line([*zip(np.linspace(62, 438, 60), y)], fill=color, width=2)
        yield image, str(number), "png"


def plates(of: Material) -> Made:
    """One car, drawn on a photo, with other license plates; each is photographed twice."""
    view = ImageOps.fit(of.photo(8), (640, 480))
    signs, digits = list("ABCDEFGHKLMNPRSTUVWXYZ"), list("0123456789")
    for number in range(20):
        image = view.copy()
        draw = ImageDraw.Draw(image)
        draw.rectangle([200, 330, 440, 400], fill=(245, 245, 240), outline="black", width=3)
        text = "".join([*of.rng.choice(signs, 2), " ", *of.rng.choice(digits, 4)])
        draw.text((320, 365), text, font=of.font(44), fill="black", anchor="mm")
        for _ in range(2):
            again = image.rotate(of.rng.normal() * 0.4, Image.Resampling.BICUBIC)
            yield of.noise(again.crop((8, 8, 632, 472)), 4), str(number), "jpg"


def packages(of: Material) -> Made:
    """Packages of one brand in other flavors: a band of another color, and another word."""
    for number in range(30):
        image = Image.new("RGB", (400, 500), (250, 250, 250))
        draw = ImageDraw.Draw(image)
        draw.rectangle([70, 40, 330, 460], fill=(240, 220, 60), outline=(90, 80, 20), width=3)
        draw.text((200, 110), "BRAND", font=of.font(48), fill=(160, 20, 20), anchor="mm")
        draw.ellipse([130, 160, 270, 300], fill=(255, 250, 230))
        draw.rectangle([70, 330, 330, 390], fill=of.color(40, 230))
        draw.text((200, 360), of.words(1)[:9].title(), font=of.font(30), fill="white", anchor="mm")
        draw.text((200, 430), f"{of.rng.integers(1, 9)}00 g", font=of.font(18), fill=0, anchor="mm")
        yield of.noise(image, 2), str(number), "jpg"


def edits(of: Material) -> Made:
    """Photos and one copy of each, changed in one of twelve ways, beside other photos."""
    changes = [change for _, change in CHANGES]
    for number in range(72):
        photo = of.photo(number)
        yield photo, str(number), "jpg"
        if number < 48:
            yield changes[number % len(changes)](of, photo), str(number), "jpg"


def _crop(share: float) -> Callable[[Material, Image.Image], Image.Image]:
    def crop(_: Material, image: Image.Image) -> Image.Image:
        width, height = image.size
        margin = (1 - share) / 2
        return image.crop(
            (int(margin * width), int(margin * height), int((1 - margin) * width),
             int((1 - margin) * height))
        )  # fmt: skip

    return crop


def _watermark(of: Material, image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    layer = Image.new("RGBA", image.size)
    size = max(image.height // 12, 12)
    place = (image.width // 10, image.height // 2)
    ImageDraw.Draw(layer).text(place, "sample photo", font=of.font(size), fill=(255,) * 3 + (150,))
    return Image.alpha_composite(image, layer).convert("RGB")


CHANGES: list[tuple[str, Callable[[Material, Image.Image], Image.Image]]] = [
    ("half", lambda _, image: image.resize((image.width // 2, image.height // 2))),
    ("crop 90 %", _crop(0.9)),
    ("crop 75 %", _crop(0.75)),
    ("bright", lambda _, image: image.point(lambda level: level * 1.3)),
    ("contrast", lambda _, image: image.point(lambda level: 128 + 0.7 * (level - 128))),
    ("blur", lambda _, image: image.filter(ImageFilter.GaussianBlur(max(image.size) / 200))),
    ("mirror", lambda _, image: ImageOps.mirror(image)),
    ("turned by 5", lambda _, image: image.rotate(5, Image.Resampling.BICUBIC)),
    ("gray", lambda _, image: image.convert("L")),
    ("watermark", _watermark),
    ("noise", lambda of, image: of.noise(image, 12)),
    ("saturated", lambda _, image: Image.blend(image.convert("L").convert("RGB"), image, 1.8)),
]

SETS = {
    make.__name__: make
    for make in (screens, forms, chats, captions, shirts, bottles, receipts, signs, covers, plots,
                 plates, packages, hues, rescans, turned, cameras, bursts, tiles, transparent, deep,
                 animated, edits)
}  # fmt: skip


def write_set(name: str, folder: Path, photos: list[Path], seed: int) -> list[tuple[str, str]]:
    """Makes a set: files, and the content that each shows."""
    files = []
    for number, (image, content, suffix) in enumerate(SETS[name](Material(photos, seed))):
        path = folder / f"{name}-{number:03}.{suffix}"
        if isinstance(image, list):
            image[0].save(path, save_all=True, append_images=image[1:])
        else:
            image.save(path, **({"quality": 85} if suffix == "jpg" else {}))
        files.append((str(path), content))
    return files


@functools.cache
def _model():
    from fiftyone_embedding_quality.embedding.registry import load_model

    return load_model("cnn")


def embeddings_of(files: list[str]) -> np.ndarray:
    """Unit embeddings of ``cnn``: (num_files, dim)."""
    from fiftyone_embedding_quality.embedding.pipeline import embed_images
    from fiftyone_embedding_quality.storage.target import Item

    items = [Item(file, file, (file,), None) for file in files]
    vectors: dict[str, np.ndarray] = {}
    for batch in embed_images(_model(), items):
        vectors |= batch.vectors
    return unit_rows(np.stack([vectors[file] for file in files])).rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=SETS)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    options = parser.parse_args()
    photos = sorted((options.data / "coco128" / "data").glob("*.jpg"))
    print_row("set", "seed", "files", "wrong pairs", "redundant", "found", "of")
    all_wrong = 0
    for name in options.sets:
        for seed in options.seeds:
            wrong, *facts = measured(name, photos, seed)
            all_wrong += wrong
            print_row(name, seed, facts[0], wrong, *facts[1:])
    print_row("wrong pairs in all", all_wrong)


def measured(name: str, photos: list[Path], seed: int) -> tuple[int, int, int, int, int]:
    """Wrong pairs; files; redundant ones; those found with one of their content, and to find."""
    from duplicates import found_in, grouped_pairs
    from fiftyone_embedding_quality.pictures.small_images import ImageOrPatch

    with tempfile.TemporaryDirectory() as folder:
        files = write_set(name, Path(folder), photos, seed)
        paths, contents = map(list, zip(*files))
        rows = embeddings_of(paths)
        found = found_in([ImageOrPatch(path) for path in paths], rows, neighbor_graph(rows))
    pairs = grouped_pairs(found.group)
    wrong = sum(contents[one] != contents[other] for one, other in pairs)
    shown = Counter(contents)
    right = {row for pair in pairs if contents[pair[0]] == contents[pair[1]] for row in pair}
    several = sum(shown[content] > 1 for content in contents)
    return wrong, len(files), int((~found.keep).sum()), len(right), several


if __name__ == "__main__":
    main()
