"""The Compute API over HTTP on a global database and cells in SQLite files: everything is real but the identity."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from api_cell.app import ApiServer, Services, make_compute_app
from api_cell.config import ApiSection, ApiSettings
from api_cell.contract import SuperConductor
from cell_service.context import Deadline, ManualClock
from cell_service.db import compute_nodes, services
from cell_service.db.sql.engine import Database
from cell_service.db.upgrades import CELL, Schema
from cell_service.model.host import NodeReport, Service
from cell_service.rpc.contract import client
from cell_service.rpc.memory import Bus, MemoryTransport
from mapping_db import cell_mappings, host_mappings
from mapping_db.cells.registry import CELL0_UUID, Cells
from mapping_db.upgrades import GLOBAL
from tests.edge.client import Client
from tests.suites.clouds import cloud_in_memory
from tests.suites.schemas import prepare

UNREACHABLE = "mysql://nobody@127.0.0.1:1/none"


class ComputeApi:
    """cell0, cell1 and cell2 (or more), a clock turned by hand, and a server on a port of its own."""

    def __init__(
        self, directory: Path, settings: ApiSettings | None = None, cells: int = 2,
        create: Callable[[], str] | None = None,
    ) -> None:  # fmt: skip
        """`create` makes an empty database and answers its URL; without it they are files."""
        self.settings = settings or ApiSettings(api=ApiSection(auth_strategy="noauth2"))
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self._directory, self._create = directory, create
        self._urls = {"global": self._made("global", GLOBAL)}
        self.db = Database(self._urls["global"])
        self.buses: dict[str, Bus] = {}
        self.cell_ids = {name: self._map(name) for name in (f"cell{number}" for number in range(cells + 1))}
        self.cells = Cells(self.db, self._transport, self.clock)
        self.cells.refresh()
        self.cloud = cloud_in_memory(self.db, self.cells, self.clock)
        self.services = Services(self.settings, client(SuperConductor, self.cloud.bus))
        self.server = ApiServer(make_compute_app(self.cloud, self.services, self.settings))
        self.server.start()
        self._clients: list[Client] = []
        self.client = self.as_user("admin", "admin-project")

    def as_user(self, user: str, project: str) -> Client:
        made = Client(self.server.port, token=f"{user}:{project}")
        self._clients.append(made)
        return made

    def close(self) -> None:
        for each in self._clients:
            each.close()
        self.server.drain(0)
        self.cells.close()
        self.db.dispose()

    def in_cell(self, name: str, work: Callable[[Connection], Any]) -> Any:
        return self.cells.open(self.cell_ids[name]).db.run(work, Deadline.after(60, self.clock))

    def silence(self, name: str) -> None:
        """The cell's database does not answer any more."""
        self._point(name, UNREACHABLE)

    def wake(self, name: str) -> None:
        self._point(name, self._urls[name])

    def add_host(self, cell: str, host: str, **report: Any) -> tuple[Service, NodeReport]:
        """A compute host as its conductor would register it, up now, and mapped."""
        now = self.clock.now()
        values: dict[str, Any] = {
            "node": host, "uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, host)), "hypervisor_type": "QEMU",
            "hypervisor_version": 8002000, "host_ip": "192.0.2.1", "vcpus": 8, "memory_mib": 16384, "local_gib": 100,
            "vcpus_used": 2, "memory_mib_used": 1024, "local_gib_used": 10, "running_vms": 1,
            "cpu_info": {"arch": "x86_64", "model": "kvm64"}, "uptime": " 08:32:11 up 93 days",
        }  # fmt: skip
        made = NodeReport(**(values | report))

        def work(tx: Connection) -> Service:
            service = services.register(tx, host=host, binary="nova-compute", topic="compute", version=1, now=now)
            compute_nodes.report(tx, service.id, host, made, now)
            compute_nodes.set_mapped(tx, [made.uuid])
            return service

        service = self.in_cell(cell, work)
        with self.db.begin() as tx:
            host_mappings.insert_missing(tx, self.cell_ids[cell], [host], now)
        return service, made

    def _point(self, name: str, url: str) -> None:
        with self.db.begin() as tx:
            cell_mappings.change(tx, _uuid(name), now=self.clock.now(), database_connection=url)
        self.cells.refresh()

    def _map(self, name: str) -> int:
        self._urls[name] = self._made(name, CELL)
        with self.db.begin() as tx:
            return cell_mappings.insert_new(
                tx, uuid=_uuid(name), name=name, transport_url=f"memory://{name}", now=self.clock.now(),
                database_connection=self._urls[name],
            ).id  # fmt: skip

    def _made(self, name: str, schema: Schema) -> str:
        """A database with this schema."""
        url = self._create() if self._create else f"sqlite:///{self._directory}/{name}.db"
        made = Database(url)
        prepare(made, schema)
        made.dispose()
        return url

    def _transport(self, url: str) -> MemoryTransport:
        return MemoryTransport(self.buses.setdefault(url, Bus()))


def _uuid(name: str) -> str:
    return CELL0_UUID if name == "cell0" else str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
