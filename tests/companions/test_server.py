"""What all companions do alike: tokens before bodies, starting, stopping, and `noauth2`."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from api_cell.edge.auth import NoAuth
from cell_service.errors import Invalid, Unavailable
from tests.suites.companions import Companions
from tools.companions.identity.service import make_identity
from tools.companions.network.service import NetworkSettings, make_network

_PROGRAM = """
import sys
from pathlib import Path
from tools.companions.identity.service import make_identity
companion = make_identity(Path(sys.argv[1]))
companion.bind()
print(companion.url, flush=True)
companion.serve()
"""


def test_a_process_serves_until_sigterm(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PROGRAM, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert requests.get(url, timeout=10).status_code == 300
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_port_that_is_taken_is_said_to_be(cloud: Companions, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="Cannot listen"):
        make_identity(tmp_path).start(cloud.identity.port)


def test_without_a_token_nothing_is_taken_in(cloud: Companions) -> None:
    for headers in ({}, {"X-Auth-Token": "nonsense"}):
        url = f"{cloud.image.url}/v2/images/x/file"
        assert requests.put(url, data=bytes(3_000_000), headers=headers, timeout=10).status_code == 401
    assert not list((cloud.state / "images").glob("upload-*"))
    assert requests.get(f"{cloud.network.url}/v2.0/ports", timeout=10).status_code == 401


def test_bodies_have_a_limit(cloud: Companions) -> None:
    headers = {"X-Auth-Token": cloud.token(), "Content-Type": "application/json"}
    reply = requests.post(f"{cloud.network.url}/v2.0/ports", data=b" " * 5_000_000, headers=headers, timeout=10)
    assert reply.status_code == 413
    assert "NeutronError" in reply.json()


def test_noauth_takes_names_for_tokens_and_data_outlives_the_service(tmp_path: Path) -> None:
    made = ""
    for turn in range(2):
        network = make_network(tmp_path, NoAuth(), NetworkSettings(vif_type="bridge"))
        network.start()
        try:
            headers = {"X-Auth-Token": "ann:p1"}
            if not turn:
                reply = requests.post(
                    f"{network.url}/v2.0/networks", json={"network": {"name": "kept"}}, headers=headers, timeout=10
                )
                made = reply.json()["network"]["id"]
            found = requests.get(f"{network.url}/v2.0/networks?name=kept", headers=headers, timeout=10).json()
            assert [net["id"] for net in found["networks"]] == [made]
        finally:
            network.drain(2)


def test_a_vif_type_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        make_network(tmp_path, NoAuth(), NetworkSettings(vif_type="pigeon"))
