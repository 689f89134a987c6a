"""The parts that answers of the Placement API have in common: cache headers from 1.15, and a provider's document."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from email.utils import format_datetime
from operator import attrgetter
from typing import Any

from api_cell.edge.route import Request, Response, Version
from api_cell.edge.versioned import Field, View
from api_cell.placement import behaviours
from mapping_db.placement.providers import Provider


def dated(req: Request, body: object, moments: Iterable[datetime] = (), status: int = 200) -> Response:
    """The response, from 1.15 on with last-modified (the latest moment, or now) and cache-control."""
    if not behaviours.ANSWERS_ARE_DATED.at(req.version):
        return Response(status, body)
    latest = max(moments, default=None) or req.cloud.clock.now()
    headers = {"Last-Modified": format_datetime(latest, usegmt=True), "Cache-Control": "no-cache"}
    return Response(status, body, headers)


_LINKS: View[str] = View(
    Field("self", lambda path: path),
    Field("inventories", lambda path: f"{path}/inventories"),
    Field("usages", lambda path: f"{path}/usages"),
    Field("aggregates", lambda path: f"{path}/aggregates", since=(1, 1)),
    Field("traits", lambda path: f"{path}/traits", since=(1, 6)),
    Field("allocations", lambda path: f"{path}/allocations", since=(1, 11)),
)
_TREE: View[Provider] = View(
    Field("parent_provider_uuid", attrgetter("parent_uuid"), since=(1, 14)),
    Field("root_provider_uuid", attrgetter("root_uuid"), since=(1, 14)),
)


def provider_view(version: Version, provider: Provider) -> dict[str, Any]:
    """The document of a provider."""
    links = _LINKS.at(version, f"/resource_providers/{provider.uuid}")
    return {
        "uuid": provider.uuid,
        "name": provider.name,
        "generation": provider.generation,
        "links": [{"rel": name, "href": path} for name, path in links.items()],
        **_TREE.at(version, provider),
    }
