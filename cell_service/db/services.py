"""Rows of `services`: our processes in this cell, with their heartbeats."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from cell_service.db.schema import services
from cell_service.db.sql.prepared import Prepared
from cell_service.errors import ServiceNotFound
from cell_service.model.host import Service

COMPUTE = "nova-compute"
CONDUCTOR = "nova-conductor"
SCHEDULER = "nova-scheduler"

_FIELDS = tuple(name for name in Service.__dataclass_fields__ if name != "availability_zone")
_COLUMNS = [services.c[name] for name in _FIELDS]
_CONDITIONS = {
    "of_host": services.c.host == bindparam("of_host"),
    "of_binary": services.c.binary == bindparam("of_binary"),
}
_BEATING = Prepared(
    update(services)
    .where(*_CONDITIONS.values())
    .values(last_seen_up=bindparam("now"), updated_at=bindparam("now"), report_count=services.c.report_count + 1)
)


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
    """Record that the process was alive at `now`. False when it is not registered (its row was deleted)."""
    return _BEATING.change(tx, {"of_host": host, "of_binary": binary, "now": now}) == 1


def note_watching(tx: Connection, host: str, now: datetime) -> None:
    """Record that the conductor on `host` watches the hosts: one from which it hears nothing is down, and not only out
    of reach."""
    mine = (services.c.host == host) & (services.c.binary == CONDUCTOR)
    tx.execute(update(services).where(mine).values(watched_at=now))


def watched_at(tx: Connection) -> datetime | None:
    """When a conductor of this cell last watched the hosts; None when none has."""
    found: datetime | None = tx.scalar(select(func.max(services.c.watched_at)).where(services.c.binary == CONDUCTOR))
    return found


def list_all(tx: Connection, *, host: str | None = None, binary: str | None = None) -> list[Service]:
    """All services, or those of a host or binary, by id."""
    given = {"of_host": host, "of_binary": binary}
    known = {name: value for name, value in given.items() if value is not None}
    return [Service(*row) for row in _of(*known).rows(tx, known)]


def by_uuid(tx: Connection, uuid: str) -> Service:
    """Raises ServiceNotFound."""
    return _one(tx.execute(select(*_COLUMNS).where(services.c.uuid == uuid)).all(), uuid)


def by_id(tx: Connection, service_id: int) -> Service:
    """Raises ServiceNotFound."""
    return _one(tx.execute(select(*_COLUMNS).where(services.c.id == service_id)).all(), str(service_id))


def by_host(tx: Connection, host: str, binary: str) -> Service:
    """Raises ServiceNotFound."""
    return _one(_of("of_host", "of_binary").rows(tx, {"of_host": host, "of_binary": binary}), f"{binary} on {host}")


def keep(tx: Connection, host: str, binary: str) -> None:
    """Keep the row there until this transaction ends, so that what is recorded for the service now is found when it is
    removed. Raises ServiceNotFound."""
    of_host = (services.c.host == host) & (services.c.binary == binary)
    if tx.execute(select(services.c.id).where(of_host).with_for_update(read=True)).first() is None:
        raise ServiceNotFound(service_id=f"{binary} on {host}")


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


def _one(rows: Sequence[Sequence[Any]], named: str) -> Service:
    if not rows:
        raise ServiceNotFound(service_id=named)
    (row,) = rows
    return Service(*row)


@cache
def _of(*conditions: str) -> Prepared:
    """Services by those of the parameters `of_host` and `of_binary`."""
    return Prepared(select(*_COLUMNS).where(*(_CONDITIONS[name] for name in conditions)).order_by(services.c.id))
