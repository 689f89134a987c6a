"""Rebuilding in place: the same instance, ports and allocation, another image."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cell_service.db import instances
from cell_service.model.lifecycle import PowerState, State, Task, VmState
from cell_service.operations.builds import REBUILD
from cell_service.operations.declaration import Operation
from cell_service.operations.deletes import DELETE
from cell_service.operations.power import STOP
from tests.suites.one_cell import OneCell
from tests.suites.steps import KillSwitch


@pytest.fixture
def cell(tmp_path: Path) -> OneCell:
    made = OneCell(tmp_path)
    made.host("h1")
    return made


def booted(cell: OneCell) -> str:
    uuid = cell.boot("h1")
    cell.hosts["h1"].claim()
    assert cell.instance(uuid).state == State(VmState.ACTIVE)
    return uuid


def rebuild(cell: OneCell, uuid: str, image: str) -> None:
    cell.act(uuid, REBUILD)
    cell.db.run(lambda tx: instances.change(tx, uuid, now=cell.clock.now(), image_ref=image))


def image_of_guest(cell: OneCell, uuid: str) -> str:
    return str(cell.hosts["h1"].driver._state.get(uuid).image)


@pytest.mark.parametrize(
    ("before", "vm_state", "power_state"),
    [
        ((), VmState.ACTIVE, PowerState.RUNNING),
        ((STOP,), VmState.STOPPED, PowerState.SHUTDOWN),
    ],
)
def test_the_guest_is_made_anew_with_its_ports_in_the_state_it_had(
    cell: OneCell, before: tuple[Operation[Any, Any], ...], vm_state: VmState, power_state: PowerState
) -> None:
    uuid, other = booted(cell), cell.images.add(b"another image")
    for kind in before:
        cell.act(uuid, kind)
        cell.hosts["h1"].claim()
    was = cell.instance(uuid)
    rebuild(cell, uuid, other)
    cell.hosts["h1"].claim()

    now = cell.instance(uuid)
    assert (now.state, now.power_state, now.fault) == (State(vm_state), power_state, None)
    assert cell.hosts["h1"].guests() == {uuid: power_state}
    assert image_of_guest(cell, uuid) == other
    assert now.network_info == was.network_info
    assert len(cell.networks.ports) == 1
    assert uuid in cell.placement.allocations
    assert cell.events(uuid) == [("compute_rebuild_instance", "h1", "Success")]


def test_a_rebuild_shows_how_far_it_is(cell: OneCell) -> None:
    uuid, seen = booted(cell), []

    def note() -> None:
        cell.queue.deliver()
        seen.append(cell.instance(uuid).task_state)

    cell.hosts["h1"].switch.before("destroy", note)
    rebuild(cell, uuid, cell.image_id)
    assert cell.instance(uuid).task_state is Task.REBUILDING
    cell.hosts["h1"].claim()
    assert seen == [Task.REBUILD_SPAWNING]


def test_a_failed_rebuild_says_so_and_the_next_one_helps(cell: OneCell) -> None:
    uuid = booted(cell)
    cell.hosts["h1"].faults.write_text(json.dumps({"spawn": {"reason": "no luck"}}))
    rebuild(cell, uuid, cell.image_id)
    cell.hosts["h1"].claim()
    failed = cell.instance(uuid)
    assert failed.state == State(VmState.ERROR)
    assert failed.fault is not None
    assert "no luck" in failed.fault.message
    assert len(cell.networks.ports) == 1

    cell.hosts["h1"].faults.unlink()
    rebuild(cell, uuid, cell.image_id)
    cell.hosts["h1"].claim()
    assert cell.instance(uuid).state == State(VmState.ACTIVE)
    assert cell.hosts["h1"].guests() == {uuid: PowerState.RUNNING}


def test_an_image_that_cannot_be_fetched_costs_no_guest(cell: OneCell) -> None:
    uuid, other = booted(cell), cell.images.add(b"another image")
    cell.images.records[other] = replace(cell.images.records[other], status="deleted")
    rebuild(cell, uuid, other)
    cell.hosts["h1"].claim()
    assert cell.instance(uuid).vm_state is VmState.ERROR
    assert cell.hosts["h1"].guests() == {uuid: PowerState.RUNNING}
    assert image_of_guest(cell, uuid) == cell.image_id


def delete(cell: OneCell, uuid: str) -> None:
    cell.act(uuid, DELETE)


def test_a_delete_in_the_middle_of_a_rebuild_leaves_nothing(cell: OneCell) -> None:
    uuid = booted(cell)
    cell.hosts["h1"].switch.afterwards("spawn", lambda: delete(cell, uuid))
    rebuild(cell, uuid, cell.image_id)
    cell.hosts["h1"].claim()
    assert cell.instance(uuid).vm_state is VmState.DELETED
    assert cell.hosts["h1"].guests() == {}
    assert cell.networks.ports == {}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_every_moment_of_death_is_survived(tmp_path: Path, after: bool) -> None:
    number = 0
    while True:
        number += 1
        directory = tmp_path / str(number)
        directory.mkdir()
        cell, switch = OneCell(directory), KillSwitch(number, after=after)
        cell.host("h1")
        uuid, other = booted(cell), cell.images.add(b"another image")
        cell.hosts["h1"].agent.stop(0)
        host = cell.host("h1", switch=switch)
        rebuild(cell, uuid, other)
        host.claim()
        switch.dead = True
        cell.host("h1")
        cell.pass_time(150, step=30)
        assert cell.instance(uuid).state == State(VmState.ACTIVE)
        assert cell.hosts["h1"].guests() == {uuid: PowerState.RUNNING}
        assert image_of_guest(cell, uuid) == other
        assert cell.unfinished(uuid) == []
        cell.db.dispose()
        if switch.count < number:
            break
    assert number > 3
