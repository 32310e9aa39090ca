"""The panels in a browser: how long they take to open, and to answer a click.

    python benchmarks/panel.py --images FOLDER [--samples 100000] [--classes 1000] [--clicks 10]

Times are taken in the page itself, at every frame from the mouse button's release on: until the
panel says what is shown, and until the first of the new images stands in the grid. Beside them
the App alone: a saved view of 100 samples that is chosen from its own list, with its own
Histograms panel open. Of "Dataset quality" and "Why this sample?": opening, moving a threshold, and
a decision until the next sample is on the screen. Animations are off: without a graphics card they
cost more than all the rest. Needs Chromium or Chrome; fifteen minutes.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from common import print_row

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import browser
import conftest  # noqa: F401  first: sets up a database and plugins of its own
import fiftyone as fo
import fiftyone.operators as foo
from playwright.sync_api import Locator, Page
from separability import labeled_vectors

PANEL = "class_separability"

# Long enough for the grid to be filled, with all its requests answered.
REST = 3500

WATCH = """() => {
  const images = () => [...document.querySelectorAll('[data-cy=looker]')];
  const shown = () => [...document.querySelectorAll('p')].map(p => p.textContent)
    .find(text => text.includes('Shown:'));
  window.addEventListener('pointerup', () => {
    const seen = window.seen = {}, start = performance.now();
    const before = new Set(images()), said = shown(), opened = document.querySelector('table');
    const look = () => {
      const time = performance.now() - start;
      if (seen.panel === undefined && shown() !== said) seen.panel = time;
      if (seen.table === undefined && !opened && document.querySelector('td')) seen.table = time;
      if (seen.images === undefined && images().some(one => !before.has(one)))
        seen.images = time;
      if (time < 3000) requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  }, true);
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of photos")
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--clicks", type=int, default=10, help="of each kind")
    arguments = parser.parse_args()
    dataset = measured_dataset(arguments.images, arguments.samples, arguments.classes)
    try:
        with browser.opened_app() as app:
            print_row("seconds, median (most)", "panel", "first image")
            app_alone(app, dataset, arguments.clicks)
            panel_clicks(app, dataset, arguments.clicks)
            print_row("seconds, median (most)", "told", "next sample")
            quality_clicks(app, dataset, arguments.clicks)
    finally:
        fo.core.odm.drop_database()


def measured_dataset(folder: Path, samples: int, classes: int) -> fo.Dataset:
    """Samples that show the folder's photos again and again, with a run of their classes."""
    files = sorted(folder.rglob("*.jpg"))
    if not files:
        raise SystemExit(f"--images {folder}: no *.jpg there; name a folder of photos")
    rows, labels = labeled_vectors(samples, classes)
    dataset = fo.Dataset("panel", persistent=True)
    dataset.add_samples(
        (
            fo.Sample(
                str(files[row % len(files)]),
                vectors=vector,
                ground_truth=fo.Classification(label=f"class {label:04}"),
            )
            for row, (vector, label) in enumerate(zip(rows, labels))
        ),
        num_samples=samples,
        progress=False,
    )
    compute = foo.get_operator("@embedding/quality/compute_separability")
    compute(dataset, embeddings="vectors", label_field="ground_truth")
    find = foo.get_operator("@embedding/quality/find_label_issues")
    found = find(dataset, embeddings="vectors", label_field="ground_truth")
    print(f"{found['flagged']:,} of {samples:,} labels flagged", flush=True)
    return dataset


def app_alone(app: browser.App, dataset: fo.Dataset, clicks: int) -> None:
    ids = dataset.limit(100 * clicks).values("id")
    for number in range(clicks):
        dataset.save_view(f"chosen {number}", dataset.select(ids[number::clicks]))
    app.open(dataset.name)
    app.page.wait_for_timeout(REST)
    app.open_panel("Histograms")
    app.page.evaluate(WATCH)
    app.page.wait_for_timeout(REST)

    def choose(number: int) -> None:
        app.page.locator("[data-cy=saved-views-selection]").click()
        app.page.wait_for_timeout(REST)
        app.page.locator(f"[data-cy=saved-views-chosen-{number}-selection-option]").click()

    report("a saved view, the App alone", app.page, choose, clicks)
    close_panel(app, "histograms")
    dataset.delete_saved_views()


def close_panel(app: browser.App, name: str) -> None:
    app.page.locator(f"[data-cy=panel-tab-{name}] button").last.click()
    app.page.wait_for_timeout(REST)


def panel_clicks(app: browser.App, dataset: fo.Dataset, clicks: int) -> None:
    opened = []
    for _ in range(3):
        app.open(dataset.name)
        app.page.wait_for_timeout(REST)
        app.page.evaluate(WATCH)
        panel = app.open_panel(PANEL)
        app.page.wait_for_timeout(REST)
        opened.append(app.page.evaluate("window.seen.table") / 1000)
        if len(opened) < 3:
            close_panel(app, PANEL)
    print_row("the panel opens", summary(opened))
    table = panel.locator("table").last

    def row(number: int) -> Locator:
        return table.locator("tbody tr").nth(number % 15)

    def next_page(number: int) -> None:
        if number and number % 15 == 0:
            panel.get_by_role("button", name="Next").click()
            app.page.wait_for_timeout(REST)

    def choose_class(number: int) -> None:
        next_page(number)
        row(number).locator("td").first.click()

    def choose_pair(number: int) -> None:
        row(number).locator("td").nth(6).click()

    def choose_bar(number: int) -> None:
        browser.click_plot(panel, 0.5, (number + 0.5) / 15)

    report("a class in the table", app.page, choose_class, clicks)
    report("a pair in the table", app.page, choose_pair, clicks)
    panel.get_by_role("tab", name="Chart").click()
    app.page.wait_for_timeout(REST)
    report("a bar", app.page, choose_bar, clicks)
    panel.get_by_role("tab", name="Confusion").click()
    app.page.wait_for_timeout(REST)

    def choose_square(number: int) -> None:
        place = (number + 0.5) / 30
        browser.click_plot(panel, place, place)

    report("a class in the matrix", app.page, choose_square, clicks)


WATCH_QUALITY = """() => {
  const said = () => [...document.querySelectorAll('p, h6, span')].map(part => part.textContent)
    .filter(text => / flagged at | in label_issues, /.test(text)).join();
  const sample = () =>
    document.querySelector('[data-cy=modal] [data-cy=sidebar-entry-id]')?.textContent;
  window.addEventListener('pointerup', () => {
    const seen = window.seen = {}, start = performance.now(), told = said(), shown = sample();
    const look = () => {
      const time = performance.now() - start;
      if (seen.panel === undefined && said() !== told) seen.panel = time;
      if (seen.images === undefined && sample() !== shown) seen.images = time;
      if (time < 3000) requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  }, true);
}"""


def quality_clicks(app: browser.App, dataset: fo.Dataset, clicks: int) -> None:
    opened = []
    for _ in range(3):
        app.open(dataset.name)
        app.page.wait_for_timeout(REST)
        started = time.perf_counter()
        panel = app.open_panel("dataset_quality")
        panel.get_by_role("button", name="Threshold").first.wait_for()
        opened.append(time.perf_counter() - started)
        app.page.wait_for_timeout(REST)
        if len(opened) < 3:
            close_panel(app, "dataset_quality")
    print_row("Dataset quality opens", summary(opened))
    app.page.evaluate(WATCH_QUALITY)
    panel.get_by_role("button", name="Threshold").first.click()
    rail = panel.locator(".MuiSlider-root")
    rail.wait_for()
    app.page.wait_for_timeout(REST)

    def move(number: int) -> None:
        width = browser.box_of(rail)["width"]
        rail.click(position={"x": width * (0.1 + 0.8 * (number + 0.5) / clicks), "y": 2})

    report("a threshold is moved", app.page, move, clicks)
    panel.get_by_role("button", name="Review").first.click()
    modal = app.page.locator("[data-cy=modal]")
    modal.locator("[data-cy=panel-tab-why_this_sample]").click()
    why = modal.locator("[data-cy=panel-content-why_this_sample]")
    keep = why.get_by_role("button", name="Keep")
    keep.first.wait_for()
    app.page.wait_for_timeout(REST)
    report("a decision", app.page, lambda number: keep.first.click(), clicks)


def report(name: str, page: Page, click: Callable[[int], None], clicks: int) -> None:
    seen = []
    for number in range(clicks):
        click(number)
        page.wait_for_timeout(REST)
        seen.append(page.evaluate("window.seen"))
    cells = []
    for what in ("panel", "images"):
        seconds = [times[what] / 1000 for times in seen if what in times]
        cells.append(summary(seconds) if seconds else "")
    print_row(name, *cells)


def summary(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({max(seconds):.2f})"


if __name__ == "__main__":
    main()
