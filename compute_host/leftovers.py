"""What was done without this host while it was down, made true of the guest that it may still have."""

from __future__ import annotations

from typing import Any

from cell_service import wire
from cell_service.model.block_device import BlockDevice
from cell_service.model.instance import Vif
from cell_service.model.operation import PARTS_IN, PARTS_OUT, PORTS_OUT, Outcome
from compute_host.virt.driver import Attachable, Interfaces
from compute_host.work import Hands, Job


def clear(hands: Hands, job: Job) -> Outcome:
    """The guest, if there is one, has none of PARTS_OUT and PORTS_OUT, and this host no attachment of those volumes; it
    has those of PARTS_IN that still are its instance's, in their size, if that lives here. Done again: no change."""
    asked, instance, operation = job.work.operation.arguments, job.instance, job.work.operation
    for vif in _each(Vif, asked, PORTS_OUT):
        if isinstance(hands.driver, Interfaces):
            hands.driver.detach_interface(instance.uuid, vif)
    if isinstance(hands.driver, Attachable):
        for device in _each(BlockDevice, asked, PARTS_OUT):
            hands.driver.detach_volume(instance.uuid, device)
            job.check()
            if hands.volumes is not None and device.volume_id is not None:
                hands.volumes.leave(job.ctx, device.volume_id, instance.uuid, hands.host)
        for device in _each(BlockDevice, asked, PARTS_IN):
            held = {(each.uuid, each.volume_id) for each in instance.block_devices}
            if instance.host == hands.host and (device.uuid, device.volume_id) in held:
                hands.driver.attach_volume(instance.uuid, device)
                hands.driver.extend_volume(instance.uuid, device)
    return Outcome(operation.id, operation.fence)


def _each(kind: type[Any], asked: dict[str, Any], name: str) -> list[Any]:
    return [wire.from_plain(kind, plain) for plain in asked.get(name, ())]
