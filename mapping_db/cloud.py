"""The cloud as the global side sees it: one value that handlers, scheduler, super-conductor and CLI get."""

from __future__ import annotations

from dataclasses import dataclass

from cell_service.context import Clock
from cell_service.db.sql.engine import Database
from cell_service.rpc.transport import Transport
from mapping_db.cells.registry import Cells
from mapping_db.locating.locator import Locator


@dataclass(frozen=True, slots=True)
class Cloud:
    """`db` is the global database, `bus` the queue that super-conductors listen on, `cells` opens cells,
    `locator` finds the cell of an instance."""

    db: Database
    bus: Transport
    cells: Cells
    locator: Locator
    clock: Clock
