"""A cell's database as a process uses it: opened at the first use, closed when idle, behind its guard."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from sqlalchemy import Connection

from cell_service.context import Clock, Deadline
from cell_service.db.sealing import Sealer
from cell_service.db.sql import drivers
from cell_service.db.sql.engine import Database, PoolLimits, is_deadlock
from cell_service.errors import CellUnavailable, DatabaseUnavailable
from mapping_db.cells.bulkhead import Flight
from mapping_db.cells.guard import Guard, ProbeFailed

T = TypeVar("T")

OpenDatabase = Callable[[str, PoolLimits], Database]

PROBE_SECONDS = 0.2
CONNECT_SECONDS = 0.4
READ_SECONDS = 60.0


def probe_limits(patience: float) -> PoolLimits:
    """One connection, for probes."""
    seconds = PROBE_SECONDS * patience
    return PoolLimits(size=1, overflow=0, wait_seconds=seconds, connect_seconds=seconds, read_seconds=seconds)


class CellDatabase:
    """The same verbs as cell_service.db.sql.engine.Database, each by a deadline.

    A thread that is in must not enter again before it has left: all places might be taken by such threads.
    """

    def __init__(
        self, cell: str, url: str, clock: Clock, *, places: int, waiting: int, open_database: OpenDatabase = Database,
        patience: float = 1.0,
    ) -> None:  # fmt: skip
        self.url = url
        self.guard = Guard(cell, "database", self, clock, places, waiting, patience)
        self._open_database = open_database
        self._limits = PoolLimits(
            size=places, overflow=0, wait_seconds=1.0, connect_seconds=CONNECT_SECONDS * patience,
            read_seconds=READ_SECONDS * max(1.0, patience),
        )  # fmt: skip
        self._probe_limits = probe_limits(patience)
        self._opening = threading.Lock()
        self._database: Database | None = None
        self._for_probes: Database | None = None

    @property
    def is_local(self) -> bool:
        """Whether it is a file that this process reads itself: there is no server that could be unreachable."""
        return self.url.startswith("sqlite")

    @contextlib.contextmanager
    def connect(self, deadline: Deadline) -> Iterator[Connection]:
        """A connection to read with.

        Raises CellUnavailable: at once when the breaker is open or too many wait, else by the deadline.
        """
        with self.guard.flight(deadline) as flight:
            try:
                with self._opened().connect() as connection:
                    flight.connection = connection.connection.dbapi_connection
                    yield connection
            except DatabaseUnavailable as error:
                raise self._failed(flight, error) from error

    def run(self, work: Callable[[Connection], T], deadline: Deadline) -> T:
        """Run `work` in a transaction, again after deadlocks. Raises CellUnavailable.

        It also raises when the connection breaks during the commit, whose outcome is then unknown.
        """
        with self.guard.flight(deadline) as flight:

            def claimed(tx: Connection) -> T:
                if deadline.remaining() <= 0:
                    raise self.guard.unavailable("no answer in time")
                flight.connection = tx.connection.dbapi_connection
                return work(tx)

            try:
                return self._opened().run(claimed)
            except DatabaseUnavailable as error:
                raise self._failed(flight, error) from error

    def sealer(self, deadline: Deadline) -> Sealer:
        """Seals and opens the secrets of this database; see Database.sealer.

        Raises CellUnavailable, SecretsUnreadable.
        """
        with self.guard.flight(deadline) as flight:
            try:
                return self._opened().sealer()
            except DatabaseUnavailable as error:
                raise self._failed(flight, error) from error

    def sealer_in(self, tx: Connection) -> Sealer:
        """As `sealer`, for a caller that is in a transaction of this database. Raises SecretsUnreadable."""
        return self._opened().sealer_in(tx)

    # -- for the guard --------------------------------------------------------------------------

    def probe(self) -> None:
        if self.is_local and not self.guard.breaker.is_open:
            return  # there is no server; when it is slow, this process or its disk is
        try:
            with self._opening:
                if self._for_probes is None:
                    self._for_probes = self._open_database(self.url, self._probe_limits)
                probing = self._for_probes
            probing.ping()
        except DatabaseUnavailable as error:
            raise ProbeFailed(
                str(error.fields["reason"]), unreachable=not drivers.server_answered(error.__cause__)
            ) from error

    def cut_off(self) -> None:
        if self._database is not None:
            self._database.cut()

    def cut_one(self, flight: Flight) -> None:
        if flight.connection is not None:
            drivers.cut(flight.connection)

    def shut(self) -> None:
        """Close all connections; the next use opens new ones."""
        with self._opening:
            closing = (self._database, self._for_probes)
            self._database = self._for_probes = None
        for database in closing:
            if database is not None:
                database.dispose()

    def _opened(self) -> Database:
        database = self._database
        if database is not None:
            return database
        with self._opening:
            if self._database is None:
                try:
                    self._database = self._open_database(self.url, self._limits)
                except Exception as error:  # a URL is outside data: any driver may refuse it with its own error
                    raise DatabaseUnavailable(reason=f"its URL is not usable ({type(error).__name__})") from error
            return self._database

    def _failed(self, flight: Flight, error: DatabaseUnavailable) -> CellUnavailable:
        """Report a caller's failure to the guard, and translate it into CellUnavailable."""
        reason = str(error.fields["reason"])
        if flight.overdue:
            return self.guard.unavailable("no answer in time")
        if is_deadlock(error.__cause__):
            return self.guard.unavailable(reason)
        if flight.connection is None:
            self.guard.lost(reason, unreachable=False)
        else:
            self.guard.suspect()
        return self.guard.unavailable(reason)
