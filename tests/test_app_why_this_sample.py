"""The panel "Why this sample?" in FiftyOne's App: one click per decision, and the data after it."""

import re

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


@pytest.fixture
def doubted(dataset, digit_files):
    """200 digits, the first twelve with a wrong name, evaluated by their pixels."""
    pixels = load_digits().data
    dataset.add_samples(
        [
            fo.Sample(
                path,
                species=fo.Classification(
                    label=f"no. {label if index >= WRONG else (int(label) + 5) % 10}"
                ),
                raw=pixels[index].astype(np.float32),
            )
            for index, (path, label) in enumerate(digit_files)
        ]
    )
    dataset.persistent = True
    _run("find_label_issues", dataset, embeddings="raw", label_field="species")
    return dataset


class Counted:
    """Clicks of the mouse, counted."""

    def __init__(self) -> None:
        self.clicks = 0

    def __call__(self, button: Locator) -> None:
        button.click()
        self.clicks += 1


def _open_modal(app, panel_open: bool = False) -> Locator:
    """Opens the first sample of the grid, with the panel beside it."""
    page = app.page
    page.locator("[data-cy=looker]").first.click()
    modal = page.locator("[data-cy=modal]")
    expect(modal).to_be_visible()
    if not panel_open:
        option = page.locator(f"[data-cy=new-panel-option-{PANEL}]")
        app._until(modal.locator("[data-cy=new-panel-btn]").first.click, option)
        option.click()
    return modal.locator(f"[data-cy=panel-content-{PANEL}]")


def test_a_queue_of_label_issues_one_click_each(app, doubted):
    queue = doubted.load_saved_view("label_issues: flagged")
    ids, labels, suggestions = queue.values(["id", "species.label", "label_issues_suggested.label"])
    assert len(ids) >= 8
    app.open(doubted.name)
    app.open_saved_view("label-issues-flagged")
    panel = _open_modal(app)
    expect(panel.get_by_role("button", name=f"Accept {suggestions[0]}")).to_be_visible()
    app.screenshot("why-first")
    click = Counted()
    click(panel.get_by_role("button", name=f"Accept {suggestions[0]}"))
    expect(panel.get_by_text(f"2 of {len(ids)}")).to_be_visible()
    app.screenshot("why-second")
