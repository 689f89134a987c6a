"""Volumes of servers that exist: attached, detached, swapped, grown.

Order of an attach: 1. the block storage service reserves the volume for the server; 2. cell: the device is stored among
the server's, and an operation is open for its host (one transaction); 3. the host is woken. For a server without a
host the attachment is completed after 1, so that the volume is in use, and 2 is the end: a host connects its volumes
when it gets one. Killed after 1: the attachment is released with the server.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection

from api_cell.caller import Caller
from api_cell.servers import act, find
from api_cell.servers.able import demand_ability, demand_able, demand_able_before, demand_decrypts
from api_cell.servers.devices import demand_plain
from api_cell.services import Services
from cell_service.context import Context
from cell_service.db import actions, instances, operations
from cell_service.errors import (
    Conflict,
    Forbidden,
    Invalid,
    PolycellError,
    VolumeNotFound,
)
from cell_service.logs import about
from cell_service.model import plugging
from cell_service.model.block_device import BlockDevice, next_name, of_volume, volumes
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import VmState
from cell_service.model.volume_connection import unconnected
from cell_service.operations.declaration import Operation
from cell_service.operations.rule import SHELVED, begin_on
from cell_service.operations.volumes import (
    ATTACH_VOLUME,
    DETACH_VOLUME,
    SWAP_VOLUME,
    DeviceArguments,
    SwapArguments,
)
from cell_service.peers.volumes import Volume
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud

log = logging.getLogger(__name__)

PREFIX = "os_compute_api:os-volumes-attachments:"
MOST_DEVICES = 26
Change = Callable[[Instance], tuple[tuple[BlockDevice, ...], DeviceArguments | SwapArguments]]
"""The server's devices as they will be at once, and the operation's arguments."""


@dataclass(frozen=True, slots=True)
class AttachRequest:
    """A volume that a server is to have. `to_shelved`: shelved servers may have it too (2.20); `multiattach`: it may be
    a volume for several servers (2.60)."""

    volume_id: str
    device: str | None = None
    tag: str | None = None
    delete_on_termination: bool = False
    to_shelved: bool = False
    multiattach: bool = False


@dataclass(frozen=True, slots=True)
class DeviceChange:
    """The change of a device: whether it is deleted with its server (None: as before), and the values that can't be
    changed as the client believes them to be: name, tag, server and volume."""

    delete_on_termination: bool | None = None
    believed: Mapping[str, str | None] = field(default_factory=dict)


def attach(cloud: Cloud, services: Services, caller: Caller, server_id: str, request: AttachRequest) -> BlockDevice:
    """The volume will be the server's. Answers the device.

    Raises InstanceNotFound, VolumeNotFound, VolumeUnavailable, Invalid, Conflict, Forbidden.
    """
    found = find.server(cloud, caller.ctx, server_id)
    instance = _demand(caller, found.instance, ATTACH_VOLUME, "create")
    volume = services.require_volumes().get(caller.ctx, request.volume_id)
    device = BlockDevice(
        uuid=str(uuid4()),
        source_type="volume",
        destination_type="volume",
        device_name=request.device,
        volume_id=volume.id,
        volume_size=volume.size_gib,
        volume_type=volume.volume_type,
        delete_on_termination=request.delete_on_termination,
        tag=request.tag,
        connection_info=unconnected({"encrypted": volume.encrypted}),
    )
    _check_attachable(instance, volume, device, request)
    demand_able_before(caller.ctx, found, ATTACH_VOLUME, plugging.needed(instance, device))
    demand_decrypts(caller.ctx, found, volume)
    device = replace(device, attachment_id=services.require_volumes().reserve(caller.ctx, volume.id, server_id))

    def change(now: Instance) -> tuple[tuple[BlockDevice, ...], DeviceArguments]:
        _check_attachable(now, volume, device, request)
        named = replace(device, device_name=_named(now, device.device_name))
        return (*now.block_devices, named), DeviceArguments(device.uuid)

    try:
        if instance.host is None:
            services.require_volumes().complete(caller.ctx, device.attachment_id or "")
        unknown = _unknown(shelved=request.to_shelved)
        after = _begin(cloud, caller, server_id, ATTACH_VOLUME, "create", unknown, change, plugs=True)
    except PolycellError:
        _release_unused(cloud, services, caller.ctx, server_id, device)
        raise
    return next(each for each in after.block_devices if each.uuid == device.uuid)


def detach(
    cloud: Cloud, services: Services, caller: Caller, server_id: str, volume_id: str, *, from_shelved: bool
) -> None:
    """The volume will be free; `from_shelved`: also that of a shelved server (2.20).

    Raises InstanceNotFound, VolumeNotFound, Forbidden, Conflict, Invalid.
    """

    def change(now: Instance) -> tuple[tuple[BlockDevice, ...], DeviceArguments]:
        device = demand_device(now, volume_id)
        if device.is_root and now.vm_state not in DETACH_VOLUME.rule.hostless:
            raise Forbidden(reason="Cannot detach a root device volume")
        if device.detaching:
            raise Invalid(reason=f"Invalid volume: volume {volume_id} is being detached already.")
        if now.host is None:
            return tuple(each for each in now.block_devices if each is not device), DeviceArguments(device.uuid)
        kept = (replace(each, detaching=True) if each is device else each for each in now.block_devices)
        return tuple(kept), DeviceArguments(device.uuid)

    found = find.server(cloud, caller.ctx, server_id).instance
    _demand(caller, found, DETACH_VOLUME, "delete")
    demand_device(found, volume_id)
    unknown = _unknown(shelved=from_shelved)
    after = _begin(cloud, caller, server_id, DETACH_VOLUME, "delete", unknown, change, plugs=True)
    if after.host is None:
        services.require_volumes().release_volume(caller.ctx, volume_id, server_id)


def swap(cloud: Cloud, services: Services, caller: Caller, server_id: str, volume_id: str, new_id: str) -> None:
    """The device will be the new volume. Raises InstanceNotFound, VolumeNotFound, Invalid, Conflict."""
    found = find.server(cloud, caller.ctx, server_id)
    _demand(caller, found.instance, SWAP_VOLUME, "swap")
    demand_device(found.instance, volume_id)
    demand_able_before(caller.ctx, found, SWAP_VOLUME)
    old = services.require_volumes().get(caller.ctx, volume_id)
    try:
        new = services.require_volumes().get(caller.ctx, new_id)
    except VolumeNotFound as error:
        raise Invalid(reason=str(error)) from None
    for each in (old, new):
        demand_plain(each)
    if old.multiattach and len(old.attachments) > 1:
        raise Invalid(reason="Swapping multi-attach volumes with more than one read/write attachment is not supported.")
    if new.size_gib < old.size_gib:
        raise Invalid(
            reason=f"Invalid volume: Old volume is attached to a different instance or volume {new_id} is smaller."
        )
    attachment_id = services.require_volumes().reserve(caller.ctx, new_id, server_id)

    def change(now: Instance) -> tuple[tuple[BlockDevice, ...], SwapArguments]:
        return now.block_devices, SwapArguments(demand_device(now, volume_id).uuid, new_id, attachment_id)

    try:
        _begin(cloud, caller, server_id, SWAP_VOLUME, "swap", _unknown(shelved=True), change)
    except PolycellError:
        services.require_volumes().release(caller.ctx, attachment_id)
        raise


def keep_or_delete(cloud: Cloud, caller: Caller, server_id: str, volume_id: str, change: DeviceChange) -> None:
    """Set what becomes of the device's volume with the server; nothing else of the device can change.

    Raises InstanceNotFound, VolumeNotFound, Invalid.
    """

    def work(tx: Connection, cell: Cell) -> None:
        instance = find.to_change(cloud, caller.ctx, tx, cell, server_id)
        _demand(caller, instance, None, "update")
        device = demand_device(instance, volume_id)
        same = {"device": device.device_name, "tag": device.tag, "serverId": server_id, "id": volume_id}
        for name, value in same.items():
            if name in change.believed and change.believed[name] != value:
                raise Invalid(reason=f"The {name} property is not allowed to be changed.")
        if change.delete_on_termination is not None:
            wanted = replace(device, delete_on_termination=change.delete_on_termination)
            after = tuple(wanted if each is device else each for each in instance.block_devices)
            instances.change(tx, server_id, now=cloud.clock.now(), block_devices=after)

    find.change(cloud, caller.ctx, server_id, work)


def demand_device(instance: Instance, volume_id: str) -> BlockDevice:
    """Raises VolumeNotFound."""
    device = of_volume(instance.block_devices, volume_id)
    if device is None:
        raise VolumeNotFound(volume_id=volume_id)
    return device


def _begin(
    cloud: Cloud,
    caller: Caller,
    server_id: str,
    operation: Operation[Any, Any],
    verb: str,
    unknown: frozenset[VmState],
    change: Change,
    *,
    plugs: bool = False,
) -> Instance:
    """Store the change, which the host will make. Answers the server as it is then. `plugs`: the device is attached or
    detached, which needs abilities in some states of the guest."""

    def work(tx: Connection, cell: Cell) -> tuple[Cell, Instance]:
        instance = _demand(caller, find.to_change(cloud, caller.ctx, tx, cell, server_id), operation, verb)
        begin_on(operation, instance, unknown=unknown)
        demand_able(tx, instance, operation)
        after, arguments = change(instance)
        for device in after if plugs else ():
            if device.uuid == arguments.device:
                demand_ability(tx, instance, plugging.needed(instance, device))
        now = cloud.clock.now()
        instances.change(tx, server_id, now=now, block_devices=after)
        if instance.host is None:
            actions.start(tx, caller.ctx, server_id, operation.action, now)
            actions.finish(tx, server_id, caller.ctx.request_id, now)
        else:
            actions.start(tx, caller.ctx, server_id, operation.action, now)
            new = operations.new_operation(operation, caller.ctx, server_id, instance.host, now, arguments)
            operations.insert(tx, new)
        return cell, replace(instance, block_devices=after)

    cell, instance = find.change(cloud, caller.ctx, server_id, work)
    log.info(
        "action accepted", extra=about(caller.ctx, instance=server_id, action=operation.action, host=instance.host)
    )
    if instance.host is not None:
        act.wake(caller.ctx, cell, instance.host)
    return instance


def _demand(caller: Caller, instance: Instance, operation: Operation[Any, Any] | None, verb: str) -> Instance:
    caller.demand(PREFIX + verb, find.target(instance))
    if operation is not None:
        act.demand_unlocked(caller.ctx, instance)
    return instance


def _check_attachable(instance: Instance, volume: Volume, device: BlockDevice, request: AttachRequest) -> None:
    begin_on(ATTACH_VOLUME, instance, unknown=_unknown(shelved=request.to_shelved))
    attached = volumes(instance.block_devices)
    if any(each.volume_id == volume.id for each in attached):
        raise Invalid(reason=f"Invalid volume: volume {volume.id} already attached")
    if len(attached) >= MOST_DEVICES:
        raise Forbidden(reason=f"The maximum allowed number of disk devices ({MOST_DEVICES}) to attach is exceeded.")
    offloaded = instance.vm_state in ATTACH_VOLUME.rule.hostless
    if device.tag is not None and offloaded:
        raise Invalid(reason="Tagged volume attachment is not supported for this server instance.")
    if volume.multiattach and not request.multiattach:
        raise Invalid(reason="Multiattach volumes are only supported starting with compute API version 2.60.")
    if volume.multiattach and offloaded:
        raise Invalid(reason="Attaching multiattach volumes is not supported for shelved-offloaded instances.")
    if device.device_name and any(each.device_name == device.device_name for each in instance.block_devices):
        raise Conflict(reason=f"The supplied device path ({device.device_name}) is in use.")


def _unknown(*, shelved: bool) -> frozenset[VmState]:
    """States that the caller's version does not know for volumes: before 2.20 those of shelved servers (Nova API
    reference, microversion 2.20)."""
    return frozenset() if shelved else SHELVED


def _named(instance: Instance, wanted: str | None) -> str:
    if wanted:
        return wanted if wanted.startswith("/dev/") else f"/dev/{wanted}"
    return next_name(instance.block_devices)


def _release_unused(cloud: Cloud, services: Services, ctx: Context, server_id: str, device: BlockDevice) -> None:
    """Undo the reservation, unless another request of the same moment made the volume the server's with it."""
    try:
        attached = find.server(cloud, ctx, server_id).instance.block_devices
        if device.attachment_id and all(each.attachment_id != device.attachment_id for each in attached):
            services.require_volumes().release(ctx, device.attachment_id)
    except PolycellError as error:
        log.warning("volume left reserved", extra=about(ctx, instance=server_id, reason=error))
