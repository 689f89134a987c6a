"""Release of a deleted instance's volumes, and removal of the snapshots that were taken of them for an image."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator

from cell_service.context import Context
from cell_service.errors import Invalid, SnapshotNotFound, VolumeNotFound
from cell_service.logs import about
from cell_service.model.block_device import BlockDevice, volumes
from cell_service.peers.volumes import Snapshot, Volumes

log = logging.getLogger(__name__)


def mark_of(image_id: str) -> str:
    """The description of the snapshots that the image names."""
    return f"of image {image_id}"


def taken_for(service: Volumes, ctx: Context, image_id: str) -> Iterator[Snapshot]:
    """The snapshots of the context's project that were taken for that image."""
    for one in service.snapshots(ctx):
        if one.description == mark_of(image_id):
            yield one


def forget_snapshots(service: Volumes, ctx: Context, image_id: str) -> None:
    """Delete the snapshots that were taken for the image. Raises PeerUnavailable, VolumeUnavailable."""
    for one in taken_for(service, ctx, image_id):
        with contextlib.suppress(SnapshotNotFound):
            service.delete_snapshot(ctx, one.id)


def release_volumes(service: Volumes | None, ctx: Context, instance_uuid: str, devices: Iterable[BlockDevice]) -> None:
    """Remove the instance's attachments, and the volumes that are to be deleted with it. Done again: nothing
    changes. Raises PeerUnavailable; a volume that is in use elsewhere stays."""
    attached = volumes(devices)
    if service is None or not attached:
        return
    service.release_all(ctx, instance_uuid)
    for device in attached:
        if not device.delete_on_termination:
            continue
        volume_id = device.volume_id or service.made_for(ctx, device.uuid)
        if volume_id is None:
            continue
        try:
            service.delete(ctx, volume_id)
        except (Invalid, VolumeNotFound) as error:
            log.warning("volume left", extra=about(ctx, instance=instance_uuid, volume=volume_id, reason=error))
