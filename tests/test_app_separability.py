"""The panel "Class separability" in FiftyOne's App: every click, on photos and on their objects."""

import json
from collections import Counter

import browser
import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from conftest import read_rows
from fiftyone import ViewField as F
from playwright.sync_api import Locator, expect

PANEL = "class_separability"

# Confusable pairs of Caltech-101, and two classes that are not confused.
CLASSES = (
    "lobster", "crayfish", "ketch", "schooner", "cougar_body", "cougar_face",
    "chair", "windsor_chair", "Leopards", "pyramid",
)  # fmt: skip


@pytest.fixture(scope="module")
def photos_of_classes(shared):
    """Photos of ten classes with vectors, outliers and separability, by two embeddings."""
    folder = shared / "data" / "caltech101"
    stored = np.load(folder / "embeddings_efficientnet_lite0.npz")
    vectors = dict(zip(stored["files"], stored["embeddings"].astype(np.float32)))
    rows = [row for row in read_rows(folder / "qa_samples.csv") if row["given_label"] in CLASSES]
    dataset = fo.Dataset(persistent=True)
    dataset.add_samples(
        [
            fo.Sample(
                str(folder / row["file"]),
                cnn=vectors[row["file"]],
                short=vectors[row["file"]][:24],
                ground_truth=fo.Classification(label=row["given_label"]),
            )
            for row in rows
        ]
    )
    common = {"label_field": "ground_truth"}
    _run("find_outliers", dataset, embeddings="cnn", check_pictures=False, **common)
    _run("find_label_issues", dataset, embeddings="cnn", **common)
    # Stored in the same second, the run whose key comes last counts as the latest.
    _run("compute_separability", dataset, embeddings="short", run_key="brief", **common)
    _run("compute_separability", dataset, embeddings="cnn", **common)
    yield dataset
    dataset.delete()


@pytest.fixture
def photos_measured(photos_of_classes):
    dataset = photos_of_classes.clone(persistent=True)
    yield dataset
    dataset.delete()


@pytest.fixture
def objects_measured(shared):
    """The most frequent objects of coco128, with vectors in clusters by label, and their runs."""
    folder = shared / "data" / "coco128"
    coco = json.loads((folder / "labels.json").read_text())
    names = {category["id"]: category["name"] for category in coco["categories"]}
    counts = Counter(names[box["category_id"]] for box in coco["annotations"])
    kept = [name for name, _ in counts.most_common(8)]
    random = np.random.default_rng(51)
    centers = {name: random.normal(size=24) for name in kept}
    centers[kept[2]] = centers[kept[1]] + 0.5 * random.normal(size=24)
    dataset = fo.Dataset(persistent=True)
    for image in coco["images"]:
        size = np.tile([image["width"], image["height"]], 2)
        boxes = [
            fo.Detection(
                label=names[box["category_id"]],
                bounding_box=list(np.array(box["bbox"]) / size),
                vec=(centers[names[box["category_id"]]] + random.normal(size=24)).astype("f4"),
            )
            for box in coco["annotations"]
            if box["image_id"] == image["id"] and names[box["category_id"]] in kept
        ]
        path = str(folder / "data" / image["file_name"])
        dataset.add_sample(fo.Sample(path, boxes=fo.Detections(detections=boxes)))
    dataset.add_sample_field("boxes.detections.vec", fo.VectorField)
    common = {"embeddings": "vec", "patches_field": "boxes", "label_field": "boxes"}
    _run("find_outliers", dataset, check_pictures=False, **common)
    _run("compute_separability", dataset, **common)
    yield dataset
    dataset.delete()


def _run(operator, dataset, **parameters):
    return foo.get_operator(f"@embedding/quality/{operator}")(dataset, **parameters)


def _report(dataset):
    return dataset.load_run_results("separability").report


def _table(panel: Locator) -> Locator:
    """The table of classes, below that of all classes together and that of the selected one."""
    return panel.locator("table").last


def _row(panel: Locator, label: str) -> Locator:
    name = panel.page.locator(
        f"td:first-child:text-is('{label}'), td:first-child :text-is('{label}')"
    )
    return _table(panel).locator("tbody tr").filter(has=name)


def _names(panel: Locator) -> list[str]:
    cells = _table(panel).locator("tbody tr td:first-child").all_inner_texts()
    return [text.strip() for text in cells]


def test_photos_every_click(app, photos_measured):
    dataset = photos_measured
    report = _report(dataset)
    app.open(dataset.name)
    total = f"{len(dataset):,} samples"
    app.expect_count(total)
    panel = app.open_panel(PANEL)
    expect(_table(panel)).to_contain_text("windsor_chair")
    assert _names(panel) == [row["label"] for row in report["classes"]]
    app.screenshot("separability-classes")

    # A class, its neighbors, its outliers.
    count = dataset.count_values("ground_truth.label")
    _row(panel, "lobster").locator("td").first.click()
    app.expect_count(f"{count['lobster']} samples")
    expect(panel.get_by_text("Shown: all")).to_be_visible()
    app.screenshot("separability-class")
    pairs = {(pair["label"], pair["other"]): pair for pair in report["pairs"]}
    boundary = pairs["lobster", "crayfish"]["boundary"]
    _row(panel, "lobster").locator("td", has_text="crayfish").last.click()
    app.expect_count(f"{len(boundary)} samples")
    expect(panel.get_by_text("closest first")).to_be_visible()
    app.screenshot("separability-pair")
    flagged = dataset.match((F("ground_truth.label") == "lobster") & F("outliers_flagged"))
    assert 0 < len(flagged) != len(boundary)
    panel.get_by_role("button", name=f"Outliers {len(flagged)}").click()
    app.expect_count(f"{len(flagged)} samples")
    doubtful = dataset.match((F("ground_truth.label") == "lobster") & F("label_issues_flagged"))
    assert set(doubtful.values("id")) != set(flagged.values("id"))
    assert len(doubtful)
    button = panel.get_by_role("button", name=f"Label issues {len(doubtful)}")
    shown = fo.DatasetView._build(dataset, app.view_after(button.click))
    assert shown.values("id") == doubtful.values("id")
    app.expect_count(f"{len(doubtful)} samples")
    app.screenshot("separability-label-issues")
    panel.get_by_role("button", name=f"Outliers {len(flagged)}").click()
    app.expect_count(f"{len(flagged)} samples")

    # Select and tag them, and back to where one was.
    panel.get_by_role("button", name="Select all").click()
    selected = app.page.locator("[data-cy=action-manage-selected]")
    expect(selected).to_contain_text(str(len(flagged)))
    panel.get_by_placeholder("Tag").fill("strange")
    app.settle()
    panel.get_by_role("button", name=f"Tag {len(flagged)}").click()
    expect(app.page.get_by_text("tagged 'strange'")).to_be_visible()
    dataset.reload()
    assert dataset.match_tags("strange").values("id") == flagged.values("id")
    panel.get_by_role("button", name="Back").click()
    app.expect_count(total)
    _row(panel, "ketch").locator("td").first.click()
    app.expect_count(f"{count['ketch']} samples")
    _row(panel, "chair").locator("td").first.dblclick()
    app.expect_count(f"{count['chair']} samples")
    app.settle()
    panel.get_by_role("button", name="Back").click()
    app.expect_count(total)

    # Order and search.
    _table(panel).locator("th", has_text="Class").click()
    expect(_table(panel).locator("tbody tr").first).to_contain_text("Leopards")
    assert _names(panel) == sorted(CLASSES)
    panel.get_by_placeholder("Class name").fill("chair")
    expect(_table(panel).locator("tbody tr")).to_have_count(2)
    panel.get_by_placeholder("Class name").fill("")
    expect(_table(panel).locator("tbody tr")).to_have_count(10)


def test_photos_chart_and_matrix(app, photos_measured):
    report = _report(photos_measured)
    count = photos_measured.count_values("ground_truth.label")
    app.open(photos_measured.name)
    panel = app.open_panel(PANEL)
    panel.get_by_role("tab", name="Chart").click()
    worst = report["classes"][0]["label"]
    browser.click_plot(panel, 0.02, 0.05)
    app.expect_count(f"{count[worst]} samples")
    app.screenshot("separability-chart")

    panel.get_by_role("tab", name="Confusion").click()
    order = report["order"]
    row, column = order.index("lobster"), order.index("crayfish")
    assert abs(row - column) == 1
    expect(panel.locator(".js-plotly-plot .hm").first).to_be_visible()
    browser.click_plot(panel, (column + 0.5) / len(order), (row + 0.5) / len(order))
    pairs = {(pair["label"], pair["other"]): pair for pair in report["pairs"]}
    app.expect_count(f"{len(pairs['lobster', 'crayfish']['boundary'])} samples")
    app.screenshot("separability-matrix")
    app.page.get_by_title("Light mode").click()
    app.screenshot("separability-matrix-light")
    panel.get_by_role("tab", name="Classes").click()
    expect(panel.locator("table")).to_have_count(3)
    app.screenshot("separability-classes-light")
    app.page.get_by_title("Dark mode").click()


def test_two_runs_and_the_keyboard(app, photos_measured):
    app.open(photos_measured.name)
    panel = app.open_panel(PANEL)
    expect(_table(panel)).to_contain_text("windsor_chair")
    panel.get_by_role("combobox").nth(1).click()
    app.page.get_by_role("option", name="brief (short)").click()
    expect(panel.locator("table").first).to_contain_text("difference")
    expect(_table(panel).locator("th").nth(3)).to_have_text("brief")
    app.screenshot("separability-compare")
    # Without the mouse. In FiftyOne's App the Enter key does not press a button of a table.
    first = _names(panel)[0]
    _table(panel).get_by_role("button", name="Show").first.focus()
    app.page.keyboard.press("Space")
    count = photos_measured.count_values("ground_truth.label")
    app.expect_count(f"{count[first]} samples")
    panel.get_by_role("tab", name="Classes").focus()
    app.page.keyboard.press("ArrowRight")
    app.page.keyboard.press("Space")
    browser.drag_layer(panel).wait_for()


def test_a_stale_run_is_computed_again_and_the_map_opens(app, photos_measured):
    dataset = photos_measured
    _run("compute_visualization", dataset, embeddings="cnn", method="pca")
    sample = dataset.match(F("ground_truth.label") == "lobster").first()
    sample["ground_truth"].label = "crayfish"
    sample.save()
    app.open(dataset.name)
    panel = app.open_panel(PANEL)
    expect(panel.get_by_text("have changed")).to_be_visible()
    app.screenshot("separability-stale")
    panel.get_by_role("button", name="Recompute").click()
    execute = app.dialog.get_by_role("button", name="Execute")
    expect(execute).to_be_visible()
    expect(app.dialog.get_by_text("Replaces the run 'separability'")).to_be_visible()
    execute.click()
    expect(app.dialog.get_by_text("Balanced accuracy")).to_be_visible()
    app.page.keyboard.press("Escape")
    expect(panel.get_by_text("have changed")).to_be_hidden()
    count = dataset.count_values("ground_truth.label")
    _row(panel, "crayfish").locator("td").first.click()
    app.expect_count(f"{count['crayfish']} samples")
    panel.get_by_role("button", name="Embeddings").click()
    expect(app.embeddings).to_be_visible()
    expect(panel).to_be_visible()
    app.screenshot("separability-embeddings")


def test_runs_that_are_computed_anew_and_deleted_while_they_are_seen(app, photos_measured):
    dataset = photos_measured
    app.page.set_viewport_size({"width": 1200, "height": 900})  # 450 for the panel
    app.open(dataset.name)
    panel = app.open_panel(PANEL)
    expect(_table(panel)).to_contain_text("windsor_chair")
    app.settle()
    name = "chair_of_windsor_with_a_long_name"
    chairs = dataset.select(dataset.match(F("ground_truth.label") == "windsor_chair").values("id"))
    chairs.set_field("ground_truth.label", name).save()
    _run("compute_separability", dataset, embeddings="cnn", label_field="ground_truth")
    _row(panel, "windsor_chair").get_by_role("button", name="Show").click()
    expect(app.page.get_by_text("this is the current one")).to_be_visible()
    expect(_row(panel, name)).to_be_visible()
    app.expect_count(f"{len(dataset):,} samples")
    _row(panel, name).get_by_role("button", name="Show").click()
    app.expect_count(f"{len(chairs)} samples")
    mixing = panel.locator("table").nth(1)
    expect(mixing.get_by_role("button", name="Boundary").first).to_be_visible()
    app.screenshot("separability-narrow")
    whole = browser.box_of(panel)
    edge = whole["x"] + whole["width"]
    for part in panel.locator("td, th, button, [role=combobox]").all():
        box = browser.box_of(part)
        assert box["x"] + box["width"] <= edge, part.inner_text()

    _run("delete_run", dataset, run_key="separability")
    _row(panel, "lobster").locator("td").first.click()
    expect(panel.get_by_role("combobox").first).to_contain_text("brief")
    expect(panel.get_by_text("have changed")).to_be_visible()
    _run("delete_run", dataset, run_key="brief")
    panel.get_by_role("tab", name="Confusion").click()
    expect(panel.get_by_text("Not measured yet")).to_be_visible()
    app.screenshot("separability-deleted")


def test_objects_every_click(app, objects_measured):
    dataset = objects_measured
    report = _report(dataset)
    app.open(dataset.name)
    panel = app.open_panel(PANEL)
    mixing = report["pairs"][0]
    label, other = mixing["label"], mixing["other"]
    expect(_table(panel)).to_contain_text(label)
    count = dataset.count_values("boxes.detections.label")
    _row(panel, label).locator("td").first.click()
    app.expect_count(f"{count[label]} patches")
    app.screenshot("separability-objects-class")
    panel.get_by_role("tab", name="Confusion").click()
    order = report["order"]
    expect(panel.locator(".js-plotly-plot .hm").first).to_be_visible()
    browser.click_plot(
        panel, (order.index(other) + 0.5) / len(order), (order.index(label) + 0.5) / len(order)
    )
    app.expect_count(f"{len(mixing['boundary'])} patches")
    app.screenshot("separability-objects-pair")
    panel.get_by_placeholder("Tag").fill("check")
    app.settle()
    panel.get_by_role("button", name=f"Tag {len(mixing['boundary'])}").click()
    expect(app.page.get_by_text("tagged 'check'")).to_be_visible()
    assert dataset.count_label_tags() == {"check": len(mixing["boundary"])}
    panel.get_by_role("button", name="Select all").click()
    selected = app.page.locator("[data-cy=action-manage-selected]")
    expect(selected).to_contain_text(str(len(mixing["boundary"])))
    panel.get_by_role("button", name="Back").click()
    app.expect_count(f"{len(dataset)} samples")


def test_empty_states_and_the_first_run(app, dataset, digit_files):
    dataset.persistent = True
    dataset.add_samples([fo.Sample(path) for path, _ in digit_files[:60]])
    app.open(dataset.name)
    panel = app.open_panel(PANEL)
    expect(panel.get_by_text("No embeddings yet")).to_be_visible()
    app.screenshot("separability-no-vectors")
    panel.get_by_role("button", name="Compute embeddings").click()
    expect(app.dialog.get_by_role("button", name="Execute")).to_be_visible()
    app.dialog.get_by_role("button", name="Cancel").click()
    centers = np.eye(16)[np.arange(60) % 3] * 3
    random = np.random.default_rng(51)
    dataset.set_values("vec", list((centers + random.normal(size=(60, 16))).astype(np.float32)))
    panel.get_by_role("button", name="Refresh").click()
    expect(panel.get_by_text("No labels yet")).to_be_visible()
    app.screenshot("separability-no-labels")
    labels = [fo.Classification(label="abc"[index % 3]) for index in range(60)]
    dataset.set_values("ground_truth", labels)
    panel.get_by_role("button", name="Refresh").click()
    expect(panel.get_by_text("Not measured yet")).to_be_visible()
    app.screenshot("separability-no-run")
    panel.get_by_role("button", name="Compute class separability").click()
    execute = app.dialog.get_by_role("button", name="Execute")
    expect(execute).to_be_visible()
    app.screenshot("separability-form")
    execute.click()
    expect(app.dialog.get_by_text("Balanced accuracy")).to_be_visible()
    app.page.keyboard.press("Escape")
    expect(_table(panel).locator("tbody tr")).to_have_count(3)
