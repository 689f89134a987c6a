"""The end of what a host does with an instance's volumes. The instance's state stays as it is."""

from __future__ import annotations

import logging
from dataclasses import replace

from sqlalchemy import Connection

from cell_service.conductor.means import EVENTS, Means, context_of
from cell_service.db import actions, instances, operations
from cell_service.errors import InstanceNotFound, PolycellError
from cell_service.logs import about
from cell_service.model.block_device import BlockDevice, merged
from cell_service.model.operation import Kind, Operation, Outcome, Phase

log = logging.getLogger(__name__)


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


def _after_fault(operation: Operation, held: tuple[BlockDevice, ...]) -> tuple[BlockDevice, ...]:
    wanted = operation.arguments.get("device")
    if operation.kind is Kind.ATTACH_VOLUME:
        return tuple(device for device in held if device.uuid != wanted)
    return tuple(replace(device, detaching=False) if device.uuid == wanted else device for device in held)
