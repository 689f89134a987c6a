"""How operations end, and what is left behind: nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from cell_service.context import internal
from cell_service.db import actions, instances, server_migrations, services
from cell_service.errors import DriverError, OperationLost
from cell_service.model.instance import Fault, NetworkRequest
from cell_service.model.lifecycle import PowerState, State, Task, VmState
from cell_service.model.migration import Migration
from cell_service.model.operation import BuildArguments, ClaimedOperation, Outcome, Phase
from cell_service.operations.declaration import Operation
from cell_service.operations.deletes import DELETE
from cell_service.operations.power import PAUSE, REBOOT_HARD, REBOOT_SOFT, STOP, SUSPEND
from tests.suites.one_cell import FLAVOR, OneCell

BUILD_EVENT = "compute__do_build_and_run_instance"


@pytest.fixture
def cell(tmp_path: Path) -> OneCell:
    return OneCell(tmp_path)


def claimed(cell: OneCell, host: str = "h1") -> ClaimedOperation:
    """The host's only operation, taken as an agent takes it."""
    (work,) = cell.rpc().claim_operations(internal(cell.clock), host, 10, host)
    return work


def fault(cell: OneCell, message: str = "it broke") -> Fault:
    return Fault(code=500, message=message, created_at=cell.clock.now(), details="Traceback")


def tell(cell: OneCell, work: ClaimedOperation, **fields: object) -> None:
    outcome = Outcome(work.operation.id, work.operation.fence, **fields)
    cell.rpc().operation_done(internal(cell.clock), outcome)


def message_of(cell: OneCell, uuid: str) -> str | None:
    with cell.db.connect() as tx:
        return actions.list_of(tx, uuid)[0].message


# -- builds that fail --------------------------------------------------------------------------------


def test_a_build_walks_the_alternates_until_one_takes_it(cell: OneCell) -> None:
    for name in ("h1", "h2", "h3", "h4"):
        cell.host(name)
    cell.hosts["h1"].faults.write_text(json.dumps({"spawn": {"error": "HostOutOfSpace"}}))
    cell.hosts["h3"].faults.write_text(json.dumps({"spawn": {"error": "DriverError"}}))
    cell.placement.full.add(cell.hosts["h2"].node_uuid)
    uuid = cell.boot("h1", "h2", "h3", "h4")
    cell.hosts["h1"].claim()

    instance = cell.instance(uuid)
    assert instance.state == State(VmState.ACTIVE)
    assert (instance.host, instance.node, instance.fault) == ("h4", "h4", None)
    assert cell.guests_of(uuid) == ["h4"]
    assert cell.placement.allocations == {uuid: {cell.hosts["h4"].node_uuid: {"VCPU": 1}}}
    assert [port.host for port in cell.networks.of(uuid)] == ["h4"]
    assert [(host, result) for _event, host, result in cell.events(uuid)] == [
        ("h4", "Success"), ("h3", "Error"), ("h1", "Error"),
    ]  # fmt: skip
    assert message_of(cell, uuid) is None


def test_without_alternates_the_instance_is_in_error_and_nothing_is_left(cell: OneCell) -> None:
    host = cell.host("h1")
    host.faults.write_text(json.dumps({"spawn": {"error": "HostOutOfSpace", "reason": "the attic is full"}}))
    uuid = cell.boot("h1")
    host.claim()

    instance = cell.instance(uuid)
    assert instance.state == State(VmState.ERROR)
    assert (instance.host, instance.node, instance.network_info) == (None, None, ())
    assert instance.fault is not None
    assert instance.fault.code == 500
    assert instance.fault.message == (
        "Exceeded maximum number of retries. Exhausted all hosts available for retrying build failures "
        f"for instance {uuid}."
    )
    assert "the attic is full" in instance.fault.details
    assert cell.guests_of(uuid) == []
    assert (cell.networks.ports, cell.placement.allocations) == ({}, {})
    assert cell.events(uuid) == [(BUILD_EVENT, "h1", "Error")]
    assert message_of(cell, uuid) == "Error"
    assert cell.unfinished(uuid) == []


@pytest.mark.parametrize("lie", ["hash", "format", "gone", "too large"])
def test_an_image_that_lies_is_tried_nowhere_else(cell: OneCell, lie: str) -> None:
    first, second = cell.host("h1"), cell.host("h2")
    image_id = cell.images.add(b"some bytes", disk_format="qcow2" if lie == "format" else "raw")
    if lie == "hash":
        cell.images.contents[image_id] = b"other stuff"[:10]
    elif lie == "gone":
        del cell.images.records[image_id]
    elif lie == "too large":
        cell.images.records[image_id] = replace(cell.images.records[image_id], min_disk_gib=2)
    uuid = cell.boot("h1", "h2", image_ref=image_id)
    first.claim()

    instance = cell.instance(uuid)
    assert instance.state == State(VmState.ERROR)
    assert instance.fault is not None
    assert image_id in instance.fault.message
    assert "Traceback" in instance.fault.details
    assert second.guests() == {}
    assert (cell.networks.ports, cell.placement.allocations) == ({}, {})


def test_a_port_of_the_user_outlives_a_failed_build(cell: OneCell) -> None:
    host = cell.host("h1")
    given = cell.networks.add_port()
    host.faults.write_text(json.dumps({"spawn": {}}))
    cell.boot("h1", build=BuildArguments(networks=(NetworkRequest(port_id=given),)))
    host.claim()
    assert list(cell.networks.ports) == [given]
    assert cell.networks.ports[given].instance_uuid is None


def test_alternates_that_are_down_or_disabled_are_not_tried(cell: OneCell) -> None:
    for name in ("h1", "down", "disabled", "h2"):
        cell.host(name)

    def set_up(tx: object) -> None:
        now = cell.clock.now()
        services.change(tx, services.by_host(tx, "down", services.COMPUTE).uuid, now=now, forced_down=True)
        services.change(tx, services.by_host(tx, "disabled", services.COMPUTE).uuid, now=now, disabled=True)

    cell.db.run(set_up)
    cell.hosts["h1"].faults.write_text(json.dumps({"spawn": {}}))
    uuid = cell.boot("h1", "down", "disabled", "h2")
    cell.hosts["h1"].claim()
    assert cell.instance(uuid).host == "h2"


def test_a_build_waits_for_placement_to_come_back(cell: OneCell) -> None:
    cell.host("h1").faults.write_text(json.dumps({"spawn": {}}))
    cell.host("h2")
    uuid = cell.boot("h1", "h2")
    cell.placement.down = True
    cell.hosts["h1"].claim()
    assert cell.unfinished(uuid)[0].phase is Phase.MOVING
    cell.placement.down = False
    cell.pass_time(60)
    assert cell.instance(uuid).state == State(VmState.ACTIVE)
    assert cell.instance(uuid).host == "h2"


def test_a_delete_while_a_build_moves_wins(cell: OneCell) -> None:
    cell.host("h1").faults.write_text(json.dumps({"spawn": {}}))
    cell.host("h2")
    uuid = cell.boot("h1", "h2")
    cell.placement.down = True
    cell.hosts["h1"].claim()
    cell.placement.down = False
    cell.act(uuid, DELETE)
    cell.hosts["h1"].claim()
    cell.pass_time(120)
    assert cell.instance(uuid).vm_state is VmState.DELETED
    assert (cell.placement.allocations, cell.networks.ports) == ({}, {})
    assert cell.guests_of(uuid) == []


def test_a_delete_between_the_move_of_the_allocation_and_the_operation_leaves_no_allocation(cell: OneCell) -> None:
    cell.host("h1").faults.write_text(json.dumps({"spawn": {}}))
    cell.host("h2")
    uuid = cell.boot("h1", "h2")
    move = cell.placement.move

    def move_and_lose(*args: object) -> None:
        cell.act(uuid, DELETE)
        move(*args)

    cell.placement.move = move_and_lose
    cell.hosts["h1"].claim()
    cell.hosts["h1"].claim()
    assert cell.instance(uuid).vm_state is VmState.DELETED
    assert cell.placement.allocations == {}


# -- fences ------------------------------------------------------------------------------------------


def test_an_outcome_told_twice_counts_once(cell: OneCell) -> None:
    host = cell.host("h1")
    uuid = cell.boot("h1")
    host.claim()
    cell.act(uuid, STOP)
    work = claimed(cell)
    tell(cell, work, power_state=PowerState.SHUTDOWN)
    updated = cell.instance(uuid).updated_at
    cell.clock.advance(1)
    tell(cell, work, power_state=PowerState.SHUTDOWN)
    assert cell.instance(uuid).updated_at == updated
    assert cell.instance(uuid).state == State(VmState.STOPPED)


def test_the_outcome_of_an_old_fence_is_refused(cell: OneCell) -> None:
    cell.host("h1")
    uuid = cell.boot("h1")
    old = claimed(cell)
    cell.clock.advance(90)
    new = claimed(cell)
    with pytest.raises(OperationLost):
        tell(cell, old)
    assert cell.instance(uuid).vm_state is VmState.BUILDING
    tell(cell, new, power_state=PowerState.RUNNING)
    assert cell.instance(uuid).state == State(VmState.ACTIVE)


def test_progress_shows_and_late_progress_does_not(cell: OneCell) -> None:
    cell.host("h1")
    uuid = cell.boot("h1")
    work = claimed(cell)
    rpc, ctx = cell.rpc(), internal(cell.clock)
    rpc.operation_progress(ctx, work.operation.id, work.operation.fence, "networking")
    cell.queue.deliver()
    assert cell.instance(uuid).task_state is Task.NETWORKING
    rpc.operation_progress(ctx, work.operation.id, work.operation.fence - 1, "spawning")
    rpc.operation_progress(ctx, work.operation.id, work.operation.fence, "dancing")
    cell.queue.deliver()
    assert cell.instance(uuid).task_state is Task.NETWORKING
    for task in ("spawning", "networking"):  # the second was overtaken on its way
        rpc.operation_progress(ctx, work.operation.id, work.operation.fence, task)
        cell.queue.deliver()
    assert cell.instance(uuid).task_state is Task.SPAWNING
    tell(cell, work)
    rpc.operation_progress(ctx, work.operation.id, work.operation.fence, "spawning")
    cell.queue.deliver()
    assert cell.instance(uuid).state == State(VmState.ACTIVE)


def test_renewal_says_what_is_lost(cell: OneCell) -> None:
    cell.host("h1")
    cell.boot("h1")
    lost = cell.boot("h1")
    works = cell.rpc().claim_operations(internal(cell.clock), "h1", 10, "h1")
    cell.act(lost, DELETE)
    held = {str(work.operation.id): work.operation.fence for work in works}
    expected = [work.operation.id for work in works if work.instance.uuid == lost]
    assert list(cell.rpc().renew_leases(internal(cell.clock), "h1", held)) == expected


def test_a_host_forced_down_gets_no_work(cell: OneCell) -> None:
    cell.host("h1")
    cell.boot("h1")

    def force(tx: object) -> None:
        service = services.by_host(tx, "h1", services.COMPUTE)
        services.change(tx, service.uuid, now=cell.clock.now(), forced_down=True)

    cell.db.run(force)
    assert cell.rpc().claim_operations(internal(cell.clock), "h1", 10, "h1") == ()


# -- other operations that fail ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "verb", "vm_state"),
    [
        (STOP, "power_off", VmState.ACTIVE),
        (PAUSE, "pause", VmState.ACTIVE),
        (SUSPEND, "suspend", VmState.ACTIVE),
        (REBOOT_SOFT, "reboot", VmState.ACTIVE),
    ],
)
def test_a_failed_action_leaves_the_instance_as_it_was_with_a_fault(
    cell: OneCell, kind: Operation[Any, Any], verb: str, vm_state: VmState
) -> None:
    host = cell.host("h1")
    uuid = cell.boot("h1")
    host.claim()
    host.faults.write_text(json.dumps({verb: {"reason": "not today"}}))
    ctx = cell.act(uuid, kind)
    host.claim()
    instance = cell.instance(uuid)
    assert instance.state == State(vm_state)
    assert instance.fault is not None
    assert instance.fault.message == "not today"
    assert cell.events(uuid, ctx.request_id)[0][2] == "Error"
    assert message_of(cell, uuid) == "Error"


def test_a_reboot_that_leaves_no_running_guest_is_an_error(cell: OneCell) -> None:
    host = cell.host("h1")
    uuid = cell.boot("h1")
    host.claim()
    cell.act(uuid, STOP)
    host.claim()
    host.faults.write_text(json.dumps({"reboot": {}}))
    cell.act(uuid, REBOOT_HARD)
    host.claim()
    assert cell.instance(uuid).state == State(VmState.ERROR)
    assert cell.instance(uuid).power_state is PowerState.SHUTDOWN


def test_remains_of_a_build_that_failed_for_good_are_removed_when_the_host_can(cell: OneCell) -> None:
    host = cell.host("h1")

    def fail() -> None:
        raise DriverError(reason="the hypervisor went away")

    host.switch.afterwards("spawn", fail)
    host.faults.write_text(json.dumps({"destroy": {"reason": "the hypervisor is away"}}))
    uuid = cell.boot("h1")
    host.claim()
    cell.pass_time(30)
    assert cell.instance(uuid).vm_state is VmState.ERROR
    assert list(host.guests()) == [uuid]
    host.faults.unlink()
    cell.pass_time(60)
    assert host.guests() == {}


# -- deletes -----------------------------------------------------------------------------------------


def test_a_delete_that_fails_is_tried_again_until_it_is_done(cell: OneCell) -> None:
    host = cell.host("h1")
    uuid = cell.boot("h1")
    host.claim()
    host.faults.write_text(json.dumps({"destroy": {"reason": "stuck"}}))
    cell.act(uuid, DELETE)
    host.claim()
    cell.pass_time(600, step=30)
    instance = cell.instance(uuid)
    assert (instance.task_state, instance.deleted_at) == (Task.DELETING, None)
    assert instance.fault is not None
    assert set(cell.placement.allocations) == {uuid}
    host.faults.unlink()
    cell.pass_time(600, step=30)
    assert cell.instance(uuid).vm_state is VmState.DELETED
    assert cell.placement.allocations == {}


def test_a_delete_waits_for_placement_and_keeps_nothing(cell: OneCell) -> None:
    host = cell.host("h1")
    uuid = cell.boot("h1")
    host.claim()
    cell.placement.down = True
    cell.act(uuid, DELETE)
    host.claim()
    assert cell.instance(uuid).deleted_at is None
    cell.pass_time(60)
    cell.placement.down = False
    cell.pass_time(300, step=30)
    assert cell.instance(uuid).vm_state is VmState.DELETED
    assert cell.placement.allocations == {}


def test_an_instance_on_a_dead_host_is_deleted_without_it(cell: OneCell) -> None:
    host = cell.host("h1")
    uuid = cell.boot("h1")
    host.claim()
    host.switch.dead = True
    ctx = cell.act(uuid, DELETE)
    cell.pass_time(300)
    assert cell.instance(uuid).vm_state is VmState.DELETED
    assert (cell.placement.allocations, cell.networks.ports) == ({}, {})
    assert cell.events(uuid, ctx.request_id)[0][2] == "Success"
    assert cell.guests_of(uuid) == ["h1"]
    cell.host("h1")
    assert cell.guests_of(uuid) == []


def test_an_instance_without_a_host_is_deleted_by_the_conductor(cell: OneCell) -> None:
    host = cell.host("h1")
    host.faults.write_text(json.dumps({"spawn": {}}))
    uuid = cell.boot("h1")
    host.claim()
    cell.act(uuid, DELETE)
    cell.settle()
    assert cell.instance(uuid).vm_state is VmState.DELETED


# -- time --------------------------------------------------------------------------------------------


def test_what_is_not_done_by_its_deadline_ends_with_a_fault(cell: OneCell) -> None:
    host = cell.host("h1")
    stopping, building = cell.boot("h1"), ""
    host.claim()
    host.switch.dead = True
    cell.act(stopping, STOP, deadline_seconds=600)
    building = cell.boot("h1", deadline_seconds=100)
    cell.pass_time(700, step=30)
    stopped, built = cell.instance(stopping), cell.instance(building)
    assert stopped.state == State(VmState.ACTIVE)
    assert stopped.fault is not None
    assert "in time" in stopped.fault.message
    assert built.state == State(VmState.ERROR)
    assert set(cell.placement.allocations) == {stopping}


def test_a_conductor_that_has_just_started_takes_nobody_for_dead(cell: OneCell) -> None:
    cell.host("h1").switch.dead = True
    cell.host("h2")
    cell.clock.advance(3600)
    cell.hosts["h2"].run()
    uuid = cell.boot("h1", "h2")
    cell.new_conductor()
    cell.pass_time(40)
    assert cell.unfinished(uuid)[0].host == "h1"
    cell.pass_time(60)
    assert cell.instance(uuid).host == "h2"


def test_conductors_register_themselves(cell: OneCell) -> None:
    cell.pass_time(30)
    with cell.db.connect() as tx:
        (service,) = services.list_all(tx, binary=services.CONDUCTOR)
    assert (service.host, service.topic) == ("conductor1", "conductor")


def test_new_hosts_begin_disabled_where_that_is_wanted(cell: OneCell) -> None:
    cell.new_conductor(enable_new_services=False)
    cell.host("h1")
    with cell.db.connect() as tx:
        assert services.by_host(tx, "h1", services.COMPUTE).disabled


# -- power -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vm_state", "power_state", "after"),
    [
        (VmState.ACTIVE, PowerState.SHUTDOWN, VmState.STOPPED),
        (VmState.ACTIVE, PowerState.CRASHED, VmState.STOPPED),
        (VmState.ACTIVE, PowerState.PAUSED, VmState.PAUSED),
        (VmState.PAUSED, PowerState.RUNNING, VmState.ACTIVE),
        (VmState.SUSPENDED, PowerState.SHUTDOWN, VmState.SUSPENDED),
        (VmState.SUSPENDED, PowerState.RUNNING, VmState.ACTIVE),
        (VmState.ERROR, PowerState.SHUTDOWN, VmState.ERROR),
    ],
)
def test_an_instance_follows_what_its_guest_does_by_itself(
    cell: OneCell, vm_state: VmState, power_state: PowerState, after: VmState
) -> None:
    cell.host("h1")
    uuid = cell.boot("h1", flavor=FLAVOR)
    cell.hosts["h1"].claim()
    cell.db.run(lambda tx: instances.change(tx, uuid, now=cell.clock.now(), vm_state=vm_state, power_state=1))
    cell.rpc().power_event(internal(cell.clock), "h1", uuid, power_state)
    cell.rpc().power_event(internal(cell.clock), "another-host", uuid, PowerState.CRASHED)
    cell.queue.deliver()
    assert cell.instance(uuid).state == State(after)


def test_a_power_event_in_the_middle_of_a_task_changes_nothing(cell: OneCell) -> None:
    cell.host("h1")
    uuid = cell.boot("h1")
    cell.hosts["h1"].claim()
    cell.act(uuid, REBOOT_SOFT)
    cell.rpc().power_event(internal(cell.clock), "h1", uuid, PowerState.SHUTDOWN)
    cell.queue.deliver()
    assert cell.instance(uuid).state == State(VmState.ACTIVE, Task.REBOOTING)


def test_a_power_event_in_the_middle_of_a_move_changes_nothing(cell: OneCell) -> None:
    """Also where an administrator has reset the task: the move is undone, and starts the guest again."""
    cell.host("h1")
    uuid = cell.boot("h1")
    cell.hosts["h1"].claim()
    migration = Migration(
        7, str(uuid4()), uuid, "migration", "migrating", "req-1", "u1", "p1", cell.clock.now(), None, "h1"
    )
    cell.db.run(lambda tx: server_migrations.store(tx, migration))
    cell.rpc().power_event(internal(cell.clock), "h1", uuid, PowerState.SHUTDOWN)
    cell.queue.deliver()
    assert cell.instance(uuid).state == State(VmState.ACTIVE)
    cell.db.run(lambda tx: server_migrations.store(tx, replace(migration, status="error")))
    cell.rpc().power_event(internal(cell.clock), "h1", uuid, PowerState.SHUTDOWN)
    cell.queue.deliver()
    assert cell.instance(uuid).state == State(VmState.STOPPED)
