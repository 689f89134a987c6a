"""Shelving on a host: the guest becomes an image, goes away, or starts again where it is.

Each may be done again after a restart in the middle of it. The image's id was chosen before, so it is made once; the
guest is destroyed only while its image is there.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from cell_service.errors import Conflict, NotSupported, OperationLost, PolycellError
from cell_service.logs import about
from cell_service.model import shelved
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import PowerState, Task, VmState
from cell_service.model.operation import IMAGE, IMAGE_GONE, STALE_IMAGE, Outcome
from cell_service.peers.image import NewImage
from compute_host.image_cache import ImageCache
from compute_host.operations import volumes
from compute_host.operations.context import HostContext, Job, outcome_of, spec_of
from compute_host.virt.driver import Snapshots

log = logging.getLogger(__name__)

_OFF = (PowerState.SHUTDOWN, PowerState.CRASHED, PowerState.NOSTATE)


def shelve(context: HostContext, job: Job) -> Outcome:
    """The guest is off, and its root disk is an image, unless it is a volume. After an error it is as it was: a running
    guest runs again."""
    images, driver, uuid = _images(context), context.driver, job.instance.uuid
    if not isinstance(driver, Snapshots):
        raise NotSupported(reason="Guests of this host cannot be copied into images.")
    asked = job.work.operation.arguments
    try:
        if asked.get(STALE_IMAGE):
            images.remove(job.ctx, asked[STALE_IMAGE])
        if driver.power_state(uuid) not in _OFF:
            context.driver.power_off(uuid, graceful_seconds=context.shutdown_seconds)
        job.check()
        if job.instance.volume_backed:
            return outcome_of(context, job)
        job.progress(Task.SHELVING_IMAGE_UPLOADING)
        images.publish(job.ctx, _image_of(job.instance, asked[IMAGE]), lambda path: driver.snapshot(uuid, path))
    except OperationLost:
        raise
    except PolycellError:
        job.check()
        _go_on(context, job, asked[IMAGE])
        raise
    return replace(outcome_of(context, job), result={IMAGE: asked[IMAGE]})


def offload(context: HostContext, job: Job) -> Outcome:
    """Nothing of the guest is left here; its ports are the instance's, and bound to no host."""
    image_id = shelved.image_of(job.instance.system_metadata)
    kept = job.instance.volume_backed or (image_id is not None and _images(context).is_active(job.ctx, image_id))
    if not kept:
        raise Conflict(reason="The shelved server's image is not there, so its guest is kept.")
    job.check()
    context.driver.destroy(job.instance.uuid)
    if context.networks is not None:
        context.networks.unbind(job.ctx, job.instance.uuid)
    devices = volumes.keep_reserved(context, job)
    operation = job.work.operation
    return Outcome(operation.id, operation.fence, power_state=PowerState.NOSTATE, devices=devices)


def unshelve(context: HostContext, job: Job) -> Outcome:
    """The guest, which never left, runs; its image goes."""
    context.driver.power_on(spec_of(context, job))
    gone = forget_image(context, job, shelved.image_of(job.instance.system_metadata))
    return replace(outcome_of(context, job), result={IMAGE_GONE: gone})


def forget_image(context: HostContext, job: Job, image_id: str | None) -> bool:
    """Whether the image is gone. What can't be removed now is left to the next that is done with the instance."""
    if image_id is None or context.images is None:
        return True
    try:
        context.images.remove(job.ctx, image_id)
    except PolycellError as error:
        log.warning("image left", extra=about(job.ctx, instance=job.instance.uuid, image=image_id, reason=error))
        return False
    return True


def _go_on(context: HostContext, job: Job, image_id: str) -> None:
    forget_image(context, job, image_id)
    if job.instance.vm_state is VmState.ACTIVE:
        try:
            context.driver.power_on(spec_of(context, job))
        except PolycellError as error:
            log.warning("guest stays off", extra=about(job.ctx, instance=job.instance.uuid, reason=error))


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
