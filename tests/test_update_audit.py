"""An audit that is updated repeats what has changed, keeps reviews; redundant ones are removed."""

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone.operators.executor import ExecutionContext
from fiftyone_embedding_quality.checks.overview import read_cards, read_history
from fiftyone_embedding_quality.checks.update import repeatable
from sklearn.datasets import load_digits

PREFIX = "@embedding/quality/"


def _run(name: str, *args, **parameters):
    return foo.get_operator(PREFIX + name)(*args, **parameters)


@pytest.fixture
def audited(dataset, digit_files):
    """150 digits, ten with a wrong name, audited under names of their own."""
    pixels = load_digits().data
    for index, (path, truth) in enumerate(digit_files[:150]):
        label = truth if index >= 10 else str((int(truth) + 5) % 10)
        sample = fo.Sample(path, breed=fo.Classification(label=label))
        sample["raw"] = (pixels[index] + 40 * np.eye(64)[int(truth)]).astype(np.float32)
        dataset.add_sample(sample)
    named = {"embeddings": "raw", "label_field": "breed"}
    _run("find_outliers", dataset, **named, threshold=0.9, check_pictures=False, run_key="odd")
    _run("find_label_issues", dataset, **named, run_key="doubts", seed=7)
    _run("compute_separability", dataset, **named, run_key="classes")
    _run("compute_visualization", dataset, embeddings="raw", method="pca", brain_key="plot")
    return dataset


def _states(dataset) -> dict[str, bool]:
    rows = _run("list_runs", dataset)["runs"]
    return {row["run_key"]: row["stale"] for row in rows if row["operator"] != "neighbor_graph"}


def test_only_what_has_changed_is_repeated_with_its_settings(audited):
    before = {row["run_key"]: row for row in _run("list_runs", audited)["runs"]}
    assert _run("update_audit", audited)["updated"] == {}
    flagged = audited.load_saved_view("doubts: flagged")
    assert all(card.before is None for card in read_cards(audited))
    found, when = len(flagged), audited.get_run_info("doubts").timestamp
    view = audited.select(flagged.values("id")[:4])
    _run("review_label_issues", view.limit(3), decision="accept", run_key="doubts")
    _run("review_label_issues", view.skip(3), decision="keep", run_key="doubts")
    labels = audited.values("breed.label")
    assert _states(audited) == {"odd": True, "doubts": True, "classes": True, "plot": False}
    result = _run("update_audit", audited)
    assert set(result["updated"]) == {"odd", "doubts", "classes"} and result["failed"] == {}
    assert result["current"] == ["plot"]
    assert not any(_states(audited).values())
    # What it found before is known, for the App to say what has changed.
    (card,) = (card for card in read_cards(audited) if card.run.key == "doubts")
    assert card.before[0] == found > card.found.count
    assert card.before[1][:10] == when.isoformat()[:10]
    lines = read_history(repeatable(audited))
    assert [value for _, value in lines["doubts", "label issues"]] == [found, card.found.count]
    accuracies = [value for _, value in lines["classes", "accuracy"]]
    assert len(accuracies) == 2 and 0 < accuracies[0] < accuracies[1] <= 1
    assert all(times == sorted(times) for times in ([at for at, _ in of] for of in lines.values()))
    # Labels and decisions are as they were, and what was decided is not flagged again.
    audited.reload()
    assert audited.values("breed.label") == labels
    assert audited.count_values("doubts_review") == {"accepted": 3, "kept": 1, None: 146}
    assert not set(view.values("id")) & set(audited.load_saved_view("doubts: flagged").values("id"))
    after = {row["run_key"]: row for row in _run("list_runs", audited)["runs"]}
    for key in ("odd", "doubts", "classes", "plot"):
        assert after[key]["parameters"] == before[key]["parameters"]
    # With other parameters another count says nothing of the dataset.
    named = {"embeddings": "raw", "label_field": "breed"}
    _run("find_label_issues", audited, **named, run_key="doubts", seed=8)
    (card,) = (card for card in read_cards(audited) if card.run.key == "doubts")
    assert card.before is None
    assert "doubts" not in {key for key, _ in read_history(repeatable(audited))}


def test_new_samples_without_embeddings_fail_with_a_reason_or_are_left_out(audited):
    audited.add_sample(fo.Sample("/none.png", breed=fo.Classification(label="3")))
    result = _run("update_audit", audited)
    assert not result["failed"] and set(result["updated"]) >= {"odd", "doubts", "classes"}
    assert not any(_states(audited).values())


def test_there_must_be_something_to_update(dataset):
    dataset.add_sample(fo.Sample("/none.png"))
    with pytest.raises(ValueError, match="run the audit first"):
        _run("update_audit", dataset)


def _form(dataset, **params) -> dict:
    context = ExecutionContext(
        {"dataset_name": dataset.name, "params": params, "operator_uri": PREFIX + "x"}
    )
    operator = foo.get_operator(PREFIX + "remove_redundant")
    return operator.resolve_input(context).to_json()["type"]["properties"]


def test_redundant_duplicates_are_tagged_or_deleted_and_files_stay(photos, edited_photos):
    found = _run("find_duplicates", photos, embeddings="cnn", run_key="twins")
    kept = set(photos.values("id"))
    redundant = set(photos.load_saved_view("twins: redundant").values("id"))
    assert len(redundant) == found["redundant"] == 6
    assert _run("remove_redundant", photos, run_key="twins", confirmed=True)["tagged"] == 0
    half = photos.match(fo.ViewField("name").is_in(["copy", "half", "photo-00"]))
    assert _run("remove_redundant", half, run_key="twins")["tagged"] == 2
    photos.untag_samples("twins_remove")
    box = fo.Detection(label="x", bounding_box=[0, 0, 0.5, 0.5])
    photos.set_values("boxes", [fo.Detections(detections=[box])] + [None] * (len(photos) - 1))
    with pytest.raises(ValueError, match="pass the dataset"):
        _run("remove_redundant", photos.to_patches("boxes"), run_key="twins")
    exact = _run("remove_redundant", photos, run_key="twins", exact=True)
    assert exact["tagged"] == 2 and len(photos.match_tags("twins_remove")) == 2
    # The form says how many, and does not delete before that is confirmed.
    fields = _form(photos, run_key="twins", action="delete")
    assert fields["plan"]["view"]["label"].startswith("6 samples will be deleted from the dataset")
    assert fields["error"]["invalid"]
    assert "error" not in _form(photos, run_key="twins", action="delete", sure=True)
    result = _run("remove_redundant", photos, run_key="twins", action="delete")
    assert (result["removed"], result["left"]) == (6, 24)
    assert set(photos.values("id")) == kept - redundant
    with pytest.raises(ValueError, match="not a finished run of find_duplicates"):
        _run("remove_redundant", photos, run_key="nothing")
    from pathlib import Path

    assert all(Path(path).is_file() for path in edited_photos.values())
