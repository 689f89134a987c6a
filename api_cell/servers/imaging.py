"""Making images of servers.

Order: 1. the image's record is made, queued, under an id chosen here, so that whoever asked can look at it at once; 2.
the cell: task state and operation are one transaction. It is refused: the record goes. Killed between: an image without
content is left to its owner.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from api_cell import limits
from api_cell.edge.route import Request
from api_cell.servers import act, find
from api_cell.servers.act import Doing
from api_cell.servers.create import images
from cell_service import wire
from cell_service.errors import InstanceInvalidState, Invalid, LimitExceeded, PolycellError
from cell_service.logs import about
from cell_service.model import lifecycle
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import VmState
from cell_service.model.operation import NEW_IMAGE, ROTATION, Kind
from cell_service.peers.image import NewImage

log = logging.getLogger(__name__)

IMAGE = Doing(Kind.CREATE_IMAGE, "createImage", "os_compute_api:servers:create_image", seconds=3600.0)
BACKUP = Doing(Kind.CREATE_BACKUP, "createBackup", "os_compute_api:os-create-backup", seconds=3600.0)
_OF_THE_RECORD = ("min_ram", "min_disk", "disk_format", "container_format")


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image as it was asked for. `backup`: type and rotation of a backup."""

    name: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    backup: tuple[str, int] | None = None


def make(req: Request, server_id: str, wanted: Wanted) -> str:
    """There will be an image of the server. Answers its id.

    Raises Invalid, Forbidden, LimitExceeded, InstanceNotFound, InstanceNotReady, InstanceIsLocked,
    InstanceInvalidState, PolicyForbidden, CellUnavailable, PeerUnavailable; then nothing has changed.
    """
    doing = IMAGE if wanted.backup is None else BACKUP
    seen = find.server(req, server_id).instance
    req.demand(doing.rule, find.target(seen))
    act.demand_unlocked(req.ctx, seen)
    lifecycle.begin(doing.kind.value, seen.state, server_id, said=doing.name)
    if seen.volume_backed and wanted.backup is not None:
        raise Invalid(reason="It is not supported to backup volume backed instance.")
    if seen.volume_backed and seen.vm_state is VmState.PAUSED:
        raise InstanceInvalidState(
            action=doing.name, instance_uuid=server_id, attribute="vm_state", state=seen.vm_state.value
        )
    _check_limits(req, wanted)
    image = _image_of(seen, str(uuid4()), wanted)
    req.services.images.reserve(req.ctx, image)

    def prepare(_instance: Instance) -> tuple[dict[str, Any], dict[str, Any]]:
        rotation = {} if wanted.backup is None else {ROTATION: wanted.backup[1]}
        return {NEW_IMAGE: wire.to_plain(image), **rotation}, {}

    try:
        act.begin(req, server_id, doing, prepare=prepare)
    except PolycellError:
        _forget(req, image.id)
        raise
    return image.id


def _image_of(instance: Instance, image_id: str, wanted: Wanted) -> NewImage:
    known = instance.system_metadata
    prefix = images.PREFIX
    inherited = {name[len(prefix) :]: value for name, value in known.items() if name.startswith(prefix)}
    own = {
        "image_type": "snapshot" if wanted.backup is None else "backup",
        "instance_uuid": instance.uuid,
        "user_id": instance.user_id,
        "base_image_ref": instance.image_ref,
    }
    if wanted.backup is not None:
        own["backup_type"] = wanted.backup[0]
    passed_on = {name: value for name, value in inherited.items() if name not in _OF_THE_RECORD}
    return NewImage(
        image_id,
        wanted.name,
        instance.project_id,
        disk_format="",
        min_disk_gib=int(inherited.get("min_disk") or instance.flavor.root_gib),
        min_ram_mib=int(inherited.get("min_ram") or 0),
        properties={**passed_on, **wanted.metadata, **own},
    )


def _check_limits(req: Request, wanted: Wanted) -> None:
    if req.at_least(2, 39):
        return
    if 0 <= limits.of_project(req, req.ctx.project_id)["metadata_items"] < len(wanted.metadata):
        raise LimitExceeded(reason="Image property count exceeded")


def _forget(req: Request, image_id: str) -> None:
    try:
        req.services.images.delete(req.ctx, image_id)
    except PolycellError as error:
        log.warning("image without content left", extra=about(req.ctx, image=image_id, reason=error))
