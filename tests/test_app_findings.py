"""What operators find, in FiftyOne's App: forms, results, saved views, reviews, runs."""

import re
from pathlib import Path

import fiftyone as fo
import fiftyone.operators as foo
import fiftyone.types as fot
import numpy as np
import pytest
from conftest import ROOT
from playwright.sync_api import expect
from sklearn.datasets import load_digits


def _shown(app, text: str) -> None:
    expect(app.page.locator("[data-cy=entry-counts]").first).to_contain_text(text)


def _open_view(app, dataset, slug: str, text: str) -> None:
    app.open(dataset.name)
    app.open_saved_view(slug)
    _shown(app, text)


def test_duplicates_form_result_and_views(app, photos):
    photos.persistent = True
    for sample in photos:
        sample.tags = ["test" if sample["name"] == "mirror" else "train"]
        sample.save()
    app.open(photos.name)
    form = app.open_operator("Quality: find duplicates")
    expect(form.get_by_text("30 samples will be compared")).to_be_visible()
    expect(form.get_by_text("cnn", exact=True)).to_be_visible()
    form.get_by_role("combobox").nth(1).click()
    app.page.get_by_role("option", name="tags").click()
    app.screenshot("duplicates-form")
    form.get_by_role("button", name="Execute").click()
    expect(app.dialog.get_by_text("6 groups of duplicates")).to_be_visible()
    expect(app.dialog.get_by_text("1 group has members in both test and train")).to_be_visible()
    app.screenshot("duplicates-result")
    app.page.keyboard.press("Escape")

    _open_view(app, photos, "duplicates-groups", "12 samples")
    app.screenshot("duplicates-groups")
    _open_view(app, photos, "duplicates-redundant", "6 samples")
    _open_view(app, photos, "duplicates-leaks", "2 samples")
    app.screenshot("duplicates-leaks")


def test_outliers_form_result_and_view(app, photos, tmp_path):
    from PIL import Image

    photos.persistent = True
    first = photos.first()
    Image.new("RGB", (160, 142)).save(tmp_path / "black.png")
    first.filepath = str(tmp_path / "black.png")
    first.save()
    app.open(photos.name)
    form = app.open_operator("Quality: find outliers")
    expect(
        form.get_by_text("30 of 30 samples have embeddings and will be evaluated")
    ).to_be_visible()
    app.screenshot("outliers-form")
    form.locator("input").nth(2).fill("7")
    expect(form.get_by_text('must be "auto" or a number between 0 and 1')).to_be_visible()
    expect(form.get_by_role("button", name="Execute")).to_be_disabled()
    app.screenshot("outliers-form-error")
    form.locator("input").nth(2).fill("auto")
    form.get_by_role("button", name="Execute").click()
    expect(app.dialog.get_by_text("flagged among 30 samples")).to_be_visible()
    expect(app.dialog.get_by_text("1 dark")).to_be_visible()
    app.screenshot("outliers-result")
    app.page.keyboard.press("Escape")

    photos.reload()
    flagged = len(photos.load_saved_view("outliers: flagged"))
    _open_view(app, photos, "outliers-flagged", f"{flagged} samples")
    app.screenshot("outliers-flagged")


@pytest.fixture
def flipped(dataset, digit_files):
    """200 digits, their pixels as vectors, the first twelve with a wrong label."""
    digits = load_digits()
    dataset.add_samples(
        [
            fo.Sample(
                path,
                truth=label,
                ground_truth=fo.Classification(
                    label=label if index >= 12 else str((int(label) + 5) % 10)
                ),
                pixels=digits.data[index].astype(np.float32),
            )
            for index, (path, label) in enumerate(digit_files)
        ]
    )
    dataset.persistent = True
    return dataset


def test_label_issues_are_found_reviewed_and_taken_back(app, flipped):
    app.open(flipped.name)
    form = app.open_operator("Quality: find label issues")
    expect(
        form.get_by_text("200 of 200 samples have embeddings and will be evaluated")
    ).to_be_visible()
    app.screenshot("label-issues-form")
    form.get_by_role("button", name="Execute").click()
    expect(app.dialog.get_by_text("flagged among the labels of 200 samples")).to_be_visible()
    app.screenshot("label-issues-result")
    app.settle()  # the App loads the dataset again, which would undo a click meanwhile
    # The result leads to what it found.
    app.dialog.get_by_role("button", name="Show label_issues: flagged").click()
    flipped.reload()
    flagged = len(flipped.load_saved_view("label_issues: flagged"))
    _shown(app, f"{flagged} samples")
    app.page.keyboard.press("Escape")
    # The grid shows the labels and what is suggested, not what explains it.
    for field, is_shown in (("ground_truth", True), ("suggested", True), ("probe", False)):
        name = field if field == "ground_truth" else f"label_issues_{field}"
        box = app.page.locator(f"[data-cy=checkbox-{name}] input")
        expect(box).to_be_checked(checked=is_shown)
    app.screenshot("label-issues-flagged")

    app.select_first(2)
    form = app.open_operator("Quality: review label issues")
    expect(form.get_by_text("2 labels will be reviewed, 2 of them changed")).to_be_visible()
    app.screenshot("review-form")
    form.get_by_role("button", name="Execute").click()
    expect(app.dialog.get_by_text("2 labels reviewed, 2 of them changed")).to_be_visible()
    app.screenshot("review-result")
    flipped.reload()
    assert flipped.count_values("label_issues_review")["accepted"] == 2
    # Nothing is selected any more: Undo is about what was reviewed.
    app.settle()
    app.dialog.get_by_role("button", name="Undo").click()
    expect(app.dialog.get_by_text("2 labels undone")).to_be_visible()
    app.screenshot("review-undone")
    flipped.reload()
    assert flipped.count_values("label_issues_review") == {None: 200}
    app.page.keyboard.press("Escape")
    _open_view(app, flipped, "label-issues-flagged", f"{flagged} samples")


def test_nothing_selected_is_an_error_in_the_form(app, flipped):
    foo.get_operator("@embedding/quality/find_label_issues")(
        flipped, embeddings="pixels", label_field="ground_truth"
    )
    app.open(flipped.name)
    form = app.open_operator("Quality: review label issues")
    expect(form.get_by_text("Select the samples or patches to review")).to_be_visible()
    app.screenshot("review-nothing-selected")


def test_audit_and_its_buttons(app, photos):
    photos.persistent = True
    app.open(photos.name)
    form = app.open_operator("Quality: audit")
    expect(form.get_by_text("30 samples will be audited")).to_be_visible()
    app.screenshot("audit-form")
    form.get_by_role("button", name="Execute").click()
    expect(app.dialog.get_by_text("Look at first:")).to_be_visible()
    app.screenshot("audit-result")
    app.settle()
    app.dialog.get_by_role("button", name="Show duplicates: redundant").first.click()
    _shown(app, "6 samples")
    app.dialog.get_by_role("button", name="Open class separability").click()
    panel = app.page.locator("[data-cy*=panel-content-class_separability]")
    expect(panel).to_be_visible()
    app.dialog.get_by_role("button", name="Open the visualization").click()
    expect(app.embeddings).to_be_visible()
    app.page.keyboard.press("Escape")
    app.screenshot("audit-view")


@pytest.mark.battery  # five minutes; test_app_job audits photos every time
def test_the_case_of_the_readme(app, shared, dataset):
    """The audit of Caltech-101 that docs/quality.md reports.

    Its vectors are those that ``cnn`` had computed. Rounded as another processor rounds, they make
    a few label issues and outliers more or fewer; more than a seventh off would be another story.
    """
    folder = shared / "data" / "caltech101"
    dataset.add_dir(str(folder / "images"), fot.ImageClassificationDirectoryTree)
    stored = np.load(folder / "embeddings_efficientnet_lite0.npz")
    vectors = dict(zip(stored["files"], stored["embeddings"].astype(np.float32)))
    files = [str(Path(path).relative_to(folder)) for path in dataset.values("filepath")]
    dataset.set_values("cnn", [vectors[file] for file in files])
    dataset.persistent = True
    app.open(dataset.name)
    form = app.open_operator("Quality: audit")
    expect(form.get_by_text("3,657 samples will be audited")).to_be_visible()
    form.get_by_role("button", name="Execute").click()
    # Half an hour: a minute on a quiet machine, but what is tested is what is found, not how fast.
    expect(app.dialog.get_by_text("Look at first:")).to_be_visible(timeout=1_800_000)
    app.screenshot("audit-caltech101")
    found, told = app.dialog.inner_text(), (ROOT / "docs" / "quality.md").read_text()
    for what in ("groups of near-duplicates", "label issues", "outliers"):
        numbers = [int(re.search(rf"(\d+) {what}", text)[1]) for text in (found, told)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1 / 7), what


def test_runs_are_listed_and_deleted(app, photos):
    photos.persistent = True
    foo.get_operator("@embedding/quality/find_duplicates")(photos)
    app.open(photos.name)
    form = app.open_operator("Quality: list runs")
    form.get_by_role("button", name="Execute").click()
    expect(app.dialog.get_by_text("find_duplicates")).to_be_visible()
    expect(app.dialog.get_by_text("up to date").first).to_be_visible()
    app.screenshot("runs")
    app.page.keyboard.press("Escape")

    form = app.open_operator("Quality: delete run")
    form.get_by_role("combobox").first.click()
    app.page.get_by_role("option", name="duplicates (find_duplicates)").click()
    expect(form.get_by_text("Will be deleted: duplicates_group")).to_be_visible()
    app.screenshot("delete-form")
    form.get_by_role("button", name="Execute").click()
    expect(app.dialog.get_by_text("Run duplicates deleted")).to_be_visible()
    app.screenshot("delete-result")
    photos.reload()
    assert photos.get_field("duplicates_group") is None and photos.list_saved_views() == []
