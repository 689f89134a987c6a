"""The global tables' records of a server follow what has happened to it in its cell.

The cell's transaction records what they have to learn (`cell_service/db/global_updates.py`). The process that
made the change carries it up at once, else a super-conductor does: so clients get their answers while the global
database is away.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from sqlalchemy import Connection

from api_cell.servers import delete
from api_cell.servers.moves import request as move
from cell_service.context import Context
from cell_service.db import global_updates
from cell_service.db.global_updates import Change, DeleteAccepted, GlobalUpdate, Pinned, Reimaged, Renamed, StateReset
from cell_service.errors import InstanceMappingNotFound, Unavailable
from cell_service.logs import about
from mapping_db import instance_mappings, request_specs
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud

log = logging.getLogger(__name__)


def carry_up(cloud: Cloud, ctx: Context, cell: Cell, server_id: str) -> bool:
    """Carry up to the global tables what the cell has recorded for them of the server. False: later, since their
    database or the cell's does not answer."""

    def work(tx: Connection) -> list[int]:
        updates = _due(tx, ctx, cell, server_id)
        for each in updates:
            apply(cloud, tx, server_id, each.change)
        return [each.id for each in updates]

    try:
        done = cloud.db.run(work)
        if done:
            cell.db.run(lambda tx: global_updates.remove(tx, done), ctx.deadline)
    except Unavailable as error:
        log.info("global records follow later", extra=about(ctx, instance=server_id, cell=cell.name, reason=error))
        return False
    return True


def _due(tx: Connection, ctx: Context, cell: Cell, server_id: str) -> list[GlobalUpdate]:
    """The updates that the cell has recorded, if it owns the server. The mapping's row is locked first: of two workers
    that carry up at the same time the second reads what the first has left, so that nothing newer is overwritten.

    Another cell's rows of a server are copies, and go with the copy of the server.
    """
    try:
        mapping = instance_mappings.lock_row(tx, server_id)
    except InstanceMappingNotFound:
        mapping = None
    if mapping is not None and mapping.cell_id != cell.mapping.id:
        return []
    with cell.db.connect(ctx.deadline) as here:
        return global_updates.of_instance(here, server_id)


def apply(cloud: Cloud, tx: Connection, server_id: str, change: Change) -> None:
    """Apply the update to the global tables. Applied again, or for a server that they do not know any more: nothing
    changes."""
    match change:
        case Renamed(name):
            instance_mappings.rename(tx, server_id, name)
        case Pinned(zone):
            spec = request_specs.get(tx, server_id)
            if spec is not None:
                request_specs.replace(tx, replace(spec, availability_zone=zone))
        case Reimaged():
            _reimage(tx, server_id, change)
        case StateReset(user_id, project_id):
            move.confirm_waiting(tx, server_id, cloud.clock.now(), user_id, project_id)
        case DeleteAccepted():
            _delete(cloud, tx, server_id)


def _reimage(tx: Connection, server_id: str, image: Reimaged) -> None:
    spec = request_specs.get(tx, server_id)
    if spec is not None and spec.image_id != image.image_id:
        request_specs.replace(
            tx,
            replace(
                spec,
                image_id=image.image_id,
                image_properties=image.properties,
                image_min_ram_mib=image.min_ram_mib,
                image_min_disk_gib=image.min_disk_gib,
                image_disk_format=image.disk_format,
            ),
        )


def _delete(cloud: Cloud, tx: Connection, server_id: str) -> None:
    try:
        delete.promise(tx, server_id, cloud.clock.now())
    except InstanceMappingNotFound:
        log.info("a deleted server's mapping is gone already", extra=about(None, instance=server_id))
