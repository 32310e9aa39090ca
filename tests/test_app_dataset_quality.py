"""The panel "Dataset quality" in FiftyOne's App: the home of an audit, from empty to reviewed."""

import itertools
import re

import browser
import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from playwright.sync_api import Locator, expect
from sklearn.datasets import load_digits

PANEL, WHY = "dataset_quality", "why_this_sample"


def _run(name: str, *args, **parameters):
    return foo.get_operator(f"@embedding/quality/{name}")(*args, **parameters)


@pytest.fixture
def digits_with_copies(dataset, digit_files, tmp_path):
    """150 digits, ten with a wrong name and five copied, with their pixels as embeddings."""
    import shutil

    pixels = load_digits().data
    for index, (path, truth) in enumerate(digit_files[:150]):
        label = truth if index >= 10 else str((int(truth) + 5) % 10)
        sample = fo.Sample(path, animal=fo.Classification(label=f"#{label}"))
        sample["raw"] = pixels[index].astype(np.float32)
        sample["part"] = "train" if index % 4 else "test"
        dataset.add_sample(sample)
    for index in range(20, 25):
        copy = shutil.copy(digit_files[index][0], tmp_path / f"again{index}.png")
        sample = fo.Sample(copy, animal=fo.Classification(label=f"#{digit_files[index][1]}"))
        sample["raw"] = pixels[index].astype(np.float32)
        sample["part"] = "test"
        dataset.add_sample(sample)
    dataset.persistent = True
    return dataset


def _card(panel: Locator, text: str) -> Locator:
    return panel.get_by_text(text).first


def test_from_nothing_to_what_was_found(app, digits_with_copies):
    dataset = digits_with_copies
    app.open(dataset.name)
    # A button above the grid opens it.
    app.page.locator("[data-item-id='@embedding/quality/open_dataset_quality']").click()
    panel = app.page.locator(f"[data-cy=panel-content-{PANEL}]")
    expect(panel.get_by_text("No results for these 155 samples yet")).to_be_visible()
    app.screenshot("quality-nothing")
    panel.get_by_role("button", name="Run audit").click()
    execute = app.dialog.get_by_role("button", name="Execute")
    expect(execute).to_be_enabled()
    expect(app.dialog.get_by_text("155 samples will be audited")).to_be_visible()
    app.screenshot("quality-audit-form")
    execute.click()
    expect(app.dialog.get_by_text("Look at first:")).to_be_visible()
    app.page.keyboard.press("Escape")
    expect(panel.get_by_text("5 groups of exact copies")).to_be_visible()
    dataset.reload()
    assert dataset.get_run_info("duplicates").config.facts["parameters"]["split"] == "part"
    assert (
        dataset.get_run_info("label_issues").config.facts["parameters"]["label_field"] == "animal"
    )
    app.screenshot("quality-found")
    app.page.get_by_title("Light mode").click()
    app.screenshot("quality-light")
    app.page.get_by_title("Dark mode").click()
    # In a narrow panel the buttons of a card go on below, and none is upon another.
    app.page.set_viewport_size({"width": 900, "height": 757})
    names = ("Review", "Show", "Tag", "Groups", "Remove…", "Solved")
    boxes = [
        browser.box_of(panel.get_by_role("button", name=name, exact=True).first) for name in names
    ]
    app.screenshot("quality-narrow")
    for one, other in itertools.pairwise(boxes):
        assert other["x"] >= one["x"] + one["width"] or other["y"] >= one["y"] + one["height"]


def test_each_finding_leads_on(app, digits_with_copies):
    dataset = digits_with_copies
    _run("audit", dataset, embeddings="raw", split="part", label_field="animal")
    redundant = dataset.load_saved_view("duplicates: redundant")
    flagged = dataset.load_saved_view("label_issues: flagged")
    total = len(redundant)
    app.open(dataset.name)
    panel = app.open_panel(PANEL)
    expect(_card(panel, "label issues")).to_be_visible()
    expect(panel.locator("img").first).to_be_visible()
    app.settle()

    # Solved, and opened again.
    before = panel.get_by_role("button", name="Solved").count()
    panel.get_by_role("button", name="Solved").first.click()
    expect(panel.get_by_role("button", name="Reopen")).to_have_count(1)
    dataset.reload()
    assert dataset.get_run_info("duplicates").config.facts["solved"]
    panel.get_by_role("button", name="Reopen").click()
    expect(panel.get_by_role("button", name="Solved")).to_have_count(before)
    panel.get_by_role("button", name="Tag", exact=True).last.click()
    panel.get_by_role("button", name="Untag").click()
    expect(panel.get_by_role("button", name="Untag")).to_have_count(0)
    dataset.reload()
    assert dataset.count_sample_tags() == {}
    panel.get_by_role("button", name="Show", exact=True).last.click()
    app.expect_count(f"{len(flagged)} samples")
    panel.get_by_role("button", name="Groups").first.click()
    app.expect_count(f"{len(dataset.distinct('duplicates_group'))} groups")
    app.screenshot("quality-groups")

    # Review opens the queue in the modal: two clicks to the first decision.
    panel.get_by_role("button", name="Review").first.click()
    modal = app.page.locator("[data-cy=modal]")
    modal.locator(f"[data-cy=panel-tab-{WHY}]").click()
    why = modal.locator(f"[data-cy=panel-content-{WHY}]")
    expect(why.get_by_text(f"1 of {total} in duplicates, 0 reviewed")).to_be_visible()
    why.get_by_role("button", name="Tag to remove").click()
    expect(why.get_by_text(f"2 of {total} in duplicates, 1 reviewed")).to_be_visible()
    app.settle()
    app.page.mouse.click(5, 450)
    expect(modal).to_be_hidden()
    panel.get_by_role("button", name="Refresh").click()
    expect(panel.get_by_text(f"1 of {total} reviewed").first).to_be_visible()

    # After a review runs are out of date; one press repeats what has changed.
    _run("review_label_issues", flagged.limit(3), decision="accept")
    panel.get_by_role("button", name="Refresh").click()
    expect(panel.get_by_text("out of date").first).to_be_visible()
    app.screenshot("quality-stale")
    panel.get_by_role("button", name="Update audit").click()
    expect(app.dialog.get_by_text("updated in")).to_be_visible()
    app.screenshot("quality-updated")
    app.dialog.get_by_role("button", name="Done").click()
    expect(panel.get_by_text("out of date")).to_have_count(0)
    panel.get_by_text("Over time").scroll_into_view_if_needed()
    expect(panel.locator(".legendtext", has_text="accuracy")).to_be_visible()
    app.screenshot("quality-over-time")
    dataset.reload()
    assert dataset.count_values("label_issues_review")["accepted"] == 3
    rows = _run("list_runs", dataset)["runs"]
    assert not [row["run_key"] for row in rows if row["stale"]]

    # What is redundant is deleted from the dataset when that was confirmed, and files stay.
    app.settle()
    panel.get_by_role("button", name="Remove…").first.click()
    form = app.dialog
    form.get_by_text("Delete them from the dataset").click()
    expect(form.get_by_text(f"{total} samples will be deleted from the dataset")).to_be_visible()
    expect(form.get_by_role("button", name="Execute")).to_be_disabled()
    app.screenshot("quality-remove")
    form.get_by_label(f"Delete {total} samples").check()
    form.get_by_role("button", name="Execute").click()
    expect(app.dialog.get_by_text(f"{total} samples deleted")).to_be_visible()
    assert len(dataset) == 155 - total
    app.page.keyboard.press("Escape")
    # Runs are listed and deleted from here.
    panel.get_by_role("button", name="Delete").last.click()
    expect(app.dialog.get_by_text("Will be deleted").first).to_be_visible()


def test_a_threshold_is_moved_and_put_back(app, digits_with_copies):
    """Of outliers by their score, of label issues by the quality of the label."""
    dataset = digits_with_copies
    of_score = _run("find_outliers", dataset, embeddings="raw", check_pictures=False)
    _run("find_label_issues", dataset, embeddings="raw", label_field="animal")
    app.open(dataset.name)
    panel = app.open_panel(PANEL)
    buttons = panel.get_by_role("button", name="Threshold")
    expect(buttons).to_have_count(2)
    for place, name, own in ((1, "outliers", of_score["flagged"]), (0, "label_issues", None)):
        view = f"{name}: flagged"
        own = own or len(dataset.load_saved_view(view))
        buttons.nth(place).click()
        thumb = panel.get_by_role("slider")
        expect(thumb).to_be_visible()
        app.settle()
        app.screenshot(f"quality-threshold-{name}")
        # The last of some quick clicks counts, near one end of the rail.
        rail = panel.locator(".MuiSlider-root")
        width = browser.box_of(rail)["width"]
        for part in (0.3, 0.7, 0.06 if place else 0.9):
            rail.click(position={"x": width * part, "y": 2})
        app.settle()
        pattern = r"Flag from 0\.0[3-9]" if place else r"Flag up to 0\.[89]"
        apply = panel.get_by_role("button", name=re.compile(pattern))
        expect(apply).to_be_enabled()
        chosen = float(apply.inner_text().split()[-1])
        if place:
            expected = sum(score >= chosen for score in dataset.values("outliers_score"))
            told = f"{expected} flagged at score {chosen:.2f} or more"
        else:
            columns = dataset.values(["label_issues_quality", "label_issues_suggested.label"])
            expected = sum(value <= chosen and other is not None for value, other in zip(*columns))
            told = f"{expected} flagged at quality {chosen:.2f} or less"
        assert expected != own
        expect(panel.get_by_text(told)).to_be_visible()
        # A bar says the same without the server.
        layer = browser.drag_layer(panel)
        box = browser.box_of(layer)
        across = chosen + (0.005 if place else -0.005)
        layer.hover(position={"x": across * box["width"], "y": box["height"] / 2})
        expect(panel.locator(".hoverlayer")).to_contain_text(told)
        apply.click()
        expect(panel.get_by_text("set manually")).to_be_visible()
        dataset.reload()
        assert len(dataset.load_saved_view(view)) == expected
        app.screenshot(f"quality-threshold-{name}-moved")
        panel.get_by_role("button", name="Reset").click()
        expect(panel.get_by_text("set manually")).to_have_count(0)
        dataset.reload()
        assert len(dataset.load_saved_view(view)) == own
        app.settle()  # an event that is answered later than it draws the panel as it was
        panel.get_by_role("button", name="All findings").click()
        expect(thumb).to_have_count(0)
