"""What an operator finds depends on data, parameters and seed, not on what was run before it."""

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest

PREFIX = "@embedding/quality/"
COMMON = {"embeddings": "features"}
LABELED = {**COMMON, "label_field": "species"}

# The operators with their parameters; t-SNE asks for three times the neighbors of the others.
CALLS = {
    "duplicates": ("find_duplicates", LABELED),
    "outliers": ("find_outliers", {**COMMON, "check_pictures": False}),
    "label_issues": ("find_label_issues", LABELED),
    "clusters": ("find_clusters", {**LABELED, "names": "labels"}),
    "selection": ("select_samples", {**COMMON, "num_samples": 20}),
    "suggestions": ("suggest_labels", LABELED),
    "separability": ("compute_separability", LABELED),
    "umap": ("compute_visualization", {**COMMON, "method": "umap", "brain_key": "umap"}),
    "tsne": (
        "compute_visualization",
        {**COMMON, "method": "tsne", "brain_key": "tsne", "perplexity": 35.0},
    ),
}


def operate(dataset, call):
    name, parameters = CALLS[call]
    return foo.get_operator(PREFIX + name)(dataset, **parameters)


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    """150 samples of three overlapping classes with wrong labels, outliers, and no copies."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("birds")
    random = np.random.default_rng(7)
    centers = random.normal(size=(3, 24))
    dataset = fo.Dataset()
    for index in range(150):
        path = str(folder / f"{index}.png")
        Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(path)
        spread = 3.0 if index % 25 == 0 else 0.55
        features = (centers[index % 3] + spread * random.normal(size=24)).astype(np.float32)
        given = (index % 3 + (index % 13 == 0)) % 3
        label = fo.Classification(label=("wren", "robin", "finch")[given])
        label = label if index % 19 != 5 else None
        dataset.add_sample(fo.Sample(path, features=features, species=label))
    yield dataset
    dataset.delete()


def findings(dataset, call) -> list:
    """What a call has left in the dataset, in the order of the files."""
    dataset.reload()
    files = dict(zip(*dataset.values(["id", "filepath"])))
    if CALLS[call][0] == "compute_visualization":
        return [np.asarray(dataset.load_brain_results(call).points).tolist()]
    if call == "separability":
        report = dict(dataset.load_run_results(call, cache=False).report)
        for pair in report["pairs"]:
            pair["boundary"] = [files[id_] for id_ in pair["boundary"]]
        # What other runs have found is counted beside the measures.
        counted = {"label_issues", "outliers"}
        return [
            [{k: v for k, v in row.items() if k not in counted} for row in report[part]]
            for part in ("classes", "pairs")
        ]
    names = [name for name in dataset.get_field_schema() if name.startswith(f"{call}_")]
    found = []
    for sample in dataset.sort_by("filepath"):
        row = {name: sample[name] for name in names}
        if row.get(f"{call}_against"):
            row[f"{call}_against"] = [files[id_] for id_ in row[f"{call}_against"]]
        found.append(
            {
                name: (value.label, value.confidence) if isinstance(value, fo.Label) else value
                for name, value in row.items()
            }
        )
    return found


@pytest.fixture(scope="module")
def alone(birds):
    """What each call finds on a dataset on which nothing else was run."""
    found = {}
    for call in CALLS:
        dataset = birds.clone()
        operate(dataset, call)
        found[call] = findings(dataset, call)
        dataset.delete()
    return found


def test_there_is_something_to_find(alone):
    assert sum(row["outliers_flagged"] for row in alone["outliers"]) >= 3
    assert sum(bool(row["label_issues_flagged"]) for row in alone["label_issues"]) >= 3
    assert len({row["clusters_cluster"] for row in alone["clusters"]}) >= 3
    assert sum(row["selection_rank"] is not None for row in alone["selection"]) == 20
    assert sum(row["suggestions_label"] is not None for row in alone["suggestions"]) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("order", ["as they stand", "the other way round"])
def test_every_pair_in_both_orders(birds, alone, order):
    """Of any two calls, each comes before the other in one of the two orders."""
    dataset = birds.clone()
    calls = list(CALLS) if order == "as they stand" else list(CALLS)[::-1]
    for call in calls:
        operate(dataset, call)
    for call in calls:
        assert findings(dataset, call) == alone[call], call
    dataset.delete()


def test_duplicates_that_are_found_later_make_what_heeds_them_stale(photos):
    """Copies of an image support each other until they are known: that is said, and mended."""
    outliers = {"embeddings": "cnn", "check_pictures": False}

    def state():
        rows = foo.get_operator(PREFIX + "list_runs")(photos)["runs"]
        return next(row["reasons"] for row in rows if row["run_key"] == "outliers")

    foo.get_operator(PREFIX + "find_outliers")(photos, **outliers)
    assert state() == []
    foo.get_operator(PREFIX + "find_duplicates")(photos, embeddings="cnn")
    assert state() == ["duplicates were found or removed since"]
    foo.get_operator(PREFIX + "find_outliers")(photos, **outliers)
    assert state() == []
    foo.get_operator(PREFIX + "delete_run")(photos, run_key="duplicates")
    assert state() == ["duplicates were found or removed since"]
