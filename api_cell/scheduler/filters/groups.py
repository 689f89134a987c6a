"""The hard policies of server groups. The claim enforces them as well, against races."""

from __future__ import annotations

from dataclasses import dataclass

from api_cell.scheduler.hosts import HostState
from api_cell.scheduler.request_view import RequestView


@dataclass(frozen=True, slots=True)
class ServerGroup:
    """A group's policy lets a further member onto the host."""

    policy: str

    def reject(self, host: HostState, request: RequestView) -> str | None:
        group = request.group
        return group.refuses(host.host) if group is not None and group.policy == self.policy else None
