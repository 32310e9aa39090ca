"""Two datasets, and two views of one, compared on a real database."""

import shutil
import uuid

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest

PREFIX = "@embedding/quality/"


@pytest.fixture
def compare():
    return foo.get_operator(PREFIX + "compare_datasets")


def vectors(number, kinds, seed):
    random = np.random.default_rng(seed)
    centers = 2 * np.random.default_rng(99).normal(size=(6, 24))
    of = [kinds[row % len(kinds)] for row in range(number)]
    return (centers[of] + 0.5 * random.normal(size=(number, 24))).astype(np.float32)


@pytest.fixture
def harvest(dataset):
    """150 samples: three kinds in the first 90, of the last 60 a third is of a fourth kind."""
    rows = np.concatenate([vectors(90, [0, 1, 2], 1), vectors(60, [0, 1, 5], 2)])
    dataset.add_samples(
        [fo.Sample(f"/barn/{n:03}.png", gist=row, batch=int(n >= 90)) for n, row in enumerate(rows)]
    )
    dataset.save_view("old stock", dataset.match(fo.ViewField("batch") == 0))
    dataset.save_view("delivery", dataset.match(fo.ViewField("batch") == 1))
    return dataset


def test_a_delivery_against_the_stock(harvest, compare):
    delivery = harvest.load_saved_view("delivery")
    before = sorted(harvest.get_field_schema())
    result = compare(delivery, embeddings="gist", other="old stock", check_pictures=False)
    assert (result["judged"], result["compared_with"]) == (60, 90)
    assert result["drift"]["differ"] and result["duplicates"] is None
    kinds = dict(zip(delivery.values("id"), range(60)))
    new = harvest.load_saved_view("comparison: new").values("id")
    assert 17 <= len(new) == result["new"] <= 22
    assert sum(kinds[id_] % 3 == 2 for id_ in new) >= 17
    # The stock has a third kind that the delivery lacks.
    missing = harvest.load_saved_view("comparison: missing")
    assert len(missing) == result["missing"] >= 27
    assert set(missing.values("batch")) == {0}
    assert set(delivery.values("comparison_nearest")) <= set(
        harvest.load_saved_view("old stock").values("id")
    )
    assert "**the two differ**" in compare.summary(result)
    rows = {r["run_key"]: r for r in foo.get_operator(PREFIX + "list_runs")(harvest)["runs"]}
    assert rows["comparison"]["reasons"] == []
    sample = harvest.first()
    sample["gist"] = sample["gist"] + 1
    sample.save()
    rows = {r["run_key"]: r for r in foo.get_operator(PREFIX + "list_runs")(harvest)["runs"]}
    assert rows["comparison"]["reasons"] == ["the embeddings of old stock have changed"]
    foo.get_operator(PREFIX + "delete_run")(harvest, run_key="comparison")
    harvest.reload()
    assert sorted(harvest.get_field_schema()) == before


def test_what_is_in_both_is_taken_from_the_larger(harvest, compare):
    given = {"embeddings": "gist", "check_pictures": False}
    result = compare(harvest, other="old stock", **given)
    assert (result["judged"], result["compared_with"]) == (60, 90)
    part = compare(harvest.load_saved_view("delivery"), other="old stock", **given)
    assert part["missing_ids"] == result["missing_ids"]
    harvest.save_view("all of it", harvest.view())
    result = compare(harvest.limit(90), other="all of it", **given)
    assert (result["judged"], result["compared_with"]) == (90, 60)
    with pytest.raises(ValueError, match="Both hold the same samples"):
        compare(harvest, other="all of it", **given)


def test_two_datasets_that_share_photos(photos, compare, compute_embeddings, tmp_path):
    """Copies under other names are found in the other dataset, which stays as it was."""
    other = fo.Dataset(f"other-{uuid.uuid4().hex[:8]}")
    try:
        for number, path in enumerate(photos.limit(6).values("filepath")):
            copied = str(tmp_path / f"{number}.png")
            shutil.copy(path, copied)
            other.add_sample(fo.Sample(copied))
        compute_embeddings(other, model="cnn")
        theirs = sorted(other.get_field_schema()), other.list_runs(), other.list_saved_views()
        result = compare(photos, embeddings="cnn", other=other.name)
        found = dict(
            zip(*photos.exists("comparison_duplicate").values(["name", "comparison_duplicate"]))
        )
        expected = dict(zip(photos.limit(6).values("name"), other.values("id")))
        assert expected.items() <= found.items() and result["duplicates"] == len(found)
        other.reload()
        assert (
            sorted(other.get_field_schema()),
            other.list_runs(),
            other.list_saved_views(),
        ) == theirs
    finally:
        other.delete()


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"other": "nowhere"}, "is not another dataset or a saved view"),
        ({"embeddings": "nothing"}, "no such field"),
    ],
)
def test_refusals(harvest, compare, parameters, message):
    given = {"embeddings": "gist", "other": "old stock", "check_pictures": False, **parameters}
    with pytest.raises(ValueError, match=message):
        compare(harvest, **given)


def test_embeddings_of_two_models_do_not_compare(harvest, compare):
    other = fo.Dataset(f"other-{uuid.uuid4().hex[:8]}")
    try:
        other.add_samples([fo.Sample(f"/o/{n}.png", gist=np.ones(7) * n) for n in range(9)])
        with pytest.raises(ValueError, match="have length 7, those here 24"):
            compare(harvest, embeddings="gist", other=other.name)
    finally:
        other.delete()
