"""Whether the host serves at all."""

from __future__ import annotations

from dataclasses import dataclass

from api_cell.scheduler.hosts import HostState
from api_cell.scheduler.request_view import RequestView


@dataclass(frozen=True, slots=True)
class Compute:
    """The compute service is enabled and up."""

    def reject(self, host: HostState, request: RequestView) -> str | None:
        if host.disabled:
            return "is disabled"
        return None if host.up else "is down"


@dataclass(frozen=True, slots=True)
class AllHosts:
    """Any host."""

    def reject(self, host: HostState, request: RequestView) -> str | None:
        return None
