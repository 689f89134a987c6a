"""Rows of `progress_marks`: where a long command or duty stopped, or how it ended, for its next run."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from mapping_db.schema import progress_marks


def get(tx: Connection, name: str) -> str | None:
    """The position where the command stopped; None when it has not begun, or has finished."""
    found: str | None = tx.scalar(select(progress_marks.c.position).where(progress_marks.c.name == name))
    return found


def put(tx: Connection, name: str, position: str, now: datetime) -> None:
    """Record that all before the position is done. Of two runs at once the last write counts: some work is repeated."""
    statement = update(progress_marks).where(progress_marks.c.name == name)
    if tx.execute(statement.values(position=position, updated_at=now)).rowcount:
        return
    try:
        with tx.begin_nested():
            tx.execute(insert(progress_marks).values(name=name, position=position, updated_at=now))
    except IntegrityError:  # another run was quicker
        tx.execute(statement.values(position=position, updated_at=now))


def clear(tx: Connection, name: str) -> None:
    """Remove the mark of a command that has finished; its next run starts over."""
    tx.execute(delete(progress_marks).where(progress_marks.c.name == name))
