"""One sorted sequence out of the sorted rows of many cells: each read in small pages, all of them at once.

A cell's next page is requested before its last one runs out, if it seems that it will be needed; so a list keeps few
rows more than it gives, however many cells there are. A cell that fails is a value: another source may go on in
its place where it stopped, else its rows are missing.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from math import sqrt
from typing import Any, Generic, TypeVar

from cell_service.context import Deadline
from cell_service.errors import Invalid, PolycellError
from mapping_db.cells.registry import Cell, Cells
from mapping_db.cells.scatter import Pending

T = TypeVar("T")

MOST_ROWS = 1000
"""The longest page that is requested of a cell."""


@dataclass(frozen=True, slots=True)
class RowSource(Generic[T]):
    """The source of a list's rows. `page` gives a cell's next rows, sorted, after the one given (None: from the
    beginning).

    `order` gives the key by which rows are compared. `instead` does as `page` for a cell that does not answer; without
    it, or where it answers None, the rows of such a cell are missing.
    """

    page: Callable[[Cell, T | None, int], list[T]]
    order: Callable[[T], Any]
    identity: Callable[[T], Any]
    instead: Callable[[int, T | None, int], list[T] | None] | None = None


@dataclass(slots=True)
class _Source(Generic[T]):
    """One cell's rows, of which those before `at` are given."""

    cell_id: int
    rows: list[T] = field(default_factory=list)
    at: int = 0
    last: T | None = None
    given: int = 0
    size: int = 1
    ended: bool = False
    local: bool = False
    pending: Pending[list[T]] | None = None

    @property
    def left(self) -> int:
        return len(self.rows) - self.at


class Merge(Generic[T]):
    """Iterates over the rows of these cells in order, each identity once. About `want` of them will be taken.

    `failures` are the cells that did not answer, as far as is known. `missing` those of them whose rows may be
    missing from what was given. Raises Invalid from a cell: then the query is wrong, not the cell.
    """

    def __init__(
        self, cells: Cells, deadline: Deadline, cell_ids: Iterable[int], kind: RowSource[T], want: int,
        alongside: Iterable[T] = (),
    ) -> None:  # fmt: skip
        self.failures: dict[int, PolycellError] = {}
        self.missing: set[int] = set()
        self._cells, self._deadline, self._kind, self._want = cells, deadline, kind, want
        ids = list(dict.fromkeys(cell_ids))
        self._sources = [_Source[T](cell_id, size=_first_page(want, len(ids))) for cell_id in ids]
        apart = _Source[T](0, rows=sorted(alongside, key=kind.order), ended=True)
        self._alone = len(ids) == 1
        self._given = 0
        self._seen: set[Any] = set()
        self._newest: T | None = None
        self._ended = False
        for source in self._sources:
            self._ask(source)
        self._sources.append(apart)

    def __iter__(self) -> Iterator[T]:
        heap: list[tuple[Any, int, T]] = []
        for number, source in enumerate(self._sources):
            self._push(heap, number, source)
        seen = self._seen
        while heap:
            _, number, row = heap[0]
            source = self._sources[number]
            source.given += 1
            self._given += 1
            self._foresee(source)
            identity = self._kind.identity(row)
            if identity not in seen:
                seen.add(identity)
                self._newest = row
                yield row
            self._push(heap, number, source)  # only when another row is wanted
        self._ended = True

    def lacks_rows_of(self, cell_ids: Collection[int]) -> bool:
        """Whether one of these cells has a row by now that should have been given, and was not: it came too late.
        Those that do not answer have none."""
        end = None if self._ended else self._newest
        asking = sorted(set(cell_ids) - self.failures.keys())
        size = min(max(self._want, 1), MOST_ROWS)
        for pending in [self._cells.ask(each, lambda cell: self._kind.page(cell, None, size)) for each in asking]:
            try:
                rows = pending.result(self._deadline)
            except PolycellError:
                continue
            for row in rows:
                before = end is None or self._kind.order(row) < self._kind.order(end)
                if before and self._kind.identity(row) not in self._seen:
                    return True
        return False

    def _push(self, heap: list[tuple[Any, int, T]], number: int, source: _Source[T]) -> None:
        """Push the source's next row: it replaces the heap's top if that was of this source, else it is inserted."""
        if not source.left and not source.ended:
            self._receive(source)
        mine = bool(heap) and heap[0][1] == number
        if source.left:
            row = source.rows[source.at]
            source.at += 1
            source.last = row
            item = (self._kind.order(row), number, row)
            if mine:
                heapq.heapreplace(heap, item)
            else:
                heapq.heappush(heap, item)
        elif mine:
            heapq.heappop(heap)

    def _foresee(self, source: _Source[T]) -> None:
        """Request the next page early, if what is left of this one will hardly do."""
        if source.ended or source.local or source.pending is not None or source.left * 2 > source.size:
            return
        wanted = self._want - self._given
        still = wanted * source.given / self._given
        if source.left < min(wanted, still + 2 * sqrt(max(still, 0.0))):
            source.size = min(source.size * 2, MOST_ROWS)
            self._ask(source)

    def _ask(self, source: _Source[T]) -> None:
        after = source.rows[-1] if source.rows else source.last
        size, page = source.size, self._kind.page
        source.pending = self._cells.ask(source.cell_id, lambda cell: page(cell, after, size), here=self._alone)

    def _receive(self, source: _Source[T]) -> None:
        if source.local:
            self._replace(source)
            return
        if source.pending is None:
            source.size = min(source.size * 2, MOST_ROWS)
            self._ask(source)
        assert source.pending is not None
        try:
            rows = source.pending.result(self._deadline)
        except Invalid:
            raise
        except PolycellError as error:
            self.failures[source.cell_id] = error
            source.local, source.pending = True, None
            self._replace(source)
            return
        source.pending = None
        source.rows, source.at, source.ended = rows, 0, len(rows) < source.size

    def _replace(self, source: _Source[T]) -> None:
        instead = self._kind.instead
        rows = None if instead is None else instead(source.cell_id, source.last, source.size)
        if rows is None:
            self.missing.add(source.cell_id)
        source.rows, source.at, source.ended = rows or [], 0, len(rows or []) < source.size


def _first_page(want: int, cells: int) -> int:
    """How many rows to read of each cell so that most lists need no second page of any, if rows are spread evenly."""
    if cells <= 1:
        return min(max(want, 1), MOST_ROWS)
    mean = want / cells
    return min(int(mean + 3 * sqrt(mean)) + 2, max(want, 1), MOST_ROWS)
