"""Whether a process sends requests to one server of one cell (its database or its queue)."""

from __future__ import annotations

import logging
import threading

from cell_service.backoff import Backoff
from cell_service.context import Clock
from cell_service.logs import about

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 1.0
_PAUSES = Backoff(FIRST_PAUSE, LONGEST_PAUSE, spread=(0.8, 1.2))


class Breaker:
    """Closed: requests are sent. Open: none are, until a probe was answered; probes are sent at growing intervals.

    It is opened by a failure and closed by a probe, never by users' requests.
    """

    def __init__(self, cell: str, resource: str, clock: Clock) -> None:
        self._cell, self._resource, self._clock = cell, resource, clock
        self._lock = threading.Lock()
        self._failures = 0
        self._next_probe = 0.0
        self.reason = ""
        """Why it is open; empty when it is closed. Never contains a password."""

    @property
    def is_open(self) -> bool:
        return bool(self.reason)

    def open(self, reason: str) -> bool:
        """Open it, or record that another probe failed. True for the one caller that found it closed."""
        with self._lock:
            first = not self.reason
            if first:
                self._failures = 0
            elif self._clock.monotonic() < self._next_probe:
                return False  # a late report of the same failure
            self.reason = reason or "failed"
            self._failures += 1
            self._next_probe = self._clock.monotonic() + _PAUSES.pause(self._failures)
        if first:
            log.warning("breaker opened", extra=about(None, cell=self._cell, what=self._resource, reason=reason))
        return first

    def close(self) -> None:
        """Close it: a probe was answered."""
        with self._lock:
            if not self.reason:
                return
            self.reason = ""
        log.info("breaker closed", extra=about(None, cell=self._cell, what=self._resource))

    def wants_probe(self) -> bool:
        """Whether it is open and another probe is due."""
        return self.is_open and self._clock.monotonic() >= self._next_probe
