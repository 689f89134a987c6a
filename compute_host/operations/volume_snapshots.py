"""Snapshots of attached volumes, taken by the host because the volume is a file that its guest writes to.

The block storage service requests them and waits for a report. This module reports success, before the operation
ends; the conductor that ends it reports a failure. Each function may run again after a restart in the middle.
"""

from __future__ import annotations

from cell_service.errors import NotSupported, VolumeNotFound
from cell_service.model.block_device import BlockDevice, of_volume
from cell_service.model.operation import Outcome
from cell_service.operations.volumes import SnapshotArguments, UnsnapshotArguments
from compute_host.operations.context import HostContext, OperationContext, no_way_back
from compute_host.operations.volumes import service_of
from compute_host.virt.driver import VolumeSnapshots


def take(context: HostContext, work: OperationContext, arguments: SnapshotArguments) -> Outcome:
    """Make the guest write to the new file, and report that. Raises NotYet, VolumeNotFound, DriverError."""
    device = _device(work, arguments.volume_id)
    _driver(context).snapshot_volume(work.instance.uuid, device, arguments.snapshot_id, arguments.new_file)
    return _report(context, work, arguments.snapshot_id, "creating")


def remove(context: HostContext, work: OperationContext, arguments: UnsnapshotArguments) -> Outcome:
    """Merge the snapshot's files, and report that to the service. Raises like `take`."""
    files = arguments.file_to_merge, arguments.merge_target_file
    device = _device(work, arguments.volume_id)
    _driver(context).remove_volume_snapshot(work.instance.uuid, device, arguments.snapshot_id, *files)
    return _report(context, work, arguments.snapshot_id, "deleting")


def _report(context: HostContext, work: OperationContext, snapshot_id: str, status: str) -> Outcome:
    work.check()
    with no_way_back():
        service_of(context).report_snapshot(work.ctx, snapshot_id, status)
    return Outcome(work.operation.id, work.operation.fence)


def _device(work: OperationContext, volume_id: str) -> BlockDevice:
    device = of_volume(work.instance.block_devices, volume_id)
    if device is None:
        raise VolumeNotFound(volume_id=volume_id)
    return device


def _driver(context: HostContext) -> VolumeSnapshots:
    """Raises NotSupported."""
    if not isinstance(context.driver, VolumeSnapshots):
        raise NotSupported(reason="This host takes no snapshots of volumes.")
    return context.driver
