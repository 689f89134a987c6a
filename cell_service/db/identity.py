"""The row of `cell_identity`: to which cell the database belongs. The cell that writes it first has the database."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, insert, inspect, select, update
from sqlalchemy.exc import IntegrityError

from cell_service.db.schema import cell_identity


def stored(tx: Connection) -> str | None:
    """The uuid of the cell; None before a cell has claimed the database, and where the schema is too old."""
    if not inspect(tx).has_table(cell_identity.name):
        return None
    found: str | None = tx.scalar(select(cell_identity.c.cell_uuid).where(cell_identity.c.id == 1))
    return found


def claimed_at(tx: Connection) -> datetime | None:
    """Since when the cell has the database, which is also when it was last restored; None before that. Rows that are
    older were written when a database that this one was copied from was in use."""
    found: datetime | None = tx.scalar(select(cell_identity.c.claimed_at).where(cell_identity.c.id == 1))
    return found


def restored(tx: Connection, now: datetime) -> None:
    """The database has rows of an earlier time from now on."""
    tx.execute(update(cell_identity).where(cell_identity.c.id == 1).values(claimed_at=now))


def claim(tx: Connection, cell_uuid: str, now: datetime, *, before: str | None = None) -> str | None:
    """Claim the database for the cell, if no cell or `before` has it. Returns the cell that has it then; None: the
    schema is too old."""
    if not inspect(tx).has_table(cell_identity.name):
        return None
    try:
        with tx.begin_nested():
            tx.execute(insert(cell_identity).values(id=1, cell_uuid=cell_uuid, claimed_at=now))
    except IntegrityError:
        if before is not None:
            mine = cell_identity.c.cell_uuid == before
            tx.execute(update(cell_identity).where(mine).values(cell_uuid=cell_uuid, claimed_at=now))
    return stored(tx)


def release(tx: Connection, cell_uuid: str) -> None:
    """Release the database, if the cell has it."""
    if inspect(tx).has_table(cell_identity.name):
        tx.execute(delete(cell_identity).where(cell_identity.c.cell_uuid == cell_uuid))
