"""Availability zones: what aggregates make of the enabled compute hosts."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from api_cell import cell_queries
from api_cell.compute.hosts.services import is_up, zone_of
from api_cell.edge import missing_cells
from api_cell.edge.route import Request, Response
from api_cell.timestamps import with_fraction
from cell_service.db import services as rows
from cell_service.model.host import Service


def index(req: Request) -> Response:
    """200 {"availabilityZoneInfo": [...]}: the zones of compute hosts. One without enabled hosts is not available."""
    enabled, other, missing = _services_by_zone(req)
    internal = req.services.settings.zones.internal_service_availability_zone
    views = [_view(name, True, None) for name in sorted(enabled) if name != internal]
    views += [_view(name, False, None) for name in sorted(other - enabled.keys()) if name != internal]
    return Response(200, {"availabilityZoneInfo": views}, missing)


def detail(req: Request) -> Response:
    """200 {"availabilityZoneInfo": [...]} with the internal zone, and every zone's hosts and services."""
    enabled, other, missing = _services_by_zone(req)
    views = [_view(name, True, _hosts(req, services)) for name, services in sorted(enabled.items())]
    views += [_view(name, False, None) for name in sorted(other - enabled.keys())]
    return Response(200, {"availabilityZoneInfo": views}, missing)


def _services_by_zone(req: Request) -> tuple[dict[str, list[Service]], set[str], dict[str, str]]:
    """Enabled services by zone, the zones of those disabled or in cells that are down, and the header that names
    those cells."""
    answers = cell_queries.query_services(req.cloud, req.ctx, rows.list_all, above=True)
    zones = cell_queries.zones(req.cloud)
    enabled: dict[str, list[Service]] = defaultdict(list)
    other: set[str] = set()
    for _, service in answers.found:
        zone = zone_of(req, service, zones)
        if service.disabled:
            other.add(zone)
        else:
            enabled[zone].append(service)
    default = req.services.settings.zones.default_availability_zone
    other.update(zones.get(host, default) for host in cell_queries.hosts_of(req.cloud, answers.down))
    return enabled, other, missing_cells.header(req, answers.down)


def _hosts(req: Request, services: list[Service]) -> dict[str, Any]:
    hosts: dict[str, Any] = defaultdict(dict)
    for service in services:
        hosts[service.host][service.binary] = {
            "active": not service.disabled,
            "available": is_up(req, service),
            "updated_at": with_fraction(service.updated_at),
        }
    return dict(hosts)


def _view(name: str, available: bool, hosts: dict[str, Any] | None) -> dict[str, Any]:
    return {"zoneName": name, "zoneState": {"available": available}, "hosts": hosts}
