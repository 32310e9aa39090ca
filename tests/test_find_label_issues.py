"""Label issues on a real database: flags, suggestions, witnesses, views, reviews, refusals."""

import json
from collections import Counter

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from conftest import read_rows
from fiftyone import ViewField as F
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

NUMBER, FLIPPED = 600, 30


@pytest.fixture(scope="module")
def find_label_issues():
    return foo.get_operator("@embedding/quality/find_label_issues")


@pytest.fixture(scope="module")
def review():
    return foo.get_operator("@embedding/quality/review_label_issues")


@pytest.fixture(scope="module")
def _flipped():
    """600 of scikit-learn's digits, their pixels as vectors, 30 of them with a wrong label."""
    digits = load_digits()
    truth = digits.target[:NUMBER]
    random = np.random.default_rng(51)
    wrong = random.choice(NUMBER, FLIPPED, replace=False)
    given = truth.copy()
    given[wrong] = (truth[wrong] + random.integers(1, 10, FLIPPED)) % 10
    dataset = fo.Dataset()
    dataset.add_samples(
        [
            fo.Sample(
                f"/digits/{index}.png",
                truth=str(truth[index]),
                ground_truth=fo.Classification(label=str(given[index])),
                pixels=digits.data[index].astype(np.float32),
                detections=fo.Detections(
                    detections=[
                        fo.Detection(
                            label=str(given[index]),
                            bounding_box=[0, 0, 1, 1],
                            pixels=digits.data[index].astype(np.float32),
                        )
                    ]
                ),
            )
            for index in range(NUMBER)
        ]
    )
    dataset.add_sample_field("detections.detections.pixels", fo.VectorField)
    yield dataset
    dataset.delete()


@pytest.fixture
def flipped(_flipped):
    dataset = _flipped.clone()
    yield dataset
    dataset.delete()


def _wrong(dataset) -> set[str]:
    ids, truth, given = dataset.values(["id", "truth", "ground_truth.label"])
    return {id_ for id_, one, other in zip(ids, truth, given) if one != other}


def test_wrong_labels_are_flagged_with_the_right_suggestion(flipped, find_label_issues):
    wrong, before = _wrong(flipped), flipped.values("ground_truth.label")
    result = find_label_issues(flipped, embeddings="pixels", label_field="ground_truth")
    json.dumps(result)
    view = flipped.load_saved_view("label_issues: flagged")
    flagged = view.values("id")
    assert result["flagged"] == len(flagged)
    assert len(wrong.intersection(flagged)) >= 0.9 * FLIPPED
    assert len(wrong.intersection(flagged)) >= 0.8 * len(flagged)
    # The first page is right.
    assert len(wrong.intersection(flagged[:20])) >= 19
    right = view.match(F("label_issues_suggested.label") == F("truth"))
    assert len(right) >= 0.9 * FLIPPED
    quality = view.values("label_issues_quality")
    assert quality == sorted(quality) and quality[0] >= 0
    assert flipped.count("label_issues_quality") == NUMBER
    assert 0.6 <= result["expected_precision"] <= 1
    assert sum(row["flagged"] for row in result["classes"]) == result["flagged"]
    assert flipped.values("ground_truth.label") == before
    # Nothing is suggested where the label is the likeliest.
    assert flipped.count("label_issues_suggested") < 2 * FLIPPED


def test_the_witnesses_are_kept_apart(flipped, find_label_issues):
    find_label_issues(flipped, embeddings="pixels", label_field="ground_truth")
    worst = flipped.load_saved_view("label_issues: flagged").first()
    assert worst["label_issues_probe"].label == worst["truth"]
    assert worst["label_issues_neighbors"].label == worst["truth"]
    against = flipped.select(worst["label_issues_against"]).values("ground_truth.label")
    assert len(against) == 5 and set(against) == {worst["truth"]}


def test_objects_are_judged_like_samples(flipped, find_label_issues):
    one = find_label_issues(flipped, embeddings="pixels", label_field="ground_truth", run_key="a")
    other = find_label_issues(
        flipped,
        embeddings="pixels",
        label_field="detections",
        patches_field="detections",
        run_key="b",
    )
    # Ties aside, which fall with the ids.
    assert abs(one["flagged"] - other["flagged"]) <= 1
    samples = set(flipped.load_saved_view("a: flagged").values("id"))
    detections = flipped.load_saved_view("b: flagged")
    assert len(samples ^ set(detections.values("sample_id"))) <= 2
    assert detections.first().detections["b_suggested"] in set("0123456789")


def test_copies_do_not_hide_each_others_wrong_labels(flipped, find_label_issues):
    wrong = _wrong(flipped)
    for sample in flipped.select(list(wrong)):
        for _ in range(2):
            flipped.add_sample(
                fo.Sample(
                    sample.filepath.replace("digits", "copies"),
                    truth=sample["truth"],
                    pixels=sample["pixels"],
                    ground_truth=fo.Classification(label=sample.ground_truth.label),
                )
            )
    parameters = {"embeddings": "pixels", "label_field": "ground_truth"}
    alone = find_label_issues(flipped, **parameters)
    hidden = len(wrong.intersection(flipped.load_saved_view("label_issues: flagged").values("id")))
    assert alone["duplicates"] is None
    # As a run of find_duplicates leaves it: the files of these vectors do not exist.
    numbers = {value: number for number, value in enumerate(sorted(wrong))}
    paths = {flipped[id_].filepath: number for id_, number in numbers.items()}
    groups = [paths.get(path.replace("copies", "digits")) for path in flipped.values("filepath")]
    foo.get_operator("@embedding/quality/find_duplicates")(flipped)
    flipped.set_values("duplicates_group", groups)
    result = find_label_issues(flipped, **parameters)
    found = len(wrong.intersection(flipped.load_saved_view("label_issues: flagged").values("id")))
    assert result["duplicates"] == "duplicates"
    assert found >= 0.9 * FLIPPED > hidden


@pytest.fixture
def many(flipped):
    """The digits with several labels each; those of five samples are wrong, one has none."""
    truth = [int(value) for value in flipped.values("truth")]
    sets = [["even" if value % 2 == 0 else "odd"] + ["large"] * (value > 4) for value in truth]
    for place in (3, 20, 40, 60, 80):
        sets[place][0] = "even" if truth[place] % 2 else "odd"
    sets[8] = None
    flipped.set_values(
        "many",
        [
            labels
            and fo.Classifications(
                classifications=[fo.Classification(label=x, confidence=0.5) for x in labels]
            )
            for labels in sets
        ],
    )
    return flipped


def test_several_labels_for_each_sample(many, find_label_issues):
    result = find_label_issues(many, embeddings="pixels", label_field="many")
    assert result["skipped"] == {"no label": 1}
    view = many.load_saved_view("label_issues: flagged")
    swapped = many.values("id")[3]
    assert swapped in view[:20].values("id")
    assert set(many[swapped]["label_issues_wrong"]) <= {"even", "odd"}
    assert "missing" in result["classes"][0]


def test_reviews_of_several_labels(many, find_label_issues, review):
    find_label_issues(many, embeddings="pixels", label_field="many")
    flagged = many.load_saved_view("label_issues: flagged").values("id")
    before = many.values("many")
    first, second, third = flagged[:3]
    sample = many[first]
    labels = {one.label for one in sample.many.classifications}
    wrong, missing = (set(sample[f"label_issues_{name}"] or ()) for name in ("wrong", "missing"))
    done = review(many.select(first), decision="accept")
    assert (done["reviewed"], done["changed"]) == (1, 1)
    after = many[first].many.classifications
    assert {one.label for one in after} == labels - wrong | missing
    # What stays keeps all that it holds.
    kept = {one.id for one in sample.many.classifications if one.label not in wrong}
    assert kept <= {one.id for one in after}
    review(many.select(second), decision="keep")
    review(many.select(third), decision="set", label="large, odd")
    assert {one.label for one in many[third].many.classifications} == {"large", "odd"}

    again = find_label_issues(many, embeddings="pixels", label_field="many")
    assert again["reviews"]["reviewed"] == 3
    now = set(many.load_saved_view("label_issues: flagged").values("id"))
    assert not now & {first, second, third}
    review(many, decision="undo")
    assert many.values("many") == before
    assert many.count("label_issues_review") == 0


@pytest.mark.parametrize("kind", ["logits", "confidences"])
def test_the_users_own_predictions(flipped, find_label_issues, kind):
    truth = [int(value) for value in flipped.values("truth")]
    random = np.random.default_rng(51)
    predictions = []
    for value in truth:
        logits = random.normal(size=10) + 4 * np.eye(10)[value]
        chances = np.exp(logits) / np.exp(logits).sum()
        best = int(logits.argmax())
        prediction = fo.Classification(label=str(best), confidence=float(chances[best]))
        if kind == "logits":
            prediction.logits = logits
        predictions.append(prediction)
    flipped.set_values("model", predictions)
    result = find_label_issues(
        flipped, embeddings="pixels", label_field="ground_truth", predictions_field="model"
    )
    assert result["warnings"] == []
    wrong = _wrong(flipped)
    flagged = flipped.load_saved_view("label_issues: flagged").values("id")
    assert len(wrong.intersection(flagged)) >= 0.8 * FLIPPED
    if kind == "logits":
        # What repeats the given labels has seen them.
        given = [int(value) for value in flipped.values("ground_truth.label")]
        seen = [fo.Classification(label=str(g), logits=20 * np.eye(10)[g]) for g in given]
        flipped.set_values("model", seen)
        result = find_label_issues(
            flipped, embeddings="pixels", label_field="ground_truth", predictions_field="model"
        )
        assert "In-sample" in result["warnings"][0]


def test_reviews_change_labels_and_take_them_back(flipped, find_label_issues, review):
    find_label_issues(flipped, embeddings="pixels", label_field="ground_truth")
    before = flipped.values("ground_truth.label")
    flagged = flipped.load_saved_view("label_issues: flagged").values("id")
    accepted, kept, other = flagged[:2], flagged[2], flagged[3]
    done = review(flipped.select(accepted), decision="accept")
    assert (done["reviewed"], done["changed"]) == (2, 2)
    for id_ in accepted:
        sample = flipped[id_]
        assert sample.ground_truth.label == sample["label_issues_suggested"].label
        assert sample["label_issues_review"] == "accepted"
    review(flipped.select([kept]), decision="keep")
    result = review(flipped.select([other]), decision="set", label="zebra")
    assert flipped[other].ground_truth.label == "zebra"
    assert result["reviews"] == {"reviewed": 4, "flags_reviewed": 4, "measured_precision": 0.75}
    assert flipped.load_saved_view("label_issues: flagged").values("id") == flagged[4:]

    # The next run keeps the reviews, and does not ask about settled labels again.
    again = find_label_issues(flipped, embeddings="pixels", label_field="ground_truth")
    assert again["reviews"]["reviewed"] == 4
    assert not set(flagged[:4]) & set(flipped.load_saved_view("label_issues: flagged").values("id"))
    assert flipped[kept]["label_issues_original"] == flipped[kept].ground_truth.label

    undone = review(flipped, decision="undo")
    assert (undone["reviewed"], undone["changed"]) == (4, 3)
    assert flipped.values("ground_truth.label") == before
    assert flipped.count("label_issues_review") == 0
    assert set(flagged[:4]) <= set(flipped.load_saved_view("label_issues: flagged").values("id"))


def test_reviews_of_objects(flipped, find_label_issues, review):
    find_label_issues(
        flipped, embeddings="pixels", label_field="detections", patches_field="detections"
    )
    flagged = flipped.load_saved_view("label_issues: flagged")
    before = flipped.values("detections.detections.label")
    done = review(flagged[:3], decision="accept")
    assert done["changed"] == 3 and done["things"] == "patches"
    changed = flipped.values("detections.detections.label")
    assert sum(one != other for one, other in zip(before, changed)) == 3
    review(flipped, decision="undo")
    assert flipped.values("detections.detections.label") == before


def test_measured_precision_is_told_after_thirty_reviews(flipped, find_label_issues, review):
    find_label_issues(flipped, embeddings="pixels", label_field="ground_truth")
    view = flipped.load_saved_view("label_issues: flagged")
    ids = view.values("id")
    more = [id_ for id_ in flipped.values("id") if id_ not in ids][: max(0, 31 - len(ids))]
    # Enough flags to review, whatever was found.
    flipped.select(more).set_values("label_issues_flagged", [True] * len(more))
    review(flipped.select([*ids, *more]), decision="keep")
    result = find_label_issues(flipped, embeddings="pixels", label_field="ground_truth")
    assert result["reviews"]["measured_precision"] == 0
    assert "0 % of" in find_label_issues.summary(result)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"decision": "agree"}, "decision='agree' is not known"),
        ({"decision": "set"}, "decision='set' needs label="),
        ({"decision": "keep", "label": "x"}, "label= is for decision='set'"),
        ({"decision": "keep", "run_key": "other"}, "not a finished run of find_label_issues"),
    ],
)
def test_refused_reviews_change_nothing(flipped, find_label_issues, review, parameters, message):
    find_label_issues(flipped, embeddings="pixels", label_field="ground_truth")
    with pytest.raises(ValueError, match=message):
        review(flipped[:3], **parameters)
    assert flipped.get_field("label_issues_review") is None


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"label_field": "nothing"}, "label_field='nothing': there is no such field"),
        ({"label_field": "pixels"}, "holds no class per sample"),
        ({"label_field": "mask"}, "segmentations, which are not supported"),
        ({"label_field": "same"}, "holds only the class 'one'"),
        ({"label_field": "empty"}, "holds no labels"),
        ({"predictions_field": "truth"}, "no such Classification field; there are: ground_truth"),
        ({"predictions_field": "ground_truth"}, "neither logits nor confidences"),
        ({"predictions_field": "some"}, "599 of 600 samples have no prediction"),
        ({"patches_field": "detections"}, "use label_field='detections'"),
    ],
)
def test_refusals(flipped, find_label_issues, parameters, message):
    flipped.add_sample_field("mask", fo.EmbeddedDocumentField, embedded_doc_type=fo.Segmentation)
    flipped.add_sample_field("empty", fo.StringField)
    flipped.set_values("same", ["one"] * NUMBER)
    flipped.set_values("some", [fo.Classification(label="1")] + [None] * (NUMBER - 1))
    given = {"embeddings": "pixels", "label_field": "ground_truth", **parameters}
    with pytest.raises(ValueError, match=message):
        find_label_issues(flipped, **given)
    assert not flipped.has_run("label_issues")


def test_vectors_that_tell_nothing_flag_nothing(flipped, find_label_issues):
    flipped.set_values("pixels", [np.ones(64, np.float32)] * NUMBER)
    result = find_label_issues(flipped, embeddings="pixels", label_field="ground_truth")
    assert result["flagged"] == 0 and result["expected_precision"] is None
    assert "do not separate these classes" in find_label_issues.summary(result)
    assert find_label_issues.links(result) == []


def test_rare_classes_and_unlabeled_samples(flipped, find_label_issues):
    first, second = flipped[:2]
    first.ground_truth = None
    second.ground_truth = fo.Classification(label="alone")
    first.save()
    second.save()
    result = find_label_issues(flipped, embeddings="pixels", label_field="ground_truth")
    assert result["skipped"] == {"no label": 1} and result["judged"] == NUMBER - 1
    flags = flipped[:2].values("label_issues_flagged")
    assert flags[0] is None and flags[1] in (True, False)
    alone = next(row for row in result["classes"] if row["label"] == "alone")
    assert alone["count"] == 1


@pytest.mark.slow
def test_flips_of_caltech101(excerpt, dataset, find_label_issues):
    folder = excerpt / "caltech101"
    rows = [row for row in read_rows(folder / "qa_samples.csv") if row["issue"] != "outlier"]
    stored = np.load(folder / "embeddings_efficientnet_lite0.npz")
    vectors = dict(zip(stored["files"], stored["embeddings"].astype(np.float32)))
    dataset.add_samples(
        [
            fo.Sample(
                str(folder / row["file"]),
                issue=row["issue"],
                truth=row["true_label"],
                cnn=vectors[row["file"]],
                ground_truth=fo.Classification(label=row["given_label"]),
            )
            for row in rows
        ]
    )
    find_label_issues(dataset, embeddings="cnn", label_field="ground_truth")
    flips = np.array(dataset.values("issue")) == "label_flip"
    quality, flagged = dataset.values(["label_issues_quality", "label_issues_flagged"])
    assert average_precision_score(flips, -np.array(quality)) >= 0.95
    hits = np.sum(flips & np.array(flagged))
    assert hits >= 0.8 * sum(flagged) and hits >= 0.85 * flips.sum()


PARAMETERS = {"embeddings": "pixels", "label_field": "ground_truth"}


def test_reviews_stay_with_the_labels_that_they_are_about(flipped, find_label_issues, review):
    find_label_issues(flipped, **PARAMETERS)
    review(flipped.load_saved_view("label_issues: flagged")[:5], decision="accept")
    flipped.set_values("weather", ["sun", "rain"] * (NUMBER // 2))
    with pytest.raises(ValueError, match="holds reviews of 'ground_truth'; choose another run_key"):
        find_label_issues(flipped, embeddings="pixels", label_field="weather")
    find_label_issues(flipped, embeddings="pixels", label_field="weather", run_key="weather_issues")
    assert review(flipped, decision="undo")["changed"] == 5
    assert set(flipped.values("weather")) == {"sun", "rain"}


def test_a_label_that_was_edited_after_its_review_stays(flipped, find_label_issues, review):
    find_label_issues(flipped, **PARAMETERS)
    first = flipped.load_saved_view("label_issues: flagged").first().id
    review(flipped.select(first), decision="accept")
    flipped.select(first).set_values("ground_truth.label", ["edited"])
    undone = review(flipped, decision="undo")
    assert undone["changed"] == 0
    assert undone["skipped"]["the label was edited after its review"] == 1
    assert flipped[first].ground_truth.label == "edited"


def test_only_flagged_labels_are_reviewed_unless_asked(flipped, find_label_issues, review):
    flagged = find_label_issues(flipped, **PARAMETERS)["flagged"]
    done = review(flipped, decision="keep")
    assert (done["reviewed"], done["skipped"]) == (flagged, {"not flagged": NUMBER - flagged})
    done = review(flipped[:50], decision="keep", unflagged=True)
    assert done["reviewed"] == 50


def test_reviews_that_are_made_meanwhile_are_not_lost(
    flipped, find_label_issues, review, monkeypatch
):
    import sys

    find_label_issues(flipped, **PARAMETERS)
    flagged = flipped.load_saved_view("label_issues: flagged").values("id")
    module = sys.modules["fiftyone.plugins.orgs.embedding.quality.checks.label_issues"]
    judge = module._evaluate_labels

    def while_someone_reviews(*arguments):
        found = judge(*arguments)
        review(flipped.select(flagged[:4]), decision="accept")
        return found

    monkeypatch.setattr(module, "_evaluate_labels", while_someone_reviews)
    find_label_issues(flipped, **PARAMETERS)
    assert not set(flagged[:4]) & set(flipped.load_saved_view("label_issues: flagged").values("id"))
    assert review(flipped, decision="undo")["changed"] == 4


@pytest.mark.parametrize("what", ["review", "original", "reviewed"])
def test_fields_for_reviews_are_not_taken_from_the_user(flipped, find_label_issues, what):
    flipped.set_values(f"label_issues_{what}", ["mine"] * NUMBER)
    with pytest.raises(ValueError, match=f"already has a field 'label_issues_{what}'"):
        find_label_issues(flipped, **PARAMETERS)
    assert flipped.distinct(f"label_issues_{what}") == ["mine"]


@pytest.mark.parametrize("names", [("C", "C++", "C#"), ("猫", "犬", "鳥"), ("$0", "$1", "$id")])
def test_labels_of_any_characters(flipped, find_label_issues, names):
    truth = [int(value) % 3 for value in flipped.values("truth")]
    random = np.random.default_rng(51)
    wrong = random.random(NUMBER) < 0.15
    given = [names[(value + 1) % 3] if bad else names[value] for value, bad in zip(truth, wrong)]
    flipped.set_values("ground_truth.label", given)
    result = find_label_issues(flipped, **PARAMETERS)
    assert len(result["pair_views"]) >= 3
    for pair, name in zip(result["pair_views"], result["views"][1:]):
        view = flipped.load_saved_view(name)
        assert len(view) == pair["count"]
        assert set(view.values("ground_truth.label")) == {pair["label"]}


def test_an_empty_text_is_no_label(flipped, find_label_issues):
    flipped[:31].set_values("ground_truth.label", [""] * 31)
    result = find_label_issues(flipped, **PARAMETERS)
    assert result["skipped"] == {"no label": 31}
    assert "" not in [row["label"] for row in result["classes"]]


def test_logits_with_nan_are_refused_by_name(flipped, find_label_issues):
    bad = np.full(10, np.nan)
    flipped.set_values("model", [fo.Classification(label="1", logits=bad) for _ in range(NUMBER)])
    with pytest.raises(ValueError, match="predictions_field='model': the logits of 600 of 600"):
        find_label_issues(flipped, predictions_field="model", **PARAMETERS)


@pytest.fixture(scope="module")
def _detected(shared):
    """Objects of 40 photos of COCO128, their vectors, and a detector that finds most of them.

    Every tenth label is wrong, another tenth half beside its object, and every tenth left out.
    """
    coco = json.loads((shared / "data" / "coco128" / "labels.json").read_text())
    names = {category["id"]: category["name"] for category in coco["categories"]}
    boxes = {}
    for box in coco["annotations"]:
        boxes.setdefault(box["image_id"], []).append(box)
    random = np.random.default_rng(51)
    dataset = fo.Dataset()
    number = 0
    for image in [image for image in coco["images"] if image["id"] in boxes][:40]:
        given, predicted = [], []
        for box in boxes[image["id"]]:
            left, top, width, height = box["bbox"] / np.tile([image["width"], image["height"]], 2)
            label, number = names[box["category_id"]], number + 1
            around = random.normal(0, 0.03, 4) * [width, height, width, height]
            if random.random() < 0.9:
                predicted.append(
                    fo.Detection(
                        label=label,
                        bounding_box=(np.array([left, top, width, height]) + around).tolist(),
                        confidence=float(random.uniform(0.6, 0.9)),
                    )
                )
            if number % 10 == 0:
                continue
            planted = {1: "class", 2: "box"}.get(number % 10, "nothing")
            given.append(
                fo.Detection(
                    label="zebra" if planted == "class" else label,
                    bounding_box=[left + (planted == "box") * 0.6 * width, top, width, height],
                    planted=planted,
                    truth=label,
                )
            )
        dataset.add_sample(
            fo.Sample(
                str(shared / "data" / "coco128" / "data" / image["file_name"]),
                detections=fo.Detections(detections=given),
                detector=fo.Detections(detections=predicted),
            )
        )
    dataset.add_dynamic_sample_fields()
    foo.get_operator("@embedding/quality/compute_embeddings")(
        dataset, model="cnn", patches_field="detections", embeddings="cnn"
    )
    yield dataset
    dataset.delete()


@pytest.fixture
def detected(_detected):
    dataset = _detected.clone()
    yield dataset
    dataset.delete()


OF_OBJECTS = {"embeddings": "cnn", "label_field": "detections", "patches_field": "detections"}


@pytest.mark.slow
def test_a_detector_tells_wrong_misplaced_and_missing_boxes(detected, find_label_issues):
    plain = find_label_issues(detected, **OF_OBJECTS, run_key="plain")
    before = detected.values("detections.detections.label")
    result = find_label_issues(detected, **OF_OBJECTS, predictions_field="detector")
    json.dumps(result)
    assert detected.values("detections.detections.label") == before
    flagged = detected.load_saved_view("label_issues: flagged")
    assert len(flagged) == result["flagged"] > plain["flagged"]
    planted = Counter(flagged.values("detections.planted"))
    all_planted = detected.count_values("detections.detections.planted")
    # The detector tells 19 of 32; the vectors, with few objects per class, flag little beside it.
    assert planted["class"] >= 0.55 * all_planted["class"]
    box = flagged.match(F("detections.label_issues_reason").contains_str("box"))
    assert len(box) == result["misplaced"] >= 0.3 * all_planted["box"]
    assert Counter(box.values("detections.planted"))["box"] >= 0.8 * len(box)
    # A box that is only misplaced keeps its class.
    only = box.match(F("detections.label_issues_reason") == "box")
    assert len(only) and set(only.values("detections.label_issues_suggested")) == {None}
    right = flagged.match(
        (F("detections.planted") == "class")
        & (F("detections.label_issues_suggested") == F("detections.truth"))
    )
    assert len(right) >= 0.8 * planted["class"]

    view = detected.load_saved_view("label_issues: missing")
    assert detected.count("label_issues_missing.detections") == result["missing"] >= 5
    assert view.count("label_issues_missing.detections") == result["missing"]
    summary = find_label_issues.summary(result)
    assert "likely missing a label: saved view `label_issues: missing`" in summary
    assert "badly localized" in summary
    foo.get_operator("@embedding/quality/delete_run")(detected, run_key="label_issues")
    assert detected.get_field("label_issues_missing") is None
    assert detected.get_field("detections.detections.label_issues_reason") is None
    assert all(name.startswith("plain: ") for name in detected.list_saved_views())


@pytest.mark.slow
def test_objects_that_a_view_hides_are_not_missing(detected, find_label_issues):
    view = detected.filter_labels("detections", F("label") == "person")
    result = find_label_issues(view, **OF_OBJECTS, predictions_field="detector")
    whole = find_label_issues(detected, **OF_OBJECTS, predictions_field="detector", run_key="b")
    on_view = detected.select(view.values("id")).count("b_missing.detections")
    assert result["missing"] == on_view < whole["missing"]


@pytest.mark.slow
def test_a_detector_tells_what_vectors_without_content_do_not(detected, find_label_issues):
    detected.set_values(
        "detections.detections.cnn",
        [
            [np.ones(8, np.float32)] * len(boxes or ())
            for boxes in detected.values("detections.detections")
        ],
    )
    result = find_label_issues(detected, **OF_OBJECTS, predictions_field="detector")
    assert "do not separate these classes" in result["warnings"][0]
    flagged = Counter(
        detected.load_saved_view("label_issues: flagged").values("detections.planted")
    )
    assert flagged["class"] + flagged["box"] >= 0.8 * result["flagged"] > 0


@pytest.mark.slow
def test_photos_without_predictions_are_told(detected, find_label_issues):
    first = detected.first()
    first["detector"] = None
    first.save()
    result = find_label_issues(detected, **OF_OBJECTS, predictions_field="detector")
    assert "1 sample without predictions" in result["warnings"][0]


@pytest.mark.parametrize(
    "predictions, message",
    [
        ("nothing", "'nothing': there is no such field; fields with predicted boxes: detector"),
        ("detections", "holds the labels themselves"),
        ("name", "predictions for patches must be boxes, but 'name' holds none"),
        ("sure", "the predictions have no confidence"),
        ("empty", "holds no predictions for these samples"),
    ],
)
@pytest.mark.slow
def test_refused_predictions_of_objects(detected, find_label_issues, predictions, message):
    detected.set_values("name", [fo.Classification(label="a", confidence=0.5)] * len(detected))
    box = fo.Detection(label="cat", bounding_box=[0, 0, 1, 1])
    detected.set_values("sure", [fo.Detections(detections=[box])] * len(detected))
    detected.add_sample_field("empty", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    with pytest.raises(ValueError, match=message):
        find_label_issues(detected, **OF_OBJECTS, predictions_field=predictions)
    assert not detected.has_run("label_issues")


def test_labels_that_a_view_renames_stay_themselves(flipped, find_label_issues, review):
    """Of ``map_labels()``: what is judged is what is shown, what is kept is what is stored."""
    mapped = {label: f"{label}?" for label in flipped.distinct("ground_truth.label")}
    view = flipped.map_labels("ground_truth", mapped)
    find_label_issues(view, embeddings="pixels", label_field="ground_truth")
    (row,) = foo.get_operator("@embedding/quality/list_runs")(flipped)["runs"][:1]
    assert (row["run_key"], row["reasons"]) == ("label_issues", [])
    before = dict(zip(*flipped.values(["id", "ground_truth.label"])))
    flagged = view.match(F("label_issues_flagged") == True).values("id")  # noqa: E712
    kept, taken, *_ = flagged
    review(view.select(kept), decision="keep")
    review(view.select(taken), decision="accept")
    flipped.reload()
    assert flipped[kept]["ground_truth"].label == before[kept]
    assert flipped[kept]["label_issues_original"] == before[kept]
    assert flipped[taken]["ground_truth"].label.endswith("?")
    again = find_label_issues(view, embeddings="pixels", label_field="ground_truth")
    assert flipped[kept]["label_issues_flagged"] is False and again["reviews"]["reviewed"] == 2
    review(view, decision="undo")
    assert dict(zip(*flipped.values(["id", "ground_truth.label"]))) == before


def _set_label(dataset, id_, label):
    dataset.reload()
    sample = dataset[id_]
    sample["ground_truth"].label = label
    sample.save()


def test_a_second_decision_is_measured_against_the_first_label(flipped, find_label_issues, review):
    find_label_issues(flipped, embeddings="pixels", label_field="ground_truth")
    one, two, three, *_ = flipped.load_saved_view("label_issues: flagged").values("id")
    first = {id_: flipped[id_]["ground_truth"].label for id_ in (one, two, three)}

    review(flipped.select([one, two, three]), decision="accept")
    done = review(flipped.select(one), decision="set", label=first[one])
    # Back to the label that was flagged: that flag was not right.
    assert done["reviews"]["measured_precision"] == 0.667
    assert flipped[one]["label_issues_review"] == "kept"
    # To keep what was accepted changes nothing.
    done = review(flipped.select(two), decision="keep")
    assert done["reviews"]["measured_precision"] == 0.667
    assert flipped[two]["label_issues_review"] == "accepted"
    review(flipped, decision="undo")
    assert {id_: flipped[id_]["ground_truth"].label for id_ in first} == first


def test_undo_goes_back_to_what_was_edited_by_hand(flipped, find_label_issues, review):
    find_label_issues(flipped, embeddings="pixels", label_field="ground_truth")
    (one, *_) = flipped.load_saved_view("label_issues: flagged").values("id")
    review(flipped.select(one), decision="accept")
    _set_label(flipped, one, "okapi")
    done = review(flipped.select(one), decision="keep")
    assert done["reviewed"] == 1 and done["reviews"]["measured_precision"] == 1
    assert review(flipped.select(one), decision="undo")["reviewed"] == 1
    flipped.reload()
    assert flipped[one]["ground_truth"].label == "okapi"
