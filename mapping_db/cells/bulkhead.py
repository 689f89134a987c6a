"""How many threads of this process may use one server of one cell, and which use it now."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from cell_service.context import Clock, Deadline


class Full(Exception):
    """All places are taken, and as many callers wait as may."""


class Overdue(Exception):
    """No place became free in time."""


class Refused(Exception):
    """The breaker is open."""


class Flight:
    """One caller's use of the server: since when, until when, and its driver's connection (None: none yet)."""

    __slots__ = ("connection", "deadline", "entered", "overdue")

    def __init__(self, entered: float, deadline: Deadline) -> None:
        self.entered, self.deadline = entered, deadline
        self.connection: Any = None
        self.overdue = False
        """Whether it was cut off because its deadline was over."""


class Bulkhead:
    """At most `size` callers are in at once, at most `waiting` more wait; none waits once `refused` gives a reason."""

    def __init__(self, size: int, waiting: int, clock: Clock, refused: Callable[[], str]) -> None:
        self._size, self._may_wait, self._clock, self._refused = size, waiting, clock, refused
        self._changed = threading.Condition()
        self._flights: set[Flight] = set()
        self._waiting = 0
        self.last_used = clock.monotonic()

    def enter(self, deadline: Deadline) -> Flight:
        """Take a place, waiting for one if need be. Raises Refused, Full, Overdue."""
        with self._changed:
            if len(self._flights) >= self._size:
                self._await_place(deadline)
            elif self._refused():
                raise Refused
            self.last_used = self._clock.monotonic()
            flight = Flight(self.last_used, deadline)
            self._flights.add(flight)
            return flight

    def leave(self, flight: Flight) -> None:
        with self._changed:
            flight.connection = None
            self._flights.discard(flight)
            self.last_used = self._clock.monotonic()
            if self._waiting:
                self._changed.notify()

    def wake(self) -> None:
        """Wake waiting callers, so that they check again whether they are refused."""
        with self._changed:
            self._changed.notify_all()

    def flights(self) -> list[Flight]:
        """The callers that are in now, read without the lock when there is none: the common case."""
        if not self._flights:
            return []
        with self._changed:
            return list(self._flights)

    def _await_place(self, deadline: Deadline) -> None:
        if self._waiting >= self._may_wait:
            raise Full
        self._waiting += 1
        try:
            while True:
                if self._refused():
                    raise Refused
                if len(self._flights) < self._size:
                    return
                left = deadline.remaining()
                if left <= 0:
                    raise Overdue
                self._changed.wait(left)
        finally:
            self._waiting -= 1
