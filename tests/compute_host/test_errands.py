"""What hosts do for moves, step by step, as whoever runs a move would ask for it; and with kills in the middle."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from cell_service import wire
from cell_service.db import identity, instances, server_migrations
from cell_service.model.instance import Flavor
from cell_service.model.lifecycle import PowerState, State, Task, VmState
from cell_service.model.migration import COLD, EVACUATION, LIVE, Migration
from cell_service.model.operation import Outcome
from cell_service.operations.declaration import Operation
from cell_service.operations.host_tasks import ACTIVATE, CLEAN_UP, PREPARE_DESTINATION, PREPARE_SOURCE
from cell_service.operations.power import STOP
from tests.suites.one_cell import FLAVOR, OneCell
from tests.suites.steps import KillSwitch

_numbers = count(1)
LARGE = replace(FLAVOR, flavorid="2", name="large", vcpus=2)


@pytest.fixture
def cell(tmp_path: Path) -> OneCell:
    made = OneCell(tmp_path)
    made.host("h1")
    made.host("h2")
    return made


def active(cell: OneCell, host: str = "h1") -> str:
    uuid = cell.boot(host)
    cell.hosts[host].claim()
    assert cell.instance(uuid).state == State(VmState.ACTIVE)
    return uuid


def done(cell: OneCell, uuid: str, kind: Operation[Any, Any], host: str, **arguments: Any) -> Outcome:
    """The errand, done at once."""
    errand = cell.errand(uuid, kind, host, **arguments)
    cell.hosts[host].claim()
    outcome = cell.ended(errand)
    assert outcome is not None
    return outcome


def begin(cell: OneCell, uuid: str, kind: str, source: str, dest: str | None, task: Task) -> str:
    """The rows of a move under way; answers the migration's uuid."""
    migration = Migration(
        id=next(_numbers),
        uuid=str(uuid4()),
        instance_uuid=uuid,
        migration_type=kind,
        status="migrating",
        request_id="req",
        user_id="u",
        project_id="p",
        created_at=cell.clock.now(),
        source_compute=source,
        dest_compute=dest,
    )
    cell.db.run(lambda tx: server_migrations.store(tx, migration))
    change(cell, uuid, task_state=task)
    return migration.uuid


def change(cell: OneCell, uuid: str, **columns: Any) -> None:
    assert cell.db.run(lambda tx: instances.change(tx, uuid, now=cell.clock.now(), **columns))


def end(cell: OneCell, migration: str, status: str) -> None:
    assert cell.db.run(lambda tx: server_migrations.change(tx, migration, cell.clock.now(), status=status))


def flavor(of: Flavor) -> dict[str, Any]:
    return dict(wire.to_plain(of))


def running_on(cell: OneCell, uuid: str) -> list[str]:
    return [name for name, host in cell.hosts.items() if host.guests().get(uuid) is PowerState.RUNNING]


# -- moves that go well ------------------------------------------------------------------------------


def test_a_cold_move_takes_the_guest_over_and_leaves_nothing(cell: OneCell) -> None:
    uuid = active(cell)
    begin(cell, uuid, COLD, "h1", "h2", Task.RESIZE_MIGRATING)
    out = done(cell, uuid, PREPARE_SOURCE, "h1", shutdown=True)
    assert out.fault is None
    assert out.result["was_running"] is True
    assert running_on(cell, uuid) == []

    arrived = done(cell, uuid, PREPARE_DESTINATION, "h2", luggage=out.result["luggage"], flavor=flavor(LARGE))
    assert (arrived.fault, arrived.power_state) == (None, PowerState.SHUTDOWN)
    assert cell.hosts["h2"].driver.nodes()[0].vcpus_used == 2

    ran = done(cell, uuid, ACTIVATE, "h2", run=True, flavor=flavor(LARGE))
    assert (ran.fault, ran.power_state) == (None, PowerState.RUNNING)
    assert ran.network_info == cell.instance(uuid).network_info
    assert [port.host for port in cell.networks.of(uuid)] == ["h2"]

    assert done(cell, uuid, CLEAN_UP, "h1").fault is None
    assert cell.guests_of(uuid) == ["h2"]
    assert len(cell.networks.of(uuid)) == 1
    assert uuid in cell.placement.allocations
    assert cell.instance(uuid).task_state is Task.RESIZE_MIGRATING


def test_a_live_move_goes_on_where_it_arrives(cell: OneCell) -> None:
    uuid = active(cell)
    begin(cell, uuid, LIVE, "h1", "h2", Task.MIGRATING)
    out = done(cell, uuid, PREPARE_SOURCE, "h1", live=True)
    assert out.power_state is PowerState.PAUSED
    luggage = out.result["luggage"]
    assert done(cell, uuid, PREPARE_DESTINATION, "h2", live=True, luggage=luggage).fault is None
    assert running_on(cell, uuid) == []
    assert done(cell, uuid, ACTIVATE, "h2", live=True, luggage=luggage, run=True).power_state is PowerState.RUNNING
    assert running_on(cell, uuid) == ["h2"]


@pytest.mark.parametrize("live", [False, True])
def test_a_move_is_undone_by_running_it_at_its_source(cell: OneCell, live: bool) -> None:
    uuid = active(cell)
    begin(cell, uuid, LIVE if live else COLD, "h1", "h2", Task.MIGRATING)
    out = done(cell, uuid, PREPARE_SOURCE, "h1", live=live)
    cell.hosts["h2"].faults.write_text(json.dumps({"receive": {"error": "HostOutOfSpace", "reason": "too many"}}))
    failed = done(cell, uuid, PREPARE_DESTINATION, "h2", luggage=out.result["luggage"], live=live)
    assert failed.fault is not None
    assert "too many" in failed.fault.message
    assert cell.hosts["h2"].guests() == {}
    back = done(cell, uuid, ACTIVATE, "h1", run=out.result["was_running"])
    assert (back.fault, back.power_state) == (None, PowerState.RUNNING)
    assert [port.host for port in cell.networks.of(uuid)] == ["h1"]
    assert cell.instance(uuid).vm_state is VmState.ACTIVE


def test_a_stopped_guest_stays_stopped(cell: OneCell) -> None:
    uuid = active(cell)
    cell.act(uuid, STOP)
    cell.hosts["h1"].claim()
    begin(cell, uuid, COLD, "h1", "h2", Task.RESIZE_MIGRATING)
    out = done(cell, uuid, PREPARE_SOURCE, "h1")
    assert out.result["was_running"] is False
    done(cell, uuid, PREPARE_DESTINATION, "h2", luggage=out.result["luggage"])
    assert done(cell, uuid, ACTIVATE, "h2", run=False).power_state is PowerState.SHUTDOWN
    assert [port.host for port in cell.networks.of(uuid)] == ["h2"]


def test_without_luggage_the_guest_is_made_from_its_image(cell: OneCell) -> None:
    uuid = active(cell)
    begin(cell, uuid, EVACUATION, "h1", "h2", Task.REBUILDING)
    assert done(cell, uuid, PREPARE_DESTINATION, "h2", admin_password="new").power_state is PowerState.SHUTDOWN
    assert done(cell, uuid, ACTIVATE, "h2", run=True).power_state is PowerState.RUNNING

    other = active(cell, "h2")
    cell.images.down = True
    begin(cell, other, EVACUATION, "h2", "h1", Task.REBUILDING)
    outcome = done(cell, other, PREPARE_DESTINATION, "h1")
    assert outcome.fault is not None
    assert other not in cell.hosts["h1"].guests()


def test_a_resize_on_the_same_host_gives_the_size_and_takes_it_back(cell: OneCell) -> None:
    uuid, host = active(cell), cell.hosts["h1"]
    begin(cell, uuid, "resize", "h1", "h1", Task.RESIZE_MIGRATING)
    out = done(cell, uuid, PREPARE_SOURCE, "h1")
    for size in (LARGE, FLAVOR):
        done(cell, uuid, PREPARE_DESTINATION, "h1", luggage=out.result["luggage"], flavor=flavor(size))
        assert host.driver.nodes()[0].vcpus_used == size.vcpus
    huge = replace(LARGE, memory_mib=10**6)
    refused = done(cell, uuid, PREPARE_DESTINATION, "h1", luggage=out.result["luggage"], flavor=flavor(huge))
    assert refused.fault is not None
    assert host.driver.nodes()[0].vcpus_used == FLAVOR.vcpus
    assert done(cell, uuid, ACTIVATE, "h1", run=True).power_state is PowerState.RUNNING


def test_a_hypervisor_whose_guests_cannot_move_says_so(cell: OneCell) -> None:
    uuid = active(cell)
    cell.hosts["h1"].switch.lacking.add("pack")
    outcome = done(cell, uuid, PREPARE_SOURCE, "h1")
    assert outcome.fault is not None
    assert outcome.fault.code == 501
    assert running_on(cell, uuid) == ["h1"]


def test_a_port_that_cannot_be_bound_keeps_the_guest_off(cell: OneCell) -> None:
    uuid = active(cell)
    begin(cell, uuid, COLD, "h1", "h2", Task.RESIZE_FINISH)
    luggage = done(cell, uuid, PREPARE_SOURCE, "h1").result["luggage"]
    done(cell, uuid, PREPARE_DESTINATION, "h2", luggage=luggage)
    cell.networks.down = True
    assert done(cell, uuid, ACTIVATE, "h2", run=True).fault is not None
    assert running_on(cell, uuid) == []


# -- kills -------------------------------------------------------------------------------------------


def done_despite_death(
    cell: OneCell, uuid: str, kind: Operation[Any, Any], host: str, switch: KillSwitch, **arguments: Any
) -> Outcome:
    """The errand, whose agent dies at the switch's moment; another agent starts on the same host."""
    cell.hosts[host].agent.stop(0)
    first = cell.host(host, switch=switch)
    errand = cell.errand(uuid, kind, host, **arguments)
    first.claim()
    switch.dead = True
    cell.host(host)
    cell.pass_time(150, step=30)
    outcome = cell.ended(errand)
    assert outcome is not None
    assert outcome.fault is None
    return outcome


Journey = Callable[[OneCell, str, Callable[..., Outcome]], None]


def cold(cell: OneCell, uuid: str, do: Callable[..., Outcome]) -> None:
    begin(cell, uuid, COLD, "h1", "h2", Task.RESIZE_MIGRATING)
    out = do(cell, uuid, PREPARE_SOURCE, "h1", shutdown=True)
    assert out.result["was_running"] is True
    do(cell, uuid, PREPARE_DESTINATION, "h2", luggage=out.result["luggage"])
    change(cell, uuid, host="h2", node="h2")
    do(cell, uuid, ACTIVATE, "h2", run=True)


def live(cell: OneCell, uuid: str, do: Callable[..., Outcome]) -> None:
    begin(cell, uuid, LIVE, "h1", "h2", Task.MIGRATING)
    out = do(cell, uuid, PREPARE_SOURCE, "h1", live=True)
    assert out.result["was_running"] is True
    do(cell, uuid, PREPARE_DESTINATION, "h2", live=True, luggage=out.result["luggage"])
    change(cell, uuid, host="h2", node="h2")
    do(cell, uuid, ACTIVATE, "h2", live=True, run=True, luggage=out.result["luggage"])


@pytest.mark.parametrize("journey", [cold, live])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_every_moment_of_death_on_the_way_is_survived(tmp_path: Path, journey: Journey, after: bool) -> None:
    number = 0
    while True:
        number += 1
        directory = tmp_path / str(number)
        directory.mkdir()
        cell = OneCell(directory)
        cell.host("h1")
        cell.host("h2")
        uuid, most = active(cell), 0

        def dying(cell: OneCell, uuid: str, kind: Operation[Any, Any], host: str, **arguments: Any) -> Outcome:
            nonlocal most
            switch = KillSwitch(number, after=after)  # noqa: B023  called before the next number
            outcome = done_despite_death(cell, uuid, kind, host, switch, **arguments)
            most = max(most, switch.count)
            assert len(running_on(cell, uuid)) <= 1
            return outcome

        journey(cell, uuid, dying)
        dying(cell, uuid, CLEAN_UP, "h1")
        assert running_on(cell, uuid) == cell.guests_of(uuid) == ["h2"]
        assert [port.host for port in cell.networks.of(uuid)] == ["h2"]
        assert cell.unfinished(uuid) == []
        cell.db.dispose()
        if most < number:
            break
    assert number > 3


# -- a host that comes back --------------------------------------------------------------------------


def host_stops(cell: OneCell, name: str) -> None:
    """The agent is gone, and the host with it, as far as the cell can see."""
    cell.hosts[name].agent.stop(0)
    cell.hosts[name].switch.dead = True


def test_a_host_that_returns_during_an_evacuation_turns_its_guest_off_and_never_starts_it(cell: OneCell) -> None:
    uuid = active(cell)
    host_stops(cell, "h1")
    migration = begin(cell, uuid, EVACUATION, "h1", "h2", Task.REBUILDING)

    back = cell.host("h1", resume_guests=True)
    assert back.guests() == {uuid: PowerState.SHUTDOWN}
    cell.pass_time(700)
    assert back.guests() == {uuid: PowerState.SHUTDOWN}
    assert cell.instance(uuid).power_state is PowerState.RUNNING

    change(cell, uuid, host="h2", node="h2")
    end(cell, migration, "done")
    back.agent.reconcile_soon()
    cell.settle()
    assert back.guests() == {}


def test_a_host_that_was_started_again_during_an_evacuation_starts_nothing(cell: OneCell) -> None:
    uuid = active(cell)
    host_stops(cell, "h1")
    cell.hosts["h1"].driver.start(lambda _uuid, _state: None)
    cell.hosts["h1"].driver.happen(uuid, "crash")
    begin(cell, uuid, EVACUATION, "h1", "h2", Task.REBUILDING)
    assert cell.host("h1", resume_guests=True).guests() == {uuid: PowerState.CRASHED}


def test_guests_that_wait_for_their_resize_to_be_confirmed_start_with_their_host_and_those_in_transit_do_not(
    cell: OneCell,
) -> None:
    resized, passing = active(cell), active(cell)
    host_stops(cell, "h1")
    driver = cell.hosts["h1"].driver
    driver.start(lambda _uuid, _state: None)
    for uuid in (resized, passing):
        driver.happen(uuid, "crash")
    change(cell, resized, vm_state=VmState.RESIZED)
    change(cell, passing, hidden=True)
    back = cell.host("h1", resume_guests=True)
    assert back.guests() == {resized: PowerState.RUNNING, passing: PowerState.CRASHED}
    assert cell.instance(resized).vm_state is VmState.RESIZED


@pytest.mark.parametrize("dropping", [False, True])
def test_a_host_that_returns_after_an_evacuation_destroys_its_guest(cell: OneCell, dropping: bool) -> None:
    uuid = active(cell)
    host_stops(cell, "h1")
    end(cell, begin(cell, uuid, EVACUATION, "h1", "h2", Task.REBUILDING), "done")
    change(cell, uuid, host="h2", node="h2", task_state=None)
    if dropping:
        cell.errand(uuid, CLEAN_UP, "h1")
    back = cell.host("h1", resume_guests=True)
    assert back.guests() == {}
    back.claim()
    assert cell.unfinished(uuid) == []


@pytest.mark.parametrize("moved_since", [False, True])
def test_rows_of_a_restored_database_prove_nothing_against_a_guest(cell: OneCell, moved_since: bool) -> None:
    """The row says where the instance was when the snapshot was taken, and not where its guest is."""
    uuid = active(cell)
    change(cell, uuid, host="h2", node="h2")
    cell.pass_time(1)
    cell.db.run(lambda tx: identity.claim(tx, "cell", cell.clock.now()))
    cell.db.run(lambda tx: identity.restored(tx, cell.clock.now()))
    if moved_since:
        cell.pass_time(1)
        end(cell, begin(cell, uuid, COLD, "h1", "h2", Task.RESIZE_MIGRATING), "confirmed")
        change(cell, uuid, task_state=None)
    cell.hosts["h1"].agent.reconcile_soon()
    cell.settle()
    assert cell.guests_of(uuid) == ([] if moved_since else ["h1"])


def test_guests_on_both_sides_of_a_move_are_left_alone(cell: OneCell) -> None:
    uuid = active(cell)
    migration = begin(cell, uuid, COLD, "h1", "h2", Task.RESIZE_MIGRATING)
    luggage = done(cell, uuid, PREPARE_SOURCE, "h1").result["luggage"]
    done(cell, uuid, PREPARE_DESTINATION, "h2", luggage=luggage)
    for lives_on in ("h1", "h2"):
        change(cell, uuid, host=lives_on, node=lives_on)
        for name in ("h1", "h2"):
            cell.hosts[name].agent.reconcile_soon()
        cell.settle()
        assert cell.guests_of(uuid) == ["h1", "h2"]
    end(cell, migration, "confirmed")
    cell.hosts["h1"].agent.reconcile_soon()
    cell.settle()
    assert cell.guests_of(uuid) == ["h2"]


def test_rows_in_transit_are_neither_written_nor_taken_for_moved_instances(cell: OneCell) -> None:
    uuid = active(cell)
    change(cell, uuid, hidden=True)
    cell.hosts["h1"].driver.happen(uuid, "crash")
    cell.hosts["h1"].agent.reconcile_soon()
    cell.pass_time(300)
    assert cell.guests_of(uuid) == ["h1"]
    assert cell.instance(uuid).power_state is PowerState.RUNNING

    end(cell, begin(cell, uuid, COLD, "h1", "h9", Task.RESIZE_MIGRATING), "confirmed")
    cell.hosts["h1"].agent.reconcile_soon()
    cell.settle()
    assert cell.guests_of(uuid) == []
    cell.pass_time(300)
    assert cell.instance(uuid).power_state is PowerState.RUNNING
