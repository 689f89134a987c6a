"""The global side of a cloud in memory, for tests of a part that needs little of it."""

from __future__ import annotations

from typing import Any, cast

from cell_service.context import SYSTEM_CLOCK, Clock
from cell_service.db.sql.engine import Database
from cell_service.rpc.memory import Bus, MemoryTransport
from mapping_db.cells.registry import Cells
from mapping_db.cloud import Cloud
from mapping_db.locating.locator import Locator


def cloud_in_memory(
    db: Database, cells: Cells | None = None, clock: Clock = SYSTEM_CLOCK, locator: Locator | None = None
) -> Cloud:  # fmt: skip
    """With a queue of its own, on which no process serves. Without `cells` it is for global tables only."""
    return Cloud(db, MemoryTransport(Bus()), cells or cast(Any, None), locator or Locator(db), clock)
