"""Consoles of guests that a proxy reaches: VNC, SPICE and the first serial port.

Each listens on a port of the host, or at a socket in a directory: so they are reached also where the host has a network
of its own, and only by users who may enter that directory.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import socket
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import libvirt

from cell_service.consoles.config import ConsoleSettings
from cell_service.errors import ConsoleTypeUnavailable, ConsoleTypeUnknownToGuest, DriverError
from cell_service.model.console import DIRECT, ConsolePlace
from compute_host.virt.libvirt.domain import Consoles, Listen

_SPICE = "graphics[@type='spice']"
DEVICES = {"novnc": "graphics[@type='vnc']", "spice-html5": _SPICE, DIRECT: _SPICE, "serial": "serial"}
_choosing: dict[str, threading.Lock] = {}
_SUFFIXES = ("vnc", "spice", "serial")
_MARK = 12
"""The characters of a guest's mark in the names of its sockets, whose paths must be short."""


def choosing_ports(uri: str) -> threading.Lock:
    """Locked until a guest is defined with the port that was chosen for it: hosts of a process may share a libvirt."""
    return _choosing.setdefault(uri, threading.Lock())


def of_guest(settings: ConsoleSettings, uuid: str, taken: Collection[int], *, spice: bool) -> Consoles:
    """The consoles that a guest is to have. `taken`: the ports of other guests' serial consoles; `spice`: whether the
    host's QEMU knows SPICE. Raises DriverError when no port is free."""
    vnc, screen, serial = settings.vnc, settings.spice, settings.serial
    mark = hashlib.sha256(uuid.encode()).hexdigest()[:_MARK]

    def listen(where: str, suffix: str) -> Listen:
        return Listen(socket=f"{where}/{mark}.{suffix}") if where.startswith("/") else Listen(address=where)

    console = listen(serial.proxyclient_address, "serial") if serial.enabled else None
    if console is not None and not console.socket:
        console = Listen(console.address, _free_port(console.address, serial.ports, taken))
    return Consoles(
        vnc=listen(vnc.server_listen, "vnc") if vnc.enabled else None,
        spice=listen(screen.server_listen, "spice") if screen.enabled and spice else None,
        serial=console,
    )


def place(xml: str, kind: str, settings: ConsoleSettings) -> ConsolePlace:
    """The place of the console, by the XML of a guest that runs. Raises ConsoleTypeUnavailable."""
    device = ElementTree.fromstring(xml).find(f"devices/{DEVICES[kind]}")
    found = None
    if device is not None:
        found = _of_port(device, settings) if kind == "serial" else _of_screen(device, kind, settings)
    if found is None:
        raise ConsoleTypeUnknownToGuest(console_type=kind)
    return found


def serial_ports(domains: Collection[Any], but: str) -> Iterator[int]:
    """The ports of the serial consoles of all guests `but` one."""
    for each in domains:
        if each.UUIDString() == but:
            continue
        with contextlib.suppress(libvirt.libvirtError):  # gone meanwhile
            for source in ElementTree.fromstring(each.XMLDesc(0)).findall("devices/serial[@type='tcp']/source"):
                yield int(source.get("service") or 0)


def remove_sockets(settings: ConsoleSettings, uuid: str) -> None:
    """Remove what a guest that is gone left of its sockets."""
    mark = hashlib.sha256(uuid.encode()).hexdigest()[:_MARK]
    places = (settings.vnc.server_listen, settings.spice.server_listen, settings.serial.proxyclient_address)
    for where, suffix in zip(places, _SUFFIXES, strict=True):
        if where.startswith("/"):
            Path(where, f"{mark}.{suffix}").unlink(missing_ok=True)


def _of_screen(device: Element, kind: str, settings: ConsoleSettings) -> ConsolePlace | None:
    listen = device.find("listen")
    if listen is not None and listen.get("type") == "socket":
        if kind == DIRECT:  # a socket is reached from this machine alone
            raise ConsoleTypeUnavailable(console_type=kind)
        return ConsolePlace(listen.get("socket", ""), 0, "")
    port = int(device.get("port") or 0)
    if kind == "novnc":
        return ConsolePlace(settings.vnc.server_proxyclient_address, port, "") if port > 0 else None
    tls = int(device.get("tlsPort") or 0)
    if port <= 0 and tls <= 0:
        return None
    return ConsolePlace(settings.spice.server_proxyclient_address, max(port, 0), "", tls_port=tls if tls > 0 else None)


def _of_port(device: Element, settings: ConsoleSettings) -> ConsolePlace | None:
    source = device.find("source")
    if source is None:
        return None
    if device.get("type") == "unix":
        return ConsolePlace(source.get("path", ""), 0, "")
    if device.get("type") == "tcp":
        port, tls = int(source.get("service") or 0), source.get("tls") == "yes"
        return ConsolePlace(settings.serial.proxyclient_address, port, "", tls_port=port if tls else None)
    return None


def _free_port(address: str, ports: range, taken: Collection[int]) -> int:
    for port in ports:
        if port not in taken and not _in_use(address, port):
            return port
    raise DriverError(reason=f"No port of {ports[0]} to {ports[-1]} is free for a serial console.")


def _in_use(address: str, port: int) -> bool:
    """Whether another program listens there, as far as that can be seen from here."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((address, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False
