"""Reduced embeddings on a real database: fields, runs, new samples, a camera that is taken out."""

import json
from collections import Counter

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from conftest import read_rows
from PIL import Image
from sklearn.decomposition import PCA, TruncatedSVD

NUMBER, LENGTH = 180, 24
KINDS = ("oak", "elm", "ash")


@pytest.fixture(scope="module")
def reduce_embeddings():
    return foo.get_operator("@embedding/quality/reduce_embeddings")


def _trees(count, seed=51):
    """Rows of three kinds of trees in four directions beside noise, and of two lenses in one."""
    noise = np.random.default_rng(7)
    centers, shift = noise.normal(size=(3, LENGTH)) * 2, noise.normal(size=LENGTH) * 0.7
    random = np.random.default_rng(seed)
    kind = np.arange(count) % 3
    lens = np.arange(count) // 3 % 2
    rows = centers[kind] + random.normal(size=(count, LENGTH)) * 0.8 + lens[:, None] * shift
    return rows.astype(np.float32), [KINDS[one] for one in kind], lens.astype(bool).tolist()


def _samples(count, seed=51):
    return [
        fo.Sample(
            f"/none/{seed}-{place}.png",
            vec=row,
            tree=fo.Classification(label=kind),
            lens="wide" if wide else "tele",
            wide=wide,
            lens_number=int(wide),
            single="same",
        )
        for place, (row, kind, wide) in enumerate(zip(*_trees(count, seed)))
    ]


@pytest.fixture
def trees(dataset):
    dataset.add_sample_field("vec", fo.VectorField)
    dataset.add_samples(_samples(NUMBER))
    return dataset


def _matrix(samples, field):
    return np.stack(samples.values(field))


def _units(samples):
    rows = _matrix(samples, "vec")
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_components_are_those_of_scikit_learn(trees, reduce_embeddings):
    result = reduce_embeddings(trees, embeddings="vec", num_dims=6, label_field="tree")
    json.dumps(result)
    assert result["run_key"] == result["field"] == "vec_pca"
    reference = PCA(6, svd_solver="full").fit(_units(trees))
    expected, found = reference.transform(_units(trees)), _matrix(trees, "vec_pca")
    assert found.dtype == np.float32
    assert np.allclose(np.abs(found), np.abs(expected), atol=1e-5)
    assert result["explained"] == pytest.approx(reference.explained_variance_ratio_.sum(), abs=1e-3)
    assert (result["dim"], result["placed"], result["judged"]) == (6, NUMBER, NUMBER)
    assert result["accuracy"]["before"] > 0.9 and result["accuracy"]["after"] > 0.9
    assert result["removed"] is None

    by_svd = reduce_embeddings(trees, embeddings="vec", method="svd", num_dims=6)
    reference = TruncatedSVD(6, algorithm="arpack", random_state=0)
    expected = reference.fit_transform(_units(trees))
    assert np.allclose(np.abs(_matrix(trees, "vec_svd")), np.abs(expected), atol=1e-4)
    assert by_svd["accuracy"] is None
    assert reduce_embeddings.summary(result).startswith("**180 samples** reduced into `vec_pca`")


def test_kept_neighbors_are_counted_by_brute_force(trees, reduce_embeddings):
    result = reduce_embeddings(trees, embeddings="vec", num_dims=4)

    def nearest(field):
        rows = _matrix(trees, field)
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        similarity = rows @ rows.T
        np.fill_diagonal(similarity, -2)
        return np.argsort(-similarity, axis=1)[:, :15]

    pairs = zip(nearest("vec"), nearest("vec_pca"))
    kept = np.mean([len(set(one) & set(other)) / 15 for one, other in pairs])
    assert result["neighbor_preservation"] == pytest.approx(kept, abs=2e-3)
    whole = reduce_embeddings(trees, embeddings="vec", method="svd", num_dims=LENGTH)
    assert whole["neighbor_preservation"] == 1 and whole["explained"] == pytest.approx(1, abs=1e-4)


def test_an_autoencoder_is_repeated_exactly(trees, reduce_embeddings):
    call = {"embeddings": "vec", "method": "autoencoder", "num_dims": 3}
    first = reduce_embeddings(trees, **call)
    rows = _matrix(trees, "vec_autoencoder")
    again = reduce_embeddings(trees, **call)
    assert np.array_equal(rows, _matrix(trees, "vec_autoencoder"))
    assert first["explained"] == again["explained"] and first["epochs"] == again["epochs"] > 0
    linear = reduce_embeddings(trees, embeddings="vec", num_dims=3)
    assert first["explained"] >= linear["explained"] - 0.02
    assert reduce_embeddings(trees, **call, seed=52)["reducer"] != again["reducer"]


@pytest.mark.parametrize("method", ["pca", "svd", "autoencoder"])
def test_new_samples_are_placed_beside_the_others(trees, reduce_embeddings, method):
    call = {"embeddings": "vec", "method": method, "num_dims": 5, "remove": "lens"}
    reduce_embeddings(trees, **call)
    field = f"vec_{method}"
    before = dict(zip(*trees.values(["id", field])))
    fresh = _samples(12, seed=5)
    twin = trees.first()
    fresh.append(fo.Sample("/none/twin.png", vec=twin["vec"], lens="wide"))
    trees.add_samples(fresh)
    runs = foo.get_operator("@embedding/quality/list_runs")(trees)["runs"]
    row = next(one for one in runs if one["run_key"] == field)
    assert "13 samples were added" in row["reasons"]
    result = reduce_embeddings(trees[NUMBER:], **call, update=True)
    assert (result["placed"], result["judged"], result["dim"]) == (13, NUMBER + 13, 5)
    after = dict(zip(*trees.values(["id", field])))
    assert all(np.array_equal(after[id_], row) for id_, row in before.items())
    assert np.allclose(after[trees.last().id], before[twin.id], atol=1e-5)
    runs = foo.get_operator("@embedding/quality/list_runs")(trees)["runs"]
    assert next(one for one in runs if one["run_key"] == field)["reasons"] == []
    assert reduce_embeddings(trees, **call, update=True)["placed"] == 0


def test_all_checks_read_the_result_and_it_goes_again(trees, reduce_embeddings):
    fields, runs = set(trees.get_field_schema()), set(trees.list_runs())
    reduce_embeddings(trees, embeddings="vec", num_dims=8)
    calls = {
        "find_outliers": {"check_pictures": False},
        "find_label_issues": {"label_field": "tree"},
        "compute_separability": {"label_field": "tree"},
        "find_clusters": {"label_field": "tree", "names": "labels"},
        "select_samples": {"num_samples": 10},
        "compute_visualization": {},
    }
    for name, call in calls.items():
        result = foo.get_operator(f"@embedding/quality/{name}")(trees, embeddings="vec_pca", **call)
        assert result["judged"] == NUMBER, name
        assert "reduced to 8 dimensions by PCA" in result["model"], name
    assert trees.load_brain_results("vec_pca_umap").points.shape == (NUMBER, 2)
    delete_run = foo.get_operator("@embedding/quality/delete_run")
    for key in ("outliers", "label_issues", "separability", "clusters", "selection"):
        delete_run(trees, run_key=key)
    removed = delete_run(trees, run_key="vec_pca")
    assert removed["fields"] == ["vec_pca"]
    assert set(trees.get_field_schema()) == fields
    assert {name for name in trees.list_runs() if not name.startswith("vec_graph")} == runs


@pytest.mark.parametrize("name", ["lens", "wide", "lens_number"])
def test_the_lens_is_no_longer_told(trees, reduce_embeddings, name):
    found = reduce_embeddings(
        trees, embeddings="vec", remove=name, num_dims=None, label_field="tree"
    )
    assert found["field"] == f"vec_without_{name}" and found["dim"] == LENGTH
    removed = found["removed"]
    assert removed["field"] == name and removed["values"] == 2 and removed["chance"] == 0.5
    assert removed["before"] >= 0.9 and removed["after"] <= 0.55 and not removed["still_told"]
    assert abs(found["accuracy"]["after"] - found["accuracy"]["before"]) <= 0.01
    rows, wide = _matrix(trees, found["field"]), np.array(trees.values("wide"))
    assert np.allclose(rows[wide].mean(axis=0), rows[~wide].mean(axis=0), atol=1e-6)
    separability = foo.get_operator("@embedding/quality/compute_separability")(
        trees, embeddings=found["field"], label_field="tree", by=name
    )
    assert separability["field_prediction"]["balanced_accuracy"] <= 0.55


def test_separability_names_the_way_out(trees, reduce_embeddings):
    compute_separability = foo.get_operator("@embedding/quality/compute_separability")
    result = compute_separability(trees, embeddings="vec", label_field="tree", by="lens")
    advice = "reduce_embeddings(embeddings='vec', remove='lens')"
    assert advice in result["field_prediction"]["verdict"]
    # The advice can be followed as it stands, and is not given where there is nothing to do.
    reduced = reduce_embeddings(trees, embeddings="vec", remove="lens", num_dims=20)
    result = compute_separability(trees, embeddings=reduced["field"], label_field="tree", by="lens")
    assert "reduce_embeddings" not in result["field_prediction"]["verdict"]


def test_what_cannot_be_read_is_counted(trees, reduce_embeddings):
    broken, bare, silent, zero = trees[:4]
    broken["vec"] = broken["vec"] * np.nan
    bare["vec"] = None
    silent["lens"] = None
    zero["vec"] = zero["vec"] * 0
    for sample in (broken, bare, silent, zero):
        sample.save()
    result = reduce_embeddings(trees, embeddings="vec", num_dims=5, remove="lens")
    assert result["skipped"] == {"no embedding": 1, "embedding with NaN or infinity": 1}
    assert (result["read"], result["judged"]) == (NUMBER, NUMBER - 2)
    assert result["removed"]["without_value"] == 1
    first = trees[:4].values("vec_pca")
    assert first[0] is None and first[1] is None and first[2].any() and not first[3].any()


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"embeddings": "nothing"}, "embeddings='nothing': there is no such field"),
        ({"method": "umap"}, "method='umap' is not known; choose 'pca', 'svd', 'autoencoder'"),
        ({"num_dims": 0}, "num_dims=0 must be at least 1"),
        ({"num_dims": 25}, "have only 24 dimensions"),
        ({"num_dims": 6.5}, "num_dims=6.5 must be int or None"),
        ({"num_dims": None}, "num_dims=None keeps the dimensions"),
        ({"remove": "nothing"}, "remove='nothing': there is no such field"),
        ({"remove": "single"}, "remove='single' has 1 different values"),
        ({"remove": "vec"}, "remove='vec' holds no class"),
        ({"label_field": "nothing"}, "label_field='nothing': there is no such field"),
        ({"label_field": "single"}, "label_field='single' holds only one class"),
        ({"field": "two words"}, "field='two words' cannot be the name of a field"),
        ({"field": "vec"}, "field='vec' holds the embeddings themselves"),
        ({"field": "lens"}, "already has a field 'lens' that this plugin did not write"),
        ({"update": True}, "there are no reduced embeddings 'vec_pca' yet"),
        ({"seed": -1}, "seed=-1 must be between 0"),
    ],
)
def test_refusals(trees, reduce_embeddings, parameters, message):
    names = set(trees.get_field_schema())
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        reduce_embeddings(trees, **{"embeddings": "vec", "num_dims": 6, **parameters})
    assert not trees.has_run("vec_pca") and set(trees.get_field_schema()) == names


def test_fewer_samples_than_dimensions(trees, reduce_embeddings):
    with pytest.raises(ValueError, match="num_dims=5 must be below the number of samples"):
        reduce_embeddings(trees[:5], embeddings="vec", num_dims=5)
    for method in ("pca", "svd", "autoencoder"):
        few = reduce_embeddings(trees[:6], embeddings="vec", num_dims=5, method=method)
        assert (few["dim"], few["judged"]) == (5, 6)


def test_changed_embeddings_are_not_mixed(trees, reduce_embeddings):
    reduce_embeddings(trees, embeddings="vec", num_dims=6)
    first = trees.first()
    first["vec"] = -first["vec"]
    first.save()
    with pytest.raises(ValueError, match="1 of the embeddings reduced before have"):
        reduce_embeddings(trees, embeddings="vec", update=True)
    updated = foo.get_operator("@embedding/quality/update_audit")(trees)
    assert updated["updated"]["vec_pca"]["dim"] == 6
    reference = PCA(6, svd_solver="full").fit_transform(_units(trees))
    assert np.allclose(np.abs(_matrix(trees, "vec_pca")), np.abs(reference), atol=1e-5)


def test_a_field_that_has_changed_is_taken_out_anew(trees, reduce_embeddings):
    call = {"embeddings": "vec", "num_dims": 10, "remove": "lens"}
    reduce_embeddings(trees, **call)
    other = ["wide" if place % 2 else "tele" for place in range(NUMBER)]
    trees.set_values("lens", other)
    moved = sum(one != ("wide" if wide else "tele") for one, wide in zip(other, _trees(NUMBER)[2]))
    with pytest.raises(ValueError, match=f"{moved} values of 'lens' have changed"):
        reduce_embeddings(trees, **call, update=True)
    updated = foo.get_operator("@embedding/quality/update_audit")(trees)
    assert updated["updated"]["vec_pca"]["placed"] == NUMBER
    assert updated["updated"]["vec_pca"]["parameters"]["remove"] == "lens"


def test_two_reducers_make_two_models(trees, reduce_embeddings):
    clone = trees[: NUMBER // 2].clone()
    for dataset in (trees, clone):
        reduce_embeddings(dataset, embeddings="vec", num_dims=6)
    with pytest.raises(ValueError, match="compute both with the same model"):
        foo.get_operator("@embedding/quality/compare_datasets")(
            trees, embeddings="vec_pca", other=clone.name, check_pictures=False
        )
    clone.delete()


def test_patches_of_a_view(dataset, reduce_embeddings):
    rows, kinds, wide = _trees(60)
    for place in range(30):
        boxes = [
            fo.Detection(label=kinds[one], bounding_box=[0, 0, 1, 1], vec=rows[one], far=wide[one])
            for one in (2 * place, 2 * place + 1)
        ]
        sample = fo.Sample(f"/none/{place}.png", boxes=fo.Detections(detections=boxes))
        dataset.add_sample(sample, dynamic=True)
    result = reduce_embeddings(
        dataset[:20],
        embeddings="vec",
        num_dims=5,
        patches_field="boxes",
        label_field="boxes",
        remove="far",
    )
    assert result["run_key"] == "boxes_detections_vec_pca" and result["field"] == "vec_pca"
    assert result["things"] == "patches" and result["judged"] == 40
    assert dataset.count("boxes.detections.vec_pca") == 40
    call = {"embeddings": "vec", "patches_field": "boxes", "update": True}
    assert reduce_embeddings(dataset, **call)["placed"] == 20
    foo.get_operator("@embedding/quality/delete_run")(dataset, run_key=result["run_key"])
    assert dataset.get_field("boxes.detections.vec_pca") is None


@pytest.mark.slow
def test_a_color_cast_is_taken_out_of_real_photos(
    shared, dataset, tmp_path, compute_embeddings, reduce_embeddings
):
    """Every other photo of each class of Caltech-101 was taken by a camera with warm colors."""
    count: Counter = Counter()
    for row in read_rows(shared / "data" / "caltech101" / "samples.csv"):
        name = row["class"]
        if row["is_background"] == "1" or count[name] == 24 or len({*count, name}) > 12:
            continue
        photo = Image.open(shared / "data" / "caltech101" / row["file"]).convert("RGB")
        camera = "warm" if count[name] % 2 else "plain"
        if camera == "warm":
            photo = Image.fromarray(np.clip(np.asarray(photo) * [1.5, 1, 0.4], 0, 255).astype("u1"))
        path = tmp_path / f"{name}-{count[name]}.png"
        photo.save(path)
        label = fo.Classification(label=name)
        dataset.add_sample(fo.Sample(str(path), camera=camera, ground_truth=label))
        count[name] += 1
    compute_embeddings(dataset, model="cnn")
    call = {"embeddings": "cnn", "remove": "camera", "label_field": "ground_truth"}
    result = reduce_embeddings(dataset, **call, num_dims=None)
    assert result["removed"]["before"] >= 0.88 and result["removed"]["after"] <= 0.55
    assert abs(result["accuracy"]["after"] - result["accuracy"]["before"]) <= 0.01
    compute_separability = foo.get_operator("@embedding/quality/compute_separability")
    told = [
        compute_separability(dataset, embeddings=name, label_field="ground_truth", by="camera")
        for name in ("cnn", result["field"])
    ]
    before, after = (one["field_prediction"]["balanced_accuracy"] for one in told)
    assert before >= 0.9 and after <= 0.55


@pytest.fixture
def film(dataset, digit_files, tmp_path):
    """A video of 40 frames, each with embeddings of its own and of two boxes."""
    import cv2

    path = str(tmp_path / "film.mp4")
    video = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"mp4v"), 10, (48, 48))
    sample = fo.Sample(path)
    rows, kinds, _ = _trees(120)
    for number in range(40):
        image = digit_files[number][0]
        video.write(cv2.imread(image))
        boxes = [
            fo.Detection(label=kinds[row], bounding_box=[0, 0, 1, 1], vec=rows[row])
            for row in (number, number + 40)
        ]
        frame = fo.Frame(filepath=image, vec=rows[number + 80])
        frame["tree"] = fo.Classification(label=kinds[number + 80])
        frame["boxes"] = fo.Detections(detections=boxes)
        sample.frames[number + 1] = frame
    video.release()
    dataset.add_sample(sample)
    dataset.add_frame_field("boxes.detections.vec", fo.VectorField)
    return dataset


def test_frames_and_their_patches(film, reduce_embeddings):
    """Reduced, described, searched where FiftyOne can, placed, and removed again."""
    frames = film.to_frames()
    describe = foo.get_operator("@embedding/quality/describe_embeddings")
    for call, path, count in (
        ({"embeddings": "vec"}, "frames.vec", 40),
        ({"embeddings": "vec", "patches_field": "boxes"}, "frames.boxes.detections.vec", 80),
    ):
        told = describe(frames, **call, model="lichen")
        assert (told["run_key"], told["judged"]) == (path.replace(".", "_"), count)
        result = reduce_embeddings(frames, **call, num_dims=5)
        assert (result["placed"], result["judged"], result["dim"]) == (count, count, 5)
        assert result["model"].startswith("lichen reduced to 5")
        assert film.count(f"{path}_pca") == count
        rows = np.stack(film.values(f"{path}_pca", unwind=True))
        before = np.stack(film.values(path, unwind=True))
        before /= np.linalg.norm(before, axis=1, keepdims=True)
        expected = PCA(5, svd_solver="full").fit_transform(before)
        assert np.allclose(np.abs(rows), np.abs(expected), atol=1e-4)
        assert reduce_embeddings(frames, **call, num_dims=5, update=True)["placed"] == 0
        listed = foo.get_operator("@embedding/quality/list_runs")(film)["runs"]
        reasons = {row["run_key"]: row["reasons"] for row in listed}
        assert reasons[result["run_key"]] == reasons[told["run_key"]] == []
        foo.get_operator("@embedding/quality/delete_run")(film, run_key=result["run_key"])
        foo.get_operator("@embedding/quality/delete_run")(film, run_key=told["run_key"])
        assert film.get_field(f"{path}_pca") is None and film.count(path) == count
    with pytest.raises(ValueError, match="videos; pass a view of their frames"):
        reduce_embeddings(film, embeddings="vec", num_dims=5)
    label = {"label_field": "tree", "similarity_index": "like"}
    result = reduce_embeddings(frames, embeddings="vec", num_dims=5, **label)
    index = film.load_brain_results("like")
    assert index.total_index_size == 40
    removed = foo.get_operator("@embedding/quality/delete_run")(film, run_key=result["run_key"])
    assert removed["brain_runs"] == ["like"] and film.list_brain_runs() == []
