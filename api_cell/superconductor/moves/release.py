"""The move releases its instance: after that another move may be requested."""

from __future__ import annotations

from sqlalchemy import Connection

from api_cell.servers.moves import quota
from api_cell.superconductor.moves.step_context import StepContext
from cell_service.model.move import MovePhase
from mapping_db import moves


def release_instance(context: StepContext) -> bool:
    """Another move of the instance may be requested as soon as its state allows it, which the next step says; the quota
    is right by then. Once, since after that step the instance may have another move: it is recorded with it."""
    move, now = context.move, context.deps.cloud.clock.now()

    def work(tx: Connection) -> moves.Move:
        quota.settle(tx, move, keeps_new=move.phase is MovePhase.CONFIRMING)
        return moves.record(tx, move, now, active=None, plan=context.plan_when_done)

    context.move = context.deps.cloud.db.run(work)
    return True
