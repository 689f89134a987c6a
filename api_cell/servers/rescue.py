"""Rescuing servers: they run from another image for a while, so that their own disk can be mended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from api_cell.caller import Caller
from api_cell.servers import act, find
from api_cell.servers.able import demand_able_before
from api_cell.servers.act import Doing
from api_cell.servers.create import images
from api_cell.servers.create.server_request import new_password
from api_cell.services import Services
from cell_service.context import Context
from cell_service.errors import Invalid
from cell_service.model.instance import Instance
from cell_service.operations import rescue as operations
from cell_service.operations.rule import begin
from cell_service.peers.image import Image
from mapping_db.cloud import Cloud

RESCUE = Doing(operations.RESCUE, "os_compute_api:os-rescue")
UNRESCUE = Doing(operations.UNRESCUE, "os_compute_api:os-unrescue")
_STABLE_PROPERTIES = ("hw_rescue_device", "hw_rescue_bus")


@dataclass(frozen=True, slots=True)
class RescueRequest:
    """`image_id` None: the image that the server was made from. `volume_backed`: a server with its root disk on a
    volume can be rescued too, if the image leaves the server's disks where they are (2.87)."""

    image_id: str | None = None
    password: str | None = None
    volume_backed: bool = False


def rescue(cloud: Cloud, services: Services, caller: Caller, server_id: str, request: RescueRequest) -> str:
    """The server will run from the rescue image. Answers its administrator's password there.

    Raises Invalid, ImageNotFound, InstanceNotFound, InstanceNotReady, InstanceIsLocked, InstanceInvalidState,
    PolicyForbidden, CellUnavailable, PeerUnavailable.
    """
    found = find.server(cloud, caller.ctx, server_id)
    before = found.instance
    caller.demand(RESCUE.rule, find.target(before))
    act.demand_unlocked(caller.ctx, before)
    begin(RESCUE.operation, before.state, server_id)
    demand_able_before(caller.ctx, found, RESCUE.operation)
    image = None if request.image_id is None else _image(services, caller.ctx, request.image_id)
    chosen = request.password or new_password()
    stable = image is not None and _stays(image)
    arguments = operations.RescueArguments(chosen, None if image is None else image.id, stable)

    def prepare(instance: Instance) -> tuple[operations.RescueArguments, dict[str, Any]]:
        if instance.volume_backed and not (stable and request.volume_backed):
            raise Invalid(reason=f"Instance {server_id} cannot be rescued: Cannot rescue a volume-backed instance")
        return arguments, {}

    prepare(before)
    act.begin(cloud, caller, server_id, RESCUE, prepare=prepare)
    return chosen


def _image(services: Services, ctx: Context, image_id: str) -> Image:
    image = services.require_images().get(ctx, image_id)
    images.demand_active(image)
    if not image.size_bytes and image.properties.get("block_device_mapping"):
        raise Invalid(reason=f"Requested rescue image '{image_id}' is not supported")
    return image


def _stays(image: Image) -> bool:
    """Whether the server's disks are to be where they always are, and the rescue disk alongside."""
    return any(image.properties.get(name) for name in _STABLE_PROPERTIES)
