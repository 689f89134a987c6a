"""Bare metal nodes (until 2.35), which another service has had for long."""

from __future__ import annotations

from api_cell.edge.route import Request, Response, Route
from cell_service.errors import Invalid, NotSupported

LAST = (2, 35)


def absent(req: Request) -> Response:
    """501: there is no bare metal service."""
    raise NotSupported(reason="There is no bare metal service here.")


def unsupported(req: Request) -> Response:
    """400, whatever was asked: nodes are changed in their own service."""
    raise Invalid(reason="Nodes are changed in the bare metal service.")


_RULE = "os_compute_api:os-baremetal-nodes:"
_ACTION = "/os-baremetal-nodes/{id}/action"
ROUTES = (
    Route("GET", "/os-baremetal-nodes", absent, rule=_RULE + "list", max_version=LAST),
    Route("POST", "/os-baremetal-nodes", unsupported, max_version=LAST),
    Route("GET", "/os-baremetal-nodes/{id}", absent, rule=_RULE + "show", max_version=LAST),
    Route("DELETE", "/os-baremetal-nodes/{id}", unsupported, max_version=LAST),
    Route("POST", _ACTION, unsupported, action="add_interface", max_version=LAST),
    Route("POST", _ACTION, unsupported, action="remove_interface", max_version=LAST),
)
