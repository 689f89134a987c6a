"""The last steps: a resize is confirmed, what the other side has is removed. As in `steps`."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from api_cell.servers.moves import quota as move_quota
from api_cell.superconductor.moves import claims, ownership, rows
from api_cell.superconductor.moves import host_work as errands
from api_cell.superconductor.moves.step_context import StepContext
from cell_service.db import instance_bundles as carry
from cell_service.db import operations
from cell_service.errors import StillNeeded
from cell_service.model.move import MoveKind, MovePhase
from mapping_db import moves


def begin_confirm(context: StepContext) -> bool:
    rows.begin_action(context, context.target, None, "confirming")
    return True


def settle_confirmed(context: StepContext) -> bool:
    rows.finish(context, context.target, status="confirmed", vm_state=None)
    return True


def let_go(context: StepContext) -> bool:
    """Another move of the instance may be asked for as soon as its state allows it, which the next step says; the quota
    is right by then. Once: after that step it is somebody else's."""
    move, now = context.move, context.deps.cloud.clock.now()

    def work(tx: Connection) -> moves.Move:
        move_quota.settle(tx, move, keeps_new=move.phase is MovePhase.CONFIRMING)
        return moves.record(tx, move, now, active=None, plan=replace(move.plan, done=(*move.plan.done, "let_go")))

    context.move = context.deps.cloud.db.run(work)
    return True


def open_for_delete(context: StepContext) -> bool:
    """Overtaken by a delete: the row of the cell that owns the instance can be deleted, and its migration has ended."""
    if context.plan.home != "nowhere":
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
    if context.plan.home == "source" or context.move.kind is MoveKind.UNSHELVE:
        return True
    return context.stays_on_host or errands.clear(context, context.source, context.move.source_host, "clear_source")


def clear_target(context: StepContext) -> bool:
    if context.plan.home == "target" or context.move.target_host is None:
        return True
    return context.stays_on_host or errands.clear(context, context.target, context.move.target_host, "clear_target")


def release(context: StepContext) -> bool:
    claims.release(context)
    return True


def forget(context: StepContext) -> bool:
    """The cell that does not own the instance has never heard of it; once nothing is to be done there any more, by
    another move or by a host that has something to remove."""
    if not context.move.crosses:
        return True
    with context.deps.cloud.db.connect() as tx:
        others = [one for one in moves.of_instance(tx, context.move.instance_uuid) if one.uuid != context.move.uuid]
    cells = {context.move.source_cell, context.move.target_cell}
    if any(cells & {other.source_cell, other.target_cell} and other.id < context.move.id for other in others):
        raise StillNeeded(instance_uuid=context.move.instance_uuid)
    owner, home = ownership.owner(context), context.plan.home
    left = {"source": (context.target,), "target": (context.source,)}.get(home, (context.source, context.target))
    for cell in left:
        if owner is None or owner.cell_id != cell.mapping.id:
            cell.db.run(lambda tx: _forget_in(tx, context.move.instance_uuid), context.ctx.deadline)
    return True


def _forget_in(tx: Connection, uuid: str) -> None:
    if operations.is_owed(tx, uuid):
        raise StillNeeded(instance_uuid=uuid)
    carry.remove(tx, [uuid])
