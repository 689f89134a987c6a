"""Deleted servers are archived and purged, in all cells and globally, while everything else goes on.

The global side of a batch goes first: an instance that its cell still has is found there again after a kill, a mapping
without an instance would not be. Any number may do it at once; what one has removed is not there for the next.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from api_cell.superconductor.context import SuperConductorContext
from cell_service.context import Deadline
from cell_service.db import archive
from cell_service.db import instance_bundles as bundles
from cell_service.errors import CellUnavailable
from cell_service.logs import about
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from mapping_db.locating import forgetting

log = logging.getLogger(__name__)

BATCH = 200
PURGE_ROWS = 2000
BATCH_SECONDS = 60.0
REST = 0.25
"""The pause before the next batch, as a share of the time that one took."""

Stopped = Callable[[], bool]


@dataclass(slots=True)
class Done:
    """Rows by table, `glob` those of the global database; the cells that did not answer."""

    cells: dict[str, Counter[str]] = field(default_factory=dict)
    glob: Counter[str] = field(default_factory=Counter)
    unreachable: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Without the global ones."""
        return sum(sum(counter.values()) for counter in self.cells.values())

    def add(self, cell: Cell, rows: Counter[str]) -> None:
        self.cells.setdefault(cell.name, Counter()).update(rows)


def archive_deleted(
    cloud: Cloud, cell: Cell, done: Done, *, before: datetime | None = None, keep: bool = True,
    most_rows: int | None = None, stopped: Stopped = lambda: False
) -> None:  # fmt: skip
    """Archive the cell's deleted instances, up to about `most_rows` rows in `done` (one instance at least).

    No request finds an archived instance any more. Raises CellUnavailable, DatabaseUnavailable.
    """
    after_id, before_all = 0, done.rows
    while not stopped() and (most_rows is None or done.rows < most_rows):
        began = cloud.clock.monotonic()
        deadline = Deadline.after(BATCH_SECONDS, cloud.clock)
        with cell.db.connect(deadline) as tx:
            dead, last = archive.deleted(tx, before=before, after_id=after_id, limit=BATCH)
        if last is None:
            return
        chosen = (
            dead if most_rows is None else _fitting(dead, most_rows - done.rows, at_least_one=done.rows == before_all)
        )
        if dead and not chosen:
            return
        after_id = last if len(chosen) == len(dead) else chosen[-1].id
        if not chosen:
            continue
        uuids = [each.uuid for each in chosen]
        with cloud.db.connect() as tx:
            uuids = forgetting.forgettable(tx, uuids, cell.mapping.id)
        done.glob.update(cloud.db.run(lambda tx: forgetting.forget(tx, uuids)))  # noqa: B023  done within the turn
        for uuid in uuids:
            cloud.locator.forget(uuid)
        done.add(cell, cell.db.run(lambda tx: archive.archive(tx, uuids, keep=keep), deadline))  # noqa: B023
        _rest(cloud, began)


def forget_remains(cloud: Cloud, done: Done, stopped: Stopped = lambda: False) -> None:
    """Delete mappings of gone instances whose cells have nothing of them any more, or that never had a cell."""
    for page in remains(cloud, stopped):
        done.glob.update(cloud.db.run(lambda tx, page=page: forgetting.forget(tx, page)))  # type: ignore[misc]
        for uuid in page:
            cloud.locator.forget(uuid)


def remains(cloud: Cloud, stopped: Stopped = lambda: False) -> Iterator[list[str]]:
    """Pages of the instances whose mappings `forget_remains` deletes."""
    after_id = 0
    while not stopped():
        with cloud.db.connect() as tx:
            page = forgetting.gone_page(tx, after_id=after_id, limit=BATCH)
        if not page:
            return
        after_id = page[-1][0]
        by_cell: dict[int | None, list[str]] = {}
        for _, uuid, cell_id in page:
            by_cell.setdefault(cell_id, []).append(uuid)
        found = by_cell.pop(None, [])
        for cell_id, uuids in by_cell.items():
            assert cell_id is not None
            cell = cloud.cells.open(cell_id)
            try:
                with cell.db.connect(Deadline.after(BATCH_SECONDS, cloud.clock)) as tx:
                    there = set(bundles.present(tx, uuids))
            except CellUnavailable:
                continue  # unknown while the cell is down
            found += [uuid for uuid in uuids if uuid not in there]
        if found:
            yield found


def purge_archived(
    cloud: Cloud, cell: Cell, done: Done, *, before: datetime | None = None, stopped: Stopped = lambda: False
) -> None:
    """Empty the cell's shadow tables, or remove from them what was deleted before then. Raises CellUnavailable."""
    if before is None:
        for table in archive.SHADOWS:
            _repeated(cloud, cell, done, stopped, lambda tx, table=table: Counter(
                {table.name: archive.purge(tx, table, PURGE_ROWS)}))  # fmt: skip
    else:
        _repeated(cloud, cell, done, stopped, lambda tx: archive.purge_before(tx, before, BATCH))


def keep_up(deps: SuperConductorContext, stopped: Stopped) -> Done:
    """Archive and purge as [retention] says, once over all cells. An unreachable cell is done next time."""
    cloud, options, done = deps.cloud, deps.settings.retention, Done()
    now = cloud.clock.now()
    for mapping in cloud.cells.all():
        cell = cloud.cells.open(mapping.id)
        try:
            if options.deleted_days:
                before = now - timedelta(days=options.deleted_days)
                archive_deleted(cloud, cell, done, before=before, keep=not options.purge, stopped=stopped)
            if options.archived_days:
                purge_archived(cloud, cell, done, before=now - timedelta(days=options.archived_days), stopped=stopped)
        except CellUnavailable as error:
            done.unreachable.append(cell.name)
            log.warning("deleted servers not archived", extra=about(None, cell=cell.name, reason=error))
    if done.rows:
        log.info("deleted servers archived or purged", extra=about(None, rows=done.rows))
    return done


def _repeated(cloud: Cloud, cell: Cell, done: Done, stopped: Stopped, work: Callable[..., Counter[str]]) -> None:
    while not stopped():
        began = cloud.clock.monotonic()
        rows = cell.db.run(work, Deadline.after(BATCH_SECONDS, cloud.clock))
        if not sum(rows.values()):
            return
        done.add(cell, rows)
        _rest(cloud, began)


def _fitting(dead: Sequence[archive.Dead], limit: int, *, at_least_one: bool) -> list[archive.Dead]:
    """The first of them whose rows are not more than `limit`; with `at_least_one` the first one in any case."""
    chosen: list[archive.Dead] = []
    for each in dead:
        if each.rows > limit and (chosen or not at_least_one):
            break
        limit -= each.rows
        chosen.append(each)
    return chosen


def _rest(cloud: Cloud, began: float) -> None:
    cloud.clock.wait(threading.Event(), REST * (cloud.clock.monotonic() - began))
