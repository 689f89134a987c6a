"""Lists of migrations: one cell's part of a page, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, or_, select

from cell_service.db.schema import migrations
from cell_service.db.sql.sorting import Sort, order_by, past
from cell_service.model.migration import Migration

SORT: Sort = (("created_at", "desc"), ("id", "desc"))

_FIELDS = tuple(Migration.__dataclass_fields__)
_COLUMNS = [migrations.c[name] for name in _FIELDS]


@dataclass(frozen=True, slots=True)
class MigrationListing:
    """The conditions of a list of migrations. `equal` is by column; `host`: source or destination. All conditions must
    hold."""

    equal: tuple[tuple[str, tuple[str, ...]], ...] = ()
    host: str | None = None
    changes_since: datetime | None = None
    changes_before: datetime | None = None


def page(tx: Connection, listing: MigrationListing, *, after: tuple[Any, ...] | None, limit: int) -> list[Migration]:
    """The cell's next `limit` migrations after those values of `SORT`, including hidden ones."""
    conditions = _conditions(listing)
    if after is not None:
        conditions.append(past(SORT, after, _column))
    rows = tx.execute(select(*_COLUMNS).where(*conditions).order_by(*order_by(SORT, _column)).limit(limit))
    return [Migration(**row._mapping) for row in rows]


def by_uuid(tx: Connection, uuid: str) -> Migration | None:
    row = tx.execute(select(*_COLUMNS).where(migrations.c.uuid == uuid)).one_or_none()
    return None if row is None else Migration(**row._mapping)


def sort_values(migration: Migration) -> tuple[Any, ...]:
    """The row's values in the columns of `SORT`."""
    return tuple(getattr(migration, name) for name, _ in SORT)


def _conditions(listing: MigrationListing) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [migrations.c[name].in_(values) for name, values in listing.equal]
    if listing.host is not None:
        found.append(or_(migrations.c.source_compute == listing.host, migrations.c.dest_compute == listing.host))
    changed, made = migrations.c.updated_at, migrations.c.created_at
    if listing.changes_since is not None:
        since = listing.changes_since
        found.append(or_(changed >= since, and_(changed.is_(None), made >= since)))
    if listing.changes_before is not None:
        before = listing.changes_before
        found.append(or_(changed <= before, and_(changed.is_(None), made <= before)))
    return found


def _column(name: str) -> ColumnElement[Any]:
    return migrations.c[name]
