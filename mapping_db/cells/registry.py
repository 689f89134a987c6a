"""Cells on demand: a cell's database and queue are opened at first use, and a sick cell costs the others nothing."""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TypeVar

from cell_service.context import SYSTEM_CLOCK, Clock, Deadline
from cell_service.db.sql.engine import Database
from cell_service.errors import CellMappingNotFound, PolycellError
from cell_service.logs import about
from cell_service.loop import Duty, Loop
from cell_service.rpc.compute import Compute
from cell_service.rpc.conductor import Conductor
from cell_service.rpc.contract import client
from mapping_db.cell_mappings import CELL0_UUID, CellMapping
from mapping_db.cells.bus import CellBus, OpenTransport
from mapping_db.cells.database import CellDatabase, OpenDatabase
from mapping_db.cells.guard import TICK_SECONDS, Guard, ServerHealth
from mapping_db.cells.scatter import Gathered, Pending, Threads, begin, gather
from mapping_db.cells.topology import Snapshot, Topology

__all__ = ["CELL0_UUID", "Cell", "CellDatabase", "CellHealth", "CellMapping", "CellSettings", "Cells", "Gathered"]

log = logging.getLogger(__name__)

LATENESS_EXPONENT = 3
"""A check that is n times as late as it should be counts as 1/n³ of one: on an overloaded machine a missing answer is
more likely this process's fault than the cell's."""

T = TypeVar("T")

PROBED_AT_ONCE = 16
"""Each probe is a thread for some milliseconds."""
UNHEARD_SECONDS = 15.0
"""A server of a cell that has answered no probe for so long is probed when someone wants to know of its health."""

DRAIN_SECONDS = 5.0
"""How long a server that the topology no longer names must have been unused before it is closed."""


@dataclass(frozen=True, slots=True)
class CellSettings:
    """The process's own URLs fill the templates of cell mappings; the other settings limit what one cell may cost."""

    database_connection: str = ""
    transport_url: str = ""
    places: int = 8
    """Database work in flight in one cell at a time; also its connections."""
    waiting: int = 24
    calls: int = 32
    """Messages in flight to one cell's queue at a time, calls with their answers among them."""
    threads: int = 4
    """Threads that one cell may use while many cells are read at once."""
    idle_seconds: float = 600.0
    poll_seconds: float = 1.0
    patience: float = 1.0
    """How many times as long as usual a server may take to connect or to answer a probe before it counts as down."""


@dataclass(frozen=True, slots=True)
class Cell:
    """An opened cell: a value for the length of one request; it connects when it is used."""

    mapping: CellMapping
    db: CellDatabase
    """Its database, behind bulkhead and breaker."""
    bus: CellBus
    """Its queue, behind bulkhead and breaker; a Transport. Raises CellUnavailable in use."""

    def compute(self, host: str) -> Compute:
        """The agent of a host of this cell."""
        return client(Compute, self.bus, host)

    def conductor(self) -> Conductor:
        """The cell's conductors."""
        return client(Conductor, self.bus)

    @property
    def name(self) -> str:
        """The cell in logs and errors."""
        return self.mapping.shown


@dataclass(frozen=True, slots=True)
class CellHealth:
    """A cell's health as this process sees it; a server that was never used here counts as healthy.

    `unusable`: why its mapping cannot be used; empty when it can.
    """

    mapping: CellMapping
    database: ServerHealth
    queue: ServerHealth
    unusable: str = ""


_UNUSED = ServerHealth("", 0)


class Cells:
    """All cells, as the newest known topology has them. `start` before use, `close` at the end, or use `with`."""

    def __init__(
        self,
        db: Database,
        open_transport: OpenTransport,
        clock: Clock = SYSTEM_CLOCK,
        settings: CellSettings | None = None,
        open_database: OpenDatabase = Database,
        watched: Sequence[Guard] = (),
    ) -> None:
        """`watched`: guards of other servers, to be checked like the cells' own."""
        self._watched = tuple(watched)
        self._settings = settings or CellSettings()
        self._clock, self._open_transport, self._open_database = clock, open_transport, open_database
        self._topology = Topology(db, self._settings.database_connection, self._settings.transport_url)
        self._threads = Threads(self._settings.threads, backlog=16)
        self._changing = threading.Lock()
        self._cells: dict[int, Cell] = {}
        self._retired: list[CellDatabase | CellBus] = []
        self._checked_at, self._strain = clock.monotonic(), 1.0
        self._loops = tuple(
            Loop(name, [Duty(name, work, seconds, delay=seconds)], clock)
            for name, seconds, work in (
                ("watch-topology", self._settings.poll_seconds, self._follow),
                ("watch-cells", TICK_SECONDS, self._check),
            )
        )

    def __enter__(self) -> Cells:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def start(self) -> None:
        """Begin to follow the topology and to check the requests in flight."""
        for loop in self._loops:
            loop.start()

    def close(self) -> None:
        """Stop watching and close all connections. Safe to call twice."""
        for loop in self._loops:
            loop.stop()
        with self._changing:
            servers = list(self._servers())
            self._cells.clear()
            self._retired.clear()
        for server in servers:
            server.shut()

    def refresh(self) -> None:
        """Read the topology from the global database now. Raises DatabaseUnavailable."""
        self._topology.read()
        self._adopt()

    def all(self) -> tuple[CellMapping, ...]:
        """Every cell mapping, cell0 among them, by id. Raises DatabaseUnavailable only when nothing is known yet."""
        return tuple(self._topology.current().by_id.values())

    def snapshot(self) -> Snapshot:
        """The newest known topology, without a query. Raises DatabaseUnavailable only when none is known yet."""
        return self._topology.current()

    def open(self, cell_id: int) -> Cell:
        """The cell, connecting only when it is used. Raises CellMappingNotFound.

        A cell that is not known yet is looked for in the global database first; then also DatabaseUnavailable.
        """
        return self._cells.get(cell_id) or self._new(cell_id)

    def name(self, cell_id: int) -> str:
        """The cell's name, for people; of a cell that this process does not know its number."""
        known = self._topology.newest
        mapping = known.by_id.get(cell_id) if known is not None else None
        return mapping.shown if mapping is not None else str(cell_id)

    def names(self, cell_ids: Iterable[int]) -> str:
        """The cells' names, for people, in the order of the cells."""
        return ", ".join(self.name(cell_id) for cell_id in sorted(cell_ids))

    def cell0(self) -> Cell:
        """The cell of servers that found no host. Raises CellMappingNotFound when cell0 is not mapped."""
        for snapshot in (self._topology.current, self._topology.read):
            for mapping in snapshot().by_id.values():
                if mapping.is_cell0:
                    return self.open(mapping.id)
        raise CellMappingNotFound(cell=CELL0_UUID)

    def scatter(
        self, cell_ids: Iterable[int], work: Callable[[Cell], T], deadline: Deadline, *, reads: bool = False
    ) -> Gathered[T]:  # fmt: skip
        """Do `work` on every cell at once, and return answers and failures as values, by the one deadline.

        With one cell it is done on the caller's thread; so is the work on a cell whose database is a local file, if
        it only reads that (`reads`). An error that is no PolycellError is a bug and propagates.
        """
        failures: dict[int, PolycellError] = {}
        works: dict[int, Callable[[], T]] = {}
        local: set[int] = set()
        for cell_id in dict.fromkeys(cell_ids):
            try:
                cell = self.open(cell_id)
            except PolycellError as error:
                failures[cell_id] = error
                continue
            works[cell_id] = partial(work, cell)
            if reads and cell.db.is_local:
                local.add(cell_id)
        gathered = gather(works, self._threads, deadline, local, self.name)
        return Gathered(gathered.answers, {**failures, **gathered.failures}) if failures else gathered

    def ask(self, cell_id: int, work: Callable[[Cell], T], *, here: bool = False) -> Pending[T]:
        """Begin `work`, which reads the cell's database, on one cell. With `here`, or when the database is a local
        file, the caller's thread does it. The work's errors are in the result, and not raised here."""
        try:
            cell = self.open(cell_id)
        except PolycellError as error:
            failed: Pending[T] = Pending(cell_id, self.name(cell_id))
            failed.fail(error)
            return failed
        job = partial(work, cell)
        if not (here or cell.db.is_local):
            return begin(cell_id, cell.name, job, self._threads)
        pending: Pending[T] = Pending(cell_id, cell.name)
        pending.run(job)
        return pending

    def watch_used(self) -> None:
        """Have those servers of cells probed, out of band, that this process has used and that have answered no probe
        for a while: so `health` knows of one that failed while no request needed it. None is connected to for that, and
        only some are probed at a time, those first that were heard of longest ago."""
        unheard: list[tuple[float, Guard]] = []
        for cell in list(self._cells.values()):
            for guard in (cell.db.guard, cell.bus.guard):
                seconds = guard.unheard_seconds()
                if seconds is not None and seconds > UNHEARD_SECONDS:
                    unheard.append((seconds, guard))
        for _, guard in heapq.nlargest(PROBED_AT_ONCE, unheard, key=lambda each: each[0]):
            guard.suspect()

    def health(self) -> dict[int, CellHealth]:
        """The health of each known cell as this process sees it, by cell id."""
        known = self._topology.newest
        found: dict[int, CellHealth] = {}
        if known is None:
            return found
        for mapping in known.by_id.values():
            cell = self._cells.get(mapping.id)
            database, queue = (cell.db.guard.health(), cell.bus.guard.health()) if cell else (_UNUSED, _UNUSED)
            found[mapping.id] = CellHealth(mapping, database, queue, known.unusable.get(mapping.id, ""))
        return found

    # -- changes of the topology ----------------------------------------------------------------

    def _new(self, cell_id: int) -> Cell:
        mapping = self._topology.current().by_id.get(cell_id) or self._topology.read().by_id.get(cell_id)
        if mapping is None:
            raise CellMappingNotFound(cell=f"number {cell_id}")
        with self._changing:
            if cell_id not in self._cells:
                self._cells[cell_id] = self._made(mapping, None)
            return self._cells[cell_id]

    def _made(self, mapping: CellMapping, before: Cell | None) -> Cell:
        """A cell with this mapping, which keeps the servers that are the same as before."""
        settings = self._settings
        if before is not None and before.db.url == mapping.database_connection:
            db = before.db
        else:
            db = CellDatabase(
                mapping.shown, mapping.database_connection, self._clock,
                places=settings.places, waiting=settings.waiting, open_database=self._open_database,
                patience=settings.patience,
            )  # fmt: skip
        if before is not None and before.bus.url == mapping.transport_url:
            bus = before.bus
        else:
            bus = CellBus(
                mapping.shown, mapping.transport_url, self._clock,
                places=settings.calls, waiting=settings.waiting, open_transport=self._open_transport,
                patience=settings.patience,
            )  # fmt: skip
        return Cell(mapping, db, bus)

    def _follow(self) -> None:
        if self._topology.watch() is not None:
            self._adopt()

    def _adopt(self) -> None:
        """Make opened cells agree with the newest snapshot; servers that it no longer names are drained and closed."""
        known = self._topology.newest
        if known is None:
            return
        with self._changing:
            for cell_id, cell in list(self._cells.items()):
                mapping = known.by_id.get(cell_id)
                if mapping == cell.mapping:
                    continue
                after = None if mapping is None else self._made(mapping, cell)
                if after is None:
                    del self._cells[cell_id]
                else:
                    self._cells[cell_id] = after
                kept = () if after is None else (after.db, after.bus)
                self._retired += [server for server in (cell.db, cell.bus) if server not in kept]
                log.info("cell changed", extra=about(None, cell=cell.mapping.shown, gone=after is None))

    # -- watching -------------------------------------------------------------------------------

    def _check(self) -> None:
        now = self._clock.monotonic()
        late = max(1.0, (now - self._checked_at) / TICK_SECONDS)
        self._checked_at = now
        self._strain += (late - self._strain) / 5
        weight = self._strain**-LATENESS_EXPONENT
        for guard in self._watched:
            guard.check(weight)
        for server in self._servers():
            server.guard.check(weight)
            if server.guard.idle_seconds() > self._settings.idle_seconds:
                server.shut()
        drained = [server for server in list(self._retired) if server.guard.idle_seconds() > DRAIN_SECONDS]
        for server in drained:
            server.guard.retire()
            with self._changing:
                self._retired.remove(server)

    def _servers(self) -> Iterator[CellDatabase | CellBus]:
        for cell in list(self._cells.values()):
            yield cell.db
            yield cell.bus
        yield from list(self._retired)
