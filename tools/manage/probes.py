"""One probe of every cell at once, by one deadline. A cell that doesn't answer is unreachable, never empty."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Connection, text

from cell_service.context import Deadline
from cell_service.db import compute_nodes, identity, services
from cell_service.db import upgrades as cell_schema
from cell_service.errors import PolycellError
from mapping_db.cell_mappings import CellMapping
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud

SERVICE_DOWN_SECONDS = 60.0
_QUEUE_SHARE = 0.9
"""Of the time that is left: what the database has reported is kept when the queue does not answer."""
_CLOCKS = {
    "sqlite": "SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')",
    "mysql": "SELECT CAST(UTC_TIMESTAMP(6) AS CHAR)",
    "postgresql": "SELECT CAST(clock_timestamp() AT TIME ZONE 'utc' AS TEXT)",
}


@dataclass(frozen=True, slots=True)
class CellReport:
    """What one cell reported. `clock_seconds`: how far its database's clock is ahead of ours. `hosts`: its compute
    hosts, and whether each is up; empty where the schema is not the newest. `leaving`: those on the way to another
    cell."""

    version: str | None
    identity: str | None
    database_seconds: float
    clock_seconds: float
    queue_seconds: float | None
    queue_error: str | None
    hosts: Mapping[str, bool] = field(default_factory=dict)
    leaving: frozenset[str] = frozenset()
    nodes: Mapping[str, str] = field(default_factory=dict)
    """Uuids of compute nodes with their hosts."""

    @property
    def current(self) -> bool:
        """Whether its schema is the one that this software wants."""
        return self.version == cell_schema.newest()


@dataclass(frozen=True, slots=True)
class CellProbe:
    """A cell, and either its report or why there is none."""

    mapping: CellMapping
    report: CellReport | None
    error: str = ""


def probe(cloud: Cloud, mappings: Collection[CellMapping], seconds: float) -> list[CellProbe]:
    """All of the cells, in the order given."""
    deadline = Deadline.after(seconds, cloud.clock)

    def work(cell: Cell) -> CellReport:
        return _report(cloud, cell, deadline)

    gathered = cloud.cells.scatter([mapping.id for mapping in mappings], work, deadline)
    return [
        CellProbe(mapping, gathered.answers.get(mapping.id), reason_of(gathered.failures.get(mapping.id)))
        for mapping in mappings
    ]


def reason_of(failure: PolycellError | None) -> str:
    """What went wrong, in one line."""
    if failure is None:
        return ""
    reason = failure.fields.get("reason")
    return f"{failure} ({reason})" if reason and str(reason) not in str(failure) else str(failure)


def _report(cloud: Cloud, cell: Cell, deadline: Deadline) -> CellReport:
    began = time.monotonic()
    with cell.db.connect(deadline) as tx:
        tx.execute(text("SELECT 1"))
        requested = time.monotonic()
        ahead = database_clock(tx) - cloud.clock.now()
        answered = time.monotonic()
        version = cell_schema.stored_version(tx)
        owner = identity.stored(tx)
        current = version == cell_schema.newest()
        computes = services.list_all(tx, binary=services.COMPUTE) if current else []
        nodes = compute_nodes.list_all(tx) if current else []
    queue_seconds, queue_error = _ping(cell, deadline)
    now = cloud.clock.now()
    return CellReport(
        version=version,
        identity=owner,
        database_seconds=requested - began,
        clock_seconds=ahead.total_seconds() + (answered - requested) / 2,
        queue_seconds=queue_seconds,
        queue_error=queue_error,
        hosts={service.host: service.is_up(now, SERVICE_DOWN_SECONDS) for service in computes},
        leaving=frozenset(service.host for service in computes if service.leaving),
        nodes={node.report.uuid: node.host for node in nodes},
    )


def _ping(cell: Cell, deadline: Deadline) -> tuple[float | None, str | None]:
    """cell0 has no queue."""
    if cell.mapping.is_cell0:
        return None, None
    began = time.monotonic()
    try:
        cell.bus.ping(timeout=max(0.1, _QUEUE_SHARE * deadline.remaining()))
    except PolycellError as error:
        return None, reason_of(error)
    return time.monotonic() - began, None


def database_clock(tx: Connection) -> datetime:
    """What the database server says that the time is."""
    dialect = "mysql" if tx.dialect.name == "mariadb" else tx.dialect.name
    reported = str(tx.scalar(text(_CLOCKS[dialect])))
    return datetime.fromisoformat(reported[:26]).replace(tzinfo=UTC)
