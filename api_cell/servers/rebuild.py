"""Rebuilding a server in place: another root disk, the same id, host, ports and addresses.

Everything is checked before anything changes; then the new description of the server, its task state and the operation
are one transaction in its cell. The global records (name, image for later moves) follow.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from api_cell import quota_check
from api_cell.caller import Caller
from api_cell.scheduler.encryption import image_requests_encryption
from api_cell.servers import act, find, global_records, hardware
from api_cell.servers.create import images
from api_cell.servers.create.server_request import new_password
from api_cell.services import Services
from cell_service.context import Context
from cell_service.db import actions, global_updates, instances, operations
from cell_service.db.global_updates import Change, Reimaged, Renamed
from cell_service.errors import InstanceInvalidState, Invalid, KeypairNotFound
from cell_service.logs import about
from cell_service.model.instance import InjectedFile, Instance
from cell_service.model.operation import BuildArguments
from cell_service.operations.builds import REBUILD, RebuildArguments
from cell_service.operations.rule import begin_on
from cell_service.peers.image import Image
from mapping_db import key_pairs
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud

log = logging.getLogger(__name__)

RULE = "os_compute_api:servers:rebuild"
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Rebuilding:
    """The server as it will be, in its cell, and the password that its administrator will have."""

    instance: Instance
    cell: Cell
    admin_password: str


@dataclass(frozen=True, slots=True)
class RebuildRequest:
    """A server's new image, and what of the server is replaced: `columns` by name of its row's columns. `reimages`: the
    root volume of a volume-backed server is written again (2.93). `preserves_ephemeral`: ephemeral disks keep their
    content, which is refused for a server that has any."""

    image_id: str
    admin_password: str | None
    files: tuple[InjectedFile, ...]
    columns: Mapping[str, Any]
    reimages: bool
    preserves_ephemeral: bool = False

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.columns.get("metadata") or {}


def accept(cloud: Cloud, services: Services, caller: Caller, server_id: str, request: RebuildRequest) -> Rebuilding:
    """The server will be made again from an image.

    Raises Invalid, ImageNotFound, InstanceNotFound, InstanceNotReady, InstanceIsLocked, InstanceInvalidState,
    HostLacksHardware, LimitExceeded, Forbidden, CellUnavailable, PeerUnavailable; then nothing has changed.
    """
    before = find.server(cloud, caller.ctx, server_id).instance
    _demand_rights(caller, before, request)
    if request.preserves_ephemeral and _has_ephemeral_disks(before):
        raise Invalid(reason="The content of ephemeral disks cannot be preserved: a rebuild makes them again.")
    image = services.require_images().get(caller.ctx, request.image_id)
    images.demand_active(image)
    if image_requests_encryption(image.properties) and not before.volume_backed:
        raise Invalid(reason="The image requests encrypted disks (hw_ephemeral_encryption): a rebuild cannot encrypt.")
    certificates = request.columns.get("trusted_image_certificates") or ()
    images.demand_verifiable(certificates, volume_backed=before.volume_backed)
    hardware.check(before.flavor, image.properties)
    reimage = before.volume_backed and request.reimages
    if before.volume_backed:
        images.check_fit(replace(before.flavor, root_gib=0), image)
        _check_root_volume(services, caller.ctx, before, image, reimage=reimage)
    else:
        images.check_fit(before.flavor, image)
        images.demand_disk_size(caller, before.flavor)
    build = BuildArguments(
        injected_files=request.files,
        admin_password=request.admin_password or new_password(),
    )
    columns = _columns(cloud, before, request, image)
    quota_check.demand_room_for(
        quota_check.item_limits(cloud, services, caller.ctx),
        request.metadata,
        build.injected_files,
    )

    def work(tx: Connection, cell: Cell) -> tuple[Instance, Cell]:
        return _promise(cloud, caller.ctx, tx, cell, server_id, columns, build, image, reimage=reimage), cell

    instance, cell = find.change(cloud, caller.ctx, server_id, work)
    log.info("rebuild accepted", extra=about(caller.ctx, instance=server_id, image=image.id, cell=cell.name))
    global_records.carry_up(cloud, caller.ctx, cell, server_id)
    act.wake(caller.ctx, cell, instance.host)
    return Rebuilding(instance, cell, build.admin_password)


def _demand_rights(caller: Caller, instance: Instance, request: RebuildRequest) -> None:
    caller.demand(RULE, find.target(instance))
    if request.columns.get("trusted_image_certificates"):
        caller.demand(f"{RULE}:trusted_certs", find.target(instance))
    act.demand_unlocked(caller.ctx, instance)


def _has_ephemeral_disks(instance: Instance) -> bool:
    blank = (one for one in instance.block_devices if one.source_type == "blank")
    return bool(instance.flavor.ephemeral_gib) or any(not one.is_volume and not one.is_swap for one in blank)


def _check_root_volume(services: Services, ctx: Context, instance: Instance, image: Image, *, reimage: bool) -> None:
    """Raises Invalid: before 2.93 only what is on the volume already can be rebuilt; since then what fits on it
    (Nova API reference, microversion 2.93)."""
    root = next(device for device in instance.block_devices if device.is_volume and device.is_root)
    if root.volume_id is None:
        raise Invalid(reason="The server has no root volume yet.")
    volume = services.require_volumes().get(ctx, root.volume_id)
    if not reimage:
        if volume.image.get("image_id") != image.id:
            raise Invalid(reason="Unable to rebuild with a different image for a volume-backed server.")
        return
    available, least = volume.size_gib * GIB, max(image.min_disk_gib * GIB, image.size_bytes)
    if least > available:
        raise Invalid(
            reason="Volume is smaller than the minimum size specified in image metadata. "
            f"Volume size is {available} bytes, minimum size is {least} bytes."
        )
    if any(link.server_id != instance.uuid for link in volume.attachments):
        raise Invalid(reason=f"Invalid volume: volume {volume.id} is attached to other servers.")


def _columns(cloud: Cloud, instance: Instance, request: RebuildRequest, image: Image) -> dict[str, Any]:
    """The changes of the server's row. Raises Invalid."""
    changed = dict(request.columns)
    if "key_name" in changed:
        changed["key_data"] = _public_key(cloud, instance, changed["key_name"])
    kept = {name: value for name, value in instance.system_metadata.items() if not name.startswith(images.PREFIX)}
    return changed | {
        "image_ref": "" if instance.volume_backed else image.id,
        "kernel_id": image.properties.get("kernel_id", ""),
        "ramdisk_id": image.properties.get("ramdisk_id", ""),
        "system_metadata": kept | images.remembered(instance.flavor, image),
        "progress": 0,
    }


def _public_key(cloud: Cloud, instance: Instance, name: str | None) -> str | None:
    """The public key of that name among the keys of the server's owner, also for another caller."""
    if name is None:
        return None
    try:
        with cloud.db.connect() as tx:
            return key_pairs.get(tx, instance.user_id, name).public_key
    except KeypairNotFound:
        raise Invalid(reason="Invalid key_name provided.") from None


def _promise(
    cloud: Cloud,
    ctx: Context,
    tx: Connection,
    cell: Cell,
    server_id: str,
    columns: dict[str, Any],
    build: BuildArguments,
    image: Image,
    *,
    reimage: bool,
) -> Instance:
    """Store the rebuild in the server's row, whose state decides: of two requests one rebuilds."""
    now = cloud.clock.now()
    instance = find.to_change(cloud, ctx, tx, cell, server_id)
    act.demand_unlocked(ctx, instance)
    after = begin_on(REBUILD, instance)
    hardware.demand_on_host(tx, instance, image.properties)
    if not instances.change(tx, server_id, now=now, expect=instance.state, task_state=after.task, **columns):
        raise InstanceInvalidState(
            action="rebuild", instance_uuid=server_id, attribute="task_state", state=str(instance.task_state)
        )
    actions.start(tx, ctx, server_id, REBUILD.action, now)
    new = operations.new_operation(
        REBUILD, ctx, server_id, instance.host, now, RebuildArguments(image.id, reimage),
        build=replace(build, cell=cell.name), sealer=cell.db.sealer_in(tx),
    )  # fmt: skip
    operations.insert(tx, new)
    for change in _global_changes(columns, image):
        global_updates.record(tx, server_id, change, now)
    return instances.get(tx, server_id)


def _global_changes(columns: Mapping[str, Any], image: Image) -> list[Change]:
    """The changes for the global tables: the name, and the image for later moves."""
    properties = dict(image.properties)
    reimaged = Reimaged(image.id, properties, image.min_ram_mib, image.min_disk_gib, image.disk_format)
    return [reimaged, *(Renamed(columns[name]) for name in ("display_name",) if name in columns)]
