"""An API on a port."""

from __future__ import annotations

from api_cell.edge.edge import Edge
from cell_service.http.front import Front


class ApiServer(Front):
    """One API listening."""

    def __init__(self, edge: Edge) -> None:
        drain_seconds = edge.settings.api.drain_timeout
        super().__init__(edge.api.name, edge, drain_seconds=drain_seconds)
