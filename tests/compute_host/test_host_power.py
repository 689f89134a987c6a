"""A host that is switched off and on: what becomes of its guests, its work and its heartbeats."""

from __future__ import annotations

from pathlib import Path

import pytest

from cell_service.context import internal
from cell_service.db import services
from cell_service.errors import DriverError, Invalid, NotSupported
from cell_service.model.host import PowerAction
from cell_service.model.lifecycle import PowerState, State, VmState
from cell_service.operations.power import PAUSE, REBOOT_HARD, STOP
from cell_service.rpc.compute import Compute
from cell_service.rpc.contract import client
from compute_host.endpoint import ComputeEndpoint
from compute_host.plugging import Plugging
from tests.suites.one_cell import OneCell

BOOT = 20.0
ON = State(VmState.ACTIVE)
OFF = State(VmState.STOPPED)


@pytest.fixture
def cell(tmp_path: Path) -> OneCell:
    return OneCell(tmp_path)


def boot(cell: OneCell) -> str:
    uuid = cell.boot("h1")
    cell.hosts["h1"].claim()
    return uuid


def tell(cell: OneCell, action: PowerAction) -> None:
    client(Compute, cell.queue, "h1").power_host(internal(cell.clock), action)
    cell.settle()


def is_up(cell: OneCell) -> bool:
    with cell.db.connect() as tx:
        return services.by_host(tx, "h1", services.COMPUTE).is_up(cell.clock.now(), 60)


def guest(cell: OneCell, uuid: str) -> PowerState:
    found: PowerState = cell.hosts["h1"].guests()[uuid]
    return found


@pytest.mark.parametrize("killed", ["never", "off", "starting"])
@pytest.mark.parametrize("resumes", [False, True])
def test_a_host_that_was_off_has_the_guests_that_ran_if_that_is_configured(
    cell: OneCell, resumes: bool, killed: str
) -> None:
    host = cell.host("h1", resume_guests=resumes, host_boot_seconds=BOOT)
    ran, stopped = boot(cell), boot(cell)
    cell.act(stopped, STOP)
    host.claim()

    tell(cell, PowerAction.SHUTDOWN)
    tell(cell, PowerAction.SHUTDOWN)
    with pytest.raises(DriverError):
        host.driver.guests()
    cell.pass_time(90)
    assert not is_up(cell)
    assert cell.instance(ran).state == ON
    if killed == "off":
        cell.host("h1", resume_guests=resumes, host_boot_seconds=BOOT)
        assert not is_up(cell)
    tell(cell, PowerAction.STARTUP)
    if killed == "starting":
        cell.host("h1", resume_guests=resumes, host_boot_seconds=BOOT)
    assert not is_up(cell)

    cell.pass_time(2 * BOOT)
    assert is_up(cell)
    assert guest(cell, ran) is (PowerState.RUNNING if resumes else PowerState.SHUTDOWN)
    assert cell.instance(ran).state == (ON if resumes else OFF)
    assert guest(cell, stopped) is PowerState.SHUTDOWN
    tell(cell, PowerAction.STARTUP)
    assert is_up(cell)


@pytest.mark.parametrize("killed", [False, True])
def test_a_host_that_reboots_is_back_and_does_then_what_was_asked_meanwhile(cell: OneCell, killed: bool) -> None:
    host = cell.host("h1", resume_guests=True, host_boot_seconds=BOOT)
    uuid, paused = boot(cell), boot(cell)
    cell.act(paused, PAUSE)
    host.claim()
    tell(cell, PowerAction.REBOOT)
    tell(cell, PowerAction.REBOOT)
    cell.act(uuid, REBOOT_HARD)
    host.claim()
    assert cell.unfinished(uuid)[0].attempt == 0
    if killed:
        cell.host("h1", resume_guests=True, host_boot_seconds=BOOT)
    cell.pass_time(3 * BOOT)
    assert is_up(cell)
    assert (cell.instance(uuid).state, guest(cell, uuid)) == (ON, PowerState.RUNNING)
    assert cell.instance(uuid).fault is None
    assert guest(cell, paused) is PowerState.SHUTDOWN


def test_work_under_way_ends_with_the_host(cell: OneCell) -> None:
    host = cell.host("h1")
    cell.host("h2")
    uuid = cell.boot("h1", "h2")
    host.switch.before("spawn", lambda: host.driver.switch_host(PowerAction.SHUTDOWN))
    host.claim()
    cell.settle()
    assert cell.instance(uuid).state == ON
    assert cell.instance(uuid).host == "h2"


def test_a_host_in_maintenance_takes_no_new_guests_whatever_becomes_of_its_agent(cell: OneCell) -> None:
    cell.host("h1")
    cell.host("h2")
    own = boot(cell)
    compute = client(Compute, cell.queue, "h1")
    compute.set_maintenance(internal(cell.clock), True)
    host = cell.host("h1")
    sent = cell.boot("h1", "h2")
    host.claim()
    cell.settle()
    assert cell.instance(sent).host == "h2"
    assert cell.guests_of(sent) == ["h2"]
    cell.act(own, REBOOT_HARD)
    host.claim()
    assert cell.instance(own).fault is None

    for _ in range(2):
        compute.set_maintenance(internal(cell.clock), False)
    assert cell.guests_of(boot(cell)) == ["h1"]


def test_a_host_that_is_off_cannot_reboot_and_some_hosts_cannot_be_switched(cell: OneCell) -> None:
    host = cell.host("h1")
    tell(cell, PowerAction.SHUTDOWN)
    with pytest.raises(Invalid):
        tell(cell, PowerAction.REBOOT)

    class Rigid:
        nodes = host.driver.nodes

    servant = ComputeEndpoint(Rigid(), lambda: None, lambda _url, _name: None, Plugging(cell.clock, 1.0, fatal=False))
    with pytest.raises(NotSupported):
        servant.power_host(cell.ctx(), PowerAction.STARTUP)
    with pytest.raises(NotSupported):
        servant.set_maintenance(cell.ctx(), True)
    with pytest.raises(NotSupported):
        servant.demand_volume_snapshots(cell.ctx())
