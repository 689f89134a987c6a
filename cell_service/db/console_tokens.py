"""Rows of `console_auth_tokens`: a client with the token may open the console. The row has only the token's hash."""

from __future__ import annotations

import hashlib
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from cell_service.db.schema import console_auth_tokens as rows
from cell_service.db.schema import instances
from cell_service.model.console import ConsolePlace, ConsoleToken


def add(tx: Connection, secret: str, token: ConsoleToken, now: datetime) -> None:
    """Store the token's hash, so that the token opens the console; remove expired tokens."""
    tx.execute(delete(rows).where(rows.c.expires_at <= now))
    place = token.place
    tx.execute(
        insert(rows).values(
            token_hash=_hash(secret),
            instance_uuid=token.instance_uuid,
            kind=token.kind,
            host=token.host,
            address=place.address,
            port=place.port,
            base_url=place.base_url,
            internal_access_path=place.internal_access_path,
            tls_port=place.tls_port,
            created_at=now,
            expires_at=token.expires_at,
        )
    )


def find(tx: Connection, secret: str, now: datetime) -> ConsoleToken | None:
    """The console that the token opens; None once it has expired, or the instance is gone or lives on another host."""
    row = tx.execute(
        select(rows)
        .join(instances, instances.c.uuid == rows.c.instance_uuid)
        .where(
            rows.c.token_hash == _hash(secret),
            rows.c.expires_at > now,
            instances.c.host == rows.c.host,
            instances.c.deleted_at.is_(None),
            instances.c.hidden.is_(False),
        )
    ).one_or_none()
    if row is None:
        return None
    place = ConsolePlace(row.address, row.port, row.base_url, row.internal_access_path, row.tls_port)
    return ConsoleToken(row.instance_uuid, row.kind, row.host, place, row.expires_at)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
