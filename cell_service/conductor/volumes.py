"""Volumes of instances that the block storage service has changed."""

from __future__ import annotations

import logging

from sqlalchemy import Connection

from cell_service.conductor.context import ConductorContext, on_behalf_of
from cell_service.context import Context
from cell_service.db import actions, instances, operations
from cell_service.logs import about
from cell_service.model.block_device import of_volume
from cell_service.model.events import ServerEvent
from cell_service.operations.volumes import EXTEND_VOLUME, DeviceArguments

log = logging.getLogger(__name__)


def extended(deps: ConductorContext, ctx: Context, event: ServerEvent) -> None:
    """Have the host show the guest the new size of a volume (the event's tag) that the block storage service has
    enlarged."""

    def work(tx: Connection) -> str | None:
        instance = instances.get_many(tx, [event.instance_uuid]).get(event.instance_uuid)
        if instance is None or instance.host is None:
            return None
        device = of_volume(instance.block_devices, event.tag or "")
        if device is None:
            log.info("a volume has grown that is not the instance's", extra=about(ctx, instance=instance.uuid))
            return None
        now, own = deps.now(), on_behalf_of(deps, instance)
        actions.start(tx, own, instance.uuid, EXTEND_VOLUME.action, now)
        arguments = DeviceArguments(device.uuid)
        operations.insert(
            tx, operations.new_operation(EXTEND_VOLUME, own, instance.uuid, instance.host, now, arguments)
        )
        return instance.host

    host = deps.db.run(work)
    if host is not None:
        deps.wake(ctx, host)
