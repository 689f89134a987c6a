"""When an operation may begin on an instance: the one check of vm_state and task_state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cell_service.errors import InstanceHasShares, InstanceInvalidState, InstanceNotReady
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import State, Task, VmState

IDLE: frozenset[Task | None] = frozenset({None})
ANY_TASK: frozenset[Task | None] = frozenset({None, *Task})
DELETIONS: frozenset[Task | None] = frozenset({Task.DELETING, Task.SOFT_DELETING})
NOT_DELETED = frozenset(VmState) - {VmState.DELETED}
SHELVED = frozenset({VmState.SHELVED, VmState.SHELVED_OFFLOADED})
MOVABLE = frozenset({VmState.ACTIVE, VmState.STOPPED})
COPYABLE = frozenset({VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED, VmState.SUSPENDED})


@dataclass(frozen=True, slots=True)
class Rule:
    """From `start` while one of `during` is in flight; it shows as `task` (None: it does not show, and leaves the state
    alone), and success leads to `after` (None: to the vm_state it came from).

    `hostless`: states in which the instance needs no host. `shares`: instances with shares may do it, too.
    `not_from_volume`: states from which an instance that boots from a volume may not.
    """

    start: frozenset[VmState]
    task: Task | None
    after: VmState | None = None
    during: frozenset[Task | None] = IDLE
    hostless: frozenset[VmState] = frozenset()
    shares: bool = True
    not_from_volume: frozenset[VmState] = frozenset()

    def finish(self, now: State) -> State:
        """The state after success. An operation that repairs an instance in ERROR leaves it ACTIVE."""
        same = VmState.ACTIVE if now.vm is VmState.ERROR else now.vm
        return State(self.after or same, None)


class Declared(Protocol):
    """The declaration of an operation or of a move, which begins by a rule."""

    @property
    def action(self) -> str: ...

    @property
    def rule(self) -> Rule: ...


def begin(what: Declared, now: State, instance_uuid: str = "", *, unknown: frozenset[VmState] = frozenset()) -> State:
    """The state while it runs. `unknown`: states from which the caller's version of the API can't begin it.

    Raises InstanceInvalidState.
    """
    rule = what.rule
    if now.vm not in rule.start - unknown:
        raise InstanceInvalidState(
            action=what.action, instance_uuid=instance_uuid, attribute="vm_state", state=now.vm.value
        )
    if now.task not in rule.during:
        raise InstanceInvalidState(
            action=what.action, instance_uuid=instance_uuid, attribute="task_state", state=str(now.task)
        )
    return State(now.vm, rule.task) if rule.task is not None else now


def begin_on(what: Declared, instance: Instance, *, unknown: frozenset[VmState] = frozenset()) -> State:
    """As `begin`, with the checks that need more of the instance than its state.

    Raises InstanceInvalidState, InstanceHasShares, InstanceNotReady (it has no host).
    """
    rule = what.rule
    if instance.shares and not rule.shares:
        raise InstanceHasShares(instance_uuid=instance.uuid, action=what.action)
    after = begin(what, instance.state, instance.uuid, unknown=unknown)
    if instance.vm_state in rule.not_from_volume and instance.volume_backed:
        raise InstanceInvalidState(
            action=what.action, instance_uuid=instance.uuid, attribute="vm_state", state=instance.vm_state.value
        )
    if instance.host is None and instance.vm_state not in rule.hostless:
        raise InstanceNotReady(instance_uuid=instance.uuid)
    return after
