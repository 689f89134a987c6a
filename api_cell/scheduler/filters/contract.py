"""The protocol of filters."""

from __future__ import annotations

from typing import Protocol

from api_cell.scheduler.hosts import HostState
from api_cell.scheduler.request_view import RequestView


class Filter(Protocol):
    """Says no to a host with a reason that an operator can read: "is down", "runs 50 instances, limit 50"."""

    def reject(self, host: HostState, request: RequestView) -> str | None: ...
