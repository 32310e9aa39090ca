"""A database and a plugins folder of the tests' own, and the data that the tests share."""

import atexit
import csv
import functools
import importlib
import importlib.util
import os
import socket
import subprocess
import tempfile
import uuid
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

# FiftyOne reads its settings when it is imported, so they are made before anything imports it.
_home = tempfile.TemporaryDirectory(prefix="quality-tests-")
_plugins = Path(_home.name) / "plugins"
(_plugins / "@embedding").mkdir(parents=True)
(_plugins / "@embedding" / "quality").symlink_to(ROOT, target_is_directory=True)
os.environ |= {
    "FIFTYONE_DATABASE_NAME": f"quality-tests-{uuid.uuid4().hex[:8]}",
    "FIFTYONE_PLUGINS_DIR": str(_plugins),
    "FIFTYONE_DEFAULT_DATASET_DIR": str(Path(_home.name) / "datasets"),
    # Else FiftyOne reads the definitions of all plugins anew for each call and each click.
    "FIFTYONE_PLUGINS_CACHE_ENABLED": "true",
    "FIFTYONE_DO_NOT_TRACK": "true",
    "FIFTYONE_SHOW_PROGRESS_BARS": "false",
}
if not os.environ.get("FIFTYONE_DATABASE_URI"):
    os.environ["FIFTYONE_DATABASE_DIR"] = str(Path(_home.name) / "database")


def pytest_configure():
    """Starts one database server for all processes of the tests, unless there is one to use.

    FiftyOne's own is shared by all processes of a machine, and ends with the one that started it.
    """
    if os.environ.get("FIFTYONE_DATABASE_URI"):
        return  # the user's, or that of the process that has started this one
    # Found without importing fiftyone, which would start its own.
    package = importlib.util.find_spec("fiftyone")
    programs = list((Path(package.submodule_search_locations[0]) / "db" / "bin").glob("mongod*"))
    if not programs:
        return  # FiftyOne knows where another one is
    folder = Path(_home.name) / "mongod"
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    options = ["--dbpath", str(folder), "--port", port, "--bind_ip", "127.0.0.1", "--quiet"]
    log = open(folder / "log", "w")  # noqa: SIM115
    mongod = subprocess.Popen([str(programs[0]), *options], stdout=log)
    # Later than what FiftyOne does at the end, which else waits half a minute for the database.
    atexit.register(mongod.wait)
    atexit.register(mongod.kill)
    os.environ["FIFTYONE_DATABASE_URI"] = f"mongodb://127.0.0.1:{port}"


def pytest_collection_modifyitems(items):
    # Made by list_slow.py.
    slow = set(Path(__file__).with_name("slow.txt").read_text().split("\n"))
    for item in items:
        if "app" in item.fixturenames:
            item.add_marker("browser")
        if item.nodeid.partition("[")[0] in slow:
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def _database():
    import fiftyone as fo
    import fiftyone.core.odm as foo

    fo.list_datasets()  # starts the database, before a server of ours would start another
    yield
    foo.drop_database()


@pytest.fixture(scope="session")
def excerpt() -> Path:
    """Embeddings, labels and boxes of public sets, as ``tests/data/README.md`` describes."""
    return ROOT / "tests" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of development data; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs images of public sets in ../shared/data: see tests/data/README.md")
    return SHARED


@pytest.fixture
def dataset():
    """An empty dataset that is removed after the test."""
    import fiftyone as fo

    dataset = fo.Dataset(f"test-{uuid.uuid4().hex[:8]}")
    yield dataset
    dataset.delete()


@pytest.fixture(scope="session")
def digit_files(tmp_path_factory) -> list[tuple[str, str]]:
    """The first 200 of scikit-learn's digits as PNG files, with their labels."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    folder = tmp_path_factory.mktemp("digits")
    files = []
    for index in range(200):
        path = folder / f"{index:04}.png"
        Image.fromarray((digits.images[index] * 15.9).astype(np.uint8)).resize((48, 48)).save(path)
        files.append((str(path), str(digits.target[index])))
    return files


@pytest.fixture
def digits(dataset, digit_files):
    """A dataset of 20 labeled digits."""
    import fiftyone as fo

    dataset.add_samples(
        [
            fo.Sample(path, ground_truth=fo.Classification(label=label))
            for path, label in digit_files[:20]
        ]
    )
    return dataset


@pytest.fixture(scope="session")
def photo_tiles():
    """24 different photos of 160 x 142 pixels: tiles of the two that scikit-learn carries."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    return [
        photo.crop((left, top, left + 160, top + 142))
        for photo in photos
        for left in range(0, 640, 160)
        for top in range(0, 426, 142)
    ]


@pytest.fixture(scope="session")
def edited_photos(photo_tiles, tmp_path_factory) -> dict[str, str]:
    """Files by name: 24 photos, some of them again as copies of every kind."""
    import shutil

    from PIL import ImageOps

    folder = tmp_path_factory.mktemp("photos")
    files = {f"photo-{index:02}": tile for index, tile in enumerate(photo_tiles)}
    files |= {
        "same-pixels": photo_tiles[1],
        "mirror": ImageOps.mirror(photo_tiles[2]),
        "half": photo_tiles[3].resize((80, 71)),
        "gray": photo_tiles[4].convert("L"),
        "crop": photo_tiles[5].crop((12, 10, 150, 132)),
    }
    paths = {}
    for name, image in files.items():
        paths[name] = str(folder / f"{name}.png")
        if name == "same-pixels":
            paths[name] = str(folder / f"{name}.bmp")
        image.save(paths[name])
    paths["copy"] = str(folder / "copy.png")
    shutil.copy(paths["photo-00"], paths["copy"])
    return paths


@pytest.fixture(scope="session")
def _photos(edited_photos, compute_embeddings):
    """The photos with vectors, once; tests work on clones."""
    import fiftyone as fo

    dataset = fo.Dataset(f"photos-{uuid.uuid4().hex[:8]}")
    dataset.add_samples(
        [
            fo.Sample(path, name=name, ground_truth=fo.Classification(label="photo"))
            for name, path in edited_photos.items()
        ]
    )
    compute_embeddings(dataset, model="cnn")
    return dataset


@pytest.fixture
def photos(_photos):
    """24 photos and 6 copies of the first of them, with vectors in ``cnn``."""
    dataset = _photos.clone()
    yield dataset
    dataset.delete()


@pytest.fixture(scope="session")
def compute_embeddings():
    """The operator. It loads ``cnn`` once for all tests: that takes seconds, computing 20 less."""
    import fiftyone.operators as foo

    operator = foo.get_operator("@embedding/quality/compute_embeddings")
    package = type(operator).__module__.partition(".operators")[0]
    module = importlib.import_module(f"{package}.embedding.registry")
    load, load_once = module.load_model, functools.cache(module.load_model)

    def load_model(name, weights=None, device=None):
        ours = (name, weights, device) == ("cnn", None, None)
        return load_once(name) if ours else load(name, weights, device)

    module.load_model = load_model
    yield operator
    module.load_model = load


@pytest.fixture(scope="session")
def cnn():
    """The model ``cnn``, loaded once."""
    from fiftyone_embedding_quality.embedding.registry import load_model

    return load_model("cnn")


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory) -> tuple[str, str]:
    """The name of a small open_clip architecture and a file with random weights of it."""
    import json

    import open_clip
    import torch

    folder = tmp_path_factory.mktemp("tiny-clip")
    tower = {"width": 64, "layers": 2}
    config = {
        "embed_dim": 32,
        "vision_cfg": {**tower, "image_size": 64, "patch_size": 16, "head_width": 32},
        "text_cfg": {**tower, "context_length": 77, "vocab_size": 49408, "heads": 2},
    }
    (folder / "tiny-clip.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / "tiny-clip.json")
    torch.manual_seed(51)
    weights = folder / "tiny-clip.pt"
    torch.save(open_clip.create_model("tiny-clip").state_dict(), weights)
    return "tiny-clip", str(weights)


def read_rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def _server():
    browser = pytest.importorskip("browser", reason="needs playwright for the browser tests")
    if browser.find_browser() is None:
        pytest.skip("needs chromium or Chrome on the PATH for the browser tests")
    server = browser.Server()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _profile(tmp_path_factory):
    """The browser's folder, in which it keeps the App's scripts, read and compiled."""
    return tmp_path_factory.mktemp("profile")


@pytest.fixture
def app(_server, _profile):
    """FiftyOne's App in a browser of its own that remembers nothing of earlier tests."""
    import browser
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(_profile),
            executable_path=browser.find_browser(),
            args=browser.ARGUMENTS,
            viewport={"width": 1440, "height": 900},
        )
        context.clear_cookies()
        context.add_init_script(
            "if (!sessionStorage.started) { localStorage.clear(); sessionStorage.started = 1; }"
        )
        context.add_init_script(browser.STILL)
        yield browser.App(context.pages[0], _server.url)
        context.close()
