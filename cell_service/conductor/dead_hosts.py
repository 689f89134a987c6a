"""What a host that is down leaves undone of an instance's volumes and ports, done without it.

Only for hosts of which somebody has said that they are dead: forced down, their service deleted, their instance being
evacuated, or its state reset by an administrator (who then hands the work over). A host that is merely silent may have
a guest that writes to the volume; its work waits for it.

Order: 1. the volume is nobody's on that host, the port unbound (over HTTP, each safe to repeat); 2. cell: the instance
has it no more, the operation has ended, and the host owes to take it from its guest: one transaction.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from sqlalchemy import Connection

from cell_service import wire
from cell_service.conductor import reconciliation as verdicts
from cell_service.conductor import volumes
from cell_service.conductor.context import EVENTS, ConductorContext, context_of
from cell_service.db import actions, instances, operations, server_migrations, services
from cell_service.errors import ServiceNotFound, VolumeNotFound
from cell_service.logs import about
from cell_service.model.block_device import BlockDevice
from cell_service.model.instance import Fault, Instance
from cell_service.model.operation import HELD_BY_GUESTS, PARTS_IN, PARTS_OUT, PORTS_OUT, Kind, Operation, Outcome, Phase
from cell_service.peers.volumes import Volumes

log = logging.getLogger(__name__)


def is_given_up(deps: ConductorContext, operation: Operation) -> bool:
    """Whether the operation's host, which is down, is known to be dead and not only silent."""
    if operation.kind not in HELD_BY_GUESTS:
        return False
    with deps.db.connect() as tx:
        try:
            if services.by_host(tx, operation.host or "", services.COMPUTE).forced_down:
                return True
        except ServiceNotFound:
            return True
        moving = server_migrations.unfinished_of(tx, [operation.instance_uuid]).get(operation.instance_uuid)
    return moving is not None and verdicts.flees(moving, operation.host or "")


def do_here(deps: ConductorContext, operation: Operation) -> None:
    """Do what the host was asked for without it; what only a host can do ends with a fault.
    Raises OperationLost, PeerUnavailable (to be tried again)."""
    with deps.db.connect() as tx:
        instance = instances.get_many(tx, [operation.instance_uuid]).get(operation.instance_uuid)
    if instance is not None:
        log.info("done without its host", extra=about(context_of(operation, deps.clock), instance=instance.uuid,
                                                      kind=operation.kind.value, host=instance.host))  # fmt: skip
    if operation.kind is Kind.DETACH_INTERFACE:
        _unplug(deps, operation, instance)
    elif operation.kind is Kind.DETACH_VOLUME:
        _detach(deps, operation, instance)
    elif operation.kind is Kind.SWAP_VOLUME:
        _end_swap(deps, operation, instance)
    elif operation.kind is Kind.EXTEND_VOLUME:
        _extend(deps, operation, instance)
    else:
        _refuse(deps, operation, instance)


def _detach(deps: ConductorContext, operation: Operation, instance: Instance | None) -> None:
    device = _device(operation, instance)
    if instance is None or device is None:
        _end(deps, operation, instance, Outcome(operation.id, operation.fence))
        return
    if deps.volumes is not None:
        _leave(deps.volumes, deps, operation, instance, device)
    outcome = Outcome(operation.id, operation.fence, devices_gone=(device.uuid,))
    owed = {PARTS_OUT: [wire.to_plain(device)]}
    _end(deps, operation, instance, outcome, owed)


def _end_swap(deps: ConductorContext, operation: Operation, instance: Instance | None) -> None:
    """The host may have been anywhere in it. It lets go of the old volume last: where it has done that, the device is
    the new one; else it stays the old one, and the new one is free."""
    device, new_id = _device(operation, instance), str(operation.arguments.get("volume_id"))
    if instance is None or device is None or deps.volumes is None:
        _refuse(deps, operation, instance)
        return
    ctx = context_of(operation, deps.clock)
    new = replace(device, volume_id=new_id, attachment_id=operation.arguments.get("attachment_id"), connection_info={})
    held = _attachment_of(deps.volumes, deps, operation, instance, new_id)
    if held is not None and _attachment_of(deps.volumes, deps, operation, instance, device.volume_id or "") is None:
        new = replace(new, attachment_id=held, volume_size=deps.volumes.get(ctx, new_id).size_gib)
        _end(deps, operation, instance, Outcome(operation.id, operation.fence, devices=(new,)))
        return
    _leave(deps.volumes, deps, operation, instance, new)
    owed = {PARTS_OUT: [wire.to_plain(new)], PARTS_IN: [wire.to_plain(device)]}
    outcome = Outcome(operation.id, operation.fence, fault=_fault(deps, instance.host))
    _end(deps, operation, instance, outcome, owed)


def _extend(deps: ConductorContext, operation: Operation, instance: Instance | None) -> None:
    device = _device(operation, instance)
    if instance is None or device is None or deps.volumes is None or device.volume_id is None:
        _refuse(deps, operation, instance)
        return
    size = deps.volumes.get(context_of(operation, deps.clock), device.volume_id).size_gib
    grown = replace(device, volume_size=size)
    outcome = Outcome(operation.id, operation.fence, devices=(grown,))
    owed = {PARTS_IN: [wire.to_plain(grown)]}
    _end(deps, operation, instance, outcome, owed)


def _refuse(deps: ConductorContext, operation: Operation, instance: Instance | None) -> None:
    """An attachment is taken back, also from the host."""
    fault = _fault(deps, instance.host if instance is not None else None)
    _end(deps, operation, instance, Outcome(operation.id, operation.fence, fault=fault))


def _end(
    deps: ConductorContext,
    operation: Operation,
    instance: Instance | None,
    outcome: Outcome,
    owed: dict[str, list[object]] | None = None,
) -> None:
    """The operation has ended so, and the host owes to put its guest in order, before anything else."""

    def owe(tx: Connection) -> None:
        if owed is not None and instance is not None:
            _owe(tx, deps, operation, instance, owed)

    volumes.host_is_through(deps, operation, outcome, owe, begun_at=instance.host if instance is not None else None)


def _unplug(deps: ConductorContext, operation: Operation, instance: Instance | None) -> None:
    ctx, port_id = context_of(operation, deps.clock), str(operation.arguments["port_id"])
    if deps.networks is not None:
        deps.networks.unplug(ctx, operation.instance_uuid, port_id)
    gone = [vif for vif in instance.network_info if vif.port_id == port_id] if instance is not None else []

    def work(tx: Connection) -> None:
        now, uuid = deps.now(), operation.instance_uuid
        operations.finish(tx, operation.id, operation.fence, Phase.DONE, now)
        instances.hold(tx, uuid)
        found = instances.get_many(tx, [uuid]).get(uuid)
        if found is not None:
            left = tuple(vif for vif in found.network_info if vif.port_id != port_id)
            instances.change(tx, uuid, now=now, network_info=left)
            if gone:
                _owe(tx, deps, operation, found, {PORTS_OUT: [wire.to_plain(vif) for vif in gone]})
        begun_at = instance.host if instance is not None else None
        actions.finish_event(tx, uuid, operation.request_id, EVENTS[operation.kind], begun_at, now)
        actions.finish(tx, uuid, operation.request_id, now)

    deps.db.run(work)


def _leave(
    service: Volumes, deps: ConductorContext, operation: Operation, instance: Instance, device: BlockDevice
) -> None:
    """Neither the host nor the instance has an attachment of the device's volume."""
    ctx = context_of(operation, deps.clock)
    if instance.host is not None and device.volume_id is not None:
        service.leave(ctx, device.volume_id, instance.uuid, instance.host)
    if device.attachment_id is not None:
        service.release(ctx, device.attachment_id)


def _attachment_of(
    service: Volumes, deps: ConductorContext, operation: Operation, instance: Instance, volume_id: str
) -> str | None:
    """By which the instance's host has the volume."""
    try:
        links = service.get(context_of(operation, deps.clock), volume_id).attachments
    except VolumeNotFound:
        return None
    mine = (link for link in links if link.server_id == instance.uuid and link.host == instance.host)
    return next((link.attachment_id for link in mine), None)


def _owe(
    tx: Connection, deps: ConductorContext, operation: Operation, instance: Instance, parts: dict[str, list[object]]
) -> None:
    ctx = context_of(operation, deps.clock)
    operations.owe(tx, ctx, instance_uuid=instance.uuid, host=instance.host, now=deps.now(), parts=parts)


def _device(operation: Operation, instance: Instance | None) -> BlockDevice | None:
    wanted = operation.arguments.get("device")
    held = instance.block_devices if instance is not None else ()
    return next((device for device in held if device.uuid == wanted), None)


def _fault(deps: ConductorContext, host: str | None) -> Fault:
    return Fault(code=500, message=f"Host {host} is down." if host else "Its host is down.", created_at=deps.now())
