"""The changes that a move makes in the cells' tables of instances, each in one transaction of one cell.

The instance's own row decides: it is changed only while its task is one of a move's. A row whose task is `deleting`, or
that is deleted, is superseded by its delete. A migration that has ended refuses a super-conductor that comes late,
after a pause in which another one has brought the move to its end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from api_cell.servers.moves import request
from api_cell.superconductor.moves.step_context import StepContext, StepFailed, Superseded
from cell_service.db import actions, instance_bundles, instances, server_migrations
from cell_service.errors import InstanceNotFound, OperationLost
from cell_service.model.block_device import merged
from cell_service.model.instance import Fault, Instance
from cell_service.model.lifecycle import MOVING, PowerState, Task, VmState
from cell_service.model.migration import ENDED
from cell_service.model.move import MovePhase
from cell_service.model.operation import Outcome
from mapping_db.cells.registry import Cell
from mapping_db.moves import Move

_ARRIVED = "finished"
_RUNNING_AFTER = {VmState.ERROR: VmState.ACTIVE, VmState.RESIZED: VmState.ACTIVE}


def living(tx: Connection, uuid: str) -> Instance:
    """The instance. Raises Superseded when it is being deleted, or gone."""
    try:
        instance = instances.get(tx, uuid)
    except InstanceNotFound:
        raise Superseded from None
    if instance.task_state is Task.DELETING:
        raise Superseded
    return instance


def show(context: StepContext, cell: Cell, task: Task, status: str) -> None:
    """Show on the instance and its migration how far the move is. Raises Superseded; StepFailed after a state reset."""
    uuid, now = context.move.instance_uuid, context.deps.cloud.clock.now()

    def work(tx: Connection) -> None:
        instance = living(tx, uuid)
        _demand_under_way(tx, context)
        if instance.task_state not in MOVING:
            raise StepFailed("The move was given up by an administrator.")
        if instance.task_state is not task:
            instances.change(tx, uuid, now=now, expect=instance.state, task_state=task)
        _store_migration(tx, context, status)

    cell.db.run(work, context.ctx.deadline)


def copy(context: StepContext, *, back: bool = False, freeze: bool = False) -> None:
    """Copy the instance from its own cell to the other, hidden; with `freeze` the row here is hidden first, and does
    not change any more."""
    here, there = (context.target, context.source) if back else (context.source, context.target)
    uuid, deadline, now = context.move.instance_uuid, context.ctx.deadline, context.deps.cloud.clock.now()

    def take(tx: Connection) -> list[instance_bundles.InstanceBundle]:
        if freeze:
            instances.lock_row(tx, uuid)
        living(tx, uuid)
        _demand_under_way(tx, context)
        if freeze:
            instances.change(tx, uuid, now=now, hidden=True)
        return instance_bundles.read(tx, [uuid], operations=False)

    bundles = here.db.run(take, deadline)
    changes = _as_before(context) if back else _as_after(context)
    there.db.run(lambda tx: instance_bundles.write(tx, bundles, hidden=True, changes=changes), deadline)


def reopen(context: StepContext, cell: Cell, other: Cell | None) -> None:
    """Show the instance's row in this cell, so that it may be changed again; the other cell's row stays hidden."""
    uuid, deadline = context.move.instance_uuid, context.ctx.deadline
    cell.db.run(lambda tx: instance_bundles.set_hidden(tx, [uuid], False), deadline)
    if other is not None:
        other.db.run(lambda tx: instance_bundles.set_hidden(tx, [uuid], True), deadline)


def hand_over_here(context: StepContext) -> bool:
    """Within a cell: make the instance the destination's. False: it was so already. Raises Superseded, StepFailed."""
    move, now = context.move, context.deps.cloud.clock.now()

    def work(tx: Connection) -> bool:
        instance = living(tx, move.instance_uuid)
        _demand_under_way(tx, context)
        after = _as_after(context)
        if instance.host == move.target_host and instance.flavor == after.get("flavor", instance.flavor):
            return False
        if instance.task_state not in MOVING:
            raise StepFailed("The move was given up by an administrator.")
        return instances.change(tx, instance.uuid, now=now, expect=instance.state, **after)

    return context.source.db.run(work, context.ctx.deadline)


def hand_back_here(context: StepContext) -> None:
    """Within a cell: make the instance the source's again, as it was."""
    move, now = context.move, context.deps.cloud.clock.now()

    def work(tx: Connection) -> None:
        living(tx, move.instance_uuid)
        _demand_under_way(tx, context)
        instances.change(tx, move.instance_uuid, now=now, **_as_before(context))

    context.source.db.run(work, context.ctx.deadline)


def take_over(context: StepContext, cell: Cell, outcome: Outcome) -> None:
    """Store in the instance what the host found of the guest that it started."""
    found: dict[str, Any] = {}
    if outcome.power_state is not None:
        found["power_state"] = outcome.power_state
    if outcome.network_info is not None:
        found["network_info"] = outcome.network_info
    now, uuid = context.deps.cloud.clock.now(), context.move.instance_uuid

    def work(tx: Connection) -> None:
        if outcome.devices:
            instances.lock_row(tx, uuid)
            known = instances.get_many(tx, [uuid])
            if uuid in known:
                found["block_devices"] = merged(known[uuid].block_devices, outcome.devices)
        instances.change(tx, uuid, now=now, **found)

    if found or outcome.devices:
        cell.db.run(work, context.ctx.deadline)


Changes = Callable[[Instance], dict[str, Any]]
"""Columns of an instance that change with the end of a move."""


def finish(
    context: StepContext,
    cell: Cell,
    *,
    status: str,
    vm_state: VmState | None,
    fault: str = "",
    changes: Changes = lambda _instance: {},
) -> None:
    """End the move in the cell: the instance has no task any more; migration and action say how the move ended.
    `vm_state` None: by its guest.

    Done again, or after an administrator has reset the state: only the records. Of a move that is undone and was never
    begun they say that it failed: a worker that comes late to begin it finds them (see request.begin_in). Raises
    Superseded, and OperationLost when the move has ended, and `status` is not an end.
    """
    move, now = context.move, context.deps.cloud.clock.now()

    def work(tx: Connection) -> None:
        instances.lock_row(tx, move.instance_uuid)
        instance = living(tx, move.instance_uuid)
        if status not in ENDED:
            _demand_under_way(tx, context)
        _store_migration(tx, context, status)
        over = actions.is_over(tx, instance.uuid, move.request_id, context.plan.event_action)
        if over is None and move.phase is MovePhase.UNDOING:
            actions.start(tx, context.ctx, instance.uuid, context.plan.event_action, now)
            actions.finish(tx, instance.uuid, move.request_id, now, message=actions.ERROR)
        if over is not False:
            return
        actions.finish(tx, instance.uuid, move.request_id, now, message=actions.ERROR if fault else None)
        concerned = instance.task_state in MOVING or (
            instance.task_state is None and instance.vm_state is VmState.RESIZED and vm_state is not VmState.RESIZED
        )
        if not concerned:
            return
        columns: dict[str, Any] = {"vm_state": vm_state or _by_guest(instance), "task_state": None}
        columns |= changes(instance)
        if fault:
            details = context.plan.details if fault == context.plan.fault else ""
            columns["fault"] = Fault(code=context.plan.code, message=fault[:255], created_at=now, details=details)
        instances.change(tx, instance.uuid, now=now, expect=instance.state, **columns)

    cell.db.run(work, context.ctx.deadline)


def end_migration(context: StepContext, cell: Cell) -> None:
    """End the migration of an instance that is deleted meanwhile.

    If this move goes on from another one that has not informed the cell yet, the other one finds this one ended then.
    """
    move, now = context.move, context.deps.cloud.clock.now()

    def work(tx: Connection) -> None:
        instances.lock_row(tx, move.instance_uuid)
        known = {each.uuid: each.status for each in server_migrations.of_instance(tx, move.instance_uuid)}
        if move.uuid not in known:
            _store_migration(tx, context, "error")
        elif known[move.uuid] not in ENDED:
            arrived = known[move.uuid] == _ARRIVED
            server_migrations.change(tx, move.uuid, now, status="confirmed" if arrived else "error")

    cell.db.run(work, context.ctx.deadline)


def show_successor(context: StepContext, successor: Move) -> None:
    """Record that this move's migration has failed, and that the one of the move that goes on is under way: at no
    moment is there none."""
    now = context.deps.cloud.clock.now()

    def work(tx: Connection) -> None:
        instances.lock_row(tx, context.move.instance_uuid)
        known = {each.uuid: each for each in server_migrations.of_instance(tx, context.move.instance_uuid)}
        if context.move.uuid in known and successor.uuid not in known:
            status = known[context.move.uuid].status
            server_migrations.store(tx, request.migration_of(successor, "accepted" if status in ENDED else status))
        server_migrations.change(tx, context.move.uuid, now, status="error")

    context.source.db.run(work, context.ctx.deadline)


def begin_action(context: StepContext, cell: Cell, task: Task | None, status: str) -> None:
    """Show a confirm or revert in the server's history, and as its task. Raises Superseded."""
    move, now = context.move, context.deps.cloud.clock.now()

    def work(tx: Connection) -> None:
        instance = living(tx, move.instance_uuid)
        _demand_under_way(tx, context)
        actions.start(tx, context.ctx, instance.uuid, context.plan.event_action, now)
        if task is not None and instance.vm_state is VmState.RESIZED and instance.task_state is None:
            instances.change(tx, instance.uuid, now=now, expect=instance.state, task_state=task)
        _store_migration(tx, context, status)

    cell.db.run(work, context.ctx.deadline)


def _demand_under_way(tx: Connection, context: StepContext) -> None:
    """Raises OperationLost when another super-conductor has ended the move."""
    known = server_migrations.of_instance(tx, context.move.instance_uuid)
    if any(each.uuid == context.move.uuid and each.status in ENDED for each in known):
        raise OperationLost(operation_id=context.move.uuid, fence=context.move.fence)


def _by_guest(instance: Instance) -> VmState:
    return VmState.ACTIVE if instance.power_state is PowerState.RUNNING else VmState.STOPPED


def before(context: StepContext) -> VmState:
    """The vm_state that the instance came from."""
    return VmState(context.plan.before)


def after_move(context: StepContext) -> VmState:
    """The vm_state of an instance that is moved and needs no confirmation: its guest did not start with a fault."""
    if context.plan.fault:
        return VmState.ERROR
    return _RUNNING_AFTER.get(before(context), before(context))


def _store_migration(tx: Connection, context: StepContext, status: str) -> None:
    if context.kind.first_status:
        stored = request.migration_of(context.move, status)
        hidden = any(each.uuid == stored.uuid and each.hidden for each in
                     server_migrations.of_instance(tx, stored.instance_uuid))  # fmt: skip
        server_migrations.store(tx, stored)
        if hidden:
            server_migrations.change(tx, stored.uuid, context.deps.cloud.clock.now(), hidden=True)


def _as_after(context: StepContext) -> dict[str, Any]:
    move, plan = context.move, context.plan
    columns: dict[str, Any] = {"host": move.target_host, "node": plan.node}
    if plan.availability_zone:
        columns["availability_zone"] = plan.availability_zone
    if plan.new_flavor is not None:
        columns |= instances.flavor_columns(plan.new_flavor)
    return columns


def _as_before(context: StepContext) -> dict[str, Any]:
    move, plan = context.move, context.plan
    columns: dict[str, Any] = {"host": move.source_host, "node": plan.source_node}
    if plan.new_flavor is not None and plan.old_flavor is not None:
        columns |= instances.flavor_columns(plan.old_flavor)
    return columns
