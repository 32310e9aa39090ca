"""FiftyOne's similarity index for every field of embeddings finds what is nearest."""

import fiftyone as fo
import fiftyone.brain as fob
import fiftyone.operators as foo
import numpy as np
import pytest
from test_forms import form, told

PREFIX = "@embedding/quality/"
NUMBER = 24


def operator(name):
    return foo.get_operator(PREFIX + name)


def _rows(seed=51, length=6):
    """Of different lengths, so that angle and distance disagree."""
    random = np.random.default_rng(seed)
    return (random.normal(size=(NUMBER, length)) + 1) * random.uniform(0.2, 5, (NUMBER, 1))


@pytest.fixture
def stones(dataset):
    for index, row in enumerate(_rows()):
        dataset.add_sample(fo.Sample(f"/none/{index}.png", shape=row.astype(np.float32)))
    return dataset


def nearest(rows, query, metric):
    """By brute force; FiftyOne's index compares what it has centered."""
    rows = np.asarray(rows, np.float64)
    rows = rows - rows.mean(axis=0)
    if metric == "euclidean":
        return np.argsort(np.linalg.norm(rows - rows[query], axis=1))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return np.argsort(-unit @ unit[query])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_images_like_an_image(stones, metric):
    result = operator("describe_embeddings")(
        stones, embeddings="shape", model="pebble", metric=metric, similarity_index="likeness"
    )
    assert result["similarity_index"] == "likeness" and not result["text_search"]
    ids = np.array(stones.values("id"))
    for query in (0, 7):
        found = stones.sort_by_similarity(ids[query], k=6, brain_key="likeness").values("id")
        assert found == list(ids[nearest(_rows(), query, metric)[:6]])
    assert not stones.get_brain_info("likeness").config.supports_prompts
    # A sample that is added is found by the same index, when it is opened again.
    stones.add_sample(fo.Sample("/none/twin.png", shape=stones.first()["shape"]))
    index = fo.load_dataset(stones.name).load_brain_results("likeness", cache=False)
    assert index.total_index_size == NUMBER + 1


def test_it_is_listed_and_goes_with_what_made_it(stones):
    operator("describe_embeddings")(
        stones, embeddings="shape", model="pebble", similarity_index="likeness"
    )
    rows = {row["run_key"]: row for row in operator("list_runs")(stones)["runs"]}
    assert rows["likeness"]["operator"] == "similarity_index"
    assert rows["likeness"]["found"] == "search by image" and rows["likeness"]["reasons"] == []
    removed = operator("delete_run")(stones, run_key="likeness")
    assert removed["brain_runs"] == ["likeness"] and stones.list_brain_runs() == []
    call = {"embeddings": "shape", "model": "pebble", "similarity_index": "likeness"}
    operator("describe_embeddings")(stones, **call)
    # Told anew without an index, it keeps the one that is there.
    again = operator("describe_embeddings")(stones, embeddings="shape", model="pebble 2")
    assert again["similarity_index"] == "likeness"
    removed = operator("delete_run")(stones, run_key="shape")
    assert removed["brain_runs"] == ["likeness"] and stones.list_brain_runs() == []
    assert stones.count("shape") == NUMBER


def test_reduced_embeddings_have_one_too(stones):
    result = operator("reduce_embeddings")(
        stones, embeddings="shape", num_dims=2, similarity_index="likeness"
    )
    assert result["similarity_index"] == "likeness"
    ids = np.array(stones.values("id"))
    expected = nearest(np.stack(stones.values("shape_pca")), 3, "cosine")[:5]
    found = stones.sort_by_similarity(ids[3], k=5, brain_key="likeness").values("id")
    assert found == list(ids[expected])
    # What is reduced anew is what is searched.
    operator("reduce_embeddings")(stones, embeddings="shape", num_dims=3)
    expected = nearest(np.stack(stones.values("shape_pca")), 3, "cosine")[:5]
    found = stones.sort_by_similarity(ids[3], k=5, brain_key="likeness").values("id")
    assert found == list(ids[expected])
    assert operator("delete_run")(stones, run_key="shape_pca")["brain_runs"] == ["likeness"]


def test_what_is_the_users_is_not_taken(stones):
    fob.compute_similarity(stones, embeddings="shape", brain_key="likeness", backend="sklearn")
    stones.reload()
    written = stones.get_brain_info("likeness").timestamp
    for name, call in {
        "describe_embeddings": {"embeddings": "shape", "model": "pebble"},
        "reduce_embeddings": {"embeddings": "shape", "num_dims": 2},
        "audit": {"embeddings": "shape", "check_pictures": False},
    }.items():
        with pytest.raises(ValueError, match="'likeness': the dataset already has a brain run"):
            operator(name)(stones, similarity_index="likeness", **call)
    assert stones.list_runs() == [] and set(stones.get_field_schema()) >= {"shape"}
    with pytest.raises(ValueError, match="is a brain run that this plugin did not create"):
        operator("delete_run")(stones, run_key="likeness")
    assert stones.get_brain_info("likeness").timestamp == written
    # Nor is an index of one field made that of another.
    stones.set_values("other", [row.astype(np.float32) for row in _rows(seed=2)])
    call = {"model": "pebble", "similarity_index": "mine"}
    operator("describe_embeddings")(stones, embeddings="shape", **call)
    with pytest.raises(ValueError, match="'mine' is the index of 'shape'; choose another name"):
        operator("describe_embeddings")(stones, embeddings="other", **call)
    assert [row["run_key"] for row in operator("list_runs")(stones)["runs"]] != []
    assert not stones.has_run("other")


@pytest.mark.parametrize(
    "broken, message",
    [
        (lambda row: row * np.nan, "cannot be searched: 1 × embedding with NaN or infinity"),
        (np.int8, "stored as int8, but FiftyOne.s index needs"),
    ],
)
def test_what_fiftyone_cannot_search_is_refused(stones, broken, message):
    rows = _rows()
    if "int8" in message:
        stones.set_values("shape", [broken(row) for row in rows])
    else:
        first = stones.first()
        first["shape"] = broken(rows[0])
        first.save()
    call = {"embeddings": "shape", "model": "pebble"}
    with pytest.raises(ValueError, match=message):
        operator("describe_embeddings")(stones, **call, similarity_index="likeness")
    assert stones.list_brain_runs() == [] and stones.list_runs() == []
    assert operator("describe_embeddings")(stones, **call)["similarity_index"] is None


def test_the_audit_makes_one_where_it_is_asked_to(stones):
    result = operator("audit")(
        stones, embeddings="shape", check_pictures=False, similarity_index="likeness"
    )
    made = {"similarity_index": "likeness", "text_search": False}
    assert result["steps"]["similarity_index"] == made
    assert "search by image in the App: `likeness`" in operator("audit").summary(result)
    ids = np.array(stones.values("id"))
    found = stones.sort_by_similarity(ids[7], k=6, brain_key="likeness").values("id")
    assert found == list(ids[nearest(_rows(), 7, "cosine")[:6]])
    assert (
        "similarity_index"
        not in operator("audit")(stones, embeddings="shape", check_pictures=False)["steps"]
    )


def test_forms_offer_it(stones):
    fields = form("audit", stones)
    assert fields["searchable"]["default"] is False and "similarity_index" not in fields
    assert fields["searchable"]["view"]["label"] == "Search by image"
    fields = form("audit", stones, searchable=True)
    assert fields["similarity_index"]["view"]["placeholder"] == "shape_similarity"
    stones.delete_sample_field("shape")
    assert form("audit", stones)["searchable"]["view"]["label"] == "Search by image or text"
    fields = form("audit", stones, model="cnn")
    assert fields["searchable"]["view"]["label"] == "Search by image"
    fields = form("compute_embeddings", stones, model="clip", searchable=True)
    assert fields["searchable"]["view"]["label"] == "Search by image or text"
    assert fields["similarity_index"]["view"]["placeholder"] == "clip_similarity"
    fob.compute_visualization(stones, points=np.zeros((NUMBER, 2)), brain_key="theirs")
    refused = form("compute_embeddings", stones, searchable=True, similarity_index="theirs")
    assert "that this plugin did not create" in told(refused)


def test_patches_like_a_patch(dataset):
    rows = _rows()
    for index in range(0, NUMBER, 2):
        boxes = [
            fo.Detection(label="stone", bounding_box=[0.1, 0.1, 0.3, 0.3], shape=row)
            for row in rows[index : index + 2].astype(np.float32)
        ]
        sample = fo.Sample(f"/none/{index}.png", stones=fo.Detections(detections=boxes))
        dataset.add_sample(sample, dynamic=True)
    dataset.add_sample_field("stones.detections.shape", fo.VectorField)
    operator("describe_embeddings")(
        dataset,
        embeddings="shape",
        model="pebble",
        patches_field="stones",
        similarity_index="likeness",
    )
    ids = np.array(dataset.values("stones.detections.id", unwind=True))
    patches = dataset.to_patches("stones")
    found = patches.sort_by_similarity(ids[5], k=4, brain_key="likeness").values("id")
    assert found == list(ids[nearest(rows, 5, "cosine")[:4]])
    (index,) = (
        row for row in operator("list_runs")(dataset)["runs"] if row["run_key"] == "likeness"
    )
    assert index["reasons"] == []


def test_texts_are_searched_with_the_tower_that_is_told(stones, tiny_clip):
    architecture, weights = tiny_clip
    side = f"open_clip:{architecture}/{weights}"
    call = {"model": "mine", "text_side": side, "similarity_index": "likeness"}
    # 6 numbers are not what the tower makes of a text.
    with pytest.raises(
        ValueError, match="embeds texts to 32 dimensions, but the embeddings have 6"
    ):
        operator("describe_embeddings")(stones, embeddings="shape", **call)
    assert stones.list_brain_runs() == [] and stones.list_runs() == []
    rows = np.random.default_rng(5).normal(size=(NUMBER, 32)).astype(np.float32)
    stones.set_values("wide", list(rows))
    result = operator("describe_embeddings")(stones, embeddings="wide", **call)
    assert result["text_search"]
    index = stones.load_brain_results("likeness")
    text = np.asarray(index.get_model().embed_prompt("a flat stone"), np.float64)
    scores = rows @ text / np.linalg.norm(rows, axis=1)
    found = stones.sort_by_similarity("a flat stone", k=5, brain_key="likeness").values("id")
    assert found == list(np.array(stones.values("id"))[np.argsort(-scores)[:5]])
