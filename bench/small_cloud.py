"""The Compute API without a network: cells in SQLite files with made-up rows, requests that go straight to the edge."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, insert

from api_cell.app import COMPUTE, Services
from api_cell.compute import policies
from api_cell.config import ApiSettings, Quota
from api_cell.contract import SuperConductor
from api_cell.edge.dispatcher import Call, Dispatcher
from api_cell.edge.policy import Policy
from api_cell.edge.router import Router
from cell_service.context import SYSTEM_CLOCK, Context, Deadline
from cell_service.db import compute_nodes, schema, server_migrations, services
from cell_service.db.sql.engine import Database
from cell_service.http.exchange import Exchange
from cell_service.http.paths import split
from cell_service.http.response import RenderedResponse
from cell_service.model.host import NodeReport
from cell_service.model.instance import Flavor
from cell_service.model.migration import Migration
from cell_service.rpc.contract import client
from cell_service.rpc.memory import Bus, MemoryTransport
from mapping_db import cell_mappings, flavors, host_mappings, instance_mappings
from mapping_db.cells.registry import CELL0_UUID, Cells
from mapping_db.schema import metadata as global_metadata
from tests.suites.clouds import cloud_in_memory
from tools.manage import seed_rows

PROJECT, USER = "bench-project", "bench-user"
UNBOUND = Quota(instances=-1, cores=-1, ram=-1, key_pairs=-1, server_groups=-1)
WITH_AGENT = {"image_hw_qemu_guest_agent": "yes"}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGjW2DMVvlm6bKzj5LnHGBJYQCXSm8xGLBOCyOnGxJSP bench@example"


@dataclass(frozen=True, slots=True)
class _Sent:
    """As much of a request as a worker thread reads."""

    method: str
    headers: Mapping[str, str]
    body: bytes


class SmallCloud:
    """cell0 and two cells; `servers` servers, and as many of everything else as `others` says."""

    def __init__(self, directory: Path, servers: int, others: int) -> None:
        self.directory = directory
        self.settings = ApiSettings(quota=UNBOUND)
        self.db = self._database("global", global_metadata)
        names = ("cell0", "cell1", "cell2")
        ids = [self._map(name) for name in names]
        self.cells = Cells(self.db, lambda url: MemoryTransport(Bus()))
        self.cells.refresh()
        cloud = cloud_in_memory(self.db, self.cells)
        policy = Policy(policies.RULES, self.settings.policy)
        self._router = Router(COMPUTE.routes)
        self._dispatch = Dispatcher(COMPUTE, cloud, Services(self.settings, client(SuperConductor, cloud.bus)), policy)
        self._roles = ("admin", "manager", "member", "reader")
        self.uuids: list[str] = []
        self.hosts: list[str] = []
        self.group = ""
        for position, cell_id in enumerate(ids[1:]):
            self._fill(cell_id, names[1 + position], servers // 2 + (servers % 2 if position else 0), others)
        self._make_global(others)

    def close(self) -> None:
        self.cells.close()
        self.db.dispose()

    def ask(self, path: str, version: tuple[int, int], method: str = "GET", body: Any = None) -> RenderedResponse:
        """The answer to an administrator's request. Raises LookupError where there is no such path."""
        path, _, query = path.partition("?")
        found = self._router.find(split(path))
        if found is None:
            raise LookupError(path)
        sent = _Sent(method, {}, b"" if body is None else json.dumps(body).encode())
        deadline = Deadline.after(60)
        ctx = Context(request_id="req-bench", user_id=USER, project_id=PROJECT, roles=self._roles, is_admin=True,
                      deadline=deadline)  # fmt: skip
        call = Call(cast(Exchange, sent), "req-bench", path, query, version, deadline, lambda response: None,
                    "http://bench", "/v2.1", versioned=True, match=found[0], values=found[1], ctx=ctx)  # fmt: skip
        return self._dispatch(call)

    def node(self, host: str) -> str:
        """The uuid of the host's hypervisor."""
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, host))

    # -- rows -------------------------------------------------------------------------------------

    def _database(self, name: str, tables: Any) -> Database:
        made = Database(f"sqlite:///{self.directory}/{name}.db")
        tables.create_all(made.engine)
        return made

    def _map(self, name: str) -> int:
        made = self._database(name, schema.metadata)
        url = made.url.render_as_string()
        made.dispose()
        identity = CELL0_UUID if name == "cell0" else str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
        now = SYSTEM_CLOCK.now()
        with self.db.begin() as tx:
            return cell_mappings.insert_new(tx, uuid=identity, name=name, transport_url="memory://none",
                                            database_connection=url, now=now).id  # fmt: skip

    def _fill(self, cell_id: int, name: str, servers: int, others: int) -> None:
        mapping = next(each for each in self.cells.all() if each.id == cell_id)
        planned = seed_rows.plan(mapping, PROJECT, 1, servers, others)
        made = [replace(seed_rows.instance(each, PROJECT), system_metadata=WITH_AGENT) for each in planned]
        hosts = [f"{seed_rows.HOST_PREFIX}{cell_id}-{number}" for number in range(others)]

        def work(tx: Connection) -> None:
            if made:
                tx.execute(insert(schema.instances), [seed_rows.cell_row(each) for each in made])
                tx.execute(insert(schema.instance_actions), [seed_rows.action_row(each) for each in made])
            for host in hosts:
                self._add_host(tx, host)
            for number, each in enumerate(made[:others]):
                server_migrations.store(tx, _migration(number + 1, each.uuid, hosts[number]))

        self.cells.open(cell_id).db.run(work, Deadline.after(60))
        with self.db.begin() as tx:
            if made:
                instance_mappings.insert_new(tx, [seed_rows.mapping(each, mapping) for each in made])
            host_mappings.insert_missing(tx, cell_id, hosts, SYSTEM_CLOCK.now())
        self.uuids += [each.uuid for each in made]
        self.hosts += hosts

    def _add_host(self, tx: Connection, host: str) -> None:
        now = SYSTEM_CLOCK.now()
        service = services.register(tx, host=host, binary="nova-compute", topic="compute", version=1, now=now)
        report = NodeReport(node=host, uuid=self.node(host), hypervisor_type="QEMU",
                            hypervisor_version=8002000, host_ip="192.0.2.1", vcpus=8, memory_mib=16384, local_gib=100,
                            vcpus_used=0, memory_mib_used=0, local_gib_used=0, running_vms=0, cpu_info={})  # fmt: skip
        compute_nodes.report(tx, service.id, host, report, now)

    def _make_global(self, others: int) -> None:
        specs = {"trait:CUSTOM_A": "required"}
        made = [Flavor(f"f{number}", f"f{number}", 1, 64, 1, extra_specs=specs) for number in range(others)]
        with self.db.begin() as tx:
            for flavor in (seed_rows.FLAVORS[0], *made):
                flavors.insert_flavor(tx, flavor, SYSTEM_CLOCK.now())
        for number in range(others):
            self._make("/os-keypairs", {"keypair": {"name": f"k{number}", "public_key": KEY}})
            group = {"server_group": {"name": f"g{number}", "policies": ["affinity"]}}
            self.group = self._make("/os-server-groups", group)["server_group"]["id"]
            host = self.hosts[number]
            aggregate = self._make("/os-aggregates", {"aggregate": {"name": f"a{number}"}})["aggregate"]["id"]
            self._make(f"/os-aggregates/{aggregate}/action", {"add_host": {"host": host}})

    def _make(self, path: str, body: Any) -> Any:
        answer = self.ask(path, (2, 1), "POST", body)
        if answer.status >= 300:
            raise RuntimeError(f"{path}: {answer.status} {answer.body.decode()}")
        return json.loads(answer.body)


def _migration(number: int, server: str, host: str) -> Migration:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    return Migration(
        id=number, uuid=str(uuid.uuid5(uuid.NAMESPACE_OID, server)), instance_uuid=server, migration_type="migration",
        status="confirmed", request_id="req-bench", user_id=USER, project_id=PROJECT, created_at=moment,
        source_compute=host, source_node=host, dest_compute=host, dest_node=host,
    )  # fmt: skip
