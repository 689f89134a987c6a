"""A block storage companion of its own, with an image service in memory, and what a user of the project p1 does."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from api_cell.edge.auth import NoAuth
from cell_service.peers.keys import Keys
from tests.suites.peers import MemoryImages
from tools.companions.app import Companion
from tools.companions.volume import qemu_nbd
from tools.companions.volume.service import make_volume
from tools.companions.volume.settings import NBD, VolumeSettings

with_qemu = pytest.mark.skipif(
    any(shutil.which(name) is None for name in (*qemu_nbd.PROGRAMS, "qemu-io")),
    reason="needs qemu-nbd, qemu-img, qemu-io",
)
POLL_SECONDS = 0.02
LIMIT_SECONDS = 60.0
"""After so long a test gives up: no test depends on how long anything takes."""


class Service:
    def __init__(self, companion: Companion, images: MemoryImages) -> None:
        self.companion, self.images, self._url = companion, images, companion.url

    def send(self, method: str, path: str, body: Any = None, *, by: str = "user:p1", **headers: str) -> Any:
        known = {"X-Auth-Token": by, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return requests.request(method, f"{self._url}/v3{path}", json=body, headers=known, timeout=LIMIT_SECONDS)

    def kind(self, name: str, **encryption: Any) -> str:
        """A type, encrypted if that says how."""
        admin = {"by": "admin:p1"}
        made = str(self.send("POST", "/types", {"volume_type": {"name": name}}, **admin).json()["volume_type"]["id"])
        if encryption:
            answer = self.send("POST", f"/types/{made}/encryption", {"encryption": encryption}, **admin)
            assert answer.status_code == 200, answer.text
        return made

    def volume(self, **fields: Any) -> dict[str, Any]:
        version = {"OpenStack_API_Version": "volume 3.46"}
        answer = self.send("POST", "/volumes", {"volume": {"size": 1, **fields}}, **version)
        assert answer.status_code == 202, answer.text
        return dict(answer.json()["volume"])

    def snapshot(self, volume: str, **fields: Any) -> dict[str, Any]:
        answer = self.send("POST", "/snapshots", {"snapshot": {"volume_id": volume, **fields}})
        assert answer.status_code == 202, answer.text
        return dict(answer.json()["snapshot"])

    def act(self, volume: str, **action: Any) -> Any:
        body = {f"os-{name.removeprefix('os_')}": content for name, content in action.items()}
        return self.send("POST", f"/volumes/{volume}/action", body)

    def shown(self, record_id: str, noun: str = "volume") -> dict[str, Any]:
        return dict(self.send("GET", f"/{noun}s/{record_id}").json()[noun])

    def settled(self, record_id: str, noun: str = "volume") -> dict[str, Any]:
        """The volume or snapshot when no work on it goes on any more."""
        never = threading.Event()
        for _ in range(int(LIMIT_SECONDS / POLL_SECONDS)):
            shown = self.shown(record_id, noun)
            if shown["status"] not in ("creating", "downloading", "uploading"):
                return shown
            never.wait(POLL_SECONDS)
        raise AssertionError(f"{noun} {record_id} is still {shown['status']}")

    def attach(self, volume: str, server: str = "server", host: str = "h1") -> dict[str, Any]:
        """An attachment with a connector."""
        wanted = {"volume_uuid": volume, "instance_uuid": server, "connector": {"host": host}}
        answer = self.send("POST", "/attachments", {"attachment": wanted})
        assert answer.status_code == 200, answer.text
        made = dict(answer.json()["attachment"])
        assert self.send("POST", f"/attachments/{made['id']}/action", {"os-complete": None}).status_code == 204
        return made

    def detach(self, attachment: str) -> None:
        answer = self.send("DELETE", f"/attachments/{attachment}", X_Service_Token="nova:service")
        assert answer.status_code == 200, answer.text

    def messages(self, record_id: str) -> list[str]:
        """What users are shown of what went wrong with it."""
        found = self.send("GET", f"/messages?resource_uuid={record_id}").json()["messages"]
        return [one["user_message"] for one in found]


@contextlib.contextmanager
def opened(
    directory: Path, export: str = NBD, images: MemoryImages | None = None, *, capacity: int = 0,
    patience: float | None = None, step: Callable[[str], None] = lambda name: None,
    compute: Callable[[str, str, str], None] | None = None, keys: Keys | None = None,
) -> Iterator[Service]:  # fmt: skip
    """The service on that directory, until the block ends."""
    images = images or MemoryImages()
    settings = VolumeSettings(volume_export=export, volume_capacity_gb=capacity)
    companion = make_volume(directory, NoAuth(), images, compute, settings, patience=patience, step=step, keys=keys)
    companion.start()
    try:
        yield Service(companion, images)
    finally:
        companion.drain(2)


def io(connection: dict[str, Any], *commands: str) -> None:
    """What qemu-io does on a host that has this connection. An error of one command fails the test."""
    words = [word for command in commands for word in ("-c", command)]
    done = subprocess.run(["qemu-io", "-f", "raw", *words, nbd_url(connection)], capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert (done.returncode, "failed" in said, "rror" in said) == (0, False, False), said


def nbd_url(connection: dict[str, Any]) -> str:
    return f"nbd+unix:///{connection['export']}?socket={connection['socket']}"


def is_served(connection: dict[str, Any]) -> bool:
    words = ["qemu-img", "info", nbd_url(connection)]
    return subprocess.run(words, capture_output=True).returncode == 0


def until_served(connection: dict[str, Any]) -> None:
    never = threading.Event()
    for _ in range(int(LIMIT_SECONDS / POLL_SECONDS)):
        if is_served(connection):
            return
        never.wait(POLL_SECONDS)
    raise AssertionError("it is not served")
