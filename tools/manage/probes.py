"""One probe of every cell at once, by one deadline. A cell that doesn't answer is unreachable, never empty."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
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
from tools.manage.failures import explained
from tools.manage.urls import address

_CLOCKS = {
    "sqlite": "SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')",
    "mysql": "SELECT CAST(UTC_TIMESTAMP(6) AS CHAR)",
    "postgresql": "SELECT CAST(clock_timestamp() AT TIME ZONE 'utc' AS TEXT)",
}


@dataclass(frozen=True, slots=True)
class CellReport:
    """The report of one cell. `clock_seconds`: how far its database's clock is ahead of ours. `hosts`: its compute
    hosts, and whether each is up; empty where the schema is not the newest. `leaving`: those on the way to another
    cell. `missed`: those that are down and that no operator has disabled."""

    version: str | None
    identity: str | None
    database_seconds: float
    clock_seconds: float
    hosts: Mapping[str, bool] = field(default_factory=dict)
    leaving: frozenset[str] = frozenset()
    missed: frozenset[str] = frozenset()
    nodes: Mapping[str, str] = field(default_factory=dict)
    """Uuids of compute nodes with their hosts."""

    @property
    def current(self) -> bool:
        """Whether its schema is the one that this software wants."""
        return self.version == cell_schema.newest()


@dataclass(frozen=True, slots=True)
class QueueReport:
    """How long a queue took to answer, or why it did not."""

    seconds: float | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class CellProbe:
    """A cell, what its queue has answered (cell0 has none), and either the report of its database or why there is none.
    Errors say where the server is."""

    mapping: CellMapping
    report: CellReport | None
    error: str = ""
    queue: QueueReport | None = None


def probe(cloud: Cloud, mappings: Collection[CellMapping], seconds: float, down_seconds: float) -> list[CellProbe]:
    """All of the cells, in the order given. A host without a heartbeat for `down_seconds` is down."""
    deadline = Deadline.after(seconds, cloud.clock)

    def work(cell: Cell) -> CellReport:
        return _report(cloud, cell, deadline, down_seconds)

    with ThreadPoolExecutor(max(1, len(mappings)), thread_name_prefix="ping-queue") as pool:
        pings = {each.id: pool.submit(_ping, cloud, each, deadline) for each in mappings if not each.is_cell0}
        gathered = cloud.cells.scatter([mapping.id for mapping in mappings], work, deadline)
    return [
        CellProbe(
            mapping,
            gathered.answers.get(mapping.id),
            _located(cloud, mapping, gathered.failures.get(mapping.id)),
            pings[mapping.id].result() if mapping.id in pings else None,
        )
        for mapping in mappings
    ]


def reason_of(failure: PolycellError | None) -> str:
    """The failure in one line; empty without one."""
    return "" if failure is None else explained(failure)


def _report(cloud: Cloud, cell: Cell, deadline: Deadline, down_seconds: float) -> CellReport:
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
    now = cloud.clock.now()
    return CellReport(
        version=version,
        identity=owner,
        database_seconds=requested - began,
        clock_seconds=ahead.total_seconds() + (answered - requested) / 2,
        hosts={service.host: service.is_up(now, down_seconds) for service in computes},
        missed=frozenset(each.host for each in computes if not each.is_up(now, down_seconds) and not each.disabled),
        leaving=frozenset(service.host for service in computes if service.leaving),
        nodes={node.report.uuid: node.host for node in nodes},
    )


def _ping(cloud: Cloud, mapping: CellMapping, deadline: Deadline) -> QueueReport:
    began = time.monotonic()
    url = mapping.transport_url
    try:
        cell = cloud.cells.open(mapping.id)
        url = cell.bus.url
        cell.bus.ping(timeout=max(0.1, deadline.remaining()))
    except PolycellError as error:
        return QueueReport(None, f"{address(url)}: {error.fields.get('reason') or error}")
    return QueueReport(time.monotonic() - began)


def _located(cloud: Cloud, mapping: CellMapping, failure: PolycellError | None) -> str:
    """Why a cell's database gave no report, and where it is; empty when it did."""
    if failure is None:
        return ""
    try:
        url = cloud.cells.open(mapping.id).db.url
    except PolycellError:  # its mapping cannot be used, and the failure says why
        url = mapping.database_connection
    return f"{address(url)}: {failure.fields.get('reason') or failure}"


def database_clock(tx: Connection) -> datetime:
    """The time by the database server's clock."""
    dialect = "mysql" if tx.dialect.name == "mariadb" else tx.dialect.name
    reported = str(tx.scalar(text(_CLOCKS[dialect])))
    return datetime.fromisoformat(reported[:26]).replace(tzinfo=UTC)
