"""FiftyOne's server, as the App talks to it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from typing import Any

from .base import free_port

# The longest that a call of a small dataset may take, in seconds.
PATIENCE = 120


class Server:
    """FiftyOne's server, as ``make app`` has it."""

    def __init__(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "fiftyone.server.main", "--port", str(port)]
        self.process = subprocess.Popen(
            [*command, "--address", "127.0.0.1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(self.url, timeout=5).close()
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("FiftyOne's server does not answer")
            time.sleep(0.2)

    def panel(self, name: str, dataset: str) -> str:
        """Opens a panel, as the App does, and returns what the server answers."""
        state = {"panel_id": "one", "__method__": "on_load", "panel_state": {}}
        return self.execute(name, dataset, state, way="execute")

    def execute(
        self,
        name: str,
        dataset: str,
        parameters: dict[str, Any],
        quiet: bool = False,
        way: str = "execute/generator",
    ) -> str:
        """Has an operator run as the App does, and returns what it was told."""
        about = {
            "operator_uri": f"@embedding/quality/{name}",
            "dataset_name": dataset,
            "params": parameters,
            "view": [],
        }
        request = urllib.request.Request(
            f"{self.url}/operators/{way}",
            json.dumps(about).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.read().decode()
        except Exception as error:
            if not quiet:
                raise
            return str(error)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
