"""Super-conductors write the mappings of new hosts: cells know which of their nodes are not mapped yet."""

from __future__ import annotations

import logging

from api_cell.superconductor.context import SuperConductorContext
from cell_service.context import internal
from cell_service.db import compute_nodes
from cell_service.errors import Unavailable
from cell_service.model.host import ComputeNode
from mapping_db import host_mappings
from mapping_db.cells.registry import Cell

log = logging.getLogger(__name__)


def discover(deps: SuperConductorContext) -> int:
    """Map the hosts that cells report as new. Answers how many there were."""
    ctx = internal(deps.cloud.clock, seconds=10)

    def scan(cell: Cell) -> list[ComputeNode]:
        with cell.db.connect(ctx.deadline) as tx:
            return compute_nodes.unmapped(tx)

    cell_ids = [mapping.id for mapping in deps.cloud.cells.all() if not mapping.is_cell0]
    found = 0
    for cell_id, nodes in deps.cloud.cells.scatter(cell_ids, scan, ctx.deadline).answers.items():
        if nodes:
            found += _map(deps, deps.cloud.cells.open(cell_id), nodes)
    if found:
        deps.scheduler.refresh(ctx)
    return found


def _map(deps: SuperConductorContext, cell: Cell, nodes: list[ComputeNode]) -> int:
    now, hosts, uuids = deps.cloud.clock.now(), {node.host for node in nodes}, [node.report.uuid for node in nodes]
    mapped = deps.cloud.db.run(lambda tx: host_mappings.insert_missing(tx, cell.mapping.id, hosts, now))
    for host in mapped:
        log.info("host discovered", extra={"about": {"host": host, "cell": cell.name}})
    try:
        cell.db.run(lambda tx: compute_nodes.set_mapped(tx, uuids), internal(deps.cloud.clock, seconds=10).deadline)
    except Unavailable as error:
        log.warning("cell not informed of its mapped hosts", extra={"about": {"cell": cell.name, "reason": str(error)}})
    return len(mapped)
