"""Records of the network service, as far as the project of a request may see them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from api_cell.edge.route import Request
from api_cell.servers.interfaces import networks_of
from cell_service.errors import Invalid
from cell_service.peers.network import Noun, Record, Records


def records_of(req: Request) -> Records:
    """Raises NotSupported where there is no network service."""
    return networks_of(req).records


def mine(req: Request, noun: Noun, **query: Any) -> list[Record]:
    """The project's own records that fit."""
    return records_of(req).find_all(req.ctx, noun, project_id=req.ctx.project_id, **query)


def one(req: Request, noun: Noun, record_id: str) -> Record | None:
    """The record, if it is the project's own, or an administrator asks."""
    found = records_of(req).find(req.ctx, noun, record_id)
    if found is None or not (req.ctx.is_admin or found.get("project_id") == req.ctx.project_id):
        return None
    return found


def networks(req: Request) -> list[Record]:
    """The networks that the project may use: all, for administrators."""
    records = records_of(req)
    if req.ctx.is_admin:
        return records.find_all(req.ctx, "networks")
    own = records.find_all(req.ctx, "networks", project_id=req.ctx.project_id)
    known = {network["id"] for network in own}
    return own + [net for net in records.find_all(req.ctx, "networks", shared=True) if net["id"] not in known]


def demand_uuid(text: str, what: str) -> str:
    """Raises Invalid."""
    try:
        return str(UUID(text))
    except ValueError:
        raise Invalid(reason=f"{what} id should be uuid") from None
