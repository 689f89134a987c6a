"""The last steps: a resize is confirmed, what the other side has is removed. As in `steps`."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from api_cell.servers import move_quota
from api_cell.superconductor.moves import claims, errands, ownership, rows
from api_cell.superconductor.moves.turn import Turn
from cell_service.db import carry, operations
from cell_service.errors import StillNeeded
from cell_service.model.move import MoveKind, MovePhase
from mapping_db import moves


def begin_confirm(turn: Turn) -> bool:
    rows.begin_action(turn, turn.target, None, "confirming")
    return True


def settle_confirmed(turn: Turn) -> bool:
    rows.finish(turn, turn.target, status="confirmed", vm_state=None)
    return True


def let_go(turn: Turn) -> bool:
    """Another move of the instance may be asked for as soon as its state allows it, which the next step says; the quota
    is right by then. Once: after that step it is somebody else's."""
    move, now = turn.move, turn.means.cloud.clock.now()

    def work(tx: Connection) -> moves.Move:
        move_quota.settle(tx, move, keeps_new=move.phase is MovePhase.CONFIRMING)
        return moves.record(tx, move, now, active=None, plan=replace(move.plan, done=(*move.plan.done, "let_go")))

    turn.move = turn.means.cloud.db.run(work)
    return True


def open_for_delete(turn: Turn) -> bool:
    """Overtaken by a delete: the row of the cell that owns the instance can be deleted, and its migration has ended."""
    if turn.plan.home != "nowhere":
        return True
    turn.means.cloud.db.run(lambda tx: moves.unblock(tx, moves.next_uuid(turn.move)))
    owner = ownership.owner(turn)
    cells = (turn.source, turn.target) if turn.move.crosses else (turn.source,)
    mine = next((cell for cell in cells if owner is not None and owner.cell_id == cell.mapping.id), None)
    if mine is not None:
        if turn.move.crosses:
            rows.reopen(turn, mine, None)
        rows.end_migration(turn, mine)
    return True


def clear_source(turn: Turn) -> bool:
    if turn.plan.home == "source" or turn.move.kind is MoveKind.UNSHELVE:
        return True
    return turn.stays_on_host or errands.clear(turn, turn.source, turn.move.source_host, "clear_source")


def clear_target(turn: Turn) -> bool:
    if turn.plan.home == "target" or turn.move.target_host is None:
        return True
    return turn.stays_on_host or errands.clear(turn, turn.target, turn.move.target_host, "clear_target")


def release(turn: Turn) -> bool:
    claims.release(turn)
    return True


def forget(turn: Turn) -> bool:
    """The cell that does not own the instance has never heard of it; once nothing is to be done there any more, by
    another move or by a host that has something to remove."""
    if not turn.move.crosses:
        return True
    with turn.means.cloud.db.connect() as tx:
        others = [one for one in moves.of_instance(tx, turn.move.instance_uuid) if one.uuid != turn.move.uuid]
    cells = {turn.move.source_cell, turn.move.target_cell}
    if any(cells & {other.source_cell, other.target_cell} and other.id < turn.move.id for other in others):
        raise StillNeeded(instance_uuid=turn.move.instance_uuid)
    owner, home = ownership.owner(turn), turn.plan.home
    left = {"source": (turn.target,), "target": (turn.source,)}.get(home, (turn.source, turn.target))
    for cell in left:
        if owner is None or owner.cell_id != cell.mapping.id:
            cell.db.run(lambda tx: _forget_in(tx, turn.move.instance_uuid), turn.ctx.deadline)
    return True


def _forget_in(tx: Connection, uuid: str) -> None:
    if operations.is_owed(tx, uuid):
        raise StillNeeded(instance_uuid=uuid)
    carry.remove(tx, [uuid])
