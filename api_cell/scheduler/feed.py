"""Changes in the global database: which providers and host aggregates changed since the last poll."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection

from mapping_db import aggregates, host_mappings
from mapping_db.aggregates import Aggregate
from mapping_db.placement import changes, stock
from mapping_db.placement.stock import ProviderState

WHOLE_SECONDS = 300.0
"""How often everything is read again, whatever the feed says."""
HOLE_SECONDS = 60.0
"""How long an id that the feed jumped over may still appear."""
_HOLES = 10_000
"""More ids than that between two readings are no transactions still under way."""
_RECENT = 200
"""Among so many of the newest ids, a first reading waits for gaps to be filled."""


@dataclass(frozen=True, slots=True)
class News:
    """`whole`: `providers` are all there are; else those that changed, and `touched` has their ids, gone ones too."""

    whole: bool
    providers: dict[int, ProviderState]
    touched: frozenset[int] = frozenset()
    aggregates: list[Aggregate] | None = None
    mapped: dict[str, int] | None = None


class Feed:
    """For one reader at a time."""

    def __init__(self) -> None:
        self._last = 0
        self._holes: dict[int, float] = {}
        self._whole_at = float("-inf")

    def read(self, tx: Connection, now: float, also: Collection[int] = (), trees: Collection[int] = ()) -> News:
        """The changes since the last reading that returned, and the providers in `also`; `now` is monotonic. `trees`:
        see `stock.read`."""
        if now - self._whole_at >= WHOLE_SECONDS:
            return self._whole(tx, now)
        rows = changes.since(tx, self._last, self._holes)
        ids = frozenset(provider_id for _, provider_id in rows).union(also)
        news = News(
            whole=False,
            providers=stock.read(tx, ids - {changes.HOST_AGGREGATES}, trees) if ids else {},
            touched=ids - {changes.HOST_AGGREGATES},
            aggregates=aggregates.every(tx) if changes.HOST_AGGREGATES in ids else None,
        )
        self._pass({change for change, _ in rows}, now)
        return news

    def _whole(self, tx: Connection, now: float) -> News:
        start = max(0, changes.newest(tx) - _RECENT)
        recent = {change for change, _ in changes.since(tx, start)}
        news = News(
            whole=True,
            providers=stock.read(tx),
            aggregates=aggregates.every(tx),
            mapped={mapping.host: mapping.cell_id for mapping in host_mappings.every(tx)},
        )
        self._last, self._holes, self._whole_at = start, {}, now
        self._pass(recent, now)
        return news

    def _pass(self, seen: set[int], now: float) -> None:
        newest = max(seen, default=self._last)
        self._holes |= dict.fromkeys(range(max(self._last + 1, newest - _HOLES), newest), now)
        self._holes = {
            change: since for change, since in self._holes.items() if change not in seen and now - since < HOLE_SECONDS
        }
        self._last = max(self._last, newest)
