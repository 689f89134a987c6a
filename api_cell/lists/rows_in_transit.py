"""Rows that pass from one cell to another while both are being read.

Its new cell may have been read before the row came and its old one after it left: then neither has shown it. Moves
between cells are rare and known, so a list checks whether there were any while it was read, and only then reads again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from api_cell.lists.merge import Merge
from mapping_db import host_moves, moves
from mapping_db.cloud import Cloud

T = TypeVar("T")

READINGS = 12
"""The most times that a list is read."""
SLACK = timedelta(seconds=10)
"""The clocks of super-conductors and of API processes differ by less."""


class CrossingCells:
    """The cells that instances have come to, or left, since this was made; perhaps some more."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._since = cloud.clock.now() - SLACK
        self._before = self._of_hosts()

    def cells(self) -> set[int]:
        with self._cloud.db.connect() as tx:
            found = moves.crossing_since(tx, self._since)
        return found | self._before | self._of_hosts()

    def _of_hosts(self) -> set[int]:
        with self._cloud.db.connect() as tx:
            return {cell_id for move in host_moves.every(tx) for cell_id in (move.source_cell, move.target_cell)}


def read_whole(cloud: Cloud, read: Callable[[], tuple[T, Merge[Any]]]) -> T:
    """The result of `read` on a merge, repeated until no row was missed because it changed its cell meanwhile."""
    for last in range(READINGS, 0, -1):
        crossing = CrossingCells(cloud)
        answer, merge = read()
        if last == 1 or not merge.lacks_rows_of(crossing.cells()):
            break
    return answer
