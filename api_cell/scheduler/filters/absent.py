"""Demands that no host meets yet: a request that has one is refused, instead of getting a server without it."""

from __future__ import annotations

from dataclasses import dataclass

from api_cell.scheduler.hosts import HostState
from api_cell.scheduler.request_view import RequestView


@dataclass(frozen=True, slots=True)
class NotOffered:
    """Refuses every host to flavors and images that have one of the keys."""

    what: str
    keys: tuple[str, ...]

    def reject(self, host: HostState, request: RequestView) -> str | None:
        requested = request.spec.flavor.extra_specs.keys() | {
            name.replace("hw_", "hw:", 1) for name in request.spec.image_properties if name.startswith("hw_")
        }
        return f"offers no {self.what}" if any(key.startswith(self.keys) for key in requested) else None
