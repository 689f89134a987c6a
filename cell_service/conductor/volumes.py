"""The end of what a host does with an instance's volumes. The instance's state stays as it is."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import Connection

from cell_service.conductor.means import EVENTS, Means, context_of, on_behalf_of
from cell_service.context import Context
from cell_service.db import actions, instances, operations
from cell_service.errors import InstanceNotFound, PolycellError
from cell_service.logs import about
from cell_service.model.block_device import BlockDevice, merged, of_volume
from cell_service.model.events import ServerEvent
from cell_service.model.operation import Kind, Operation, Outcome, Phase

log = logging.getLogger(__name__)

EXTEND_SECONDS = 600.0


def host_is_through(means: Means, operation: Operation, outcome: Outcome) -> None:
    """The instance has the devices that the host says it has. A device that could not be attached is gone, one that
    could not be detached is still there. Told before: nothing. Raises OperationLost."""
    fault, ctx = outcome.fault, context_of(operation, means.clock)

    def work(tx: Connection) -> str | None:
        now, lost = means.now(), None
        operations.finish(tx, operation.id, operation.fence, Phase.FAILED if fault else Phase.DONE, now)
        instances.hold(tx, operation.instance_uuid)
        try:
            held = instances.get(tx, operation.instance_uuid).block_devices
        except InstanceNotFound:
            held = ()
        if fault is None:
            after = merged(held, outcome.devices, outcome.devices_gone)
        else:
            after = _after_fault(operation, held)
            lost = next((one.attachment_id for one in held if one.uuid not in {each.uuid for each in after}), None)
        if after != held:
            instances.change(tx, operation.instance_uuid, now=now, block_devices=after)
        actions.finish_event(
            tx, operation.instance_uuid, operation.request_id, EVENTS[operation.kind], operation.host, now,
            result=actions.ERROR if fault else actions.SUCCESS,
            traceback=fault.details if fault else None, details=fault.message if fault else None,
        )  # fmt: skip
        message = actions.ERROR if fault else None
        actions.finish(tx, operation.instance_uuid, operation.request_id, now, message=message)
        return lost

    lost = means.db.run(work)
    words = {"kind": operation.kind.value, "fault": fault.message if fault else None}
    log.info("volume work ended", extra=about(ctx, instance=operation.instance_uuid, **words))
    if lost is not None and means.volumes is not None:
        try:
            means.volumes.release(ctx, lost)
        except PolycellError as error:
            log.warning("volume left reserved", extra=about(ctx, instance=operation.instance_uuid, reason=error))


def extended(means: Means, ctx: Context, event: ServerEvent) -> None:
    """The block storage service has made a volume (the event's tag) larger: the guest that has it will see that."""

    def work(tx: Connection) -> str | None:
        instance = instances.get_many(tx, [event.instance_uuid]).get(event.instance_uuid)
        if instance is None or instance.host is None:
            return None
        device = of_volume(instance.block_devices, event.tag or "")
        if device is None:
            log.info("a volume has grown that is not the instance's", extra=about(ctx, instance=instance.uuid))
            return None
        now, own = means.now(), on_behalf_of(means, instance)
        actions.start(tx, own, instance.uuid, Kind.EXTEND_VOLUME.value, now)
        operations.insert(
            tx,
            own,
            instance_uuid=instance.uuid,
            kind=Kind.EXTEND_VOLUME,
            host=instance.host,
            now=now,
            deadline=now + timedelta(seconds=EXTEND_SECONDS),
            arguments={"device": device.uuid},
        )
        return instance.host

    host = means.db.run(work)
    if host is not None:
        means.wake(ctx, host)


def _after_fault(operation: Operation, held: tuple[BlockDevice, ...]) -> tuple[BlockDevice, ...]:
    wanted = operation.arguments.get("device")
    if operation.kind is Kind.ATTACH_VOLUME:
        return tuple(device for device in held if device.uuid != wanted)
    return tuple(replace(device, detaching=False) if device.uuid == wanted else device for device in held)
