"""Every declaration, through every state and every event: it ends, in a legal state, and no task is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest

from cell_service.errors import InstanceInvalidState
from cell_service.model.block_device import BlockDevice
from cell_service.model.instance import MACHINE_TYPE, Fault, Flavor, Instance
from cell_service.model.lifecycle import PowerState, State, Task, VmState
from cell_service.model.operation import UNFINISHED, Outcome, Phase, StoredOperation
from cell_service.operations import secret
from cell_service.operations.declaration import Changes, Ending, Event, History, HostDeath, Operation, end
from cell_service.operations.effects import FollowUp, MarkDeleted
from cell_service.operations.images import ALL as OF_IMAGES
from cell_service.operations.images import CREATE_BACKUP, CREATE_IMAGE
from cell_service.operations.power import START
from cell_service.operations.rule import begin
from cell_service.operations.table import ALL, OPERATIONS
from cell_service.peers.image import NewImage
from compute_host.operations.table import PERFORMED

NOW = datetime(2026, 3, 1, tzinfo=UTC)
FAULT = Fault(500, "it broke", NOW)
DEVICE = BlockDevice("device", "volume", "volume", volume_id="volume")
GIVEN: dict[str, Any] = {
    "key": "k", "port_id": "port", "volume_id": "volume", "snapshot_id": "snapshot", "device": "device",
    "share": "share", "image": "image", "rotation": 1, "admin_password": "secret",
    "new_image": {"id": "image", "name": "n", "owner": "p", "disk_format": "raw"},
}  # fmt: skip
STATES = [State(vm, task) for vm, task in product(VmState, (None, *Task))]

every_operation = pytest.mark.parametrize("operation", ALL, ids=lambda each: each.name)


def instance(state: State) -> Instance:
    return Instance(
        "i", "p", "u", "n", Flavor("1", "f", 1, 64, 1), NOW, vm_state=state.vm, task_state=state.task, host="h1",
        block_devices=(DEVICE,),
    )  # fmt: skip


def arguments(operation: Operation[Any, Any]) -> dict[str, Any]:
    fields = operation.arguments.__dataclass_fields__
    return {name: value for name, value in GIVEN.items() if name in fields}


def outcomes(event: Event) -> list[Outcome]:
    """What hosts and conductors may say in such an event."""
    powers = (None, PowerState.RUNNING, PowerState.SHUTDOWN)
    if event is Event.SUCCEEDED:
        return [Outcome(1, 1, power_state=power) for power in powers]
    retriable = (False,) if event is Event.LATE else (False, True)
    return [
        Outcome(1, 1, fault=FAULT, retriable=again, host_clean=clean, power_state=power)
        for again, clean, power in product(retriable, (False, True), powers)
    ]


def ends(operation: Operation[Any, Any], states: list[State], event: Event) -> Iterator[tuple[State, Changes]]:
    """All ends that the event may have, by the state in which the operation runs."""
    row = StoredOperation(
        1, "i", operation.name, Phase.RUNNING, "h1", "r", "u", "p", NOW, NOW, arguments=arguments(operation), fence=1
    )
    read, result, said = operation.read(row.arguments), operation.result(), outcomes(event)
    for state in states:
        target = instance(state)
        for outcome, at_once in product(said, (False, True)):
            yield state, end(event, Ending(operation, row, read, target, outcome, result, NOW, at_once))


def begun(operation: Operation[Any, Any]) -> list[State]:
    """The states in which it may run."""
    found = []
    for state in STATES:
        try:
            found.append(begin(operation, state))
        except InstanceInvalidState:
            assert state.vm not in operation.rule.start or state.task not in operation.rule.during
    stages = [State(state.vm, task) for state in found for task in operation.stages]
    return list(dict.fromkeys([*found, *stages]))


@pytest.mark.parametrize("event", list(Event), ids=lambda event: event.value)
@every_operation
def test_it_ends_in_every_state_in_every_event(operation: Operation[Any, Any], event: Event) -> None:
    running = begun(operation)
    assert running, "it can never begin"
    for state, changes in ends(operation, running, event):
        _check(operation, state, event, changes)


def _check(operation: Operation[Any, Any], state: State, event: Event, changes: Changes) -> None:
    columns = changes.columns
    after = State(columns.get("vm_state", state.vm), columns.get("task_state", state.task))
    assert isinstance(after.vm, VmState)
    assert (changes.fault is None) == (changes.phase is Phase.DONE)
    if changes.phase in UNFINISHED:
        assert changes.phase in (Phase.OPEN, Phase.MOVING)  # conductors and hosts go on with it
        return
    if any(isinstance(effect, MarkDeleted) for effect in changes.effects):
        return
    if not operation.shows:
        assert not {"vm_state", "task_state"} & columns.keys()
        return
    follows = [effect.operation.rule.task for effect in changes.effects if isinstance(effect, FollowUp)]
    assert after.task is None or after.task in follows
    assert (changes.history is History.ACTION) or follows
    if event is Event.SUCCEEDED:
        assert after.vm is operation.rule.finish(state).vm
        assert after.vm is not VmState.BUILDING
    else:
        assert after.vm in (state.vm, VmState.ERROR, operation.rule.after)


def test_a_machine_type_is_recorded_once_and_only_of_a_success() -> None:
    row = StoredOperation(1, "i", START.name, Phase.RUNNING, "h1", "r", "u", "p", NOW, NOW, fence=1)
    fresh = replace(instance(State(VmState.STOPPED, Task.POWERING_ON)), system_metadata={"a": "b"})
    known = replace(fresh, system_metadata={MACHINE_TYPE: "pc"})
    said, failed = Outcome(1, 1, machine_type="q35"), Outcome(1, 1, fault=FAULT)
    for target, outcome, event, expected in (
        (fresh, said, Event.SUCCEEDED, {"a": "b", MACHINE_TYPE: "q35"}),
        (known, said, Event.SUCCEEDED, None),
        (fresh, Outcome(1, 1), Event.SUCCEEDED, None),
        (fresh, failed, Event.FAILED, None),
    ):
        read = START.read({})
        changes = end(event, Ending(START, row, read, target, outcome, START.result(), NOW, False))
        assert changes.columns.get("system_metadata") == expected


@every_operation
def test_a_host_can_do_it_and_nova_knows_it(operation: Operation[Any, Any]) -> None:
    assert PERFORMED[operation.name].operation is operation
    assert operation.event is None or operation.event.startswith("compute_")
    assert len(operation.name) <= 32
    assert None not in operation.stages[1:]
    assert operation.first_stage is None or operation.first_stage in operation.stages[1:]
    assert operation.rule.start


def test_each_is_in_the_table_once() -> None:
    assert len(OPERATIONS) == len(ALL) == len(PERFORMED)
    assert set(OF_IMAGES) <= set(ALL)


@every_operation
def test_arguments_survive_their_storage_but_for_secrets(operation: Operation[Any, Any]) -> None:
    given = operation.read(arguments(operation))
    bare, secrets = secret.taken_from(given)

    stored = secret.stored_form(given)
    assert "secret" not in str(stored)
    assert operation.read(stored) == bare
    assert operation.read(stored, secrets) == given
    assert "secret" not in repr(given)


@every_operation
def test_what_an_earlier_version_stored_in_clear_is_read_and_not_kept(operation: Operation[Any, Any]) -> None:
    given = arguments(operation)
    assert operation.read(given) == operation.read(given, {})
    assert "secret" not in str(secret.without_secrets(operation.arguments, given))


def test_only_a_guest_of_a_dead_host_is_left_to_its_work() -> None:
    """What waits for a host that is silent goes on after a reset of the instance's state."""
    waiting = [each for each in ALL if each.when_host_dies is HostDeath.DO_HERE_ONCE_DEAD]
    assert waiting
    assert all(not each.given_up_by_reset and not each.shows for each in waiting)


def test_a_follow_up_begins_where_the_first_ends() -> None:
    shelve = OPERATIONS["shelve"]
    (changes,) = {
        change.columns["task_state"]: change
        for _, change in ends(shelve, [State(VmState.ACTIVE, Task.SHELVING)], Event.SUCCEEDED)
        if change.effects
    }.values()
    follow = next(effect for effect in changes.effects if isinstance(effect, FollowUp))
    assert begin(follow.operation, State(changes.columns["vm_state"])).task is changes.columns["task_state"]
    assert replace(changes, effects=()).history is History.EVENT


def test_images_are_read_as_they_were_stored() -> None:
    image = NewImage("image", "n", "p", disk_format="raw")
    for each in (CREATE_IMAGE, CREATE_BACKUP):
        assert each.read(arguments(each)).new_image == image
