"""An API on a port."""

from __future__ import annotations

from api_cell.edge.edge import Edge
from cell_service.http.listener import Listener

HEADER_BYTES = 65536


class ApiServer(Listener):
    """One API listening."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        super().__init__(
            edge.api.name,
            edge,
            busy=lambda: edge.open_exchanges,
            ended=edge.close,
            begun_to_end=self._refuse_new,
            drain_seconds=edge.settings.api.drain_timeout,
            max_header_size=HEADER_BYTES,
        )

    @property
    def draining(self) -> bool:
        """Whether it has begun to stop."""
        return self._edge.draining

    def _refuse_new(self) -> None:
        self._edge.draining = True
