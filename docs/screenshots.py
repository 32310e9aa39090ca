"""Makes the images of the README and of these pages in FiftyOne's App.

    python docs/screenshots.py FOLDER

The folder holds one folder of photos per class, for example Caltech-101's. One label in thirty is
replaced, so that there is something to find. Needs Chromium or Chrome, and some minutes.
"""

import argparse
import io
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import browser
import conftest  # noqa: F401  first: sets up a database and plugins of its own
import fiftyone as fo
import fiftyone.operators as foo
import fiftyone.types as fot
from PIL import Image
from playwright.sync_api import Page, expect

DOCS = Path(__file__).resolve().parent

# Of the moving image: its width, the decisions that it shows, and milliseconds of each.
WIDTH, DECISIONS, BEFORE, AFTER = 900, 4, 2200, 700


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="one folder of photos per class")
    dataset = mislabeled(parser.parse_args().folder)
    browser.SCREENSHOTS = str(DOCS)
    try:
        with browser.opened_app() as app:
            app.open(dataset.name)
            audit(app)
            home(app)
            classes(app)
            queue(app, dataset)
    finally:
        fo.core.odm.drop_database()


def mislabeled(folder: Path) -> fo.Dataset:
    """The photos with embeddings, some of them with the label of another class."""
    dataset = fo.Dataset("photos", persistent=True)
    dataset.add_dir(str(folder), fot.ImageClassificationDirectoryTree)
    labels = dataset.values("ground_truth.label")
    random = np.random.default_rng(7)
    for row in random.choice(len(labels), len(labels) // 30, replace=False):
        labels[row] = str(random.choice(sorted({*labels} - {labels[row]})))
    dataset.set_values("ground_truth.label", labels)
    foo.get_operator("@embedding/quality/compute_embeddings")(dataset, model="cnn")
    return dataset


def audit(app: browser.App) -> None:
    form = app.open_operator("Quality: audit")
    form.get_by_role("button", name="Execute").click()
    expect(app.dialog.get_by_text("Look at first:")).to_be_visible(timeout=1_800_000)
    app.screenshot("audit")
    app.page.keyboard.press("Escape")
    app.settle()


def home(app: browser.App) -> None:
    app.open_panel("dataset_quality")
    app.settle()
    app.screenshot("quality")
    close_panel(app, "dataset_quality")


def classes(app: browser.App) -> None:
    panel = app.open_panel("class_separability")
    app.settle()
    table = panel.locator("table").last
    table.locator("tbody tr").nth(1).locator("td").nth(7).click()  # the class it is confused with
    expect(panel.get_by_text("closest first")).to_be_visible()
    app.settle()
    app.screenshot("panel")
    close_panel(app, "class_separability")


def close_panel(app: browser.App, name: str) -> None:
    app.page.locator(f"[data-cy=panel-tab-{name}] button").last.click()
    app.settle()


def queue(app: browser.App, dataset: fo.Dataset) -> None:
    """Some decisions, one click each, as a moving image."""
    dataset.reload()
    view = dataset.load_saved_view("label_issues: flagged")
    suggestions = view.values("label_issues_suggested.label")
    app.open_saved_view("label-issues-flagged")
    app.expect_count(f"{len(suggestions)} samples")
    app.page.locator("[data-cy=looker]").first.click()
    modal = app.page.locator("[data-cy=modal]")
    modal.locator("[data-cy=panel-tab-why_this_sample]").click()
    modal.get_by_title("Split horizontally").first.click()
    panel = modal.locator("[data-cy=panel-content-why_this_sample]")
    frames, times = [], []
    for place in range(DECISIONS):
        expect(panel.get_by_text(f"{place + 1} of {len(suggestions)}")).to_be_visible()
        app.settle()
        accept = panel.get_by_role("button", name=f"Accept {suggestions[place]}")
        frames.append(image(app.page))
        accept.hover()
        frames.append(image(app.page))
        times += [BEFORE, AFTER]
        accept.click()
    app.settle()
    frames.append(image(app.page))
    first, *others = frames
    first.save(
        DOCS / "queue.gif",
        save_all=True,
        append_images=others,
        duration=[*times, BEFORE],
        loop=0,
        optimize=True,
    )


def image(page: Page) -> Image.Image:
    browser.drawn(page)
    shown = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    small = shown.resize((WIDTH, shown.height * WIDTH // shown.width), Image.Resampling.LANCZOS)
    return small.quantize(128, dither=Image.Dither.NONE)


if __name__ == "__main__":
    main()
