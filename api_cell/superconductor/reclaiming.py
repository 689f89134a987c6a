"""Soft-deleted servers whose time is over are deleted.

Order: 1. cell: the task is `deleting`, unless it was restored (the row decides); 2. global: the delete is accepted; 3.
cell: it is begun. Killed between any two: the next scan finds the row of step 1, and does the others again.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from api_cell.servers import delete, soft_delete
from api_cell.superconductor.context import SuperConductorContext
from cell_service.context import internal, new_request_id
from cell_service.db import instances
from cell_service.errors import InstanceMappingNotFound, InstanceNotFound, Unavailable
from cell_service.logs import about
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import State, Task, VmState
from mapping_db.cells.registry import Cell

log = logging.getLogger(__name__)


def reclaim(deps: SuperConductorContext) -> int:
    """Begin the delete of those that are late. Answers how many there were."""
    ctx, now = internal(deps.cloud.clock, seconds=20), deps.cloud.clock.now()
    before = now - timedelta(seconds=deps.settings.reclaim_seconds)

    def scan(cell: Cell) -> list[Instance]:
        with cell.db.connect(ctx.deadline) as tx:
            return instances.soft_deleted(tx)

    cell_ids = [mapping.id for mapping in deps.cloud.cells.all() if not mapping.is_cell0]
    count = 0
    for cell_id, found in deps.cloud.cells.scatter(cell_ids, scan, ctx.deadline).answers.items():
        cell = deps.cloud.cells.open(cell_id)
        for instance in found:
            if instance.task_state is Task.DELETING or soft_delete.since(instance) <= before:
                count += _reclaim(deps, cell, instance, now)
    return count


def _reclaim(deps: SuperConductorContext, cell: Cell, instance: Instance, now: datetime) -> bool:
    ctx = deps.acting_for(new_request_id(), instance.user_id, instance.project_id)
    uuid = instance.uuid
    try:
        if instance.task_state is None and not cell.db.run(
            lambda tx: instances.change(
                tx, uuid, now=now, expect=State(VmState.SOFT_DELETED), settled=True, task_state=Task.DELETING
            ),
            ctx.deadline,
        ):
            return False
        deps.cloud.db.run(lambda tx: delete.promise(tx, uuid, now))
        delete.begin_in(ctx, cell, uuid, now, deps.settings.service_down_seconds)
    except (Unavailable, InstanceNotFound, InstanceMappingNotFound) as error:
        log.warning("soft-deleted server not reclaimed", extra=about(ctx, instance=uuid, cell=cell.name, reason=error))
        return False
    log.info("soft-deleted server reclaimed", extra=about(ctx, instance=uuid, cell=cell.name))
    return True
