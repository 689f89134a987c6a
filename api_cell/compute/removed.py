"""Routes that once were, and answer 410 at every version."""

from __future__ import annotations

from api_cell.edge.route import Request, Response, Route
from cell_service.errors import Gone

_PATHS = """
GET POST /os-agents
PUT DELETE /os-agents/{id}
GET POST /os-cells
GET /os-cells/capacities
GET /os-cells/detail
GET /os-cells/info
POST /os-cells/sync_instances
GET PUT DELETE /os-cells/{id}
GET /os-cells/{id}/capacities
POST /os-certificates
GET /os-certificates/{id}
GET POST /os-cloudpipe
PUT /os-cloudpipe/{id}
GET /os-fixed-ips/{id}
GET /os-floating-ip-dns
PUT DELETE /os-floating-ip-dns/{id}
GET PUT DELETE /os-floating-ip-dns/{domain_id}/entries/{id}
GET POST /os-floating-ips-bulk
GET PUT /os-floating-ips-bulk/{id}
GET /os-fping
GET /os-fping/{id}
POST /os-networks
POST /os-networks/add
DELETE /os-networks/{id}
GET POST /os-security-group-default-rules
GET DELETE /os-security-group-default-rules/{id}
POST /os-tenant-networks
DELETE /os-tenant-networks/{id}
GET POST /servers/{server_id}/consoles
GET DELETE /servers/{server_id}/consoles/{id}
GET /servers/{server_id}/os-virtual-interfaces
"""

_ACTIONS = {
    "/os-fixed-ips/{id}/action": ("reserve", "unreserve"),
    "/os-networks/{id}/action": ("associate_host", "disassociate", "disassociate_host", "disassociate_project"),
    "/servers/{id}/action": ("resetNetwork",),
}


def gone(req: Request) -> Response:
    """410 for every request."""
    raise Gone()


def _routes() -> list[Route]:
    made = []
    for line in _PATHS.strip().splitlines():
        *methods, path = line.split()
        made += [Route(method, path, gone) for method in methods]
    for path, actions in _ACTIONS.items():
        made += [Route("POST", path, gone, action=action) for action in actions]
    return made


REMOVED = tuple(_routes())
