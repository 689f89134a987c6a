"""Rows of `idempotency_keys`: requests that must not be done twice, and how the first of them was answered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from mapping_db.schema import idempotency_keys as table


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of a key. `status` None: its first request has not been answered."""

    fingerprint: str
    status: int | None
    answer: str | None


def begin(tx: Connection, digest: str, fingerprint: str, *, now: datetime, expires_at: datetime) -> Kept | None:
    """None: the caller is the first and goes on; else what is kept of the first. The row's insert decides."""
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
    """From now on the key answers so."""
    tx.execute(update(table).where(table.c.digest == digest).values(status=status, answer=answer))


def forget(tx: Connection, digest: str) -> None:
    """The request did nothing; the key may be used again."""
    tx.execute(delete(table).where(table.c.digest == digest, table.c.status.is_(None)))


def purge(tx: Connection, now: datetime) -> int:
    """How many keys were too old and are gone."""
    return tx.execute(delete(table).where(table.c.expires_at <= now)).rowcount
