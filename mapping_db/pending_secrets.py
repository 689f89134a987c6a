"""Rows of `pending_secrets`: passwords that a move or a build request has still to send to a host, sealed.

A row is written in the transaction that records the move or build request, and removed when the host has the password,
or when the move or request ends.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from mapping_db.schema import pending_secrets


def store(tx: Connection, uuid: str, sealed: str, now: datetime) -> None:
    """Store the secret, sealed by this database's key, for the move or the instance with that uuid."""
    remove(tx, [uuid])
    tx.execute(insert(pending_secrets).values(uuid=uuid, sealed=sealed, created_at=now))


def store_new(tx: Connection, uuids: Iterable[str], sealed: str, now: datetime) -> None:
    """Store the same secret for each of these, which have none."""
    rows = [{"uuid": uuid, "sealed": sealed, "created_at": now} for uuid in uuids]
    if rows:
        tx.execute(insert(pending_secrets), rows)


def get(tx: Connection, uuid: str) -> str | None:
    """The sealed secret; None when there is none (any more)."""
    found: str | None = tx.scalar(select(pending_secrets.c.sealed).where(pending_secrets.c.uuid == uuid))
    return found


def get_many(tx: Connection, uuids: Collection[str]) -> dict[str, str]:
    """Those of the sealed secrets that exist, by uuid."""
    if not uuids:
        return {}
    statement = select(pending_secrets.c.uuid, pending_secrets.c.sealed)
    return {row.uuid: row.sealed for row in tx.execute(statement.where(pending_secrets.c.uuid.in_(list(uuids))))}


def pass_on(tx: Connection, source: str, target: str) -> None:
    """Give the secret of `source`, if it has one, to `target`."""
    tx.execute(update(pending_secrets).where(pending_secrets.c.uuid == source).values(uuid=target))


def remove(tx: Connection, uuids: Collection[str]) -> None:
    """Remove the secrets of all of these."""
    if uuids:
        tx.execute(delete(pending_secrets).where(pending_secrets.c.uuid.in_(list(uuids))))
