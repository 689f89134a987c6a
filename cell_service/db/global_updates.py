"""Rows of `global_updates`: changes of this cell's instances that the global tables do not have yet.

A row is written in the transaction that changes the instance, and removed once the global database has it. A
super-conductor finds the row, also when a process died between the two or that database was away for long.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from cell_service import wire
from cell_service.db.schema import global_updates


@dataclass(frozen=True, slots=True)
class Renamed:
    name: str


@dataclass(frozen=True, slots=True)
class Pinned:
    """The instance may live in that availability zone only (None: in any)."""

    zone: str | None


@dataclass(frozen=True, slots=True)
class Reimaged:
    """The instance is made again from the image, which moves have to consider from now on."""

    image_id: str
    properties: dict[str, str] = field(default_factory=dict)
    min_ram_mib: int = 0
    min_disk_gib: int = 0
    disk_format: str = ""


@dataclass(frozen=True, slots=True)
class StateReset:
    """An administrator has reset the instance's state: a move that waits for its conclusion waits in vain."""

    user_id: str
    project_id: str


@dataclass(frozen=True, slots=True)
class DeleteAccepted:
    """The instance's delete has begun in its cell."""


Change = Renamed | Pinned | Reimaged | StateReset | DeleteAccepted

_KINDS: dict[str, type[Change]] = {
    "name": Renamed,
    "zone": Pinned,
    "image": Reimaged,
    "reset": StateReset,
    "delete": DeleteAccepted,
}
_STORED = {kind: name for name, kind in _KINDS.items()}


@dataclass(frozen=True, slots=True)
class GlobalUpdate:
    """One row. Of two rows of an instance, the one with the greater id is the newer."""

    id: int
    change: Change


def record(tx: Connection, instance_uuid: str, change: Change, now: datetime) -> None:
    """Record a change of the instance, whose row must be locked: so the rows of one instance are in the order of its
    changes."""
    row = {"kind": _STORED[type(change)], "facts": wire.to_plain(change)}
    tx.execute(insert(global_updates).values(instance_uuid=instance_uuid, created_at=now, **row))


def of_instance(tx: Connection, instance_uuid: str) -> list[GlobalUpdate]:
    """The instance's rows, oldest first."""
    columns = (global_updates.c.id, global_updates.c.kind, global_updates.c.facts)
    query = select(*columns).where(global_updates.c.instance_uuid == instance_uuid).order_by(global_updates.c.id)
    return [GlobalUpdate(key, wire.from_plain(_KINDS[kind], facts)) for key, kind, facts in tx.execute(query)]


def waiting(tx: Connection, limit: int) -> list[str]:
    """Instances that have rows, those with the oldest first; each once."""
    rows = tx.scalars(select(global_updates.c.instance_uuid).order_by(global_updates.c.id).limit(limit))
    return list(dict.fromkeys(rows))


def remove(tx: Connection, ids: Collection[int]) -> None:
    tx.execute(delete(global_updates).where(global_updates.c.id.in_(sorted(ids))))
