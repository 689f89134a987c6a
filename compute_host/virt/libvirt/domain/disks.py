"""The guest's disks and their controllers."""

from __future__ import annotations

import string
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from cell_service.errors import DriverError
from cell_service.model.hardware import Hardware
from compute_host.virt.libvirt.domain import limits
from compute_host.virt.libvirt.domain.values import Choices, Laid
from compute_host.virt.libvirt.domain.xml import add

_PREFIXES = {"virtio": "vd", "scsi": "sd", "sata": "sd", "ide": "hd", "usb": "sd"}


def disks(parts: Element, wanted: Hardware, laid: Laid, choices: Choices, *, pcie: bool) -> set[str]:
    """The buses that the disks are on. Raises DriverError."""
    bus = _bus(wanted.disk_bus or "virtio", "disk", pcie=pcie)
    letters = iter(string.ascii_lowercase)
    for disk in laid.disks:
        made = add(parts, "disk", type="file", device="disk")
        driver = _driver(made, disk.format, choices.cache)
        for name in ("io", "discard"):
            value = getattr(choices, name)
            if value is not None:
                driver.set(name, value)
        add(made, "source", file=str(disk.path))
        add(made, "target", dev=_PREFIXES[bus] + next(letters), bus=bus)
        limits.of_disk(made, wanted.limits)
        if disk.role == "root":
            add(made, "serial", "root")
        if disk.role == "rescue" and laid.rescue_is_behind and laid.kernel is None:
            add(made, "boot", order="1")
    buses = {bus}
    if laid.drive is not None:
        buses.add(_drive(parts, wanted, laid, bus, letters, pcie=pcie))
    if "scsi" in buses:
        add(parts, "controller", type="scsi", index="0", model=wanted.scsi_model or "virtio-scsi")
    return buses


def _drive(parts: Element, wanted: Hardware, laid: Laid, bus: str, letters: Iterator[str], *, pcie: bool) -> str:
    """The config drive. Returns its bus."""
    chosen = wanted.cdrom_bus or ("scsi" if pcie else "ide")
    mine = _bus(chosen, "CD-ROM", pcie=pcie) if laid.drive_is_cdrom else "virtio"
    made = add(parts, "disk", type="file", device="cdrom" if laid.drive_is_cdrom else "disk")
    _driver(made, "raw", None)
    add(made, "source", file=str(laid.drive))
    letter = next(letters) if _PREFIXES[mine] == _PREFIXES[bus] else "a"
    add(made, "target", dev=_PREFIXES[mine] + letter, bus=mine)
    if laid.drive_is_cdrom:
        add(made, "readonly")
    return mine


def _bus(name: str, what: str, *, pcie: bool) -> str:
    if name not in _PREFIXES or (name == "ide" and pcie):
        raise DriverError(reason=f"A {what} bus {name} cannot be had on this machine type.")
    return name


def _driver(disk: Element, kind: str, cache: str | None) -> Element:
    driver = add(disk, "driver", name="qemu", type=kind)
    if cache is not None:
        driver.set("cache", cache)
    return driver
