"""Whether hosts are up, as servers' documents show it: read from each cell at most once in a while."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cell_service.context import Context
from cell_service.db import services
from cell_service.model.host import Service
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud

FRESH_SECONDS = 2.0


def _last_report(service: Service) -> datetime:
    return service.last_seen_up or service.created_at


@dataclass(frozen=True, slots=True)
class _Known:
    at: float
    by_host: dict[str, Service]


class HostStates:
    """The compute services of cells, each at most FRESH_SECONDS old. Thread-safe."""

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}
        self._reading = threading.Lock()

    def of(self, cloud: Cloud, ctx: Context, cell_ids: Iterable[int]) -> dict[str, Service]:
        """Service by host, of those of the cells that answer; those of a cell that is down are left out."""
        wanted = list(cell_ids)
        if self._stale(cloud, wanted):
            with self._reading:
                self._read(cloud, ctx, self._stale(cloud, wanted))
        found: dict[str, Service] = {}
        for cell_id in wanted:
            known = self._known.get(cell_id)
            # a host on its way between two cells is in both: it lives where its newest heartbeat is
            for host, service in known.by_host.items() if known is not None else ():
                other = found.get(host)
                if other is None or _last_report(service) >= _last_report(other):
                    found[host] = service
        return found

    def _stale(self, cloud: Cloud, cell_ids: list[int]) -> list[int]:
        since = cloud.clock.monotonic() - FRESH_SECONDS
        return [each for each in cell_ids if each not in self._known or self._known[each].at < since]

    def _read(self, cloud: Cloud, ctx: Context, cell_ids: list[int]) -> None:
        def read(cell: Cell) -> list[Service]:
            with cell.db.connect(ctx.deadline) as tx:
                return services.list_all(tx, binary=services.COMPUTE)

        now = cloud.clock.monotonic()
        gathered = cloud.cells.scatter(cell_ids, read, ctx.deadline)
        for cell_id in gathered.failures:
            self._known.pop(cell_id, None)
        for cell_id, answer in gathered.answers.items():
            self._known[cell_id] = _Known(now, {service.host: service for service in answer})
