"""Images that lie elsewhere, read through fsspec: its own memory and a local web server."""

import functools
import http.server
import importlib.util
import sys
import threading
import time
from pathlib import Path

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone_embedding_quality.pictures import remote
from fiftyone_embedding_quality.pictures.file_pixels import pixel_digest
from fiftyone_embedding_quality.pictures.images import UnreadableImageError, load_image
from fiftyone_embedding_quality.pictures.remote import local_file, remote_url
from fiftyone_embedding_quality.report.paths import in_value, name_of

fsspec = pytest.importorskip("fsspec", reason="needs fsspec: pip install fsspec")


@pytest.fixture(scope="module")
def bucket(digit_files):
    """24 digits in fsspec's memory, and their local files."""
    system = fsspec.filesystem("memory")
    paths = [path for path, _ in digit_files[:24]]
    for path in paths:
        system.pipe(f"/shelf/{Path(path).name}", Path(path).read_bytes())
    yield paths
    system.rm("/shelf", recursive=True)


def address(path: str) -> str:
    return f"memory://shelf/{Path(path).name}"


def test_a_remote_image_has_the_same_pixels(bucket):
    for path in bucket[:3]:
        assert np.array_equal(load_image(address(path)), load_image(path))
        assert pixel_digest(address(path)) == pixel_digest(path) is not None


def test_a_copy_is_there_only_while_it_is_read(bucket):
    with local_file(address(bucket[0])) as copy:
        assert Path(copy).read_bytes() == Path(bucket[0]).read_bytes()
    assert not Path(copy).exists()


def test_what_is_an_address(tmp_path):
    assert remote_url("s3://bucket/a.jpg") == "s3://bucket/a.jpg"
    # What FiftyOne makes of it.
    assert remote_url(fo.Sample("gs://bucket/b c.jpg").filepath) == "gs://bucket/b c.jpg"
    assert (
        remote_url("/work/https:/archive/of/https://b/c.jpg")
        == "https://archive/of/https://b/c.jpg"
    )
    assert remote_url(str(tmp_path / "a.jpg")) is None
    assert remote_url("C:/folder/a.jpg") is None
    odd = tmp_path / "s3:" / "a.jpg"
    odd.parent.mkdir()
    odd.touch()
    assert remote_url(str(odd)) is None


def test_each_reason_is_clear(bucket, monkeypatch):
    with pytest.raises(UnreadableImageError, match="remote file not found"):
        load_image("memory://shelf/none.png")
    for odd in (
        *("nowhere://shelf/a.png", "reference://a.json", "memory://a.zip::zip://b.png"),
        *(
            fo.Sample("file:///etc/hostname").filepath,
            "local://etc/hostname",
            "zip://b.png::file:///etc/zip",
        ),
        *("github://one:two@main/a.png", "dask://a.png", "jupyter://host/a.png", "data:/a/b,c"),
    ):
        with pytest.raises(UnreadableImageError, match="of a kind that is not read"):
            load_image(odd)
    for odd in ("file:///etc/hostname", "simplecache::memory://shelf/0000.png"):
        with pytest.raises(UnreadableImageError, match="file not found"):
            load_image(odd)
    if importlib.util.find_spec("s3fs") is None:
        with pytest.raises(UnreadableImageError, match="cannot open: Install s3fs"):
            load_image("s3://shelf/none.png")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(UnreadableImageError, match="pip install fsspec"):
        load_image(address(bucket[0]))


def test_images_of_a_web_server_are_read(bucket):
    pytest.importorskip("aiohttp", reason="fsspec needs aiohttp for http://")
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(Path(bucket[0]).parent)
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert np.array_equal(load_image(f"{url}/{Path(bucket[0]).name}"), load_image(bucket[0]))
        with pytest.raises(UnreadableImageError, match="remote file not found"):
            load_image(f"{url}/none.png")
        server.shutdown()


class Hostile(http.server.BaseHTTPRequestHandler):
    """Sends nothing, or more and more of it, or wants a password."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.send_error(405)

    def do_GET(self):
        if self.path.startswith("/silent"):
            self.server.over.wait(20)
        elif self.path.startswith("/locked"):
            self.send_error(401)
        else:
            # A part, as is asked for, but without an end; or what is told to be vast.
            self.send_response(206 if self.path.startswith("/part") else 200)
            self.send_header("Content-Range", "bytes 0-99/100")
            if self.path.startswith("/vast"):
                self.send_header("Content-Length", str(2**50))
            self.end_headers()
            try:
                while not self.server.over.is_set():
                    self.wfile.write(bytes(2**16))
            except OSError:
                pass
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def hostile():
    pytest.importorskip("aiohttp", reason="fsspec needs aiohttp for http://")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hostile) as server:
        server.over, server.daemon_threads = threading.Event(), True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.over.set()
        server.shutdown()


@pytest.mark.parametrize("kind", ["endless", "part", "vast"])
def test_a_file_without_an_end_fills_neither_memory_nor_disk(kind, hostile, monkeypatch):
    monkeypatch.setattr(remote, "LARGEST", 2**21)
    with pytest.raises(UnreadableImageError, match="larger than 2 MiB"):
        load_image(f"http://{hostile}/{kind}.png")


def test_a_server_that_says_nothing_is_given_up(hostile, monkeypatch):
    monkeypatch.setattr(remote, "SILENCE", 0.3)
    started = time.monotonic()
    with pytest.raises(UnreadableImageError, match="cannot be read"):
        load_image(f"http://{hostile}/silent.png")
    assert time.monotonic() - started < 10


def test_a_file_that_comes_too_slowly_is_given_up(hostile, monkeypatch):
    monkeypatch.setattr(remote, "LONGEST", 0.3)
    with pytest.raises(UnreadableImageError, match=r"longer than 0\.3 seconds|cannot be read"):
        load_image(f"http://{hostile}/endless.png")


def test_passwords_and_signatures_are_told_to_nobody(hostile):
    """Neither in reasons, which are stored, nor in reports, which are handed on."""
    path = f"http://ann:sesame@{hostile}/locked.png?X-Amz-Signature=1f2e"
    with pytest.raises(UnreadableImageError, match="401") as error:
        load_image(path)
    assert "sesame" not in str(error.value) and "1f2e" not in str(error.value)
    stored = fo.Sample(path).filepath
    other = fo.Sample(path.replace("127.0.0.1", "elsewhere")).filepath
    for folder in (None, stored.partition("/locked")[0], stored.partition("/ann")[0]):
        for name in (name_of(stored, folder), name_of(other, folder), name_of(path, folder)):
            assert "locked.png" in name and "sesame" not in name and "1f2e" not in name
        told = in_value([stored, {"similar_to": path}, f"'{stored}' is none"], folder)
        assert "sesame" not in str(told) and "1f2e" not in str(told)


def test_a_dataset_of_remote_images_is_like_one_of_files(bucket, dataset, compute_embeddings):
    lost = "memory://shelf/lost.png"
    again = "memory://shelf/again.png"
    fsspec.filesystem("memory").pipe("/shelf/again.png", Path(bucket[0]).read_bytes())
    dataset.add_samples([fo.Sample(address(path), file=path) for path in bucket])
    dataset.add_samples([fo.Sample(again), fo.Sample(lost)])
    result = compute_embeddings(dataset, model="cnn", embeddings="away")
    assert result["computed"] == 25
    assert [row["reason"] for row in result["failures"]] == ["remote file not found"]
    local = fo.Dataset()
    local.add_samples([fo.Sample(path) for path in bucket])
    compute_embeddings(local, model="cnn", embeddings="here")
    away = dict(zip(*dataset.exists("file").values(["file", "away"])))
    assert all(np.allclose(away[s.filepath], s["here"], atol=1e-3) for s in local)
    local.delete()
    duplicates = foo.get_operator("@embedding/quality/find_duplicates")(dataset, embeddings="away")
    assert duplicates["exact_groups"] >= 1
    outliers = foo.get_operator("@embedding/quality/find_outliers")(dataset, embeddings="away")
    assert outliers["judged"] == 25 and not any("pixels" in why for why in outliers["skipped"])
