"""The effects that follow from the ends of operations (see `cell_service.operations.effects`), done here."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import Connection

from cell_service.conductor.context import ConductorContext, context_of
from cell_service.context import Context
from cell_service.db import instances, operations
from cell_service.errors import Conflict, ImageNotFound, Invalid, NotFound
from cell_service.logs import about
from cell_service.model.instance import Instance
from cell_service.model.operation import ClaimedOperation, StoredOperation
from cell_service.operations.effects import (
    CleanUpHost,
    ConductorFollowUp,
    DeletePorts,
    DisconnectVolume,
    Effect,
    FollowUp,
    MarkDeleted,
    ReleaseAllocations,
    ReleaseAttachments,
    ReleaseVolumes,
    RemoveImages,
    RemovePort,
    RemoveUnfinishedImages,
    ReportSnapshot,
    RequireImage,
    UnbindPorts,
    WakeHost,
    WithdrawPort,
)
from cell_service.operations.host_tasks import CleanUpArguments
from cell_service.peers.network import Networks
from cell_service.peers.volume_ends import forget_snapshots, release_volumes
from cell_service.peers.volumes import Volumes

log = logging.getLogger(__name__)


def carry_out_before(deps: ConductorContext, ctx: Context, instance: Instance, effect: Effect) -> None:
    """Do an effect on another service before the end is recorded; nothing where there is no such service.

    Raises PeerUnavailable, Conflict (RequireImage: the image is not there).
    """
    if isinstance(effect, ReleaseAllocations) and deps.placement is not None:
        deps.placement.release(ctx, instance.uuid)
    elif isinstance(effect, RequireImage):
        _require_image(deps, ctx, effect.image_id)
    elif isinstance(effect, RemoveImages):
        _remove_images(deps, ctx, instance, effect)
    elif isinstance(effect, RemoveUnfinishedImages):
        _remove_unfinished_images(deps, replace(ctx, project_id=instance.project_id), effect.images)
    elif deps.networks is not None and isinstance(effect, DeletePorts | UnbindPorts | RemovePort | WithdrawPort):
        _change_ports(deps.networks, ctx, instance, effect)
    elif deps.volumes is not None and isinstance(effect, DisconnectVolume | ReleaseVolumes | ReportSnapshot):
        _change_volumes(deps.volumes, ctx, instance, effect)


def carry_out_within(tx: Connection, deps: ConductorContext, claimed: ClaimedOperation, effect: Effect) -> None:
    """Record an effect in the transaction that ends the operation."""
    operation, instance, now = claimed.operation, claimed.instance, deps.now()
    ctx = context_of(operation, deps.clock)
    if isinstance(effect, FollowUp):
        new = operations.new_operation(effect.operation, ctx, instance.uuid, operation.host, now, effect.arguments)
        operations.insert(tx, new)
    elif isinstance(effect, ConductorFollowUp):
        operations.insert(
            tx, operations.new_operation(effect.operation, ctx, instance.uuid, None, now, effect.arguments)
        )
    elif isinstance(effect, CleanUpHost) and instance.deleted_at is None:
        parts = CleanUpArguments(effect.parts_out or None, effect.parts_in or None, effect.ports_out or None)
        only = parts if parts.is_partial else None
        host = operation.host or instance.host
        operations.defer_clean_up(tx, ctx, instance_uuid=instance.uuid, host=host, now=now, parts=only)
    elif isinstance(effect, MarkDeleted):
        instances.mark_deleted(tx, instance.uuid, now)


def carry_out_after(deps: ConductorContext, ctx: Context, operation: StoredOperation, effect: Effect) -> None:
    """Do an effect that follows the transaction."""
    if isinstance(effect, WakeHost) and operation.host is not None:
        deps.wake(ctx, operation.host)
    elif isinstance(effect, ConductorFollowUp):
        deps.work.set()
    elif isinstance(effect, ReleaseAttachments) and deps.volumes is not None:
        deps.volumes.release_all(ctx, operation.instance_uuid)


def _require_image(deps: ConductorContext, ctx: Context, image_id: str | None) -> None:
    """Raises Conflict unless the image is active."""
    missing = Conflict(reason="The shelved server's image is not there.")
    if image_id is None:
        raise missing
    if deps.images is None:
        return
    try:
        if deps.images.get(ctx, image_id).status != "active":
            raise missing
    except ImageNotFound:
        raise missing from None


def _remove_images(deps: ConductorContext, ctx: Context, instance: Instance, effect: RemoveImages) -> None:
    if deps.volumes is not None:
        for each in effect.unfinished:
            forget_snapshots(deps.volumes, replace(ctx, project_id=instance.project_id), each)
    if deps.images is not None:
        for each in effect.images:
            deps.images.delete(ctx, each)


def _remove_unfinished_images(deps: ConductorContext, ctx: Context, images: Iterable[str]) -> None:
    """Remove the images that did not become active. An active one stays: whatever has failed afterwards, its content is
    whole."""
    if deps.images is None:
        return
    for each in images:
        try:
            if deps.images.get(ctx, each).status == "active":
                continue
            deps.images.delete(ctx, each)
        except ImageNotFound:
            log.info("image gone before", extra=about(ctx, image=each))
        if deps.volumes is not None:
            forget_snapshots(deps.volumes, ctx, each)


def _change_ports(
    networks: Networks, ctx: Context, instance: Instance, effect: DeletePorts | UnbindPorts | RemovePort | WithdrawPort
) -> None:
    uuid, project_id = instance.uuid, instance.project_id
    match effect:
        case DeletePorts():
            networks.deallocate(ctx, uuid, project_id=project_id)
        case UnbindPorts():
            networks.unbind(ctx, uuid, project_id=project_id)
        case RemovePort(port_id):
            networks.unplug(ctx, uuid, port_id, project_id=project_id)
        case WithdrawPort(key):
            networks.roll_back(ctx, uuid, key, project_id=project_id)


def _change_volumes(
    service: Volumes, ctx: Context, instance: Instance, effect: DisconnectVolume | ReleaseVolumes | ReportSnapshot
) -> None:
    match effect:
        case ReleaseVolumes():
            release_volumes(service, ctx, instance.uuid, instance.block_devices)
        case DisconnectVolume(device):
            if device.volume_id is not None:
                service.release_volume(ctx, device.volume_id, instance.uuid)
            if device.attachment_id is not None:
                service.release(ctx, device.attachment_id)
        case ReportSnapshot(snapshot_id, status):
            try:
                service.report_snapshot(ctx, snapshot_id, status)
            except (NotFound, Invalid) as error:  # the service may have given the snapshot up already
                log.info("snapshot given up before", extra=about(ctx, snapshot=snapshot_id, reason=error))
