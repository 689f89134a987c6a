"""Ports that come and go, whatever moment somebody dies at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cell_service.model.lifecycle import State, VmState
from cell_service.operations.declaration import Operation
from cell_service.operations.deletes import DELETE
from cell_service.operations.interfaces import ATTACH_INTERFACE, DETACH_INTERFACE
from tests.suites.one_cell import OneCell
from tests.suites.steps import KillSwitch

KEY = "key-of-the-attachment"


def begun(tmp_path: Path, kind: Operation[Any, Any], *, given: bool) -> tuple[OneCell, str, str]:
    """An instance with an operation open that its host has not seen yet; for DETACH_INTERFACE it has the port."""
    tmp_path.mkdir(exist_ok=True)
    cell = OneCell(tmp_path)
    host = cell.host("h1")
    uuid = cell.boot("h1")
    host.claim()
    port_id = cell.networks.add_port() if given else ""
    attach: dict[str, Any] = {"key": KEY, "port_id": port_id or None, "network_id": None, "tag": "t"}
    cell.act(uuid, ATTACH_INTERFACE, arguments=attach)
    if kind is DETACH_INTERFACE:
        host.claim()
        port_id = cell.instance(uuid).network_info[-1].port_id
        cell.act(uuid, DETACH_INTERFACE, arguments={"port_id": port_id})
    host.agent.stop(0)
    return cell, uuid, port_id


def check_whole(cell: OneCell, uuid: str, ports: int) -> None:
    """Instance, network service and guest agree on that many ports."""
    instance = cell.instance(uuid)
    assert (instance.state, cell.unfinished(uuid)) == (State(VmState.ACTIVE), [])
    assert len(instance.network_info) == ports
    assert {vif.port_id for vif in instance.network_info} == {port.vif.port_id for port in cell.networks.of(uuid)}
    guest = cell.hosts["h1"].driver._state.get(uuid)
    assert sorted(guest.macs) == sorted(vif.mac for vif in instance.network_info)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("kind", [ATTACH_INTERFACE, DETACH_INTERFACE])
def test_an_agent_that_dies_at_any_moment_is_followed_by_one_that_ends_it(
    tmp_path: Path, kind: Operation[Any, Any], given: bool
) -> None:
    for after in (False, True):
        number = 0
        while True:
            number += 1
            cell, uuid, port_id = begun(tmp_path / f"{number}{after}", kind, given=given)
            switch = KillSwitch(number, after=after)
            cell.host("h1", switch=switch).claim()
            switch.dead = True
            cell.host("h1")
            cell.pass_time(150, step=30)
            check_whole(cell, uuid, 2 if kind is ATTACH_INTERFACE else 1)
            if kind is DETACH_INTERFACE and given:
                assert cell.networks.ports[port_id].instance_uuid is None
            assert len(cell.networks.ports) == (2 if kind is ATTACH_INTERFACE or given else 1)
            cell.db.dispose()
            if switch.count < number:
                break
        assert number > 3


@pytest.mark.parametrize("given", [False, True])
def test_an_attachment_that_comes_too_late_leaves_no_port(tmp_path: Path, given: bool) -> None:
    switch = KillSwitch()
    while switch.calls[-1:] != ["plug"]:
        cell, uuid, port_id = begun(tmp_path / str(switch.at), ATTACH_INTERFACE, given=given)
        switch = KillSwitch(switch.at + 1, after=True)
        cell.host("h1", switch=switch).claim()
    assert len(cell.networks.of(uuid)) == 2
    cell.pass_time(700)
    assert len(cell.networks.of(uuid)) == 1
    cell.host("h1").claim()
    check_whole(cell, uuid, 1)
    assert not given or cell.networks.ports[port_id].instance_uuid is None


def test_a_delete_overtakes_an_attachment(tmp_path: Path) -> None:
    cell, uuid, port_id = begun(tmp_path, ATTACH_INTERFACE, given=True)
    cell.act(uuid, DELETE)
    cell.host("h1").claim()
    assert (cell.instance(uuid).vm_state, cell.guests_of(uuid)) == (VmState.DELETED, [])
    assert list(cell.networks.ports) == [port_id]
    assert cell.networks.ports[port_id].instance_uuid is None
