"""Class names full of markup in FiftyOne's App: the panel shows them as they are."""

import re

import browser
import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from playwright.sync_api import expect

CLASSES = (
    "![x](http://127.0.0.1:9/x.png)", "<b>bold</b><img src=x onerror=alert(1)>", "a|b", "*star*",
    "`tick`", "# head", "1. one", "$x$", "名前", "New York, NY", " leading space", "🙂 smile",
    "long " * 40 + "end", "[a](javascript:alert(2))", "http://127.0.0.1:9/page",
    "<a href='http://127.0.0.1:9/z'>&lt;z</a>",
)  # fmt: skip
PANEL = "class_separability"


@pytest.fixture
def named(digit_files):
    """Digits of two classes of each name's neighbourhood, so that many are confused."""
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
    expect(panel.locator("table").last).to_contain_text("Mixes", timeout=20_000)
    app.screenshot("markup-table")
    search = panel.get_by_placeholder("Name of a class")
    for label in CLASSES:
        search.fill(label.strip()[:60])
        rows = panel.locator("table").last.locator("tbody tr")
        expect(rows).to_have_count(1, timeout=20_000)
        rows.locator("td").first.click()
        expect(panel.locator("strong").first).to_have_text(_as_text(label), timeout=20_000)
        assert panel.locator("strong img, strong a, h1, ol, .katex").count() == 0
        app.screenshot(f"markup-card-{CLASSES.index(label)}")
    search.fill("")
    panel.get_by_role("tab", name="Chart").click()
    browser.drag_layer(panel).wait_for(timeout=20_000)
    app.page.wait_for_timeout(1000)
    ticks = panel.locator(".js-plotly-plot .yaxislayer-above text, .js-plotly-plot .ytick text")
    texts = {text.replace("\xa0", " ").strip() for text in ticks.all_inner_texts()}
    assert {"a|b", "*star*", "$x$", "名前"} & texts
    assert panel.locator(".js-plotly-plot svg a").count() == 0
    app.screenshot("markup-chart")
    panel.get_by_role("tab", name="Confusion").click()
    app.page.wait_for_timeout(2000)
    assert panel.locator(".js-plotly-plot svg a").count() == 0
    app.screenshot("markup-confusion")
    assert not [url for url in asked if ":9/" in url] and not dialogs


def _as_text(label: str) -> re.Pattern:
    """A class as the page has it: what has no width between its letters, spaces of any kind."""
    letters = (r"[\s\xa0]+" if letter == " " else re.escape(letter) for letter in label)
    return re.compile("^" + "\u200b?".join(letters) + "$")
