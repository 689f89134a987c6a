"""Shelved instances leave their hosts.

Order: 1. the guest is gone and the ports are bound to no host (the host; for a host that is down nobody: it destroys
what it finds when it is back); 2. allocations are released over HTTP; 3. the instance has no host any more, with the
end of the operation. Once begun it does not give up, unless the image is not there.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from cell_service.conductor.context import EVENTS, ConductorContext, context_of, on_behalf_of
from cell_service.context import Context
from cell_service.db import actions, instances, operations
from cell_service.errors import Conflict, ImageNotFound, OperationLost, PeerUnavailable
from cell_service.logs import about
from cell_service.model import lifecycle, shelved
from cell_service.model.block_device import BlockDevice, merged
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import PowerState, State, Task, VmState
from cell_service.model.operation import Kind, Operation, Phase

log = logging.getLogger(__name__)

NEVER = timedelta(days=3650)
RETRY = timedelta(hours=1)
"""How long a shelved instance that could not leave its host is left alone."""


def after_shelving(tx: Connection, deps: ConductorContext, operation: Operation, instance: Instance) -> dict[str, Any]:
    """What becomes of an instance whose image is made: it stays, or goes on to leave its host at once."""
    now, image_id = deps.now(), str(operation.arguments.get("image") or "")
    known = shelved.done(instance.system_metadata, image_id, operation.host, now)
    changes: dict[str, Any] = {"system_metadata": known, "vm_state": VmState.SHELVED, "task_state": None}
    if leaves_at_once(deps):
        changes["task_state"] = Task.SHELVING_OFFLOADING
        order(tx, context_of(operation, deps.clock), instance, now)
    return changes


def leaves_at_once(deps: ConductorContext) -> bool:
    return deps.settings.shelved_offload_seconds == 0


def order(tx: Connection, ctx: Context, instance: Instance, now: datetime) -> None:
    """The host is asked to let go of the guest, however long that takes."""
    operations.insert(
        tx,
        ctx,
        instance_uuid=instance.uuid,
        kind=Kind.SHELVE_OFFLOAD,
        host=instance.host,
        now=now,
        deadline=now + NEVER,
    )


def host_is_through(deps: ConductorContext, operation: Operation, devices: tuple[BlockDevice, ...] = ()) -> None:
    """The host has removed the guest; `devices` are its volumes as they are now. Raises OperationLost."""
    ctx = context_of(operation, deps.clock)
    try:
        if deps.placement is not None:
            deps.placement.release(ctx, operation.instance_uuid)
    except PeerUnavailable as error:
        deps.db.run(lambda tx: operations.hand_over(tx, operation.id, operation.fence))
        log.warning("allocations not released yet", extra=about(ctx, instance=operation.instance_uuid, reason=error))
        return
    _conclude(deps, operation, devices)


def do_here(deps: ConductorContext, operation: Operation) -> None:
    """Without the host. Raises Conflict when the image is not there, OperationLost, PeerUnavailable (to be tried
    again)."""
    ctx, uuid = context_of(operation, deps.clock), operation.instance_uuid
    with deps.db.connect() as tx:
        instance = instances.get(tx, uuid)
    image_id = shelved.image_of(instance.system_metadata)
    if not instance.volume_backed and not _is_active(deps, ctx, image_id):
        raise Conflict(reason="The shelved server's image is not there.")
    if deps.networks is not None:
        deps.networks.unbind(ctx, uuid)
    if deps.placement is not None:
        deps.placement.release(ctx, uuid)
    _conclude(deps, operation, without_host=True)


def offload_late(deps: ConductorContext) -> int:
    """Those that have been shelved for longer than the configured time begin to leave. Answers how many."""
    seconds, now = deps.settings.shelved_offload_seconds, deps.now()
    if seconds < 0:
        return 0
    with deps.db.connect() as tx:
        there = instances.shelved_on_hosts(tx)
    late = [each for each in there if _is_late(each, now, timedelta(seconds=seconds))]
    return sum(deps.db.run(lambda tx, one=each: _begin(tx, deps, one)) for each in late)  # type: ignore[misc]


def _is_late(instance: Instance, now: datetime, after: timedelta) -> bool:
    since = shelved.since(instance.system_metadata)
    if instance.fault is not None and since is not None and since < instance.fault.created_at > now - RETRY:
        return False
    return since is None or since + after <= now


def _begin(tx: Connection, deps: ConductorContext, instance: Instance) -> bool:
    now, task = deps.now(), lifecycle.RULES[Kind.SHELVE_OFFLOAD.value].task
    if not instances.change(tx, instance.uuid, now=now, expect=State(VmState.SHELVED), settled=True, task_state=task):
        return False
    ctx = on_behalf_of(deps, instance)
    actions.start(tx, ctx, instance.uuid, Kind.SHELVE_OFFLOAD.value, now)
    order(tx, ctx, instance, now)
    log.info("shelved instance leaves its host", extra=about(ctx, instance=instance.uuid, host=instance.host))
    return True


def _is_active(deps: ConductorContext, ctx: Context, image_id: str | None) -> bool:
    if image_id is None:
        return False
    if deps.images is None:
        return True
    try:
        return deps.images.get(ctx, image_id).status == "active"
    except ImageNotFound:
        return False


def _conclude(
    deps: ConductorContext, operation: Operation, devices: tuple[BlockDevice, ...] = (), *, without_host: bool = False
) -> None:
    """The instance has no host; what that one has not removed is owed. Raises OperationLost."""

    def work(tx: Connection) -> None:
        now = deps.now()
        operations.finish(tx, operation.id, operation.fence, Phase.DONE, now)
        instance = instances.get(tx, operation.instance_uuid)
        if without_host:
            ctx = context_of(operation, deps.clock)
            operations.owe(tx, ctx, instance_uuid=instance.uuid, host=instance.host, now=now)
        left = instances.change(
            tx,
            operation.instance_uuid,
            now=now,
            expect=State(VmState.SHELVED, Task.SHELVING_OFFLOADING),
            vm_state=VmState.SHELVED_OFFLOADED,
            task_state=None,
            power_state=PowerState.NOSTATE,
            host=None,
            node=None,
            block_devices=merged(instance.block_devices, devices),
        )
        if not left:
            raise OperationLost(operation_id=operation.id, fence=operation.fence)
        actions.finish_event(
            tx, operation.instance_uuid, operation.request_id, EVENTS[operation.kind], operation.host, now,
            result=actions.SUCCESS,
        )  # fmt: skip
        actions.finish(tx, operation.instance_uuid, operation.request_id, now)

    deps.db.run(work)
    ctx = context_of(operation, deps.clock)
    log.info("shelved instance has left its host", extra=about(ctx, instance=operation.instance_uuid))
