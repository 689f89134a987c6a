"""Live migrations under way: how far they are, aborting one, forcing one to complete."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace

from api_cell.caller import Caller
from api_cell.servers import act, find
from api_cell.servers.moves import kinds, request
from api_cell.services import Services
from cell_service.context import Context, Deadline
from cell_service.db import server_migrations
from cell_service.errors import (
    HostUnavailable,
    InstanceInvalidState,
    InvalidMigrationState,
    MigrationNotFoundForServer,
    NoConsumer,
    PolycellError,
    Unavailable,
)
from cell_service.logs import about
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import Task
from cell_service.model.migration import ENDED, LIVE, Migration
from mapping_db import moves
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud

log = logging.getLogger(__name__)

RUNNING = "running"
WAITING = frozenset({"queued", "preparing"})
ASK_SECONDS = 2.0


def with_progress(cloud: Cloud, ctx: Context, cell: Cell, migration: Migration) -> Migration:
    """The migration with the progress that its source host reports now; as it is recorded when that host does not
    answer."""
    if migration.status != RUNNING or migration.source_compute is None:
        return migration
    ctx = ctx.until(Deadline.after(min(ASK_SECONDS, ctx.deadline.remaining()), cloud.clock))
    try:
        found = cell.compute(migration.source_compute).get_sending(ctx, migration.instance_uuid)
    except PolycellError as error:
        log.info("no progress known", extra=about(ctx, instance=migration.instance_uuid, reason=error))
        return migration
    return migration if found is None else replace(migration, **asdict(found))


def abort(cloud: Cloud, services: Services, caller: Caller, server_id: str, migration_id: str, *, queued: bool) -> None:
    """Abort the migration, so that the server stays where it is. The move's row decides: once the guest has been sent
    it is too late.

    `queued`: a migration that has not begun to send can be aborted too (2.65).

    Raises InstanceNotFound, InstanceIsLocked, InstanceInvalidState, MigrationNotFoundForServer, InvalidMigrationState.
    """
    instance, cell, migration = _under_way(cloud, caller, server_id, migration_id, "servers:migrations:delete", "abort")
    abortable = {RUNNING, *WAITING} if queued else {RUNNING}
    if migration.status not in abortable:
        raise _wrong(migration, "abort")
    now, last = cloud.clock.now(), kinds.LIVE_MIGRATION.can_abort_before
    move = cloud.db.run(lambda tx: moves.cancel(tx, migration.uuid, now, before=last))
    if move is None:
        raise _wrong(migration, "abort")
    log.info("live migration aborted", extra=about(caller.ctx, instance=instance.uuid, move=move.uuid))
    try:
        cell.compute(move.source_host or "").steer_sending(caller.ctx, instance.uuid, False)
    except PolycellError as error:
        log.info(
            "host not informed, it comes to its end", extra=about(caller.ctx, instance=instance.uuid, reason=error)
        )
    request.wake(caller.ctx, services.superconductor, move.uuid)


def force_complete(cloud: Cloud, caller: Caller, server_id: str, migration_id: str) -> None:
    """Force the migration to complete: the guest is at its destination as soon as that can be. Raises like `abort`, and
    HostUnavailable."""
    rule, verb = "servers:migrations:force_complete", "force_complete"
    instance, cell, migration = _under_way(cloud, caller, server_id, migration_id, rule, verb)
    if migration.status != RUNNING or migration.source_compute is None:
        raise _wrong(migration, verb)
    try:
        begun = cell.compute(migration.source_compute).steer_sending(caller.ctx, instance.uuid, True)
    except (NoConsumer, Unavailable):
        raise HostUnavailable(host=migration.source_compute) from None
    if not begun:
        raise _wrong(migration, verb)
    extra = about(caller.ctx, instance=instance.uuid, migration=migration.uuid)
    log.info("live migration forced to complete", extra=extra)


def _under_way(
    cloud: Cloud, caller: Caller, server_id: str, migration_id: str, rule: str, verb: str
) -> tuple[Instance, Cell, Migration]:
    found = find.server(cloud, caller.ctx, server_id)
    instance, cell = found.instance, found.cell
    caller.demand(f"os_compute_api:{rule}", find.target(instance))
    act.demand_unlocked(caller.ctx, instance)
    if cell is None:
        raise MigrationNotFoundForServer(migration_id=migration_id, instance_uuid=server_id)
    with cell.db.connect(caller.ctx.deadline) as tx:
        every = server_migrations.of_instance(tx, server_id)
    migration = next((each for each in every if str(each.id) == migration_id), None)
    if migration is None:
        raise MigrationNotFoundForServer(migration_id=migration_id, instance_uuid=server_id)
    if migration.migration_type != LIVE or migration.status in ENDED:
        raise _wrong(migration, verb)
    if instance.task_state is not Task.MIGRATING:
        raise InstanceInvalidState(
            action=verb, instance_uuid=server_id, attribute="task_state", state=str(instance.task_state)
        )
    return instance, cell, migration


def _wrong(migration: Migration, verb: str) -> InvalidMigrationState:
    return InvalidMigrationState(
        migration_id=migration.id, instance_uuid=migration.instance_uuid, state=migration.status, verb=verb
    )
