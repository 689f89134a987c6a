"""Shelving on a host and in its cell: every moment of death, faults, hosts that are down, and time that passes."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest

from cell_service.model import shelved
from cell_service.model.lifecycle import PowerState, State, Task, VmState
from cell_service.operations.deletes import DELETE
from cell_service.operations.shelving import SHELVE, SHELVE_OFFLOAD, UNSHELVE
from tests.suites.one_cell import OneCell
from tests.suites.steps import KillSwitch

NEVER = 10 * 365 * 86400.0
OFFLOADED = State(VmState.SHELVED_OFFLOADED)


@pytest.fixture
def cell(tmp_path: Path) -> OneCell:
    made = OneCell(tmp_path)
    made.host("h1")
    return made


def active(cell: OneCell) -> str:
    uuid = cell.boot("h1")
    cell.hosts["h1"].claim()
    assert cell.instance(uuid).state == State(VmState.ACTIVE)
    return uuid


def shelve(cell: OneCell, uuid: str) -> str:
    """Begun as the API does; answers the image's id."""
    image_id, known = str(uuid4()), cell.instance(uuid).system_metadata
    stale = shelved.image_of(known)
    arguments = {"image": image_id} | ({"stale_image": stale} if stale else {})
    cell.act(uuid, SHELVE, arguments=arguments, system_metadata=shelved.begun(known, image_id))
    return image_id


def images_of(cell: OneCell) -> set[str]:
    return set(cell.images.records) - {cell.image_id}


def stays(cell: OneCell, **settings: float) -> None:
    cell.new_conductor(**{"shelved_offload_seconds": -1, **settings})


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_every_moment_of_death_leaves_one_image_and_no_guest(tmp_path: Path, after: bool) -> None:
    number = 0
    while True:
        number += 1
        directory = tmp_path / str(number)
        directory.mkdir()
        cell = OneCell(directory)
        cell.host("h1")
        uuid = active(cell)
        cell.hosts["h1"].agent.stop(0)
        switch = KillSwitch(number, after=after)
        first = cell.host("h1", switch=switch)
        image_id = shelve(cell, uuid)
        first.claim()
        assert image_id in cell.images.records or first.guests()
        switch.dead = True
        cell.host("h1")
        cell.pass_time(200, step=30)
        instance = cell.instance(uuid)
        assert (instance.state, instance.host, instance.fault) == (OFFLOADED, None, None)
        assert images_of(cell) == {image_id}
        assert cell.guests_of(uuid) == []
        assert [port.host for port in cell.networks.of(uuid)] == [None]
        assert uuid not in cell.placement.allocations
        assert cell.unfinished(uuid) == []
        cell.db.dispose()
        if switch.count < number:
            break
    assert number > 6


def test_an_image_that_cannot_be_made_leaves_the_guest_running(cell: OneCell) -> None:
    uuid = active(cell)
    cell.hosts["h1"].faults.write_text(json.dumps({"snapshot": {"error": "DriverError", "reason": "no room"}}))
    first = shelve(cell, uuid)
    cell.hosts["h1"].claim()
    instance = cell.instance(uuid)
    assert (instance.state, instance.power_state) == (State(VmState.ACTIVE), PowerState.RUNNING)
    assert instance.fault is not None
    assert "no room" in instance.fault.message
    assert images_of(cell) == set()
    cell.hosts["h1"].faults.unlink()
    second = shelve(cell, uuid)
    assert second != first
    cell.hosts["h1"].claim()
    assert cell.instance(uuid).state == OFFLOADED
    assert images_of(cell) == {second}


def test_a_guest_is_kept_as_long_as_its_image_is_not_there(cell: OneCell) -> None:
    stays(cell)
    uuid = active(cell)
    image_id = shelve(cell, uuid)
    cell.hosts["h1"].claim()
    assert cell.instance(uuid).state == State(VmState.SHELVED)
    record = cell.images.records.pop(image_id)
    cell.act(uuid, SHELVE_OFFLOAD, NEVER)
    cell.hosts["h1"].claim()
    assert cell.instance(uuid).state == State(VmState.SHELVED)
    assert cell.guests_of(uuid) == ["h1"]
    cell.images.records[image_id] = record
    cell.act(uuid, SHELVE_OFFLOAD, NEVER)
    cell.hosts["h1"].claim()
    assert (cell.instance(uuid).state, cell.guests_of(uuid)) == (OFFLOADED, [])


def test_a_shelved_server_that_never_left_starts_again_and_its_image_goes(cell: OneCell) -> None:
    stays(cell)
    uuid = active(cell)
    shelve(cell, uuid)
    cell.hosts["h1"].claim()
    assert (cell.instance(uuid).state, cell.instance(uuid).host) == (State(VmState.SHELVED), "h1")
    cell.act(uuid, UNSHELVE)
    cell.hosts["h1"].claim()
    instance = cell.instance(uuid)
    assert (instance.state, instance.power_state) == (State(VmState.ACTIVE), PowerState.RUNNING)
    assert images_of(cell) == set()
    assert shelved.image_of(instance.system_metadata) is None


def test_an_image_that_could_not_be_removed_goes_at_the_next_occasion(cell: OneCell) -> None:
    stays(cell)
    uuid = active(cell)
    image_id = shelve(cell, uuid)
    cell.hosts["h1"].claim()
    cell.images.down = True
    cell.act(uuid, UNSHELVE)
    cell.hosts["h1"].claim()
    assert cell.instance(uuid).state == State(VmState.ACTIVE)
    assert images_of(cell) == {image_id}
    cell.images.down = False
    cell.act(uuid, DELETE)
    cell.hosts["h1"].claim()
    assert cell.instance(uuid).deleted_at is not None
    assert images_of(cell) == set()


def test_shelved_servers_leave_their_hosts_when_their_time_has_come(cell: OneCell) -> None:
    stays(cell, shelved_offload_seconds=600)
    uuid = active(cell)
    shelve(cell, uuid)
    cell.hosts["h1"].claim()
    cell.conductor.duties.offload_shelved()
    assert cell.instance(uuid).state == State(VmState.SHELVED)
    cell.pass_time(600, step=30)
    cell.conductor.duties.offload_shelved()
    assert cell.instance(uuid).task_state is Task.SHELVING_OFFLOADING
    cell.hosts["h1"].claim()
    assert cell.instance(uuid).state == OFFLOADED


def test_a_host_that_is_down_is_not_waited_for(cell: OneCell) -> None:
    stays(cell)
    uuid = active(cell)
    shelve(cell, uuid)
    cell.hosts["h1"].claim()
    cell.hosts["h1"].agent.stop(0)
    cell.hosts["h1"].switch.dead = True
    cell.act(uuid, SHELVE_OFFLOAD, NEVER)
    cell.pass_time(300)
    assert (cell.instance(uuid).state, cell.instance(uuid).host) == (OFFLOADED, None)
    assert uuid not in cell.placement.allocations
    cell.host("h1")
    assert cell.guests_of(uuid) == []


def test_a_silent_placement_is_waited_for(cell: OneCell) -> None:
    uuid = active(cell)
    cell.placement.down = True
    shelve(cell, uuid)
    cell.hosts["h1"].claim()
    assert cell.instance(uuid).task_state is Task.SHELVING_OFFLOADING
    cell.placement.down = False
    cell.pass_time(60)
    assert cell.instance(uuid).state == OFFLOADED
    assert uuid not in cell.placement.allocations
