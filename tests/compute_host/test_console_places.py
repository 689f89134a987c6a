"""Where a guest's consoles are to be, and where libvirt says that they are."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

pytest.importorskip("libvirt", reason="needs libvirt-python")

from cell_service.consoles.config import ConsoleSettings, SerialConsole, Spice, Vnc
from cell_service.errors import ConsoleTypeUnavailable, DriverError, Invalid
from compute_host.virt.libvirt.console_places import of_guest, place
from compute_host.virt.libvirt.domain import Consoles, Listen

UUID = "6f70656e-0000-4000-8000-000000000001"
PORTS = ConsoleSettings(
    Vnc(server_listen="0.0.0.0", server_proxyclient_address="10.0.0.7"),
    Spice(enabled=True, server_proxyclient_address="10.0.0.8"),
    SerialConsole(enabled=True),
)
RUNNING = """<domain><devices>
  <graphics type="vnc" port="5901" autoport="yes" listen="0.0.0.0"><listen type="address" address="0.0.0.0"/></graphics>
  <graphics type="spice" port="5902" autoport="yes"><listen type="address" address="127.0.0.1"/></graphics>
  <serial type="tcp"><source mode="bind" host="127.0.0.1" service="10003" tls="no"/><target port="0"/></serial>
  <serial type="pty"><source path="/dev/pts/1"/><target port="1"/></serial>
</devices></domain>"""


def test_a_running_guest_is_reached_where_its_xml_says_at_the_hosts_address() -> None:
    found = [place(RUNNING, kind, PORTS) for kind in ("novnc", "spice-html5", "serial")]
    assert [(each.address, each.port) for each in found] == [("10.0.0.7", 5901), ("10.0.0.8", 5902),
                                                             ("127.0.0.1", 10003)]  # fmt: skip


def test_a_client_of_spice_itself_is_given_the_ports_of_the_host() -> None:
    ports = "<domain><devices><graphics type='spice' {}><listen type='{}' socket='/s'/></graphics></devices></domain>"

    def found(attributes: str, kind: str = "spice-direct", listen: str = "address") -> tuple[str, int, int | None]:
        made = place(ports.format(attributes, listen), kind, PORTS)
        return made.address, made.port, made.tls_port

    assert found("port='5902'") == ("10.0.0.8", 5902, None)
    assert found("port='5902' tlsPort='5903'") == ("10.0.0.8", 5902, 5903)
    assert found("port='-1' tlsPort='5903'") == ("10.0.0.8", 0, 5903)
    assert found("port='-1' tlsPort='5903'", "spice-html5") == ("10.0.0.8", 0, 5903)
    assert found("", "spice-html5", "socket") == ("/s", 0, None)
    with pytest.raises(ConsoleTypeUnavailable, match="spice-direct"):
        found("", listen="socket")
    for kind in ("spice-html5", "spice-direct"):
        with pytest.raises(ConsoleTypeUnavailable, match="hard reboot"):
            found("port='-1' tlsPort='-1'", kind)


def test_a_serial_console_has_tls_where_the_host_has_it() -> None:
    by_tls = place(RUNNING.replace('tls="no"', 'tls="yes"'), "serial", PORTS)
    assert (by_tls.port, by_tls.tls_port) == (10003, 10003)
    assert place(RUNNING, "serial", PORTS).tls_port is None


@pytest.mark.parametrize("kind", ["novnc", "spice-html5", "spice-direct", "serial"])
def test_a_guest_of_an_earlier_version_has_none_until_its_hard_reboot(kind: str) -> None:
    earlier = "<domain><devices><serial type='file'><source path='/c' append='on'/></serial></devices></domain>"
    with pytest.raises(ConsoleTypeUnavailable, match=f"console type {kind}.*until its next hard reboot"):
        place(earlier, kind, PORTS)


def test_only_kinds_that_are_enabled_and_known_to_the_host_are_there() -> None:
    assert of_guest(ConsoleSettings(Vnc(enabled=False)), UUID, (), spice=True) == Consoles()
    assert of_guest(ConsoleSettings(), UUID, (), spice=True) == Consoles(vnc=Listen("127.0.0.1"))
    assert of_guest(PORTS, UUID, (), spice=False).spice is None
    assert of_guest(PORTS, UUID, (), spice=True).spice == Listen("127.0.0.1")


def test_sockets_have_short_paths_of_their_own_for_each_guest() -> None:
    shared = ConsoleSettings(Vnc(server_listen="/run/{host}"), PORTS.spice, PORTS.serial).for_host("h1")
    made = of_guest(shared, UUID, (), spice=True).vnc
    assert made is not None
    assert made.socket.startswith("/run/h1/")
    assert len(made.socket) < len("/run/h1/") + 20
    assert of_guest(shared, UUID[:-1] + "2", (), spice=True).vnc != made


def test_a_serial_console_has_the_first_free_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        used = other.getsockname()[1]
        if used > 65533:
            pytest.fail("no ports behind this one")
        serial = SerialConsole(enabled=True, port_range=f"{used}:{used + 1}")
        settings = replace(PORTS, serial=serial)
        with pytest.raises(DriverError, match="is free for a serial console"):
            of_guest(settings, UUID, {used + 1}, spice=False)


@pytest.mark.parametrize("text", ["10000", "a:b", "0:5", "9:8", "1:65536", ":", "-1:5"])
def test_a_range_of_ports_is_checked(text: str) -> None:
    with pytest.raises(Invalid, match="port_range"):
        _ = SerialConsole(port_range=text).ports
