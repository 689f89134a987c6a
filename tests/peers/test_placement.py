"""The placement client against the real Placement API."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from api_cell.config import ApiSection, ApiSettings, PolicySection
from api_cell.edge.auth import NoAuth
from api_cell.edge.server import ApiServer
from api_cell.placement.app import make_placement_app
from cell_service.context import internal
from cell_service.db.sql.engine import Database
from cell_service.errors import Conflict, InventoryExceeded, PeerUnavailable, PlacementNameTaken
from cell_service.model.host import NodeReport
from cell_service.peers.placement import Placement
from cell_service.peers.placement_http import open_placement
from cell_service.peers.settings import PlacementSettings
from mapping_db import schema
from mapping_db.placement import inventories, providers, traits
from tests.suites.clouds import cloud_in_memory


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'global.sqlite'}")
    schema.metadata.create_all(made.engine)
    yield made
    made.dispose()


@pytest.fixture
def server(db: Database) -> Iterator[ApiServer]:
    cloud = cloud_in_memory(db)
    settings = ApiSettings(api=ApiSection(auth_strategy="noauth2"), policy=PolicySection())
    made = ApiServer(make_placement_app(cloud, settings, NoAuth()))
    made.start()
    yield made
    made.drain(2)


@pytest.fixture
def placement(server: ApiServer) -> Placement:
    return open_placement(PlacementSettings(auth_type="none", endpoint_override=f"http://127.0.0.1:{server.port}"))


def node(name: str = "n1", **fields: Any) -> NodeReport:
    usual: dict[str, Any] = {
        "node": name,
        "uuid": str(uuid4()),
        "hypervisor_type": "simulated",
        "hypervisor_version": 1,
        "host_ip": "127.0.0.1",
        "vcpus": 8,
        "memory_mib": 16384,
        "local_gib": 100,
        "traits": ("HW_CPU_X86_AVX2", "CUSTOM_FAST"),
    }
    return NodeReport(**(usual | fields))


def has(db: Database, uuid: str) -> tuple[dict[str, Any], set[str], int]:
    """Inventories, traits and generation of a provider."""
    with db.connect() as tx:
        provider = providers.get(tx, uuid)
        return inventories.of_provider(tx, provider.id), set(traits.of_provider(tx, provider.id)), provider.generation


def test_a_report_makes_the_provider_and_is_quiet_after(placement: Placement, db: Database) -> None:
    report = node(reserved_vcpus=1)
    placement.report(internal(), report)
    stock, names, generation = has(db, report.uuid)
    assert {name: (one.total, one.reserved, one.allocation_ratio) for name, one in stock.items()} == {
        "VCPU": (8, 1, 4.0),
        "MEMORY_MB": (16384, 512, 1.0),
        "DISK_GB": (100, 0, 1.0),
    }
    assert names == {"HW_CPU_X86_AVX2", "CUSTOM_FAST"}

    placement.report(internal(), report)
    assert has(db, report.uuid)[2] == generation


def test_a_report_follows_the_node_and_keeps_what_others_set(placement: Placement, db: Database) -> None:
    report = node()
    placement.report(internal(), report)
    placement.set_disabled(internal(), report.uuid, True)
    placement.report(internal(), replace(report, memory_mib=8192, local_gib=0, traits=("HW_CPU_X86_VMX",)))
    stock, names, _ = has(db, report.uuid)
    assert {name: one.total for name, one in stock.items()} == {"VCPU": 8, "MEMORY_MB": 8192}
    assert names == {"HW_CPU_X86_VMX", "CUSTOM_FAST", "COMPUTE_STATUS_DISABLED"}
    placement.set_disabled(internal(), report.uuid, False)
    assert "COMPUTE_STATUS_DISABLED" not in has(db, report.uuid)[1]


def test_a_name_belongs_to_one_provider(placement: Placement) -> None:
    placement.report(internal(), node("n1"))
    with pytest.raises(PlacementNameTaken):
        placement.report(internal(), node("n1"))


def test_allocations_are_moved_and_released(placement: Placement) -> None:
    one, other, consumer = node("n1"), node("n2"), str(uuid4())
    for report in (one, other):
        placement.report(internal(), report)
    assert placement.allocations_of(internal(), consumer) == {}

    for report in (one, other, other):
        held = {report.uuid: {"VCPU": 2, "MEMORY_MB": 512}}
        placement.move(internal(), consumer, held, "p1", "u1")
        assert placement.allocations_of(internal(), consumer) == held
    assert placement.consumers_on(internal(), one.uuid) == {}
    assert placement.consumers_on(internal(), other.uuid) == {consumer: {"VCPU": 2, "MEMORY_MB": 512}}
    with pytest.raises(Conflict):
        placement.delete_provider(internal(), other.uuid)

    placement.release(internal(), consumer)
    placement.release(internal(), consumer)
    assert placement.consumers_on(internal(), other.uuid) == {}
    placement.delete_provider(internal(), other.uuid)
    placement.delete_provider(internal(), other.uuid)
    assert placement.consumers_on(internal(), other.uuid) == {}


def test_what_does_not_fit_changes_nothing(placement: Placement) -> None:
    one, small, consumer = node("n1"), node("n2", memory_mib=1024), str(uuid4())
    for report in (one, small):
        placement.report(internal(), report)
    held = {one.uuid: {"MEMORY_MB": 2048}}
    placement.move(internal(), consumer, held, "p1", "u1")
    with pytest.raises(InventoryExceeded):
        placement.move(internal(), consumer, {small.uuid: {"MEMORY_MB": 2048}}, "p1", "u1")
    with pytest.raises(InventoryExceeded):
        placement.move(internal(), consumer, {str(uuid4()): {"MEMORY_MB": 1}}, "p1", "u1")
    assert placement.allocations_of(internal(), consumer) == held


def test_writers_at_once_all_come_through(placement: Placement, db: Database) -> None:
    report = node()
    placement.report(internal(), report)
    errors: list[BaseException] = []
    together = threading.Barrier(4)

    def write(number: int) -> None:
        together.wait(10)
        try:
            for _ in range(5):
                placement.report(internal(), replace(report, vcpus=number + 2))
                placement.set_disabled(internal(), report.uuid, number % 2 == 0)
        except Conflict:
            """Others may win as often as they like; a writer gives up after some attempts."""
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert has(db, report.uuid)[0]["VCPU"].total in range(2, 6)


def test_a_service_that_is_down_is_said_to_be() -> None:
    nobody = open_placement(PlacementSettings(auth_type="none", endpoint_override="http://127.0.0.1:1"))
    with pytest.raises(PeerUnavailable, match="no connection"):
        nobody.release(internal(), str(uuid4()))
    nowhere = open_placement(PlacementSettings(auth_type="none"))
    with pytest.raises(PeerUnavailable):
        nowhere.release(internal(), str(uuid4()))
