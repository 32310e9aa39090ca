"""The demo's main job on its embedded dataset, and what it looks like in the App."""

import importlib

import fiftyone as fo
import pytest
import sklearn.datasets
from sklearn.utils import Bunch

# Of the 1,797 digits, which take a minute.
NUMBER = 300


@pytest.fixture(scope="module")
def demo_dataset():
    from fiftyone_embedding_quality.demo import __main__ as demo

    digits = sklearn.datasets.load_digits()
    some = Bunch(images=digits.images[:NUMBER], target=digits.target[:NUMBER])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sklearn.datasets, "load_digits", lambda: some)
        for name in demo.SOURCES:
            patch.delenv(name, raising=False)
        patch.setattr("sys.argv", ["demo"])
        demo.main()
    return fo.load_dataset("quality-demo-digits")


@pytest.mark.slow
def test_the_demo_embeds_and_audits_the_digits(demo_dataset):
    assert len(demo_dataset) == len(demo_dataset.exists("cnn")) == NUMBER
    assert len(demo_dataset.distinct("ground_truth.label")) == 10
    results = demo_dataset.load_brain_results("cnn_umap")
    assert len(results.points) == NUMBER
    facts = results.config.embedding_quality
    assert facts["trustworthiness"] > 0.9
    assert demo_dataset.persistent
    keys = {"cnn", "duplicates", "outliers", "label_issues", "separability"}
    assert keys <= set(demo_dataset.list_runs())
    # Few of these digits are mislabeled or strange.
    assert demo_dataset.count_values("label_issues_flagged").get(True, 0) < 0.1 * NUMBER
    assert demo_dataset.count_values("outliers_flagged").get(True, 0) < 0.05 * NUMBER


@pytest.mark.slow
def test_the_image_of_the_readme(app, demo_dataset):
    app.open(demo_dataset.name)
    app.open_embeddings("cnn_umap")
    app.color_by("ground_truth.label")
    app.lasso_left_half()
    app.screenshot("readme-map")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("IMAGES", "/no/such/folder", "IMAGES=/no/such/folder: there is no such folder"),
        ("DATASET", "no-such-dataset", "DATASET=no-such-dataset: there is no such dataset"),
    ],
)
def test_wrong_sources_are_named(monkeypatch, variable, value, message):
    demo = importlib.import_module("fiftyone_embedding_quality.demo.__main__")
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit, match=message):
        demo.load_dataset()


def test_a_folder_of_class_folders(monkeypatch, digit_files, tmp_path):
    from shutil import copy

    from fiftyone_embedding_quality.demo import __main__ as demo

    for path, label in digit_files[:6]:
        (tmp_path / label).mkdir(exist_ok=True)
        copy(path, tmp_path / label)
    monkeypatch.setenv("IMAGES", str(tmp_path))
    dataset = demo.load_dataset()
    assert sorted(dataset.values("ground_truth.label")) == sorted(
        label for _, label in digit_files[:6]
    )
    assert demo.load_dataset().name == dataset.name
    dataset.delete()
