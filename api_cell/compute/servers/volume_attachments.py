"""The volumes of a server: /servers/{server_id}/os-volume_attachments."""

from __future__ import annotations

from typing import Any

from api_cell.compute import behaviours
from api_cell.edge.route import Request, Response, Route, Schema
from api_cell.edge.shapes import BOOLEAN, UUID, WHOLE, is_true, query_until_closed, strict, wrapped
from api_cell.edge.versioned import Field, Read, View, bodies_of
from api_cell.servers import find
from api_cell.servers import volumes as attaching
from api_cell.servers.volumes import AttachRequest, DeviceChange
from cell_service.model.block_device import BlockDevice, volumes
from cell_service.model.instance import Instance

DEVICE: Schema = {"type": ["string", "null"], "pattern": "(^/dev/x{0,1}[a-z]{0,1}d{0,1})([a-z]+)[0-9]*$"}
TAG: Schema = {"type": "string", "pattern": "^[^,/]*$", "minLength": 1, "maxLength": 60}
LIST = query_until_closed({"limit": WHOLE, "offset": WHOLE})


CREATE = bodies_of(
    lambda fields: wrapped("volumeAttachment", fields),
    Field("volumeId", UUID, required=True),
    Field("device", DEVICE),
    Field("tag", TAG, since=(2, 49)),
    Field("delete_on_termination", BOOLEAN, since=(2, 79)),
)
SWAP = wrapped("volumeAttachment", strict({"volumeId": UUID}, "volumeId"))
_CHANGED: dict[str, Schema] = {
    "volumeId": UUID,
    "device": DEVICE,
    "tag": TAG,
    "delete_on_termination": BOOLEAN,
    "serverId": UUID,
    "id": UUID,
}
UPDATE = wrapped("volumeAttachment", strict(_CHANGED, "volumeId"))


def index(req: Request) -> Response:
    """200 {"volumeAttachments": […]}"""
    instance = _visible_instance(req, "index")
    found = [_view(req, instance, device) for device in volumes(instance.block_devices) if device.volume_id]
    offset = int(req.one("offset") or 0)
    limit = int(req.one("limit") or 0) or req.services.settings.api.max_limit
    return Response(200, {"volumeAttachments": found[offset : offset + limit]})


def show(req: Request) -> Response:
    """200 {"volumeAttachment": {…}}"""
    instance = _visible_instance(req, "show")
    device = attaching.demand_device(instance, req.params["id"])
    return Response(200, {"volumeAttachment": _view(req, instance, device)})


def create(req: Request) -> Response:
    """200 {"volumeAttachment": {…}}, from 2.101 on 202 and nothing: the volume will be attached."""
    body = req.body["volumeAttachment"]
    request = AttachRequest(
        body["volumeId"],
        body.get("device"),
        body.get("tag"),
        delete_on_termination=is_true(body.get("delete_on_termination", False)),
        to_shelved=behaviours.VOLUMES_OF_SHELVED_SERVERS.at(req.version),
        multiattach=behaviours.VOLUMES_FOR_SEVERAL_SERVERS.at(req.version),
    )
    device = attaching.attach(req.cloud, req.services, req.caller, req.params["server_id"], request)
    if behaviours.ATTACHED_AFTER_THE_ANSWER.at(req.version):
        return Response(202)
    shown = {"serverId": req.params["server_id"], **_NEW.at(req.version, device)}
    return Response(200, {"volumeAttachment": shown})


def swap(req: Request) -> Response:
    """202: another volume takes the device's place."""
    taken = req.body["volumeAttachment"]["volumeId"]
    attaching.swap(req.cloud, req.services, req.caller, req.params["server_id"], req.params["id"], taken)
    return Response(202)


def update(req: Request) -> Response:
    """202, from 2.85 on: as `swap`; with the same volume: what becomes of it with the server."""
    body, volume_id = req.body["volumeAttachment"], req.params["id"]
    if body["volumeId"] != volume_id:
        return swap(req)
    kept = body.get("delete_on_termination")
    believed = {name: body[name] for name in ("device", "tag", "serverId", "id") if name in body}
    change = DeviceChange(None if kept is None else is_true(kept), believed)
    attaching.keep_or_delete(req.cloud, req.caller, req.params["server_id"], volume_id, change)
    return Response(202)


def delete(req: Request) -> Response:
    """202: the volume will be detached."""
    from_shelved = behaviours.VOLUMES_OF_SHELVED_SERVERS.at(req.version)
    attaching.detach(
        req.cloud, req.services, req.caller, req.params["server_id"], req.params["id"], from_shelved=from_shelved
    )
    return Response(202)


def _visible_instance(req: Request, verb: str) -> Instance:
    instance = find.server(req.cloud, req.ctx, req.params["server_id"]).instance
    req.demand(attaching.PREFIX + verb, find.target(instance))
    return instance


def _view(req: Request, instance: Instance, device: BlockDevice) -> dict[str, Any]:
    return {"serverId": instance.uuid, **_VIEW.at(req.version, device)}


_ATTACHED: tuple[Field[Read[BlockDevice]], ...] = (
    Field("volumeId", lambda device: device.volume_id),
    Field("device", lambda device: device.device_name),
    Field("tag", lambda device: device.tag, since=(2, 70)),
    Field("delete_on_termination", lambda device: device.delete_on_termination, since=(2, 79)),
)
_NEW: View[BlockDevice] = View(*_ATTACHED, Field("id", lambda device: device.volume_id))
_VIEW: View[BlockDevice] = View(
    *_ATTACHED,
    Field("id", lambda device: device.volume_id, until=(2, 88)),
    Field("attachment_id", lambda device: device.attachment_id, since=(2, 89)),
    Field("bdm_uuid", lambda device: device.uuid, since=(2, 89)),
)


_PATH = "/servers/{server_id}/os-volume_attachments"
ROUTES = (
    Route("GET", _PATH, index, query=LIST),
    Route("POST", _PATH, create, body=CREATE),
    Route("GET", _PATH + "/{id}", show),
    Route("PUT", _PATH + "/{id}", swap, body=SWAP, max_version=(2, 84)),
    Route("PUT", _PATH + "/{id}", update, body=UPDATE, min_version=(2, 85)),
    Route("DELETE", _PATH + "/{id}", delete),
)
