"""Rows of `migrations`: moves as the Compute API shows them. The super-conductor that runs a move writes them.

They decide one thing only: a guest with an unfinished migration is not destroyed because its instance lives elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from cell_service.db.schema import migrations
from cell_service.model.migration import ENDED, Migration

_FIELDS = tuple(Migration.__dataclass_fields__)
_COLUMNS = [migrations.c[name] for name in _FIELDS]


def store(tx: Connection, migration: Migration) -> None:
    """Insert the row, or update it."""
    values = {name: getattr(migration, name) for name in _FIELDS}
    if tx.execute(update(migrations).where(migrations.c.uuid == migration.uuid).values(values)).rowcount:
        return
    try:
        with tx.begin_nested():
            tx.execute(insert(migrations).values(values))
    except IntegrityError:
        tx.execute(update(migrations).where(migrations.c.uuid == migration.uuid).values(values))


def change(tx: Connection, uuid: str, now: datetime, **columns: object) -> bool:
    """Change columns of the migration. False when there is no such migration here."""
    return bool(
        tx.execute(update(migrations).where(migrations.c.uuid == uuid).values(updated_at=now, **columns)).rowcount
    )


def of_instance(tx: Connection, instance_uuid: str) -> list[Migration]:
    """The instance's migrations, oldest first, hidden ones among them."""
    rows = tx.execute(select(*_COLUMNS).where(migrations.c.instance_uuid == instance_uuid).order_by(migrations.c.id))
    return [Migration(**row._mapping) for row in rows]


def unfinished_of(tx: Connection, instance_uuids: Iterable[str]) -> dict[str, Migration]:
    """The newest migration under way of each of the instances that has one, by instance uuid."""
    wanted = list(instance_uuids)
    if not wanted:
        return {}
    rows = tx.execute(
        select(*_COLUMNS)
        .where(migrations.c.instance_uuid.in_(wanted), migrations.c.status.not_in(sorted(ENDED)))
        .order_by(migrations.c.id)
    )
    return {row.instance_uuid: Migration(**row._mapping) for row in rows}


def newest_of(tx: Connection, instance_uuids: Iterable[str]) -> dict[str, Migration]:
    """The newest migration, under way or ended, of each of the instances that ever had one, by instance uuid."""
    wanted = list(instance_uuids)
    if not wanted:
        return {}
    rows = tx.execute(select(*_COLUMNS).where(migrations.c.instance_uuid.in_(wanted)).order_by(migrations.c.id))
    return {row.instance_uuid: Migration(**row._mapping) for row in rows}
