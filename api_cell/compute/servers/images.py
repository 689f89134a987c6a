"""POST /servers/{id}/action: createImage, createBackup."""

from __future__ import annotations

from api_cell.compute import behaviours
from api_cell.compute.servers.schemas import ITEMS
from api_cell.edge.route import Request, Response, Route
from api_cell.edge.shapes import NAME, WHOLE, strict
from api_cell.servers import imaging
from api_cell.servers.imaging import ImageRequest

_IMAGE = strict({"createImage": strict({"name": NAME, "metadata": ITEMS}, "name")}, "createImage")
_BACKUP = strict(
    {
        "createBackup": strict(
            {"name": NAME, "backup_type": {"type": "string"}, "rotation": WHOLE, "metadata": ITEMS},
            *("name", "backup_type", "rotation"),
        )
    },
    "createBackup",
)


def create_image(req: Request) -> Response:
    """202: there will be an image of the server. From 2.45 {"image_id": …}, before in the Location header."""
    body = req.body["createImage"]
    request = ImageRequest(body["name"].strip(), body.get("metadata") or {}, counted=_is_counted(req))
    image_id = imaging.make(req.cloud, req.services, req.caller, req.params["id"], request)
    return _named(req, image_id)


def create_backup(req: Request) -> Response:
    """202 as create_image; with a rotation of 0 the image does not stay, and has no Location."""
    body = req.body["createBackup"]
    rotation = int(body["rotation"])
    backup = body["backup_type"], rotation
    request = ImageRequest(body["name"].strip(), body.get("metadata") or {}, backup, counted=_is_counted(req))
    image_id = imaging.make(req.cloud, req.services, req.caller, req.params["id"], request)
    return _named(req, image_id) if rotation or behaviours.IMAGE_ID_IN_BODY.at(req.version) else Response(202)


def _is_counted(req: Request) -> bool:
    return not behaviours.IMAGE_PROPERTIES_ARE_UNLIMITED.at(req.version)


def _named(req: Request, image_id: str) -> Response:
    if behaviours.IMAGE_ID_IN_BODY.at(req.version):
        return Response(202, {"image_id": image_id})
    where = req.services.settings.api.glance_link_prefix or req.bookmark_url
    return Response(202, headers={"Location": f"{where}/images/{image_id}"})


ROUTES = (
    Route("POST", "/servers/{id}/action", create_image, action="createImage", body=_IMAGE),
    Route("POST", "/servers/{id}/action", create_backup, action="createBackup", body=_BACKUP),
)
