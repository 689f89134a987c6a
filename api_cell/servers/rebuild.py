"""Rebuilding a server in place: another root disk, the same id, host, ports and addresses.

Everything is checked before anything changes; then the new description of the server, its task state and the operation
are one transaction in its cell. The global records (name, image for later moves) follow.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from api_cell import limits
from api_cell.edge.route import Request
from api_cell.servers import act, find, volumes
from api_cell.servers.create import images
from api_cell.servers.create.body import file_of, new_password
from cell_service.db import actions, instances, operations
from cell_service.errors import (
    InstanceInvalidState,
    InstanceNotReady,
    Invalid,
    KeypairNotFound,
    PolycellError,
)
from cell_service.logs import about
from cell_service.model import lifecycle
from cell_service.model.instance import Instance
from cell_service.model.operation import REIMAGE, BuildArguments, Kind
from cell_service.peers.image import Image
from mapping_db import instance_mappings, key_pairs, request_specs
from mapping_db.cells.registry import Cell

log = logging.getLogger(__name__)

RULE = "os_compute_api:servers:rebuild"
SECONDS_TO_REBUILD = 1800.0
GIB = 1024**3
_COLUMNS = {
    "name": "display_name",
    "description": "display_description",
    "metadata": "metadata",
    "accessIPv4": "access_ip_v4",
    "accessIPv6": "access_ip_v6",
    "user_data": "user_data",
    "hostname": "hostname",
}
"""What a request may replace, and where it stands."""


@dataclass(frozen=True, slots=True)
class Rebuilding:
    """The server as it will be, in its cell, and the password that its administrator will have."""

    instance: Instance
    cell: Cell
    admin_password: str


def accept(req: Request) -> Rebuilding:
    """The server will be made anew.

    Raises Invalid, ImageNotFound, InstanceNotFound, InstanceNotReady, InstanceIsLocked, InstanceInvalidState,
    LimitExceeded, PolicyForbidden, CellUnavailable, PeerUnavailable; then nothing has changed.
    """
    server_id, asked = req.params["id"], req.body["rebuild"]
    seen = find.server(req, server_id).instance
    _demand_rights(req, seen, asked)
    image = req.services.images.get(req.ctx, asked["imageRef"])
    images.demand_active(image)
    reimage = seen.volume_backed and req.at_least(2, 93)
    if seen.volume_backed:
        images.check_fit(replace(seen.flavor, root_gib=0), image)
        _check_root_volume(req, seen, image, reimage=reimage)
    else:
        images.check_fit(seen.flavor, image)
    build = BuildArguments(
        injected_files=tuple(file_of(each) for each in asked.get("personality") or ()),
        admin_password=asked.get("adminPass") or new_password(),
    )
    columns = _columns(req, seen, asked, image)
    limits.demand_room_for(
        limits.of_project(req, req.ctx.project_id), asked.get("metadata") or {}, build.injected_files
    )

    def work(tx: Connection, cell: Cell) -> tuple[Instance, Cell]:
        return _promise(req, tx, cell, columns, build, {"image": image.id, REIMAGE: reimage}), cell

    instance, cell = find.change(req, server_id, work)
    log.info("rebuild accepted", extra=about(req.ctx, instance=server_id, image=image.id, cell=cell.name))
    _follow(req, seen, instance, image)
    act.wake(req.ctx, cell, instance.host)
    return Rebuilding(instance, cell, build.admin_password)


def _demand_rights(req: Request, instance: Instance, asked: dict[str, Any]) -> None:
    req.demand(RULE, find.target(instance))
    if asked.get("trusted_image_certificates"):
        req.demand(f"{RULE}:trusted_certs", find.target(instance))
    act.demand_unlocked(req.ctx, instance)


def _check_root_volume(req: Request, instance: Instance, image: Image, *, reimage: bool) -> None:
    """Raises Invalid: before 2.93 only what is on the volume already can be rebuilt; since then what has room there
    (Nova API reference, microversion 2.93)."""
    root = next(device for device in instance.block_devices if device.is_volume and device.is_root)
    if root.volume_id is None:
        raise Invalid(reason="The server has no root volume yet.")
    volume = volumes.service(req).get(req.ctx, root.volume_id)
    if not reimage:
        if volume.image.get("image_id") != image.id:
            raise Invalid(reason="Unable to rebuild with a different image for a volume-backed server.")
        return
    room, least = volume.size_gib * GIB, max(image.min_disk_gib * GIB, image.size_bytes)
    if least > room:
        raise Invalid(
            reason=f"Volume is smaller than the minimum size specified in image metadata. Volume size is {room} bytes, "
            f"minimum size is {least} bytes."
        )
    if any(link.server_id != instance.uuid for link in volume.attachments):
        raise Invalid(reason=f"Invalid volume: volume {volume.id} is attached to other servers.")


def _columns(req: Request, instance: Instance, asked: dict[str, Any], image: Image) -> dict[str, Any]:
    """What changes of the server's row. Raises Invalid."""
    changed = {column: asked[name] for name, column in _COLUMNS.items() if name in asked}
    if "OS-DCF:diskConfig" in asked:
        changed["auto_disk_config"] = asked["OS-DCF:diskConfig"] == "AUTO"
    if "trusted_image_certificates" in asked:
        changed["trusted_image_certificates"] = tuple(asked["trusted_image_certificates"] or ())
    if "key_name" in asked:
        changed["key_name"] = asked["key_name"]
        changed["key_data"] = _public_key(req, instance, asked["key_name"])
    kept = {name: value for name, value in instance.system_metadata.items() if not name.startswith(images.PREFIX)}
    return changed | {
        "image_ref": "" if instance.volume_backed else image.id,
        "kernel_id": image.properties.get("kernel_id", ""),
        "ramdisk_id": image.properties.get("ramdisk_id", ""),
        "system_metadata": kept | images.remembered(instance.flavor, image),
        "progress": 0,
    }


def _public_key(req: Request, instance: Instance, name: str | None) -> str | None:
    """Keys are of the server's owner, whoever asks."""
    if name is None:
        return None
    try:
        with req.cloud.db.connect() as tx:
            return key_pairs.get(tx, instance.user_id, name).public_key
    except KeypairNotFound:
        raise Invalid(reason="Invalid key_name provided.") from None


def _promise(
    req: Request, tx: Connection, cell: Cell, columns: dict[str, Any], build: BuildArguments, arguments: dict[str, Any]
) -> Instance:
    """The row's state decides: of two requests one rebuilds."""
    server_id, now = req.params["id"], req.cloud.clock.now()
    instance = find.to_change(req, tx, cell, server_id)
    act.demand_unlocked(req.ctx, instance)
    if instance.host is None:
        raise InstanceNotReady(instance_uuid=server_id)
    after = lifecycle.begin(Kind.REBUILD.value, instance.state, server_id)
    if not instances.change(tx, server_id, now=now, expect=instance.state, task_state=after.task, **columns):
        raise InstanceInvalidState(
            action="rebuild", instance_uuid=server_id, attribute="task_state", state=str(instance.task_state)
        )
    actions.start(tx, req.ctx, server_id, "rebuild", now)
    operations.insert(
        tx,
        req.ctx,
        instance_uuid=server_id,
        kind=Kind.REBUILD,
        host=instance.host,
        now=now,
        deadline=now + timedelta(seconds=SECONDS_TO_REBUILD),
        build=replace(build, cell=cell.name),
        arguments=arguments,
    )
    return instances.get(tx, server_id)


def _follow(req: Request, before: Instance, after: Instance, image: Image) -> None:
    """What the global records say of the server. The rebuild stands, whether they can be written or not."""

    def work(tx: Connection) -> None:
        if after.display_name != before.display_name:
            instance_mappings.rename(tx, after.uuid, after.display_name)
        spec = request_specs.get(tx, after.uuid)
        if spec is not None and spec.image_id != image.id:
            request_specs.replace(
                tx,
                replace(
                    spec,
                    image_id=image.id,
                    image_properties=image.properties,
                    image_min_ram_mib=image.min_ram_mib,
                    image_min_disk_gib=image.min_disk_gib,
                    image_disk_format=image.disk_format,
                ),
            )

    try:
        req.cloud.db.run(work)
    except PolycellError as error:
        log.warning("global records do not follow a rebuild", extra=about(req.ctx, instance=after.uuid, reason=error))
