"""Consoles of guests of a real libvirt: through the proxy at sockets, and at ports of the host's own network."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

pytest.importorskip("libvirt", reason="needs libvirt-python")

import libvirt
from tornado.websocket import websocket_connect

from cell_service.consoles.config import ConsoleSettings, SerialConsole, Spice, Vnc
from cell_service.consoles.proxy import ConsoleProxy
from cell_service.errors import ConsoleTypeUnavailable
from cell_service.model.console import ConsolePlace, ConsoleToken
from compute_host.virt.driver import GIB, Disk, GuestSpec
from compute_host.virt.libvirt import console
from compute_host.virt.libvirt.driver import LibvirtDriver
from tests.real.databases import free_ports, wait_until
from tests.real.libvirt_driver import HELLO, Bench, printed
from tests.real.libvirtd import PrivateLibvirtd
from tests.suites.driver import spec_of

pytestmark = pytest.mark.real

ECHO = bytes.fromhex("fb f4 ba fd 03 ec a8 01 74 f7 ba f8 03 ec ee eb f0")
"""sti; again: hlt; mov dx, 3fd; in al, dx; test al, 1; jz again; mov dx, 3f8; in al, dx; out dx, al; jmp again."""


@pytest.fixture
def spec(tmp_path: Path) -> GuestSpec:
    """A guest that says HELLO on its serial port, and then repeats what it hears there."""
    code = b"".join(bytes((0xBA, 0xF8, 0x03, 0xB0, letter, 0xEE)) for letter in HELLO) + ECHO
    path = tmp_path / "image"
    path.write_bytes(code.ljust(510, b"\0") + b"\x55\xaa")
    return spec_of(path, "raw")


def at_sockets(libvirtd: PrivateLibvirtd) -> ConsoleSettings:
    where = str(libvirtd.host.run)
    return ConsoleSettings(
        Vnc(server_listen=where),
        Spice(enabled=True, server_listen=where),
        SerialConsole(enabled=True, proxyclient_address=where),
    )


def at_ports() -> ConsoleSettings:
    first = free_ports(20)
    return ConsoleSettings(Vnc(), Spice(enabled=True), SerialConsole(enabled=True, port_range=f"{first}:{first + 19}"))


@pytest.fixture
def driver(bench: Bench, libvirtd: PrivateLibvirtd) -> LibvirtDriver:
    return bench.driver(replace(bench.settings, consoles=at_sockets(libvirtd)))


@contextmanager
def proxied(place: ConsolePlace, kind: str) -> Iterator[str]:
    """The address at which a proxy opens the console."""
    token = ConsoleToken("i1", kind, "h1", place, datetime(2100, 1, 1, tzinfo=UTC))
    proxy = ConsoleProxy(lambda _secret: token)
    proxy.start()
    try:
        yield f"ws://127.0.0.1:{proxy.port}/?token=any"
    finally:
        proxy.drain(0)


async def heard(url: str, said: bytes, awaited: bytes) -> bytes:
    """All that the console said until it had said what is awaited."""
    connection = await websocket_connect(url, subprotocols=["binary"])
    if said:
        await connection.write_message(said, binary=True)
    found = b""
    while awaited not in found:
        message = await connection.read_message()
        assert isinstance(message, bytes), found
        found += message
    connection.close()
    return found


def test_a_guest_is_seen_and_heard_through_the_proxy(driver: LibvirtDriver, spec: GuestSpec) -> None:
    uuid = spec.instance.uuid
    driver.spawn(spec)
    printed(driver, uuid)
    with proxied(driver.remote_console(uuid, "novnc"), "novnc") as url:
        assert asyncio.run(heard(url, b"", b"\n")) == b"RFB 003.008\n"
    for _ in range(2):  # again after the first has gone
        with proxied(driver.remote_console(uuid, "serial"), "serial") as url:
            assert asyncio.run(heard(url, b"Marco", b"Marco")).endswith(b"Marco")
    printed(driver, uuid, "MarcoMarco")
    with proxied(driver.remote_console(uuid, "spice-html5"), "spice-html5") as url:
        assert asyncio.run(heard(url, b"", b"")) == b""


def test_sockets_are_gone_with_their_guest(driver: LibvirtDriver, spec: GuestSpec, libvirtd: PrivateLibvirtd) -> None:
    driver.spawn(spec)
    found = [Path(driver.remote_console(spec.instance.uuid, kind).address) for kind in ("novnc", "serial")]
    assert [each.parent for each in found] == [libvirtd.host.run] * 2
    assert all(each.is_socket() for each in found)
    driver.destroy(spec.instance.uuid)
    assert not any(each.exists() for each in found)


def test_the_log_of_a_serial_console_is_bounded_and_goes_on(
    driver: LibvirtDriver, spec: GuestSpec, bench: Bench
) -> None:
    uuid = spec.instance.uuid
    driver.spawn(spec)
    printed(driver, uuid)
    log = bench.settings.state / uuid / "console.log"
    with log.open("ab") as file:
        file.write(b"x" * (console.MOST_BYTES + 4096))
    console.bound(log)
    assert log.stat().st_blocks * console.BLOCK_BYTES <= console.MOST_BYTES
    driver.reboot(replace(spec, disks=(Disk("root", GIB),)), hard=True)
    wait_until(lambda: driver.console_output(uuid).endswith(HELLO.decode()), "the log does not go on")


def test_a_guest_of_an_earlier_version_has_consoles_after_its_hard_reboot(
    bench: Bench, driver: LibvirtDriver, spec: GuestSpec
) -> None:
    uuid, nothing = spec.instance.uuid, ConsoleSettings(Vnc(enabled=False))
    bench.driver(replace(bench.settings, consoles=nothing)).spawn(spec)
    for kind in ("novnc", "serial", "spice-html5"):
        with pytest.raises(ConsoleTypeUnavailable, match="hard reboot"):
            driver.remote_console(uuid, kind)
    driver.reboot(replace(spec, disks=(Disk("root", GIB),)), hard=True)
    with proxied(driver.remote_console(uuid, "novnc"), "novnc") as url:
        assert asyncio.run(heard(url, b"", b"\n")) == b"RFB 003.008\n"


def test_consoles_at_ports_are_told_apart(bench: Bench, libvirtd: PrivateLibvirtd, spec: GuestSpec) -> None:
    """Of two guests, in the network that libvirt is in."""
    settings = at_ports()
    driver = bench.driver(replace(bench.settings, consoles=settings))
    image = spec.disks[0].image
    assert image is not None
    second = spec_of(image, "raw")
    for each in (spec, second):
        driver.spawn(each)
        printed(driver, each.instance.uuid)
    uuids = [each.instance.uuid for each in (spec, second)]
    serial = [driver.remote_console(uuid, "serial").port for uuid in uuids]
    assert len(set(serial)) == 2
    assert set(serial) < set(settings.serial.ports)
    places = [driver.remote_console(uuid, "novnc") for uuid in uuids]
    assert len({place.port for place in places}) == 2
    for place in places:
        assert said_at(libvirtd, place.port, b"", 12) == b"RFB 003.008\n"
    assert said_at(libvirtd, serial[1], b"Marco", 5) == b"Marco"
    printed(driver, uuids[1], "Marco")
    assert "Marco" not in driver.console_output(uuids[0])
    connection = libvirt.open(libvirtd.uri)
    try:
        assert "type='spice'" in connection.lookupByUUIDString(uuids[0]).XMLDesc(0)
    finally:
        connection.close()


TALK = """
import socket, sys
port, said, length = int(sys.argv[1]), sys.argv[2].encode(), int(sys.argv[3])
with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
    connection.sendall(said)
    found = b""
    while len(found) < length and (part := connection.recv(length - len(found))):
        found += part
sys.stdout.buffer.write(found)
"""


def said_at(libvirtd: PrivateLibvirtd, port: int, said: bytes, length: int) -> bytes:
    """What a port of the host's loopback answers."""
    inside = ["nsenter", f"--net=/proc/{libvirtd.host.pid()}/ns/net", sys.executable, "-c", TALK]
    words = [*inside, str(port), said.decode(), str(length)]
    return subprocess.run(words, capture_output=True, check=True, timeout=100).stdout
