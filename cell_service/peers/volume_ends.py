"""What becomes of an instance's volumes when it goes."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from cell_service.context import Context
from cell_service.errors import Invalid, VolumeNotFound
from cell_service.logs import about
from cell_service.model.block_device import BlockDevice, volumes
from cell_service.peers.volumes import Volumes

log = logging.getLogger(__name__)


def let_go(service: Volumes | None, ctx: Context, instance_uuid: str, devices: Iterable[BlockDevice]) -> None:
    """The instance has no attachments any more, and volumes that were to go with it are gone. Done again: nothing
    changes. Raises PeerUnavailable; a volume that somebody else still has is left to them."""
    held = volumes(devices)
    if service is None or not held:
        return
    service.release_all(ctx, instance_uuid)
    for device in held:
        if not device.delete_on_termination:
            continue
        volume_id = device.volume_id or service.made_for(ctx, device.uuid)
        if volume_id is None:
            continue
        try:
            service.delete(ctx, volume_id)
        except (Invalid, VolumeNotFound) as error:
            log.warning("volume left", extra=about(ctx, instance=instance_uuid, volume=volume_id, reason=error))
