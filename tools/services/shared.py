"""The parts that roles in one process share: the clock, and one connection to the cloud."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cell_service.context import SYSTEM_CLOCK, Clock
from cell_service.http.connections import ConnectionSettings

if TYPE_CHECKING:
    from tools.services.open_cloud import OpenCloud  # most roles have no global side


@dataclass(frozen=True, slots=True)
class Listen:
    """The address on which a part listens; 0 and "" where its role decides."""

    port: int = 0
    address: str = ""
    reuse_port: bool = False
    connections: ConnectionSettings = field(default_factory=ConnectionSettings)


@dataclass(slots=True)
class Shared:
    """Thread-safe. The cloud is open from its first user to its last."""

    clock: Clock = SYSTEM_CLOCK
    _open: OpenCloud | None = None
    _users: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def cloud(self, opening: Callable[[], OpenCloud]) -> OpenCloud:
        """The process's cloud, opened for the first user; each user calls `release` once."""
        with self._lock:
            if self._open is None:
                self._open = opening()
            self._users += 1
            return self._open

    def release(self) -> None:
        """Close the cloud after its last user."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._open is not None:
                self._open.close()
                self._open = None

    def ending(self, drain: Callable[[float], object]) -> Callable[[float], None]:
        """End a user of the cloud: drain it, then release the cloud."""

        def end(grace_seconds: float) -> None:
            drain(grace_seconds)
            self.release()

        return end
