"""`volume_attachment`: recorded volumes, and connectors of hosts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cell_service.db import instances
from cell_service.model.block_device import BlockDevice
from cell_service.model.lifecycle import VmState
from tests.manage.conftest import NOW, Site
from tools.manage.main import main

CONNECTION = {
    "driver_volume_type": "iscsi",
    "data": {"target_lun": 1, "auth_password": "chap-secret", "volume_id": "v1"},
}


@pytest.fixture
def server(site: Site) -> str:
    site.add_cell("c1")
    uuid = site.add_instance("c1", host="h1")
    device = BlockDevice(
        "b1", "volume", "volume", device_name="/dev/vdb", volume_id="v1", volume_size=3, attachment_id="a1",
        connection_info=CONNECTION,
    )  # fmt: skip
    with site.database("c1").begin() as tx:
        instances.change(tx, uuid, now=NOW, block_devices=(device,))
    assert site.run("cell_v2", "map_instances", "--cell_uuid", "c1").code == 0
    return uuid


def test_what_is_recorded_of_a_volume_is_shown(site: Site, server: str) -> None:
    ran = site.run("volume_attachment", "show", server, "v1")
    assert ran.code == 0
    assert "device_name: /dev/vdb" in ran.out
    ran = site.run("volume_attachment", "show", server, "v1", "-f", "json")
    shown = json.loads(ran.out)
    assert (shown["host"], shown["attachment_id"], shown["volume_size"], shown["tag"]) == ("h1", "a1", 3, None)
    ran = site.run("volume_attachment", "show", server, "v1", "--connection_info", "-f", "json")
    expected = {**CONNECTION, "data": {**CONNECTION["data"], "auth_password": "***"}}
    assert json.loads(ran.out) == expected


def test_what_is_not_there_is_told_by_the_exit_code(site: Site, server: str) -> None:
    ran = site.run("volume_attachment", "show", server, "v2")
    assert (ran.code, "does not have volume v2" in ran.err) == (3, True)
    assert site.run("volume_attachment", "show", "no-such", "v1").code == 2


@pytest.mark.parametrize(("driver", "code"), [("libvirt.LibvirtDriver", 0), ("simulated.SimulatedDriver", 1)])
def test_a_host_shows_its_connector(tmp_path: Path, capsys: pytest.CaptureFixture[str], driver: str, code: int) -> None:
    """With the files of an agent, which name no global database."""
    files = tmp_path / "compute.conf"
    files.write_text(f"[DEFAULT]\nhost = h7\nmy_ip = 10.0.0.7\nstate_path = {tmp_path}\ncompute_driver = {driver}\n")
    assert main(["volume_attachment", "get_connector", "--config-file", str(files), "-f", "json"]) == code
    if code == 0:
        shown = json.loads(capsys.readouterr().out)
        assert (shown["host"], shown["ip"], shown["multipath"]) == ("h7", "10.0.0.7", False)


def connector(site: Site, host: str = "h1") -> str:
    path = site.directory / "connector.json"
    path.write_text(json.dumps({"host": host, "ip": "10.0.0.1"}))
    return str(path)


def test_what_cannot_be_refreshed_is_reported_by_the_exit_code(site: Site, server: str) -> None:
    def code(*words: str) -> int:
        return site.run("volume_attachment", "refresh", *words).code

    site.configure(cinder__auth_type="none", cinder__endpoint_override="http://127.0.0.1:9/v3")
    broken = site.directory / "broken.json"
    broken.write_text("host: h1")
    assert code(server, "v1", str(site.directory / "none.json")) == 2
    assert code(server, "v1", str(broken)) == 3
    assert code("no-such", "v1", connector(site)) == 4
    assert code(server, "v1", connector(site)) == 5
    stopped(site, server, locked_by="owner")
    assert code(server, "v1", connector(site)) == 5
    stopped(site, server, locked_by=None)
    assert code(server, "v2", connector(site)) == 6
    assert code(server, "v1", connector(site, "h2")) == 3
    with site.database("c1").connect() as tx:
        now = instances.get(tx, server)
    assert (now.locked, now.block_devices[0].attachment_id) == (False, "a1")


def stopped(site: Site, server: str, **columns: str | None) -> None:
    with site.database("c1").begin() as tx:
        instances.change(tx, server, now=NOW, vm_state=VmState.STOPPED, **columns)
