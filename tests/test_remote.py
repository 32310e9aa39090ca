"""Images that lie elsewhere, read through fsspec: its own memory and a local web server."""

import functools
import http.server
import importlib.util
import sys
import threading
from pathlib import Path

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone_embedding_quality.pictures.file_pixels import pixel_digest
from fiftyone_embedding_quality.pictures.images import UnreadableImageError, load_image
from fiftyone_embedding_quality.pictures.remote import local_file, remote_url

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
    assert remote_url(str(tmp_path / "a.jpg")) is None
    assert remote_url("C:/folder/a.jpg") is None
    odd = tmp_path / "s3:" / "a.jpg"
    odd.parent.mkdir()
    odd.touch()
    assert remote_url(str(odd)) is None


def test_each_reason_is_clear(bucket, monkeypatch):
    with pytest.raises(UnreadableImageError, match="remote file not found"):
        load_image("memory://shelf/none.png")
    for odd in ("nowhere://shelf/a.png", "reference://a.json", "memory://a.zip::zip://b.png"):
        with pytest.raises(UnreadableImageError, match="of a kind that is not read"):
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
