"""POST /servers/{id}/action: forceDelete, restore."""

from __future__ import annotations

from api_cell.compute.servers.actions import doing
from api_cell.compute.servers.schemas import action
from api_cell.edge.route import Request, Response, Route
from api_cell.servers import delete, soft_delete


def force_delete(req: Request) -> Response:
    """202: the server will be deleted, and cannot be restored."""
    delete.accept(req.cloud, req.services, req.caller, req.params["id"], rule=soft_delete.FORCE_RULE)
    return Response(202)


ROUTES = (
    Route("POST", "/servers/{id}/action", force_delete, action="forceDelete", body=action("forceDelete")),
    Route("POST", "/servers/{id}/action", doing(soft_delete.RESTORE), action="restore", body=action("restore")),
)
