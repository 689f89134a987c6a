"""Removal of the remains on the side that does not have the instance in the end. The instance is free meanwhile; the
clean-up waits for a host or a cell that is down, and the move keeps its claim until then."""

from __future__ import annotations

from sqlalchemy import Connection

from api_cell.servers.moves import kinds
from api_cell.superconductor.moves import claims, host_tasks, ownership, rows
from api_cell.superconductor.moves.host_tasks import HostTask
from api_cell.superconductor.moves.recipe import Recipe, Step
from api_cell.superconductor.moves.step_context import StepContext
from cell_service.db import instance_bundles, operations
from cell_service.errors import StillNeeded
from cell_service.model.move import MovePhase, Owner
from cell_service.operations import host_tasks as declared_tasks
from mapping_db import moves

_CLEAR_TARGET = HostTask(declared_tasks.CLEAN_UP, "clear_target")


def open_for_delete(context: StepContext) -> bool:
    """After a delete, end the migration, and show the row of the cell that owns the instance, so that the row can be
    deleted."""
    if context.plan.final_owner is not Owner.NONE:
        return True
    context.deps.cloud.db.run(lambda tx: moves.unblock(tx, moves.next_uuid(context.move)))
    owner = ownership.owner(context)
    cells = (context.source, context.target) if context.move.crosses else (context.source,)
    mine = next((cell for cell in cells if owner is not None and owner.cell_id == cell.mapping.id), None)
    if mine is not None:
        if context.move.crosses:
            rows.reopen(context, mine, None)
        rows.end_migration(context, mine)
    return True


def clear_source(context: StepContext) -> bool:
    """Remove the guest from the source host, if the instance does not stay there. The event that shows this belongs to
    a confirmation."""
    if context.plan.final_owner is Owner.SOURCE or context.stays_on_host:
        return True
    event = "compute_confirm_resize" if context.plan.event_action == kinds.CONFIRM else None
    task = HostTask(declared_tasks.CLEAN_UP, "clear_source", event)
    return host_tasks.clear(context, context.source, context.move.source_host, task)


def clear_target(context: StepContext) -> bool:
    """Remove the guest from the destination host, if the instance does not stay there."""
    move = context.move
    if context.plan.final_owner is Owner.TARGET or context.stays_on_host or move.target_host is None:
        return True
    return host_tasks.clear(context, context.target, move.target_host, _CLEAR_TARGET)


def release_claim(context: StepContext) -> bool:
    """Release all that the move has claimed."""
    claims.release(context)
    return True


def forget(context: StepContext) -> bool:
    """Remove the instance's rows from the cell that does not own it. This waits for other moves there, and for hosts
    that have something to remove."""
    if not context.move.crosses:
        return True
    with context.deps.cloud.db.connect() as tx:
        others = [one for one in moves.of_instance(tx, context.move.instance_uuid) if one.uuid != context.move.uuid]
    cells = {context.move.source_cell, context.move.target_cell}
    if any(cells & {other.source_cell, other.target_cell} and other.id < context.move.id for other in others):
        raise StillNeeded(instance_uuid=context.move.instance_uuid)
    owner, sides = ownership.owner(context), {Owner.SOURCE: (context.target,), Owner.TARGET: (context.source,)}
    for cell in sides.get(context.plan.final_owner, (context.source, context.target)):
        if owner is None or owner.cell_id != cell.mapping.id:
            cell.db.run(lambda tx: _forget_in(tx, context.move.instance_uuid), context.ctx.deadline)
    return True


def _forget_in(tx: Connection, uuid: str) -> None:
    if operations.has_leftovers(tx, uuid):
        raise StillNeeded(instance_uuid=uuid)
    instance_bundles.remove(tx, [uuid])


CLEAN_UP = Recipe(
    steps=(
        Step("open_for_delete", open_for_delete),
        Step("clear_source", clear_source),
        Step("clear_target", clear_target),
        Step("release", release_claim),
        Step("forget", forget),
    ),
    after=MovePhase.DONE,
)
