"""The records of the block storage companion: one table, by noun.

A record's status is changed in the transaction that read it, and SQLite lets one writer in at a time: so no two
callers reserve the same volume.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    Select,
    Table,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from cell_service.db.sql.prepared import Prepared
from cell_service.errors import NotFound, PolycellError
from tools.companions.store import doc, ident

Record = dict[str, Any]
GIB = 2**30

metadata = MetaData()
records = Table(
    "records",
    metadata,
    Column("sequence", Integer, primary_key=True),
    ident("id", unique=True, nullable=False),
    ident("noun", nullable=False, index=True),
    ident("project_id", nullable=False, index=True),
    ident("parent_id", index=True),
    doc(),
)
"""`parent_id`: of a snapshot or an attachment its volume."""


def _select(*columns: str) -> Select[Any]:
    return select(records.c.doc).where(
        records.c.noun == bindparam("noun"), *(records.c[name] == bindparam(name) for name in columns)
    )


_ONE = Prepared(_select("id"))
_MANY: dict[tuple[str, ...], Prepared] = {
    columns: Prepared(_select(*columns).order_by(records.c.sequence.desc()))
    for columns in ((), ("project_id",), ("parent_id",), ("project_id", "parent_id"))
}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")


def missing(noun: str, record_id: str) -> PolycellError:
    return NotFound(reason=f"{noun.capitalize()} {record_id} could not be found.")


def add(tx: Connection, noun: str, project_id: str, parent_id: str | None = None, **values: object) -> Record:
    """Add a record with an id of its own."""
    record = {"id": str(uuid4()), "project_id": project_id, "created_at": now(), "updated_at": None, **values}
    tx.execute(
        insert(records).values(id=record["id"], noun=noun, project_id=project_id, parent_id=parent_id, doc=record)
    )
    return record


def find(tx: Connection, noun: str, record_id: str) -> Record | None:
    rows = _ONE.rows(tx, {"noun": noun, "id": record_id})
    return dict(rows[0][0]) if rows else None


def get(tx: Connection, noun: str, record_id: str) -> Record:
    """Raises NotFound."""
    record = find(tx, noun, record_id)
    if record is None:
        raise missing(noun, record_id)
    return record


def search(tx: Connection, noun: str, *, project_id: str | None = None, parent_id: str | None = None) -> list[Record]:
    """All records of the noun, newest first; of one project or one parent where that is said."""
    given = {"project_id": project_id, "parent_id": parent_id}
    said = {name: value for name, value in given.items() if value is not None}
    return [dict(row[0]) for row in _MANY[tuple(said)].rows(tx, {"noun": noun, **said})]


def change(tx: Connection, record: Record, values: Mapping[str, Any]) -> Record:
    """Change these values of the record."""
    changed = {**record, **values, "updated_at": now()}
    tx.execute(update(records).where(records.c.id == record["id"]).values(doc=changed))
    return changed


def remove(tx: Connection, record_id: str) -> None:
    tx.execute(delete(records).where(records.c.id == record_id))
