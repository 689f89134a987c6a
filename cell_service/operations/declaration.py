"""The declaration of an operation: all that conductors, agents and checks know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Generic, TypeVar

from cell_service import wire
from cell_service.errors import PolycellError, UnableToDo
from cell_service.model.ability import Ability
from cell_service.model.block_device import BlockDevice, merged
from cell_service.model.instance import MACHINE_TYPE, Fault, Instance
from cell_service.model.lifecycle import State, Task
from cell_service.model.operation import Outcome, Phase, StoredOperation
from cell_service.operations import secret
from cell_service.operations.effects import Effect
from cell_service.operations.rule import Rule
from cell_service.peers.volumes import Volume

A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class NoArguments:
    """The arguments of an operation that needs nothing but its instance."""


@dataclass(frozen=True, slots=True)
class NoResult:
    """The result of an operation that reports nothing but its outcome."""


class HostDeath(Enum):
    """The way in which an operation continues or ends when its host is down."""

    WAIT = "wait"
    """It waits for the host, until its deadline."""
    RETRY = "retry"
    """Another host is tried."""
    DO_HERE = "do_here"
    """Conductors do it without the host, which cleans up when it is back."""
    DO_HERE_ONCE_DEAD = "do_here_once_dead"
    """As DO_HERE, but only when the host is known to be dead: a guest that still runs may write to what the
    operation is about. Until then it waits, and no reset of the instance's state ends it."""
    FAIL = "fail"


class Lateness(Enum):
    """The way in which an operation continues or ends when it is unfinished at its deadline."""

    FAIL = "fail"
    NEVER = "never"
    """It is tried without end."""


class Pool(Enum):
    """The group of a host's operations that share one limit."""

    BUILDS = "builds"
    VERBS = "verbs"


class History(Enum):
    """The part of the instance's history that ends with an operation."""

    NOTHING = "nothing"
    EVENT = "event"
    ACTION = "action"
    """The event, and the action that it is part of."""


@dataclass(frozen=True, slots=True)
class Changes:
    """The consequences of the end of an operation.

    `phase`: the new phase of its row; OPEN: it is tried again after a pause. `columns` of the instance; those computed
    from the row's own are computed again when the row has changed. `only_from`: an instance in another state is not
    changed.
    """

    phase: Phase = Phase.DONE
    columns: Mapping[str, Any] = field(default_factory=dict)
    effects: tuple[Effect, ...] = ()
    fault: Fault | None = None
    history: History = History.ACTION
    only_from: State | None = None


@dataclass(frozen=True, slots=True)
class Ending(Generic[A, R]):
    """The end of an operation, with all that decides what follows from it.

    `instance` is the newest row. `volumes`: those that the declaration needs to end the operation without its host;
    None where the block storage service knows none of that id.
    """

    declaration: Operation[A, R]
    operation: StoredOperation
    arguments: A
    instance: Instance
    outcome: Outcome
    result: R
    now: datetime
    offloads_at_once: bool = False
    volumes: Mapping[str, Volume | None] = field(default_factory=dict)

    @property
    def fault(self) -> Fault:
        """Why it failed."""
        return self.outcome.fault or Fault(code=500, message="The operation failed.", created_at=self.now)


Decide = Callable[[Ending[A, R]], Changes]


def reported(ending: Ending[Any, Any]) -> dict[str, Any]:
    """The columns that the host's outcome sets."""
    outcome = ending.outcome
    columns = {name: getattr(outcome, name) for name in ("power_state", "network_info", "root_device_name")}
    columns = {name: value for name, value in columns.items() if value is not None}
    if outcome.devices:
        columns["block_devices"] = merged(ending.instance.block_devices, outcome.devices)
    known = ending.instance.system_metadata
    if outcome.machine_type is not None and MACHINE_TYPE not in known:
        columns["system_metadata"] = {**known, MACHINE_TYPE: outcome.machine_type}
    return columns


def succeed(ending: Ending[Any, Any], **columns: object) -> Changes:
    """The changes of a success: the state that the rule leads to, and the columns that the host reports."""
    settled: dict[str, Any] = {}
    if ending.declaration.shows:
        after = ending.declaration.rule.finish(ending.instance.state)
        settled = {"vm_state": after.vm, "task_state": after.task}
    return Changes(columns={**settled, **reported(ending), **columns})


def fail(ending: Ending[Any, Any], *effects: Effect, **columns: object) -> Changes:
    """The changes of a failure: the instance keeps its vm_state, without a task and with a fault. An operation that
    does not show, or that an evacuation has superseded, leaves task and fault alone. What its host can only do later is
    tried again."""
    if ending.outcome.retriable:
        return again(ending)
    shows = ending.declaration.shows and not _is_evacuated(ending)
    settled: dict[str, Any] = {"task_state": None, "fault": ending.fault} if shows else {}
    found = {name: value for name, value in reported(ending).items() if name in ("power_state", "block_devices")}
    return Changes(Phase.FAILED, {**settled, **found, **columns}, effects, ending.fault)


def _is_evacuated(ending: Ending[Any, Any]) -> bool:
    return ending.instance.task_state is Task.REBUILDING and ending.declaration.rule.task is not Task.REBUILDING


def again(ending: Ending[Any, Any]) -> Changes:
    """The changes when the host can neither finish nor undo the operation now: it is tried again after a pause."""
    return Changes(Phase.OPEN, fault=ending.fault, history=History.NOTHING)


def no_volumes(_ending: Ending[Any, Any]) -> tuple[str, ...]:
    """No volumes: the operation can be ended without the block storage service."""
    return ()


def never_refused(_instance: Instance) -> PolycellError | None:
    """No refusal: the operation is possible with every instance."""
    return None


@dataclass(frozen=True, slots=True)
class Operation(Generic[A, R]):
    """One thing that may be done to an instance.

    `name` is stored in the database: never change one. `action` and `event` are Nova's names (Compute API reference,
    server actions; `event` None: it comes with the arguments). `deadline` None: none. `stages`: the tasks that show
    while it runs, in their order; `first_stage` shows as soon as its host has claimed it. `reports`: a caller waits for
    its outcome, which stays in its row. `makes_guest`: it comes with BuildArguments. `changes_ports`: the network
    service's data may be old while it runs. `removes_leftovers`: it is about a host that the instance may have left,
    and outlives the instance. `given_up_by_reset`: a reset of the instance's state ends it. `needs`: the ability
    without which a host can't do it; there it is refused with `unable`. `refusal`: the error for instances with which
    it is impossible on any host.
    """

    name: str
    action: str
    event: str | None
    rule: Rule
    arguments: type[A]
    result: type[R]
    deadline: timedelta | None = timedelta(minutes=10)
    stages: tuple[Task | None, ...] = ()
    first_stage: Task | None = None
    when_host_dies: HostDeath = HostDeath.WAIT
    when_late: Lateness = Lateness.FAIL
    pool: Pool = Pool.VERBS
    reports: bool = False
    makes_guest: bool = False
    changes_ports: bool = False
    removes_leftovers: bool = False
    given_up_by_reset: bool = True
    needs: Ability | None = None
    unable: type[PolycellError] = UnableToDo
    refusal: Callable[[Instance], PolycellError | None] = never_refused
    succeeded: Decide[A, R] = succeed
    """The changes when its host reports success."""
    failed: Decide[A, R] = fail
    """The changes when its host reports failure."""
    host_died: Decide[A, R] | None = None
    """The changes when it is done without its host, which is down or does not exist. None: as `failed`."""
    late: Decide[A, R] | None = None
    """The changes when it was not done in time. None: as `failed`."""
    asks_volumes: Callable[[Ending[A, R]], tuple[str, ...]] = no_volumes
    """The ids of the volumes whose records `host_died` needs."""

    @property
    def shows(self) -> bool:
        """Whether it shows in the instance's state while it runs, and changes it."""
        return self.rule.task is not None

    @property
    def has_secrets(self) -> bool:
        """Whether there may be secrets among its arguments."""
        return self.makes_guest or bool(secret.names_of(self.arguments))

    def needed_for(self, instance: Instance) -> Ability | None:
        """The ability that the instance's host needs for it. Disks that are volumes are copied by the block storage
        service."""
        return None if self.needs is Ability.SNAPSHOTS and instance.volume_backed else self.needs

    def read(self, plain: Mapping[str, Any], secrets: Mapping[str, str] | None = None) -> A:
        """The arguments of a row, with the opened secrets if given."""
        opened = {name: text for name, text in (secrets or {}).items() if name in secret.names_of(self.arguments)}
        return wire.from_plain(self.arguments, {**plain, **opened})


class Event(Enum):
    """The way in which an operation ends."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    HOST_DIED = "host_died"
    LATE = "late"


def end(event: Event, ending: Ending[Any, Any]) -> Changes:
    """The consequences of the end of an operation: every operation ends through this function."""
    declaration = ending.declaration
    match event:
        case Event.SUCCEEDED:
            return declaration.succeeded(ending)
        case Event.HOST_DIED if declaration.host_died is not None:
            return declaration.host_died(ending)
        case Event.LATE if declaration.late is not None:
            return declaration.late(ending)
        case _:
            return declaration.failed(ending)


def device_of(ending: Ending[Any, Any]) -> BlockDevice | None:
    """The block device that the operation is about; None when the instance does not have it any more."""
    wanted = ending.arguments.device
    return next((device for device in ending.instance.block_devices if device.uuid == wanted), None)
