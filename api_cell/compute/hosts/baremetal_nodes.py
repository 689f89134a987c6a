"""Bare metal nodes (until 2.35), which are the bare metal service's by now. This cloud has none."""

from __future__ import annotations

from api_cell.edge.route import Request, Response, Route
from cell_service.errors import Invalid, NotFound

LAST = (2, 35)


def index(req: Request) -> Response:
    """200 {"nodes": []}."""
    return Response(200, {"nodes": []})


def show(req: Request) -> Response:
    """404: there is no such node."""
    raise NotFound(reason=f"Node {req.params['id']} could not be found.")


def unsupported(req: Request) -> Response:
    """400 for every request: nodes are changed in their own service."""
    raise Invalid(reason="Nodes are changed in the bare metal service.")


_RULE = "os_compute_api:os-baremetal-nodes:"
_ACTION = "/os-baremetal-nodes/{id}/action"
ROUTES = (
    Route("GET", "/os-baremetal-nodes", index, rule=_RULE + "list", max_version=LAST),
    Route("POST", "/os-baremetal-nodes", unsupported, max_version=LAST),
    Route("GET", "/os-baremetal-nodes/{id}", show, rule=_RULE + "show", max_version=LAST),
    Route("DELETE", "/os-baremetal-nodes/{id}", unsupported, max_version=LAST),
    Route("POST", _ACTION, unsupported, action="add_interface", max_version=LAST),
    Route("POST", _ACTION, unsupported, action="remove_interface", max_version=LAST),
)
