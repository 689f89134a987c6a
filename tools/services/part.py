"""One running service, whatever it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Part(Protocol):
    def start(self) -> None:
        """Serve. Returns when it does."""

    def stop(self, grace_seconds: float = 10.0) -> None:
        """Finish what is under way within the grace, and release all resources. Safe to call twice."""


@dataclass(slots=True)
class Made:
    """A part put together from two functions."""

    begin: Callable[[], None]
    end: Callable[[float], None]
    _running: bool = False

    def start(self) -> None:
        self.begin()
        self._running = True

    def stop(self, grace_seconds: float = 10.0) -> None:
        if self._running:
            self._running = False
            self.end(grace_seconds)
