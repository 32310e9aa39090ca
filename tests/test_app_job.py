"""The whole job in FiftyOne's App: audit, fix labels, remove duplicates, weak classes, report."""

import json

import fiftyone as fo
import numpy as np
import pytest
from conftest import read_rows
from playwright.sync_api import expect

HOME, WHY = "dataset_quality", "why_this_sample"

CLASSES = [
    "lobster",
    "crayfish",
    "ketch",
    "schooner",
    "octopus",
    "brain",
    "pizza",
    "emu",
    "menorah",
]


@pytest.fixture
def mislabeled(dataset, shared):
    """Half of coco128, boxes in ``ground_truth``; one in twelve of the frequent classes is wrong.

    Returns:
        the dataset, and the true labels of the wrong boxes by their ids
    """
    folder = shared / "data" / "coco128"
    coco = json.loads((folder / "labels.json").read_text())
    names = {category["id"]: category["name"] for category in coco["categories"]}
    frequent = ["person", "car", "bowl", "cup", "chair", "book", "motorcycle", "dog"]
    random = np.random.default_rng(8)
    truths = {}
    for image in coco["images"][::2]:
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


@pytest.fixture
def planted(dataset, shared):
    """Photos of eight classes of Caltech-101 with wrong labels, clutter and copies.

    Returns:
        the dataset, and the true labels of the wrong ones by their ids
    """
    folder = shared / "data" / "caltech101"
    stored = np.load(folder / "embeddings_efficientnet_lite0.npz")
    vectors = dict(zip(stored["files"], stored["embeddings"].astype(np.float32)))
    rows = [row for row in read_rows(folder / "qa_samples.csv") if row["given_label"] in CLASSES]
    samples = [
        fo.Sample(
            str(folder / row["file"]),
            cnn=vectors[row["file"]],
            what=fo.Classification(label=row["given_label"]),
        )
        for row in rows
    ]
    dataset.add_samples(samples)
    dataset.persistent = True
    truths = {
        sample.id: row["true_label"]
        for sample, row in zip(samples, rows)
        if row["issue"] == "label_flip"
    }
    return dataset, truths


def _labels(dataset, path: str) -> dict[str, str]:
    dataset.reload()
    return dict(zip(*dataset.values([f"{path}.id", f"{path}.label"], unwind=True)))


def _audit(app, panel, counted: str, embeddings: str | None = None) -> None:
    panel.get_by_role("button", name="Run audit").click()
    execute = app.dialog.get_by_role("button", name="Execute")
    expect(app.dialog.get_by_text(counted)).to_be_visible()
    if embeddings:
        app.choose(app.dialog, embeddings)
    app.screenshot("job-audit-form")
    execute.click()
    expect(app.dialog.get_by_text("Look at first:")).to_be_visible(timeout=1_800_000)
    app.screenshot("job-audit-result")
    app.page.keyboard.press("Escape")
    app.settle()
    app.screenshot("job-found")


def _review_three(app, panel, place_of_button: int, queue, truths) -> dict[str, str]:
    """Four clicks lead to the first decision: two open the home panel, then Review, then the tab.

    Each decision is one click, and the next is on the screen. Returns the labels that were set.
    """
    ids, labels, suggestions = queue
    panel.get_by_role("button", name="Review").nth(place_of_button).click()
    modal = app.page.locator("[data-cy=modal]")
    modal.locator(f"[data-cy=panel-tab-{WHY}]").click()
    why = modal.locator(f"[data-cy=panel-content-{WHY}]")
    decided = {}
    for place in range(3):
        progress = f"{place + 1} of {len(ids)} in label_issues, {place} reviewed"
        expect(why.get_by_text(progress)).to_be_visible()
        expect(why.get_by_text(f"{labels[place]} → {suggestions[place]}")).to_be_visible()
        right = truths.get(ids[place]) == suggestions[place]
        app.screenshot(f"job-review-{place}")
        verb, label = ("Accept", suggestions[place]) if right else ("Keep", labels[place])
        why.get_by_role("button", name=f"{verb} {label}").click()
        if right:
            decided[ids[place]] = label
    expect(why.get_by_text("3 reviewed")).to_be_visible()
    app.settle()
    app.page.mouse.click(5, 450)
    expect(modal).to_be_hidden()
    panel.get_by_role("button", name="Refresh").click()
    expect(panel.get_by_text(f"3 of {len(ids)} reviewed").first).to_be_visible()
    return decided


def _classes_and_report(app, panel, folder) -> str:
    """Shows which classes need what, exports a report, and returns its page."""
    classes = app.open_panel("class_separability")
    expect(classes.get_by_text("What to do")).to_be_visible()
    app.settle()
    app.screenshot("job-classes")
    app.page.locator(f"[data-cy=panel-tab-{HOME}]").click()
    panel.get_by_role("button", name="Export report").click()
    form = app.dialog
    form.get_by_role("textbox").first.fill(str(folder / "report"))
    form.get_by_role("button", name="Execute").click()
    expect(app.dialog.get_by_text("which opens in any browser")).to_be_visible()
    app.screenshot("job-report")
    return (folder / "report" / "report.html").read_text()


@pytest.mark.slow
def test_boxes_from_nothing_to_a_report(app, mislabeled, tmp_path):
    dataset, truths = mislabeled
    path = "ground_truth.detections"
    before = _labels(dataset, path)
    app.open(dataset.name)
    panel = app.open_panel(HOME)
    _audit(app, panel, f"{len(before)} patches", "cnn")
    dataset.reload()
    view = dataset.load_saved_view("label_issues: flagged")
    queue = view.values(["id", "ground_truth.label", "ground_truth.label_issues_suggested"])
    assert np.mean([one in truths for one in queue[0][:10]]) >= 0.5
    decided = _review_three(app, panel, 1, queue, truths)
    assert _labels(dataset, path) == {**before, **decided}
    assert "ground_truth" in _classes_and_report(app, panel, tmp_path)


@pytest.mark.slow
def test_photos_with_embeddings_lose_copies_and_wrong_labels(app, planted, tmp_path):
    dataset, truths = planted
    before = dict(zip(*dataset.values(["id", "what.label"])))
    app.open(dataset.name)
    panel = app.open_panel(HOME)
    _audit(app, panel, f"{len(before)} samples")
    dataset.reload()
    view = dataset.load_saved_view("label_issues: flagged")
    queue = view.values(["id", "what.label", "label_issues_suggested.label"])
    assert np.mean([one in truths for one in queue[0][:10]]) >= 0.5
    # The last of the cards that can be reviewed but one: duplicates come first, outliers last.
    cards = panel.get_by_role("button", name="Review")
    decided = _review_three(app, panel, cards.count() - 2, queue, truths)
    assert decided
    dataset.reload()
    expected = {**before, **decided}
    assert dict(zip(*dataset.values(["id", "what.label"]))) == expected

    copies = set(dataset.load_saved_view("duplicates: redundant").values("id"))
    panel.get_by_role("button", name="Remove…").first.click()
    form, count = app.dialog, f"{len(copies)} samples"
    form.get_by_text("Delete them from the dataset").click()
    form.get_by_label(f"Delete {count}").check()
    form.get_by_role("button", name="Execute").click()
    expect(app.dialog.get_by_text(f"{count} deleted")).to_be_visible()
    app.page.keyboard.press("Escape")
    dataset.reload()
    left = {id_: label for id_, label in expected.items() if id_ not in copies}
    assert copies and dict(zip(*dataset.values(["id", "what.label"]))) == left
    assert "what" in _classes_and_report(app, panel, tmp_path)
