"""The counts of what `db archive_deleted_rows` and `db purge` would do; nothing is changed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from api_cell.superconductor.retention import BATCH, BATCH_SECONDS
from cell_service.context import Deadline
from cell_service.db import archive
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from mapping_db.locating import forgetting


@dataclass(frozen=True, slots=True)
class Preview:
    """Deleted servers, their rows in the cell, and rows of shadow tables."""

    servers: int
    rows: int
    shadow_rows: int


def archiving(cloud: Cloud, cell: Cell, *, before: datetime | None, most_rows: int | None, purge: bool) -> Preview:
    """The rows that archiving would take from the cell, up to about `most_rows`. With `purge` all shadow rows go with
    them. Raises CellUnavailable."""
    servers, rows, after_id = 0, 0, 0
    while most_rows is None or rows < most_rows:
        deadline = Deadline.after(BATCH_SECONDS, cloud.clock)
        with cell.db.connect(deadline) as tx:
            dead, last = archive.deleted(tx, before=before, after_id=after_id, limit=BATCH)
        if last is None:
            break
        after_id = last
        with cloud.db.connect() as tx:
            free = set(forgetting.forgettable(tx, [each.uuid for each in dead], cell.mapping.id))
        for each in dead:
            if most_rows is not None and rows and rows + each.rows > most_rows:
                return Preview(servers, rows, sum(archived(cloud, cell).values()) if purge else 0)
            if each.uuid in free:
                servers, rows = servers + 1, rows + each.rows
    return Preview(servers, rows, sum(archived(cloud, cell).values()) if purge else 0)


def archived(cloud: Cloud, cell: Cell, before: datetime | None = None) -> Counter[str]:
    """Rows of the cell's shadow tables that purging would remove. Raises CellUnavailable."""
    with cell.db.connect(Deadline.after(BATCH_SECONDS, cloud.clock)) as tx:
        return archive.archived(tx, before)
