"""The release of an instance by its move: after that another move may be requested."""

from __future__ import annotations

from sqlalchemy import Connection

from api_cell.servers.moves import quota
from api_cell.superconductor.moves.step_context import StepContext
from cell_service.model.move import MovePhase
from mapping_db import moves


def release_instance(context: StepContext) -> bool:
    """Release the instance: another move of it may be requested as soon as its state allows that, which the next step
    shows; the quota is right by then. This happens once, since the instance may have another move afterwards: the
    release is recorded in the same transaction."""
    move, now = context.move, context.deps.cloud.clock.now()

    def work(tx: Connection) -> moves.Move:
        quota.settle(tx, move, keeps_new=move.phase is MovePhase.CONFIRMING)
        return moves.record(tx, move, now, active=None, plan=context.plan_when_done)

    context.move = context.deps.cloud.db.run(work)
    return True
