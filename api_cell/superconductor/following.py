"""The global updates that cells have recorded are carried up where the process that recorded them could not do so."""

from __future__ import annotations

from api_cell.servers import global_records
from api_cell.superconductor.context import SuperConductorContext
from cell_service.context import internal
from cell_service.db import global_updates
from mapping_db.cells.registry import Cell

BATCH = 200


def follow(deps: SuperConductorContext) -> int:
    """Carry up what waits in the cells that answer. Answers of how many servers."""
    ctx = internal(deps.cloud.clock, seconds=20)

    def scan(cell: Cell) -> list[str]:
        with cell.db.connect(ctx.deadline) as tx:
            return global_updates.waiting(tx, BATCH)

    deps.cloud.db.ping()
    cell_ids = [mapping.id for mapping in deps.cloud.cells.all()]
    count = 0
    for cell_id, waiting in deps.cloud.cells.scatter(cell_ids, scan, ctx.deadline).answers.items():
        cell = deps.cloud.cells.open(cell_id)
        for uuid in waiting:
            if not global_records.carry_up(deps.cloud, ctx, cell, uuid):
                break
            count += 1
    return count
