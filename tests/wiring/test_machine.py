"""The way out through the machine, and what is left of it after a stop and after a kill."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.databases import wait_until
from tests.wiring.conftest import requires
from tools.companions.network.wiring.namespaces import ProcessNamespace

pytestmark = pytest.mark.faults


@pytest.fixture
def machine() -> Iterator[ProcessNamespace]:
    if lacking := requires():
        pytest.skip(lacking)
    own_namespace = ProcessNamespace()
    yield own_namespace
    own_namespace.close()


def lived(machine: ProcessNamespace, directory: Path, ending: str) -> dict[str, Any]:
    with machine.namespace.opened() as fd:
        done = subprocess.run(
            ["nsenter", f"--net=/proc/self/fd/{fd}", sys.executable, "-m", "tests.wiring.machine", str(directory),
             ending],
            pass_fds=(fd,), text=True, capture_output=True, timeout=90, check=False,
        )  # fmt: skip
    assert done.stdout, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def test_a_guest_reaches_the_world_and_a_stop_leaves_nothing(machine: ProcessNamespace, tmp_path: Path) -> None:
    said = lived(machine, tmp_path, "stop")
    assert said["world"]
    assert len(said["during"]["links"]) == len(said["during"]["routes"]) == len(said["during"]["tables"]) == 1
    assert said["after"] == {"links": [], "tables": [], "routes": [], "forwarding": "0"}


def test_a_kill_leaves_nothing_but_the_forwarding_switch(machine: ProcessNamespace, tmp_path: Path) -> None:
    assert lived(machine, tmp_path, "kill")["world"]
    here = machine.namespace
    wait_until(lambda: not any(name.startswith("pu") for name in here.links()), "a link is left")
    wait_until(lambda: "polycell" not in here.run(("nft", "list", "tables")), "a table is left")
    mine = f"--pid-file={tmp_path}".encode()
    wait_until(lambda: not any(mine in _said(path) for path in Path("/proc").glob("[0-9]*/cmdline")), "dnsmasq is left")
    assert not here.run(("ip", "route", "show", "10.9.0.0/24"))


def _said(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
