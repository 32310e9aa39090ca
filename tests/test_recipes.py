"""The examples by question, on one small dataset of scikit-learn's digits."""

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from test_examples import example, operator


@pytest.fixture(scope="module")
def _numerals(tmp_path_factory):
    """240 digits of five classes with their pixels as embeddings; 5 are there twice."""
    digits, folder = load_digits(), tmp_path_factory.mktemp("numerals")
    rows = np.flatnonzero(np.isin(digits.target, [0, 1, 4, 6, 7]))[:240].tolist()
    dataset = fo.Dataset()
    samples = []
    for place, row in enumerate(rows + rows[:5]):
        path, label = str(folder / f"{place}.png"), str(digits.target[row])
        image = Image.fromarray((digits.images[row] * 15.9).astype(np.uint8))
        image.resize((48, 48)).save(path)
        other = {"0": "6", "6": "0", "1": "7", "7": "1", "4": "1"}[label]
        given = other if place % 12 == 3 else label
        box = fo.Detection(label=given, bounding_box=[0, 0, 1, 1], ink=digits.data[row])
        samples.append(
            fo.Sample(
                path,
                tags=["train" if place < len(rows) else "test"],
                truth=label,
                numeral=fo.Classification(label=given),
                written=fo.Detections(detections=[box]),
                ink=digits.data[row],
            )
        )
    dataset.add_samples(samples, progress=False)
    dataset.add_sample_field("written.detections.ink", fo.VectorField)
    yield dataset
    dataset.delete()


@pytest.fixture
def numerals(_numerals):
    dataset = _numerals.clone()
    yield dataset
    dataset.delete()


@pytest.mark.slow
def test_wrong_labels_are_corrected_and_restored(numerals):
    module = example("clean_classification")
    wrong = {s.id for s in numerals if s.numeral.label != s.truth}
    result = module.audit(numerals, "numeral", embeddings="ink", check_pictures=False)
    assert "label_issues: flagged" in {finding["view"] for finding in result["findings"]}
    certain = set(module.certain_flags(numerals).values("id"))
    assert len(certain & wrong) >= 10 and len(certain - wrong) <= 2
    assert module.correct(numerals)["changed"] == len(certain)
    assert sum(s.numeral.label != s.truth for s in numerals) <= len(wrong) - 8
    module.restore(numerals)
    assert {s.id for s in numerals if s.numeral.label != s.truth} == wrong


@pytest.mark.slow
def test_copies_are_in_one_split(numerals):
    module = example("deduplicate_before_split")
    assert len(module.leaks(numerals, "ink")) == 10
    numerals.untag_samples(["train", "test"])
    rest = module.deduplicated(numerals, "ink")
    assert len(numerals) - 12 <= len(rest) <= len(numerals) - 5
    assert len(set(rest.values("filepath"))) == len(rest)
    module.split(rest)
    assert set(rest.count_sample_tags()) == {"train", "val", "test"}


def test_a_few_labels_are_spread(numerals):
    module = example("choose_what_to_label")
    numerals.add_sample_field("mine", fo.EmbeddedDocumentField, fo.Classification)
    first = module.choose(numerals, "ink", 25)
    truth = dict(zip(*numerals.values(["id", "truth"])))
    for sample in numerals.select(first).iter_samples(autosave=True):
        sample["mine"] = fo.Classification(label=sample.truth)
    assert len(first) == 25 and not set(module.choose(numerals, "ink", 10, "mine")) & set(first)
    suggested = module.suggest(numerals, "ink", "mine", precision=0.9)
    right = np.mean([truth[id_] == label for id_, label in suggested.items()])
    assert len(suggested) >= 30 and right >= 0.9


def test_boxes_are_checked(numerals):
    module = example("patches_of_a_detector")
    result = module.check(numerals, "written", "ink")
    wrong = {s.written.detections[0].id for s in numerals if s.numeral.label != s.truth}
    flagged = numerals.load_saved_view("label_issues: flagged")
    found = set(flagged.values("id"))
    assert result["flagged"] == len(found) and len(found & wrong) >= 0.8 * len(found) >= 8


@pytest.mark.slow
def test_parts_are_skipped_when_they_are_done(numerals, compute_embeddings):
    module = example("a_million_images")
    some = numerals.limit(6).clone()
    module.embed_in_parts(some, "net", "cnn", 4)
    assert len(some.exists("net")) == 6
    assert operator("compute_embeddings")(some, model="cnn", embeddings="net")["computed"] == 0
    some.delete()
    result = module.check(numerals, "ink", "numeral")
    assert result["findings"] and module.plot(numerals, "ink", 80)["num_points"] == 80
