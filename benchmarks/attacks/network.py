"""The network: no operator asks for anything beyond this machine, and the App listens to it alone.

Whatever Python connects to or looks up is seen by an audit hook, also what fails. Without a route,
which is a proof of its own, it is run by

    unshare -n sh -c "ip link set lo up; exec python benchmarks/campaign.py network"
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from .base import ROOT, Tally, ask

LOCAL_NAMES = ("localhost", "", None)

# What FiftyOne itself asks for is not the plugin's.
FIFTYONE = "/site-packages/fiftyone/"


class Watch:
    """Notes every address beyond this machine that is connected to or looked up, and by whom."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        sys.addaudithook(self._saw)

    def _saw(self, event: str, args: tuple) -> None:
        if event == "socket.connect" and isinstance(args[1], tuple):
            host = args[1][0]
        elif event == "socket.getaddrinfo":
            host = args[0]
        else:
            return
        if not _is_local(host):
            by = [frame.filename for frame in traceback.extract_stack()]
            ours = any(str(ROOT) in one or "/@embedding/" in one for one in by)
            who = "FiftyOne" if not ours and any(FIFTYONE in one for one in by) else "the plugin"
            self.asked.append(f"{who} asks {host}")


def _is_local(host: str | bytes | None) -> bool:
    host = host.decode() if isinstance(host, bytes) else host
    if host in LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def attack(home: Path) -> Iterator[Tally]:
    """Calls every operator once, and opens the App."""
    from battery import called, parameters_of, prepare
    from killing_cases import of_samples

    print("There is a route to other machines" if _has_route() else "No route leaves this machine")
    watch, base = Watch(), of_samples()
    tally = Tally("every operator once, and what it asks for")
    calls = [(name, {}) for name in called()]
    calls.append(("compute_embeddings", {"model": "cnn", "weights": None, "embeddings": "ours"}))
    for name, more in calls:
        dataset = base.clone()
        prepare(name, dataset)
        ask(tally, name, dataset, **{**parameters_of(name, dataset), **more})
        dataset.delete()
        for asked in watch.asked:
            if asked.startswith("FiftyOne"):
                print(f"{name}: {asked}")
            else:
                tally.fault("lost", f"{name}: {asked}")
        watch.asked.clear()
    yield tally
    tally = Tally("weights by their name: it does ask")
    ask(tally, "compute_embeddings", base, model="timm:resnet10t.c3_in1k", embeddings="ours")
    if not any("huggingface" in asked for asked in watch.asked):
        tally.fault("lost", f"only {watch.asked} was seen: the watch sees nothing")
    base.delete()
    yield tally
    yield _app(home)


def _has_route() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return False
    return True


def _app(home: Path) -> Tally:
    """Opens the App as ``make app`` does, on a folder of images, and sees where it listens."""
    from killing_cases import files

    tally = Tally("places at which make app listens")
    folder = home / "images" / "cat"
    folder.mkdir(parents=True)
    for path in files()[:4]:
        (folder / Path(path).name).write_bytes(Path(path).read_bytes())
    process = subprocess.Popen(
        [sys.executable, "-m", "fiftyone_embedding_quality.demo", "--app"],
        env={**os.environ, "IMAGES": str(folder.parent)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not (found := _listening(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.5)
        time.sleep(2)
        found = _listening(process.pid)
    finally:
        for one in _of_session(process.pid):
            os.kill(int(one.name), signal.SIGKILL)
        process.wait()
    tally.tries = len(found)
    tally.results = sum(map(_is_local, found))
    for address in found:
        if not _is_local(address):
            tally.fault("lost", f"it listens on {address}")
    if not found:
        tally.fault("hung", "the App did not start")
    return tally


def _of_session(session: int) -> list[Path]:
    """The folders in which the system tells of the processes of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(folder.name)) == session:
                found.append(folder)
    return found


def _listening(session: int) -> list[str]:
    """The addresses at which the processes of a session listen."""
    inodes = set()
    for folder in _of_session(session):
        with contextlib.suppress(OSError):
            links = [os.readlink(one) for one in (folder / "fd").iterdir()]
            inodes |= {one[8:-1] for one in links if one.startswith("socket:[")}
    found = []
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            parts = line.split()
            if parts[3] == "0A" and parts[9] in inodes:
                words = bytes.fromhex(parts[1].partition(":")[0])
                turned = b"".join(words[n : n + 4][::-1] for n in range(0, len(words), 4))
                found.append(socket.inet_ntop(family, turned))
    return found
