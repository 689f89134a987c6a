"""POST /servers/{id}/action {"rebuild": …}."""

from __future__ import annotations

from api_cell.compute.fields import Field, bodies_of
from api_cell.compute.servers.handlers import document, in_short
from api_cell.compute.servers.schemas import DESCRIPTION, ITEMS, hostname
from api_cell.edge.route import Request, Response
from api_cell.edge.shapes import BOOLEAN, NAME, UUID, strict, wrapped
from api_cell.servers import rebuild as rebuilding
from api_cell.servers.rebuild import parse_rebuild_request


def rebuild(req: Request) -> Response:
    """202 {"server": {…, adminPass}}: the server will be made again from the image, where it is."""
    accepted = rebuilding.accept(
        req.cloud, req.services, req.caller, req.params["id"], parse_rebuild_request(req.body["rebuild"], req.version)
    )
    shown = document(req, accepted.instance, accepted.cell)
    if not req.at_least(2, 75):
        shown = in_short(shown, accepted.instance)
    if req.at_least(2, 54):
        shown["key_name"] = accepted.instance.key_name
    if req.at_least(2, 57):
        shown["user_data"] = accepted.instance.user_data
        shown.pop("OS-EXT-SRV-ATTR:user_data", None)
    if req.services.settings.api.enable_instance_password:
        shown["adminPass"] = accepted.admin_password
    return Response(202, {"server": shown}, {"Location": f"{req.base_url}/servers/{accepted.instance.uuid}"})


_FILE = strict({"path": {"type": "string"}, "contents": {"type": "string", "format": "base64"}})
_KEY_NAME = {"oneOf": [{"type": "string", "minLength": 1, "maxLength": 255}, {"type": "null"}]}
_CERTIFICATES = {
    "type": ["array", "null"],
    "minItems": 1,
    "maxItems": 50,
    "uniqueItems": True,
    "items": {"type": "string", "minLength": 1},
}
REBUILD = bodies_of(
    lambda fields: wrapped("rebuild", fields),
    Field("imageRef", UUID, required=True),
    Field("name", NAME),
    Field("adminPass", {"type": "string"}),
    Field("metadata", ITEMS),
    Field("preserve_ephemeral", BOOLEAN),
    Field("OS-DCF:diskConfig", {"type": "string", "enum": ["AUTO", "MANUAL"]}),
    Field("accessIPv4", {"type": "string", "format": "ipv4"}),
    Field("accessIPv6", {"type": "string", "format": "ipv6"}),
    Field("personality", {"type": "array", "items": _FILE}, until=(2, 56)),
    Field("description", DESCRIPTION, since=(2, 19)),
    Field("key_name", _KEY_NAME, since=(2, 54)),
    Field("user_data", {"type": ["string", "null"], "format": "base64", "maxLength": 65535}, since=(2, 57)),
    Field("trusted_image_certificates", _CERTIFICATES, since=(2, 63)),
    Field("hostname", hostname((2, 90)), since=(2, 90), until=(2, 93)),
    Field("hostname", hostname((2, 94)), since=(2, 94)),
)
