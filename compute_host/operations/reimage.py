"""Rebuilding guests that boot from a volume: that volume gets the content of another image.

May be done again after a restart in the middle of it: the attachment is found by volume, instance and host, and the
image is written once more. The service's event that it is through only tells what its volume's status tells, too.
"""

from __future__ import annotations

import logging

from cell_service.errors import PolycellError
from cell_service.logs import about
from cell_service.model.block_device import BlockDevice
from cell_service.model.operation import REIMAGE
from compute_host.operations import volumes
from compute_host.operations.context import HostContext, Job, no_way_back

log = logging.getLogger(__name__)

POLLS_PER_GIB = 20
"""A second each (Nova: reimage_timeout_per_gb)."""


def reimage(context: HostContext, job: Job) -> tuple[BlockDevice, ...]:
    """The root volume has the content of the operation's image and is connected to this host. Answers the devices
    that have changed: none, where the operation asks for no such thing.

    The guest must not be there. Raises NotYet, VolumeNotFound, VolumeUnavailable.
    """
    device = _root(job)
    if device is None or device.volume_id is None:
        return ()
    with no_way_back():
        volumes.reserve_only(context, job, device)
        job.check()
        volumes.service_of(context).reimage(job.ctx, device.volume_id, job.work.operation.arguments["image"])
        polls = max(volumes.POLLS, POLLS_PER_GIB * (device.volume_size or 0))
        return (volumes.connected(context, job, volumes.usable(context, job, device, polls)),)


def complete(context: HostContext, job: Job, devices: tuple[BlockDevice, ...]) -> None:
    """The guest has these devices. Raises NotYet."""
    with no_way_back():
        for device in devices:
            volumes.service_of(context).complete(job.ctx, device.attachment_id or "")


def held(context: HostContext, job: Job) -> tuple[BlockDevice, ...]:
    """After a failure the instance has its root volume still, whatever is on it. Answers the devices that have
    changed; what can't be brought back now is logged, and found again by the next rebuild."""
    device = _root(job)
    if device is None or device.volume_id is None:
        return ()
    try:
        job.check()
        again = volumes.connected(context, job, device)
        volumes.service_of(context).complete(job.ctx, again.attachment_id or "")
    except PolycellError as error:
        log.warning("root volume not connected", extra=about(job.ctx, instance=job.instance.uuid, reason=error))
        return ()
    return (again,)


def _root(job: Job) -> BlockDevice | None:
    if not job.work.operation.arguments.get(REIMAGE):
        return None
    return next((device for device in job.instance.block_devices if device.is_volume and device.is_root), None)
