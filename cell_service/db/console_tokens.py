"""Rows of `console_auth_tokens`: a client with the token may open the console. The row has only the token's hash."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, exists, func, insert, select

from cell_service.db.schema import console_auth_tokens as rows
from cell_service.db.schema import instance_actions as actions
from cell_service.db.schema import instances
from cell_service.model.console import ConsolePlace, ConsoleToken

REBUILD = "rebuild"
REVOKING = (
    REBUILD, "migrate", "resize", "confirmResize", "revertResize", "live-migration", "evacuate", "shelve",
    "shelveOffload", "unshelve", "delete", "forceDelete",
)  # fmt: skip
"""The actions since whose request no earlier token opens the instance's consoles."""


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
    """The console that the token opens; None once it has expired, or the instance is gone or lives on another host, and
    when it was requested to be rebuilt, moved or shelved since the token was made.

        SELECT … FROM console_auth_tokens t JOIN instances i ON i.uuid = t.instance_uuid
        WHERE t.token_hash = :hash AND t.expires_at > :now AND i.host = t.host AND i.deleted_at IS NULL AND NOT i.hidden
          AND NOT EXISTS (SELECT 1 FROM instance_actions a
                          WHERE a.instance_uuid = i.uuid AND a.action IN (…) AND a.start_time >= t.created_at)
    """
    revoked = exists().where(
        actions.c.instance_uuid == rows.c.instance_uuid,
        actions.c.action.in_(REVOKING),
        actions.c.start_time >= rows.c.created_at,
    )
    row = tx.execute(
        select(rows, instances.c.display_name, instances.c.vm_state)
        .join(instances, instances.c.uuid == rows.c.instance_uuid)
        .where(
            rows.c.token_hash == _hash(secret),
            rows.c.expires_at > now,
            instances.c.host == rows.c.host,
            instances.c.deleted_at.is_(None),
            instances.c.hidden.is_(False),
            ~revoked,
        )
    ).one_or_none()
    if row is None:
        return None
    place = ConsolePlace(row.address, row.port, row.base_url, row.internal_access_path, row.tls_port)
    return ConsoleToken(
        row.instance_uuid,
        row.kind,
        row.host,
        place,
        row.expires_at,
        made_at=row.created_at,
        name=row.display_name,
        state=row.vm_state,
    )


def ended(tx: Connection, opened: Collection[ConsoleToken]) -> list[ConsoleToken]:
    """Those of the open consoles whose instance is gone, lives on another host or on none, or was requested to be
    rebuilt since the token was made. Their expiry does not matter here."""
    uuids = sorted({token.instance_uuid for token in opened})
    rebuilt = (actions.c.instance_uuid == instances.c.uuid) & (actions.c.action == REBUILD)
    found = tx.execute(
        select(instances.c.uuid, instances.c.host, func.max(actions.c.start_time).label("rebuilt_at"))
        .outerjoin(actions, rebuilt)
        .where(instances.c.uuid.in_(uuids), instances.c.deleted_at.is_(None), instances.c.hidden.is_(False))
        .group_by(instances.c.uuid, instances.c.host)
    )
    now = {row.uuid: row for row in found}
    return [token for token in opened if not _is_open(token, now.get(token.instance_uuid))]


def _is_open(token: ConsoleToken, row: Any) -> bool:
    if row is None or row.host != token.host:
        return False
    return token.made_at is None or row.rebuilt_at is None or bool(row.rebuilt_at < token.made_at)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
