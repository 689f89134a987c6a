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

from cell_service.conductor.means import EVENTS, Means, context_of, on_behalf_of
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


def after_shelving(tx: Connection, means: Means, operation: Operation, instance: Instance) -> dict[str, Any]:
    """What becomes of an instance whose image is made: it stays, or goes on to leave its host at once."""
    now, image_id = means.now(), str(operation.arguments.get("image") or "")
    known = shelved.done(instance.system_metadata, image_id, operation.host, now)
    changes: dict[str, Any] = {"system_metadata": known, "vm_state": VmState.SHELVED, "task_state": None}
    if leaves_at_once(means):
        changes["task_state"] = Task.SHELVING_OFFLOADING
        order(tx, context_of(operation, means.clock), instance, now)
    return changes


def leaves_at_once(means: Means) -> bool:
    return means.settings.shelved_offload_seconds == 0


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


def host_is_through(means: Means, operation: Operation, devices: tuple[BlockDevice, ...] = ()) -> None:
    """The host has removed the guest; `devices` are its volumes as they are now. Raises OperationLost."""
    ctx = context_of(operation, means.clock)
    try:
        if means.placement is not None:
            means.placement.release(ctx, operation.instance_uuid)
    except PeerUnavailable as error:
        means.db.run(lambda tx: operations.hand_over(tx, operation.id, operation.fence))
        log.warning("allocations not released yet", extra=about(ctx, instance=operation.instance_uuid, reason=error))
        return
    _conclude(means, operation, devices)


def do_here(means: Means, operation: Operation) -> None:
    """Without the host. Raises Conflict when the image is not there, OperationLost, PeerUnavailable (to be tried
    again)."""
    ctx, uuid = context_of(operation, means.clock), operation.instance_uuid
    with means.db.connect() as tx:
        instance = instances.get(tx, uuid)
    image_id = shelved.image_of(instance.system_metadata)
    if not instance.volume_backed and not _is_active(means, ctx, image_id):
        raise Conflict(reason="The shelved server's image is not there.")
    if means.networks is not None:
        means.networks.unbind(ctx, uuid)
    if means.placement is not None:
        means.placement.release(ctx, uuid)
    _conclude(means, operation, without_host=True)


def offload_late(means: Means) -> int:
    """Those that have been shelved for longer than the configured time begin to leave. Answers how many."""
    seconds, now = means.settings.shelved_offload_seconds, means.now()
    if seconds < 0:
        return 0
    with means.db.connect() as tx:
        there = instances.shelved_on_hosts(tx)
    late = [each for each in there if _is_late(each, now, timedelta(seconds=seconds))]
    return sum(means.db.run(lambda tx, one=each: _begin(tx, means, one)) for each in late)  # type: ignore[misc]


def _is_late(instance: Instance, now: datetime, after: timedelta) -> bool:
    since = shelved.since(instance.system_metadata)
    if instance.fault is not None and since is not None and since < instance.fault.created_at > now - RETRY:
        return False
    return since is None or since + after <= now


def _begin(tx: Connection, means: Means, instance: Instance) -> bool:
    now, task = means.now(), lifecycle.RULES[Kind.SHELVE_OFFLOAD.value].task
    if not instances.change(tx, instance.uuid, now=now, expect=State(VmState.SHELVED), settled=True, task_state=task):
        return False
    ctx = on_behalf_of(means, instance)
    actions.start(tx, ctx, instance.uuid, Kind.SHELVE_OFFLOAD.value, now)
    order(tx, ctx, instance, now)
    log.info("shelved instance leaves its host", extra=about(ctx, instance=instance.uuid, host=instance.host))
    return True


def _is_active(means: Means, ctx: Context, image_id: str | None) -> bool:
    if image_id is None:
        return False
    if means.images is None:
        return True
    try:
        return means.images.get(ctx, image_id).status == "active"
    except ImageNotFound:
        return False


def _conclude(
    means: Means, operation: Operation, devices: tuple[BlockDevice, ...] = (), *, without_host: bool = False
) -> None:
    """The instance has no host; what that one has not removed is owed. Raises OperationLost."""

    def work(tx: Connection) -> None:
        now = means.now()
        operations.finish(tx, operation.id, operation.fence, Phase.DONE, now)
        instance = instances.get(tx, operation.instance_uuid)
        if without_host:
            ctx = context_of(operation, means.clock)
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

    means.db.run(work)
    ctx = context_of(operation, means.clock)
    log.info("shelved instance has left its host", extra=about(ctx, instance=operation.instance_uuid))
