"""Class names full of markup in FiftyOne's App: the panel shows them as they are."""

import re

import browser
import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone import ViewField as F
from playwright.sync_api import expect

CLASSES = (
    "![x](http://127.0.0.1:9/x.png)", "<b>bold</b><img src=x onerror=alert(1)>", "a|b", "*star*",
    "`tick`", "# head", "1. one", "$x$", "名前", "New York, NY", " leading space", "🙂 smile",
    "long " * 40 + "end", "[a](javascript:alert(2))", "http://127.0.0.1:9/page",
    "<a href='http://127.0.0.1:9/z'>&lt;z</a>",
)  # fmt: skip
PANEL = "class_separability"

# Those whose card is opened; all stand in the table and the figures.
OPENED = ("![x]", "<b>", "`tick`", "# head", "1. one", "$x$", " lead", "long ", "[a](")


@pytest.fixture
def named(digit_files):
    """Digits of two classes of each name's neighborhood, so that many are confused."""
    random = np.random.default_rng(51)
    dataset = fo.Dataset(persistent=True)
    for number, (path, _) in enumerate(digit_files[:192]):
        place = number % len(CLASSES)
        vector = (2.2 * np.eye(16)[place // 2] + random.normal(size=16)).astype(np.float32)
        label = fo.Classification(label=CLASSES[place])
        dataset.add_sample(fo.Sample(path, ground_truth=label, vec=vector))
    separability = foo.get_operator("@embedding/quality/compute_separability")
    separability(dataset, embeddings="vec", label_field="ground_truth")
    yield dataset
    dataset.delete()


def test_the_panel_shows_names_as_they_are(app, named):
    asked, dialogs = [], []
    app.page.on("request", lambda request: asked.append(request.url))
    app.page.on("dialog", lambda dialog: dialogs.append(dialog.dismiss()))
    app.open(named.name)
    panel = app.open_panel(PANEL)
    expect(panel.locator("table").last).to_contain_text("Confused with")
    app.screenshot("markup-table")
    shown = [row["label"] for row in named.load_run_results("separability").report["classes"]][:15]
    for number, label in enumerate(shown):
        name = panel.locator("table").last.locator("tbody tr").nth(number).locator("td").first
        expect(name).to_contain_text(label[:9].strip())
        if not label.startswith(OPENED):
            continue
        name.click()
        expect(panel.locator("strong").first).to_have_text(_as_text(label))
        assert panel.locator("strong img, strong a, h1, ol, .katex").count() == 0
        app.screenshot(f"markup-card-{CLASSES.index(label):02}")
    panel.get_by_role("tab", name="Chart").click()
    # A click on a bar brings the name that the figure was given.
    for number in (0, shown.index("<b>bold</b><img src=x onerror=alert(1)>")):
        browser.click_plot(panel, 0.01, (number + 0.5) / 15)
        expect(panel.locator("strong").first).to_have_text(_as_text(shown[number]))
    app.screenshot("markup-chart")
    ticks = panel.locator(".js-plotly-plot .ytick text").all_text_contents()
    assert {"*star*", "$x$", "# head"} <= {text.strip() for text in ticks}
    assert panel.locator(".js-plotly-plot svg :is(a, tspan[style*=bold])").count() == 0
    # A notice: a class that is gone.
    first = named.match(F("ground_truth.label") == shown[0])
    first.set_field("ground_truth.label", CLASSES[0]).save()
    browser.click_plot(panel, 0.01, 0.5 / 15)
    expect(app.page.get_by_text(f"Nothing of {shown[0]} is left")).to_be_visible()
    app.screenshot("markup-notice")
    panel.get_by_role("tab", name="Confusion").click()
    expect(panel.locator(".js-plotly-plot .xtick text").first).to_be_visible()
    browser.drag_layer(panel).hover(position={"x": 5, "y": 60})
    app.screenshot("markup-confusion")
    assert panel.locator(".js-plotly-plot svg :is(a, tspan[style*=bold])").count() == 0
    assert not [url for url in asked if ":9/" in url] and not dialogs


def _as_text(label: str) -> re.Pattern:
    """A class as the page has it: what has no width between its letters, spaces of any kind."""
    letters = (r"[\s\xa0]+" if letter == " " else re.escape(letter) for letter in label)
    return re.compile("^" + "\u200b?".join(letters) + "$")
