"""The end of instances. A delete never gives up: what can't be done now is done later.

Order: 1. guest and ports are gone (the host, or for a host that is down nobody: it is owed to the instance, and done
when the host is back); 2. allocations are released over HTTP; 3. the instance is marked deleted with the end of the
operation.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import Connection

from cell_service.conductor.context import EVENTS, ConductorContext, context_of
from cell_service.context import Context
from cell_service.db import actions, instances, operations
from cell_service.errors import PeerUnavailable
from cell_service.logs import about
from cell_service.model import shelved
from cell_service.model.instance import Fault
from cell_service.model.operation import UNFINISHED_IMAGES, Operation, Phase
from cell_service.peers.volume_ends import forget_snapshots, let_go

log = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 300.0


def pause_seconds(attempt: int) -> float:
    """How long to leave something alone that has failed `attempt` times."""
    return min(LONGEST_PAUSE_SECONDS, float(2 << min(attempt, 10)))


def host_is_through(deps: ConductorContext, operation: Operation, fault: Fault | None, action_id: int | None) -> None:
    """The host has removed guest and ports, or could not (`fault`: it will be asked again). `action_id`: of the delete.
    Raises OperationLost."""
    ctx = context_of(operation, deps.clock)
    if fault is not None:
        deps.db.run(lambda tx: _postpone(tx, deps, operation, fault))
        log.warning(
            "delete failed, trying again later",
            extra=about(ctx, instance=operation.instance_uuid, host=operation.host, reason=fault.message),
        )
        return
    try:
        if deps.placement is not None:
            deps.placement.release(ctx, operation.instance_uuid)
    except PeerUnavailable as error:
        deps.db.run(lambda tx: operations.hand_over(tx, operation.id, operation.fence))
        log.warning("allocations not released yet", extra=about(ctx, instance=operation.instance_uuid, reason=error))
        return
    deps.db.run(lambda tx: _conclude(tx, deps, operation, action_id))
    log.info("instance deleted", extra=about(ctx, instance=operation.instance_uuid, host=operation.host))


def do_here(deps: ConductorContext, operation: Operation) -> None:
    """Delete an instance without its host. Raises OperationLost, PeerUnavailable (to be tried again)."""
    ctx = context_of(operation, deps.clock)
    if deps.networks is not None:
        deps.networks.deallocate(ctx, operation.instance_uuid)
    _remove_images(deps, ctx, operation)
    _let_go_of_volumes(deps, ctx, operation.instance_uuid)
    if deps.placement is not None:
        deps.placement.release(ctx, operation.instance_uuid)
    deps.db.run(lambda tx: _conclude_without_host(tx, deps, operation))
    log.info("instance deleted without its host", extra=about(ctx, instance=operation.instance_uuid))


def _let_go_of_volumes(deps: ConductorContext, ctx: Context, uuid: str) -> None:
    with deps.db.connect() as tx:
        found = instances.get_many(tx, [uuid], deleted=True)
    if uuid in found:
        let_go(deps.volumes, ctx, uuid, found[uuid].block_devices)


def _remove_images(deps: ConductorContext, ctx: Context, operation: Operation) -> None:
    """What a shelved instance was made into goes with it, and what was just being made of it."""
    uuid = operation.instance_uuid
    with deps.db.connect() as tx:
        found = instances.get_many(tx, [uuid], deleted=True)
    image_id = shelved.image_of(found[uuid].system_metadata) if uuid in found else None
    if deps.volumes is not None and uuid in found and found[uuid].volume_backed:
        for each in operation.arguments.get(UNFINISHED_IMAGES, ()):
            forget_snapshots(deps.volumes, replace(ctx, project_id=found[uuid].project_id), each)
    for each in (*operation.arguments.get(UNFINISHED_IMAGES, ()), *([image_id] if image_id is not None else [])):
        if deps.images is not None:
            deps.images.delete(ctx, each)


def _postpone(tx: Connection, deps: ConductorContext, operation: Operation, fault: Fault) -> None:
    until = deps.now() + timedelta(seconds=pause_seconds(operation.attempt))
    if operations.postpone(tx, operation.id, operation.fence, until):
        instances.change(tx, operation.instance_uuid, now=deps.now(), fault=fault)
        _end_event(tx, deps, operation, fault)


def _conclude_without_host(tx: Connection, deps: ConductorContext, operation: Operation) -> None:
    for instance in instances.get_many(tx, [operation.instance_uuid]).values():
        ctx = context_of(operation, deps.clock)
        operations.owe(tx, ctx, instance_uuid=instance.uuid, host=instance.host, now=deps.now())
    _conclude(tx, deps, operation, actions.action_id(tx, operation.instance_uuid, operation.request_id))


def _conclude(tx: Connection, deps: ConductorContext, operation: Operation, action_id: int | None) -> None:
    now = deps.now()
    operations.finish(tx, operation.id, operation.fence, Phase.DONE, now)
    instances.mark_deleted(tx, operation.instance_uuid, now)
    actions.end(tx, action_id, EVENTS[operation.kind], operation.host, now)


def _end_event(tx: Connection, deps: ConductorContext, operation: Operation, fault: Fault) -> None:
    actions.finish_event(
        tx,
        operation.instance_uuid,
        operation.request_id,
        EVENTS[operation.kind],
        operation.host,
        deps.now(),
        result=actions.ERROR,
        traceback=fault.details,
        details=fault.message,
    )
