"""What answers of the Placement API have in common: cache headers from 1.15, and a provider's document."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from email.utils import format_datetime
from typing import Any

from api_cell.edge.route import Request, Response
from mapping_db.placement.providers import Provider


def dated(req: Request, body: object, moments: Iterable[datetime] = (), status: int = 200) -> Response:
    """The response, from 1.15 on with last-modified (the latest moment, or now) and cache-control."""
    if not req.at_least(1, 15):
        return Response(status, body)
    latest = max(moments, default=None) or req.cloud.clock.now()
    headers = {"Last-Modified": format_datetime(latest, usegmt=True), "Cache-Control": "no-cache"}
    return Response(status, body, headers)


def provider_view(req: Request, provider: Provider) -> dict[str, Any]:
    path = f"/resource_providers/{provider.uuid}"
    relations = [("self", ""), ("inventories", "/inventories"), ("usages", "/usages")]
    if req.at_least(1, 1):
        relations.append(("aggregates", "/aggregates"))
    if req.at_least(1, 6):
        relations.append(("traits", "/traits"))
    if req.at_least(1, 11):
        relations.append(("allocations", "/allocations"))
    view: dict[str, Any] = {
        "uuid": provider.uuid,
        "name": provider.name,
        "generation": provider.generation,
        "links": [{"rel": name, "href": path + tail} for name, tail in relations],
    }
    if req.at_least(1, 14):
        view |= {"parent_provider_uuid": provider.parent_uuid, "root_provider_uuid": provider.root_uuid}
    return view
