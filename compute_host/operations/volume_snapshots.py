"""Snapshots of attached volumes, taken by the host because the volume is a file that its guest writes to.

The block storage service asked for them and waits to be told. Success is told from here, before the operation ends;
a failure by whoever ends it (`cell_service.conductor.volumes`). Each may be done again after a restart in the middle.
"""

from __future__ import annotations

from cell_service.errors import NotSupported, VolumeNotFound
from cell_service.model.block_device import BlockDevice, of_volume
from cell_service.model.operation import Outcome
from compute_host.operations.context import HostContext, Job, no_way_back
from compute_host.operations.volumes import service_of
from compute_host.virt.driver import VolumeSnapshots


def take(context: HostContext, job: Job) -> Outcome:
    """The guest writes to the new file, and the service knows it. Raises NotYet, VolumeNotFound, DriverError."""
    asked = job.work.operation.arguments
    _driver(context).snapshot_volume(job.instance.uuid, _device(job), asked["snapshot_id"], asked["new_file"])
    return _tell(context, job, "creating")


def remove(context: HostContext, job: Job) -> Outcome:
    """The snapshot's files are merged, and the service knows it. Raises like `take`."""
    asked = job.work.operation.arguments
    files = asked.get("file_to_merge"), asked.get("merge_target_file")
    _driver(context).remove_volume_snapshot(job.instance.uuid, _device(job), asked["snapshot_id"], *files)
    return _tell(context, job, "deleting")


def _tell(context: HostContext, job: Job, status: str) -> Outcome:
    job.check()
    with no_way_back():
        service_of(context).report_snapshot(job.ctx, job.work.operation.arguments["snapshot_id"], status)
    return Outcome(job.work.operation.id, job.work.operation.fence)


def _device(job: Job) -> BlockDevice:
    volume_id = str(job.work.operation.arguments["volume_id"])
    device = of_volume(job.instance.block_devices, volume_id)
    if device is None:
        raise VolumeNotFound(volume_id=volume_id)
    return device


def _driver(context: HostContext) -> VolumeSnapshots:
    """Raises NotSupported."""
    if not isinstance(context.driver, VolumeSnapshots):
        raise NotSupported(reason="This host takes no snapshots of volumes.")
    return context.driver
