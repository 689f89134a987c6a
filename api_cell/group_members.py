"""Members of server groups that are deleted, though the global tables do not say so yet.

A deleted server leaves its group when a super-conductor concludes the delete, a moment after its cell has done it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from cell_service.context import Deadline
from cell_service.db import instances
from mapping_db import instance_mappings
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud


def departed(cloud: Cloud, deadline: Deadline, members: Collection[str]) -> frozenset[str]:
    """Those of the members that are deleted. While a cell does not answer, the servers that it owns are members."""
    with cloud.db.connect() as tx:
        mappings = instance_mappings.get_many(tx, members)
    found: set[str] = set()
    by_cell: dict[int, list[str]] = defaultdict(list)
    for mapping in mappings.values():
        if mapping.gone or (mapping.queued_for_delete and mapping.cell_id is None):
            found.add(mapping.instance_uuid)
        elif mapping.queued_for_delete and mapping.cell_id is not None:
            by_cell[mapping.cell_id].append(mapping.instance_uuid)

    def deleted(cell: Cell) -> list[str]:
        doomed = by_cell[cell.mapping.id]
        with cell.db.connect(deadline) as tx:
            known = instances.get_many(tx, doomed, deleted=True)
        return [uuid for uuid in doomed if uuid in known and known[uuid].deleted_at is not None]

    for uuids in cloud.cells.scatter(by_cell, deleted, deadline).answers.values():
        found.update(uuids)
    return frozenset(found)
