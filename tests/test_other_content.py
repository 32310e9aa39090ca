"""Near-duplicates differ in nothing that matters: sets by seeds that no constant was chosen on.

The sets are those of ``benchmarks/image_sets.py``, a few images of each; their photos are of the
development data where it is there.
"""

import importlib
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from fiftyone_embedding_quality.analysis.duplicate_looks import look_at_pairs
from fiftyone_embedding_quality.pictures.small_images import ImageOrPatch, read_small_images

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def image_sets():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield importlib.import_module("image_sets")
    sys.path.remove(str(ROOT / "benchmarks"))


def looked_at(made, first, number, folder):
    """Pairs of some images of a set, whether they show the same content, and what is seen."""
    files, contents = [], []
    for place, (image, content, suffix) in zip(range(first + number), made):
        if place >= first:
            files.append(folder / f"{place}.{suffix}")
            image.save(files[-1])
            contents.append(content)
    small = read_small_images([ImageOrPatch(str(file)) for file in files])
    pairs = np.array(list(combinations(range(number), 2)))
    same = [contents[one] == contents[other] for one, other in pairs]
    return same, look_at_pairs(small, pairs, np.arange(number)).same.tolist()


@pytest.mark.parametrize(
    ("name", "first", "number"),
    [
        ("screens", 0, 4),  # of one layout
        ("forms", 8, 4),  # the first two are one form, scanned twice
        ("receipts", 0, 3),  # scanned twice, then with one other digit
        ("shirts", 0, 4),
        ("bottles", 0, 4),
        ("plots", 0, 3),
        ("packages", 0, 3),
        ("rescans", 0, 4),  # two pages, each scanned twice
    ],
)
@pytest.mark.parametrize("seed", [101, 102])
def test_drawings_and_pages(name, first, number, seed, image_sets, tmp_path):
    made = image_sets.SETS[name](image_sets.Material([], seed))
    same, seen = looked_at(made, first, number, tmp_path)
    assert seen == same


@pytest.mark.parametrize(
    ("name", "first", "number"),
    [
        ("captions", 0, 4),  # on one photo
        ("signs", 4, 4),
        ("plates", 0, 4),  # two plates, each photographed twice
        ("hues", 0, 2),
        ("bursts", 0, 3),
        ("edits", 18, 2),  # with a watermark
    ],
)
def test_photos(name, first, number, image_sets, shared, tmp_path):
    photos = sorted((shared / "data" / "coco128" / "data").glob("*.jpg"))
    made = image_sets.SETS[name](image_sets.Material(photos, 103))
    same, seen = looked_at(made, first, number, tmp_path)
    assert seen == same
