"""What users and strangers bring is data: it is not executed, and nothing leaves its folder."""

import gzip
import json
import os
import socket
import struct
import threading

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone_embedding_quality.embedding.registry import load_model
from fiftyone_embedding_quality.embedding.texts import LONGEST_LINE, load_text_model
from fiftyone_embedding_quality.errors import UserError
from fiftyone_embedding_quality.pictures.dates import taken_at
from fiftyone_embedding_quality.pictures.file_copies import exact_copies
from fiftyone_embedding_quality.pictures.images import UnreadableImageError, load_image
from fiftyone_embedding_quality.pictures.small_images import ImageOrPatch, read_small_images
from fiftyone_embedding_quality.storage.fingerprints import files_fingerprint

PLUGIN = "@embedding/quality"


def _safetensors(head: bytes, length: int | None = None, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(head) if length is None else length) + head + data


def _tensor(shape: list[int], start: int, end: int) -> bytes:
    return json.dumps(
        {"w": {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}}
    ).encode()


LIES = {
    "a head longer than the file": _safetensors(b"{}", 2**62),
    "data beyond the end": _safetensors(_tensor([2**40], 0, 2**42)),
    "a shape unlike its data": _safetensors(_tensor([2**20], 0, 4), data=bytes(4)),
    "backwards": _safetensors(_tensor([1], 4, 0), data=bytes(4)),
    "no JSON": _safetensors(b"__import__('os')"),
    "nothing": b"",
}


@pytest.mark.parametrize("lie", LIES)
def test_safetensors_that_lie_are_refused(lie, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(LIES[lie])
    with pytest.raises(UserError, match="weights="):
        load_model("timm:test_vit", str(path))


@pytest.mark.parametrize(
    "name",
    [
        *("zoo:../../etc/passwd", "zoo:/etc/passwd", "timm:../../etc", "timm:hf-hub:some/one"),
        *("timm:hf_hub:some/one", "open_clip:hf-hub:some/one", "open_clip:local-dir:/etc/x"),
        *("open_clip:../../etc/passwd", "timm:local-dir:/etc", "zoo:https://example.com/x"),
    ],
)
def test_names_of_models_are_no_paths_and_no_addresses(name, monkeypatch):
    """They are refused by the lists of their libraries, before anything is asked for."""

    def connect(_, address):
        pytest.fail(f"{address} was asked for {name}")

    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(UserError, match=r"no architecture|has no"):
        load_model(name)


def test_an_archive_that_is_one_line_does_not_fill_the_memory(tmp_path):
    """Eight million bytes without an end in some thousand."""
    path = tmp_path / "words.txt.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(8 * 2**20 // LONGEST_LINE):
            file.write(b"1" * LONGEST_LINE)
    with pytest.raises(UserError, match="longer than"):
        load_text_model(f"words:{path}", "remark", ["1"], None, None)


def _places(folder) -> dict[str, str]:
    """Paths at which there is something else than an image file, and what is said of it."""
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(folder / "socket.png"))
    (folder / "endless.png").symlink_to("/dev/zero")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "program.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n"
    )
    (folder / "nothing.png").touch()
    said = {
        "pipe": "not a file",
        "socket": "not a file",
        "endless": "not a file",
        "loop": "symbolic",
    }
    said |= {"program": "PostScript", "nothing": "empty", "absent": "not found", "\0": "null byte"}
    return {str(folder / f"{name}.png"): words for name, words in said.items()}


def test_what_is_no_image_is_neither_waited_for_nor_executed(tmp_path):
    places = _places(tmp_path)
    told = {}

    def read() -> None:
        for path in places:
            with pytest.raises(UnreadableImageError) as error:
                load_image(path)
            told[path] = str(error.value)
        assert np.isnan(taken_at(list(places))).all()
        small = read_small_images([ImageOrPatch(path, path) for path in places])
        assert len(small.reasons) == len(places)
        assert (exact_copies(small) == -1).all()
        assert files_fingerprint((path, path, None) for path in places)

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    reading.join(30)
    assert not reading.is_alive(), f"waits for {list(places)[len(told)]}"
    assert all(words in told[path] for path, words in places.items()), told


@pytest.fixture
def judged(digits):
    digits.set_values("vec", list(np.random.default_rng(4).normal(size=(len(digits), 6))))
    foo.get_operator(f"{PLUGIN}/find_outliers")(digits, embeddings="vec", threshold=0.1)
    return digits


def test_a_report_does_not_write_through_links(judged, tmp_path):
    """Links to a file of the user's stand where the report and its parts will be."""
    export_report = foo.get_operator(f"{PLUGIN}/export_report")
    theirs, folder = tmp_path / "theirs.txt", tmp_path / "report"
    theirs.write_text("mine")
    names = [os.path.basename(file) for file in export_report(judged, path=str(folder))["files"]]
    for name in names:
        (folder / name).unlink()
        (folder / name).symlink_to(theirs)
        (folder / f".{name}.part").symlink_to(theirs)
    with pytest.raises(ValueError, match="did not write"):
        export_report(judged, path=str(folder))
    export_report(judged, path=str(folder), overwrite=True)
    assert theirs.read_text() == "mine"
    assert not any((folder / name).is_symlink() for name in names)
    assert sorted(os.listdir(folder)) == sorted(names)


def test_names_that_lead_elsewhere_stay_within_their_folder(judged, tmp_path, monkeypatch):
    """Of datasets, from which the report's folder has its name."""
    monkeypatch.chdir(tmp_path)
    judged.name = f"../../{judged.name}/..//etc"
    result = foo.get_operator(f"{PLUGIN}/export_report")(judged)
    assert os.path.dirname(result["path"]) == str(tmp_path)
    assert os.listdir(tmp_path) == [os.path.basename(result["path"])]
    for key in ("../outside", "/tmp/outside", "a/b"):
        with pytest.raises(ValueError, match="run_key"):
            foo.get_operator(f"{PLUGIN}/find_outliers")(judged, embeddings="vec", run_key=key)
    assert isinstance(judged, fo.Dataset)
