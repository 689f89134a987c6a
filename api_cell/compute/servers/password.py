"""/servers/{id}/os-server-password: what the guest has reported of its administrator's password, encrypted by it."""

from __future__ import annotations

from sqlalchemy import Connection

from api_cell.edge.route import Request, Response
from api_cell.servers import find
from cell_service.metadata.instances import clear_password
from cell_service.metadata.password import password_of
from mapping_db.cells.registry import Cell


def show(req: Request) -> Response:
    """200 {"password": "…"}; empty when there is none."""
    instance = find.server(req.cloud, req.ctx, req.params["server_id"]).instance
    req.demand("os_compute_api:os-server-password:show", find.target(instance))
    return Response(200, {"password": password_of(instance)})


def clear(req: Request) -> Response:
    """204: it is not stored any more; the guest's own password is what it was."""
    server_id = req.params["server_id"]

    def work(tx: Connection, cell: Cell) -> None:
        instance = find.to_change(req.cloud, req.ctx, tx, cell, server_id)
        req.demand("os_compute_api:os-server-password:clear", find.target(instance))
        clear_password(tx, server_id, req.cloud.clock)

    find.change(req.cloud, req.ctx, server_id, work)
    return Response(204)
