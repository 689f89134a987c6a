"""The column `instances.network_info`, renewed from the network service."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, select

from cell_service.db import instances, operations
from cell_service.db.schema import instances as table
from cell_service.errors import InstanceNotFound
from cell_service.model.instance import Instance, Vif
from cell_service.operations.table import declared


def page(tx: Connection, after_id: int, limit: int) -> list[Instance]:
    """Living instances on hosts, by their rows' ids, after that id."""
    rows = tx.execute(
        select(*instances.columns())
        .where(
            table.c.id > after_id, table.c.deleted_at.is_(None), table.c.hidden.is_(False), table.c.host.is_not(None)
        )
        .order_by(table.c.id)
        .limit(limit)
    )
    return [instances.instance_of(row) for row in rows]


def renewed(known: tuple[Vif, ...], found: Mapping[str, Vif]) -> tuple[Vif, ...]:
    """The ports of an instance as they are now. None is added and none removed: only work on the host changes what is
    plugged, and a network service that has lost its data must not unplug guests."""
    return tuple(found.get(vif.port_id, vif) for vif in known)


def renew(tx: Connection, seen: Instance, found: Mapping[str, Vif], now: datetime) -> bool:
    """Store the ports that were found, if the instance still has the ports of `seen` and no operation changes them.

    The locked row decides. False: nothing is new, or another writer was faster.
    """
    after = renewed(seen.network_info, found)
    if after == seen.network_info:
        return False
    instances.lock_row(tx, seen.uuid)
    try:
        instance = instances.get(tx, seen.uuid)
    except InstanceNotFound:
        return False
    if instance.hidden or instance.network_info != seen.network_info:
        return False
    if any(declared(operation).changes_ports for operation in operations.unfinished(tx, seen.uuid)):
        return False
    return instances.change(tx, seen.uuid, now=now, settled=True, network_info=after)
