"""What the plugin wrote is known as its own wherever it goes, and what is not is never touched."""

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest

PREFIX = "@embedding/quality/"


def operator(name):
    return foo.get_operator(PREFIX + name)


@pytest.fixture
def herd(dataset):
    """60 samples of three classes, 6 of them under a wrong label."""
    random = np.random.default_rng(11)
    centers = random.normal(size=(3, 16))
    dataset.add_samples(
        [
            fo.Sample(
                f"/nowhere/{index}.png",
                vec=(centers[index % 3] + 0.25 * random.normal(size=16)).astype(np.float32),
                kind=fo.Classification(label=("ox", "ewe", "hen")[(index + (index % 10 == 0)) % 3]),
            )
            for index in range(60)
        ]
    )
    return dataset


def find(samples, **more):
    return operator("find_label_issues")(samples, embeddings="vec", label_field="kind", **more)


def written(dataset) -> set[str]:
    dataset.reload()
    return {name for name in dataset.get_field_schema() if name.startswith("label_issues")}


def cloned_view(dataset):
    return dataset.take(40, seed=1).clone()


def merged(dataset):
    other = fo.Dataset()
    other.merge_samples(dataset)
    return other


def without_runs(dataset):
    clone = dataset.clone()
    for key in dataset.list_runs():
        if clone.has_run(key):
            clone.delete_run(key)
    return clone


@pytest.mark.parametrize("leave", [cloned_view, merged, without_runs])
def test_fields_without_their_run_are_listed_adopted_or_removed(herd, leave):
    find(herd)
    other = leave(herd)
    try:
        rows = {row["run_key"]: row for row in operator("list_runs")(other)["runs"]}
        assert rows["label_issues"]["stale"] and not rows["label_issues"]["finished"]
        assert "its run does not exist here" in rows["label_issues"]["reasons"][0]
        assert find(other)["judged"] == len(other)
        rows = {row["run_key"]: row for row in operator("list_runs")(other)["runs"]}
        assert not rows["label_issues"]["stale"]
        other.delete_run("label_issues")
        removed = operator("delete_run")(other, run_key="label_issues")
        assert {"label_issues_flagged", "label_issues_quality"} <= set(removed["fields"])
        assert written(other) == set() and other.list_saved_views() == []
    finally:
        other.delete()


def test_embeddings_without_their_run_are_those_of_the_model_they_were(digits, compute_embeddings):
    compute_embeddings(digits, model="cnn")
    clone = digits[:15].clone()
    assert clone.list_runs() == []
    with pytest.raises(ValueError, match="holds embeddings of timm:"):
        compute_embeddings(clone, model="timm:resnet18", embeddings="cnn")
    clone.add_sample(digits.last().copy())
    again = compute_embeddings(clone, model="cnn")
    assert (again["computed"], again["reused"]) == (0, 16)
    clone.delete()


def test_a_copy_or_a_renamed_field_is_the_users(herd):
    find(herd)
    herd.clone_sample_field("label_issues_flagged", "my_flags")
    herd.rename_sample_field("label_issues_against", "my_evidence")
    operator("delete_run")(herd, run_key="label_issues")
    assert written(herd) == set()
    assert herd.count("my_flags") == 60 and herd.has_field("my_evidence")


def test_fields_of_the_users_own_are_refused_by_name(herd):
    herd.add_sample_field("label_issues_quality", fo.FloatField)
    with pytest.raises(ValueError, match="already has a field 'label_issues_quality'"):
        find(herd)
    assert herd.list_runs() == []


def test_a_run_of_the_users_may_be_called_like_the_embeddings(herd):
    herd.register_run("vec", herd.init_run(method="training", epochs=3))
    result = operator("audit")(herd, embeddings="vec", check_pictures=False)
    assert {"find_label_issues", "find_outliers"} <= result["steps"].keys()
    assert herd.get_run_info("vec").config.epochs == 3


def test_an_unreadable_run_costs_only_itself(herd, tmp_path):
    find(herd)
    broken = herd.init_run(
        method=PREFIX + "find_outliers", fields="outliers_score", facts=[1, 2], finished=True
    )
    herd.register_run("outliers", broken)
    rows = {row["run_key"]: row for row in operator("list_runs")(herd)["runs"]}
    assert "it cannot be read" in rows["outliers"]["reasons"][0]
    assert rows["label_issues"]["reasons"] == []
    report = operator("export_report")(herd, path=str(tmp_path / "report"))
    assert "label_issues" in report["runs"] and "cannot be read" in report["left_out"]["outliers"]
    operator("find_outliers")(herd, embeddings="vec", check_pictures=False)
    rows = {row["run_key"]: row for row in operator("list_runs")(herd)["runs"]}
    assert rows["outliers"]["reasons"] == []


def pairs(folder, seed):
    """Eight images, two of which are copied, with their duplicates found."""
    from PIL import Image

    random = np.random.default_rng(seed)
    folder.mkdir()
    dataset = fo.Dataset()
    for number in range(8):
        image = Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8))
        for name in ("a", "b")[: 1 + (number < 2)]:
            image.save(folder / f"{number}{name}.png")
            dataset.add_sample(fo.Sample(str(folder / f"{number}{name}.png")))
    operator("find_duplicates")(dataset)
    return dataset


def test_groups_of_two_merged_sets_are_not_mixed(tmp_path):
    """Each of two sets has groups 0 and 1: the run speaks of its own samples only."""
    ours, theirs = pairs(tmp_path / "ours", 1), pairs(tmp_path / "theirs", 2)
    own = set(ours.values("filepath"))
    ours.merge_samples(theirs)
    assert ours.count("duplicates_group") == 8 and len(ours) == 20
    rows = {row["run_key"]: row for row in operator("list_runs")(ours)["runs"]}
    assert rows["duplicates"]["reasons"] == ["10 samples were added"]
    report = operator("export_report")(ours, path=str(tmp_path / "report"))
    assert report["findings"] == {"duplicate": 4}
    told = (tmp_path / "report" / "findings.csv").read_text()
    assert told.count("ours") == 4 and "theirs" not in told
    found = operator("find_duplicates")(ours)
    assert found["exact_groups"] == 4 and not own >= set(ours.values("filepath"))
    groups = ours.exists("duplicates_group").values("duplicates_group")
    assert sorted(groups) == [0, 0, 1, 1, 2, 2, 3, 3]
    ours.delete()
    theirs.delete()


def test_a_later_save_brings_no_old_run_back(herd):
    """The object that a script holds is told of a run, and does not write it once more."""
    from fiftyone_embedding_quality.storage.runs import Run, read_run, write_run

    write_run(herd, Run("barn", "find_outliers", finished=True))
    before = herd._doc.runs["barn"].id
    herd.save()
    clone = fo.Dataset._make_instance(name=herd.name, _create=False)
    clone.delete_run("barn")
    write_run(clone, Run("barn", "find_outliers", finished=True))
    after = clone._doc.runs["barn"].id
    herd.save()
    herd.reload()
    assert herd._doc.runs["barn"].id == after != before
    assert read_run(herd, "barn").finished


def test_what_the_user_made_under_the_name_of_a_deleted_field_stays(herd):
    find(herd)
    herd.reload()
    herd.delete_sample_field("label_issues_quality")
    herd.add_sample_field("label_issues_quality", fo.FloatField)
    herd.set_values("label_issues_quality", [4.5] * 60)
    herd.delete_saved_view("label_issues: flagged")
    herd.save_view("label_issues: flagged", herd.limit(2))
    with pytest.raises(ValueError, match="already has a field 'label_issues_quality'"):
        find(herd)
    removed = operator("delete_run")(herd, run_key="label_issues")
    herd.reload()
    assert "label_issues_quality" not in removed["fields"]
    assert herd.values("label_issues_quality") == [4.5] * 60
    assert len(herd.load_saved_view("label_issues: flagged")) == 2
    assert written(herd) == {"label_issues_quality"}
    assert not herd.list_runs() or "label_issues" not in herd.list_runs()


def test_fields_without_marks_of_an_earlier_version_are_the_runs(herd):
    """Versions before the marks left fields and views that only their runs remember."""
    find(herd)
    herd.reload()
    for name in written(herd):
        field = herd.get_field(name)
        field.info, field.description = None, None
        field.save()
    herd.update_saved_view_info("label_issues: flagged", {"description": "my words"})
    find(herd)
    removed = operator("delete_run")(herd, run_key="label_issues")
    assert len(removed["fields"]) > 3 and "label_issues: flagged" in removed["views"]
    assert written(herd) == set()


def test_vectors_of_the_user_in_place_of_deleted_ones_are_refused(digits, compute_embeddings):
    compute_embeddings(digits, embeddings="emb", model="cnn")
    digits.reload()
    digits.delete_sample_field("emb")
    digits.add_sample_field("emb", fo.VectorField)
    digits.set_values("emb", [np.ones(4, np.float32)] * 20)
    with pytest.raises(ValueError, match="already has a field 'emb'"):
        compute_embeddings(digits, embeddings="emb", model="cnn")
    assert all((one == 1).all() for one in digits.values("emb"))
