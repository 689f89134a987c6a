"""The block devices of an instance: what it was given at its creation, and volumes attached since."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from string import ascii_lowercase
from typing import Any

SWAP = "swap"


@dataclass(frozen=True, slots=True)
class BlockDevice:
    """One device. `source_type` (image, volume, snapshot, blank) is what it was made from, `destination_type` (local,
    volume) what it is. `boot_index` 0: the instance boots from it; None or negative: it is no boot device.

    `volume_id` and `attachment_id` are known once the volume is there and reserved for the instance; the attachment is
    that of the host on which the instance is.
    """

    uuid: str
    source_type: str
    destination_type: str
    boot_index: int | None = None
    device_name: str | None = None
    device_type: str | None = None
    disk_bus: str | None = None
    volume_id: str | None = None
    snapshot_id: str | None = None
    image_id: str | None = None
    volume_size: int | None = None
    volume_type: str | None = None
    delete_on_termination: bool = False
    guest_format: str | None = None
    tag: str | None = None
    attachment_id: str | None = None
    connection_info: dict[str, Any] = field(default_factory=dict)
    detaching: bool = False

    @property
    def is_volume(self) -> bool:
        return self.destination_type == "volume"

    @property
    def is_root(self) -> bool:
        return self.boot_index == 0

    @property
    def is_swap(self) -> bool:
        return not self.is_volume and self.guest_format == SWAP


def volumes(devices: Iterable[BlockDevice]) -> tuple[BlockDevice, ...]:
    """The devices that are volumes."""
    return tuple(device for device in devices if device.is_volume)


def volume_backed(devices: Iterable[BlockDevice]) -> bool:
    """Whether an instance with these devices boots from a volume."""
    return any(device.is_volume and device.is_root for device in devices)


def of_volume(devices: Iterable[BlockDevice], volume_id: str) -> BlockDevice | None:
    """The device that the volume is."""
    return next((device for device in devices if device.is_volume and device.volume_id == volume_id), None)


def merged(
    devices: Iterable[BlockDevice], changed: Iterable[BlockDevice], gone: Iterable[str] = ()
) -> tuple[BlockDevice, ...]:
    """The devices after some were changed and some removed: by their uuids, in their order; none is added."""
    new, left = {device.uuid: device for device in changed}, set(gone)
    return tuple(new.get(device.uuid, device) for device in devices if device.uuid not in left)


def next_name(devices: Iterable[BlockDevice], prefix: str = "/dev/vd") -> str:
    """The first device name that no device has. "a" is the root disk's."""
    taken = {device.device_name for device in devices}
    letters = ascii_lowercase
    names: list[str] = [*letters[1:], *(first + second for first in letters for second in letters)]
    return next(prefix + name for name in names if prefix + name not in taken)
