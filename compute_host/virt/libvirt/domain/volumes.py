"""The disk that a volume is."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from cell_service.errors import DriverError
from cell_service.model.block_device import BlockDevice
from cell_service.model.hardware import Hardware
from cell_service.model.volume_connection import VolumeConnection, connection_of
from compute_host.virt.libvirt.domain.disk_names import number_of
from compute_host.virt.libvirt.domain.sources import VolumeSource, add_source
from compute_host.virt.libvirt.domain.values import Choices
from compute_host.virt.libvirt.domain.xml import add, child

TUNABLE = (
    *(f"{what}_{unit}_sec" for what in ("total", "read", "write") for unit in ("bytes", "iops")),
    *(f"{what}_{unit}_sec_max" for what in ("total", "read", "write") for unit in ("bytes", "iops")),
    "size_iops_sec",
)
"""The limits of volume types that QEMU enforces, by their names in Cinder and in libvirt."""
_DEVICES = ("disk", "cdrom", "lun")
_RESERVED_UNIT = 7
_TRANSIENT = ("alias", "backingStore", "mirror")


def volume_disk(
    device: BlockDevice, source: VolumeSource, bus: str, name: str, wanted: Hardware, choices: Choices
) -> Element:
    """The volume as a disk of that name. Raises DriverError."""
    kind = device.device_type or "disk"
    if kind not in _DEVICES or (kind == "lun" and source.kind != "block"):
        raise DriverError(reason=f"Volume {device.volume_id} cannot be a device of type {kind}.")
    connection = connection_of(device.connection_info)
    made = Element("disk", type=source.kind, device=kind)
    cache = choices.volume_caches.get(source.kind, "none")
    driver = add(made, "driver", name="qemu", type=source.format, cache=cache)
    if choices.discard is not None or connection.discards:
        driver.set("discard", choices.discard or "unmap")
    add_source(made, source)
    add(made, "target", dev=name, bus=bus)
    _limit(made, connection)
    if connection.read_only or kind == "cdrom":
        add(made, "readonly")
    if connection.shared:
        add(made, "shareable")
    add(made, "serial", device.volume_id)
    if bus == "scsi" and (wanted.scsi_model or "virtio-scsi") == "virtio-scsi":
        number = number_of(name)  # libvirt would have a second controller from the 16th disk on
        unit = number if number < _RESERVED_UNIT else number + 1
        add(made, "address", type="drive", controller="0", bus="0", target="0", unit=str(unit))
    return made


def like(disk: Element) -> str:
    """The XML of the disk, to be attached to another definition of its domain, with the same address."""
    copied = Element("disk", {name: disk.get(name, "") for name in ("type", "device")})
    copied.extend(part for part in disk if part.tag not in _TRANSIENT)
    for part in copied.iterfind("source"):
        part.attrib.pop("index", None)
    return ElementTree.tostring(copied, encoding="unicode")


def copy_target(source: VolumeSource, size_bytes: int | None = None) -> str:
    """The XML of the volume as the target of a disk's copy, or of its beginning: QEMU copies only to what has the same
    size."""
    made = Element("disk", type=source.kind, device="disk")
    add(made, "driver", name="qemu", type=source.format)
    add_source(made, source)
    if size_bytes is not None:
        slices = add(child(made, "source"), "slices")
        add(slices, "slice", type="storage", offset="0", size=str(size_bytes))
    return ElementTree.tostring(made, encoding="unicode")


def _limit(disk: Element, connection: VolumeConnection) -> None:
    known = {name: str(value) for name, value in connection.limits.items() if name in TUNABLE and value}
    if known:
        tune = add(disk, "iotune")
        for name in TUNABLE:
            if name in known:
                add(tune, name, known[name])
