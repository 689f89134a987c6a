"""The shares of a server: /servers/{server_id}/shares (from 2.97)."""

from __future__ import annotations

from typing import Any

from api_cell.edge.route import Request, Response, Route
from api_cell.edge.shapes import UUID, query, strict, wrapped
from api_cell.servers import find, shares
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import PowerState
from cell_service.model.share import ShareMapping

FIRST = (2, 97)
_TAG = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[a-zA-Z0-9-]*$"}
_CREATE = wrapped("share", strict({"share_id": UUID, "tag": _TAG}, "share_id"))
_NO_QUERY = query({}, closed=True)


def index(req: Request) -> Response:
    """200 {"shares": […]}"""
    instance = _server(req, "index")
    return Response(200, {"shares": [_view(req, one, instance.power_state) for one in instance.shares]})


def create(req: Request) -> Response:
    """201 {"share": {…}}: the share will be attached."""
    body = req.body["share"]
    made = shares.attach(
        req.cloud, req.services, req.caller, req.params["server_id"], body["share_id"], body.get("tag")
    )
    return Response(201, {"share": _view(req, made, PowerState.NOSTATE)})


def show(req: Request) -> Response:
    """200 {"share": {…}}"""
    instance = _server(req, "show")
    return Response(200, {"share": _view(req, shares.demand_mapping(instance, req.params["id"]), instance.power_state)})


def delete(req: Request) -> Response:
    """200: the share will be detached."""
    shares.detach(req.cloud, req.caller, req.params["server_id"], req.params["id"])
    return Response(200)


def _server(req: Request, verb: str) -> Instance:
    instance = find.server(req.cloud, req.ctx, req.params["server_id"]).instance
    req.demand(shares.RULE + verb, find.target(instance))
    return instance


def _view(req: Request, mapping: ShareMapping, power_state: PowerState) -> dict[str, Any]:
    """Administrators also see the mapping's own uuid, and where the share comes from."""
    shown = {"share_id": mapping.share_id, "status": mapping.shown(power_state).value, "tag": mapping.tag}
    if req.ctx.is_admin:
        shown |= {"uuid": mapping.uuid, "export_location": mapping.export_location}
    return shown


ROUTES = (
    Route("GET", "/servers/{server_id}/shares", index, query=_NO_QUERY, min_version=FIRST),
    Route("POST", "/servers/{server_id}/shares", create, body=_CREATE, min_version=FIRST),
    Route("GET", "/servers/{server_id}/shares/{id}", show, query=_NO_QUERY, min_version=FIRST),
    Route("DELETE", "/servers/{server_id}/shares/{id}", delete, min_version=FIRST),
)
