"""An agent, a conductor and a driver together, step by step."""

from __future__ import annotations

from pathlib import Path

import pytest

from cell_service.model.lifecycle import PowerState, State, VmState
from tests.suites.one_cell import OneCell


@pytest.fixture
def cell(tmp_path: Path) -> OneCell:
    return OneCell(tmp_path)


def test_a_build_becomes_active_with_ports_and_a_guest(cell: OneCell) -> None:
    host = cell.host("h1")
    uuid = cell.boot("h1")
    host.claim()

    instance = cell.instance(uuid)
    assert instance.state == State(VmState.ACTIVE)
    assert instance.power_state is PowerState.RUNNING
    assert instance.launched_on == "h1"
    assert [vif.port_id for vif in instance.network_info] == [port.vif.port_id for port in cell.networks.of(uuid)]
    assert host.guests() == {uuid: PowerState.RUNNING}
    assert cell.events(uuid) == [("compute__do_build_and_run_instance", "h1", "Success")]
    assert cell.unfinished(uuid) == []
