"""The guest's own disks, its volumes and their controllers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element

from cell_service.errors import DriverError
from cell_service.model.block_device import BlockDevice
from cell_service.model.hardware import Hardware
from compute_host.virt.libvirt.domain import limits
from compute_host.virt.libvirt.domain.disk_names import PREFIXES, Names
from compute_host.virt.libvirt.domain.previous import Previous
from compute_host.virt.libvirt.domain.sources import VolumeSource
from compute_host.virt.libvirt.domain.values import Choices, Laid
from compute_host.virt.libvirt.domain.volumes import volume_disk
from compute_host.virt.libvirt.domain.xml import add

Sources = Mapping[str, VolumeSource]
"""Where QEMU finds volumes, by their ids."""

ROOT_SERIAL = "root"
"""Of the guest's own root disk; a volume has its id."""
_FIRST = "/dev/vda"


def disks(
    parts: Element, wanted: Hardware, laid: Laid, volumes: Sequence[BlockDevice], sources: Sources, choices: Choices,
    previous: Previous, *, pcie: bool,
) -> set[str]:  # fmt: skip
    """The buses that the disks are on. A root volume is in front of the guest's own disks. Raises DriverError."""
    bus = bus_of(wanted.disk_bus or "virtio", "disk", pcie=pcie)
    keys = [*(str(disk.path) for disk in laid.disks), *(device.volume_id or "" for device in volumes)]
    names, orders = Names(previous, keys), boot_orders(laid, volumes)
    root = next((device for device in volumes if device.is_root), None)
    buses = {bus}

    def add_volume(device: BlockDevice) -> None:
        assert device.volume_id is not None
        mine = volume_bus(device, wanted, pcie=pcie)
        name = names.of(device.volume_id, mine, _FIRST if device.is_root else device.device_name)
        made = volume_disk(device, sources[device.volume_id], mine, name, wanted, choices)
        if device.volume_id in orders:
            add(made, "boot", order=str(orders[device.volume_id]))
        parts.append(made)
        buses.add(mine)

    if root is not None:
        add_volume(root)
    for disk in laid.disks:
        key = str(disk.path)
        made = add(parts, "disk", type="file", device="disk")
        driver = _driver(made, disk.format, choices.cache)
        for name in ("io", "discard"):
            value = getattr(choices, name)
            if value is not None:
                driver.set(name, value)
        add(made, "source", file=key)
        add(made, "target", dev=names.of(key, bus), bus=bus)
        limits.of_disk(made, wanted.limits)
        if disk.role == "root":
            add(made, "serial", ROOT_SERIAL)
        if key in orders:
            add(made, "boot", order=str(orders[key]))
    if laid.drive is not None:
        buses.add(_drive(parts, wanted, laid, names, pcie=pcie))
    for device in volumes:
        if device is not root:
            add_volume(device)
    if "scsi" in buses:
        add(parts, "controller", type="scsi", index="0", model=wanted.scsi_model or "virtio-scsi")
    return buses


def boot_orders(laid: Laid, volumes: Sequence[BlockDevice]) -> dict[str, int]:
    """The places of disks in the order of booting, by their files and volumes' ids. Empty: a kernel is booted, or the
    first disk."""
    if laid.kernel is not None:
        return {}
    rescue = next((disk for disk in laid.disks if disk.role == "rescue"), None)
    if rescue is not None:
        behind = laid.rescue_is_behind or any(device.is_root for device in volumes)
        return {str(rescue.path): 1} if behind else {}
    places = [(device.boot_index, device.volume_id or "") for device in volumes if (device.boot_index or 0) >= 0]
    named = [(place, key) for place, key in places if place is not None]
    if not named:
        return {}
    named += [(0, str(disk.path)) for disk in laid.disks if disk.role == "root"]
    return {key: number for number, (_place, key) in enumerate(sorted(named), start=1)}


def volume_bus(device: BlockDevice, wanted: Hardware, *, pcie: bool) -> str:
    """The bus of the volume: its own, else that of the guest's disks. Raises DriverError."""
    if device.device_type == "cdrom":
        return bus_of(device.disk_bus or wanted.cdrom_bus or ("scsi" if pcie else "ide"), "CD-ROM", pcie=pcie)
    return bus_of(device.disk_bus or wanted.disk_bus or "virtio", "disk", pcie=pcie)


def bus_of(name: str, what: str, *, pcie: bool) -> str:
    """Raises DriverError for one that the machine has not."""
    if name not in PREFIXES or (name == "ide" and pcie):
        raise DriverError(reason=f"A {what} bus {name} cannot be had on this machine type.")
    return name


def _drive(parts: Element, wanted: Hardware, laid: Laid, names: Names, *, pcie: bool) -> str:
    """The config drive. Returns its bus."""
    chosen = wanted.cdrom_bus or ("scsi" if pcie else "ide")
    mine = bus_of(chosen, "CD-ROM", pcie=pcie) if laid.drive_is_cdrom else "virtio"
    made = add(parts, "disk", type="file", device="cdrom" if laid.drive_is_cdrom else "disk")
    _driver(made, "raw", None)
    add(made, "source", file=str(laid.drive))
    add(made, "target", dev=names.of(str(laid.drive), mine), bus=mine)
    if laid.drive_is_cdrom:
        add(made, "readonly")
    return mine


def _driver(disk: Element, kind: str, cache: str | None) -> Element:
    driver = add(disk, "driver", name="qemu", type=kind)
    if cache is not None:
        driver.set("cache", cache)
    return driver
