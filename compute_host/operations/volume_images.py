"""Images of servers that boot from a volume: snapshots of all their volumes, and an image without content that names
the snapshots.

They may be made again after a restart in the middle: the snapshots are found by their mark.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from cell_service.context import Context
from cell_service.model.block_device import BlockDevice, volumes
from cell_service.model.guest_agent import quiesce_of
from cell_service.peers.image import NewImage
from cell_service.peers.volume_ends import forget_snapshots, mark_of, taken_for
from cell_service.peers.volumes import Snapshot, Volumes
from compute_host.operations.context import HostContext, OperationContext
from compute_host.virt.driver import Quiescing

FORMAT = "raw"


def with_snapshots(context: HostContext, work: OperationContext, image: NewImage) -> NewImage:
    """Take a snapshot of each volume. Returns the image with them. Raises VolumeNotFound, VolumeUnavailable,
    OverQuota, PeerUnavailable."""
    if context.volumes is None:
        return image
    ctx = _owners(work)
    taken = {one.volume_id: one for one in taken_for(context.volumes, ctx, image.id)}
    with _quiesced(context, work):
        mapping = _taken(context.volumes, ctx, work, image, taken)
    known = {
        "block_device_mapping": json.dumps(mapping),
        "bdm_v2": "True",
        "root_device_name": work.instance.root_device_name or "/dev/vda",
    }
    return replace(image, properties={**image.properties, **known})


def _quiesced(context: HostContext, work: OperationContext) -> AbstractContextManager[None]:
    """The guest is quiesced meanwhile, as its image says."""
    if not isinstance(context.driver, Quiescing):
        return nullcontext()
    return context.driver.quiesced(work.instance.uuid, quiesce_of(work.instance))


def _taken(
    service: Volumes, ctx: Context, work: OperationContext, image: NewImage, taken: Mapping[str, Snapshot]
) -> list[dict[str, object]]:
    """The block devices of the image, a snapshot each: those that were taken before, and new ones."""
    mapping = []
    for device in volumes(work.instance.block_devices):
        if device.volume_id is None:
            continue
        work.check()
        one = taken.get(device.volume_id) or service.take_snapshot(
            ctx, device.volume_id, f"snapshot for {image.name}", mark_of(image.id), force=True
        )
        mapping.append(_entry(device, one))
    return mapping


def empty(path: Path) -> str:
    """Write an empty content of the image."""
    path.touch()
    return FORMAT


def forget(context: HostContext, work: OperationContext, image_id: str) -> None:
    """Delete the snapshots that were taken for the image. Raises PeerUnavailable, VolumeUnavailable."""
    if context.volumes is not None and work.instance.volume_backed:
        forget_snapshots(context.volumes, _owners(work), image_id)


def _owners(work: OperationContext) -> Context:
    """A context of the server's project, which the snapshots belong to, whichever user requested the image."""
    return replace(work.ctx, project_id=work.instance.project_id)


def _entry(device: BlockDevice, snapshot: Snapshot) -> dict[str, object]:
    return {
        "source_type": "snapshot",
        "destination_type": "volume",
        "snapshot_id": snapshot.id,
        "volume_id": None,
        "image_id": None,
        "volume_size": snapshot.size_gib,
        "volume_type": device.volume_type,
        "boot_index": device.boot_index,
        "device_name": device.device_name,
        "device_type": device.device_type,
        "disk_bus": device.disk_bus,
        "delete_on_termination": device.delete_on_termination,
        "guest_format": device.guest_format,
        "tag": device.tag,
        "no_device": None,
    }
