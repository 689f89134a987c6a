"""Images made of guests: an image whose record exists already gets the guest's root disk as its content."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from cell_service.model.ability import Ability
from cell_service.model.guest_agent import cannot_be_quiesced
from cell_service.model.lifecycle import Task, VmState
from cell_service.model.operation import Phase, StoredOperation
from cell_service.operations.declaration import (
    Changes,
    Ending,
    History,
    HostDeath,
    Lateness,
    NoResult,
    Operation,
    again,
    fail,
)
from cell_service.operations.effects import ConductorFollowUp, RemoveUnfinishedImages
from cell_service.operations.rule import ANY_TASK, COPYABLE, NOT_DELETED, Rule
from cell_service.peers.image import NewImage


@dataclass(frozen=True, slots=True)
class ImageArguments:
    new_image: NewImage


@dataclass(frozen=True, slots=True)
class BackupArguments:
    """Of the instance's backups of this type, only the `rotation` newest are kept."""

    new_image: NewImage
    rotation: int


@dataclass(frozen=True, slots=True)
class ForgetImagesArguments:
    """The ids of images that a failed operation was making."""

    images: tuple[str, ...] = ()


def _forgotten(ending: Ending[ForgetImagesArguments, NoResult]) -> Changes:
    return Changes(effects=(RemoveUnfinishedImages(ending.arguments.images),), history=History.NOTHING)


FORGET_IMAGES = Operation(
    name="forgetImages",
    action="forgetImages",
    event=None,
    rule=Rule(NOT_DELETED, task=None, during=ANY_TASK, hostless=NOT_DELETED),
    arguments=ForgetImagesArguments,
    result=NoResult,
    deadline=None,
    when_host_dies=HostDeath.DO_HERE,
    when_late=Lateness.NEVER,
    removes_leftovers=True,
    given_up_by_reset=False,
    succeeded=_forgotten,
    failed=again,
    host_died=_forgotten,
)
"""The records that were made beforehand for images are removed, as soon as the image service answers."""


def _not_made(ending: Ending[ImageArguments, NoResult] | Ending[BackupArguments, NoResult]) -> Changes:
    changes = fail(ending)
    if changes.phase is not Phase.FAILED:
        return changes
    unfinished = ForgetImagesArguments((ending.arguments.new_image.id,))
    return replace(changes, effects=(*changes.effects, ConductorFollowUp(FORGET_IMAGES, unfinished)))


CREATE_IMAGE = Operation(
    name="createImage",
    needs=Ability.SNAPSHOTS,
    refusal=cannot_be_quiesced,
    action="createImage",
    event="compute_snapshot_instance",
    rule=Rule(COPYABLE, Task.IMAGE_SNAPSHOT_PENDING, not_from_volume=frozenset({VmState.PAUSED})),
    arguments=ImageArguments,
    result=NoResult,
    deadline=timedelta(hours=1),
    stages=(Task.IMAGE_SNAPSHOT_PENDING, Task.IMAGE_SNAPSHOT, Task.IMAGE_UPLOADING),
    failed=_not_made,
)
CREATE_BACKUP = Operation(
    name="createBackup",
    needs=Ability.SNAPSHOTS,
    refusal=cannot_be_quiesced,
    action="createBackup",
    event="compute_backup_instance",
    rule=Rule(COPYABLE, Task.IMAGE_BACKUP),
    arguments=BackupArguments,
    result=NoResult,
    deadline=timedelta(hours=1),
    stages=(Task.IMAGE_BACKUP, Task.IMAGE_SNAPSHOT, Task.IMAGE_UPLOADING),
    failed=_not_made,
)


def unfinished_images(unfinished: Iterable[StoredOperation]) -> tuple[str, ...]:
    """The ids of the images that these operations were making."""
    made = {each.name: each for each in (CREATE_IMAGE, CREATE_BACKUP)}
    return tuple(made[each.kind].read(each.arguments).new_image.id for each in unfinished if each.kind in made)


ALL: tuple[Operation[Any, Any], ...] = (CREATE_IMAGE, CREATE_BACKUP, FORGET_IMAGES)
