"""The `status` that the Compute API shows for a vm_state and task_state, and back again for filters."""

from __future__ import annotations

_DEFAULT = "default"

# Compute API guide, "Server status"; one row a vm_state: status by task_state.
_STATUS: dict[str, dict[str, str]] = {
    "active": {
        _DEFAULT: "ACTIVE",
        "rebooting": "REBOOT",
        "reboot_pending": "REBOOT",
        "reboot_started": "REBOOT",
        "rebooting_hard": "HARD_REBOOT",
        "reboot_pending_hard": "HARD_REBOOT",
        "reboot_started_hard": "HARD_REBOOT",
        "updating_password": "PASSWORD",
        "rebuilding": "REBUILD",
        "rebuild_block_device_mapping": "REBUILD",
        "rebuild_spawning": "REBUILD",
        "migrating": "MIGRATING",
        "resize_prep": "RESIZE",
        "resize_migrating": "RESIZE",
        "resize_migrated": "RESIZE",
        "resize_finish": "RESIZE",
    },
    "building": {_DEFAULT: "BUILD"},
    "stopped": {
        _DEFAULT: "SHUTOFF",
        "resize_prep": "RESIZE",
        "resize_migrating": "RESIZE",
        "resize_migrated": "RESIZE",
        "resize_finish": "RESIZE",
        "rebuilding": "REBUILD",
        "rebuild_block_device_mapping": "REBUILD",
        "rebuild_spawning": "REBUILD",
    },
    "resized": {_DEFAULT: "VERIFY_RESIZE", "resize_reverting": "REVERT_RESIZE"},
    "paused": {_DEFAULT: "PAUSED", "migrating": "MIGRATING"},
    "suspended": {_DEFAULT: "SUSPENDED"},
    "rescued": {_DEFAULT: "RESCUE"},
    "error": {
        _DEFAULT: "ERROR",
        "rebuilding": "REBUILD",
        "rebuild_block_device_mapping": "REBUILD",
        "rebuild_spawning": "REBUILD",
    },
    "deleted": {_DEFAULT: "DELETED"},
    "soft-delete": {_DEFAULT: "SOFT_DELETED"},
    "shelved": {_DEFAULT: "SHELVED"},
    "shelved_offloaded": {_DEFAULT: "SHELVED_OFFLOADED"},
}


def status_of(vm_state: str, task_state: str | None) -> str:
    """The status; UNKNOWN for a vm_state that isn't in the table."""
    tasks = _STATUS.get(vm_state)
    if tasks is None:
        return "UNKNOWN"
    return tasks.get(task_state or _DEFAULT, tasks[_DEFAULT])


def states_of(status: str) -> list[tuple[str, tuple[str, ...], bool]]:
    """The states that show as `status`: (vm_state, tasks, is_default).

    `is_default`: every task that has no status of its own shows so; `tasks` are then those to leave out. Empty for an
    unknown status.
    """
    found: list[tuple[str, tuple[str, ...], bool]] = []
    for vm_state, tasks in _STATUS.items():
        if tasks[_DEFAULT] == status.upper():
            others = tuple(task for task, shown in tasks.items() if task != _DEFAULT and shown != status.upper())
            found.append((vm_state, others, True))
        else:
            named = tuple(task for task, shown in tasks.items() if shown == status.upper())
            if named:
                found.append((vm_state, named, False))
    return found
