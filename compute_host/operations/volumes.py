"""Volumes on a host: made, connected, given to guests and taken back.

Each may be done again after a restart in the middle of it: volumes are found by their mark, attachments by volume,
instance and host.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace

from cell_service.errors import NotSupported, OperationLost, PeerUnavailable, PolycellError, VolumeUnavailable
from cell_service.logs import about
from cell_service.model.block_device import BlockDevice, merged, volumes
from cell_service.model.lifecycle import Task, VmState
from cell_service.model.operation import Outcome
from cell_service.peers.volumes import NewVolume, Volumes
from compute_host.operations.context import HostContext, Job, no_way_back, outcome_of
from compute_host.virt.driver import Attachable

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
POLLS = 180
_USABLE = frozenset({"available", "reserved", "in-use", "attaching"})


def bring(context: HostContext, job: Job) -> Job:
    """The job with every volume of its instance there and connected to this host.

    Raises VolumeNotFound, VolumeUnavailable, NotSupported, Invalid, PeerUnavailable.
    """
    wanted = volumes(job.instance.block_devices)
    if not wanted:
        return job
    _attachable(context)
    brought = []
    for device in wanted:
        job.check()
        brought.append(connected(context, job, _made(context, job, device)))
    return _with(job, merged(job.instance.block_devices, brought))


def complete(context: HostContext, job: Job) -> None:
    """The guest has the volumes that were brought."""
    for device in volumes(job.instance.block_devices):
        if device.attachment_id is not None:
            service_of(context).complete(job.ctx, device.attachment_id)


def leave(context: HostContext, job: Job) -> None:
    """This host has no attachments of the instance's volumes any more."""
    for device in volumes(job.instance.block_devices):
        if device.volume_id is not None:
            service_of(context).leave(job.ctx, device.volume_id, job.instance.uuid, context.host)


def keep_reserved(context: HostContext, job: Job) -> tuple[BlockDevice, ...]:
    """The instance keeps its volumes, and no host has them. Answers its devices as they are then."""
    kept = []
    for device in volumes(job.instance.block_devices):
        if device.volume_id is not None:
            kept.append(reserve_only(context, job, device))
    return tuple(kept)


def leave_to_its_owner(context: HostContext, job: Job) -> tuple[BlockDevice, ...]:
    """This host has no attachments of the instance's volumes any more; those of one that waits for a host stay its own.
    Answers the devices that have changed."""
    instance = job.instance
    if instance.vm_state is not VmState.SHELVED_OFFLOADED or instance.task_state in (Task.DELETING, Task.UNSHELVING):
        leave(context, job)
        return ()
    return keep_reserved(context, job)


def reserve_only(context: HostContext, job: Job, device: BlockDevice) -> BlockDevice:
    """The device as it is then: its volume is the instance's, and this host has it no more."""
    volume_id = device.volume_id or ""
    reserved = service_of(context).reserve(job.ctx, volume_id, job.instance.uuid)
    service_of(context).leave(job.ctx, volume_id, job.instance.uuid, context.host)
    return replace(device, attachment_id=reserved, connection_info={})


def attach(context: HostContext, job: Job) -> Outcome:
    """The guest has the device. After an error neither guest nor host have it."""
    device = _device(job)
    if device is None:
        return outcome_of(context, job)
    driver, uuid = _attachable(context), job.instance.uuid
    try:
        device = connected(context, job, device)
        job.check()
        driver.attach_volume(uuid, device)
        job.check()
        service_of(context).complete(job.ctx, device.attachment_id or "")
    except OperationLost:
        raise
    except PolycellError:
        job.check()
        _take_back(context, job, device)
        raise
    return replace(outcome_of(context, job), devices=(device,))


def detach(context: HostContext, job: Job) -> Outcome:
    """Neither guest nor host have the device; the volume is free. Raises NotYet."""
    device = _device(job)
    if device is None:
        return outcome_of(context, job)
    _attachable(context).detach_volume(job.instance.uuid, device)
    job.check()
    with no_way_back():
        service_of(context).leave(job.ctx, device.volume_id or "", job.instance.uuid, context.host)
        if device.attachment_id is not None:
            service_of(context).release(job.ctx, device.attachment_id)
    return replace(outcome_of(context, job), devices_gone=(device.uuid,))


def swap(context: HostContext, job: Job) -> Outcome:
    """The device is the new volume, with what was on the old one where the driver can copy it; the old one is free.
    After an error it is the old one, and the new one is free. Raises NotYet."""
    old, new_id = _device(job), str(job.work.operation.arguments.get("volume_id"))
    if old is None:
        return outcome_of(context, job)
    driver, uuid, service = _attachable(context), job.instance.uuid, service_of(context)
    with no_way_back():
        try:
            new = connected(context, job, replace(old, volume_id=new_id, attachment_id=None, connection_info={}))
            new = replace(new, volume_size=service.get(job.ctx, new_id).size_gib)
            job.check()
            driver.detach_volume(uuid, old)
            driver.attach_volume(uuid, new)
            service.complete(job.ctx, new.attachment_id or "")
        except (OperationLost, PeerUnavailable):
            raise
        except PolycellError:
            job.check()
            driver.detach_volume(uuid, replace(old, volume_id=new_id))
            driver.attach_volume(uuid, old)
            service.leave(job.ctx, new_id, uuid, context.host)
            if (reserved := job.work.operation.arguments.get("attachment_id")) is not None:
                service.release(job.ctx, reserved)
            raise
        if old.volume_id is not None and old.volume_id != new_id:
            service.leave(job.ctx, old.volume_id, uuid, context.host)
    return replace(outcome_of(context, job), devices=(new,))


def extend(context: HostContext, job: Job) -> Outcome:
    """The guest sees the size that the volume has now."""
    device = _device(job)
    if device is None or device.volume_id is None:
        return outcome_of(context, job)
    size = service_of(context).get(job.ctx, device.volume_id).size_gib
    device = replace(device, volume_size=size)
    _attachable(context).extend_volume(job.instance.uuid, device)
    return replace(outcome_of(context, job), devices=(device,))


def clean_up(context: HostContext, job: Job) -> None:
    """After a build that failed: the instance has no attachments at all. What can't be undone now is logged."""
    if context.volumes is None or not volumes(job.instance.block_devices):
        return
    try:
        context.volumes.release_all(job.ctx, job.instance.uuid)
    except PolycellError as error:
        log.warning("volumes not released yet", extra=about(job.ctx, instance=job.instance.uuid, reason=error))


def _made(context: HostContext, job: Job, device: BlockDevice) -> BlockDevice:
    """The device with a volume that can be used, made for it if need be."""
    service, instance = service_of(context), job.instance
    if device.volume_id is None:
        wanted = NewVolume(
            project_id=instance.project_id,
            size_gib=device.volume_size or 1,
            mark=device.uuid,
            image_id=device.image_id if device.source_type == "image" else None,
            snapshot_id=device.snapshot_id,
            volume_type=device.volume_type,
        )
        device = replace(device, volume_id=service.create(job.ctx, wanted).id)
    return usable(context, job, device)


def usable(context: HostContext, job: Job, device: BlockDevice, polls: int = POLLS) -> BlockDevice:
    """The device, once its volume can be used; looked at so often. Raises VolumeNotFound, VolumeUnavailable,
    PeerUnavailable."""
    assert device.volume_id is not None
    service, never = service_of(context), threading.Event()
    for _ in range(polls):
        volume = service.get(job.ctx, device.volume_id)
        if volume.status in _USABLE:
            return replace(device, volume_size=volume.size_gib)
        if volume.status.startswith("error"):
            break
        job.check()
        context.clock.wait(never, POLL_SECONDS)
    raise VolumeUnavailable(volume_id=device.volume_id, reason=f"its status is {volume.status}")


def connected(context: HostContext, job: Job, device: BlockDevice) -> BlockDevice:
    """The device with the attachment by which this host has its volume."""
    assert device.volume_id is not None
    connector = {
        "host": context.host,
        "initiator": f"iqn.1994-05.org.polycell:{context.host}",
        "multipath": False,
        "platform": "x86_64",
        "os_type": "linux",
    }
    connection = service_of(context).connect(
        job.ctx, device.volume_id, job.instance.uuid, connector, device.device_name
    )
    return replace(device, attachment_id=connection.attachment_id, connection_info=connection.info)


def _take_back(context: HostContext, job: Job, device: BlockDevice) -> None:
    try:
        _attachable(context).detach_volume(job.instance.uuid, device)
        if device.attachment_id is not None:
            service_of(context).release(job.ctx, device.attachment_id)
    except PolycellError as error:
        log.warning("volume not taken back", extra=about(job.ctx, instance=job.instance.uuid, reason=error))


def _device(job: Job) -> BlockDevice | None:
    """What the operation is about; None when the instance has it no more."""
    wanted = job.work.operation.arguments.get("device")
    return next((device for device in job.instance.block_devices if device.uuid == wanted), None)


def _with(job: Job, devices: tuple[BlockDevice, ...]) -> Job:
    return replace(job, work=replace(job.work, instance=replace(job.instance, block_devices=devices)))


def service_of(context: HostContext) -> Volumes:
    """Raises NotSupported."""
    if context.volumes is None:
        raise NotSupported(reason="This host has no block storage service.")
    return context.volumes


def _attachable(context: HostContext) -> Attachable:
    """Raises NotSupported."""
    if not isinstance(context.driver, Attachable):
        raise NotSupported(reason="Guests of this host cannot have volumes.")
    return context.driver
