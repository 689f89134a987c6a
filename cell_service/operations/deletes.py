"""Deletes of instances: at once, or so that they can be restored for a while. A delete is tried without end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cell_service.model import shelved
from cell_service.model.lifecycle import Task, VmState
from cell_service.model.operation import Phase
from cell_service.operations.declaration import (
    Changes,
    Ending,
    History,
    HostDeath,
    Lateness,
    NoArguments,
    NoResult,
    Operation,
)
from cell_service.operations.effects import (
    CleanUpHost,
    DeletePorts,
    MarkDeleted,
    ReleaseAllocations,
    ReleaseVolumes,
    RemoveImages,
)
from cell_service.operations.rule import ANY_TASK, COPYABLE, NOT_DELETED, Rule


@dataclass(frozen=True, slots=True)
class DeleteArguments:
    """`unfinished_images`: those that were being made of the guest; they are deleted too."""

    unfinished_images: tuple[str, ...] | None = None


def _deleted(ending: Ending[DeleteArguments, NoResult]) -> Changes:
    return Changes(effects=(ReleaseAllocations(), MarkDeleted()))


def _put_off(ending: Ending[DeleteArguments, NoResult]) -> Changes:
    return Changes(Phase.OPEN, {"fault": ending.fault}, fault=ending.fault, history=History.EVENT)


def _without_host(ending: Ending[DeleteArguments, NoResult]) -> Changes:
    unfinished = ending.arguments.unfinished_images or ()
    image_id = shelved.image_of(ending.instance.system_metadata)
    images = (*unfinished, *([image_id] if image_id is not None else []))
    return Changes(
        effects=(
            DeletePorts(),
            RemoveImages(images, unfinished if ending.instance.volume_backed else ()),
            ReleaseVolumes(),
            ReleaseAllocations(),
            CleanUpHost(),
            MarkDeleted(),
        )
    )


DELETE = Operation(
    name="delete",
    action="delete",
    event="compute_terminate_instance",
    rule=Rule(NOT_DELETED, Task.DELETING, VmState.DELETED, during=ANY_TASK, hostless=NOT_DELETED),
    arguments=DeleteArguments,
    result=NoResult,
    deadline=None,
    when_host_dies=HostDeath.DO_HERE,
    when_late=Lateness.NEVER,
    given_up_by_reset=False,
    succeeded=_deleted,
    failed=_put_off,
    host_died=_without_host,
)
SOFT_DELETE = Operation(
    name="soft-delete",
    action="delete",
    event="compute_soft_delete_instance",
    rule=Rule(COPYABLE | {VmState.RESCUED, VmState.ERROR}, Task.SOFT_DELETING, VmState.SOFT_DELETED),
    arguments=NoArguments,
    result=NoResult,
    deadline=None,
)
RESTORE = Operation(
    name="restore",
    action="restore",
    event="compute_restore_instance",
    rule=Rule(frozenset({VmState.SOFT_DELETED}), Task.RESTORING, VmState.ACTIVE),
    arguments=NoArguments,
    result=NoResult,
)

ALL: tuple[Operation[Any, Any], ...] = (DELETE, SOFT_DELETE, RESTORE)
