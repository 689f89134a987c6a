"""Shelving on a host: the guest becomes an image, is removed, or starts again where it is.

Each function may run again after a restart in the middle of it. The image's id was chosen before, so it is made once;
the guest is destroyed only while its image is active.
"""

from __future__ import annotations

import logging

from cell_service.errors import Conflict, NotSupported, OperationLost, PolycellError
from cell_service.logs import about
from cell_service.model import shelved
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import PowerState, Task, VmState
from cell_service.model.operation import Outcome
from cell_service.operations.declaration import NoArguments
from cell_service.operations.shelving import ShelveArguments, ShelveResult, UnshelveResult
from cell_service.peers.image import NewImage
from compute_host.image_cache import ImageCache
from compute_host.operations import volumes
from compute_host.operations.context import HostContext, OperationContext, outcome_of, spec_of
from compute_host.virt.driver import Snapshots

log = logging.getLogger(__name__)

_OFF = (PowerState.SHUTDOWN, PowerState.CRASHED, PowerState.NOSTATE)


def shelve(context: HostContext, work: OperationContext, arguments: ShelveArguments) -> Outcome:
    """Turn the guest off, and make an image of its root disk, unless that is a volume. After an error it is as it was:
    a guest that ran runs again."""
    images, driver, uuid = _images(context), context.driver, work.instance.uuid
    if not isinstance(driver, Snapshots):
        raise NotSupported(reason="Guests of this host cannot be copied into images.")
    try:
        if arguments.stale_image:
            images.remove(work.ctx, arguments.stale_image)
        if driver.power_state(uuid) not in _OFF:
            context.driver.power_off(uuid, graceful_seconds=context.shutdown_seconds)
        work.check()
        if work.instance.volume_backed:
            return outcome_of(context, work)
        work.progress(Task.SHELVING_IMAGE_UPLOADING)
        images.publish(work.ctx, _image_of(work.instance, arguments.image), lambda path: driver.snapshot(uuid, path))
    except OperationLost:
        raise
    except PolycellError:
        work.check()
        _go_on(context, work, arguments.image)
        raise
    return outcome_of(context, work, result=ShelveResult(arguments.image))


def offload(context: HostContext, work: OperationContext, _arguments: NoArguments) -> Outcome:
    """Remove the guest here; its ports stay the instance's, bound to no host."""
    image_id = shelved.image_of(work.instance.system_metadata)
    kept = work.instance.volume_backed or (image_id is not None and _images(context).is_active(work.ctx, image_id))
    if not kept:
        raise Conflict(reason="The shelved server's image is not there, so its guest is kept.")
    work.check()
    context.driver.destroy(work.instance.uuid)
    if context.networks is not None:
        context.networks.unbind(work.ctx, work.instance.uuid, project_id=work.instance.project_id)
    devices = volumes.keep_reserved(context, work)
    operation = work.operation
    return Outcome(operation.id, operation.fence, power_state=PowerState.NOSTATE, devices=devices)


def unshelve(context: HostContext, work: OperationContext, _arguments: NoArguments) -> Outcome:
    """Start the guest, which has not left the host, and delete its image."""
    context.driver.power_on(spec_of(context, work))
    gone = forget_image(context, work, shelved.image_of(work.instance.system_metadata))
    return outcome_of(context, work, result=UnshelveResult(gone))


def forget_image(context: HostContext, work: OperationContext, image_id: str | None) -> bool:
    """Delete the image. Returns whether it is gone; an image that can't be deleted now is left to a later operation."""
    if image_id is None or context.images is None:
        return True
    try:
        context.images.remove(work.ctx, image_id)
    except PolycellError as error:
        log.warning("image left", extra=about(work.ctx, instance=work.instance.uuid, image=image_id, reason=error))
        return False
    return True


def _go_on(context: HostContext, work: OperationContext, image_id: str) -> None:
    forget_image(context, work, image_id)
    if work.instance.vm_state is VmState.ACTIVE:
        try:
            context.driver.power_on(spec_of(context, work))
        except PolycellError as error:
            log.warning("guest stays off", extra=about(work.ctx, instance=work.instance.uuid, reason=error))


def _images(context: HostContext) -> ImageCache:
    """Raises NotSupported."""
    if context.images is None:
        raise NotSupported(reason="This host has no image service.")
    return context.images


def _image_of(instance: Instance, image_id: str) -> NewImage:
    properties = {
        "image_type": "snapshot",
        "instance_uuid": instance.uuid,
        "user_id": instance.user_id,
        "base_image_ref": instance.image_ref,
    }
    return NewImage(
        image_id,
        f"{instance.display_name}-shelved"[:255],
        instance.project_id,
        disk_format="",
        min_disk_gib=instance.flavor.root_gib,
        properties=properties,
    )
