"""Cells on demand: opening a cell's database and queue at first use, and keeping a sick one from costing others.

Seam only so far; see the docstrings for what must hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from sqlalchemy import Connection

from cell_service.context import Deadline
from cell_service.errors import PolycellError
from cell_service.rpc.compute import Compute
from cell_service.rpc.transport import Transport

T = TypeVar("T")

CELL0_UUID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class CellMapping:
    """One row of `cell_mappings`, its URL templates filled in. `id` is the database's, small and never reused."""

    id: int
    uuid: str
    name: str
    transport_url: str
    database_connection: str
    disabled: bool = False

    @property
    def is_cell0(self) -> bool:
        return self.uuid == CELL0_UUID


class CellDatabase(Protocol):
    """A cell's database behind its bulkhead and breaker: the same verbs as cell_service.db.engine.Database."""

    def connect(self, deadline: Deadline) -> AbstractContextManager[Connection]:
        """Raises CellUnavailable: at once when the breaker is open or too many wait, else by the deadline."""

    def run(self, work: Callable[[Connection], T], deadline: Deadline) -> T:
        """A transaction, run again after deadlocks. Raises CellUnavailable."""


class Cell(Protocol):
    """An opened cell."""

    @property
    def mapping(self) -> CellMapping: ...

    @property
    def db(self) -> CellDatabase: ...

    @property
    def bus(self) -> Transport:
        """Its queue, behind the queue's breaker. Raises CellUnavailable in use."""

    def compute(self, host: str) -> Compute:
        """The agent of a host of this cell."""


class Cells(Protocol):
    """All cells, as the newest known topology has them."""

    def all(self) -> tuple[CellMapping, ...]:
        """Every cell mapping, cell0 among them, by id."""

    def open(self, cell_id: int) -> Cell:
        """The cell, connecting only when it is used. Raises CellMappingNotFound."""

    def cell0(self) -> Cell:
        """The cell of servers that found no host. Raises CellMappingNotFound when cell0 is not mapped."""

    def scatter(self, cell_ids: Iterable[int], work: Callable[[Cell], T], deadline: Deadline) -> Gathered[T]:
        """Do `work` on every cell at once; answers and failures, both values, by the one deadline."""


@dataclass(frozen=True, slots=True)
class Gathered(Generic[T]):
    """What each cell said, by cell id. Every cell asked is in exactly one of the two."""

    answers: Mapping[int, T]
    failures: Mapping[int, PolycellError]
