"""The end of what a host does with an instance's volumes. The instance's state stays as it is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from cell_service.conductor.context import EVENTS, ConductorContext, context_of, on_behalf_of
from cell_service.context import Context
from cell_service.db import actions, instances, operations
from cell_service.errors import InstanceNotFound, Invalid, NotFound
from cell_service.logs import about
from cell_service.model.block_device import BlockDevice, merged, of_volume
from cell_service.model.events import ServerEvent
from cell_service.model.operation import SNAPSHOT_FAULTS, Kind, Operation, Outcome, Phase

log = logging.getLogger(__name__)

EXTEND_SECONDS = 600.0


def host_is_through(
    deps: ConductorContext,
    operation: Operation,
    outcome: Outcome,
    also: Callable[[Connection], None] = lambda _tx: None,
    begun_at: str | None = None,
) -> None:
    """The instance has the devices that the host says it has. A device that could not be attached is taken back: by
    the host, which may have begun. One that could not be detached is still there. Told before: nothing. `also` is
    done in the same transaction; `begun_at` is the host that may have begun what conductors have ended. Raises
    OperationLost."""
    fault, ctx = outcome.fault, context_of(operation, deps.clock)

    def work(tx: Connection) -> None:
        now = deps.now()
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
            if operation.kind is Kind.ATTACH_VOLUME and held:
                _take_back(tx, ctx, operation, now)
        if after != held:
            instances.change(tx, operation.instance_uuid, now=now, block_devices=after)
        actions.finish_event(
            tx, operation.instance_uuid, operation.request_id, EVENTS[operation.kind], operation.host or begun_at, now,
            result=actions.ERROR if fault else actions.SUCCESS,
            traceback=fault.details if fault else None, details=fault.message if fault else None,
        )  # fmt: skip
        also(tx)
        message = actions.ERROR if fault else None
        actions.finish(tx, operation.instance_uuid, operation.request_id, now, message=message)

    deps.db.run(work)
    if operation.host is not None and fault is not None:
        deps.wake(ctx, operation.host)
    words = {"kind": operation.kind.value, "fault": fault.message if fault else None}
    log.info("volume work ended", extra=about(ctx, instance=operation.instance_uuid, **words))


def tell_snapshot_failed(deps: ConductorContext, operation: Operation) -> None:
    """The block storage service knows that nothing came of it; it may have given the snapshot up already. Raises
    PeerUnavailable."""
    if deps.volumes is None:
        return
    ctx, snapshot_id = context_of(operation, deps.clock), str(operation.arguments["snapshot_id"])
    try:
        deps.volumes.report_snapshot(ctx, snapshot_id, SNAPSHOT_FAULTS[operation.kind])
    except (NotFound, Invalid) as error:
        log.info("snapshot given up before", extra=about(ctx, snapshot=snapshot_id, reason=error))


def extended(deps: ConductorContext, ctx: Context, event: ServerEvent) -> None:
    """The block storage service has made a volume (the event's tag) larger: the guest that has it will see that."""

    def work(tx: Connection) -> str | None:
        instance = instances.get_many(tx, [event.instance_uuid]).get(event.instance_uuid)
        if instance is None or instance.host is None:
            return None
        device = of_volume(instance.block_devices, event.tag or "")
        if device is None:
            log.info("a volume has grown that is not the instance's", extra=about(ctx, instance=instance.uuid))
            return None
        now, own = deps.now(), on_behalf_of(deps, instance)
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

    host = deps.db.run(work)
    if host is not None:
        deps.wake(ctx, host)


def _after_fault(operation: Operation, held: tuple[BlockDevice, ...]) -> tuple[BlockDevice, ...]:
    wanted = operation.arguments.get("device")
    leaves = operation.kind is Kind.ATTACH_VOLUME
    return tuple(replace(device, detaching=leaves) if device.uuid == wanted else device for device in held)


def _take_back(tx: Connection, ctx: Context, operation: Operation, now: datetime) -> None:
    operations.insert(
        tx,
        ctx,
        instance_uuid=operation.instance_uuid,
        kind=Kind.DETACH_VOLUME,
        host=operation.host,
        now=now,
        deadline=operations.NEVER,
        arguments={"device": operation.arguments.get("device")},
    )
