"""Clusters on a real database: fields, names, views, forms, refusals, removal."""

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from PIL import Image

PREFIX = "@embedding/quality/"
KINDS = ("kite", "boot", "harp")


@pytest.fixture
def find_clusters():
    return foo.get_operator(PREFIX + "find_clusters")


@pytest.fixture
def attic(dataset):
    """120 samples of three kinds; what is called a boot is of two kinds; 12 have no label."""
    random = np.random.default_rng(8)
    centers = random.normal(size=(4, 24))
    for number in range(120):
        of = number % 4
        vector = (centers[of] + 0.3 * random.normal(size=24)).astype(np.float32)
        label = None if number % 10 == 9 else fo.Classification(label=KINDS[min(of, 2)])
        thing = fo.Detection(label=KINDS[min(of, 2)], bounding_box=[0, 0, 1, 1], code=vector)
        dataset.add_sample(
            fo.Sample(
                f"/attic/{number:03}.png",
                emb=vector,
                sort=label,
                things=fo.Detections(detections=[thing]),
            )
        )
    dataset.add_sample_field("things.detections.code", fo.VectorField)
    return dataset


def test_clusters_labels_and_views(attic, find_clusters, tmp_path):
    before = sorted(attic.get_field_schema())
    result = find_clusters(attic, embeddings="emb", label_field="sort")
    assert (result["num_clusters"], result["unclustered"], result["judged"]) == (4, 0, 120)
    assert [row["count"] for row in result["clusters"]] == [30] * 4
    assert sorted(row["cluster"] for row in result["clusters"]) == [
        "boot",
        "harp",
        "harp (2)",
        "kite",
    ]
    (split,) = result["subclasses"]
    assert split["label"] == "harp"
    assert [part["cluster"] for part in split["clusters"]] == ["harp", "harp (2)"]
    attic.reload()
    assert sum(row["unlabeled"] for row in result["clusters"]) == 12
    assert all(row["purity"] == 1 for row in result["clusters"])
    groups = attic.load_saved_view("clusters: groups")
    assert groups.media_type == "group" and len(groups) == 4
    assert groups.values("clusters_rank") == [1] * 4
    assert find_clusters.summary(result).startswith("**4 clusters**")
    told = foo.get_operator(PREFIX + "export_report")(attic, path=str(tmp_path / "told"))
    page = next((tmp_path / "told").glob("*.html")).read_text()
    assert "4 clusters in" in page and "<b>Accuracy</b>" in page and told["seconds"] >= 0
    again = find_clusters(attic.shuffle(seed=3), embeddings="emb", label_field="sort")
    assert again["clusters"] == result["clusters"]
    foo.get_operator(PREFIX + "delete_run")(attic, run_key="clusters")
    attic.reload()
    assert sorted(attic.get_field_schema()) == before and not attic.list_saved_views()


def test_clusters_of_patches(attic, find_clusters):
    result = find_clusters(
        attic, patches_field="things", embeddings="code", label_field="things", run_key="shelf"
    )
    assert result["num_clusters"] == 4
    names = attic.distinct("things.detections.shelf_cluster")
    assert names == ["boot", "harp", "harp (2)", "kite"]
    patches = attic.load_saved_view("shelf: groups")
    assert len(patches) == 120
    assert patches.values("things.shelf_cluster") == sorted(patches.values("things.shelf_cluster"))


def test_names_of_the_cnn_fit_its_photos(photos, find_clusters):
    """Tiles of a photo of a temple and one of a flower, embedded by the packaged network."""
    result = find_clusters(photos, embeddings="cnn", min_size=3)
    assert "words of the model" in result["named_by"]
    assert result["clusters"] and all(row["count"] >= 3 for row in result["clusters"])
    assert all(row["fit"] is None or row["fit"] >= 0.4 for row in result["clusters"])


def test_words_of_a_text_tower(digits, compute_embeddings, find_clusters, tiny_clip):
    name, weights = tiny_clip
    compute_embeddings(digits, embeddings="towers", model=f"open_clip:{name}", weights=weights)
    words = ["zero", "one", "two", "three"]
    result = find_clusters(digits, embeddings="towers", names=words, min_size=3)
    for row in result["clusters"]:
        assert row["cluster"].split(" (")[0] in words or row["cluster"].startswith("unnamed")


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"names": "words"}, "must be 'auto', 'labels', or a list of words"),
        ({"names": ["one"]}, "must be 'auto', 'labels', or a list of words"),
        ({"names": "labels", "label_field": None}, "names='labels' needs label_field="),
        ({"names": ["a cat", "a dog"]}, "text encoder"),
        ({"min_size": 1}, "min_size=1 must be at least 2"),
        ({"embeddings": "nothing"}, "no such field"),
    ],
)
def test_refusals(attic, find_clusters, parameters, message):
    given = {"embeddings": "emb", "label_field": "sort", **parameters}
    with pytest.raises(ValueError, match=message):
        find_clusters(attic, **given)
    assert attic.list_runs() == [] or "clusters" not in attic.list_runs()


def test_a_slice_that_performs_worse_is_told(attic, find_clusters):
    """Of one of the four kinds, 60 % of the labels are wrong."""
    random = np.random.default_rng(0)
    for number, sample in enumerate(attic.iter_samples(autosave=True)):
        if number % 4 == 3 and sample.sort is not None:
            sample.sort.label = KINDS[random.integers(0, 3)]
    result = find_clusters(attic, embeddings="emb", label_field="sort")
    (worse,) = (row for row in result["clusters"] if row["worse"])
    assert worse["accuracy"] < 0.75 and worse["accuracy_high"] < 0.95
    shown = attic.load_saved_view("clusters: worse")
    assert shown.distinct("clusters_cluster.label") == [worse["cluster"]]
    assert f"**{worse['cluster']} performs worse than the rest**" in find_clusters.summary(result)


@pytest.fixture
def cellar(dataset, tmp_path):
    """150 images of three kinds; 14 dark ones of one kind have the label of another."""
    random = np.random.default_rng(3)
    centers = random.normal(size=(3, 24))
    for number in range(150):
        of, dark = number % 3, number % 3 == 0 and number < 42
        path = str(tmp_path / f"{number:03}.png")
        pixels = random.integers(0, 60, (24, 24, 3)) + (10 if dark else 150)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        dataset.add_sample(
            fo.Sample(
                path,
                emb=(centers[of] + 0.3 * random.normal(size=24)).astype(np.float32),
                sort=fo.Classification(label="boot" if dark else KINDS[of]),
                donor="aunt" if of == 2 else f"uncle {number % 4}",
                planted=dark,
            )
        )
    return dataset


def test_a_slice_is_named_by_what_its_images_have_in_common(cellar, find_clusters, tmp_path):
    result = find_clusters(cellar, embeddings="emb", label_field="sort", by="donor")
    (found,) = result["slices"]
    assert (found["property"], found["level"], found["errors"]) == ("brightness", "dark", 14)
    shown = cellar.load_saved_view(f"clusters: {found['slice']}")
    assert len(shown) == found["count"] and shown.values("planted")[:14] == [True] * 14
    assert f"**{found['slice']}**" in find_clusters.summary(result)
    foo.get_operator(PREFIX + "export_report")(cellar, path=str(tmp_path / "told"))
    page = next((tmp_path / "told").glob("*.html")).read_text()
    assert f"<b>{found['slice']}</b>" in page and "slice with more errors" in page
    assert {"label": "harp", "property": "donor", "level": "aunt", "auc": 1.0} in result[
        "correlated"
    ]

    def reasons():
        rows = foo.get_operator(PREFIX + "list_runs")(cellar)["runs"]
        return [row["reasons"] for row in rows if row["run_key"] == "clusters"]

    assert reasons() == [[]]
    cellar.limit(1).set_values("donor", ["nobody"])
    assert reasons() == [["the slices in donor have changed"]]
    foo.get_operator(PREFIX + "delete_run")(cellar, run_key="clusters")
    assert cellar.list_saved_views() == []


def test_slices_through_the_executor(cellar, find_clusters):
    """As the App runs it; without the pixels, only the field that was named is looked at."""
    params = {"embeddings": "emb", "label_field": "sort", "check_pictures": False, "by": "donor"}
    execute = foo.execute_operator
    result = execute(PREFIX + "find_clusters", {"dataset": cellar}, params=params).result
    assert result["slices"] == [] and {r["property"] for r in result["correlated"]} == {"donor"}
    with pytest.raises(ValueError, match="by='donor' is compared with labels"):
        find_clusters(cellar, embeddings="emb", by="donor")
