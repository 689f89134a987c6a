"""Whose an instance is, by its mapping."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from api_cell.superconductor.moves.turn import Overtaken, Turn
from cell_service.errors import InstanceAlreadyMoved
from cell_service.model.move import MovePlan
from mapping_db import instance_mappings, moves
from mapping_db.cells import Cell
from mapping_db.instance_mappings import InstanceMapping
from mapping_db.locations import Location


def owner(turn: Turn) -> InstanceMapping | None:
    uuid = turn.move.instance_uuid
    with turn.means.cloud.db.connect() as tx:
        return instance_mappings.get_many(tx, [uuid]).get(uuid)


def hand_over(turn: Turn, source: int, target: Cell, name: str) -> None:
    """The mapping points at the target; with that the step is done."""
    cloud, move, now = turn.means.cloud, turn.move, turn.means.cloud.clock.now()

    def work(tx: Connection) -> tuple[moves.Move, InstanceMapping]:
        mapping = instance_mappings.hold(tx, move.instance_uuid)
        if mapping.queued_for_delete:
            raise Overtaken
        try:
            mapping = instance_mappings.move(tx, move.instance_uuid, source=source, target=target.mapping.id)
        except InstanceAlreadyMoved:
            if mapping.cell_id != target.mapping.id:
                raise
        plan: MovePlan = replace(turn.plan, done=(*turn.plan.done, name))
        return moves.record(tx, move, now, plan=plan), mapping

    turn.move, mapping = cloud.db.run(work)
    cloud.locator.remember(Location(move.instance_uuid, target.mapping.id, mapping.epoch, mapping.project_id))
