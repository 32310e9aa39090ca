"""The panel "Why this sample?" in FiftyOne's App: one click per decision, and the data after it."""

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from playwright.sync_api import Locator, expect
from sklearn.datasets import load_digits

PANEL = "why_this_sample"
WRONG = 12


def _run(name: str, *args, **parameters):
    return foo.get_operator(f"@embedding/quality/{name}")(*args, **parameters)


def _label(number: str) -> str:
    return f"<i>no. {number}</i>"


@pytest.fixture
def doubted(dataset, digit_files):
    """200 digits, the first twelve with a wrong name, evaluated by their pixels."""
    pixels = load_digits().data
    dataset.add_samples(
        [
            fo.Sample(
                path,
                species=fo.Classification(
                    label=_label(label if index >= WRONG else str((int(label) + 5) % 10))
                ),
                raw=(pixels[index] + 40 * np.eye(64)[int(label)]).astype(np.float32),
            )
            for index, (path, label) in enumerate(digit_files)
        ]
    )
    dataset.persistent = True
    _run("find_label_issues", dataset, embeddings="raw", label_field="species")
    return dataset


class Clicks:
    """Clicks of the mouse, counted."""

    def __init__(self) -> None:
        self.number = 0

    def on(self, button: Locator) -> None:
        button.click()
        self.number += 1


def _open_modal(app) -> Locator:
    """Opens the first sample of the grid, with the panel beside it; returns the panel."""
    page = app.page
    page.locator("[data-cy=looker]").first.click()
    modal = page.locator("[data-cy=modal]")
    # The App offers the panel as a tab; once it stands at the side, it stays there.
    modal.locator(f"[data-cy=panel-tab-{PANEL}]").click()
    modal.get_by_title("Split horizontally").first.click()
    expect(modal.locator("[data-cy=panel-content-fo-sample-modal-plugin]")).to_be_visible()
    return modal.locator(f"[data-cy=panel-content-{PANEL}]")


def _open_id(app) -> str:
    """The sample that the modal shows."""
    entry = app.page.locator("[data-cy=modal] [data-cy=sidebar-entry-id]")
    return entry.inner_text().split()[0]


def test_a_queue_of_label_issues_one_click_each(app, doubted):
    queue = doubted.load_saved_view("label_issues: flagged")
    ids, labels, suggestions = queue.values(["id", "species.label", "label_issues_suggested.label"])
    before = dict(zip(*doubted.values(["id", "species.label"])))
    total = len(ids)
    assert total >= 8
    app.open(doubted.name)
    app.open_saved_view("label-issues-flagged")
    app.expect_count(f"{total} samples")
    # What is ticked in the grid is another sample, and stays as it is.
    ticked = app.page.locator("[data-cy=looker]").nth(4)
    ticked.hover()
    ticked.locator("input[type=checkbox]").dispatch_event("click")
    panel = _open_modal(app)
    button = panel.get_by_role
    expect(panel.get_by_text(f"1 of {total}")).to_be_visible()
    expect(panel.get_by_text(f"{labels[0]} → {suggestions[0]}")).to_be_visible()
    expect(panel.locator("img")).to_have_count(6)  # five neighbors, and the sample itself
    app.screenshot("why-first")

    # One click each, and the next sample is open.
    clicks = Clicks()
    clicks.on(button("button", name=f"Accept {suggestions[0]}"))
    expect(panel.get_by_text(f"2 of {total} in label_issues, 1 reviewed")).to_be_visible()
    expect(panel.get_by_text(f"{labels[1]} → {suggestions[1]}")).to_be_visible()
    assert _open_id(app) == ids[1]
    clicks.on(button("button", name=f"Keep {labels[1]}"))
    expect(panel.get_by_text(f"3 of {total} in label_issues, 2 reviewed")).to_be_visible()
    assert clicks.number == 2
    # By the keyboard, on a button that has the focus.
    button("button", name=f"Accept {suggestions[2]}").focus()
    app.page.keyboard.press("Space")
    expect(panel.get_by_text(f"4 of {total} in label_issues, 3 reviewed")).to_be_visible()
    # "Set" cannot be pressed without a label.
    expect(button("button", name="Set", exact=True)).to_be_disabled()
    other = next(
        _label(str(n)) for n in range(10) if _label(str(n)) not in (labels[3], suggestions[3])
    )
    field = panel.get_by_placeholder("Type or select a value")
    field.fill(other)
    app.page.get_by_role("option", name=other).first.click()
    button("button", name=f"Set {other}").click()
    expect(panel.get_by_text(f"5 of {total} in label_issues, 4 reviewed")).to_be_visible()
    expect(button("button", name="Set", exact=True)).to_be_disabled()
    button("button", name="Skip").click()
    expect(panel.get_by_text(f"6 of {total} in label_issues, 4 reviewed")).to_be_visible()
    doubted.reload()
    now = dict(zip(*doubted.values(["id", "species.label"])))
    expected = {ids[0]: suggestions[0], ids[2]: suggestions[2], ids[3]: other}
    assert now == {**before, **expected}

    # Back to what was decided, and undone: the last decision first.
    for place in (5, 4):
        button("button", name="Back").click()
        expect(panel.get_by_text(f"{place} of {total}")).to_be_visible()
    expect(panel.get_by_text(f"{labels[3]} → {other}: another label was set")).to_be_visible()
    app.screenshot("why-decided")
    button("button", name="Undo").click()
    expect(panel.get_by_text(f"4 of {total} in label_issues, 3 reviewed")).to_be_visible()
    button("button", name="Undo").click()
    expect(panel.get_by_text(f"3 of {total} in label_issues, 2 reviewed")).to_be_visible()
    doubted.reload()
    assert dict(zip(*doubted.values(["id", "species.label"]))) == {**before, ids[0]: suggestions[0]}

    # The rest, to the end; the place is found again after the modal was closed and opened.
    app.page.get_by_title("Light mode").dispatch_event("click")
    app.screenshot("why-light")
    app.page.get_by_title("Dark mode").dispatch_event("click")
    for done in range(2, total):
        expect(panel.get_by_text(f"{done} reviewed")).to_be_visible()
        button("button", name="Keep").click()
    expect(panel.get_by_text("Everything in this queue is reviewed")).to_be_visible()
    app.screenshot("why-finished")
    button("button", name="Finish").click()
    expect(app.page.locator("[data-cy=modal]")).to_be_hidden()
    doubted.reload()
    assert doubted.count_values("label_issues_flagged").get(True) is None
    assert dict(zip(*doubted.values(["id", "species.label"]))) == {**before, ids[0]: suggestions[0]}


def test_duplicates_and_outliers_in_the_grid_and_the_modal(app, photos, tmp_path):
    from PIL import Image

    photos.persistent = True
    photos.set_values("fold", ["train", "test"] * (len(photos) // 2))
    dark = photos.first()
    Image.new("RGB", (160, 142)).save(tmp_path / "dark.png")
    dark.filepath = str(tmp_path / "dark.png")
    dark.save()
    _run("find_duplicates", photos, embeddings="cnn", split="fold")
    _run("find_outliers", photos, embeddings="cnn")
    app.open(photos.name)
    panel = app.open_panel(PANEL)
    expect(panel.get_by_role("button", name="Start the review")).to_be_visible()
    app.screenshot("why-grid")
    app.open_saved_view("duplicates-redundant")
    queue = photos.load_saved_view("duplicates: redundant").values("id")
    app.expect_count(f"{len(queue)} samples")
    panel = _open_modal(app)
    expect(panel.get_by_text(f"of {len(queue)} in duplicates, 0 reviewed")).to_be_visible()
    expect(panel.get_by_text("kept").first).to_be_visible()
    first = _open_id(app)
    app.screenshot("why-duplicate")
    panel.get_by_role("button", name="Not a duplicate").click()
    expect(panel.get_by_text("1 reviewed")).to_be_visible()
    second = _open_id(app)
    panel.get_by_role("button", name="Tag to remove").first.click()
    expect(panel.get_by_text("2 reviewed")).to_be_visible()
    photos.reload()
    assert photos[first]["duplicates_review"] == "distinct" and photos[first]["duplicates_keep"]
    assert photos[second].tags == ["duplicates_remove"]
    assert len(photos.match_tags("duplicates_remove")) == 1 and len(photos) == 30
    panel.get_by_role("button", name="Undo").click()
    expect(panel.get_by_text("1 reviewed")).to_be_visible()
    photos.reload()
    assert photos[second].tags == [] and len(photos.exists("duplicates_review")) == 1


@pytest.fixture
def doubted_boxes(dataset, digit_files):
    """100 images of two digits each, twelve of the boxes with a wrong name."""
    from PIL import Image

    pixels = load_digits().data
    folder = dataset.name
    for index in range(0, 200, 2):
        boxes = []
        for place in (0, 1):
            truth = digit_files[index + place][1]
            wrong = index + place < WRONG
            boxes.append(
                fo.Detection(
                    label=_label(str((int(truth) + 5) % 10) if wrong else truth),
                    bounding_box=[place / 2, 0, 0.5, 1],
                    raw=(pixels[index + place] + 40 * np.eye(64)[int(truth)]).astype(np.float32),
                )
            )
        pair = Image.new("L", (96, 48))
        for place in (0, 1):
            pair.paste(Image.open(digit_files[index + place][0]), (48 * place, 0))
        path = f"{digit_files[0][0]}-{folder}-{index}.png"
        pair.save(path)
        dataset.add_sample(fo.Sample(path, beasts=fo.Detections(detections=boxes)))
    dataset.add_sample_field("beasts.detections.raw", fo.VectorField)
    dataset.persistent = True
    _run(
        "find_label_issues", dataset, embeddings="raw", patches_field="beasts", label_field="beasts"
    )
    return dataset


def test_patches_one_click_each(app, doubted_boxes):
    dataset = doubted_boxes
    queue = dataset.load_saved_view("label_issues: flagged")
    ids, labels = queue.values(["id", "beasts.label"])
    suggestions = queue.values("beasts.label_issues_suggested")
    total = len(ids)
    assert total >= 8

    def names() -> dict[str, str]:
        dataset.reload()
        columns = dataset.values(["beasts.detections.id", "beasts.detections.label"], unwind=True)
        return dict(zip(*columns))

    before = names()
    app.open(dataset.name)
    # From an image, of which nothing was evaluated, to the patches.
    panel = _open_modal(app)
    panel.get_by_role("button", name="Review label_issues: the patches of 'beasts'").click()
    expect(panel.get_by_text(f"1 of {total} in label_issues, 0 reviewed")).to_be_visible()
    expect(panel.get_by_text(f"{labels[0]} → {suggestions[0]}")).to_be_visible()
    app.screenshot("why-patch")
    panel.get_by_role("button", name=f"Accept {suggestions[0]}").click()
    expect(panel.get_by_text(f"2 of {total} in label_issues, 1 reviewed")).to_be_visible()
    expect(panel.get_by_text(f"{labels[1]} → {suggestions[1]}")).to_be_visible()
    panel.get_by_role("button", name=f"Keep {labels[1]}").click()
    expect(panel.get_by_text(f"3 of {total} in label_issues, 2 reviewed")).to_be_visible()
    assert names() == {**before, ids[0]: suggestions[0]}
    panel.get_by_role("button", name="Undo").click()
    expect(panel.get_by_text(f"2 of {total} in label_issues, 1 reviewed")).to_be_visible()
    panel.get_by_role("button", name="Undo").click()
    expect(panel.get_by_text(f"1 of {total} in label_issues, 0 reviewed")).to_be_visible()
    assert names() == before
