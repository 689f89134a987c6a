"""POST /servers/{id}/action {"rebuild": …}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api_cell.compute import behaviours
from api_cell.compute.servers.create_body import parse_file
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
from api_cell.edge.route import Request, Response, Version
from api_cell.edge.shapes import BOOLEAN, NAME, UUID, is_true, wrapped
from api_cell.edge.versioned import Field, View, bodies_of
from api_cell.servers import rebuild as rebuilding
from api_cell.servers.ipv6 import canonical
from api_cell.servers.rebuild import RebuildRequest
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


_COLUMNS = {
    "name": "display_name",
    "description": "display_description",
    "metadata": "metadata",
    "accessIPv4": "access_ip_v4",
    "accessIPv6": "access_ip_v6",
    "user_data": "user_data",
    "hostname": "hostname",
    "key_name": "key_name",
}
"""The names that a body may replace, and the column of each."""


def parse_rebuild_request(body: Mapping[str, Any], version: Version) -> RebuildRequest:
    """Parse the body, which fits its schema. Raises Invalid."""
    columns = {column: body[name] for name, column in _COLUMNS.items() if name in body}
    if "accessIPv6" in body:
        columns["access_ip_v6"] = canonical(body["accessIPv6"])
    if "OS-DCF:diskConfig" in body:
        columns["auto_disk_config"] = body["OS-DCF:diskConfig"] == "AUTO"
    if "trusted_image_certificates" in body:
        columns["trusted_image_certificates"] = tuple(body["trusted_image_certificates"] or ())
    return RebuildRequest(
        image_id=body["imageRef"],
        admin_password=body.get("adminPass"),
        files=tuple(parse_file(each) for each in body.get("personality") or ()),
        columns=columns,
        preserves_ephemeral=is_true(body.get("preserve_ephemeral", False)),
        reimages=behaviours.REBUILD_WITH_ROOT_VOLUME.at(version),
    )


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
