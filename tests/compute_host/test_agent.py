"""An agent, a conductor and a driver together, step by step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cell_service.context import internal
from cell_service.db import instances, operations, services
from cell_service.errors import InstanceNotFound
from cell_service.model.instance import NetworkRequest
from cell_service.model.lifecycle import PowerState, State, VmState
from cell_service.model.operation import BuildArguments
from cell_service.operations.builds import BUILD
from cell_service.operations.declaration import Operation
from cell_service.operations.deletes import DELETE
from cell_service.operations.power import PAUSE, REBOOT_HARD, REBOOT_SOFT, RESUME, START, STOP, SUSPEND, UNPAUSE
from cell_service.rpc.compute import Compute
from cell_service.rpc.contract import client
from tests.suites.one_cell import OneCell
from tests.suites.peers import NET

BUILD_EVENT = "compute__do_build_and_run_instance"


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
    assert instance.launched_at is not None
    assert instance.root_device_name == "/dev/vda"
    assert [vif.port_id for vif in instance.network_info] == [port.vif.port_id for port in cell.networks.of(uuid)]
    assert host.guests() == {uuid: PowerState.RUNNING}
    assert cell.events(uuid) == [(BUILD_EVENT, "h1", "Success")]
    assert cell.unfinished(uuid) == []


def test_a_wake_starts_work_and_so_does_the_next_heartbeat(cell: OneCell) -> None:
    host = cell.host("h1")
    woken = cell.boot("h1")
    client(Compute, cell.queue, "h1").wake(internal(cell.clock))
    cell.settle()
    assert cell.instance(woken).vm_state is VmState.ACTIVE

    unnoticed = cell.boot("h1")
    cell.settle()
    assert cell.instance(unnoticed).vm_state is VmState.BUILDING
    cell.pass_time(host.settings.report_seconds)
    assert cell.instance(unnoticed).vm_state is VmState.ACTIVE


@pytest.mark.parametrize(
    ("kinds", "vm_state", "power_state"),
    [
        ([STOP], VmState.STOPPED, PowerState.SHUTDOWN),
        ([STOP, START], VmState.ACTIVE, PowerState.RUNNING),
        ([REBOOT_SOFT], VmState.ACTIVE, PowerState.RUNNING),
        ([STOP, REBOOT_HARD], VmState.ACTIVE, PowerState.RUNNING),
        ([PAUSE], VmState.PAUSED, PowerState.PAUSED),
        ([PAUSE, UNPAUSE], VmState.ACTIVE, PowerState.RUNNING),
        ([SUSPEND], VmState.SUSPENDED, PowerState.SUSPENDED),
        ([SUSPEND, RESUME], VmState.ACTIVE, PowerState.RUNNING),
    ],
    ids=lambda value: "-".join(each.name for each in value) if isinstance(value, list) else None,
)
def test_actions_lead_to_their_states(
    cell: OneCell, kinds: list[Operation[Any, Any]], vm_state: VmState, power_state: PowerState
) -> None:
    host = cell.host("h1")
    uuid = cell.boot("h1")
    host.claim()
    for kind in kinds:
        cell.act(uuid, kind)
        host.claim()

    instance = cell.instance(uuid)
    assert (instance.vm_state, instance.task_state, instance.power_state) == (vm_state, None, power_state)
    assert host.guests()[uuid] is power_state
    assert cell.events(uuid)[0][2] == "Success"


def test_a_delete_leaves_nothing_but_the_ports_that_the_user_made(cell: OneCell) -> None:
    host = cell.host("h1")
    given = cell.networks.add_port()
    requests = (NetworkRequest(port_id=given), NetworkRequest(network_id=NET))
    uuid = cell.boot("h1", build=BuildArguments(networks=requests))
    host.claim()
    ctx = cell.act(uuid, DELETE)
    host.claim()

    instance = cell.instance(uuid)
    assert instance.vm_state is VmState.DELETED
    assert instance.deleted_at is not None
    assert host.guests() == {}
    assert list(cell.networks.ports) == [given]
    assert cell.networks.ports[given].instance_uuid is None
    assert cell.placement.allocations == {}
    assert cell.events(uuid, ctx.request_id) == [("compute_terminate_instance", "h1", "Success")]


def test_a_delete_takes_the_place_of_a_build_not_begun(cell: OneCell) -> None:
    host = cell.host("h1")
    uuid = cell.boot("h1")
    cell.act(uuid, DELETE)
    host.claim()
    assert cell.instance(uuid).vm_state is VmState.DELETED
    assert host.guests() == {}
    assert cell.networks.ports == {}


def test_a_delete_in_the_middle_of_a_build_leaves_nothing(cell: OneCell) -> None:
    host = cell.host("h1")
    uuid = cell.boot("h1")

    def delete() -> None:
        cell.act(uuid, DELETE)

    host.switch.afterwards("spawn", delete)
    host.claim()
    assert host.guests() == {}
    assert cell.instance(uuid).vm_state is VmState.DELETED
    assert cell.networks.ports == {}
    assert cell.placement.allocations == {}


def test_deletes_pass_builds_that_wait(cell: OneCell) -> None:
    host = cell.host("h1")
    old = cell.boot("h1")
    host.claim()
    builds = [cell.boot("h1", flavor=cell.instance(old).flavor) for _ in range(3)]
    cell.act(old, DELETE)
    works = cell.rpc().claim_operations(internal(cell.clock), "h1", 2, "h1", 1)
    assert [work.operation.kind for work in works] == [DELETE.name, BUILD.name]
    assert works[1].instance.uuid == builds[0]


def test_the_image_is_fetched_once_for_many_guests(cell: OneCell) -> None:
    host = cell.host("h1")
    uuids = [cell.boot("h1") for _ in range(3)]
    host.claim()
    assert set(host.guests()) == set(uuids)
    assert cell.images.downloads == [cell.image_id]


def test_news_of_a_power_change_reach_the_cell(cell: OneCell) -> None:
    host = cell.host("h1")
    uuid = cell.boot("h1")
    host.claim()
    host.driver.happen(uuid, "shutdown")
    cell.settle()
    instance = cell.instance(uuid)
    assert (instance.vm_state, instance.power_state) == (VmState.STOPPED, PowerState.SHUTDOWN)

    host.driver.happen(uuid, "start")
    cell.settle()
    assert cell.instance(uuid).state == State(VmState.STOPPED)
    assert host.guests()[uuid] is PowerState.SHUTDOWN


def test_power_changes_while_the_agent_was_away_are_found_at_its_start(cell: OneCell) -> None:
    host = cell.host("h1")
    uuid = cell.boot("h1")
    host.claim()
    host.agent.stop()
    host.driver.start(lambda _uuid, _state: None)
    host.driver.happen(uuid, "crash")
    cell.host("h1")
    assert cell.instance(uuid).vm_state is VmState.STOPPED


@pytest.mark.parametrize("away", ["agent", "driver"])
def test_guests_that_ran_before_are_started_with_their_host_where_that_is_configured(cell: OneCell, away: str) -> None:
    host = cell.host("h1", resume_guests=True)
    ran, stopped = cell.boot("h1"), cell.boot("h1")
    host.claim()
    cell.act(stopped, STOP)
    host.claim()
    cell.settle()  # a comparison under way would find the crash before the host is gone
    if away == "agent":
        host.agent.stop()
    host.driver.start(lambda _uuid, _state: None)
    host.driver.happen(ran, "crash")
    if away == "agent":
        host = cell.host("h1", resume_guests=True)
    else:
        host.faults.write_text(json.dumps({"nodes": {}}))
        cell.pass_time(90)
        host.faults.unlink()
        cell.pass_time(90)
    assert host.guests() == {ran: PowerState.RUNNING, stopped: PowerState.SHUTDOWN}
    assert cell.instance(ran).vm_state is VmState.ACTIVE
    assert cell.instance(stopped).vm_state is VmState.STOPPED


def test_guests_of_deleted_instances_are_destroyed_and_unknown_ones_kept(cell: OneCell) -> None:
    host = cell.host("h1")
    gone, kept, moved = [cell.boot("h1") for _ in range(3)]
    host.claim()
    cell.db.run(lambda tx: instances.mark_deleted(tx, gone, cell.clock.now()))
    cell.db.run(lambda tx: instances.change(tx, moved, now=cell.clock.now(), host="elsewhere"))
    stranger = "5d1c5a2a-0000-4000-8000-000000000000"
    record = host.driver._state.get(kept)
    host.driver._state.put(type(record)(**{**{n: getattr(record, n) for n in record.__slots__}, "uuid": stranger}))
    host.agent.reconcile_soon()
    cell.settle()
    assert set(host.guests()) == {kept, stranger}


def test_an_instance_without_its_guest_loses_its_power_state_once_things_have_settled(cell: OneCell) -> None:
    host = cell.host("h1")
    uuid = cell.boot("h1")
    host.claim()
    host.driver.destroy(uuid)
    host.agent.reconcile_soon()
    cell.settle()
    assert cell.instance(uuid).power_state is PowerState.RUNNING
    cell.pass_time(120)
    host.agent.reconcile_soon()
    cell.settle()
    assert (cell.instance(uuid).vm_state, cell.instance(uuid).power_state) == (VmState.ACTIVE, PowerState.NOSTATE)


def test_outcomes_are_told_when_the_queue_is_back(cell: OneCell) -> None:
    host = cell.host("h1")
    uuid = cell.boot("h1")

    def lose_the_queue() -> None:
        cell.queue.down = True

    host.switch.afterwards("spawn", lose_the_queue)
    host.claim()
    assert cell.instance(uuid).vm_state is VmState.BUILDING
    cell.queue.down = False
    cell.pass_time(30, step=5)
    assert cell.instance(uuid).vm_state is VmState.ACTIVE
    assert host.guests() == {uuid: PowerState.RUNNING}


def test_a_host_that_loses_its_service_row_registers_again(cell: OneCell) -> None:
    cell.host("h1")

    def forget(tx: object) -> None:
        from sqlalchemy import delete

        from cell_service.db.schema import compute_nodes
        from cell_service.db.schema import services as table

        tx.execute(delete(compute_nodes))
        tx.execute(delete(table))

    cell.db.run(forget)
    cell.pass_time(60)
    with cell.db.connect() as tx:
        assert [one.host for one in services.list_all(tx, binary=services.COMPUTE)] == ["h1"]


def test_a_frozen_host_goes_down_by_itself_and_comes_back(cell: OneCell) -> None:
    host = cell.host("h1")

    def is_up() -> bool:
        with cell.db.connect() as tx:
            return services.by_host(tx, "h1", services.COMPUTE).is_up(cell.clock.now(), 60)

    host.faults.write_text(json.dumps({"host": "frozen"}))
    cell.pass_time(120)
    assert not is_up()
    host.faults.unlink()
    cell.pass_time(60)
    assert is_up()


def test_what_placement_holds_for_deleted_instances_is_released_and_nothing_else(cell: OneCell) -> None:
    host = cell.host("h1")
    alive, gone = cell.boot("h1"), cell.boot("h1")
    host.claim()
    cell.act(gone, DELETE)
    host.claim()
    held = {host.node_uuid: {"VCPU": 1}}
    cell.placement.allocations |= {gone: held, "of-nobody-we-know": held}
    cell.pass_time(host.settings.update_resources_seconds, step=30)
    assert set(cell.placement.allocations) == {alive, "of-nobody-we-know"}


def test_placement_is_told_once_and_the_disabled_trait_follows_the_service(cell: OneCell) -> None:
    host = cell.host("h1")
    cell.pass_time(120)
    assert cell.placement.reports == 1

    def disable(tx: object) -> None:
        services.change(tx, services.by_host(tx, "h1", services.COMPUTE).uuid, now=cell.clock.now(), disabled=True)

    cell.db.run(disable)
    cell.pass_time(host.settings.update_resources_seconds, step=30)
    assert cell.placement.disabled == {host.node_uuid}


def test_a_host_without_placement_still_serves(cell: OneCell) -> None:
    cell.placement.down = True
    host = cell.host("h1")
    assert host.agent.ready.is_set()
    cell.placement.down = False
    cell.pass_time(60)
    assert set(cell.placement.providers) == {host.node_uuid}


def test_the_console_log_ends_with_a_login_prompt(cell: OneCell) -> None:
    host = cell.host("h1")
    uuid = cell.boot("h1", name="web", hostname="web")
    host.claim()
    compute = client(Compute, cell.queue, "h1")
    ctx = internal(cell.clock)
    whole = compute.get_console_output(ctx, uuid, None)
    assert whole.endswith("web login: ")
    assert compute.get_console_output(ctx, uuid, 1) == "web login: "
    cell.act(uuid, REBOOT_SOFT)
    host.claim()
    assert compute.get_console_output(ctx, uuid, None).count("web login: ") == 2
    with pytest.raises(InstanceNotFound):
        compute.get_console_output(ctx, "11111111-0000-4000-8000-000000000000", None)


def test_more_builds_than_may_run_at_once_are_all_done(cell: OneCell) -> None:
    host = cell.host("h1", vcpus=100, memory_mib=10**6, disk_gib=10**4)
    uuids = [cell.boot("h1") for _ in range(25)]
    host.claim()
    assert set(host.guests()) == set(uuids)
    with cell.db.connect() as tx:
        assert operations.open_for(tx, "h1", cell.clock.now()) == 0
