"""Rebuilding guests that boot from a volume: that volume gets the content of another image.

It may run again after a restart in the middle of it: the attachment is found by volume, instance and host, and the
image is written once more. The service's event at the end is not needed: the volume's status says the same.
"""

from __future__ import annotations

import logging

from cell_service.errors import NotYet, PolycellError
from cell_service.logs import about
from cell_service.model.block_device import BlockDevice
from cell_service.model.instance import Fault
from cell_service.model.operation import Outcome
from cell_service.operations.builds import REBUILD, RebuildArguments
from compute_host.operations import volumes
from compute_host.operations.context import HostContext, OperationContext, no_way_back, power_state_of

log = logging.getLogger(__name__)

POLLS_PER_GIB = 20
"""How often the volume's status is polled for each GiB, a second apart (Nova: reimage_timeout_per_gb)."""


def reimage(context: HostContext, work: OperationContext, arguments: RebuildArguments) -> tuple[BlockDevice, ...]:
    """Give the root volume the content of the operation's image, and connect it to this host. Returns the devices
    that have changed: none for an operation without `reimage`.

    The guest must not be there. Raises NotYet, VolumeNotFound, VolumeUnavailable.
    """
    device = _root(work, arguments)
    if device is None or device.volume_id is None:
        return ()
    with no_way_back():
        volumes.reserve_only(context, work, device)
        work.check()
        volumes.service_of(context).reimage(work.ctx, device.volume_id, arguments.image)
        polls = max(volumes.POLLS, POLLS_PER_GIB * (device.volume_size or 0))
        return (volumes.connected(context, work, device, volumes.usable(context, work, device, polls)),)


def complete(context: HostContext, work: OperationContext, devices: tuple[BlockDevice, ...]) -> None:
    """Mark the devices' attachments complete: the guest has them. Raises NotYet."""
    with no_way_back():
        for device in devices:
            volumes.service_of(context).complete(work.ctx, device.attachment_id or "")


def failed(context: HostContext, work: OperationContext, error: Exception, fault: Fault) -> Outcome:
    """The outcome of a rebuild after an error."""
    again, state = isinstance(error, NotYet), power_state_of(context, work)
    devices = () if again else _connected_again(context, work)
    return Outcome(
        work.claimed.id, work.claimed.fence, fault=fault, retriable=again, power_state=state, devices=devices
    )


def _connected_again(context: HostContext, work: OperationContext) -> tuple[BlockDevice, ...]:
    """Connect the root volume again after a failure, whatever its content. Returns the devices that have changed; a
    volume that can't be connected now is logged, and connected by the next rebuild."""
    device = _root(work, REBUILD.read(work.operation.arguments))
    if device is None or device.volume_id is None:
        return ()
    try:
        work.check()
        service = volumes.service_of(context)
        again = volumes.connected(context, work, device, service.get(work.ctx, device.volume_id))
        service.complete(work.ctx, again.attachment_id or "")
    except PolycellError as error:
        log.warning("root volume not connected", extra=about(work.ctx, instance=work.instance.uuid, reason=error))
        return ()
    return (again,)


def _root(work: OperationContext, arguments: RebuildArguments) -> BlockDevice | None:
    if not arguments.reimage:
        return None
    return next((device for device in work.instance.block_devices if device.is_volume and device.is_root), None)
