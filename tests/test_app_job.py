"""The whole job in FiftyOne's App on photos with boxes: audit, fix labels, weak classes, report."""

import json

import fiftyone as fo
import numpy as np
import pytest
from playwright.sync_api import expect

HOME, WHY = "dataset_quality", "why_this_sample"


@pytest.fixture
def mislabeled(dataset, shared):
    """coco128 with its boxes in ``ground_truth``; one in twelve of the frequent classes is wrong.

    Returns:
        the dataset, and the true labels of the wrong boxes by their ids
    """
    folder = shared / "data" / "coco128"
    coco = json.loads((folder / "labels.json").read_text())
    names = {category["id"]: category["name"] for category in coco["categories"]}
    frequent = ["person", "car", "bowl", "cup", "chair", "book", "motorcycle", "dog"]
    random = np.random.default_rng(8)
    truths = {}
    for image in coco["images"]:
        size = np.tile([image["width"], image["height"]], 2)
        boxes = []
        for one in coco["annotations"]:
            if one["image_id"] != image["id"]:
                continue
            truth = label = names[one["category_id"]]
            if truth in frequent and random.random() < 1 / 12:
                label = str(random.choice([name for name in frequent if name != truth]))
            box = (np.array(one["bbox"]) / size).tolist()
            boxes.append(fo.Detection(label=label, bounding_box=box))
            if label != truth:
                truths[boxes[-1].id] = truth
        path = str(folder / "data" / image["file_name"])
        dataset.add_sample(fo.Sample(path, ground_truth=fo.Detections(detections=boxes)))
    dataset.persistent = True
    return dataset, truths


def _labels(dataset) -> dict[str, str]:
    dataset.reload()
    path = "ground_truth.detections"
    return dict(zip(*dataset.values([f"{path}.id", f"{path}.label"], unwind=True)))


@pytest.mark.slow
def test_boxes_from_nothing_to_a_report(app, mislabeled, tmp_path):
    dataset, truths = mislabeled
    before = _labels(dataset)
    app.open(dataset.name)
    panel = app.open_panel(HOME)
    panel.get_by_role("button", name="Run audit").click()
    execute = app.dialog.get_by_role("button", name="Execute")
    expect(app.dialog.get_by_text(f"{len(before)} patches")).to_be_visible()
    app.choose(app.dialog, "cnn")
    app.screenshot("job-audit-form")
    execute.click()
    expect(app.dialog.get_by_text("Look at first:")).to_be_visible(timeout=1_800_000)
    app.screenshot("job-audit-result")
    app.page.keyboard.press("Escape")
    app.settle()
    app.screenshot("job-found")

    # Four clicks to the first decision, from the App as it opens: the panel's two, Review, its tab.
    dataset.reload()
    queue = dataset.load_saved_view("label_issues: flagged")
    ids, labels = queue.values(["id", "ground_truth.label"])
    suggestions = queue.values("ground_truth.label_issues_suggested")
    assert np.mean([one in truths for one in ids[:10]]) >= 0.5
    panel.get_by_role("button", name="Review").nth(1).click()  # of label issues
    modal = app.page.locator("[data-cy=modal]")
    modal.locator(f"[data-cy=panel-tab-{WHY}]").click()
    why = modal.locator(f"[data-cy=panel-content-{WHY}]")
    decided = {}
    for place in range(3):
        told = f"{place + 1} of {len(ids)} in label_issues, {place} reviewed"
        expect(why.get_by_text(told)).to_be_visible()
        expect(why.get_by_text(f"{labels[place]} → {suggestions[place]}")).to_be_visible()
        right = truths.get(ids[place]) == suggestions[place]
        app.screenshot(f"job-review-{place}")
        # One click, and the next patch is on the screen.
        verb, label = ("Accept", suggestions[place]) if right else ("Keep", labels[place])
        why.get_by_role("button", name=f"{verb} {label}").click()
        if right:
            decided[ids[place]] = label
    expect(why.get_by_text("3 reviewed")).to_be_visible()
    assert _labels(dataset) == {**before, **decided}
    app.settle()
    app.page.mouse.click(5, 450)
    expect(modal).to_be_hidden()

    panel.get_by_role("button", name="Refresh").click()
    expect(panel.get_by_text(f"3 of {len(ids)} reviewed").first).to_be_visible()
    classes = app.open_panel("class_separability")
    expect(classes.get_by_text("What to do")).to_be_visible()
    app.settle()
    app.screenshot("job-classes")
    app.page.locator(f"[data-cy=panel-tab-{HOME}]").click()
    panel.get_by_role("button", name="Export report").click()
    form = app.dialog
    form.get_by_role("textbox").first.fill(str(tmp_path / "report"))
    form.get_by_role("button", name="Execute").click()
    expect(app.dialog.get_by_text("which opens in any browser")).to_be_visible()
    app.screenshot("job-report")
    assert "ground_truth" in (tmp_path / "report" / "report.html").read_text()
