"""Deleting servers. An accepted delete will be done, also when the server's cell does not answer now.

Order in a cell: 1. global: the mapping is marked, quota released, once; 2. cell: unfinished work is superseded, the
state is `deleting`, an operation is open for the host (or the conductors); 3. they are woken. Killed after 1, or the
cell down at 2: super-conductors go on from the marked mappings (superconductor.deletes). While the global database is
away 2 comes first, and records in the cell that 1 is to follow (global_records).
"""

from __future__ import annotations

import logging
from datetime import datetime

from sqlalchemy import Connection

from api_cell.caller import Caller
from api_cell.servers import act, find
from api_cell.servers.moves import request as move
from api_cell.services import Services
from cell_service.context import Context
from cell_service.db import actions, global_updates, instances, operations, services
from cell_service.db.global_updates import DeleteAccepted
from cell_service.errors import (
    CellUnavailable,
    Conflict,
    DatabaseUnavailable,
    InstanceInTransit,
    InstanceMappingNotFound,
    InstanceNotFound,
    ServiceNotFound,
    Unavailable,
)
from cell_service.logs import about
from cell_service.operations.deletes import DELETE, DeleteArguments
from cell_service.operations.images import unfinished_images
from cell_service.operations.rule import begin
from mapping_db import build_requests, class_usage, instance_mappings, moves, quotas, request_specs, server_groups
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from mapping_db.instance_mappings import InstanceMapping

log = logging.getLogger(__name__)

RULE = "os_compute_api:servers:delete"
ATTEMPTS = 10


def accept(cloud: Cloud, services: Services, caller: Caller, server_id: str, rule: str = RULE) -> None:
    """The server will be deleted.

    Raises InstanceNotFound, InstanceIsLocked, PolicyForbidden, DatabaseUnavailable when nothing that knows the server
    can record it.
    """
    try:
        found = find.server(cloud, caller.ctx, server_id)
    except CellUnavailable:
        _accept_unseen(cloud, caller, server_id, rule)
        return
    caller.demand(rule, find.target(found.instance))
    act.demand_unlocked(caller.ctx, found.instance)
    if found.cell is None:
        if cloud.db.run(lambda tx: _withdraw(tx, server_id, cloud.clock.now())):
            cloud.locator.forget(server_id)
            log.info("server withdrawn before it was placed", extra=about(caller.ctx, instance=server_id))
            return
        _notify_superconductor(services, caller.ctx, server_id)
        return
    try:
        cloud.db.run(lambda tx: promise(tx, server_id, cloud.clock.now()))
    except DatabaseUnavailable as error:
        begin_in(caller.ctx, found.cell, server_id, cloud.clock.now(), down_after(services), promised=False)
        log.warning("global tables learn of a delete later", extra=about(caller.ctx, instance=server_id, reason=error))
        return
    try:
        begin_in(caller.ctx, found.cell, server_id, cloud.clock.now(), down_after(services))
    except InstanceNotFound:
        log.info("server was deleted meanwhile", extra=about(caller.ctx, instance=server_id))
    except Unavailable as error:
        log.warning("delete not begun yet", extra=about(caller.ctx, instance=server_id, reason=error))
    _notify_superconductor(services, caller.ctx, server_id)


def down_after(services: Services) -> float:
    """Seconds without a heartbeat after which a host is down."""
    return float(services.settings.defaults.service_down_time)


def promise(tx: Connection, server_id: str, now: datetime) -> InstanceMapping:
    """Mark the mapping, release quota and end a resize that waits, once. Raises InstanceMappingNotFound."""
    first = instance_mappings.queue_for_delete(tx, server_id)
    mapping, spec = class_usage.leaving(tx, server_id)
    if first:
        active = moves.active_of(tx, server_id)
        used = {"instances": 1, "cores": mapping.vcpus, "ram": mapping.memory_mb}
        used |= class_usage.of_server(mapping, spec, active)
        quotas.release(tx, mapping.project_id, mapping.user_id, used)
        move.abandon(tx, active, now)
    return mapping


def forget(tx: Connection, *server_ids: str) -> None:
    """Delete all of the servers' global rows but their mappings, which are marked as deleted."""
    server_groups.leave(tx, server_ids)
    request_specs.remove(tx, server_ids)
    instance_mappings.mark_gone(tx, server_ids)


def begin_in(
    ctx: Context, cell: Cell, server_id: str, now: datetime, down_after_seconds: float, *, promised: bool = True
) -> None:
    """Begin the delete in the cell, unless it has begun, and wake its worker. `promised`: the global tables know of it.

    The delete does not wait for a host that is down: that destroys what it finds when it is back. A server of cell0 has
    nothing but its row, and is deleted at once. Raises CellUnavailable, InstanceNotFound (it is deleted already).
    """

    def work(tx: Connection) -> str | None:
        if cell.mapping.is_cell0:
            _end_in_cell0(tx, ctx, server_id, now)
            host = None
        else:
            host = _begin(tx, ctx, server_id, now, down_after_seconds)
        if not promised:
            global_updates.record(tx, server_id, DeleteAccepted(), now)
        return host

    host = cell.db.run(work, ctx.deadline)
    if cell.mapping.is_cell0:
        return
    log.info("delete begun", extra=about(ctx, instance=server_id, cell=cell.name, host=host))
    act.wake(ctx, cell, host)


def _begin(tx: Connection, ctx: Context, server_id: str, now: datetime, down_after_seconds: float) -> str | None:
    for _ in range(ATTEMPTS):
        instance = instances.get_locked(tx, server_id)
        if instance.hidden:
            raise InstanceInTransit(instance_uuid=server_id, retry_after=1)
        unfinished = operations.unfinished(tx, server_id)
        running = operations.of_kind(unfinished, DELETE)
        if running:
            return running[0].host
        after = begin(DELETE, instance.state, server_id)
        if instances.change(tx, server_id, now=now, expect=instance.state, task_state=after.task):
            host = awake(tx, instance.host, now, down_after_seconds)
            arguments = DeleteArguments(unfinished_images(unfinished) or None)
            if unfinished:
                operations.supersede(tx, server_id, now)
            actions.start(tx, ctx, server_id, DELETE.action, now)
            operations.insert(tx, operations.new_operation(DELETE, ctx, server_id, host, now, arguments))
            return host
    raise Conflict(reason=f"Instance {server_id} keeps changing its state.")


def _end_in_cell0(tx: Connection, ctx: Context, server_id: str, now: datetime) -> None:
    if not instances.mark_deleted(tx, server_id, now):
        raise InstanceNotFound(instance_id=server_id)
    actions.start(tx, ctx, server_id, "delete", now)
    actions.finish(tx, server_id, ctx.request_id, now)


def awake(tx: Connection, host: str | None, now: datetime, down_after_seconds: float) -> str | None:
    """The host, None when it is down or removed: then conductors do its work."""
    if host is None:
        return None
    try:
        service = services.by_host(tx, host, services.COMPUTE)
    except ServiceNotFound:
        return None
    return host if service.is_up(now, down_after_seconds) else None


def _withdraw(tx: Connection, server_id: str, now: datetime) -> bool:
    """End a server that is in no cell: True when nothing is left of it, False when a super-conductor must go on with
    it."""
    promise(tx, server_id, now)
    if build_requests.delete(tx, server_id, unselected=True):
        forget(tx, server_id)
        return True
    build_requests.request_delete(tx, server_id)
    return False


def _accept_unseen(cloud: Cloud, caller: Caller, server_id: str, rule: str) -> None:
    """The cell is down: its locks are unknown; the owner's delete is recorded and done when it is back."""

    def work(tx: Connection) -> InstanceMapping:
        mapping = instance_mappings.get(tx, server_id)
        find.demand_visible(caller.ctx, mapping.project_id, server_id)
        caller.demand(rule, {"project_id": mapping.project_id, "user_id": mapping.user_id})
        return promise(tx, server_id, cloud.clock.now())

    try:
        cloud.db.run(work)
    except InstanceMappingNotFound:
        raise InstanceNotFound(instance_id=server_id) from None
    log.warning("delete accepted for a cell that is down", extra=about(caller.ctx, instance=server_id))


def _notify_superconductor(services: Services, ctx: Context, server_id: str) -> None:
    try:
        services.superconductor.see_through_deletes(ctx, (server_id,))
    except Unavailable as error:
        log.warning("no super-conductor woken", extra=about(ctx, instance=server_id, reason=error))
