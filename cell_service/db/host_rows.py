"""A host's own rows, its compute service and nodes, copied from one cell's database to another's. uuids are kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, delete, insert, select, update

from cell_service.db.operations import forgive
from cell_service.db.schema import compute_nodes, instances, services
from cell_service.db.services import COMPUTE
from cell_service.errors import Conflict

_OWN = ("id", "service_id")


class HostIsThere(Conflict):
    """The cell has another host of that name, or the node under another host's name."""

    message = "The cell has a host or a node with the name or the uuid of host {host} already."


@dataclass(frozen=True, slots=True)
class HostRows:
    """A compute service and its nodes as rows, without the ids that only the one database knows."""

    service: dict[str, Any]
    nodes: tuple[dict[str, Any], ...]

    @property
    def host(self) -> str:
        return str(self.service["host"])


def read(tx: Connection, host: str) -> HostRows | None:
    """The host's rows; None when the cell has no compute service of that host."""
    where = (services.c.host == host) & (services.c.binary == COMPUTE)
    service = tx.execute(select(services).where(where)).one_or_none()
    if service is None:
        return None
    nodes = tx.execute(select(compute_nodes).where(compute_nodes.c.host == host).order_by(compute_nodes.c.id))
    return HostRows(_copied(service._mapping), tuple(_copied(node._mapping) for node in nodes))


def announce(tx: Connection, rows: HostRows) -> None:
    """Insert the host's rows: leaving, mapped, and without a heartbeat. Rows that are here already stay as they are.
    Raises HostIsThere."""
    service_id = _same(tx, services, rows.service, rows.host)
    if service_id is None:
        key = tx.execute(
            insert(services).values({**rows.service, "leaving": True, "report_count": 0})
        ).inserted_primary_key
        assert key is not None
        service_id = int(key[0])
    for node in rows.nodes:
        if _same(tx, compute_nodes, node, rows.host) is None:
            tx.execute(insert(compute_nodes).values({**node, "service_id": service_id, "mapped": True}))


def set_leaving(tx: Connection, host: str, leaving: bool, now: datetime) -> bool:
    """Set whether the host is on its way to another cell. Schedulers notice by the rows' times. False: no such
    service."""
    tx.execute(update(compute_nodes).where(compute_nodes.c.host == host).values(updated_at=now))
    where = (services.c.host == host) & (services.c.binary == COMPUTE)
    return bool(tx.execute(update(services).where(where).values(leaving=leaving, updated_at=now)).rowcount)


def is_heard_of(tx: Connection, host: str) -> bool:
    """Whether the host has sent a heartbeat to this cell since it was announced here."""
    where = (services.c.host == host) & (services.c.binary == COMPUTE)
    return bool(tx.scalar(select(services.c.report_count).where(where)))


def lock_rows(tx: Connection, hosts: Iterable[str]) -> set[str]:
    """Lock the rows of those of the hosts that this cell knows, and return the hosts: their rows stay until the
    transaction ends."""
    where = services.c.host.in_(list(hosts)) & (services.c.binary == COMPUTE)
    query = select(services.c.host).where(where).order_by(services.c.id).with_for_update(read=True)
    return {row[0] for row in tx.execute(query)}


def remove_empty(tx: Connection, host: str, now: datetime) -> bool:
    """Remove the host's rows, and end what is still recorded for it: it has other work now. False when the cell has an
    instance on the host; then nothing is changed."""
    where = (services.c.host == host) & (services.c.binary == COMPUTE)
    tx.execute(select(services.c.id).where(where).with_for_update())  # a boot on the host locks it too
    if tx.scalar(select(instances.c.id).where(instances.c.host == host).limit(1)) is not None:
        return False
    tx.execute(delete(compute_nodes).where(compute_nodes.c.host == host))
    tx.execute(delete(services).where(where))
    forgive(tx, host, now)
    return True


def _copied(row: RowMapping) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in _OWN}


def _same(tx: Connection, table: Table, row: dict[str, Any], host: str) -> int | None:
    """The id of this very row; None when it is not here."""
    named = table.c.host == host
    for name in ("binary", "hypervisor_hostname"):
        if name in row:
            named &= table.c[name] == row[name]
    found = tx.execute(
        select(table.c.id, table.c.uuid, table.c.host).where((table.c.uuid == row["uuid"]) | named)
    ).all()
    if any((one.uuid, one.host) != (row["uuid"], host) for one in found):
        raise HostIsThere(host=host)
    return found[0].id if found else None
