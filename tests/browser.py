"""FiftyOne's App in a real browser: a server of the tests' own and a page to act on."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import (
    FloatRect,
    Locator,
    Page,
    Request,
    TimeoutError,
    expect,
    sync_playwright,
)

# Where to leave an image of each step; without it none are taken, which saves a minute.
SCREENSHOTS = os.environ.get("SCREENSHOTS")

# What is there is not waited for, so waiting long costs time only where something is wrong; a busy
# machine may take this long. Milliseconds.
PATIENCE = int(os.environ.get("PATIENCE", 180_000))

# Seconds until an image of something that moves is taken all the same, a spinner say.
MOVING = 20
expect.set_options(timeout=PATIENCE)

# The App asks for fonts from the net; --disable-gpu draws WebGL in software.
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]  # fmt: skip

# Drawn in software, a turning spinner costs more than all the rest of the page.
STILL = """addEventListener("DOMContentLoaded", () => {
  const style = document.createElement("style");
  style.textContent =
    "*, *::before, *::after { animation: none !important; transition: none !important; }";
  document.head.append(style);
})"""


def find_browser() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


class Server:
    """FiftyOne's server on a free port, on the tests' database and plugins."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "fiftyone.server.main", "--port", str(port)]
        self._process = subprocess.Popen([*command, "--address", "127.0.0.1"])
        deadline = time.monotonic() + PATIENCE / 1000
        while True:
            try:
                urllib.request.urlopen(self.url, timeout=5).close()
                return
            except OSError:
                assert self._process.poll() is None, "FiftyOne's server ended"
                assert time.monotonic() < deadline, "FiftyOne's server does not answer"
                time.sleep(0.3)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


class App:
    """What a user does in the App."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self._url = url
        self._events = 0  # events of panels and operators that the server has not answered
        self._last_event = 0.0
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: self._count(request, 1))
        page.on("requestfinished", lambda request: self._count(request, -1))
        page.on("requestfailed", lambda request: self._count(request, -1))
        advert = page.get_by_text("Accelerate your workflow")
        page.add_locator_handler(advert, lambda found: found.press("Escape"))

    def _count(self, request: Request, step: int) -> None:
        if "/operators/" in request.url:
            self._events += step
            self._last_event = time.monotonic()

    def settle(self) -> None:
        """Waits until the server has answered all events, and half a second brought no others."""
        started = self._last_event = time.monotonic()
        while self._events or time.monotonic() - self._last_event < 0.5:
            assert time.monotonic() - started < PATIENCE / 1000, (
                "events follow one another endlessly"
            )
            self.page.wait_for_timeout(50)

    def open(self, dataset: str) -> None:
        for patience in (30_000, 90_000, PATIENCE):
            self.page.goto(f"{self._url}/datasets/{dataset}")
            try:
                self.page.locator("[data-cy=looker]").first.wait_for(timeout=patience)
                return
            except TimeoutError:  # the first page after a start often hangs
                continue
        raise AssertionError("the App does not show the dataset")

    def _until(self, act: Callable[[], None], sign: Locator) -> None:
        """Does it again until its sign is seen: an App that has just loaded may not listen yet."""
        for _ in range(PATIENCE // 10_000):
            act()
            try:
                return sign.wait_for(timeout=10_000)
            except TimeoutError:
                continue
        raise AssertionError(f"{sign} does not appear")

    def open_saved_view(self, slug: str) -> None:
        """Chooses a saved view, such as ``outliers-flagged``, from the App's list.

        The server's answer to an address with ``?view=`` comes from the dataset as it was loaded
        first, without the views that were saved since.
        """
        self.page.locator("[data-cy=saved-views-selection]").click()
        self.page.locator(f"[data-cy=saved-views-{slug}-selection-option]").click()
        self.page.wait_for_url(f"**view={slug}*")

    def open_operator(self, label: str) -> Locator:
        """Opens an operator's form from the operator browser and returns it."""
        self.page.keyboard.press("Escape")
        search = self.page.locator("[data-cy=operators-browser-search]")
        self._until(lambda: self.page.keyboard.press("`"), search)
        search.fill(label)
        self.page.get_by_text(label, exact=True).first.click()
        dialog = self.page.locator("[role=dialog]").last
        expect(dialog.get_by_role("button", name="Execute")).to_be_visible()
        return dialog

    def choose(self, form: Locator, value: str) -> None:
        """Chooses a value in the form's field with suggestions."""
        field = form.get_by_placeholder("Type or select a value")
        field.fill(value)
        self.page.get_by_role("option", name=value).first.click()
        expect(field).to_have_value(value)

    def select_first(self, number: int) -> None:
        """Selects the first samples of the grid."""
        for place in range(number):
            looker = self.page.locator("[data-cy=looker]").nth(place)
            looker.hover()
            looker.locator("input[type=checkbox]").dispatch_event("click")
        expect(self.page.locator("[data-cy=action-manage-selected]")).to_contain_text(str(number))

    @property
    def dialog(self) -> Locator:
        return self.page.locator("[role=dialog]").last

    def screenshot(self, name: str) -> None:
        if SCREENSHOTS:
            Path(SCREENSHOTS).mkdir(exist_ok=True)
            drawn(self.page)
            self.page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")

    # FiftyOne's Embeddings panel

    @property
    def embeddings(self) -> Locator:
        return self.page.locator("[data-cy=panel-content-Embeddings]")

    def open_embeddings(self, brain_key: str) -> None:
        """Opens the Embeddings panel beside the samples and a map in it."""
        self.open_panel("Embeddings")
        self.embeddings.get_by_text(brain_key, exact=True).first.click()
        drawn(self.embeddings.locator("canvas").last)

    def color_by(self, field: str) -> None:
        self.embeddings.get_by_role("button", name="Color by").click()
        self.page.get_by_text(field, exact=True).last.click()
        expect(self.embeddings.get_by_role("button", name="Color by")).to_contain_text(field)
        drawn(self.embeddings.locator("canvas").last)

    def lasso_left_half(self) -> None:
        """Lassoes what lies in the left half of the map; waits for the server's answer."""
        self.embeddings.get_by_role("button", name="Select", exact=True).click()
        box = box_of(self.embeddings.locator("canvas").last)
        left, right = box["x"] + 3, box["x"] + box["width"] / 2
        top, bottom = box["y"] + 3, box["y"] + box["height"] - 3
        mouse = self.page.mouse
        with self.page.expect_response("**/embeddings/v2/lasso-stage"):
            mouse.move(left, top)
            mouse.down()
            for x, y in ((right, top), (right, bottom), (left, bottom), (left, top)):
                mouse.move(x, y, steps=8)
            mouse.up()

    # Python panels

    def open_panel(self, name: str) -> Locator:
        """Opens a panel beside the samples and returns it."""
        option = self.page.locator(f"[data-cy=new-panel-option-{name}]")
        self._until(self.page.locator("[data-cy=new-panel-btn]").first.click, option)
        option.click()
        return self.page.locator(f"[data-cy=panel-content-{name}]")

    def expect_count(self, text: str) -> None:
        """Waits until the grid shows so many, for example ``"12 samples"``."""
        shown = self.page.locator("[data-cy=entry-counts]").first
        expect(shown).to_have_text(text)

    def view_after(self, click: Callable[[], None]) -> list[dict]:
        """The stages of the view that the grid shows after a click."""
        with self.page.expect_request(
            lambda request: "paginateSamplesQuery" in (request.post_data or "")
        ) as asked:
            click()
        return asked.value.post_data_json["variables"]["view"]


@contextmanager
def opened_app() -> Iterator[App]:
    """The App with a server and a browser of its own, for scripts beside the tests."""
    server = Server()
    try:
        with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
            context = playwright.chromium.launch_persistent_context(
                profile,
                executable_path=find_browser(),
                args=ARGUMENTS,
                viewport={"width": 1440, "height": 900},
            )
            context.add_init_script(STILL)
            yield App(context.pages[0], server.url)
            context.close()
    finally:
        server.stop()


def drawn(part: Page | Locator) -> None:
    """Waits until two images of it in a row are the same, or something in it moves on and on."""
    page = part if isinstance(part, Page) else part.page
    before, now = None, part.screenshot()
    deadline = time.monotonic() + MOVING
    while now != before and time.monotonic() < deadline:
        page.wait_for_timeout(200)
        before, now = now, part.screenshot()


def box_of(part: Locator) -> FloatRect:
    """Where it stands: for a moment nowhere, if its panel is just drawn anew."""
    while True:
        expect(part).to_be_visible()
        if box := part.bounding_box():
            return box


def drag_layer(panel: Locator) -> Locator:
    """What takes the mouse in a panel's plot."""
    return panel.locator(".js-plotly-plot .nsewdrag").first


def click_plot(panel: Locator, across: float, down: float) -> None:
    """Clicks at a share of the width and height of a panel's plot."""
    layer = drag_layer(panel)
    layer.scroll_into_view_if_needed()
    drawn(layer)
    box = box_of(layer)
    place = {"x": across * box["width"], "y": down * box["height"]}
    layer.hover(position=place)
    # The plot takes a click for that over which it says what it is.
    expect(panel.locator(".hoverlayer .hovertext").first).to_be_visible()
    layer.click(position=place)
