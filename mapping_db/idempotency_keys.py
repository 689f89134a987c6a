"""Rows of `idempotency_keys`: requests that must not be done twice, and the answer to the first of each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from mapping_db.schema import idempotency_keys as table


@dataclass(frozen=True, slots=True)
class Kept:
    """The row of a key. `status` None: its first request has not been answered."""

    fingerprint: str
    status: int | None
    answer: str | None


def begin(tx: Connection, digest: str, fingerprint: str, *, now: datetime, expires_at: datetime) -> Kept | None:
    """Record the key, or return the row of its first request; None: the caller is the first, and goes on. The row's
    insert decides."""
    tx.execute(delete(table).where(table.c.digest == digest, table.c.expires_at <= now))
    values = {"digest": digest, "fingerprint": fingerprint, "created_at": now, "expires_at": expires_at}
    try:
        with tx.begin_nested():
            tx.execute(insert(table).values(**values))
    except IntegrityError:
        row = tx.execute(select(table).where(table.c.digest == digest)).one()
        return Kept(row.fingerprint, row.status, row.answer)
    return None


def finish(tx: Connection, digest: str, status: int, answer: str) -> None:
    """Store the answer; requests with the key get it from now on."""
    tx.execute(update(table).where(table.c.digest == digest).values(status=status, answer=answer))


def forget(tx: Connection, digest: str) -> None:
    """Remove the key of a request that did nothing, so that it may be used again."""
    tx.execute(delete(table).where(table.c.digest == digest, table.c.status.is_(None)))


def purge(tx: Connection, now: datetime) -> int:
    """Remove keys that have expired. Returns how many."""
    return tx.execute(delete(table).where(table.c.expires_at <= now)).rowcount
