"""A migration record: what the Compute API shows of one move of an instance (os-migrations, server migrations)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Migration:
    """One row of a cell's `migrations`. Types, statuses and the names of fields are nova's.

    `migration_type`: migration, resize, live-migration or evacuation. `hidden`: the row of the cell that does not own
    the instance. Totals in bytes, for live migrations under way.
    """

    id: int
    uuid: str
    instance_uuid: str
    migration_type: str
    status: str
    request_id: str
    user_id: str
    project_id: str
    created_at: datetime
    updated_at: datetime | None = None
    source_compute: str | None = None
    source_node: str | None = None
    dest_compute: str | None = None
    dest_node: str | None = None
    dest_host: str | None = None
    old_instance_type_id: int | None = None
    new_instance_type_id: int | None = None
    cross_cell_move: bool = False
    hidden: bool = False
    memory_total: int | None = None
    memory_processed: int | None = None
    memory_remaining: int | None = None
    disk_total: int | None = None
    disk_processed: int | None = None
    disk_remaining: int | None = None


@dataclass(frozen=True, slots=True)
class OutgoingMigration:
    """The progress of a guest's live migration to another host. Bytes."""

    memory_total: int
    memory_processed: int
    memory_remaining: int
    disk_total: int = 0
    disk_processed: int = 0
    disk_remaining: int = 0


ENDED = frozenset({"confirmed", "reverted", "error", "failed", "completed", "cancelled", "done"})
"""The statuses of migrations that have ended."""
EVACUATION = "evacuation"
LIVE = "live-migration"
RESIZE = "resize"
COLD = "migration"
