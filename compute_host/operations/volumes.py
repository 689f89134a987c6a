"""Volumes on a host: made, connected, attached to guests and detached.

Each function may run again after a restart in the middle of it: volumes are found by their mark, attachments by volume,
instance and host.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace

from cell_service.context import Context
from cell_service.errors import (
    NotSupported,
    NotYet,
    OperationLost,
    PeerUnavailable,
    PolycellError,
    VolumeEncryptionNotSupported,
    VolumeUnavailable,
)
from cell_service.logs import about
from cell_service.model.block_device import BlockDevice, merged, volumes
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import Task, VmState
from cell_service.model.operation import Outcome
from cell_service.model.volume_connection import connection_of, of_any_host, unconnected
from cell_service.operations.volumes import DeviceArguments, SwapArguments
from cell_service.peers.volumes import NewVolume, Volume, Volumes
from compute_host.operations.context import HostContext, OperationContext, no_way_back, outcome_of, spec_of
from compute_host.virt.driver import Attachable, Swapping

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
POLLS = 180
_USABLE = frozenset({"available", "reserved", "in-use", "attaching"})


def bring(context: HostContext, work: OperationContext) -> OperationContext:
    """Make every volume of the instance and connect it to this host. Returns the operation with the instance changed.

    Raises VolumeNotFound, VolumeUnavailable, NotSupported, Invalid, PeerUnavailable.
    """
    wanted = volumes(work.instance.block_devices)
    if not wanted:
        return work
    _attachable(context)
    brought = []
    for device in wanted:
        work.check()
        device = _made(context, work, device)
        brought.append(connected(context, work, device, usable(context, work, device)))
    return _with(work, merged(work.instance.block_devices, brought))


def complete(context: HostContext, work: OperationContext) -> None:
    """Mark the attachments complete: the guest has the volumes."""
    for device in volumes(work.instance.block_devices):
        if device.attachment_id is not None:
            service_of(context).complete(work.ctx, device.attachment_id)


def refreshed(context: HostContext, ctx: Context, instance: Instance) -> tuple[BlockDevice, ...]:
    """The instance's volumes that the host reaches in another way than before, as it reaches them now. Where the block
    storage service does not say, the last known way counts, which is logged."""
    changed = []
    for device in volumes(instance.block_devices):
        if context.volumes is None or device.attachment_id is None:
            continue
        try:
            info = context.volumes.connection(ctx, device.attachment_id).info
        except PolycellError as error:
            shown = about(ctx, instance=instance.uuid, volume=device.volume_id, reason=error)
            log.warning("volume expected where it was", extra=shown)
            if isinstance(error, PeerUnavailable):
                break
            continue
        kept = of_any_host(device.connection_info)
        if info and {**info, **kept} != device.connection_info:
            changed.append(replace(device, connection_info={**info, **kept}))
    return tuple(changed)


def leave(context: HostContext, work: OperationContext) -> None:
    """Remove this host's attachments of the instance's volumes."""
    for device in volumes(work.instance.block_devices):
        if device.volume_id is not None:
            service_of(context).leave(work.ctx, device.volume_id, work.instance.uuid, context.host)


def keep_reserved(context: HostContext, work: OperationContext) -> tuple[BlockDevice, ...]:
    """Reserve the volumes for the instance, without a host. Returns its devices as they are then."""
    kept = []
    for device in volumes(work.instance.block_devices):
        if device.volume_id is not None:
            kept.append(reserve_only(context, work, device))
    return tuple(kept)


def leave_to_its_owner(context: HostContext, work: OperationContext) -> tuple[BlockDevice, ...]:
    """Remove this host's attachments of the instance's volumes; an instance without a host keeps them reserved.
    Returns the devices that have changed."""
    instance = work.instance
    if instance.vm_state is not VmState.SHELVED_OFFLOADED or instance.task_state in (Task.DELETING, Task.UNSHELVING):
        leave(context, work)
        return ()
    return keep_reserved(context, work)


def reserve_only(context: HostContext, work: OperationContext, device: BlockDevice) -> BlockDevice:
    """Reserve the device's volume for the instance, and remove this host's attachment. Returns the device."""
    volume_id = device.volume_id or ""
    reserved = service_of(context).reserve(work.ctx, volume_id, work.instance.uuid)
    service_of(context).leave(work.ctx, volume_id, work.instance.uuid, context.host)
    return replace(device, attachment_id=reserved, connection_info=unconnected(device.connection_info))


def attach(context: HostContext, work: OperationContext, arguments: DeviceArguments) -> Outcome:
    """Attach the device to the guest. After an error neither guest nor host have it."""
    device = _device(work, arguments.device)
    if device is None:
        return outcome_of(context, work)
    try:
        driver = _attachable(context)
        device = connected(context, work, device, _volume_of(context, work, device))
        work.check()
        driver.attach_volume(spec_of(context, work), device)
        work.check()
        service_of(context).complete(work.ctx, device.attachment_id or "")
    except OperationLost:
        raise
    except PolycellError:
        work.check()
        _roll_back(context, work, device)
        raise
    return replace(outcome_of(context, work), devices=(device,))


def detach(context: HostContext, work: OperationContext, arguments: DeviceArguments) -> Outcome:
    """Detach the device from the guest; the volume is free then. A host that the guest has left, and that is still to
    be cleaned up or keeps it for a revert, has no attachment of it either. Raises NotYet."""
    device = _device(work, arguments.device)
    if device is None:
        return outcome_of(context, work)
    with no_way_back():
        if isinstance(context.driver, Attachable):  # else no guest of this host has ever had it
            context.driver.detach_volume(work.instance.uuid, device)
        work.check()
        service_of(context).release_volume(work.ctx, device.volume_id or "", work.instance.uuid)
        if device.attachment_id is not None:
            service_of(context).release(work.ctx, device.attachment_id)
    return replace(outcome_of(context, work), devices_gone=(device.uuid,))


def swap(context: HostContext, work: OperationContext, arguments: SwapArguments) -> Outcome:
    """Replace the device's volume by the new one, with the old one's content; the old one is free then. After an error
    the device is the old volume, and the new one is free. Raises NotYet."""
    old, new_id = _device(work, arguments.device), arguments.volume_id
    if old is None:
        return outcome_of(context, work)
    driver, uuid, service = context.driver, work.instance.uuid, service_of(context)
    if not isinstance(driver, Swapping):
        raise NotSupported(reason="The volumes of this host's guests cannot be swapped.")
    spec = spec_of(context, work)
    with no_way_back():
        try:
            new = replace(old, volume_id=new_id, attachment_id=None, connection_info={})
            new = connected(context, work, new, service.get(work.ctx, new_id))
            _demand_plain(old, new)
            work.check()
            driver.swap_volume(spec, old, new, work.check)
            service.complete(work.ctx, new.attachment_id or "")
        except (OperationLost, PeerUnavailable, NotYet):
            raise
        except PolycellError:
            work.check()
            driver.detach_volume(uuid, replace(old, volume_id=new_id))
            driver.attach_volume(spec, old)
            service.leave(work.ctx, new_id, uuid, context.host)
            if (reserved := arguments.attachment_id) is not None:
                service.release(work.ctx, reserved)
            raise
        if old.volume_id is not None and old.volume_id != new_id:
            service.release_volume(work.ctx, old.volume_id, uuid)
    return replace(outcome_of(context, work), devices=(new,))


def extend(context: HostContext, work: OperationContext, arguments: DeviceArguments) -> Outcome:
    """Report the volume's new size to the guest."""
    device = _device(work, arguments.device)
    if device is None or device.volume_id is None:
        return outcome_of(context, work)
    size = service_of(context).get(work.ctx, device.volume_id).size_gib
    device = replace(device, volume_size=size)
    _attachable(context).extend_volume(work.instance.uuid, device)
    return replace(outcome_of(context, work), devices=(device,))


def clean_up(context: HostContext, work: OperationContext) -> None:
    """Remove all attachments of the instance after a failed build. What can't be undone now is logged."""
    if context.volumes is None or not volumes(work.instance.block_devices):
        return
    try:
        context.volumes.release_all(work.ctx, work.instance.uuid)
    except PolycellError as error:
        log.warning("volumes not released yet", extra=about(work.ctx, instance=work.instance.uuid, reason=error))


def _made(context: HostContext, work: OperationContext, device: BlockDevice) -> BlockDevice:
    """The device with its volume, which is made if the device has none yet."""
    service, instance = service_of(context), work.instance
    if device.volume_id is None:
        wanted = NewVolume(
            project_id=instance.project_id,
            size_gib=device.volume_size or 1,
            mark=device.uuid,
            image_id=device.image_id if device.source_type == "image" else None,
            snapshot_id=device.snapshot_id,
            volume_type=device.volume_type,
        )
        device = replace(device, volume_id=service.create(work.ctx, wanted).id)
    return device


def usable(context: HostContext, work: OperationContext, device: BlockDevice, polls: int = POLLS) -> Volume:
    """The device's volume, once it can be used; it is polled at most `polls` times. Raises VolumeNotFound,
    VolumeUnavailable, PeerUnavailable."""
    never = threading.Event()
    for _ in range(polls):
        volume = _volume_of(context, work, device)
        if volume.status in _USABLE:
            return volume
        if volume.status.startswith("error"):
            break
        work.check()
        context.clock.wait(never, POLL_SECONDS)
    raise VolumeUnavailable(volume_id=device.volume_id or "", reason=f"its status is {volume.status}")


def connected(context: HostContext, work: OperationContext, device: BlockDevice, volume: Volume) -> BlockDevice:
    """The device with the attachment by which this host has its volume, and with the volume's size.

    Raises VolumeNotFound, VolumeUnavailable, NotSupported, DriverError, PeerUnavailable.
    """
    assert device.volume_id is not None
    connector = {**_attachable(context).volume_connector(), "host": context.host}
    connection = service_of(context).connect(
        work.ctx, device.volume_id, work.instance.uuid, connector, device.device_name
    )
    info = {**connection.info, "multiattach": True} if volume.multiattach else connection.info
    if connection_of(info).encrypted:
        info = {**info, "encryption": service_of(context).encryption(work.ctx, device.volume_id)}
    return replace(device, attachment_id=connection.attachment_id, connection_info=info, volume_size=volume.size_gib)


def _demand_plain(*devices: BlockDevice) -> None:
    """Raises VolumeEncryptionNotSupported for volumes whose content is not copied: from one key to another."""
    for device in devices:
        if connection_of(device.connection_info).encrypted:
            raise VolumeEncryptionNotSupported(volume_type=device.volume_type, volume_id=device.volume_id)


def _volume_of(context: HostContext, work: OperationContext, device: BlockDevice) -> Volume:
    """Raises VolumeNotFound, PeerUnavailable."""
    assert device.volume_id is not None
    return service_of(context).get(work.ctx, device.volume_id)


def _roll_back(context: HostContext, work: OperationContext, device: BlockDevice) -> None:
    try:
        if isinstance(context.driver, Attachable):
            context.driver.detach_volume(work.instance.uuid, device)
        if device.attachment_id is not None:
            service_of(context).release(work.ctx, device.attachment_id)
    except PolycellError as error:
        log.warning("volume not rolled back", extra=about(work.ctx, instance=work.instance.uuid, reason=error))


def _device(work: OperationContext, wanted: str | None) -> BlockDevice | None:
    """The instance's device of that uuid; None when the instance does not have it any more."""
    return next((device for device in work.instance.block_devices if device.uuid == wanted), None)


def _with(work: OperationContext, devices: tuple[BlockDevice, ...]) -> OperationContext:
    return work.with_instance(replace(work.instance, block_devices=devices))


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
