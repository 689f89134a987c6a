"""Rescuing servers: they run from another image for a while, so that their own disk can be mended."""

from __future__ import annotations

from typing import Any

from api_cell.edge.route import Request
from api_cell.servers import act, find
from api_cell.servers.act import Doing
from api_cell.servers.create import images
from api_cell.servers.create.body import new_password
from cell_service.errors import Invalid
from cell_service.model import lifecycle
from cell_service.model.instance import Instance
from cell_service.model.operation import ADMIN_PASSWORD, IMAGE, STABLE, Kind
from cell_service.peers.image import Image

RESCUE = Doing(Kind.RESCUE, "rescue", "os_compute_api:os-rescue", seconds=1800.0)
UNRESCUE = Doing(Kind.UNRESCUE, "unrescue", "os_compute_api:os-unrescue")
_STABLE_PROPERTIES = ("hw_rescue_device", "hw_rescue_bus")


def rescue(req: Request, server_id: str, image_id: str | None, password: str | None) -> str:
    """The server will run from that image (None: the one it was made from). Answers its administrator's password there.

    Raises Invalid, ImageNotFound, InstanceNotFound, InstanceNotReady, InstanceIsLocked, InstanceInvalidState,
    PolicyForbidden, CellUnavailable, PeerUnavailable.
    """
    seen = find.server(req, server_id).instance
    req.demand(RESCUE.rule, find.target(seen))
    act.demand_unlocked(req.ctx, seen)
    lifecycle.begin(RESCUE.kind.value, seen.state, server_id)
    image = None if image_id is None else _image(req, image_id)
    chosen = password or new_password()
    stable = image is not None and _stays(image)
    arguments = {ADMIN_PASSWORD: chosen, STABLE: stable}
    if image is not None:
        arguments[IMAGE] = image.id

    def prepare(instance: Instance) -> tuple[dict[str, Any], dict[str, Any]]:
        if instance.volume_backed and not (stable and req.at_least(2, 87)):
            raise Invalid(reason=f"Instance {server_id} cannot be rescued: Cannot rescue a volume-backed instance")
        return arguments, {}

    prepare(seen)
    act.begin(req, server_id, RESCUE, prepare=prepare)
    return chosen


def _image(req: Request, image_id: str) -> Image:
    image = req.services.images.get(req.ctx, image_id)
    images.demand_active(image)
    if not image.size_bytes and image.properties.get("block_device_mapping"):
        raise Invalid(reason=f"Requested rescue image '{image_id}' is not supported")
    return image  # type: ignore[no-any-return]


def _stays(image: Image) -> bool:
    """Whether the server's disks are to be where they always are, and the rescue disk beside them."""
    return any(image.properties.get(name) for name in _STABLE_PROPERTIES)
