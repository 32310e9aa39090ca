"""FiftyOne's server, as the App talks to it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Sequence
from typing import Any

from .base import free_port

# The longest that a call of a small dataset may take, in seconds.
PATIENCE = 120


class Server:
    """FiftyOne's server, as ``make app`` has it.

    Args:
        forked: whether it is a fork of this process, which is ready at once
    """

    def __init__(self, forked: bool = False) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._pid = _fork(port) if forked else _start(port)
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(self.url, timeout=5).close()
                return
            if os.waitpid(self._pid, os.WNOHANG)[0] or time.monotonic() > deadline:
                raise RuntimeError("FiftyOne's server does not answer")
            time.sleep(0.05)

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
        selected: Sequence[str] = (),
    ) -> str:
        """Has an operator run as the App does, and returns what it was told."""
        about = {
            "operator_uri": f"@embedding/quality/{name}",
            "dataset_name": dataset,
            "params": parameters,
            "view": [],
            "selected": list(selected),
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
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _start(port: int) -> int:
    command = [sys.executable, "-m", "fiftyone.server.main", "--port", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([*command, "--address", "127.0.0.1"], **quiet).pid


def _fork(port: int) -> int:
    """A process that has imported and compiled what this one has."""
    import fiftyone.server.app  # noqa: F401

    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about threads, of which none is needed
        child = os.fork()
    if child == 0:
        try:
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
            from fiftyone.server.main import start_server

            start_server(port, "127.0.0.1")
        finally:
            os._exit(1)
    return child
