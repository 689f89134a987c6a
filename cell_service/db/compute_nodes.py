"""Rows of `compute_nodes`: the last report of each hypervisor of this cell."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from cell_service.db.schema import compute_nodes
from cell_service.errors import ComputeHostNotFound, ComputeNodeTaken
from cell_service.model.ability import Ability
from cell_service.model.host import ComputeNode, NodeReport

_FIELDS = tuple(ComputeNode.__dataclass_fields__)
_COLUMNS = [compute_nodes.c[name] for name in _FIELDS]


def report(tx: Connection, service_id: int, host: str, node: NodeReport, now: datetime) -> None:
    """Store the node's newest report; its row is made at the first.

    A node is its uuid: raises ComputeNodeTaken when another host has it, or when this host's node of that name
    has another uuid (its state directory was lost or copied). Nothing is changed then.
    """
    values = {"service_id": service_id, "report": node, "updated_at": now}
    where = (
        (compute_nodes.c.uuid == node.uuid)
        & (compute_nodes.c.host == host)
        & (compute_nodes.c.hypervisor_hostname == node.node)
    )
    if tx.execute(update(compute_nodes).where(where).values(values)).rowcount:
        return
    named = {"uuid": node.uuid, "host": host, "hypervisor_hostname": node.node, "created_at": now}
    try:
        with tx.begin_nested():
            tx.execute(insert(compute_nodes).values(named | values))
    except IntegrityError as error:
        if not tx.execute(update(compute_nodes).where(where).values(values)).rowcount:
            raise ComputeNodeTaken(node=node.node, uuid=node.uuid, host=host) from error


def list_all(tx: Connection, *, host: str | None = None) -> list[ComputeNode]:
    """All nodes, or those of a host, by id."""
    query = select(*_COLUMNS).order_by(compute_nodes.c.id)
    if host is not None:
        query = query.where(compute_nodes.c.host == host)
    return [_node(row) for row in tx.execute(query)]


def uuids_on(tx: Connection, hosts: Iterable[str]) -> dict[tuple[str, str], str]:
    """The uuids of the hosts' nodes, by (host, node)."""
    of = compute_nodes.c
    query = select(of.host, of.hypervisor_hostname, of.uuid).where(of.host.in_(sorted(set(hosts))))
    return {(row.host, row.hypervisor_hostname): row.uuid for row in tx.execute(query)}


def is_able(tx: Connection, host: str, ability: Ability) -> bool:
    """Whether every node of the host has the ability, as far as their reports say."""
    return all(node.report.is_able(ability) for node in list_all(tx, host=host))


def page(tx: Connection, *, start: int, limit: int, pattern: str | None = None) -> list[ComputeNode]:
    """The next `limit` nodes by id, from the one with id `start` on; with `pattern` those whose name contains it."""
    query = select(*_COLUMNS).where(compute_nodes.c.id >= start).order_by(compute_nodes.c.id).limit(limit)
    if pattern is not None:
        query = query.where(compute_nodes.c.hypervisor_hostname.contains(pattern, autoescape=True))
    return [_node(row) for row in tx.execute(query)]


def by_uuid(tx: Connection, uuid: str) -> ComputeNode:
    """Raises ComputeHostNotFound."""
    return _one(tx, compute_nodes.c.uuid == uuid, uuid)


def by_id(tx: Connection, node_id: int) -> ComputeNode:
    """Raises ComputeHostNotFound."""
    return _one(tx, compute_nodes.c.id == node_id, str(node_id))


def unmapped(tx: Connection, limit: int = 1000) -> list[ComputeNode]:
    """Nodes whose hosts have no host mappings yet."""
    query = select(*_COLUMNS).where(compute_nodes.c.mapped.is_(False)).order_by(compute_nodes.c.id).limit(limit)
    return [_node(row) for row in tx.execute(query)]


def set_mapped(tx: Connection, uuids: Iterable[str], mapped: bool = True) -> int:
    """Record that the nodes' hosts have (or no longer have) host mappings. Answers how many nodes it knew."""
    wanted = list(uuids)
    if not wanted:
        return 0
    return tx.execute(update(compute_nodes).where(compute_nodes.c.uuid.in_(wanted)).values(mapped=mapped)).rowcount


def remove(tx: Connection, uuid: str) -> None:
    """Delete the node's row. None there: no error."""
    tx.execute(delete(compute_nodes).where(compute_nodes.c.uuid == uuid))


def _one(tx: Connection, where: ColumnElement[bool], said: str) -> ComputeNode:
    row = tx.execute(select(*_COLUMNS).where(where)).one_or_none()
    if row is None:
        raise ComputeHostNotFound(host=said)
    return _node(row)


def _node(row: Row[Any]) -> ComputeNode:
    return ComputeNode(**row._mapping)
