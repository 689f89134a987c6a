"""The global database in a process that serves many requests: behind a breaker, like each cell's.

While it does not answer, requests that need it are refused at once, so that requests which need only a known cell and
a cached mapping have threads to run on.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

from sqlalchemy import Connection
from sqlalchemy.exc import TimeoutError as PoolTimeout

from cell_service.context import SYSTEM_CLOCK, Clock, Deadline
from cell_service.db.sql import drivers
from cell_service.db.sql.engine import Database, PoolLimits, is_deadlock
from cell_service.errors import CellUnavailable, DatabaseUnavailable
from mapping_db.cells.bulkhead import Flight
from mapping_db.cells.database import CONNECT_SECONDS, probe_limits
from mapping_db.cells.guard import Guard, ProbeFailed

LONGEST_SECONDS = 60.0
"""How long one request may wait for the database and use it."""


class GlobalDatabase(Database):
    """A Database that sends nothing while its breaker is open. `guard` must be watched: see Cells.

    As many threads may be in it as its pool has connections. A thread that is in may enter again.
    """

    def __init__(
        self,
        url: str,
        limits: PoolLimits | None = None,
        clock: Clock = SYSTEM_CLOCK,
        secret_keys: Sequence[str] = (),
        patience: float = 1.0,
    ) -> None:
        """`patience`: see CellSettings."""
        limits = limits or PoolLimits()
        limited = replace(limits, connect_seconds=min(limits.connect_seconds, CONNECT_SECONDS * patience))
        super().__init__(url, limited, secret_keys)
        self._clock = clock
        places = limits.size + limits.overflow
        self.guard = Guard("the global one", "database", self, clock, places, waiting=1000, patience=patience)
        self._probes = Database(url, probe_limits(patience))
        self._inside = threading.local()

    @contextlib.contextmanager
    def connect(self) -> Iterator[Connection]:
        """As Database.connect. Raises DatabaseUnavailable, at once while the breaker is open."""
        with self._entered() as flight, super().connect() as connection:
            flight.connection = connection.connection.dbapi_connection
            yield connection

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        """As Database.begin. Raises DatabaseUnavailable, at once while the breaker is open."""
        with self._entered() as flight, super().begin() as tx:
            flight.connection = tx.connection.dbapi_connection
            yield tx

    def dispose(self) -> None:
        super().dispose()
        self._probes.dispose()

    # -- for the guard --------------------------------------------------------------------------

    def probe(self) -> None:
        if self.dialect == "sqlite" and not self.guard.breaker.is_open:
            return  # there is no server that could be unreachable
        try:
            self._probes.ping()
        except DatabaseUnavailable as error:
            raise ProbeFailed(
                str(error.fields["reason"]), unreachable=not drivers.server_answered(error.__cause__)
            ) from error

    def cut_off(self) -> None:
        self.cut()

    def cut_one(self, flight: Flight) -> None:
        if flight.connection is not None:
            drivers.cut(flight.connection)

    def shut(self) -> None:
        self.dispose()

    @contextlib.contextmanager
    def _entered(self) -> Iterator[Flight]:
        if getattr(self._inside, "flight", None) is not None:
            yield Flight(self._clock.monotonic(), self._inside.flight.deadline)
            return
        with contextlib.ExitStack() as stay:
            try:
                flight = stay.enter_context(self.guard.flight(Deadline.after(LONGEST_SECONDS, self._clock)))
            except CellUnavailable as error:
                raise DatabaseUnavailable(reason=str(error.fields["reason"])) from error
            self._inside.flight = flight
            try:
                yield flight
            except DatabaseUnavailable as error:
                self._judge(flight, error)
                raise
            finally:
                self._inside.flight = None

    def _judge(self, flight: Flight, error: DatabaseUnavailable) -> None:
        cause = error.__cause__
        if flight.overdue or is_deadlock(cause) or isinstance(cause, PoolTimeout):
            return
        if flight.connection is None:
            self.guard.lost(str(error.fields["reason"]), unreachable=False)
        else:
            self.guard.suspect()
