"""The abilities that a host needs to attach a volume to a guest, or to detach it, in the state that the guest is in."""

from __future__ import annotations

from cell_service.model.ability import Ability
from cell_service.model.block_device import BlockDevice
from cell_service.model.instance import MACHINE_TYPE, Instance
from cell_service.model.lifecycle import PowerState, VmState

_FIXED = frozenset({"sata", "ide"})
_ALIVE = frozenset({PowerState.RUNNING, PowerState.PAUSED})


def needed(instance: Instance, device: BlockDevice) -> Ability | None:
    """The ability that the instance's host needs besides those of the operation; None: none."""
    if instance.vm_state is VmState.SUSPENDED:
        return Ability.SUSPENDED_PLUGS
    return Ability.DRIVE_PLUGS if instance.power_state in _ALIVE and bus(instance, device) in _FIXED else None


def bus(instance: Instance, device: BlockDevice) -> str:
    """The bus that the device has in the instance's guest."""
    known, is_cd = instance.system_metadata, device.device_type == "cdrom"
    usual = "virtio" if not is_cd else "scsi" if "q35" in known.get(MACHINE_TYPE, "") else "ide"
    wanted = device.disk_bus or known.get("image_hw_cdrom_bus" if is_cd else "image_hw_disk_bus") or usual
    return wanted.lower()
