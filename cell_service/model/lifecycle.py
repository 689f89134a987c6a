"""What an instance may be, and what may be done to it when: one table, asked by everybody.

vm_state is stable, task_state is in flight, power_state is the hypervisor's. Values are Nova's (Compute API
guide, "Server concepts").
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from cell_service.errors import InstanceInvalidState


class VmState(StrEnum):
    ACTIVE = "active"
    BUILDING = "building"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    STOPPED = "stopped"
    RESCUED = "rescued"
    RESIZED = "resized"
    SOFT_DELETED = "soft-delete"
    DELETED = "deleted"
    ERROR = "error"
    SHELVED = "shelved"
    SHELVED_OFFLOADED = "shelved_offloaded"


class Task(StrEnum):
    SCHEDULING = "scheduling"
    NETWORKING = "networking"
    SPAWNING = "spawning"
    POWERING_ON = "powering-on"
    POWERING_OFF = "powering-off"
    REBOOTING = "rebooting"
    REBOOTING_HARD = "rebooting_hard"
    PAUSING = "pausing"
    UNPAUSING = "unpausing"
    SUSPENDING = "suspending"
    RESUMING = "resuming"
    DELETING = "deleting"
    RESIZE_PREP = "resize_prep"
    RESIZE_MIGRATING = "resize_migrating"
    RESIZE_MIGRATED = "resize_migrated"
    RESIZE_FINISH = "resize_finish"
    RESIZE_REVERTING = "resize_reverting"
    RESIZE_CONFIRMING = "resize_confirming"
    MIGRATING = "migrating"
    REBUILDING = "rebuilding"
    REBUILD_SPAWNING = "rebuild_spawning"
    SHELVING = "shelving"
    SHELVING_IMAGE_UPLOADING = "shelving_image_uploading"
    SHELVING_OFFLOADING = "shelving_offloading"
    UNSHELVING = "unshelving"
    RESCUING = "rescuing"
    UNRESCUING = "unrescuing"
    IMAGE_SNAPSHOT_PENDING = "image_snapshot_pending"
    IMAGE_SNAPSHOT = "image_snapshot"
    IMAGE_PENDING_UPLOAD = "image_pending_upload"
    IMAGE_UPLOADING = "image_uploading"
    IMAGE_BACKUP = "image_backup"
    UPDATING_PASSWORD = "updating_password"
    SOFT_DELETING = "soft-deleting"
    RESTORING = "restoring"


class PowerState(IntEnum):
    NOSTATE = 0
    RUNNING = 1
    PAUSED = 3
    SHUTDOWN = 4
    CRASHED = 6
    SUSPENDED = 7


@dataclass(frozen=True, slots=True)
class State:
    """Where an instance is: a vm_state, and the task in flight (None when nothing is)."""

    vm: VmState
    task: Task | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """An action may start from `allowed` while one of `during` is in flight; it shows as `task` (None: it does not
    show, and leaves the state alone); success leads to `after` (None: to the vm_state it came from)."""

    allowed: frozenset[VmState]
    task: Task | None
    after: VmState | None
    during: frozenset[Task | None] = frozenset({None})


ANY_VM_STATE = frozenset(VmState)
ANY_TASK: frozenset[Task | None] = frozenset({None, *Task})
_NOT_GONE = ANY_VM_STATE - {VmState.DELETED}
_MOVABLE = frozenset({VmState.ACTIVE, VmState.STOPPED})
_PLUGGABLE = frozenset({VmState.ACTIVE, VmState.PAUSED, VmState.STOPPED})
_COPYABLE = frozenset({VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED, VmState.SUSPENDED})
_REBOOTABLE = frozenset({VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED, VmState.SUSPENDED, VmState.ERROR})

RULES: dict[str, Rule] = {
    "create": Rule(frozenset({VmState.BUILDING}), Task.SPAWNING, VmState.ACTIVE,
                   during=frozenset({None, Task.SCHEDULING, Task.NETWORKING, Task.SPAWNING})),
    "start": Rule(frozenset({VmState.STOPPED}), Task.POWERING_ON, VmState.ACTIVE),
    "stop": Rule(frozenset({VmState.ACTIVE, VmState.ERROR}), Task.POWERING_OFF, VmState.STOPPED),
    "reboot_soft": Rule(frozenset({VmState.ACTIVE}), Task.REBOOTING, VmState.ACTIVE),
    "reboot_hard": Rule(_REBOOTABLE, Task.REBOOTING_HARD, VmState.ACTIVE,
                        during=frozenset({None, Task.REBOOTING, Task.REBOOTING_HARD, Task.RESUMING,
                                          Task.UNPAUSING, Task.SUSPENDING, Task.PAUSING})),
    "soft-delete": Rule(_COPYABLE | {VmState.RESCUED, VmState.ERROR}, Task.SOFT_DELETING, VmState.SOFT_DELETED),
    "restore": Rule(frozenset({VmState.SOFT_DELETED}), Task.RESTORING, VmState.ACTIVE),
    "changePassword": Rule(frozenset({VmState.ACTIVE}), Task.UPDATING_PASSWORD, None),
    "trigger_crash_dump": Rule(
        frozenset({VmState.ACTIVE, VmState.PAUSED, VmState.RESCUED, VmState.RESIZED, VmState.ERROR}), None, None),
    "createImage": Rule(_COPYABLE, Task.IMAGE_SNAPSHOT_PENDING, None),
    "createBackup": Rule(_COPYABLE, Task.IMAGE_BACKUP, None),
    "rescue": Rule(_MOVABLE | {VmState.ERROR}, Task.RESCUING, VmState.RESCUED),
    "unrescue": Rule(frozenset({VmState.RESCUED}), Task.UNRESCUING, VmState.ACTIVE),
    "pause": Rule(frozenset({VmState.ACTIVE}), Task.PAUSING, VmState.PAUSED),
    "unpause": Rule(frozenset({VmState.PAUSED}), Task.UNPAUSING, VmState.ACTIVE),
    "suspend": Rule(frozenset({VmState.ACTIVE}), Task.SUSPENDING, VmState.SUSPENDED),
    "resume": Rule(frozenset({VmState.SUSPENDED}), Task.RESUMING, VmState.ACTIVE),
    "rebuild": Rule(_MOVABLE | {VmState.ERROR}, Task.REBUILDING, None),
    "resize": Rule(_MOVABLE, Task.RESIZE_PREP, VmState.RESIZED),
    "migrate": Rule(_MOVABLE, Task.RESIZE_PREP, VmState.RESIZED),
    "live-migration": Rule(frozenset({VmState.ACTIVE, VmState.PAUSED}), Task.MIGRATING, None),
    "evacuate": Rule(_MOVABLE | {VmState.ERROR}, Task.REBUILDING, None),
    "shelve": Rule(frozenset({VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED, VmState.SUSPENDED}), Task.SHELVING,
                   VmState.SHELVED),
    "shelveOffload": Rule(frozenset({VmState.SHELVED}), Task.SHELVING_OFFLOADING, VmState.SHELVED_OFFLOADED),
    "unshelve": Rule(frozenset({VmState.SHELVED, VmState.SHELVED_OFFLOADED}), Task.UNSHELVING, VmState.ACTIVE),
    "confirmResize": Rule(frozenset({VmState.RESIZED}), Task.RESIZE_CONFIRMING, None),
    "revertResize": Rule(frozenset({VmState.RESIZED}), Task.RESIZE_REVERTING, None),
    "attach_interface": Rule(_PLUGGABLE, None, None),
    "detach_interface": Rule(_PLUGGABLE, None, None),
    "attach_share": Rule(frozenset({VmState.STOPPED}), None, None),
    "detach_share": Rule(frozenset({VmState.STOPPED}), None, None),
    "volume_snapshot_create": Rule(_NOT_GONE, None, None),
    "volume_snapshot_delete": Rule(_NOT_GONE, None, None),
    "delete": Rule(_NOT_GONE, Task.DELETING, VmState.DELETED, during=ANY_TASK),
}  # fmt: skip


WITHOUT_SHARES = frozenset({"resize", "migrate", "live-migration", "evacuate", "suspend", "shelve"})
"""What no instance with shares can do: a share is mounted on one host, and no memory is saved that has it."""


MOVING = frozenset({
    Task.RESIZE_PREP, Task.RESIZE_MIGRATING, Task.RESIZE_MIGRATED, Task.RESIZE_FINISH, Task.RESIZE_REVERTING,
    Task.MIGRATING, Task.REBUILDING, Task.REBUILD_SPAWNING, Task.UNSHELVING,
})  # fmt: skip
"""The tasks of an instance that is being moved."""


def begin(action: str, now: State, instance_uuid: str = "", said: str | None = None) -> State:
    """The state while `action` runs. Raises InstanceInvalidState (409) when it can't start now.

    `said` is the action's name in the error, where it differs from the key of the table.
    """
    rule = RULES[action]
    if now.vm not in rule.allowed:
        raise InstanceInvalidState(
            action=said or action, instance_uuid=instance_uuid, attribute="vm_state", state=now.vm.value
        )
    if now.task not in rule.during:
        raise InstanceInvalidState(
            action=said or action, instance_uuid=instance_uuid, attribute="task_state", state=str(now.task)
        )
    return State(now.vm, rule.task)


def shows(action: str) -> bool:
    """Whether the action is seen in the instance's state while it runs, and changes it."""
    rule = RULES.get(action)
    return rule is None or rule.task is not None


def finish(action: str, now: State) -> State:
    """The state after `action` has succeeded. What brings an instance back from ERROR leaves it ACTIVE."""
    same = VmState.ACTIVE if now.vm is VmState.ERROR else now.vm
    return State(RULES[action].after or same, None)
