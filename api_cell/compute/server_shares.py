"""Shares of servers (from 2.97). There is no service for shared file systems beside this one: no server has any."""

from __future__ import annotations

from api_cell.edge.route import Request, Response, Route
from api_cell.edge.shapes import UUID, query, strict, wrapped
from api_cell.servers import act, find
from cell_service.errors import InstanceInvalidState, ShareNotFound
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import VmState

FIRST = (2, 97)
_RULE = "os_compute_api:os-server-shares:"
_TAG = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[a-zA-Z0-9-]*$"}
_CREATE = wrapped("share", strict({"share_id": UUID, "tag": _TAG}, "share_id"))
_NO_QUERY = query({}, closed=True)


def index(req: Request) -> Response:
    """200 {"shares": []}."""
    _server(req, "index")
    return Response(200, {"shares": []})


def create(req: Request) -> Response:
    """404: the share is not there. 409 for a server that is not stopped."""
    instance = _server(req, "create")
    act.demand_unlocked(req.ctx, instance)
    if instance.vm_state is not VmState.STOPPED:
        raise InstanceInvalidState(
            action="attach_share", instance_uuid=instance.uuid, attribute="vm_state", state=instance.vm_state.value
        )
    raise ShareNotFound(share_id=req.body["share"]["share_id"])


def show(req: Request) -> Response:
    """404."""
    _server(req, "show")
    raise ShareNotFound(share_id=req.params["id"])


def delete(req: Request) -> Response:
    """404."""
    act.demand_unlocked(req.ctx, _server(req, "delete"))
    raise ShareNotFound(share_id=req.params["id"])


def _server(req: Request, verb: str) -> Instance:
    instance = find.server(req, req.params["server_id"]).instance
    req.demand(_RULE + verb, find.target(instance))
    return instance


ROUTES = (
    Route("GET", "/servers/{server_id}/shares", index, query=_NO_QUERY, min_version=FIRST),
    Route("POST", "/servers/{server_id}/shares", create, body=_CREATE, min_version=FIRST),
    Route("GET", "/servers/{server_id}/shares/{id}", show, query=_NO_QUERY, min_version=FIRST),
    Route("DELETE", "/servers/{server_id}/shares/{id}", delete, min_version=FIRST),
)
