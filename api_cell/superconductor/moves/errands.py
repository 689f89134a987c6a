"""What hosts do for a move: operations in a cell, asked for once and waited for.

An errand is known by its key, so that who takes the move over finds the one that was asked for already; it carries
the fence of who asked, so that somebody who lost the move meanwhile can't ask for more.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from api_cell.servers import act
from api_cell.superconductor.moves import rows
from api_cell.superconductor.moves.turn import Failed, Turn
from cell_service import wire
from cell_service.db import instances, operations
from cell_service.errors import OperationLost
from cell_service.model.move import Errand
from cell_service.model.operation import ERRAND_OUTCOME, Kind, Operation, Outcome, Phase
from mapping_db.cells import Cell

SECONDS = 3600.0
NEVER = timedelta(days=3650)


def run(turn: Turn, cell: Cell, host: str, kind: Kind, arguments: dict[str, Any], key: str) -> Outcome | None:
    """The errand's outcome, perhaps with a fault; None while it is under way.

    Raises Overtaken when the instance is being deleted, Failed when an administrator has ended the errand.
    """
    if turn.plan.errand is None:
        turn.demand_lease()
        operation_id = cell.db.run(lambda tx: _ask(tx, turn, host, kind, arguments, key), turn.ctx.deadline)
        turn.note(errand=Errand(cell.mapping.id, operation_id))
        act.wake(turn.ctx, cell, host)
        return None
    errand = turn.plan.errand
    with cell.db.connect(turn.ctx.deadline) as tx:
        operation = operations.get(tx, errand.operation_id)
        if operation is not None and operation.phase in (Phase.OPEN, Phase.RUNNING):
            return None
        if operation is None or operation.phase is Phase.SUPERSEDED:
            if kind is Kind.MOVE_DROP:  # the cell has forgotten the instance, and with it the host
                return Outcome(errand.operation_id, 0)
            rows.living(tx, turn.move.instance_uuid)
    return _outcome(operation)


def _ask(tx: Connection, turn: Turn, host: str, kind: Kind, arguments: dict[str, Any], key: str) -> int:
    move, now = turn.move, turn.means.cloud.clock.now()
    instances.hold(tx, move.instance_uuid)  # two who ask at once ask one after the other
    if kind is not Kind.MOVE_DROP:
        rows.living(tx, move.instance_uuid)
    for asked in operations.of_instance(tx, move.instance_uuid):
        if asked.arguments.get("move") == move.uuid:
            if asked.arguments["fence"] > move.fence:
                raise OperationLost(operation_id=move.uuid, fence=move.fence)
            if asked.arguments["key"] == key:
                return asked.id
    return operations.insert(
        tx,
        turn.ctx,
        instance_uuid=move.instance_uuid,
        kind=kind,
        host=host,
        now=now,
        deadline=now + (NEVER if kind is Kind.MOVE_DROP else timedelta(seconds=SECONDS)),
        arguments={**arguments, "move": move.uuid, "fence": move.fence, "key": key},
    )


def _outcome(operation: Operation | None) -> Outcome:
    if operation is None or operation.phase is Phase.SUPERSEDED:
        raise Failed("The move was given up by an administrator.")
    plain = operation.arguments.get(ERRAND_OUTCOME)
    if plain is None:
        raise Failed("The host's answer is lost.")
    return wire.from_plain(Outcome, plain)
