"""POST /servers/{id}/action {"rebuild": …}."""

from __future__ import annotations

from api_cell.compute.fields import Field, View, bodies_of
from api_cell.compute.servers.handlers import changed_document
from api_cell.compute.servers.schemas import (
    CERTIFICATES,
    DESCRIPTION,
    DISK_CONFIG,
    FILES,
    HOST_NAMES,
    IPV4,
    IPV6,
    ITEMS,
)
from api_cell.edge.route import Request, Response
from api_cell.edge.shapes import BOOLEAN, NAME, UUID, wrapped
from api_cell.servers import rebuild as rebuilding
from api_cell.servers.rebuild import parse_rebuild_request
from cell_service.model.instance import Instance


def rebuild(req: Request) -> Response:
    """202 {"server": {…, adminPass}}: the server will be made again from the image, where it is."""
    accepted = rebuilding.accept(
        req.cloud, req.services, req.caller, req.params["id"], parse_rebuild_request(req.body["rebuild"], req.version)
    )
    shown = changed_document(req, accepted.instance, accepted.cell) | _REBUILT.at(req.version, accepted.instance)
    shown.pop("OS-EXT-SRV-ATTR:user_data", None)
    if req.services.settings.api.enable_instance_password:
        shown["adminPass"] = accepted.admin_password
    return Response(202, {"server": shown}, {"Location": f"{req.base_url}/servers/{accepted.instance.uuid}"})


_REBUILT: View[Instance] = View(
    Field("key_name", lambda instance: instance.key_name, since=(2, 54)),
    Field("user_data", lambda instance: instance.user_data, since=(2, 57)),
)
_KEY_NAME = {"oneOf": [{"type": "string", "minLength": 1, "maxLength": 255}, {"type": "null"}]}
REBUILD = bodies_of(
    lambda fields: wrapped("rebuild", fields),
    Field("imageRef", UUID, required=True),
    Field("name", NAME),
    Field("adminPass", {"type": "string"}),
    Field("metadata", ITEMS),
    Field("preserve_ephemeral", BOOLEAN),
    Field("OS-DCF:diskConfig", DISK_CONFIG),
    Field("accessIPv4", IPV4),
    Field("accessIPv6", IPV6),
    Field("personality", FILES, until=(2, 56)),
    Field("description", DESCRIPTION, since=(2, 19)),
    Field("key_name", _KEY_NAME, since=(2, 54)),
    Field("user_data", {"type": ["string", "null"], "format": "base64", "maxLength": 65535}, since=(2, 57)),
    Field("trusted_image_certificates", CERTIFICATES, since=(2, 63)),
    *HOST_NAMES,
)
