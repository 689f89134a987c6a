"""Images of guests: the root disk becomes the content of an image whose record exists already.

Each function may run again after a restart in the middle of it: the image's id was chosen before, so it is made once.
"""

from __future__ import annotations

import logging
from pathlib import Path

from cell_service.errors import NotSupported, OperationLost, PolycellError
from cell_service.logs import about
from cell_service.model.guest_agent import quiesce_of
from cell_service.model.lifecycle import PowerState, Task
from cell_service.model.operation import Outcome
from cell_service.operations.images import BackupArguments, ForgetImagesArguments, ImageArguments
from compute_host.image_cache import ImageCache
from compute_host.operations import volume_images
from compute_host.operations.context import HostContext, OperationContext, no_way_back, outcome_of, spec_of
from compute_host.virt.driver import LiveSnapshots, Snapshots

log = logging.getLogger(__name__)
_OFF = (PowerState.SHUTDOWN, PowerState.CRASHED, PowerState.NOSTATE)
_TAKEN_AS_THEY_ARE = (*_OFF, PowerState.SUSPENDED)
BACKUP_MARKS = ("image_type", "backup_type", "instance_uuid")
"""The properties that the backups of one type have in common."""


def make_image(context: HostContext, work: OperationContext, arguments: ImageArguments | BackupArguments) -> Outcome:
    """Make the image; the guest goes on as before. After an error there is no image, and no snapshot."""
    images, image = _images(context), arguments.new_image

    def make(path: Path) -> str:
        work.progress(Task.IMAGE_SNAPSHOT)
        disk_format = _snapshot(context, work, path)
        work.check()
        work.progress(Task.IMAGE_UPLOADING)
        return disk_format

    try:
        work.check()
        if work.instance.volume_backed:
            work.progress(Task.IMAGE_SNAPSHOT)
            images.publish(work.ctx, volume_images.with_snapshots(context, work, image), volume_images.empty)
        else:
            images.publish(work.ctx, image, make)
    except OperationLost:
        raise
    except PolycellError:
        work.check()
        _remove(context, work, image.id)
        raise
    return outcome_of(context, work)


def forget_images(context: HostContext, work: OperationContext, arguments: ForgetImagesArguments) -> Outcome:
    """Report that nothing of them is on this host: the conductor removes what did not become an image."""
    return Outcome(work.operation.id, work.operation.fence)


def make_backup(context: HostContext, work: OperationContext, arguments: BackupArguments) -> Outcome:
    """As `make_image`; of the backups of this type only the newest are kept, as many as requested. Raises NotYet."""
    outcome, image = make_image(context, work, arguments), arguments.new_image
    marks = {name: image.properties[name] for name in BACKUP_MARKS}
    work.check()
    with no_way_back():
        _images(context).rotate(work.ctx, image.owner, marks, arguments.rotation)
    return outcome


def _remove(context: HostContext, work: OperationContext, image_id: str) -> None:
    """Remove the record and the snapshots of an image that failed; what can't be removed now, conductors remove
    later."""
    try:
        _images(context).remove(work.ctx, image_id)
        volume_images.forget(context, work, image_id)
    except PolycellError as error:
        log.warning(
            "image not removed yet", extra=about(work.ctx, instance=work.instance.uuid, image=image_id, reason=error)
        )


def _snapshot(context: HostContext, work: OperationContext, path: Path) -> str:
    """Copy the root disk; a running guest that the driver can't copy is turned off for that time."""
    driver, uuid = context.driver, work.instance.uuid
    state = driver.power_state(uuid)
    if state not in _OFF and isinstance(driver, LiveSnapshots):
        return driver.snapshot_running(uuid, path, quiesce=quiesce_of(work.instance))
    if not isinstance(driver, Snapshots):
        raise NotSupported(reason="Guests of this host cannot be copied into images.")
    if state in _TAKEN_AS_THEY_ARE:
        return driver.snapshot(uuid, path)
    driver.power_off(uuid, graceful_seconds=context.shutdown_seconds)
    try:
        return driver.snapshot(uuid, path)
    finally:
        driver.power_on(spec_of(context, work))
        if state is PowerState.PAUSED:
            driver.pause(uuid)


def _images(context: HostContext) -> ImageCache:
    """Raises NotSupported."""
    if context.images is None:
        raise NotSupported(reason="This host has no image service.")
    return context.images
