"""Neighbors from FiftyOne's similarity indexes: LanceDB, and Qdrant's client in its local mode."""

import functools

import fiftyone as fo
import fiftyone.brain as fob
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone.operators.executor import ExecutionContext
from fiftyone_embedding_quality.analysis.found_neighbors import graph_of_found
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.storage.arrays import decode
from fiftyone_embedding_quality.storage.index_search import _ask_fiftyone, _ask_lancedb
from fiftyone_embedding_quality.storage.runs import plugin_runs, read_results
from sklearn.datasets import load_digits

COUNT = 300


@pytest.fixture(scope="module")
def find_outliers():
    operator = foo.get_operator("@embedding/quality/find_outliers")
    return functools.partial(operator, embeddings="pixels", check_pictures=False)


@pytest.fixture(scope="module")
def _numbers():
    images, digits = load_digits(return_X_y=True)
    dataset = fo.Dataset()
    ids = dataset.add_samples(
        [
            fo.Sample(f"/nowhere/{i}.png", truth=fo.Classification(label=str(digit)))
            for i, digit in enumerate(digits[:COUNT])
        ]
    )
    dataset.set_values("pixels", dict(zip(ids, images[:COUNT].astype(np.float32))), key_field="id")
    yield dataset
    dataset.delete()


@pytest.fixture
def numbers(_numbers):
    dataset = _numbers.clone()
    yield dataset
    dataset.delete()


@pytest.fixture(params=["lancedb", pytest.param("qdrant", marks=pytest.mark.battery)])
def backend(request, tmp_path, monkeypatch):
    """A backend of FiftyOne's, and how it is reached."""
    settings = {}
    if request.param == "lancedb":
        pytest.importorskip("lancedb", reason="needs LanceDB: pip install lancedb")
        settings = {"uri": str(tmp_path / "lance")}
    if request.param == "qdrant":
        # No server can be installed by pip: the same calls, in the client's own local mode.
        qdrant_client = pytest.importorskip(
            "qdrant_client", reason="needs Qdrant's client: pip install qdrant-client"
        )
        client = qdrant_client.QdrantClient(":memory:")
        monkeypatch.setattr(qdrant_client, "QdrantClient", lambda **_address: client)
        settings = {"url": "http://127.0.0.1:6333"}
    backends = fob.brain_config.similarity_backends
    monkeypatch.setitem(backends, request.param, {**backends.get(request.param, {}), **settings})
    return request.param


def index_of(dataset, backend, **options):
    fob.compute_similarity(
        dataset, embeddings="pixels", backend=backend, brain_key="theirs", **options
    )
    return dataset


def stored_graph(dataset, neighbors=None):
    graphs = plugin_runs(dataset, "neighbor_graph")
    (run,) = (one for one in graphs if one.facts.special["neighbors"] == neighbors)
    return run.facts.special, decode(read_results(dataset, run.key).indices)


def scores(dataset):
    return np.array(dataset.sort_by("id").values("outliers_score"))


def test_what_is_found_is_the_same(numbers, find_outliers, backend):
    find_outliers(numbers)
    ours, (_, exact) = scores(numbers), stored_graph(numbers)
    result = find_outliers(index_of(numbers, backend), neighbors="theirs")
    told = result["neighbors"]
    assert told["brain_key"] == "theirs" and told["backend"] == backend
    assert told["recall"] > 0.999
    assert abs(scores(numbers) - ours).max() < 1e-3
    facts, found = stored_graph(numbers, "theirs")
    assert facts["method"] == backend
    assert (found != np.arange(COUNT)[:, None]).all()
    shared = [len(set(a) & set(b)) / len(a) for a, b in zip(found, exact)]
    assert np.mean(shared) > 0.999
    # It is read again, and only by those who name the index: what is found does not depend on
    # what was run before.
    find_outliers(numbers, neighbors="theirs")
    assert stored_graph(numbers, "theirs")[0]["stored_at"] == facts["stored_at"]
    assert stored_graph(numbers)[0]["method"] == "exact"
    text = foo.get_operator("@embedding/quality/find_outliers")._output(result).to_json()
    assert "from the similarity index `theirs`" in str(text)


def test_what_reads_no_neighbors_says_nothing_of_them(numbers, backend):
    visualize = foo.get_operator("@embedding/quality/compute_visualization")
    index_of(numbers, backend)
    result = visualize(numbers, embeddings="pixels", method="pca", neighbors="theirs")
    assert result["num_points"] == COUNT and result["neighbors"] is None
    assert "similarity index" not in str(visualize._output(result).to_json())


def test_a_view_has_neighbors_of_its_own(numbers, find_outliers, backend):
    view = index_of(numbers, backend).match_labels(filter=fo.ViewField("label") < "3")
    result = find_outliers(view, neighbors="theirs")
    assert result["neighbors"]["recall"] > 0.999 and result["judged"] == len(view)
    find_outliers(numbers, neighbors="theirs")
    assert len(plugin_runs(numbers, "neighbor_graph")) == 2


def test_an_update_takes_them_from_the_same_index(numbers, find_outliers, backend):
    find_outliers(index_of(numbers, backend), neighbors="theirs")
    visualize = foo.get_operator("@embedding/quality/compute_visualization")
    visualize(numbers, embeddings="pixels", method="umap", n_neighbors=45, neighbors="theirs")
    assert stored_graph(numbers, "theirs")[1].shape[1] >= 44
    first = numbers.first()
    first["pixels"] = first["pixels"][::-1].copy()
    first.save()
    numbers.load_brain_results("theirs").add_to_index(np.stack([first["pixels"]]), [first.id])
    update = foo.get_operator("@embedding/quality/update_audit")(numbers)
    assert set(update["updated"]) >= {"outliers"} and not update["failed"]
    graphs = plugin_runs(numbers, "neighbor_graph")
    assert {run.facts.special["neighbors"] for run in graphs} == {"theirs"}
    numbers.delete_brain_run("theirs")
    first["pixels"] = first["pixels"][::-1].copy()
    first.save()
    assert (
        "no such similarity index"
        in foo.get_operator("@embedding/quality/update_audit")(numbers)["failed"]["outliers"]
    )


def test_patches_are_found_among_patches(numbers, find_outliers, backend):
    images = load_digits().data[:60].astype(np.float32)
    for sample, pair in zip(numbers.limit(30), images.reshape(30, 2, 64)):
        boxes = [
            fo.Detection(label="half", bounding_box=[x, 0, 0.5, 1], pixels=row)
            for x, row in zip((0, 0.5), pair)
        ]
        sample["halves"] = fo.Detections(detections=boxes)
        sample.save()
    numbers.add_sample_field("halves.detections.pixels", fo.VectorField)
    index_of(numbers, backend, patches_field="halves")
    result = find_outliers(numbers, patches_field="halves", neighbors="theirs")
    assert result["judged"] == 60 and result["neighbors"]["recall"] > 0.999
    with pytest.raises(ValueError, match="index of 'halves', not of the samples; pass patches_f"):
        find_outliers(numbers, neighbors="theirs")


def test_what_an_index_lacks_is_refused(numbers, find_outliers, backend):
    index_of(numbers.limit(COUNT - 3), backend)
    before = numbers.list_runs()
    with pytest.raises(ValueError, match=r"lacks 3 of the 300 samples .*index\.add_to_index"):
        find_outliers(numbers, neighbors="theirs")
    assert numbers.list_runs() == before


def test_old_embeddings_in_the_database_are_noticed(numbers, find_outliers, tmp_path):
    pytest.importorskip("lancedb", reason="needs LanceDB: pip install lancedb")
    ids = numbers.values("id")
    index = fob.compute_similarity(
        numbers, embeddings=False, backend="lancedb", brain_key="theirs", uri=str(tmp_path / "old")
    )
    noise = np.random.default_rng(3).normal(size=(COUNT, 64)).astype(np.float32)
    index.add_to_index(noise, ids)
    with pytest.raises(ValueError, match=r"finds \d+ % of the true neighbors. Either it holds"):
        find_outliers(numbers, neighbors="theirs")
    index.cleanup()


def test_an_index_of_something_else_is_refused(numbers, find_outliers):
    with pytest.raises(ValueError, match="no such similarity index; it has: none"):
        find_outliers(numbers, neighbors="theirs")
    index_of(numbers, "sklearn")
    with pytest.raises(ValueError, match="has no database: FiftyOne's backend 'sklearn'"):
        find_outliers(numbers, neighbors="theirs")
    fob.compute_visualization(numbers, embeddings="pixels", method="pca", brain_key="plot")
    with pytest.raises(ValueError, match="a brain run of another kind"):
        find_outliers(numbers, neighbors="plot")
    find_duplicates = foo.get_operator("@embedding/quality/find_duplicates")
    with pytest.raises(ValueError, match="needs embeddings=, the field"):
        find_duplicates(numbers, neighbors="theirs")


def test_another_metric_or_field_is_refused(numbers, find_outliers, backend):
    index_of(numbers, backend, metric="euclidean")
    with pytest.raises(ValueError, match="compares by euclidean, the checks by cosine"):
        find_outliers(numbers, neighbors="theirs")
    numbers.delete_brain_run("theirs")
    numbers.clone_sample_field("pixels", "others")
    index = fob.compute_similarity(numbers, embeddings="others", backend=backend, brain_key="b")
    with pytest.raises(ValueError, match="is the index of 'others', not of 'pixels'"):
        find_outliers(numbers, neighbors="b")
    index.cleanup()


def test_the_form_offers_what_fits(numbers, backend):
    index_of(numbers, backend)
    params = {"embeddings": "pixels"}
    context = ExecutionContext({"dataset_name": numbers.name, "params": params})
    form = foo.get_operator("@embedding/quality/find_outliers").resolve_input(context)
    offered = form.to_json()["type"]["properties"]["neighbors"]
    assert offered["type"]["values"] == ["(none)", "theirs"]


def test_other_backends_are_asked_by_fiftyones_own_call(numbers, tmp_path):
    """Those of which no server can be had here answer in the same form as this one does."""
    pytest.importorskip("lancedb", reason="needs LanceDB: pip install lancedb")
    uri = str(tmp_path / "lance")
    fob.compute_similarity(
        numbers, embeddings="pixels", backend="lancedb", brain_key="theirs", uri=uri
    )
    index = numbers.load_brain_results("theirs")
    queries = np.stack(numbers.limit(3).values("pixels"))
    names = numbers.limit(3).values("id")
    assert _ask_fiftyone(index, names, queries, 8) == _ask_lancedb(index, names, queries, 8)


def test_rows_of_which_too_little_was_found_are_searched_exactly():
    rows = load_digits().data[:200]
    exact = neighbor_graph(rows, k=10)
    found = exact.indices.copy()
    found[::7, 4:] = -1
    graph = graph_of_found(rows, found, 10, "half a database")
    np.testing.assert_allclose(graph.distances, exact.distances, atol=1e-6)
    assert graph.recall == 1.0
