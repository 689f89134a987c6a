"""Host aggregates, and the availability zones that they make: an aggregate with the metadata `availability_zone`.

Every change is reported to the schedulers through placement's feed. A lock on the hosts' other aggregates guarantees
that a host is in one zone only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from cell_service.errors import (
    AggregateHostExists,
    AggregateHostNotFound,
    AggregateNameExists,
    AggregateNotFound,
    HostInOtherZone,
)
from mapping_db.placement import changes
from mapping_db.schema import aggregate_hosts as members
from mapping_db.schema import aggregates as table

ZONE = "availability_zone"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One aggregate with its hosts, in the order of their names."""

    id: int
    uuid: str
    name: str
    metadata: Mapping[str, str]
    hosts: tuple[str, ...]
    created_at: datetime
    updated_at: datetime | None = None

    @property
    def availability_zone(self) -> str | None:
        return self.metadata.get(ZONE)


def every(tx: Connection) -> list[Aggregate]:
    """All aggregates by id, in two queries."""
    hosts: dict[int, list[str]] = defaultdict(list)
    for row in tx.execute(select(members.c.aggregate_id, members.c.host).order_by(members.c.host)):
        hosts[row.aggregate_id].append(row.host)
    return [_from_row(row, hosts[row.id]) for row in tx.execute(select(table).order_by(table.c.id))]


def get(tx: Connection, aggregate_id: int) -> Aggregate:
    """Raises AggregateNotFound."""
    row = tx.execute(select(table).where(table.c.id == aggregate_id)).first()
    if row is None:
        raise AggregateNotFound(aggregate_id=aggregate_id)
    hosts = tx.execute(
        select(members.c.host).where(members.c.aggregate_id == aggregate_id).order_by(members.c.host)
    ).scalars()
    return _from_row(row, list(hosts))


def add(tx: Connection, uuid: str, name: str, availability_zone: str | None, now: datetime) -> Aggregate:
    """Add an aggregate without hosts. Raises AggregateNameExists."""
    metadata = {ZONE: availability_zone} if availability_zone is not None else {}
    try:
        made = tx.execute(
            insert(table).values(uuid=uuid, name=name, metadata=metadata, created_at=now)
        ).inserted_primary_key
    except IntegrityError as error:
        raise AggregateNameExists(name=name) from error
    assert made is not None
    _notify(tx, now)
    return get(tx, made[0])


def rename(tx: Connection, aggregate_id: int, name: str, now: datetime) -> Aggregate:
    """Raises AggregateNotFound, AggregateNameExists."""
    try:
        changed = tx.execute(update(table).where(table.c.id == aggregate_id).values(name=name, updated_at=now)).rowcount
    except IntegrityError as error:
        raise AggregateNameExists(name=name) from error
    if not changed:
        raise AggregateNotFound(aggregate_id=aggregate_id)
    _notify(tx, now)
    return get(tx, aggregate_id)


def set_metadata(tx: Connection, aggregate_id: int, changed: Mapping[str, str | None], now: datetime) -> Aggregate:
    """Set these keys; None deletes one. Raises AggregateNotFound, HostInOtherZone."""
    before = _locked(tx, aggregate_id)
    metadata = {**before.metadata, **{key: value for key, value in changed.items() if value is not None}}
    for key, value in changed.items():
        if value is None:
            metadata.pop(key, None)
    zone = metadata.get(ZONE)
    if zone is not None and zone != before.availability_zone:
        for host in before.hosts:
            _demand_zone(tx, host, zone, aggregate_id)
    tx.execute(update(table).where(table.c.id == aggregate_id).values(metadata=metadata, updated_at=now))
    _notify(tx, now)
    return get(tx, aggregate_id)


def add_host(tx: Connection, aggregate_id: int, host: str, now: datetime) -> Aggregate:
    """Raises AggregateNotFound, AggregateHostExists, HostInOtherZone."""
    aggregate = _locked(tx, aggregate_id)
    if aggregate.availability_zone is not None:
        _demand_zone(tx, host, aggregate.availability_zone, aggregate_id)
    try:
        tx.execute(insert(members).values(aggregate_id=aggregate_id, host=host))
    except IntegrityError as error:
        raise AggregateHostExists(aggregate_id=aggregate_id, host=host) from error
    tx.execute(update(table).where(table.c.id == aggregate_id).values(updated_at=now))
    _notify(tx, now)
    return get(tx, aggregate_id)


def remove_host(tx: Connection, aggregate_id: int, host: str, now: datetime) -> Aggregate:
    """Raises AggregateNotFound, AggregateHostNotFound."""
    _locked(tx, aggregate_id)
    if not tx.execute(delete(members).where(members.c.aggregate_id == aggregate_id, members.c.host == host)).rowcount:
        raise AggregateHostNotFound(aggregate_id=aggregate_id, host=host)
    tx.execute(update(table).where(table.c.id == aggregate_id).values(updated_at=now))
    _notify(tx, now)
    return get(tx, aggregate_id)


def remove(tx: Connection, aggregate_id: int, now: datetime) -> None:
    """Remove the aggregate with its memberships. Raises AggregateNotFound."""
    tx.execute(delete(members).where(members.c.aggregate_id == aggregate_id))
    if not tx.execute(delete(table).where(table.c.id == aggregate_id)).rowcount:
        raise AggregateNotFound(aggregate_id=aggregate_id)
    _notify(tx, now)


def zones(tx: Connection) -> dict[str, str]:
    """Host → availability zone, for the hosts that have one."""
    found: dict[str, str] = {}
    for aggregate in every(tx):
        if aggregate.availability_zone is not None:
            found.update(dict.fromkeys(aggregate.hosts, aggregate.availability_zone))
    return found


def _notify(tx: Connection, now: datetime) -> None:
    changes.note(tx, [changes.HOST_AGGREGATES], now)


def _locked(tx: Connection, aggregate_id: int) -> Aggregate:
    """Lock the rows of the aggregate and of every zone to the end of the transaction; return the aggregate."""
    tx.execute(select(table.c.id).order_by(table.c.id).with_for_update()).all()
    return get(tx, aggregate_id)


def _demand_zone(tx: Connection, host: str, zone: str, aggregate_id: int) -> None:
    rows = tx.execute(
        select(table.c.metadata)
        .join(members, members.c.aggregate_id == table.c.id)
        .where(members.c.host == host, table.c.id != aggregate_id)
    ).scalars()
    for metadata in rows:
        other = metadata.get(ZONE)
        if other is not None and other != zone:
            raise HostInOtherZone(host=host, zone=other)


def _from_row(row: Row[Any], hosts: list[str]) -> Aggregate:
    return Aggregate(row.id, row.uuid, row.name, row.metadata, tuple(hosts), row.created_at, row.updated_at)
