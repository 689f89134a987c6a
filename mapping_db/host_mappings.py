"""Rows of `host_mappings`: which cell each compute host is in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite

from cell_service.errors import HostMappingNotFound
from mapping_db.schema import host_mappings

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class HostMapping:
    host: str
    cell_id: int
    created_at: datetime


_COLUMNS = [host_mappings.c[name] for name in HostMapping.__dataclass_fields__]


def insert_missing(tx: Connection, cell_id: int, hosts: Iterable[str], now: datetime) -> list[str]:
    """Map the hosts to the cell; those that are mapped already, to whatever cell, stay as they are.

    Safe to repeat and to race. Answers the hosts that were not mapped before.
    """
    wanted = sorted(set(hosts))
    there = {mapping.host for mapping in of_hosts(tx, wanted)}
    missing = [host for host in wanted if host not in there]
    for start in range(0, len(missing), _CHUNK):
        rows = [{"host": host, "cell_id": cell_id, "created_at": now} for host in missing[start : start + _CHUNK]]
        tx.execute(_insert_unless_there(tx.dialect.name, rows))
    return missing


def get(tx: Connection, host: str) -> HostMapping:
    """Raises HostMappingNotFound."""
    row = tx.execute(select(*_COLUMNS).where(host_mappings.c.host == host)).one_or_none()
    if row is None:
        raise HostMappingNotFound(host=host)
    return HostMapping(**row._mapping)


def of_hosts(tx: Connection, hosts: Iterable[str]) -> list[HostMapping]:
    """The mappings of those of the hosts that have one."""
    wanted = list(hosts)
    found: list[HostMapping] = []
    for start in range(0, len(wanted), _CHUNK):
        condition = host_mappings.c.host.in_(wanted[start : start + _CHUNK])
        found += [HostMapping(**row._mapping) for row in tx.execute(select(*_COLUMNS).where(condition))]
    return found


def every(tx: Connection, cell_id: int | None = None) -> list[HostMapping]:
    """All mappings by host, or those of one cell."""
    statement = select(*_COLUMNS).order_by(host_mappings.c.host)
    if cell_id is not None:
        statement = statement.where(host_mappings.c.cell_id == cell_id)
    return [HostMapping(**row._mapping) for row in tx.execute(statement)]


def counts(tx: Connection) -> dict[int, int]:
    """How many hosts each cell has, by cell id; cells without hosts are left out."""
    statement = select(host_mappings.c.cell_id, func.count()).group_by(host_mappings.c.cell_id)
    return {row[0]: row[1] for row in tx.execute(statement)}


def move(tx: Connection, host: str, *, source: int, target: int) -> bool:
    """Move the host to the target cell, if it is in the source. False: it is not."""
    where = (host_mappings.c.host == host) & (host_mappings.c.cell_id == source)
    return bool(tx.execute(update(host_mappings).where(where).values(cell_id=target)).rowcount)


def remove(tx: Connection, host: str) -> None:
    """Raises HostMappingNotFound."""
    if not tx.execute(delete(host_mappings).where(host_mappings.c.host == host)).rowcount:
        raise HostMappingNotFound(host=host)


def _insert_unless_there(dialect: str, rows: list[dict[str, Any]]) -> Any:
    if dialect in ("mysql", "mariadb"):
        # not INSERT IGNORE, which would also swallow a missing cell or a name too long
        return mysql.insert(host_mappings).values(rows).on_duplicate_key_update(host=host_mappings.c.host)
    if dialect == "postgresql":
        return postgresql.insert(host_mappings).values(rows).on_conflict_do_nothing()
    return sqlite.insert(host_mappings).values(rows).on_conflict_do_nothing()
