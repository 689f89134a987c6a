"""Allocations are compared with the instances of all cells, so that drift shows before it costs anybody a place.

It is only counted and logged: `placement heal_allocations` and `placement audit` mend it. Of a cell that does not
answer nothing is said. Any super-conductor does it; what one has begun, the others leave alone for the interval.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import Connection

from api_cell.superconductor.context import SuperConductorContext
from cell_service.errors import CellUnavailable
from cell_service.logs import about
from mapping_db.placement import comparisons, drift
from mapping_db.placement.comparisons import Comparison
from mapping_db.placement.drift import Drift

log = logging.getLogger(__name__)

PAGE_SECONDS = 30.0
REST_SECONDS = 0.2
"""The pause after each page of instances."""
LOGGED = 50
"""How much of the drift is logged one by one."""


def compare(deps: SuperConductorContext, stopping: threading.Event) -> Comparison | None:
    """Compare them all, if that is due; answers what was found, None when it is not due or was stopped. Raises
    DatabaseUnavailable."""
    cloud = deps.cloud
    begun = cloud.db.run(lambda tx: _begun(tx, deps))
    if begun is None:
        return None
    found: Counter[drift.DriftKind] = Counter()
    missed: list[str] = []
    compared = 0

    def counted(some: Iterator[Drift]) -> None:
        for each in some:
            found[each.kind] += 1
            if found.total() <= LOGGED:
                log.error("allocations differ: %s", each.text)

    def rest(instances: int) -> None:
        nonlocal compared
        compared += instances
        cloud.clock.wait(stopping, REST_SECONDS)

    counted(drift.of_nothing(cloud, stopping))
    for mapping in cloud.cells.all():
        if mapping.is_cell0:
            continue
        try:
            counted(drift.of_cell(cloud, cloud.cells.open(mapping.id), PAGE_SECONDS, rest, stopping))
        except CellUnavailable as error:
            log.warning("allocations not compared", extra=about(None, cell=mapping.shown, reason=error))
            missed.append(mapping.shown)
    if stopping.is_set():
        return None
    now = cloud.clock.now()
    ended = replace(begun, ended_at=now, instances=compared, found=dict(found), missed=missed)
    cloud.db.run(lambda tx: comparisons.put(tx, ended, now))
    log.info(
        "allocations compared",
        extra=about(None, instances=compared, differ=found.total(), missed=", ".join(missed) or "none"),
    )
    return ended


def _begun(tx: Connection, deps: SuperConductorContext) -> Comparison | None:
    """The comparison, if it is due, recorded as begun with what the last one found."""
    now, last = deps.cloud.clock.now(), comparisons.newest(tx)
    if last is not None and now - last.begun_at < timedelta(seconds=deps.settings.compare_seconds):
        return None
    begun = Comparison(now, None, 0, {}, ()) if last is None else replace(last, begun_at=now)
    comparisons.put(tx, begun, now)
    return begun
