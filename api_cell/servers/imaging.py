"""Making images of servers.

Order: 1. the image's record is made, queued, under an id chosen here, so that the client can read it at once; 2. the
cell: task state and operation are one transaction. If it is refused, the record is removed. Killed between: an image
without content is left to its owner.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from api_cell import quota_check
from api_cell.caller import Caller
from api_cell.servers import act, find
from api_cell.servers.able import demand_able_before
from api_cell.servers.act import Doing
from api_cell.servers.create import images
from api_cell.services import Services
from cell_service.context import Context
from cell_service.errors import Invalid, LimitExceeded, PolycellError
from cell_service.logs import about
from cell_service.model.instance import Instance
from cell_service.operations.images import CREATE_BACKUP, CREATE_IMAGE, BackupArguments, ImageArguments
from cell_service.operations.rule import begin_on
from cell_service.peers.image import NewImage
from mapping_db.cloud import Cloud

log = logging.getLogger(__name__)

IMAGE = Doing(CREATE_IMAGE, "os_compute_api:servers:create_image")
BACKUP = Doing(CREATE_BACKUP, "os_compute_api:os-create-backup")
VOLUME_BACKED_RULE = "os_compute_api:servers:create_image:allow_volume_backed"
_OF_THE_RECORD = ("min_ram", "min_disk", "disk_format", "container_format")


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """An image that is to be made. `backup`: type and rotation of a backup. `counted`: its properties count against
    the quota of metadata items (until 2.38)."""

    name: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    backup: tuple[str, int] | None = None
    counted: bool = False


def make(cloud: Cloud, services: Services, caller: Caller, server_id: str, request: ImageRequest) -> str:
    """Begin to make an image of the server. Answers its id.

    Raises Invalid, Forbidden, LimitExceeded, InstanceNotFound, InstanceNotReady, InstanceIsLocked,
    InstanceInvalidState, PolicyForbidden, CellUnavailable, PeerUnavailable; then nothing has changed.
    """
    doing = IMAGE if request.backup is None else BACKUP
    found = find.server(cloud, caller.ctx, server_id)
    seen = found.instance
    caller.demand(doing.rule, find.target(seen))
    if seen.volume_backed and request.backup is None:
        caller.demand(VOLUME_BACKED_RULE, find.target(seen))
    act.demand_unlocked(caller.ctx, seen)
    begin_on(doing.operation, seen)
    demand_able_before(caller.ctx, found, doing.operation)
    if seen.volume_backed and request.backup is not None:
        raise Invalid(reason="It is not supported to backup volume backed instance.")
    _check_limits(cloud, services, caller.ctx, request)
    image = _image_of(seen, str(uuid4()), request)
    services.require_images().reserve(caller.ctx, image)

    def prepare(_instance: Instance) -> tuple[ImageArguments | BackupArguments, dict[str, Any]]:
        return ImageArguments(image) if request.backup is None else BackupArguments(image, request.backup[1]), {}

    try:
        act.begin(cloud, caller, server_id, doing, prepare=prepare)
    except PolycellError:
        _forget(services, caller.ctx, image.id)
        raise
    return image.id


def _image_of(instance: Instance, image_id: str, request: ImageRequest) -> NewImage:
    """The record of the image; of its properties the requested ones win, but for the type of a backup."""
    known = instance.system_metadata
    prefix = images.PREFIX
    inherited = {name[len(prefix) :]: value for name, value in known.items() if name.startswith(prefix)}
    own = {
        "base_image_ref": instance.image_ref,
        "image_type": "snapshot" if request.backup is None else "backup",
        "instance_uuid": instance.uuid,
        "user_id": instance.user_id,
    }
    of_backup = {} if request.backup is None else {"backup_type": request.backup[0]}
    least = 0 if instance.volume_backed else int(inherited.get("min_disk") or instance.flavor.root_gib)
    passed_on = {name: value for name, value in inherited.items() if name not in _OF_THE_RECORD}
    return NewImage(
        image_id,
        request.name,
        instance.project_id,
        disk_format="",
        min_disk_gib=least,  # 0: how large its volumes are say the snapshots
        min_ram_mib=int(inherited.get("min_ram") or 0),
        properties={**passed_on, **own, **request.metadata, **of_backup},
    )


def _check_limits(cloud: Cloud, services: Services, ctx: Context, request: ImageRequest) -> None:
    if not request.counted:
        return
    if 0 <= quota_check.item_limits(cloud, services, ctx)["metadata_items"] < len(request.metadata):
        raise LimitExceeded(reason="Image property count exceeded")


def _forget(services: Services, ctx: Context, image_id: str) -> None:
    try:
        services.require_images().delete(ctx, image_id)
    except PolycellError as error:
        log.warning("image without content left", extra=about(ctx, image=image_id, reason=error))
