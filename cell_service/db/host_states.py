"""The states of this cell's hosts for a scheduler, in few reads: only what changed, and counts by host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, or_, select

from cell_service.db.schema import compute_nodes, instances, services
from cell_service.model.host import NodeReport
from cell_service.model.lifecycle import Task

COMPUTE = "nova-compute"
_CHUNK = 500
IO_TASKS: frozenset[str] = frozenset(
    {Task.SCHEDULING, Task.NETWORKING, Task.SPAWNING}
    | {
        "block_device_mapping", "resize_prep", "resize_migrating", "resize_migrated", "resize_finish", "rebuilding",
        "rebuild_block_device_mapping", "rebuild_spawning", "image_snapshot", "image_snapshot_pending",
        "image_uploading", "image_backup", "migrating", "rescuing", "unshelving", "shelving",
    }
)  # fmt: skip
"""Task states in which an instance loads its host's disks and network (nova's io_workload, and what goes with it)."""


@dataclass(frozen=True, slots=True)
class ServiceState:
    """The compute service of a host. `seen_at`: its last heartbeat, or when it was made."""

    host: str
    disabled: bool
    forced_down: bool
    seen_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class NodeState:
    """A hypervisor of a host, as it was reported last."""

    host: str
    report: NodeReport
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class CellState:
    """The states that were read of a cell. `nodes` are those that changed; with `present` (the uuids of all its nodes)
    the services are all its services too, else those that changed."""

    services: tuple[ServiceState, ...]
    nodes: tuple[NodeState, ...]
    io_ops: dict[str, int]
    """Host → instances that load it now; hosts without any are left out. Always whole."""
    present: frozenset[str] | None = None


def read(
    tx: Connection, since: datetime | None, known: Mapping[str, datetime] | None = None, *, whole: bool = False
) -> CellState:
    """The cell's compute hosts; with `since`, those that changed then or later. `whole`: with `present`.

    Reports are large: nodes that are `known` (uuid → changed_at) and have not changed since are left out.
    """
    nodes = _nodes(tx, since, known or {})
    if since is None or whole:
        present = frozenset(tx.execute(select(compute_nodes.c.uuid)).scalars())
        return CellState(_services(tx, None), nodes, _io_ops(tx), present)
    return CellState(_services(tx, since), nodes, _io_ops(tx))


def _services(tx: Connection, since: datetime | None) -> tuple[ServiceState, ...]:
    column = services.c
    query = select(
        column.host,
        column.disabled,
        column.leaving,
        column.forced_down,
        column.last_seen_up,
        column.created_at,
        column.updated_at,
    ).where(column.binary == COMPUTE)
    if since is not None:
        query = query.where(or_(column.updated_at >= since, column.created_at >= since))
    return tuple(
        ServiceState(
            host=row.host,
            disabled=row.disabled or row.leaving,
            forced_down=row.forced_down,
            seen_at=row.last_seen_up or row.created_at,
            changed_at=row.updated_at or row.created_at,
        )
        for row in tx.execute(query)
    )


def _nodes(tx: Connection, since: datetime | None, known: Mapping[str, datetime]) -> tuple[NodeState, ...]:
    column = compute_nodes.c
    query = select(column.host, column.report, column.created_at, column.updated_at)
    if since is None:
        return _states(tx, query)
    recent = select(column.uuid, column.created_at, column.updated_at).where(
        or_(column.updated_at >= since, column.created_at >= since)
    )
    news = [row.uuid for row in tx.execute(recent) if known.get(row.uuid) != (row.updated_at or row.created_at)]
    found: list[NodeState] = []
    for start in range(0, len(news), _CHUNK):
        found += _states(tx, query.where(column.uuid.in_(news[start : start + _CHUNK])))
    return tuple(found)


def _states(tx: Connection, query: Select[Any]) -> tuple[NodeState, ...]:
    return tuple(NodeState(row.host, row.report, row.updated_at or row.created_at) for row in tx.execute(query))


def _io_ops(tx: Connection) -> dict[str, int]:
    rows = tx.execute(
        select(instances.c.host, func.count().label("busy"))
        .where(
            instances.c.task_state.in_(sorted(IO_TASKS)),
            instances.c.deleted_at.is_(None),
            instances.c.host.is_not(None),
        )
        .group_by(instances.c.host)
    )
    return {row.host: row.busy for row in rows}
