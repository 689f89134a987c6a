"""POST /servers/{id}/action: rescue, unrescue."""

from __future__ import annotations

from api_cell.compute import behaviours
from api_cell.compute.servers.actions import doing
from api_cell.compute.servers.schemas import action
from api_cell.edge.route import Request, Response, Route
from api_cell.edge.shapes import UUID, strict
from api_cell.servers import rescue as rescuing
from api_cell.servers.rescue import RescueRequest
from cell_service.errors import ImageNotFound

_RESCUE = strict(
    {
        "rescue": {
            **strict({"adminPass": {"type": "string"}, "rescue_image_ref": UUID}),
            "type": ["object", "null"],
        }
    },
    "rescue",
)


def rescue(req: Request) -> Response:
    """200 {"adminPass": …}: the server will run from another disk, with its own alongside."""
    body = req.body["rescue"] or {}
    volume_backed = behaviours.RESCUE_WITH_ROOT_VOLUME.at(req.version)
    request = RescueRequest(body.get("rescue_image_ref"), body.get("adminPass"), volume_backed=volume_backed)
    password = rescuing.rescue(req.cloud, req.services, req.caller, req.params["id"], request)
    return Response(200, {"adminPass": password} if req.services.settings.api.enable_instance_password else {})


ROUTES = (
    Route("POST", "/servers/{id}/action", rescue, action="rescue", body=_RESCUE, bad_reference=(ImageNotFound,)),
    Route("POST", "/servers/{id}/action", doing(rescuing.UNRESCUE), action="unrescue", body=action("unrescue")),
)
