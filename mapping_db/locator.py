"""Which cell owns an instance: process-local LRU, then memcached, then the global database.

Seam only so far; see the docstrings for what must hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Location:
    """Where an instance lives. `cell_id` None: accepted, in no cell yet. `epoch` grows with each change."""

    instance_uuid: str
    cell_id: int | None
    epoch: int
    project_id: str


class Locator(Protocol):
    """Hints for speed; correctness never depends on them."""

    def find(self, instance_uuid: str, *, fresh: bool = False) -> Location:
        """Where the instance lives; `fresh`: asked of the database, and the caches corrected.

        Raises InstanceNotFound (also, without a query, for ids that are no uuids), DatabaseUnavailable.
        """

    def find_many(self, instance_uuids: Iterable[str]) -> dict[str, Location]:
        """Those of the instances that are known."""

    def remember(self, location: Location) -> None:
        """Take over a location just written to the database, unless something newer is known."""

    def forget(self, instance_uuid: str) -> None:
        """Drop the instance from all caches."""
