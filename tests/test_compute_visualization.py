"""Maps on a real database: what is read, stored, reused, refused and shown by FiftyOne itself."""

import json
import subprocess
import sys

import fiftyone as fo
import fiftyone.brain as fob
import fiftyone.core.odm as odm
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone_embedding_quality.checks import visualization
from fiftyone_embedding_quality.checks.inputs import Inputs
from fiftyone_embedding_quality.checks.progress import Progress
from fiftyone_embedding_quality.checks.visualization import Layout
from fiftyone_embedding_quality.storage import vectors as storage_vectors
from fiftyone_embedding_quality.storage.targets import resolve_target
from fiftyone_embedding_quality.storage.vectors import read_vectors

URI = "@embedding/quality/compute_visualization"


@pytest.fixture(scope="module")
def compute_visualization():
    return foo.get_operator(URI)


def _clusters(number: int, dim: int = 32, clusters: int = 4) -> tuple[np.ndarray, list[str]]:
    random = np.random.default_rng(51)
    centers = random.normal(size=(clusters, dim)) * 3
    which = np.arange(number) % clusters
    vectors = centers[which] + random.normal(size=(number, dim))
    return vectors.astype(np.float32), [f"class {index}" for index in which]


@pytest.fixture
def clustered(dataset):
    """80 samples with vectors of four clusters in the field ``vectors``."""
    matrix, labels = _clusters(80)
    dataset.add_samples(
        [
            fo.Sample(f"/pictures/{index}.png", ground_truth=fo.Classification(label=label))
            for index, label in enumerate(labels)
        ]
    )
    dataset.add_sample_field("vectors", fo.VectorField)
    dataset.set_values("vectors", list(matrix))
    return dataset


def _points(dataset, key) -> dict[str, np.ndarray]:
    results = dataset.load_brain_results(key, cache=False)
    ids = results.sample_ids if results.config.patches_field is None else results.label_ids
    return dict(zip(ids, results.points))


def _purity(dataset, key) -> float:
    """How many points have a nearest neighbor on the map of their own class."""
    points = _points(dataset, key)
    labels = dict(zip(*dataset.values(["id", "ground_truth.label"])))
    places = np.stack(list(points.values()))
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    names = [labels[id_] for id_ in points]
    return np.mean([names[i] == names[j] for i, j in enumerate(distances.argmin(axis=1))])


@pytest.mark.parametrize("method", ["umap", "tsne", "pca"])
@pytest.mark.parametrize("num_dims", [2, 3])
def test_a_map_is_fiftyones_own_run(clustered, compute_visualization, method, num_dims):
    result = compute_visualization(
        clustered, embeddings="vectors", method=method, num_dims=num_dims
    )
    key = f"vectors_{method}"
    assert result["brain_key"] == key
    assert (result["num_points"], result["num_dims"]) == (80, num_dims)
    config = clustered.get_brain_info(key).config
    assert (config.type, config.method) == ("visualization", method)
    assert config.cls.startswith("fiftyone.brain.visualization.")
    assert config.embeddings_field == "vectors"
    results = clustered.load_brain_results(key)
    assert type(results).__module__ == "fiftyone.brain.visualization"
    assert results.points.shape == (80, num_dims)
    assert set(results.sample_ids) == set(clustered.values("id"))
    assert _purity(clustered, key) > 0.95
    assert result["trustworthiness"] > 0.8
    assert json.loads(json.dumps(result)) == result
    assert (
        clustered.get_brain_info(key).config.embedding_quality["trustworthiness"]
        == (result["trustworthiness"])
    )


@pytest.mark.slow
def test_another_process_without_the_plugin_reads_the_map(clustered, compute_visualization):
    compute_visualization(clustered, embeddings="vectors")
    script = (
        "import sys, fiftyone as fo\n"
        "dataset = fo.load_dataset(sys.argv[1])\n"
        "results = dataset.load_brain_results('vectors_umap')\n"
        "print(type(results).__name__, results.points.shape, len(results.view))"
    )
    command = [sys.executable, "-c", script, clustered.name]
    done = subprocess.run(command, text=True, capture_output=True)
    assert "VisualizationResults (80, 2) 80" in done.stdout, done.stderr
    assert "Unable to load" not in done.stderr


def test_the_map_does_not_depend_on_the_order(clustered, compute_visualization):
    compute_visualization(clustered, embeddings="vectors", brain_key="first")
    compute_visualization(clustered.shuffle(seed=3), embeddings="vectors", brain_key="second")
    compute_visualization(clustered, embeddings="vectors", brain_key="third", seed=1)
    first, second, third = (_points(clustered, key) for key in ("first", "second", "third"))
    assert all(np.array_equal(second[id_], point) for id_, point in first.items())
    assert not all(np.array_equal(third[id_], point) for id_, point in first.items())


def test_the_graph_is_computed_once(clustered, compute_visualization):
    def reused(samples, **parameters):
        return compute_visualization(samples, embeddings="vectors", **parameters)["graph"]["reused"]

    assert not reused(clustered)
    assert reused(clustered)
    assert reused(clustered.shuffle(seed=3), brain_key="shuffled")
    # A view has a graph of its own, and the dataset's is still there.
    assert not reused(clustered[:50], brain_key="view")
    assert reused(clustered[:50], brain_key="view")
    assert reused(clustered)
    # More neighbors than are stored, and then fewer again.
    assert not reused(clustered, n_neighbors=60)
    assert reused(clustered)
    # A changed vector makes it stale.
    sample = clustered.first()
    sample["vectors"] = -sample["vectors"]
    sample.save()
    assert not reused(clustered)
    # One of fewer rows does not pile up beside the others for ever.
    for size in range(20, 30):
        reused(clustered[:size], brain_key="view")
    assert sum(key.startswith("vectors_graph_") for key in clustered.list_runs()) == 4


def test_new_samples_are_placed_and_old_points_stay(clustered, compute_visualization):
    for method in ("umap", "pca"):
        compute_visualization(clustered[:60], embeddings="vectors", method=method)
        before = _points(clustered, f"vectors_{method}")
        result = compute_visualization(clustered, embeddings="vectors", method=method, update=True)
        assert (result["added"], result["num_points"]) == (20, 80)
        after = _points(clustered, f"vectors_{method}")
        assert all(np.array_equal(after[id_], point) for id_, point in before.items())
        assert _purity(clustered, f"vectors_{method}") > 0.95
        again = compute_visualization(clustered, embeddings="vectors", method=method, update=True)
        assert again["added"] == 0
        # A view of new samples alone is enough, and the others stay on the map.
        compute_visualization(clustered[:60], embeddings="vectors", method=method)
        result = compute_visualization(
            clustered[70:], embeddings="vectors", method=method, update=True
        )
        assert (result["added"], result["num_points"]) == (10, 70)

    compute_visualization(clustered[:60], embeddings="vectors", method="tsne")
    with pytest.raises(ValueError, match="t-SNE cannot add new samples"):
        compute_visualization(clustered, embeddings="vectors", method="tsne", update=True)
    with pytest.raises(ValueError, match="there is no visualization 'nowhere' yet"):
        compute_visualization(clustered, embeddings="vectors", brain_key="nowhere", update=True)


def test_pca_places_new_samples_as_on_the_first_day(clustered, compute_visualization):
    pca = {"embeddings": "vectors", "method": "pca"}
    compute_visualization(clustered[:40], **pca)
    for size in (60, 80):
        compute_visualization(clustered[:size], update=True, **pca)
    copy = fo.Sample("/pictures/copy.png", vectors=clustered.first().vectors)
    clustered.add_sample(copy)
    clustered.delete_samples(clustered[10:30])
    compute_visualization(clustered, update=True, **pca)
    points = _points(clustered, "vectors_pca")
    assert np.allclose(points[copy.id], points[clustered.first().id], atol=1e-4)


def test_vectors_that_have_changed_do_not_go_into_an_old_map(clustered, compute_visualization):
    compute_visualization(clustered[:60], embeddings="vectors")
    clustered.set_values("vectors", [-vector for vector in clustered.values("vectors")])
    with pytest.raises(ValueError, match="have changed since"):
        compute_visualization(clustered, embeddings="vectors", update=True)


def test_labels_draw_noise_into_classes(clustered, compute_visualization):
    """Every fourth point of noise has a neighbor of its class by chance."""
    noise = np.random.default_rng(0).normal(size=(80, 32)).astype(np.float32)
    clustered.set_values("vectors", list(noise))
    clustered.first().ground_truth = None
    compute_visualization(clustered, embeddings="vectors", brain_key="noise")
    compute_visualization(
        clustered, embeddings="vectors", brain_key="labels", label_field="ground_truth"
    )
    assert _purity(clustered, "noise") < 0.5 < 0.8 < _purity(clustered, "labels")


def test_a_map_of_noise_is_not_to_be_trusted(clustered, compute_visualization):
    """What is promised is the sentence; in 512 dimensions noise has no neighbors worth keeping."""
    told = compute_visualization(clustered, embeddings="vectors", brain_key="classes")
    noise = np.random.default_rng(0).normal(size=(80, 512)).astype(np.float32)
    clustered.set_values("vectors", list(noise))
    found = compute_visualization(clustered, embeddings="vectors", brain_key="noise")
    assert "do not interpret clusters" in found["trust"]
    assert "do not interpret clusters" not in told["trust"]
    assert found["trustworthiness"] < told["trustworthiness"]


def test_objects(dataset, compute_visualization):
    matrix, labels = _clusters(60)
    for index in range(20):
        dataset.add_sample(
            fo.Sample(
                f"/pictures/{index}.png",
                objects=fo.Detections(
                    detections=[
                        fo.Detection(
                            label=labels[row],
                            bounding_box=[0.1, 0.1, 0.2, 0.2],
                            vectors=matrix[row],
                        )
                        for row in range(3 * index, 3 * index + 3)
                    ]
                ),
            )
        )
    dataset.add_sample_field("objects.detections.vectors", fo.VectorField)
    result = compute_visualization(
        dataset, embeddings="vectors", patches_field="objects", label_field="objects"
    )
    assert result["brain_key"] == "objects_detections_vectors_umap"
    results = dataset.load_brain_results(result["brain_key"])
    assert results.config.patches_field == "objects"
    owner = {
        object_id: sample_id
        for sample_id, ids in zip(*dataset.values(["id", "objects.detections.id"]))
        for object_id in ids
    }
    assert [owner[label_id] for label_id in results.label_ids] == list(results.sample_ids)
    assert len(results.label_ids) == 60
    with pytest.raises(ValueError, match="patches have their own labels"):
        compute_visualization(
            dataset, embeddings="vectors", patches_field="objects", label_field="other"
        )


def test_reading_raw_bytes_is_fiftyones_reading(clustered, dataset, monkeypatch):
    target = resolve_target(clustered.shuffle(seed=1))
    raw = storage_vectors._read_raw(target, "vectors")
    public = storage_vectors._read_values(target, "vectors")
    assert raw.keys() == public.keys()
    assert all(np.array_equal(raw[id_][1], public[id_][1]) for id_ in raw)
    monkeypatch.setattr(storage_vectors, "_values_in", None)
    fallback = read_vectors(target, "vectors")
    monkeypatch.undo()
    assert np.array_equal(fallback.matrix, read_vectors(target, "vectors").matrix)
    assert fallback.fingerprint == read_vectors(target, "vectors").fingerprint


def test_what_cannot_be_mapped_is_counted(clustered, compute_visualization):
    values = clustered.values("vectors")
    values[0] = None
    values[1] = np.full(32, np.nan, np.float32)
    clustered.set_values("vectors", values)
    result = compute_visualization(clustered, embeddings="vectors")
    assert result["num_points"] == 78
    assert result["skipped"] == {"no embedding": 1, "embedding with NaN or infinity": 1}


def test_vectors_in_a_list_field_of_the_user(clustered, compute_visualization):
    clustered.set_values("mine", [vector.tolist() for vector in clustered.values("vectors")])
    assert compute_visualization(clustered, embeddings="mine")["num_points"] == 80


@pytest.mark.parametrize("method", ["umap", "tsne", "pca"])
@pytest.mark.parametrize("number", [1, 2, 3, 10])
def test_small_sets(clustered, compute_visualization, method, number):
    result = compute_visualization(clustered[:number], embeddings="vectors", method=method)
    assert result["num_points"] == number
    points = np.stack(list(_points(clustered, f"vectors_{method}").values()))
    assert np.isfinite(points).all()
    if method != "pca":
        assert result["notes"]


def test_spatial_index(clustered, compute_visualization):
    compute_visualization(clustered, embeddings="vectors", spatial_index=True)
    points = _points(clustered, "vectors_umap")
    for id_, place in zip(*clustered.values(["id", "vectors_umap"])):
        assert np.allclose(place, points[id_])
    assert "vectors_umap" in clustered.get_index_information()
    # Computed again, it replaces itself.
    compute_visualization(clustered, embeddings="vectors", spatial_index=True)
    clustered.add_sample_field("mine", fo.StringField)
    compute_visualization(clustered, embeddings="vectors", brain_key="mine")
    with pytest.raises(ValueError, match="needs a field 'mine'"):
        compute_visualization(clustered, embeddings="vectors", brain_key="mine", spatial_index=True)
    assert "mine" in clustered.list_brain_runs()
    with pytest.raises(ValueError, match="needs a field 'ground_truth'"):
        compute_visualization(
            clustered, embeddings="vectors", brain_key="ground_truth", spatial_index=True
        )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "needs the parameter 'embeddings'"),
        (
            {"embeddings": "nope"},
            r"'nope': there is no such field.*compute_embeddings.*with embeddings: vectors",
        ),
        ({"embeddings": "ground_truth"}, "is of type EmbeddedDocumentField, not embeddings"),
        ({"embeddings": "vectors", "method": "isomap"}, "method='isomap' is not known"),
        ({"embeddings": "vectors", "num_dims": 4}, "num_dims=4 must be 2 or 3"),
        ({"embeddings": "vectors", "n_neighbors": 1}, "n_neighbors=1 must be at least 2"),
        ({"embeddings": "vectors", "min_dist": -1}, "min_dist=-1.0 must be between"),
        ({"embeddings": "vectors", "perplexity": 1}, "perplexity=1.0 must be above 1"),
        ({"embeddings": "vectors", "seed": -1}, "seed=-1 must be between"),
        ({"embeddings": "vectors", "brain_key": "a b"}, "brain_key='a b' cannot be the name"),
        ({"embeddings": "vectors", "label_field": "x"}, "label_field='x': there is no such field"),
        ({"embeddings": "vectors", "label_field": "vectors"}, "holds no class per sample"),
        (
            {"embeddings": "vectors", "label_field": "ground_truth", "method": "pca"},
            "supported by UMAP only",
        ),
        (
            {"embeddings": "vectors", "spatial_index": True, "num_dims": 3},
            "needs a visualization with num_dims=2",
        ),
    ],
)
def test_wrong_parameters(clustered, compute_visualization, parameters, message):
    with pytest.raises(ValueError, match=message):
        compute_visualization(clustered, **parameters)
    assert clustered.list_brain_runs() == []


def test_vectors_of_two_models_are_refused(clustered, compute_visualization):
    sample = clustered.first()
    sample["vectors"] = np.zeros(5, np.float32)
    sample.save()
    result = compute_visualization(clustered, embeddings="vectors", method="pca")
    assert result["skipped"] == {"embedding of length 5, where most have 32": 1}
    lengths = [np.zeros(5 if index < 40 else 32, np.float32) for index in range(80)]
    clustered.set_values("vectors", lengths)
    with pytest.raises(ValueError, match=r"several models \(40 of length 5, 40 of length 32\)"):
        compute_visualization(clustered, embeddings="vectors")
    clustered.clear_sample_field("vectors")
    with pytest.raises(ValueError, match="holds no embeddings for the 80 samples"):
        compute_visualization(clustered, embeddings="vectors")


def test_a_map_of_the_users_own_is_not_replaced(clustered, compute_visualization):
    fob.compute_visualization(clustered, points=np.zeros((80, 2)), brain_key="mine")
    with pytest.raises(ValueError, match=r"brain_key='mine'.*did not create"):
        compute_visualization(clustered, embeddings="vectors", brain_key="mine")
    assert np.array_equal(clustered.load_brain_results("mine").points, np.zeros((80, 2)))


@pytest.mark.slow
def test_umap_learn_by_name(clustered, compute_visualization):
    """The reference itself, on the stored neighbors, with options of its own."""
    given = {"embeddings": "vectors", "implementation": "umap-learn", "n_neighbors": 10}
    result = compute_visualization(clustered, **given, options={"n_epochs": 100, "init": "random"})
    assert result["trustworthiness"] > 0.75 and _purity(clustered, "vectors_umap") > 0.95
    stored = clustered.get_brain_info("vectors_umap").config
    assert (stored.method, stored.num_neighbors) == ("umap", 10)
    assert result["parameters"]["implementation"] == "umap-learn"
    assert result["parameters"]["options"] == {"n_epochs": 100, "init": "random"}
    again = compute_visualization(clustered, **given, options={"n_epochs": 100, "init": "random"})
    assert again["trustworthiness"] == result["trustworthiness"]
    for option, message in (
        ({"metric": "euclidean"}, "metric cannot be chosen"),
        ({"n_neighbours": 3}, "has no 'n_neighbours'; it has"),
        ({"min_dist": 0.2}, "min_dist is a separate parameter"),
        ({"n_epochs": "many"}, "implementation='umap-learn': "),
    ):
        with pytest.raises(ValueError, match=message):
            compute_visualization(clustered, **given, options=option)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"implementation": "cuml"}, "must be 'auto' or 'umap-learn'"),
        ({"implementation": "umap-learn", "method": "pca"}, "is for UMAP, not for 'pca'"),
        ({"options": {"n_epochs": 9}}, "also pass implementation='umap-learn'"),
    ],
)
def test_refused_implementations(clustered, compute_visualization, parameters, message):
    with pytest.raises(ValueError, match=message):
        compute_visualization(clustered, embeddings="vectors", **parameters)


def test_a_plot_whose_points_another_process_has_deleted_is_listed(
    clustered, compute_visualization
):
    """Between the reading of its run and that of its results."""
    compute_visualization(clustered, embeddings="vectors", method="pca", brain_key="plot")
    run = odm.get_db_conn().runs.find_one({"_dataset_id": clustered._doc.id, "key": "plot"})
    odm.get_db_conn()["fs.files"].delete_one({"_id": run["results"]})
    rows = foo.get_operator("@embedding/quality/list_runs")(clustered)["runs"]
    assert "plot" in [row["run_key"] for row in rows]
    # The same call again puts it right.
    result = compute_visualization(clustered, embeddings="vectors", method="pca", brain_key="plot")
    assert result["num_points"] == len(clustered.load_brain_results("plot").points)


@pytest.mark.parametrize("rivals", ["delete", "delete and store", "store"])
def test_another_process_works_on_the_same_plot(clustered, rivals):
    """This process has read the dataset before, and knows nothing of it."""

    def meanwhile(share, text):
        if text.startswith("Storing"):
            fo.Dataset._instances.pop(clustered.name)
            theirs = fo.load_dataset(clustered.name)
            fo.Dataset._instances[clustered.name] = clustered
            if "delete" in rivals:
                foo.get_operator("@embedding/quality/delete_run")(theirs, run_key="plot")
            if "store" in rivals:
                lay_out(theirs, Progress())

    def lay_out(dataset, progress):
        inputs = Inputs(resolve_target(dataset), progress, embeddings="vectors")
        visualization.compute_visualization(inputs, Layout("pca"), brain_key="plot")

    if "delete" in rivals:
        lay_out(clustered, Progress())
    lay_out(clustered, Progress(meanwhile))
    clustered.reload()
    assert clustered.list_brain_runs() == ["plot"]
    assert len(_points(clustered, "plot")) == 80
    runs = odm.get_db_conn().runs
    assert runs.count_documents({"_dataset_id": clustered._doc.id, "key": "plot"}) == 1
