"""POST /servers/{id}/action {"rebuild": …}."""

from __future__ import annotations

from typing import Any

from api_cell.compute.servers.handlers import document, in_short
from api_cell.compute.servers.schemas import DESCRIPTION, ITEMS, hostname
from api_cell.edge.route import Request, Response, Schema
from api_cell.edge.shapes import BOOLEAN, NAME, UUID, by_version, strict
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


def _body(version: tuple[int, int]) -> Schema:
    fields: dict[str, Any] = {
        "imageRef": UUID,
        "name": NAME,
        "adminPass": {"type": "string"},
        "metadata": ITEMS,
        "preserve_ephemeral": BOOLEAN,
        "OS-DCF:diskConfig": {"type": "string", "enum": ["AUTO", "MANUAL"]},
        "accessIPv4": {"type": "string", "format": "ipv4"},
        "accessIPv6": {"type": "string", "format": "ipv6"},
    }
    if version < (2, 57):
        file = strict({"path": {"type": "string"}, "contents": {"type": "string", "format": "base64"}})
        fields["personality"] = {"type": "array", "items": file}
    if version >= (2, 19):
        fields["description"] = DESCRIPTION
    if version >= (2, 54):
        fields["key_name"] = {"oneOf": [{"type": "string", "minLength": 1, "maxLength": 255}, {"type": "null"}]}
    if version >= (2, 57):
        fields["user_data"] = {"type": ["string", "null"], "format": "base64", "maxLength": 65535}
    if version >= (2, 63):
        fields["trusted_image_certificates"] = {
            "type": ["array", "null"],
            "minItems": 1,
            "maxItems": 50,
            "uniqueItems": True,
            "items": {"type": "string", "minLength": 1},
        }
    if version >= (2, 90):
        fields["hostname"] = hostname(version)
    return strict({"rebuild": strict(fields, "imageRef")}, "rebuild")


REBUILD = by_version(_body, (2, 1), (2, 19), (2, 54), (2, 57), (2, 63), (2, 90), (2, 94))
