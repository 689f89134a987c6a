"""Images made of guests: an image whose record exists already gets the guest's root disk as its content."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cell_service.model.lifecycle import Task, VmState
from cell_service.model.operation import StoredOperation
from cell_service.operations.declaration import NoResult, Operation
from cell_service.operations.rule import COPYABLE, Rule
from cell_service.peers.image import NewImage


@dataclass(frozen=True, slots=True)
class ImageArguments:
    new_image: NewImage


@dataclass(frozen=True, slots=True)
class BackupArguments:
    """Of the instance's backups of this type, only the `rotation` newest are kept."""

    new_image: NewImage
    rotation: int


CREATE_IMAGE = Operation(
    name="createImage",
    action="createImage",
    event="compute_snapshot_instance",
    rule=Rule(COPYABLE, Task.IMAGE_SNAPSHOT_PENDING, not_from_volume=frozenset({VmState.PAUSED})),
    arguments=ImageArguments,
    result=NoResult,
    deadline=timedelta(hours=1),
    stages=(Task.IMAGE_SNAPSHOT_PENDING, Task.IMAGE_SNAPSHOT, Task.IMAGE_UPLOADING),
)
CREATE_BACKUP = Operation(
    name="createBackup",
    action="createBackup",
    event="compute_backup_instance",
    rule=Rule(COPYABLE, Task.IMAGE_BACKUP),
    arguments=BackupArguments,
    result=NoResult,
    deadline=timedelta(hours=1),
    stages=(Task.IMAGE_BACKUP, Task.IMAGE_SNAPSHOT, Task.IMAGE_UPLOADING),
)


def unfinished_images(unfinished: Iterable[StoredOperation]) -> tuple[str, ...]:
    """The ids of the images that these operations were making."""
    made = {each.name: each for each in ALL}
    return tuple(made[each.kind].read(each.arguments).new_image.id for each in unfinished if each.kind in made)


ALL: tuple[Operation[Any, Any], ...] = (CREATE_IMAGE, CREATE_BACKUP)
