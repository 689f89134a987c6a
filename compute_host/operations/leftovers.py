"""Changes that were made without this host while it was down, applied to the guest that it may still have."""

from __future__ import annotations

from cell_service.model.operation import Outcome
from cell_service.operations.host_tasks import CleanUpArguments
from compute_host.operations.context import HostContext, OperationContext, spec_of
from compute_host.virt.driver import Attachable, Interfaces


def clear(context: HostContext, work: OperationContext, arguments: CleanUpArguments) -> Outcome:
    """Detach `parts_out` and `ports_out` from the guest, if there is one, and remove this host's attachments of those
    volumes; if the instance lives here, attach those of `parts_in` that still are its own, in their size."""
    instance, operation = work.instance, work.operation
    for vif in arguments.ports_out or ():
        if isinstance(context.driver, Interfaces):
            context.driver.detach_interface(instance.uuid, vif)
    if isinstance(context.driver, Attachable):
        for device in arguments.parts_out or ():
            context.driver.detach_volume(instance.uuid, device)
            work.check()
            if context.volumes is not None and device.volume_id is not None:
                context.volumes.leave(work.ctx, device.volume_id, instance.uuid, context.host)
        for device in arguments.parts_in or ():
            attached = {(each.uuid, each.volume_id) for each in instance.block_devices}
            if instance.host == context.host and (device.uuid, device.volume_id) in attached:
                context.driver.attach_volume(spec_of(context, work), device)
                context.driver.extend_volume(instance.uuid, device)
    return Outcome(operation.id, operation.fence)
