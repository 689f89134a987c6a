"""Records of the network service, as far as the project of a request may see them."""

from __future__ import annotations

from uuid import UUID

from api_cell.services import Services
from cell_service.context import Context
from cell_service.errors import Invalid
from cell_service.peers.network import Noun, Record, Records

EXTERNAL_RULE = "network:attach_external_network"
"""The rule for connecting servers to external networks that are not shared."""


def records_of(services: Services) -> Records:
    """Raises NotSupported where there is no network service."""
    return services.require_networks().records


def mine(services: Services, ctx: Context, noun: Noun, **query: object) -> list[Record]:
    """The project's own records that fit."""
    return records_of(services).find_all(ctx, noun, project_id=ctx.project_id, **query)


def one(services: Services, ctx: Context, noun: Noun, record_id: str) -> Record | None:
    """The record, if it is the project's own, or the caller is an administrator."""
    found = records_of(services).find(ctx, noun, record_id)
    if found is None or not (ctx.is_admin or found.get("project_id") == ctx.project_id):
        return None
    return found


def networks(services: Services, ctx: Context) -> list[Record]:
    """The networks that the network service shows to the project: all, for administrators."""
    service = services.require_networks()
    return service.records.find_all(ctx, "networks") if ctx.is_admin else service.shown(ctx, ctx.project_id)


def demand_uuid(text: str, what: str) -> str:
    """Raises Invalid."""
    try:
        return str(UUID(text))
    except ValueError:
        raise Invalid(reason=f"{what} id should be uuid") from None
