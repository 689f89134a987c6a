"""Rows of `services`: our processes in this cell, with their heartbeats."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.elements import ColumnElement

from cell_service.db.schema import services
from cell_service.errors import ServiceNotFound
from cell_service.model.host import Service

COMPUTE = "nova-compute"
CONDUCTOR = "nova-conductor"

_FIELDS = tuple(name for name in Service.__dataclass_fields__ if name != "availability_zone")
_COLUMNS = [services.c[name] for name in _FIELDS]


def register(
    tx: Connection,
    *,
    host: str,
    binary: str,
    topic: str,
    version: int,
    now: datetime,
    disabled_reason: str | None = None,
) -> Service:
    """Record that the process is up; its row is made at the first time. Operators' settings on it stay.

    `disabled_reason`: a service that registers for the first time begins disabled, for this reason.
    """
    where = (services.c.host == host) & (services.c.binary == binary)
    seen = {"topic": topic, "version": version, "last_seen_up": now, "updated_at": now}
    if not tx.execute(update(services).where(where).values(seen)).rowcount:
        values = {"uuid": str(uuid4()), "host": host, "binary": binary, "created_at": now, **seen}
        if disabled_reason is not None:
            values |= {"disabled": True, "disabled_reason": disabled_reason}
        try:
            with tx.begin_nested():
                tx.execute(insert(services).values(values))
        except IntegrityError:
            tx.execute(update(services).where(where).values(seen))
    return by_host(tx, host, binary)


def heartbeat(tx: Connection, host: str, binary: str, now: datetime) -> bool:
    """The process was alive at `now`. False when it is not registered (its row was deleted)."""
    beat = {"last_seen_up": now, "updated_at": now, "report_count": services.c.report_count + 1}
    return (
        tx.execute(update(services).where(services.c.host == host, services.c.binary == binary).values(beat)).rowcount
        == 1
    )


def list_all(tx: Connection, *, host: str | None = None, binary: str | None = None) -> list[Service]:
    """All services, or those of a host or binary, by id."""
    query = select(*_COLUMNS).order_by(services.c.id)
    if host is not None:
        query = query.where(services.c.host == host)
    if binary is not None:
        query = query.where(services.c.binary == binary)
    return [_service(row) for row in tx.execute(query)]


def by_uuid(tx: Connection, uuid: str) -> Service:
    """Raises ServiceNotFound."""
    return _one(tx, services.c.uuid == uuid, uuid)


def by_id(tx: Connection, service_id: int) -> Service:
    """Raises ServiceNotFound."""
    return _one(tx, services.c.id == service_id, str(service_id))


def by_host(tx: Connection, host: str, binary: str) -> Service:
    """Raises ServiceNotFound."""
    return _one(tx, (services.c.host == host) & (services.c.binary == binary), f"{binary} on {host}")


def change(
    tx: Connection,
    uuid: str,
    *,
    now: datetime,
    disabled: bool | None = None,
    disabled_reason: str | None = None,
    forced_down: bool | None = None,
) -> Service:
    """Change what an operator may set; None leaves it. Enabling clears the reason. Raises ServiceNotFound."""
    values: dict[str, Any] = {}
    if disabled is not None:
        values |= {"disabled": disabled, "disabled_reason": disabled_reason if disabled else None}
    elif disabled_reason is not None:
        values["disabled_reason"] = disabled_reason
    if forced_down is not None:
        values["forced_down"] = forced_down
    if values:
        tx.execute(update(services).where(services.c.uuid == uuid).values(updated_at=now, **values))
    return by_uuid(tx, uuid)


def remove(tx: Connection, uuid: str) -> None:
    """Delete the row; its compute nodes must be gone already. Raises ServiceNotFound."""
    if not tx.execute(delete(services).where(services.c.uuid == uuid)).rowcount:
        raise ServiceNotFound(service_id=uuid)


def _one(tx: Connection, where: ColumnElement[bool], said: str) -> Service:
    row = tx.execute(select(*_COLUMNS).where(where)).one_or_none()
    if row is None:
        raise ServiceNotFound(service_id=said)
    return _service(row)


def _service(row: Row[Any]) -> Service:
    return Service(**row._mapping)
