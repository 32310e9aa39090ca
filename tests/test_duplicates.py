"""Duplicates: what was copied or changed is found, what only looks similar is not."""

import csv
import functools
import shutil
import subprocess
import sys
import time
from itertools import combinations

import cv2
import numpy as np
import pytest
from fiftyone_embedding_quality.analysis import duplicate_evidence
from fiftyone_embedding_quality.analysis.duplicate_candidates import near_candidates
from fiftyone_embedding_quality.analysis.duplicate_evidence import chance_agreement
from fiftyone_embedding_quality.analysis.duplicate_groups import (
    find_conflicts,
    find_leaks,
    group_duplicates,
    keep_order,
)
from fiftyone_embedding_quality.analysis.duplicates import find_duplicates
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.analysis.vectors import unit_rows
from fiftyone_embedding_quality.checks.duplicates import changes_from_kept
from fiftyone_embedding_quality.pictures import file_copies, small_images
from fiftyone_embedding_quality.pictures.file_copies import exact_copies
from fiftyone_embedding_quality.pictures.images import load_image
from fiftyone_embedding_quality.pictures.small_images import (
    ImageOrPatch,
    SmallImages,
    read_small_images,
)
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps


def duplicates_of(images, rows=None, graph=None, **arguments):
    """What is found in files: they are read first, as the analysis opens none."""
    small = read_small_images(images)
    return find_duplicates(small, exact_copies(small), rows, graph, **arguments)


@functools.cache
def photo(seed, size=(240, 180)):
    """Smooth noise of several scales in three channels: detail everywhere, as in a photo."""
    rng = np.random.default_rng(seed)
    image = np.zeros((size[1], size[0], 3))
    for cells in (4, 8, 16, 32):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        image += np.asarray(noise.resize(size, Image.Resampling.BICUBIC), float)
    image -= image.min()
    return Image.fromarray((image / image.max() * 255).astype(np.uint8))


def crop(image, left, top, right, bottom):
    width, height = image.size
    return image.crop((left * width, top * height, right * width, bottom * height))


CHANGES = {
    "mirror": ImageOps.mirror,
    "rotation": lambda image: image.rotate(90, expand=True),
    "crop": lambda image: crop(image, 0.2, 0.1, 0.9, 0.8),
    "rescale": lambda image: image.resize((120, 90)),
    "gray": lambda image: image.convert("L"),
    "tone": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
    "blur": lambda image: image.filter(ImageFilter.GaussianBlur(4)),
    "recompression": lambda image: image,
}


class Collection:
    """Images in a folder, with vectors in which changes of one photo are neighbors."""

    def __init__(self, folder, num_strangers=40):
        self.folder = folder
        self.rng = np.random.default_rng(7)
        self.images, self.vectors = [], []
        self.origins = self.rng.standard_normal((200, 64))
        for seed in range(100, 100 + num_strangers):
            self.add(photo(seed), seed)

    def add(self, image, origin, name=None, **save):
        path = self.folder / (name or f"{len(self.images):03}.jpg")
        if image is not None:
            image.save(path, **({"quality": 90} | save if path.suffix == ".jpg" else save))
        self.images.append(ImageOrPatch(str(path)))
        self.vectors.append(self.origins[origin] + 0.4 * self.rng.standard_normal(64))
        return len(self.images) - 1

    def find(self, order=None, **arguments):
        order = np.arange(len(self.images)) if order is None else order
        rows = unit_rows(np.array(self.vectors)[order]).rows
        images = [self.images[row] for row in order]
        return duplicates_of(images, rows, neighbor_graph(rows, 30), **arguments)


@pytest.fixture
def collection(tmp_path):
    return Collection(tmp_path)


def grouped_pairs(group):
    groups = {}
    for row, number in enumerate(group):
        if number >= 0:
            groups.setdefault(number, []).append(row)
    return {pair for rows in groups.values() for pair in combinations(rows, 2)}


def test_exact_copies_need_no_vectors(tmp_path):
    image = photo(1)
    image.save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes())
    Image.open(tmp_path / "a.jpg").save(tmp_path / "c.png")
    changed = np.array(Image.open(tmp_path / "a.jpg"))
    changed[0, 0] ^= 1
    Image.fromarray(changed).save(tmp_path / "d.png")
    (tmp_path / "e.jpg").write_bytes(b"no picture")
    (tmp_path / "f.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-900])
    photo(2).save(tmp_path / "g.png")
    names = ["a.jpg", "b.jpg", "c.png", "d.png", "e.jpg", "f.jpg", "g.png", "none.jpg"]
    found = duplicates_of([ImageOrPatch(str(tmp_path / name)) for name in names])
    assert found.group.tolist() == [0, 0, 0, -1, -1, -1, -1, -1]
    assert found.exact.tolist() == [True, True, True] + 5 * [False]
    assert set(found.evidence.kind) == {"copy", "same pixels"}
    assert {4, 5, 7} == set(found.skipped) and found.skipped[7] == "file not found"


def white_drawing(seed):
    """White on a transparent ground: over white, all look the same."""
    layers = np.full((48, 48, 4), 255, np.uint8)
    layers[..., 3] = np.asarray(photo(seed, (48, 48)).convert("L")) > 128
    return Image.fromarray(layers * np.array([1, 1, 1, 255], np.uint8))


def dim_numbers(seed):
    """Two 16-bit images that differ in their lowest bits, which 8 bits do not hold."""
    return Image.fromarray(257 * np.asarray(photo(9, (48, 48)).convert("L"), np.uint16) ^ seed)


def animation(seed):
    return [photo(9, (48, 48)), *(photo(10 * seed + frame, (48, 48)) for frame in range(3))]


@pytest.mark.parametrize(
    ("make", "suffixes"),
    [
        (white_drawing, ["png", "webp", "tif"]),
        (dim_numbers, ["png", "tif"]),
        (animation, ["png", "tif", "webp"]),
    ],
)
def test_exact_is_said_of_what_was_compared_in_full(make, suffixes, tmp_path):
    """Two contents, each once in every lossless container: copies of their own content alone."""
    images = []
    for suffix in suffixes:
        for seed in (0, 1):
            frames = make(seed) if make is animation else [make(seed)]
            path = tmp_path / f"{seed}.{suffix}"
            options = {"lossless": True, "exact": True} if suffix == "webp" else {}
            if len(frames) > 1:
                options |= {"save_all": True, "append_images": frames[1:]}
            frames[0].save(path, **options)
            images.append(ImageOrPatch(str(path)))
    found = duplicates_of(images)
    assert found.group.tolist() == [0, 1] * len(suffixes)
    assert set(found.evidence.kind) == {"same pixels"}


def test_files_that_differ_are_no_copies_of_bytes(tmp_path):
    """Padded to one length, with the same pixels: not the same bytes."""
    for name, comment in (("a", b"one"), ("b", b"two"), ("c", b"one")):
        photo(1).save(tmp_path / f"{name}.jpg", comment=comment)
    found = duplicates_of([ImageOrPatch(str(tmp_path / f"{name}.jpg")) for name in "abc"])
    kinds = dict(zip(map(tuple, found.evidence.pairs.tolist()), found.evidence.kind))
    assert kinds == {(0, 1): "same pixels", (0, 2): "copy"}


def test_deep_colors_are_compared_in_all_their_bits(tmp_path):
    colors = np.asarray(photo(3, (40, 30)), np.uint16) * 257
    for name, pixels in (("a.png", colors), ("b.png", colors ^ 1), ("c.tif", colors)):
        cv2.imwrite(str(tmp_path / name), pixels)
    found = duplicates_of(
        [ImageOrPatch(str(tmp_path / name)) for name in ("a.png", "b.png", "c.tif")]
    )
    assert found.exact.tolist() == [True, False, True]


@pytest.mark.parametrize("kind", CHANGES)
def test_changes_of_a_photo_are_found_and_named(kind, collection):
    pairs = {}
    for origin in range(4):
        image = photo(origin)
        first = collection.add(image, origin)
        quality = 30 if kind == "recompression" else 90
        pairs[first, collection.add(CHANGES[kind](image), origin, quality=quality)] = kind
    found = collection.find()
    assert grouped_pairs(found.group) == set(pairs)
    assert set(found.evidence.kind) == {kind}
    assert (found.evidence.agreement > found.threshold).all()


def test_alignment_starts_from_little_agreement(collection):
    """Of noise turned by eight degrees, which hardly agrees before, a quarter is aligned."""
    turned = set()
    for origin in range(20):
        image = photo(origin)
        first = collection.add(image, origin)
        turned.add((first, collection.add(image.rotate(8, Image.Resampling.BICUBIC), origin)))
    found = grouped_pairs(collection.find().group)
    assert found <= turned and len(found) >= 5


def test_images_decide_not_the_vectors(collection):
    """Different photos with nearly the same vector are no duplicates."""
    for seed in range(10):
        collection.add(photo(seed), 0)
    assert (collection.find().group == -1).all()


def test_threshold_moves_what_is_believed(collection):
    image = photo(1)
    collection.add(image, 0)
    half = np.asarray(image) // 2 + np.asarray(photo(2)) // 3
    collection.add(Image.fromarray(half.astype(np.uint8)), 0)
    assert (collection.find(threshold=0.5).group >= 0).sum() == 2
    assert (collection.find(threshold=0.97).group >= 0).sum() == 0


def test_frames_do_not_chain(collection):
    """A camera that moves on: each frame is like the next one, the first is not like the last."""
    scene = photo(3, (1200, 180))
    frames = [
        collection.add(scene.crop((30 * step, 0, 30 * step + 240, 180)), 0) for step in range(24)
    ]
    found = collection.find()
    assert (found.group[frames] >= 0).sum() > 12
    assert len(np.unique(found.group[frames])) >= 4
    links = set(map(tuple, found.evidence.pairs.tolist()))
    for number in np.unique(found.group[found.group >= 0]):
        members = np.flatnonzero(found.group == number)
        (kept,) = members[found.keep[members]]
        assert all((min(kept, m), max(kept, m)) in links for m in members if m != kept)


def test_order_of_rows_does_not_matter(collection):
    for origin in range(6):
        image = photo(origin)
        for change in list(CHANGES.values())[: origin + 2]:
            collection.add(change(image), origin)
        collection.add(image, origin, f"copy-{origin}.png")
        collection.add(image, origin, f"again-{origin}.png")
    order = np.random.default_rng(3).permutation(len(collection.images))
    found, shuffled = collection.find(), collection.find(order)
    back = np.argsort(order)
    assert grouped_pairs(shuffled.group[back]) == grouped_pairs(found.group)
    np.testing.assert_array_equal(shuffled.keep[back], found.keep)
    np.testing.assert_array_equal(shuffled.exact[back], found.exact)
    assert shuffled.threshold == found.threshold
    assert len(grouped_pairs(found.group)) > 50


def test_the_best_image_is_kept(tmp_path):
    image = photo(0, (320, 240))
    image.save(tmp_path / "large.jpg", quality=40)
    image.save(tmp_path / "larger-file.jpg", quality=95)
    image.resize((160, 120)).save(tmp_path / "small.png")
    names = ("large.jpg", "larger-file.jpg", "small.png")
    images = [ImageOrPatch(str(tmp_path / name)) for name in names]
    small = read_small_images(images)
    assert keep_order(small).tolist() == [1, 0, 2]
    assert keep_order(small, np.array([0, -1, 0])).tolist() == [0, 2, 1]
    labels, splits = np.array([0, 0, -1]), ["train", "val", "test"]
    assert keep_order(small, labels, splits).tolist() == [2, 1, 0]


def test_leaks_and_conflicts(collection):
    splits, labels = ["train"] * 40, [0] * 40
    for origin, members in enumerate([("train", "test"), ("train", "test", "val"), ("val", "val")]):
        for number, split in enumerate(members):
            collection.add(photo(origin), origin, quality=80 - 20 * number)
            splits.append(split)
            labels.append(number if origin == 2 else -1 if number else 5)
    found = collection.find(splits=splits, labels=np.array(labels))
    assert found.leaks == {("test", "train"): 2, ("test", "val"): 1, ("train", "val"): 1}
    assert next(iter(found.leaks)) == ("test", "train")
    assert found.leaking.tolist() == [0, 1] and found.conflicts.tolist() == [2]
    kept = [splits[row] for row in np.flatnonzero(found.keep & (found.group >= 0))]
    assert kept == ["test", "test", "val"]
    assert find_leaks(found.group, None)[0] == {}
    assert find_conflicts(found.group, None).size == 0


def test_without_images_only_overwhelming_vectors_count(collection):
    for origin in range(4):
        rows = [collection.add(None, origin, f"missing-{origin}-{i}.jpg") for i in range(2)]
        collection.vectors[rows[1]] = collection.vectors[rows[0]] + 0.02 * origin
    collection.vectors[-1] = collection.vectors[-2] + 0.8 * collection.rng.standard_normal(64)
    found = collection.find()
    assert found.group[40:].tolist() == [0, 0, 1, 1, 2, 2, -1, -1]
    assert set(found.evidence.kind) == {"embedding"} and np.isnan(found.evidence.agreement).all()
    assert len(found.skipped) == 8


def test_objects(tmp_path):
    """One object boxed twice, and the objects of a photo that is there twice."""
    image = photo(0, (480, 360))
    image.save(tmp_path / "a.jpg", quality=90)
    image.save(tmp_path / "b.jpg", quality=60)
    boxes = [(0.1, 0.1, 0.3, 0.4), (0.5, 0.4, 0.4, 0.5), (0.55, 0.5, 0.15, 0.2)]
    images = [
        ImageOrPatch(str(tmp_path / name), box) for name in ("a.jpg", "b.jpg") for box in boxes
    ]
    images.append(ImageOrPatch(str(tmp_path / "a.jpg"), (0.11, 0.1, 0.3, 0.4)))
    vectors = np.random.default_rng(0).standard_normal((3, 32))[[0, 1, 2, 0, 1, 2, 0]]
    rows = unit_rows(vectors + 0.1 * np.random.default_rng(1).standard_normal((7, 32))).rows
    found = duplicates_of(images, rows, neighbor_graph(rows, 30))
    assert found.group.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert "box" in found.evidence.kind
    # Labeled differently, boxes must coincide.
    images[-1] = ImageOrPatch(images[-1].path, (0.13, 0.1, 0.3, 0.4))
    only_a = [images[0], images[-1]]
    assert (duplicates_of(only_a).group == 0).all()
    assert (duplicates_of(only_a, labels=np.array([0, 1])).group == -1).all()


def test_objects_without_a_box_are_no_duplicates(tmp_path):
    photo(0).save(tmp_path / "a.jpg")
    boxes = [(), (), (0, 0, 1, 1), (), (0, 0, 1, 0.99)]
    found = duplicates_of([ImageOrPatch(str(tmp_path / "a.jpg"), box) for box in boxes])
    assert found.group.tolist() == [-1, -1, 0, -1, 0]
    assert set(found.skipped) == {0, 1, 3}


def test_each_file_is_decoded_once_in_any_order(tmp_path, monkeypatch):
    files = [str(tmp_path / name) for name in ("a.png", "b.png")]
    for seed, path in enumerate(files):
        photo(seed).save(path)
    boxes = [(0, 0, 0.5, 0.5), (0.5, 0, 0.5, 1), (0, 0, 2, 2)]
    images = [ImageOrPatch(path, box) for box in boxes for path in files]
    images += [ImageOrPatch(str(tmp_path / "gone.png"), boxes[0])] * 2
    alone = [read_small_images([image]) for image in images]
    decoded = []
    monkeypatch.setattr(
        small_images,
        "load_image",
        lambda path, **side: decoded.append(path) or load_image(path, **side),
    )
    together = read_small_images(images)
    assert sorted(decoded) == [*files, images[-1].path]
    for row, one in enumerate(alone):
        np.testing.assert_array_equal(together.gray[row], one.gray[0])
        assert together.num_pixels[row] == one.num_pixels[0]
        assert together.num_bytes[row] == one.num_bytes[0]
    assert together.reasons == {6: "file not found", 7: "file not found"}


class CountedImages(np.ndarray):
    """Counts the images that are read from it."""

    read = 0

    def __getitem__(self, place):
        found = np.asarray(super().__getitem__(place))
        CountedImages.read += len(found) if found.ndim == 3 else 1
        return found


@pytest.mark.parametrize("num_pixels", [784, 12_000_000])
def test_images_of_one_size_are_not_compared_each_with_each(num_pixels, monkeypatch):
    """Drawings of about the same mean gray; large ones may have been decoded at a fraction."""
    rng = np.random.default_rng(0)
    gray = np.kron(rng.integers(0, 2, (1000, 8, 8), np.uint8), np.ones((1, 8, 8), np.uint8)) * 200
    gray[501], gray[7] = gray[20], gray[20]
    monkeypatch.setattr(CountedImages, "read", 0)
    ones = np.ones(1000, np.int64)
    small = SmallImages([], gray.view(CountedImages), ones, num_pixels * ones, ones, {})
    sets = [sorted(rows) for rows in file_copies._alike(small, list(range(1000)))]
    assert [rows for rows in sets if len(rows) > 1] == [[7, 20, 501]]
    assert CountedImages.read < 3000


def test_large_images_that_are_nearly_equal_are_linked():
    """The third is like both others, which are not like each other: only the files can tell."""
    gray = np.full((4, 64, 64), 100, np.uint8)
    gray[0, :16, :16] -= 4
    gray[1, :16, :16] += 2
    gray[1, 32:48, :16] -= 3
    gray[3] += 30
    assert sorted(map(sorted, file_copies._nearly_equal(gray, np.arange(4)))) == [[0, 1, 2], [3]]


def test_groups_are_stars():
    """On random links: disjoint groups, one kept each, every member linked with it."""
    rng = np.random.default_rng(0)
    pairs = np.sort(rng.integers(0, 300, (400, 2)), axis=1)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    copies = np.full(300, -1)
    copies[rng.permutation(300)[:60]] = np.arange(60) // 3
    group, keep = group_duplicates(300, pairs, copies, rng.permutation(300))
    links = set(map(tuple, pairs.tolist())) | set(map(tuple, pairs[:, ::-1].tolist()))
    for number in range(group.max() + 1):
        members = np.flatnonzero(group == number)
        assert len(members) > 1 and keep[members].sum() == 1
        (kept,) = members[keep[members]]
        mine = np.flatnonzero(copies == copies[kept]) if copies[kept] >= 0 else [kept]
        for member in members:
            theirs = np.flatnonzero(copies == copies[member]) if copies[member] >= 0 else [member]
            assert kept in theirs or any((a, b) in links for a in mine for b in theirs)
    assert keep[group < 0].all()


def test_copies_take_no_candidate_places():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((60, 16))
    vectors[:10] = vectors[0]
    vectors[10] = vectors[0] + 0.1 * rng.standard_normal(16)
    copies = np.r_[np.zeros(10, int), np.full(50, -1)]
    found = near_candidates(neighbor_graph(vectors, 30), copies)
    assert [0, 10] in found.pairs.tolist()
    assert not np.isin(found.pairs, np.arange(1, 10)).any()
    assert (found.pairs[:, 0] < found.pairs[:, 1]).all()
    truth = unit_rows(vectors).rows[found.pairs[:, 0]] * unit_rows(vectors).rows[found.pairs[:, 1]]
    np.testing.assert_allclose(found.similarity, truth.sum(axis=1), atol=1e-5)


def test_similar_drawings_are_not_duplicates(digit_files):
    """Aligned with each other, digits agree far better than photos; the threshold follows."""
    files = [path for path, _ in digit_files]
    rows = unit_rows(np.stack([np.asarray(Image.open(path), float).ravel() for path in files])).rows
    found = duplicates_of([ImageOrPatch(path) for path in files], rows, neighbor_graph(rows, 30))
    assert found.threshold == 0.95
    assert (found.group >= 0).mean() < 0.05


def test_the_threshold_stays_when_files_move(digit_files, tmp_path, monkeypatch):
    """It is read off a part of the images: the same part wherever they lie, in any order."""
    monkeypatch.setattr(duplicate_evidence, "CHANCE_PAIRS", 60)
    monkeypatch.setattr(duplicate_evidence, "CHANCE_BOUNDS", (0, 1))
    rng = np.random.default_rng(0)
    files = [path for path, _ in digit_files]
    rows = unit_rows(np.stack([np.asarray(Image.open(path), float).ravel() for path in files])).rows
    thresholds = []
    for folder in "abc":
        (tmp_path / folder).mkdir()
        order = rng.permutation(len(files))
        moved = [tmp_path / folder / f"{name}.png" for name in range(len(files))]
        for row, path in zip(order, moved):
            shutil.copy(files[row], path)
        small = read_small_images([ImageOrPatch(str(path)) for path in moved])
        thresholds.append(chance_agreement(small, neighbor_graph(rows[order], 30)))
    assert thresholds == pytest.approx(thresholds[:1] * 3)


def test_wrong_arguments_are_named(tmp_path):
    images = [ImageOrPatch(str(tmp_path / "a.jpg"))] * 3
    rows = np.eye(3, dtype=np.float32)
    graph = neighbor_graph(rows, 2)
    for arguments, message in (
        ({"rows": rows[:2], "graph": graph}, "3 images, but 2 rows"),
        ({"rows": rows}, "come together"),
        ({"labels": np.zeros(2)}, "2 labels"),
        ({"threshold": 1.5}, "between 0 and 1"),
    ):
        with pytest.raises(ValueError, match=message):
            duplicates_of(images, **arguments)


@pytest.mark.parametrize("num_images", [0, 1, 2])
def test_hardly_any_images(num_images, tmp_path):
    photo(0).save(tmp_path / "a.jpg")
    images = [ImageOrPatch(str(tmp_path / "a.jpg"))] * num_images
    rows = np.ones((num_images, 4), np.float32) / 2
    seen = []
    found = duplicates_of(images, rows, neighbor_graph(rows, 30), progress=seen.append)
    assert found.group.tolist() == ([0, 0] if num_images == 2 else [-1] * num_images)
    assert seen == sorted(seen) and seen[-1] == 1.0


@pytest.mark.slow
def test_injected_duplicates_of_caltech101(shared):
    """Originals and changed copies, among other photos of their classes (a third of the set)."""
    root = shared / "data" / "caltech101"
    with open(root / "qa_samples.csv", newline="") as file:
        samples = list(csv.DictReader(file))
    stored = np.load(root / "embeddings_efficientnet_lite0.npz")
    place = {name: row for row, name in enumerate(stored["files"])}
    single = [sample for sample in samples if not sample["dup_group"]]
    samples = [sample for sample in samples if sample["dup_group"]] + single[::5]
    rows = unit_rows(stored["embeddings"][[place[sample["file"]] for sample in samples]]).rows
    images = [ImageOrPatch(str(root / sample["file"])) for sample in samples]
    found = duplicates_of(images, rows, neighbor_graph(rows, 30))
    groups = {}
    for row, sample in enumerate(samples):
        if sample["dup_group"]:
            groups.setdefault(sample["dup_group"], []).append(row)
    true = {tuple(rows) for rows in groups.values()}
    exact = {(a, b) for a, b in true if "exact_dup" in (samples[a]["issue"], samples[b]["issue"])}
    pairs = grouped_pairs(found.group)
    assert 2 * len(pairs & true) / (len(pairs) + len(true)) >= 0.94
    assert grouped_pairs(np.where(found.exact, found.group, -1)) == exact


def test_all_edits_of_one_photo_are_one_group(shared):
    """Eleven edits of a photo and its eight turns and mirrors, far apart by their vectors."""
    files = sorted(map(str, (shared / "data" / "dup_pdq").rglob("*.jpg")))
    vectors = np.random.default_rng(0).standard_normal(64)
    vectors = vectors + np.random.default_rng(1).standard_normal((len(files), 64))
    rows = unit_rows(vectors).rows
    found = duplicates_of([ImageOrPatch(path) for path in files], rows, neighbor_graph(rows, 30))
    assert len(files) == 20 and (found.group == 0).all()
    assert found.exact.sum() == 2 and found.keep.sum() == 1


def test_importing_the_module_is_light():
    heavy = "{'torch', 'numba', 'cv2', 'sklearn', 'scipy', 'fiftyone'}"
    code = (
        "import sys, fiftyone_embedding_quality.analysis.duplicates; "
        f"sys.exit(len({heavy} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def page(words, size=(480, 360), ink=(20, 20, 20), ground=(245, 240, 235)):
    """Words on a plain ground, under the same heading."""
    image = Image.new("RGB", size, ground)
    draw = ImageDraw.Draw(image)
    draw.rectangle([0, 0, size[0], 40], fill=(40, 60, 120))
    for line in range(9):
        draw.text((20, 60 + 32 * line), words(line), fill=ink, font=ImageFont.load_default(18))
    return image


def other_words(seed):
    rng = np.random.default_rng(seed)
    return lambda line: " ".join("".join(rng.choice(list("nopqrstuv"), 5)) for _ in range(6))


def other_digits(seed):
    return lambda line: f"Item {line}   {np.random.default_rng(seed + line).integers(10**6):07d}"


@pytest.mark.parametrize("words", [other_words, other_digits])
def test_other_words_are_other_content(words, collection):
    """Six pages of one layout; each was scanned a second time, brighter and compressed."""
    again = set()
    for seed in range(6):
        image = page(words(100 * seed))
        first = collection.add(image, 0)
        rescan = ImageEnhance.Brightness(image.rotate(0.4, Image.Resampling.BICUBIC)).enhance(0.9)
        again.add((first, collection.add(rescan, 0, quality=50)))
    found = grouped_pairs(collection.find().group)
    # Among twelve pages that an embedding does not tell apart, not every rescan is proposed.
    assert found <= again and len(found) >= 3


def test_other_colors_are_other_content(collection):
    """Turned in hue by half the circle; a gray and a more saturated version are the same photo."""
    same = set()
    for origin in range(4):
        image = photo(origin)
        first = collection.add(image, origin)
        hue, saturation, value = image.convert("HSV").split()
        turned = Image.merge(
            "HSV", (hue.point(lambda level: (level + 128) % 256), saturation, value)
        )
        collection.add(turned.convert("RGB"), origin)
        change = image.convert("L") if origin % 2 else ImageEnhance.Color(image).enhance(1.5)
        same.add((first, collection.add(change, origin)))
    assert grouped_pairs(collection.find().group) == same


def test_frames_that_follow_are_content(collection):
    """Animations with one first frame; one of them twice, in two lossless containers."""
    first = photo(1, (128, 96))
    for number in range(3):
        frames = [photo(50 + 3 * number + frame, (128, 96)) for frame in range(3)]
        saved = {"save_all": True, "append_images": frames}
        collection.add(first, 0, f"{number}.png", **saved)
    collection.add(first, 0, "again.webp", lossless=True, **saved)
    assert grouped_pairs(collection.find().group) == {(42, 43)}


@pytest.mark.parametrize("angle", [30, -50])
def test_a_photo_turned_by_any_angle(angle, collection):
    turned = set()
    for origin in range(4):
        first = collection.add(photo(origin), origin)
        image = photo(origin).rotate(angle, Image.Resampling.BICUBIC)
        turned.add((first, collection.add(image, origin)))
    found = collection.find()
    assert grouped_pairs(found.group) == turned
    assert set(found.evidence.kind) == {"rotation"}


def test_identical_files_by_the_thousand(tmp_path):
    """Linear, not cubic: 400 took a minute."""
    photo(1).save(tmp_path / "a.jpg")
    images = [ImageOrPatch(str(tmp_path / "a.jpg"))] * 5000
    started = time.process_time()
    found = duplicates_of(images)
    assert len(changes_from_kept(found)) == 4999
    assert time.process_time() - started < 20
