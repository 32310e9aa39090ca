"""FiftyOne's App in a real browser: a server of the tests' own and a page to act on."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from conftest import ROOT
from playwright.sync_api import Locator, Page, expect

SCREENSHOTS = Path(os.environ.get("SCREENSHOTS") or ROOT / "screenshots")

# The App asks for fonts from the net; --disable-gpu draws WebGL in software.
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]  # fmt: skip


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
        deadline = time.monotonic() + 60
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

    def open(self, dataset: str) -> None:
        for _ in range(4):
            self.page.goto(f"{self._url}/datasets/{dataset}")
            try:
                self.page.locator("[data-cy=looker]").first.wait_for(timeout=20_000)
                break
            except Exception:  # the first page after a start often hangs
                continue
        else:
            raise AssertionError("the App does not show the dataset")
        if (close := self.page.get_by_text("Accelerate your workflow")).count():
            close.press("Escape")
        self.page.wait_for_timeout(500)

    def open_operator(self, label: str) -> Locator:
        """Opens an operator's form from the operator browser and returns it."""
        self.page.keyboard.press("Escape")
        self.page.keyboard.press("`")
        self.page.locator("[data-cy=operators-browser-search]").fill(label)
        self.page.get_by_text(label, exact=True).first.click()
        dialog = self.page.locator("[role=dialog]").last
        expect(dialog.get_by_role("button", name="Execute")).to_be_visible(timeout=20_000)
        return dialog

    def choose(self, form: Locator, value: str) -> None:
        """Chooses a value in the form's field with suggestions."""
        field = form.get_by_placeholder("Type or select a value")
        field.fill(value)
        self.page.get_by_role("option", name=value).first.click()
        expect(field).to_have_value(value)

    @property
    def dialog(self) -> Locator:
        return self.page.locator("[role=dialog]").last

    def screenshot(self, name: str) -> None:
        SCREENSHOTS.mkdir(exist_ok=True)
        self.page.wait_for_timeout(300)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")
