"""Accepted deletes, finished by super-conductors: begun in cells that were down, and concluded in the global tables.

A mapping with `queued_for_delete` and without `gone` is the record. Its cell says how far it is.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import Connection

from api_cell.servers import delete
from api_cell.superconductor.context import SuperConductorContext
from cell_service.context import internal, new_request_id
from cell_service.db import instances
from cell_service.errors import InstanceNotFound, PolycellError, Unavailable
from cell_service.logs import about
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import Task
from mapping_db import build_requests, instance_mappings
from mapping_db.cells.registry import Cell
from mapping_db.instance_mappings import InstanceMapping

log = logging.getLogger(__name__)

BATCH = 500


def see_through(deps: SuperConductorContext) -> int:
    """Bring every accepted delete as far as its cell lets it. Answers how many are still under way."""
    waiting, after_id = 0, 0
    while True:
        with deps.cloud.db.connect() as tx:
            doomed = instance_mappings.doomed(tx, limit=BATCH, after_id=after_id)
        if not doomed:
            return waiting
        waiting += len(doomed) - _advance(deps, doomed)
        after_id = doomed[-1].id


def _advance(deps: SuperConductorContext, doomed: list[InstanceMapping]) -> int:
    """Answers how many of them are gone."""
    by_cell: dict[int, list[str]] = defaultdict(list)
    for mapping in doomed:
        if mapping.cell_id is not None:
            by_cell[mapping.cell_id].append(mapping.instance_uuid)
    ctx = internal(deps.cloud.clock, seconds=20)

    def scan(cell: Cell) -> dict[str, Instance]:
        with cell.db.connect(ctx.deadline) as tx:
            return instances.get_many(tx, by_cell[cell.mapping.id], deleted=True)

    gathered = deps.cloud.cells.scatter(by_cell, scan, ctx.deadline)
    by_uuid = {each.instance_uuid: each for each in doomed}
    gone = [each.instance_uuid for each in doomed if each.cell_id is None]
    for cell_id, known in gathered.answers.items():
        for uuid in by_cell[cell_id]:
            instance = known.get(uuid)
            if instance is None or instance.deleted_at is not None:
                gone.append(uuid)
            elif instance.task_state is not Task.DELETING:
                _begin(deps, deps.cloud.cells.open(cell_id), instance)
    concluded = 0
    if gone:
        concluded = deps.cloud.db.run(lambda tx: _conclude(tx, [by_uuid[uuid] for uuid in gone]))
        for uuid in gone:
            deps.cloud.locator.forget(uuid)
    return concluded


def _begin(deps: SuperConductorContext, cell: Cell, instance: Instance) -> None:
    ctx = deps.acting_for(new_request_id(), instance.user_id, instance.project_id)
    try:
        delete.begin_in(ctx, cell, instance.uuid, deps.cloud.clock.now(), deps.settings.service_down_seconds)
    except (Unavailable, InstanceNotFound) as error:
        log.info("delete waits", extra=about(ctx, instance=instance.uuid, cell=cell.name, reason=error))
    except PolycellError as error:
        log.warning("delete not begun", extra=about(ctx, instance=instance.uuid, cell=cell.name, reason=error))


def _conclude(tx: Connection, mappings: Sequence[InstanceMapping]) -> int:
    """Conclude the deletes in the global tables. Answers how many servers are gone. Those that wait for their
    super-conductor (the build request decides), and those that have passed to another cell since the old one was read,
    are left out."""
    waiting = build_requests.get_many(tx, [each.instance_uuid for each in mappings])
    epochs = {each.instance_uuid: each.epoch for each in mappings if each.instance_uuid not in waiting}
    gone = instance_mappings.lock_unmoved(tx, epochs)
    if gone:
        delete.forget(tx, *gone)
    return len(gone)
