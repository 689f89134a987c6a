"""Limits what one server of one cell costs a process: bulkhead, breaker and probes together.

Work runs on its caller's thread. When a request is in flight for long, the process probes the server with a trivial
request, out of band; without a quick answer the breaker opens, and all callers that wait for the server are cut off.
So slow work on a healthy server goes on, and a frozen or black-holed server costs its first callers about half a
second, later ones nothing.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from cell_service.context import Clock, Deadline
from cell_service.errors import CellUnavailable
from cell_service.logs import masked
from mapping_db.cells.breaker import Breaker
from mapping_db.cells.bulkhead import Bulkhead, Flight, Full, Overdue, Refused

log = logging.getLogger(__name__)

TICK_SECONDS = 0.05
PATIENCE_SECONDS = 0.15
PROBE_CHECKS = 4.0
"""After so many checks a probe is given up. Late checks count less: this process gets no processor time then, and the
answer may have arrived long ago."""


class ProbeFailed(Exception):
    """A probe failed. `unreachable`: there was no answer at all."""

    def __init__(self, reason: str, *, unreachable: bool) -> None:
        self.reason, self.unreachable = masked(reason), unreachable
        super().__init__(reason)


class Server(Protocol):
    """A server as its guard uses it."""

    def probe(self) -> None:
        """Raises ProbeFailed unless the server answers a trivial request in a fraction of a second."""

    def cut_off(self) -> None:
        """Make all callers that wait for the server return at once."""

    def cut_one(self, flight: Flight) -> None:
        """Make one caller return, where that is possible."""

    def shut(self) -> None:
        """Close all connections; the next use opens new ones."""


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """`reason` says why the breaker is open; empty when it is closed. `reached`: it has answered this process."""

    reason: str
    in_flight: int
    reached: bool = False

    @property
    def is_open(self) -> bool:
        return bool(self.reason)


class _Probe:
    __slots__ = ("checks", "ended", "given_up")

    def __init__(self) -> None:
        self.checks, self.ended, self.given_up = 0.0, False, False


class Guard:
    def __init__(
        self, cell: str, resource: str, server: Server, clock: Clock, places: int, waiting: int, patience: float = 1.0
    ) -> None:
        """`patience`: see CellSettings."""
        self._cell, self._resource, self._server, self._clock = cell, resource, server, clock
        self._patience = patience
        self.breaker = Breaker(cell, resource, clock)
        self.bulkhead = Bulkhead(places, waiting, clock, lambda: self.breaker.reason)
        self._probing = threading.Lock()
        self._probe: _Probe | None = None
        self._healthy_at = float("-inf")
        self._reached = False

    @contextlib.contextmanager
    def flight(self, deadline: Deadline) -> Iterator[Flight]:
        """Use the server once. Raises CellUnavailable: at once when the breaker is open or too many callers wait."""
        try:
            flight = self.bulkhead.enter(deadline)
        except Refused:
            raise self.unavailable(self.breaker.reason) from None
        except Full:
            raise self.unavailable("too many requests wait for it") from None
        except Overdue:
            raise self.unavailable("no answer in time") from None
        try:
            yield flight
            self._reached = True
        finally:
            self.bulkhead.leave(flight)

    def unavailable(self, reason: str) -> CellUnavailable:
        return CellUnavailable(cell=self._cell, what=self._resource, reason=masked(reason))

    def lost(self, reason: str, *, unreachable: bool) -> None:
        """The server has certainly failed: open the breaker; if it was unreachable, cut off the callers that wait."""
        self.breaker.open(masked(reason))
        if unreachable:
            self._server.cut_off()
        self.bulkhead.wake()

    def suspect(self) -> None:
        """Probe the server now: a failure may have been its fault."""
        if not self.breaker.is_open:
            self._start_probe()

    def unheard_seconds(self) -> float | None:
        """For how long a server that was used before has answered no probe; None when it was never used, or is known to
        be down."""
        if not self._reached or self.breaker.is_open:
            return None
        return self._clock.monotonic() - self._healthy_at

    def check(self, weight: float = 1.0) -> None:
        """Check probe and callers: the watching thread calls this every TICK_SECONDS, with a `weight` below 1 when it
        comes late."""
        self._check_probe(weight)
        doubtful = self._check_flights()
        if self.breaker.wants_probe() or (doubtful and not self.breaker.is_open):
            self._start_probe()

    def retire(self) -> None:
        """Close a server that the topology no longer names, and refuse callers that still use it."""
        self.breaker.open("its cell mapping has changed")
        self._server.shut()

    def idle_seconds(self) -> float:
        """For how long no caller has been in; 0.0 while one is."""
        if self.bulkhead.flights():
            return 0.0
        return self._clock.monotonic() - self.bulkhead.last_used

    def health(self) -> ServerHealth:
        return ServerHealth(self.breaker.reason, len(self.bulkhead.flights()), self._reached)

    def _check_probe(self, weight: float) -> None:
        probe = self._probe
        if probe is None or probe.ended or probe.given_up:
            return
        probe.checks += weight
        if probe.checks > PROBE_CHECKS * self._patience:
            probe.given_up = True
            self.lost("no answer to a probe", unreachable=True)

    def _check_flights(self) -> bool:
        """Cut off callers whose deadline is over. Returns whether the server should be probed."""
        now = self._clock.monotonic()
        long = False
        for flight in self.bulkhead.flights():
            if not flight.overdue and flight.deadline.remaining() <= 0:
                flight.overdue = True
                self._server.cut_one(flight)
                long = True
            long = long or now - flight.entered > PATIENCE_SECONDS
        return long and now - self._healthy_at > PATIENCE_SECONDS

    def _start_probe(self) -> None:
        with self._probing:
            if self._probe is not None and not self._probe.ended:
                return
            self._probe = _Probe()
        name = f"probe-{self._resource}-{self._cell}"
        threading.Thread(target=self._run_probe, args=(self._probe,), name=name, daemon=True).start()

    def _run_probe(self, probe: _Probe) -> None:
        try:
            self._server.probe()
        except ProbeFailed as failure:
            if not probe.given_up:
                self.lost(failure.reason, unreachable=failure.unreachable)
        except Exception as error:  # the edge of a thread
            log.exception("a probe failed in an unexpected way")
            self.lost(type(error).__name__, unreachable=False)
        else:
            if not probe.given_up:
                self._reached, self._healthy_at = True, self._clock.monotonic()
                self.breaker.close()
        finally:
            probe.ended = True
