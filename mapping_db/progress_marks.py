"""Rows of `progress_marks`: where a long command stopped, so that the next run of it goes on there."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from mapping_db.schema import progress_marks


def get(tx: Connection, name: str) -> str | None:
    """None when the command has not begun, or came to its end."""
    found: str | None = tx.scalar(select(progress_marks.c.position).where(progress_marks.c.name == name))
    return found


def put(tx: Connection, name: str, position: str, now: datetime) -> None:
    """All before the position is done. Of two runs at once the last one to say so counts; that costs only work."""
    statement = update(progress_marks).where(progress_marks.c.name == name)
    if tx.execute(statement.values(position=position, updated_at=now)).rowcount:
        return
    try:
        with tx.begin_nested():
            tx.execute(insert(progress_marks).values(name=name, position=position, updated_at=now))
    except IntegrityError:  # another run was quicker
        tx.execute(statement.values(position=position, updated_at=now))


def clear(tx: Connection, name: str) -> None:
    """The command came to its end; the next run starts over."""
    tx.execute(delete(progress_marks).where(progress_marks.c.name == name))
