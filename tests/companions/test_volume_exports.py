"""Volumes at sockets: served while hosts are connected, and again after whatever ends their servers."""

from __future__ import annotations

import grp
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api_cell.edge.auth import NoAuth
from tests.suites.volume_service import (
    LIMIT_SECONDS,
    POLL_SECONDS,
    Service,
    io,
    is_served,
    nbd_url,
    opened,
    until_served,
    with_qemu,
)
from tools.companions.volume.qemu_nbd import socket_directory
from tools.companions.volume.service import make_volume
from tools.companions.volume.settings import VolumeSettings

pytestmark = with_qemu

MIB, GIB = 2**20, 2**30


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with opened(tmp_path) as service:
        yield service


def server_of(connection: dict[str, Any]) -> int:
    """The id of the process that serves it."""
    return int(Path(connection["socket"]).with_suffix(".pid").read_text(encoding="ascii"))


def size_of(connection: dict[str, Any]) -> int:
    found = subprocess.check_output(["qemu-img", "info", "--output=json", nbd_url(connection)])
    return int(json.loads(found)["virtual-size"])


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").split()[2] != "Z"


def test_a_connection_says_what_hosts_need(service: Service) -> None:
    volume = service.volume()["id"]
    made = service.attach(volume)
    info = made["connection_info"]
    assert info == {
        "driver_volume_type": "nbd", "export": f"volume-{volume}", "socket": info["socket"], "access_mode": "rw",
        "encrypted": False, "qos_specs": None, "discard": True, "volume_id": volume, "attachment_id": made["id"],
    }  # fmt: skip
    assert Path(info["socket"]).is_absolute()
    assert service.send("GET", f"/attachments/{made['id']}").json()["attachment"]["connection_info"] == info


def test_sockets_are_their_user_s_own(service: Service) -> None:
    path = Path(service.attach(service.volume()["id"])["connection_info"]["socket"])
    assert stat.filemode(path.stat().st_mode) == "srw-------"
    assert stat.filemode(path.parent.stat().st_mode) == "drwx------"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_host_in_namespaces_of_its_own_reaches_it_and_another_user_does_not(service: Service) -> None:
    connection = service.attach(service.volume()["id"])["connection_info"]
    read = ["qemu-io", "-f", "raw", "-c", "read 0 1M", nbd_url(connection)]
    host = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork"]
    stranger = ["setpriv", "--reuid", "65534", "--clear-groups"]
    assert subprocess.run([*host, *read], stdout=subprocess.DEVNULL).returncode == 0
    refused = subprocess.run([*stranger, *read], capture_output=True, text=True)
    assert (refused.returncode, "Permission denied" in refused.stdout + refused.stderr) == (1, True)


def test_a_group_may_open_the_sockets(tmp_path: Path) -> None:
    """Their directory is one that its processes reach, whatever the rights on the state directory are."""
    group = grp.getgrgid(os.getegid())
    settings = VolumeSettings(volume_export="nbd", volume_export_group=group.gr_name)
    companion = make_volume(tmp_path, NoAuth(), None, None, settings, patience=None)
    companion.start()
    try:
        service = Service(companion, None)  # type: ignore[arg-type]
        path = Path(service.attach(service.volume()["id"])["connection_info"]["socket"])
        assert not path.is_relative_to(tmp_path)
        assert (stat.filemode(path.stat().st_mode), path.stat().st_gid) == ("srw-rw----", group.gr_gid)
        assert stat.filemode(path.parent.stat().st_mode) == "drwx--x---"
    finally:
        companion.drain(2)
    assert not path.parent.exists()


def test_paths_that_are_too_long_for_sockets_are_not_used(tmp_path: Path) -> None:
    with opened(tmp_path / ("long" * 20)) as service:
        connection = service.attach(service.volume()["id"])["connection_info"]
        io(connection, "read -P 0 0 1M")
        directory = Path(connection["socket"]).parent
    assert not directory.exists()


def test_an_export_ends_with_the_last_attachment(service: Service) -> None:
    service.send("POST", "/types", {"volume_type": {"name": "many", "extra_specs": {"multiattach": "<is> True"}}},
                 by="admin:p1")  # fmt: skip
    volume = service.volume(volume_type="many")
    assert volume["multiattach"] is True
    first = service.attach(volume["id"], "server1", "h1")
    second = service.attach(volume["id"], "server2", "h2")
    pid = server_of(first["connection_info"])
    assert server_of(second["connection_info"]) == pid
    with subprocess.Popen(["qemu-io", "-f", "raw", nbd_url(first["connection_info"])], stdin=subprocess.PIPE) as other:
        io(second["connection_info"], "write -P 1 0 1M")
        other.communicate(b"read -P 1 0 1M\nquit\n")
    service.detach(first["id"])
    assert is_served(second["connection_info"])
    service.detach(second["id"])
    assert not is_alive(pid)
    assert list(Path(second["connection_info"]["socket"]).parent.iterdir()) == []
    assert service.shown(volume["id"])["status"] == "available"


def test_only_a_connector_begins_an_export(service: Service) -> None:
    volume = service.volume()["id"]
    body = {"attachment": {"volume_uuid": volume, "instance_uuid": "server"}}
    made = service.send("POST", "/attachments", body).json()["attachment"]
    assert made["connection_info"] == {}
    connected = {"attachment": {"connector": {"host": "h1"}}}
    for _ in range(2):
        answer = service.send("PUT", f"/attachments/{made['id']}", connected)
        assert is_served(answer.json()["attachment"]["connection_info"])
    service.detach(made["id"])
    assert service.shown(volume)["status"] == "available"


def test_a_server_that_dies_is_started_again(service: Service) -> None:
    connection = service.attach(service.volume()["id"])["connection_info"]
    io(connection, "write -P 3 0 1M")
    pid = server_of(connection)
    os.kill(pid, signal.SIGKILL)
    until_served(connection)
    assert server_of(connection) != pid
    io(connection, "read -P 3 0 1M")


def test_servers_end_with_the_companion_and_come_back_with_the_next(tmp_path: Path) -> None:
    with opened(tmp_path) as service:
        made = service.attach(service.volume()["id"])
        connection = made["connection_info"]
        io(connection, "write -P 3 0 1M")
        pid = server_of(connection)
    assert not is_alive(pid)
    assert not is_served(connection)
    with opened(tmp_path) as service:
        io(connection, "read -P 3 0 1M")
        service.detach(made["id"])
        assert not is_served(connection)


def test_a_volume_that_cannot_be_served_is_not_attached(service: Service, tmp_path: Path) -> None:
    volume = service.volume()["id"]
    (tmp_path / "volumes" / f"volume-{volume}").unlink()
    body: dict[str, Any] = {"volume_uuid": volume, "instance_uuid": "server"}
    whole = service.send("POST", "/attachments", {"attachment": {**body, "connector": {"host": "h1"}}})
    assert whole.status_code == 500
    assert service.shown(volume)["status"] == "available"
    made = service.send("POST", "/attachments", {"attachment": body}).json()["attachment"]["id"]
    connected = {"attachment": {"connector": {"host": "h1"}}}
    assert service.send("PUT", f"/attachments/{made}", connected).status_code == 500
    assert (service.shown(volume)["status"], service.shown(made, "attachment")["status"]) == ("reserved", "reserved")
    assert list(socket_directory(tmp_path, None).iterdir()) == []


def test_hosts_that_connect_again_see_a_volume_that_has_grown(tmp_path: Path) -> None:
    events: list[tuple[str, str, str]] = []
    with opened(tmp_path, compute=lambda *event: events.append(event)) as service:
        volume = service.volume()["id"]
        connection = service.attach(volume)["connection_info"]
        assert service.act(volume, os_extend={"new_size": 2}).status_code == 202
        assert (size_of(connection), events) == (2 * GIB, [("volume-extended", "server", volume)])
        io(connection, f"write -P 1 {2 * GIB - MIB} 1M")


class Guest:
    """A QEMU without a system in it, with one disk."""

    def __init__(self, connection: dict[str, Any]) -> None:
        ours, its = socket.socketpair()
        disk = {"driver": "nbd", "node-name": "disk", "export": connection["export"], "reconnect-delay": 60,
                "server": {"type": "unix", "path": connection["socket"]}}  # fmt: skip
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "pc,accel=tcg", "-m", "32", "-S",
             "-chardev", f"socket,id=qmp,fd={its.fileno()}", "-mon", "chardev=qmp,mode=control",
             "-blockdev", json.dumps(disk), "-device", "virtio-blk-pci,drive=disk,id=a"],
            pass_fds=[its.fileno()], stdout=subprocess.DEVNULL,
        )  # fmt: skip
        its.close()
        ours.settimeout(LIMIT_SECONDS)
        self._monitor = ours.makefile("rw", encoding="utf-8")
        ours.close()
        self._monitor.readline()
        self.run("qmp_capabilities")

    def run(self, command: str, **arguments: Any) -> dict[str, Any]:
        self._monitor.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._monitor.flush()
        while "event" in (answer := json.loads(self._monitor.readline())):
            continue
        return dict(answer)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._monitor.close()

    def grows_to(self, size: int) -> bool:
        """Whether the disk has that size in the end. QEMU connects again when something is read, if not at once."""
        never = threading.Event()
        for _ in range(int(LIMIT_SECONDS / POLL_SECONDS)):
            if "return" in self.run("block_resize", **{"node-name": "disk", "size": size}):
                return True
            self.run("human-monitor-command", **{"command-line": 'qemu-io disk "read 0 512"'})
            never.wait(POLL_SECONDS)
        return False


@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="needs qemu-system-x86_64")
def test_a_guest_goes_on_and_sees_a_volume_that_has_grown(service: Service) -> None:
    """Once its QEMU has connected again, also after a server that died."""
    volume = service.volume()["id"]
    connection = service.attach(volume)["connection_info"]
    guest = Guest(connection)
    try:
        assert service.act(volume, os_extend={"new_size": 2}).status_code == 202
        assert guest.grows_to(2 * GIB)
        os.kill(server_of(connection), signal.SIGKILL)
        until_served(connection)
        assert service.act(volume, os_extend={"new_size": 3}).status_code == 202
        assert guest.grows_to(3 * GIB)
    finally:
        guest.end()
