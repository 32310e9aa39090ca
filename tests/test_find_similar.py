"""What is most like one image file, on real images and a real database."""

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from PIL import Image
from test_forms import form, told

PREFIX = "@embedding/quality/"


@pytest.fixture
def find_similar():
    return foo.get_operator(PREFIX + "find_similar")


def test_an_edited_copy_finds_what_it_was_made_of(
    photos, find_similar, photo_tiles, tmp_path, monkeypatch
):
    before, files = sorted(photos.get_field_schema()), sorted(photos.values("filepath"))
    path = tmp_path / "unseen.jpg"
    photo_tiles[7].resize((120, 106)).save(path, quality=80)
    result = find_similar(photos, embeddings="cnn", similar_to=str(path), num_samples=9)
    nearest = photos.load_saved_view("similar: nearest")
    assert result["found"] == len(nearest) == 9
    assert nearest.first().name == "photo-07" and nearest.values("similar_rank") == [*range(1, 10)]
    alike = nearest.values("similar_similarity")
    assert alike == sorted(alike, reverse=True) and 0.6 < alike[0] <= 1
    assert photos.load_saved_view("similar: duplicates").values("name") == ["photo-07"]
    assert result["duplicates"] == 1 and result["duplicate_ids"] == [nearest.first().id]
    assert "**it is there already**: 1 sample" in find_similar.summary(result)
    monkeypatch.chdir(tmp_path)
    again = find_similar(
        photos.shuffle(seed=2), embeddings="cnn", similar_to="unseen.jpg", num_samples=9
    )
    assert again["most_similar"] == result["most_similar"]
    assert sorted(photos.values("filepath")) == files
    rows = foo.get_operator(PREFIX + "list_runs")(photos)["runs"]
    assert {row["run_key"]: row["found"] for row in rows}["similar"] == "9 similar"
    foo.get_operator(PREFIX + "delete_run")(photos, run_key="similar")
    assert sorted(photos.get_field_schema()) == before and not photos.list_saved_views()


def test_the_order_is_that_of_the_cosines(photos, find_similar, compute_embeddings, tmp_path):
    """Of the file as a sample of another dataset."""
    path = str(tmp_path / "other.png")
    Image.effect_mandelbrot((96, 96), (-2, -1.2, 0.8, 1.2), 60).convert("RGB").save(path)
    single = fo.Dataset()
    try:
        single.add_sample(fo.Sample(path))
        compute_embeddings(single, model="cnn")
        query = single.first()["cnn"]
    finally:
        single.delete()
    rows = np.stack(photos.values("cnn"))
    cosines = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
    result = find_similar(photos, embeddings="cnn", similar_to=path, num_samples=50)
    assert result["found"] == 30 and result["duplicates"] == 0
    view = photos.load_saved_view("similar: nearest")
    of = dict(zip(photos.values("id"), cosines))
    assert np.allclose(view.values("similar_similarity"), np.sort(cosines)[::-1], atol=1e-3)
    assert np.allclose([of[id_] for id_ in view.values("id")], np.sort(cosines)[::-1], atol=1e-3)
    assert "similar: duplicates" not in photos.list_saved_views()


def test_through_the_executor_and_the_form(photos, edited_photos, tmp_path):
    params = {"embeddings": "cnn", "similar_to": edited_photos["mirror"], "num_samples": 3}
    executed = foo.execute_operator(PREFIX + "find_similar", {"dataset": photos}, params=params)
    first = photos.load_saved_view("similar: nearest").values("name")
    assert executed.result["found"] == 3 and set(first[:2]) == {"mirror", "photo-02"}
    report = foo.get_operator(PREFIX + "export_report")(photos, path=str(tmp_path / "page"))
    assert report["findings"]["similar"] == 3
    fields = form("find_similar", photos)
    assert fields["num_samples"]["default"] == 20
    assert "there is no such file" in told(form("find_similar", photos, similar_to="/no/where"))


def test_refusals(photos, find_similar, tmp_path, edited_photos):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff nothing more")
    photos.add_sample_field("bare", fo.VectorField)
    photos.set_values("bare", [row[:8] for row in photos.values("cnn")])
    path = edited_photos["photo-00"]
    for given, message in (
        ({"similar_to": str(tmp_path / "lost.png")}, "there is no such file"),
        ({"similar_to": str(broken)}, "similar_to=.*broken.jpg"),
        ({"num_samples": 0}, "num_samples=0 must be at least 1"),
        ({"embeddings": "bare"}, "embeddings='bare' were not computed by a model"),
    ):
        with pytest.raises(ValueError, match=message):
            find_similar(photos, **{"embeddings": "cnn", "similar_to": path, **given})
    assert not photos.has_run("similar") and photos.list_saved_views() == []
