"""Deletes of guests. They may run again after a restart in the middle."""

from __future__ import annotations

from cell_service.model import shelved
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import PowerState
from cell_service.model.operation import Outcome
from cell_service.operations.deletes import DeleteArguments
from cell_service.peers.volume_ends import release_volumes
from compute_host.operations import shares, volume_images
from compute_host.operations.context import HostContext, OperationContext


def delete(context: HostContext, work: OperationContext, arguments: DeleteArguments) -> Outcome:
    instance = work.instance
    context.driver.destroy(instance.uuid)
    if context.networks is not None:
        context.networks.deallocate(work.ctx, instance.uuid, project_id=instance.project_id, keep=_given(instance))
    image_id = shelved.image_of(instance.system_metadata)
    unfinished = arguments.unfinished_images or ()
    for each in (*unfinished, *([image_id] if image_id is not None else [])):
        if context.images is not None:
            context.images.remove(work.ctx, each)
    for each in unfinished:  # before the volumes: a volume with snapshots can't be deleted
        volume_images.forget(context, work, each)
    shares.leave(context, work)
    release_volumes(context.volumes, work.ctx, instance.uuid, instance.block_devices)
    return Outcome(work.operation.id, work.operation.fence, power_state=PowerState.NOSTATE)


def _given(instance: Instance) -> tuple[str, ...]:
    """The ids of the ports that the instance's owner gave, and keeps."""
    return tuple(vif.port_id for vif in instance.network_info if not vif.created_by_us)
