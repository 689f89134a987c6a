"""Things that no host offers yet: who asks for them is told so, instead of getting a server without them."""

from __future__ import annotations

from dataclasses import dataclass

from api_cell.scheduler.hosts import HostState
from api_cell.scheduler.request_view import Wish


@dataclass(frozen=True, slots=True)
class NotOffered:
    """Refuses every host to flavors and images that ask for one of the keys."""

    what: str
    keys: tuple[str, ...]

    def reject(self, host: HostState, wish: Wish) -> str | None:
        asked = wish.spec.flavor.extra_specs.keys() | {
            name.replace("hw_", "hw:", 1) for name in wish.spec.image_properties if name.startswith("hw_")
        }
        return f"offers no {self.what}" if any(key.startswith(self.keys) for key in asked) else None
