"""Many hosts and two conductors on real threads and a real clock, with faults: all ends well, nothing is left over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Connection, func, select

from cell_service.conductor.config import ConductorSettings
from cell_service.conductor.service import ConductorService
from cell_service.context import SYSTEM_CLOCK, internal
from cell_service.db import actions, instances, operations
from cell_service.db.schema import instances as instances_table
from cell_service.db.schema import metadata
from cell_service.db.schema import operations as operations_table
from cell_service.db.sql.engine import Database
from cell_service.model.instance import Flavor, Instance
from cell_service.model.lifecycle import Task, VmState
from cell_service.model.operation import Alternate, BuildArguments
from cell_service.operations.builds import BUILD
from cell_service.operations.deletes import DELETE
from cell_service.rpc.memory import Bus, MemoryTransport
from compute_host.config import HostSettings, SimulatedOptions
from compute_host.dependencies import HostDependencies
from compute_host.fleet import Fleet
from tests.real.databases import wait_until
from tests.suites.peers import MemoryImages, MemoryNetworks, MemoryPlacement

HOSTS = [f"h{number}" for number in range(8)]
FLAVOR = Flavor(flavorid="1", name="small", vcpus=1, memory_mib=64, root_gib=1)


class Threaded:
    """A cell whose parts run on threads of their own."""

    def __init__(self, directory: Path, url: str) -> None:
        self.db = Database(url)
        metadata.create_all(self.db.engine)
        self.directory = directory
        self.bus = Bus()
        self.images, self.networks, self.placement = MemoryImages(), MemoryNetworks(), MemoryPlacement()
        self.image_id = self.images.add()
        self.faults = directory / "faults.json"
        settings = ConductorSettings(host="c", poll_seconds=0.2)
        self.conductors = [
            ConductorService(self.db, MemoryTransport(self.bus), self.networks, self.placement, settings)
            for _ in range(2)
        ]
        self.fleet = self.new_fleet()
        for conductor in self.conductors:
            conductor.start()
        self.fleet.start()
        assert self.fleet.wait_ready(60)

    def new_fleet(self) -> Fleet:
        options = SimulatedOptions(boot_seconds=0.01, verb_seconds=0.001, faults_file=str(self.faults))
        hosts = [
            HostSettings(
                host=name,
                state=self.directory / name,
                image_cache=self.directory / "images",
                report_seconds=1,
                simulated=options,
            )
            for name in HOSTS
        ]
        dependencies = HostDependencies(
            MemoryTransport(self.bus), networks=self.networks, placement=self.placement, images=self.images
        )
        return Fleet(hosts, dependencies)

    def stop(self) -> None:
        self.fleet.stop()
        for conductor in self.conductors:
            conductor.stop()
        self.db.dispose()

    def boot(self, number: int) -> str:
        first, *others = HOSTS[number % len(HOSTS) :] + HOSTS[: number % len(HOSTS)]
        ctx, now, uuid = internal(), SYSTEM_CLOCK.now(), str(uuid4())
        instance = Instance(
            uuid=uuid, project_id="p", user_id="u", display_name=f"s{number}", flavor=FLAVOR, created_at=now,
            image_ref=self.image_id, host=first, node=first,
        )  # fmt: skip
        build = BuildArguments(alternates=tuple(self.alternate(host) for host in others[:2]))

        def work(tx: Connection) -> None:
            instances.insert_new(tx, instance)
            actions.start(tx, ctx, uuid, "create", now)
            operations.insert(tx, operations.new_operation(BUILD, ctx, uuid, first, now, build=build))

        self.placement.allocations[uuid] = self.alternate(first).allocations
        self.db.run(work)
        self.conductors[0].deps.wake(ctx, first)
        return uuid

    def delete(self, uuid: str) -> None:
        ctx, now = internal(), SYSTEM_CLOCK.now()

        def work(tx: Connection) -> str | None:
            instance = instances.get(tx, uuid)
            instances.change(tx, uuid, now=now, task_state=Task.DELETING)
            operations.supersede(tx, uuid, now)
            operations.insert(tx, operations.new_operation(DELETE, ctx, uuid, instance.host, now))
            return instance.host

        host = self.db.run(work)
        if host is not None:
            self.conductors[0].deps.wake(ctx, host)

    def alternate(self, host: str) -> Alternate:
        provider = self.fleet.agents[host].driver.nodes()[0].uuid
        return Alternate(host, host, provider, {provider: {"VCPU": 1}})

    def states(self) -> dict[str, int]:
        with self.db.connect() as tx:
            rows = tx.execute(select(instances_table.c.vm_state, func.count()).group_by(instances_table.c.vm_state))
            return {row[0]: row[1] for row in rows}

    def guests(self) -> dict[str, str]:
        """Guest → its host. A guest on two hosts is an error."""
        found: dict[str, str] = {}
        for host, agent in self.fleet.agents.items():
            for guest in agent.driver.guests():
                assert guest.uuid not in found
                found[guest.uuid] = host
        return found

    def check(self) -> None:
        """Guests, ports, allocations and instances tell the same story."""
        with self.db.connect() as tx:
            living = instances.get_many(tx, [row[0] for row in tx.execute(select(instances_table.c.uuid))])
        active = {uuid: one.host for uuid, one in living.items() if one.vm_state is VmState.ACTIVE}
        assert self.guests() == active
        assert set(self.placement.allocations) == set(active)
        assert {port.instance_uuid for port in self.networks.ports.values()} == set(active)
        for uuid, host in active.items():
            assert host is not None
            assert self.placement.allocations[uuid] == self.alternate(host).allocations


@pytest.fixture
def cell(tmp_path: Path, empty_url: str) -> Iterator[Threaded]:
    made = Threaded(tmp_path, empty_url)
    yield made
    made.stop()


def unfinished(cell: Threaded) -> int:
    with cell.db.connect() as tx:
        return sum(len(operations.unfinished(tx, row[0])) for row in tx.execute(select(instances_table.c.uuid)).all())


def claimed(cell: Threaded) -> int:
    with cell.db.connect() as tx:
        return tx.execute(select(func.count()).where(operations_table.c.owner.is_not(None))).scalar_one()


def test_a_burst_with_faults_and_deletes_ends_with_every_instance_accounted_for(cell: Threaded) -> None:
    cell.faults.write_text(json.dumps({"spawn": {"rate": 0.3}, "destroy": {"rate": 0.05}}))
    uuids = [cell.boot(number) for number in range(40)]
    for uuid in uuids[::4]:
        cell.delete(uuid)
    wait_until(lambda: unfinished(cell) == 0, "work is left")
    states = cell.states()
    assert set(states) <= {"active", "error", "deleted"}
    assert states["deleted"] == 10
    assert states["active"] > 10
    cell.check()


def test_a_fleet_stopped_in_the_middle_goes_on_where_it_was(cell: Threaded) -> None:
    for number in range(24):
        cell.boot(number)
    cell.fleet.stop(grace_seconds=0)
    cell.fleet = cell.new_fleet()
    cell.fleet.start()
    wait_until(lambda: cell.states() == {"active": 24}, "builds are left")
    cell.check()


def test_a_silent_queue_loses_nothing(cell: Threaded) -> None:
    cell.images.delivering.clear()
    for number in range(8):
        cell.boot(number)
    wait_until(lambda: claimed(cell) == 8, "not all builds are claimed")
    cell.bus.unreachable.set()
    cell.images.delivering.set()
    wait_until(lambda: len(cell.guests()) == 8, "builds under way have stopped")
    for number in range(8, 16):
        cell.boot(number)
    assert cell.states() == {"building": 16}
    cell.bus.unreachable.clear()
    wait_until(lambda: cell.states() == {"active": 16}, "builds are left")
    cell.check()
