"""A volume that has grown: its running guest is to see the new size."""

from __future__ import annotations

import json
import threading
from typing import Any
from xml.etree.ElementTree import Element

import libvirt
import libvirt_qemu

from cell_service.context import Clock
from cell_service.errors import DriverError

LOOK_SECONDS, LONGEST_SECONDS = 0.2, 20.0
_STALE = "cannot grow nbd nodes"
_BY_MONITOR = 0
_BY_WORDS = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP


def grow(found: Any, disk: Element, size_bytes: int, clock: Clock, stopped: threading.Event) -> None:
    """Report the size to the guest; one that sees as much already sees nothing new. Raises DriverError, libvirtError.

    QEMU learns the size of an NBD export when it connects, and it connects again with the next request of the guest. A
    guest that is idle makes none, so a byte is read for it.
    """
    name, until = _attribute(disk, "target", "dev"), clock.monotonic() + LONGEST_SECONDS
    while found.blockInfo(name)[0] < size_bytes:
        try:
            found.blockResize(name, size_bytes, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
        except libvirt.libvirtError as error:
            if _STALE not in str(error).lower():
                raise
            if clock.monotonic() >= until:
                raise DriverError(reason="The volume's storage server has not reported its new size.") from error
            _read(found, _attribute(disk, "source", "name"))
            clock.wait(stopped, LOOK_SECONDS)
            if stopped.is_set():
                raise DriverError(reason="The driver was stopped.") from error


def _read(found: Any, export: str) -> None:
    """Have QEMU read the beginning of the export. Raises libvirtError."""
    request = json.dumps({"execute": "query-named-block-nodes", "arguments": {"flat": True}})
    nodes = json.loads(libvirt_qemu.qemuMonitorCommand(found, request, _BY_MONITOR))["return"]
    for node in nodes:
        if node["drv"] == "nbd" and export in node["image"]["filename"]:
            words = f'qemu-io {node["node-name"]} "read 0 512"'
            libvirt_qemu.qemuMonitorCommand(found, words, _BY_WORDS)


def _attribute(part: Element, tag: str, name: str) -> str:
    found = part.find(tag)
    return "" if found is None else found.get(name, "")
