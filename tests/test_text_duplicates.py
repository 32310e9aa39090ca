"""Duplicates of texts: what is the same, what differs in a few words, what only looks alike."""

import random
import unicodedata

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone_embedding_quality.analysis.neighbors import neighbor_graph
from fiftyone_embedding_quality.analysis.text_duplicates import find_text_duplicates
from fiftyone_embedding_quality.analysis.text_pairs import TextSet, change_of, read_words
from test_forms import form
from test_forms import told as told_by

LONG = (
    "Along the quay an elderly fisherman mends his nets while gulls circle over the harbor, and "
    "behind him the lighthouse throws its beam across the bay. A dog sleeps in the shade of a "
    "crate. Somewhere a radio plays."
)


def run(name, dataset, **parameters):
    return foo.get_operator(f"@embedding/quality/{name}")(dataset, **parameters)


@pytest.mark.parametrize(
    ("one", "other", "change"),
    [
        ("Boats at dawn", "Boats at dawn", "same text"),
        ("Boats at dawn!", "  boats - AT\n dawn", "case and punctuation"),
        ("Ein Café", unicodedata.normalize("NFD", "ein CAFÉ"), "case and punctuation"),
        ("the ﬁne print", "The fine print.", "case and punctuation"),
        ("It rains. We stay.", "We stay. It rains!", "sentence order"),
        ("dog bites man", "man bites dog", "word order"),
        ("a cat on the mat", "a small cat on the rug", "words: 2 of 6"),
    ],
)
def test_what_tells_two_texts_apart(one, other, change):
    assert change_of(read_words(one), read_words(other)) == change


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It is -5 °C", "It is 5 °C"),
        ("costs 1.5 m", "costs 15 m"),
        ("about 10² m", "about 102 m"),
        ("written in C#", "written in C"),
        ("written in C++", "written in C"),
        ("it cost 5 €", "it cost 5 $"),
        ("50% of it", "50 of it"),
        ("今日は雨です", "今日は雪です"),
        ("👍 fine", "👎 fine"),
        ("हिंदी", "हद"),
    ],
)
def test_what_is_no_punctuation_is_not_dropped(one, other):
    assert read_words(one).normalized != read_words(other).normalized


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Along", "On 3 May along"),
        ("elderly", "80-year-old"),
        ("sleeps", "never sleeps"),
        ("the bay", "the bay of Naples"),
        ("fisherman", "fisherman from Genoa"),
        ("A dog", "Two dogs"),
        ("dog is", "dog isn't"),
    ],
)
def test_numbers_dates_negations_and_names_contradict(old, new):
    text = LONG.replace("A dog sleeps", "A dog is here and sleeps")
    words = [read_words(text), read_words(text.replace(old, new, 1))]
    assert words[0].all != words[1].all
    told = TextSet.from_texts([*words, read_words("the sea. some dogs")])
    assert told.agreement(*words) > 0.85 and told.contradict(*words)


def test_other_names_and_exchanged_numbers_contradict():
    pairs = [
        ("We met Petra at the fair", "We met Ludmila at the fair"),
        ("Petra met Ludmila", "Ludmila met Petra"),
        ("calls setUp before each of the tests", "calls tearDown before each of the tests"),
        ("returns what open_file has returned", "returns what close_file has returned"),
        ("Petra stayed in the garden all day", "Ludmila stayed in the garden all day"),
        ("5 apples and 3 pears", "3 apples and 5 pears"),
        ("not the red but the blue door", "the red but not the blue door"),
    ]
    for one, other in pairs:
        words = read_words(one), read_words(other)
        assert TextSet.from_texts(words).contradict(*words), (one, other)
    # Where all is in capitals, or all words of a title, capitals tell no names.
    for one, other in (
        ("A WALK ALONG THE SHORE", "A WALK ALONG THE COAST"),
        ("A Walk along the Shore", "A Walk along the Coast"),
    ):
        words = read_words(one), read_words(other)
        usual = read_words("a walk along the shore, the coast")
        assert not TextSet.from_texts([*words, usual]).contradict(*words), (one, other)


def test_agreement_is_symmetric_and_falls_with_what_differs():
    words = read_words(LONG)
    tokens = LONG.split()
    drawn = np.random.default_rng(6).permutation(len(tokens))
    before, told = 1.0, TextSet.from_texts([words])
    assert told.agreement(words, words) == 1.0
    for count in (1, 3, 9, 27):
        other = list(tokens)
        for place in drawn[:count]:
            other[place] = "xylophone"
        found = told.agreement(words, read_words(" ".join(other)))
        assert found == told.agreement(read_words(" ".join(other)), words)
        assert 0 <= found < before
        before = found


def _random_texts(count, rng):
    lexicon = ["".join(rng.choices("abcdefghijklmnop", k=6)) for _ in range(400)]
    return [" ".join(rng.choices(lexicon, k=20)) for _ in range(count)], lexicon


def _bag_rows(texts):
    """Vectors of hashed words: what a model of words would give."""
    rows = np.zeros((len(texts), 64), np.float32)
    for row, text in enumerate(texts):
        for word in read_words(text).all:
            rows[row] += np.random.default_rng(sum(map(ord, word)) * 31 + len(word)).normal(size=64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_groups_are_those_that_were_planted_whatever_the_order():
    rng = random.Random(12)
    texts, lexicon = _random_texts(150, rng)
    planted = {}
    for place in range(0, 60, 3):
        words = texts[place].split()
        spare = rng.choice([word for word in lexicon if word not in words])
        planted[place] = rng.choice(
            [texts[place].upper() + ".", " ".join([*words[:7], spare, *words[8:]])]
        )
    hard = [f"{text} 7 {text[:30]}" for text in texts[100:105]]
    hard += [text.replace(" 7 ", " 8 ") for text in hard]
    everything = [*texts, *planted.values(), *hard]
    expected = {frozenset((texts[place], other)) for place, other in planted.items()}
    before: set[str] = set()
    for seed in (0, 1):
        order = list(range(len(everything)))
        random.Random(seed).shuffle(order)
        shuffled = [everything[place] for place in order]
        rows = _bag_rows(shuffled)
        found = find_text_duplicates(shuffled, rows, neighbor_graph(rows, 15))
        groups = {
            frozenset(shuffled[row] for row in np.flatnonzero(found.group == number))
            for number in range(found.group.max() + 1)
        }
        assert groups == expected
        kept = {shuffled[row] for row in np.flatnonzero(found.keep & (found.group >= 0))}
        before = before or kept
        assert kept == before


def test_texts_of_nothing_but_punctuation_are_compared_as_they_are():
    found = find_text_duplicates(["...", "!!!", "", None, " ... ", "..."])
    assert found.group.tolist() == [0, -1, -1, -1, 0, 0]
    assert sorted(found.skipped) == [2, 3]
    assert read_words("").normalized == ""


def test_arguments_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="2 texts, but 3 labels"):
        find_text_duplicates(["a", "b"], labels=np.zeros(3, int))
    with pytest.raises(ValueError, match="threshold must lie between 0 and 1"):
        find_text_duplicates(["a", "b"], threshold=1.5)


NOTES = [
    "Boats lie in the old harbor at dawn while the fishermen mend their torn nets again",
    "A narrow path leads up the hill between vineyards towards a ruined tower of brick",
    "Children are feeding ducks on the frozen pond behind the village school this morning",
    "She pours coffee into blue cups and reads the paper aloud to her sleeping cat",
    "Rusty bicycles lean against the wall of a bakery where warm bread is being sold",
    "Two lanterns hang above the door of the inn beside the bridge over the brook",
]
CHANGED = {
    "exact": NOTES[0].upper() + "!",
    "same": NOTES[1],
    "near": NOTES[2].replace("feeding", "watching"),
    "number": NOTES[5].replace("Two", "Three"),
}


@pytest.fixture
def notes(dataset, tmp_path):
    """Texts with planted duplicates, and their embeddings by word vectors; files do not exist."""
    words = sorted({word for text in NOTES for word in read_words(text).all} | {"watching"})
    drawn = np.random.default_rng(5).normal(size=(len(words), 12))
    rows = (f"{word} {' '.join(map(str, row))}\n" for word, row in zip(words, drawn))
    (tmp_path / "vectors.txt").write_text("".join(rows))
    texts = [*NOTES, *CHANGED.values()]
    dataset.add_samples(
        [
            fo.Sample(
                f"/gone/{place}.png",
                remark=text,
                part="test" if place == 0 else "train",
                kind=fo.Classification(label="late" if place == 7 else "early"),
                marks=fo.Detections(
                    detections=[fo.Detection(label="x", bounding_box=[0, 0, 1, 1], told=text)]
                ),
            )
            for place, text in enumerate(texts)
        ]
    )
    dataset.add_dynamic_sample_fields()
    run("compute_embeddings", dataset, model=f"words:{tmp_path}/vectors.txt", text_field="remark")
    return dataset


def _told(dataset, key="text_duplicates"):
    names = ("group", "kind", "keep", "change", "agreement")
    rows = zip(*dataset.values(["remark", *(f"{key}_{name}" for name in names)]))
    return {text: dict(zip(names, row)) for text, *row in rows}


def test_embeddings_of_texts_find_texts_that_are_the_same(notes):
    found = run(
        "find_duplicates", notes, embeddings="remark_embeddings", split="part", label_field="kind"
    )
    assert found["run_key"] == "text_duplicates" and found["compared"] == "the texts in remark"
    assert (found["exact_groups"], found["near_groups"], found["redundant"]) == (2, 1, 3)
    assert found["changes"] == {"case and punctuation": 1, "same text": 1, "words": 1}
    assert found["leaks"] == [{"splits": ["test", "train"], "groups": 1}]
    assert (found["conflicts"], found["skipped"]) == (1, {})
    told = _told(notes)
    # The test member stays, then the longest.
    assert told[NOTES[0]]["keep"] and not told[CHANGED["exact"]]["keep"]
    assert told[CHANGED["exact"]]["change"] == "case and punctuation"
    near = [told[NOTES[2]], told[CHANGED["near"]]]
    assert {row["kind"] for row in near} == {"near"} and [row["keep"] for row in near].count(1) == 1
    (redundant,) = (row for row in near if not row["keep"])
    assert redundant["change"] == "words: 1 of 14" and 0.7 < redundant["agreement"] < 1
    assert told[CHANGED["number"]]["group"] is None
    assert "few words" in notes.get_field("text_duplicates_kind").description
    assert "bytes" not in notes.get_field("text_duplicates_kind").description
    # Nothing but text was read: the files do not exist, and nothing was skipped for it.
    assert found["judged"] == len(NOTES) + len(CHANGED)


def test_texts_without_embeddings_and_of_patches(notes):
    found = run("find_duplicates", notes, text_field="remark")
    assert (found["exact_groups"], found["near_groups"]) == (2, 0)
    found = run("find_duplicates", notes, text_field="told", patches_field="marks", run_key="told")
    assert found["exact_groups"] == 2 and found["things"] == "patches"
    notes.first()["remark"] = None
    sample = notes.last()
    sample["remark"] = " "
    sample.save()
    found = run("find_duplicates", notes, text_field="remark")
    assert found["skipped"] == {"there is no text": 1}


def test_groups_of_texts_are_for_embeddings_of_texts_alone(notes):
    run("find_duplicates", notes, embeddings="remark_embeddings")
    run("find_duplicates", notes, run_key="images")
    notes.add_sample_field("seen", fo.VectorField)
    drawn = np.random.default_rng(2).normal(size=(len(notes), 6))
    notes.set_values("seen", list(drawn))
    of_texts = run("find_outliers", notes, embeddings="remark_embeddings", check_pictures=False)
    assert of_texts["duplicates"] == "text_duplicates"
    of_images = run(
        "find_outliers", notes, embeddings="seen", check_pictures=False, run_key="others"
    )
    assert of_images["duplicates"] == "images"


def test_a_text_that_is_edited_makes_the_run_stale(notes):
    run("find_duplicates", notes, embeddings="remark_embeddings")
    assert run("update_audit", notes)["updated"] == {}
    edited = notes.match({"remark": CHANGED["same"]}).first()
    edited["remark"] = "Quite another thing"
    edited.save()
    reasons = {row["run_key"]: row["reasons"] for row in run("list_runs", notes)["runs"]}
    assert "the texts in remark have changed" in reasons["text_duplicates"]
    updated = run("update_audit", notes)["updated"]
    assert updated["text_duplicates"]["exact_groups"] == 1
    run("delete_run", notes, run_key="text_duplicates")
    assert not any(name.startswith("text_duplicates") for name in notes.get_field_schema())


def test_what_is_no_duplicate_stays_apart(notes):
    from fiftyone_embedding_quality.checks.finding_reviews import review_finding
    from fiftyone_embedding_quality.storage.runs import read_run
    from fiftyone_embedding_quality.storage.targets import resolve_target

    run("find_duplicates", notes, embeddings="remark_embeddings")
    redundant = notes.match({"text_duplicates_change": "case and punctuation"})
    review_finding(resolve_target(redundant), read_run(notes, "text_duplicates"), "distinct")
    again = run("find_duplicates", notes, embeddings="remark_embeddings")
    assert (again["exact_groups"], again["near_groups"]) == (1, 1)
    tagged = run("remove_redundant", notes, run_key="text_duplicates")
    assert tagged["tagged"] == 2 and notes.count_sample_tags() == {"text_duplicates_remove": 2}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"text_field": "absent"}, "text_field='absent': there is no such field"),
        ({"text_field": "part", "embeddings": "remark_embeddings"}, "are of the texts in 'remark'"),
        ({"embeddings": "remark_embeddings", "keep": "oldest"}, "uses the dates of image files"),
        ({"embeddings": "remark_embeddings", "threshold": 2.0}, "threshold"),
    ],
)
def test_refusals_change_nothing(notes, parameters, message):
    before = notes.get_field_schema(flat=True).keys()
    with pytest.raises(ValueError, match=message):
        run("find_duplicates", notes, **parameters)
    assert notes.get_field_schema(flat=True).keys() == before
    assert notes.list_runs() == ["remark_embeddings"]


def test_the_form_says_what_is_compared(notes):
    fields = form("find_duplicates", notes, embeddings="remark_embeddings")
    assert "the texts in remark; images are not read" in told_by(fields)
    assert fields["run_key"]["view"]["placeholder"] == "text_duplicates"
    notes.add_sample_field("seen", fo.VectorField)
    fields = form("find_duplicates", notes, embeddings="seen")
    assert "not read" not in told_by(fields)
    assert fields["run_key"]["view"]["placeholder"] == "duplicates"
    fields = form("find_duplicates", notes, embeddings="remark_embeddings", text_field="part")
    assert "are of the texts in 'remark'" in told_by(fields)
