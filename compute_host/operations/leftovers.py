"""What was done without this host while it was down, made true of the guest that it may still have."""

from __future__ import annotations

from typing import Any

from cell_service import wire
from cell_service.model.block_device import BlockDevice
from cell_service.model.instance import Vif
from cell_service.model.operation import PARTS_IN, PARTS_OUT, PORTS_OUT, Outcome
from compute_host.operations.context import HostContext, Job
from compute_host.virt.driver import Attachable, Interfaces


def clear(context: HostContext, job: Job) -> Outcome:
    """The guest, if there is one, has none of PARTS_OUT and PORTS_OUT, and this host no attachment of those volumes; it
    has those of PARTS_IN that still are its instance's, in their size, if that lives here. Done again: no change."""
    asked, instance, operation = job.work.operation.arguments, job.instance, job.work.operation
    for vif in _each(Vif, asked, PORTS_OUT):
        if isinstance(context.driver, Interfaces):
            context.driver.detach_interface(instance.uuid, vif)
    if isinstance(context.driver, Attachable):
        for device in _each(BlockDevice, asked, PARTS_OUT):
            context.driver.detach_volume(instance.uuid, device)
            job.check()
            if context.volumes is not None and device.volume_id is not None:
                context.volumes.leave(job.ctx, device.volume_id, instance.uuid, context.host)
        for device in _each(BlockDevice, asked, PARTS_IN):
            held = {(each.uuid, each.volume_id) for each in instance.block_devices}
            if instance.host == context.host and (device.uuid, device.volume_id) in held:
                context.driver.attach_volume(instance.uuid, device)
                context.driver.extend_volume(instance.uuid, device)
    return Outcome(operation.id, operation.fence)


def _each(kind: type[Any], asked: dict[str, Any], name: str) -> list[Any]:
    return [wire.from_plain(kind, plain) for plain in asked.get(name, ())]
