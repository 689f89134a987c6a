"""Whatever moment an agent or a conductor is killed at: what comes after it brings everything to its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cell_service.model.lifecycle import PowerState, State, VmState
from cell_service.operations.deletes import DELETE
from tests.suites.one_cell import OneCell
from tests.suites.steps import KillSwitch

Act = Callable[[OneCell, str], None]


def check_built(cell: OneCell, uuid: str) -> None:
    assert cell.instance(uuid).state == State(VmState.ACTIVE)
    assert cell.guests_of(uuid) == [cell.instance(uuid).host]
    assert [port.vif for port in cell.networks.of(uuid)] == list(cell.instance(uuid).network_info)
    assert len(cell.networks.ports) == 1
    host = cell.hosts[cell.instance(uuid).host or ""]
    assert cell.placement.allocations == {uuid: {host.node_uuid: {"VCPU": 1}}}
    assert cell.unfinished(uuid) == []


def check_deleted(cell: OneCell, uuid: str) -> None:
    assert cell.instance(uuid).vm_state is VmState.DELETED
    assert cell.guests_of(uuid) == []
    assert cell.networks.ports == {}
    assert cell.placement.allocations == {}
    assert cell.unfinished(uuid) == []


def check_failed(cell: OneCell, uuid: str) -> None:
    assert cell.instance(uuid).state == State(VmState.ERROR)
    assert cell.instance(uuid).fault is not None
    assert cell.guests_of(uuid) == []
    assert cell.networks.ports == {}
    assert cell.placement.allocations == {}
    assert cell.unfinished(uuid) == []


def boots(cell: OneCell) -> str:
    return cell.boot("h1")


def deletes(cell: OneCell) -> str:
    uuid = cell.boot("h1")
    cell.hosts["h1"].claim()
    cell.act(uuid, DELETE)
    return uuid


def boots_elsewhere(cell: OneCell) -> str:
    cell.host("h2")
    cell.hosts["h1"].faults.write_text('{"spawn": {"error": "HostOutOfSpace"}}')
    return cell.boot("h1", "h2")


def boots_nowhere(cell: OneCell) -> str:
    cell.hosts["h1"].faults.write_text('{"spawn": {}}')
    return cell.boot("h1")


def agent_killed(tmp_path: Path, begin: Callable[[OneCell], str], switch: KillSwitch) -> tuple[OneCell, str]:
    """The agent of h1 dies at the switch's moment; another one starts on the same host."""
    cell = OneCell(tmp_path)
    cell.host("h1")
    uuid = begin(cell)
    cell.hosts["h1"].agent.stop(0)
    host = cell.host("h1", switch=switch)
    host.claim()
    switch.dead = True
    cell.host("h1")
    cell.pass_time(150, step=30)
    return cell, uuid


def conductor_killed(tmp_path: Path, begin: Callable[[OneCell], str], switch: KillSwitch) -> tuple[OneCell, str]:
    """The conductor dies at the switch's moment; another one starts."""
    cell = OneCell(tmp_path)
    cell.host("h1")
    uuid = begin(cell)
    cell.new_conductor(switch)
    cell.hosts["h1"].claim()
    cell.settle()
    switch.dead = True
    cell.new_conductor()
    cell.pass_time(240, step=30)
    return cell, uuid


CASES = [
    pytest.param(killed, begin, check, id=f"{killed.__name__}-{begin.__name__}")
    for killed in (agent_killed, conductor_killed)
    for begin, check in (
        (boots, check_built),
        (deletes, check_deleted),
        (boots_elsewhere, check_built),
        (boots_nowhere, check_failed),
    )
]


@pytest.mark.parametrize(("killed", "begin", "check"), CASES)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_every_moment_of_death_is_survived(
    tmp_path: Path, killed: Callable[..., tuple[OneCell, str]], begin: Callable[[OneCell], str], check: Act, after: bool
) -> None:
    number = 0
    while True:
        number += 1
        directory = tmp_path / str(number)
        directory.mkdir()
        switch = KillSwitch(number, after=after)
        cell, uuid = killed(directory, begin, switch)
        check(cell, uuid)
        cell.db.dispose()
        if switch.count < number:
            break
    assert number > 3


def test_a_host_that_died_while_building_is_left_and_cleaned_when_it_is_back(tmp_path: Path) -> None:
    cell = OneCell(tmp_path)
    dead = cell.host("h1", switch=(switch := KillSwitch()))
    other = cell.host("h2")
    uuid = cell.boot("h1", "h2")
    switch.afterwards("spawn", switch.kill)
    dead.claim()
    assert cell.guests_of(uuid) == ["h1"]

    cell.pass_time(300)
    assert cell.instance(uuid).state == State(VmState.ACTIVE)
    assert cell.instance(uuid).host == "h2"
    assert cell.placement.allocations == {uuid: {other.node_uuid: {"VCPU": 1}}}

    cell.host("h1")
    assert cell.guests_of(uuid) == ["h2"]
    assert other.guests() == {uuid: PowerState.RUNNING}


def test_a_late_agent_undoes_a_build_that_moved_on_without_it(tmp_path: Path) -> None:
    cell = OneCell(tmp_path)
    slow, _other = cell.host("h1"), cell.host("h2")
    uuid = cell.boot("h1", "h2")

    def go_on_without_it() -> None:
        cell.hosts.pop("h1")
        cell.pass_time(300)
        assert cell.instance(uuid).host == "h2"

    def be_back() -> None:
        cell.hosts["h1"] = slow

    slow.switch.before("spawn", go_on_without_it)
    slow.switch.afterwards("spawn", be_back)
    slow.claim()
    cell.pass_time(60)
    assert cell.guests_of(uuid) == ["h2"]
    check_built(cell, uuid)
