"""Which cell owns an instance: its mapping says so."""

from __future__ import annotations

from sqlalchemy import Connection

from api_cell.superconductor.moves.step_context import StepContext, Superseded
from cell_service.errors import InstanceAlreadyMoved
from mapping_db import instance_mappings, moves
from mapping_db.cells.registry import Cell
from mapping_db.instance_mappings import InstanceMapping
from mapping_db.locations import Location


def owner(context: StepContext) -> InstanceMapping | None:
    uuid = context.move.instance_uuid
    with context.deps.cloud.db.connect() as tx:
        return instance_mappings.get_many(tx, [uuid]).get(uuid)


def hand_over(context: StepContext, source: int, target: Cell) -> None:
    """Point the mapping at the target, and record the step under way. Raises Superseded after a delete."""
    cloud, move, now = context.deps.cloud, context.move, context.deps.cloud.clock.now()

    def work(tx: Connection) -> tuple[moves.Move, InstanceMapping]:
        mapping = instance_mappings.lock_row(tx, move.instance_uuid)
        if mapping.queued_for_delete:
            raise Superseded
        try:
            mapping = instance_mappings.move(tx, move.instance_uuid, source=source, target=target.mapping.id)
        except InstanceAlreadyMoved:
            if mapping.cell_id != target.mapping.id:
                raise
        return moves.record(tx, move, now, plan=context.plan_when_done), mapping

    context.move, mapping = cloud.db.run(work)
    cloud.locator.remember(Location(move.instance_uuid, target.mapping.id, mapping.epoch, mapping.project_id))
