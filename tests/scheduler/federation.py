"""A global database and cells with hosts that have reported, on real databases and real Cells; nothing runs on them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from cell_service.context import Context, ManualClock, internal
from cell_service.db import compute_nodes, services
from cell_service.db.sql.engine import Database
from cell_service.model.host import NodeReport
from cell_service.model.instance import Flavor
from cell_service.model.request_spec import RequestSpec
from cell_service.rpc.memory import Bus
from mapping_db import cell_mappings, host_mappings
from mapping_db.cells.registry import CELL0_UUID, Cells
from mapping_db.placement import inventories, providers, traits
from mapping_db.placement.inventories import Inventory
from mapping_db.upgrades import GLOBAL
from tests.suites.clouds import cloud_in_memory
from tests.suites.schemas import prepare

NewUrl = Callable[[str], str]

SMALL = Flavor("1", "small", vcpus=1, memory_mib=512, root_gib=1)


def new_uuid() -> str:
    return str(uuid.uuid4())


def node_report(name: str, key: str, **more: Any) -> NodeReport:
    report = NodeReport(
        node=f"{name}.example.org", uuid=key, hypervisor_type="QEMU", hypervisor_version=8_002_003, host_ip="10.0.0.1",
        vcpus=8, memory_mib=8192, local_gib=100, supported_instances=(("x86_64", "qemu", "hvm"),),
        cpu_info={"arch": "x86_64", "features": ["avx", "avx2"], "topology": {"cores": 8}},
    )  # fmt: skip
    return replace(report, **more)


@dataclass
class Federation:
    new_url: NewUrl
    clock: ManualClock = field(default_factory=ManualClock)
    databases: dict[int, Database] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    """Host → uuid of its node and provider."""

    def __post_init__(self) -> None:
        self.db = Database(self.new_url("global"))
        prepare(self.db, GLOBAL)
        self.db.run(
            lambda tx: cell_mappings.insert_new(
                tx, uuid=CELL0_UUID, name="cell0", transport_url="none:///",
                database_connection=self.new_url("cell0"), now=self.clock.now(),
            )
        )  # fmt: skip
        self.cells = Cells(self.db, lambda url: Bus().connect(), self.clock)
        self.cloud = cloud_in_memory(self.db, self.cells, self.clock)

    def close(self) -> None:
        self.cells.close()
        for database in [self.db, *self.databases.values()]:
            database.dispose()

    @property
    def ctx(self) -> Context:
        return internal(self.clock)

    def cell(self, name: str, hosts: int = 0, **capacity: int) -> int:
        """A new cell, with that many hosts `<cell>-<number>`."""
        url = self.new_url(name)
        made = self.db.run(
            lambda tx: cell_mappings.insert_new(
                tx, uuid=new_uuid(), name=name, transport_url="none:///", database_connection=url, now=self.clock.now()
            )
        )
        self.databases[made.id] = Database(url)
        prepare(self.databases[made.id])
        self.cells.refresh()
        for number in range(hosts):
            self.host(made.id, f"{name}-{number}", **capacity)
        return made.id

    def host(
        self, cell_id: int, name: str, *, vcpus: int = 8, memory: int = 8192, disk: int = 100, mapped: bool = True,
        report: dict[str, Any] | None = None, has: tuple[str, ...] = (), **also: int,
    ) -> str:  # fmt: skip
        """A host that has registered and reported itself. Its key."""
        key = self.keys[name] = new_uuid()

        def in_cell(tx: Any) -> None:
            service = services.register(
                tx, host=name, binary=services.COMPUTE, topic=f"compute.{name}", version=1, now=self.clock.now()
            )
            compute_nodes.report(tx, service.id, name, node_report(name, key, **(report or {})), self.clock.now())

        def globally(tx: Any) -> None:
            provider = providers.add(tx, key, f"{name}.example.org", self.clock.now())
            stock = {"VCPU": vcpus, "MEMORY_MB": memory, "DISK_GB": disk, **also}
            inventories.put(
                tx, provider, {name: Inventory(total) for name, total in stock.items()}, 0, self.clock.now()
            )
            for trait in has:
                if trait.startswith("CUSTOM_"):
                    traits.add(tx, trait)
            traits.put(tx, provider, has, None, self.clock.now())
            if mapped:
                host_mappings.insert_missing(tx, cell_id, [name], self.clock.now())

        self.databases[cell_id].run(in_cell)
        self.db.run(globally)
        return key

    def heartbeat(self, cell_id: int, host: str) -> None:
        self.databases[cell_id].run(lambda tx: services.heartbeat(tx, host, services.COMPUTE, self.clock.now()))

    def spec(self, **more: Any) -> RequestSpec:
        base = RequestSpec(instance_uuid=new_uuid(), project_id="p1", user_id="u1", flavor=SMALL, image_id="i1")
        return replace(base, **more)
