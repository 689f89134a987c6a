"""Rows of `placement_notes`: why the scheduler chose each instance's host, as of the last choice."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import mysql, postgresql, sqlite

from mapping_db.schema import placement_notes

_CHUNK = 500


def put(tx: Connection, notes: Mapping[str, Mapping[str, Any]], now: datetime) -> None:
    """Store a note, of plain values, for each instance, in place of the one it had; one statement."""
    if notes:
        rows = [{"instance_uuid": uuid, "created_at": now, "note": json.dumps(notes[uuid])} for uuid in sorted(notes)]
        tx.execute(_upsert(tx.dialect.name, rows))


def get(tx: Connection, instance_uuid: str) -> dict[str, Any] | None:
    """The instance's note; None when there is none."""
    condition = placement_notes.c.instance_uuid == instance_uuid
    found = tx.scalar(select(placement_notes.c.note).where(condition))
    return None if found is None else dict(json.loads(found))


def remove(tx: Connection, instance_uuids: Collection[str]) -> int:
    """Remove the notes. Returns how many there were."""
    wanted, count = sorted(instance_uuids), 0
    for start in range(0, len(wanted), _CHUNK):
        part = wanted[start : start + _CHUNK]
        count += tx.execute(delete(placement_notes).where(placement_notes.c.instance_uuid.in_(part))).rowcount
    return count


def _upsert(dialect: str, rows: list[dict[str, Any]]) -> Any:
    if dialect in ("mysql", "mariadb"):
        made = mysql.insert(placement_notes).values(rows)
        return made.on_duplicate_key_update(created_at=made.inserted.created_at, note=made.inserted.note)
    inserted = (postgresql if dialect == "postgresql" else sqlite).insert(placement_notes).values(rows)
    renewed = {"created_at": inserted.excluded.created_at, "note": inserted.excluded.note}
    return inserted.on_conflict_do_update(index_elements=["instance_uuid"], set_=renewed)
