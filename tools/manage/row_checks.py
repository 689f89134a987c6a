"""Whether each cell's rows and the mappings of instances agree, batch by batch over all of them.

What seems wrong is read a second time, as the cloud goes on meanwhile; what is being built or moved is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection, select

from cell_service.context import Deadline
from cell_service.db import instance_bundles as bundles
from cell_service.db.schema import instances as table
from cell_service.errors import Conflict, InstanceMappingNotFound
from mapping_db import build_requests, host_moves, instance_mappings, moves
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from mapping_db.instance_mappings import InstanceMapping
from tools.manage import instances
from tools.manage.cloud import COMMAND_SECONDS
from tools.manage.findings import Finding, Level

BATCH = 1000
_FAIL_INTO_CELL0 = "mark it as gone, and release its quota"
_FIND_OR_FAIL = "map it to the cell that has its row, or mark it as gone where none has, and release its quota"
_SETTLED = timedelta(minutes=5)
"""The age at which a delete has come to its end everywhere."""


@dataclass(frozen=True, slots=True)
class Row:
    """The row that a cell has of an instance."""

    uuid: str
    hidden: bool
    deleted_at: datetime | None


def unplaced(cloud: Cloud) -> Iterator[Finding]:
    """Mappings that point at no cell, without build requests for their instances."""
    last = 0
    while True:
        with cloud.db.connect() as tx:
            page = instance_mappings.of_no_cell(tx, limit=BATCH, after_id=last)
            building = build_requests.get_many(tx, [each.instance_uuid for each in page])
            odd = [each.instance_uuid for each in page if each.instance_uuid not in building]
            again = instance_mappings.get_many(tx, odd)
        if not page:
            return
        last = page[-1].id
        for uuid, mapping in again.items():
            if mapping.cell_id is None and not mapping.gone:
                text = f"instance {uuid} is in no cell, and has no build request"
                yield Finding(
                    Level.ERROR, "instances", None, text, _FAIL_INTO_CELL0, partial(_fail_into_cell0, cloud, mapping)
                )


def _fail_into_cell0(cloud: Cloud, mapping: InstanceMapping) -> None:
    """Fail the instance into cell0, if the mapping is as it was."""
    from api_cell.servers import delete  # the packages of the API take a moment to load

    def work(tx: Connection) -> None:
        now = instance_mappings.get_many(tx, [mapping.instance_uuid]).get(mapping.instance_uuid)
        building = build_requests.get_many(tx, [mapping.instance_uuid])
        if now is not None and now.epoch == mapping.epoch and not building:
            delete.promise(tx, mapping.instance_uuid, cloud.clock.now())
            delete.forget(tx, mapping.instance_uuid)

    cloud.db.run(work)


class RowChecks:
    """The findings of one cell that answers and has the newest schema. Raises CellUnavailable when it is lost."""

    def __init__(self, cloud: Cloud, cell: Cell, step: Callable[[int], None]) -> None:
        self._cloud, self._cell, self._step = cloud, cell, step
        self._deadline = Deadline.after(COMMAND_SECONDS, cloud.clock)
        self._shown, self._id = cell.mapping.shown, cell.mapping.id

    def run(self) -> Iterator[Finding]:
        """Check first by the mappings that point at the cell, then by the rows that the cell has."""
        last = 0
        while True:
            with self._cloud.db.connect() as tx:
                page = instance_mappings.of_cell(tx, self._id, limit=BATCH, after_id=last)
            if not page:
                break
            yield from self._owned([mapping for mapping in page if not mapping.gone])
            last = page[-1].id
            self._step(len(page))
        last = 0
        while True:
            with self._cell.db.connect(self._deadline) as tx:
                query = select(table.c.id, table.c.uuid).where(table.c.id > last, table.c.deleted_at.is_(None))
                rows = tx.execute(query.order_by(table.c.id).limit(BATCH)).all()
            if not rows:
                return
            yield from self._present([row.uuid for row in rows])
            last = rows[-1].id
            self._step(len(rows))

    def _owned(self, page: Sequence[InstanceMapping]) -> Iterator[Finding]:
        rows = self._rows([mapping.instance_uuid for mapping in page])
        odd = [mapping.instance_uuid for mapping in page if self._decision(mapping, rows) is not None]
        if not odd:
            return
        busy = self._busy(odd)
        with self._cloud.db.connect() as tx:
            again = instance_mappings.get_many(tx, odd)
        rows = self._rows(odd)
        for uuid in odd:
            mapping = again.get(uuid)
            if uuid in busy or mapping is None or mapping.gone or mapping.cell_id != self._id:
                continue
            finding = self._decision(mapping, rows)
            if finding is not None:
                yield finding

    def _decision(self, mapping: InstanceMapping, rows: dict[str, Row]) -> Finding | None:
        uuid, row = mapping.instance_uuid, rows.get(mapping.instance_uuid)
        mend = partial(self._fail_into_cell0, mapping)
        if row is None:
            text = f"instance {uuid} is mapped to the cell, which has no row of it"
            return Finding(Level.ERROR, "instances", self._shown, text, _FIND_OR_FAIL, mend)
        if row.deleted_at is not None and self._cloud.clock.now() - row.deleted_at > _SETTLED:
            text = f"instance {uuid} is deleted in its cell, and its mapping says that it lives"
            return Finding(Level.WARNING, "instances", self._shown, text, _FAIL_INTO_CELL0, mend)
        if row.hidden and row.deleted_at is None:
            text = f"instance {uuid} is hidden in the cell that owns it, and nothing moves it"
            return Finding(Level.ERROR, "transit", self._shown, text, "show it again", partial(self._show, uuid))
        return None

    def _present(self, uuids: Sequence[str]) -> Iterator[Finding]:
        with self._cloud.db.connect() as tx:
            owners = instance_mappings.get_many(tx, uuids)
        odd = [uuid for uuid in uuids if uuid not in owners or owners[uuid].cell_id != self._id or owners[uuid].gone]
        if not odd:
            return
        busy = self._busy(odd)
        with self._cloud.db.connect() as tx:
            owners = instance_mappings.get_many(tx, odd)
        rows = self._rows(odd)
        for uuid in odd:
            row, owner = rows.get(uuid), owners.get(uuid)
            if uuid not in busy and row is not None and row.deleted_at is None:
                yield from self._stray(row, owner)

    def _stray(self, row: Row, owner: InstanceMapping | None) -> Iterator[Finding]:
        """A living row of an instance that is not the cell's, by what the mapping says."""
        uuid = row.uuid
        if owner is None:
            text = f"instance {uuid} has no mapping, so no user can see it"
            yield Finding(Level.ERROR, "instances", self._shown, text, "map it to this cell", partial(self._map, uuid))
        elif owner.cell_id != self._id and row.hidden:
            text = f"a hidden row of instance {uuid} is left from a move"
            yield Finding(Level.WARNING, "transit", self._shown, text, "remove the row, if its owner has one",
                          partial(self._remove, uuid, owner))  # fmt: skip
        elif owner.cell_id is not None and owner.cell_id != self._id:
            text = f"instance {uuid} lives here, and its mapping points at another cell"
            remedy = "hide the row here, or map it to this cell where the other has none"
            yield Finding(Level.ERROR, "instances", self._shown, text, remedy, partial(self._hide, uuid, owner))
        elif owner.gone:
            text = f"instance {uuid} lives, and its mapping says that it is gone"
            yield Finding(Level.ERROR, "instances", self._shown, text)

    def _rows(self, uuids: Sequence[str]) -> dict[str, Row]:
        found: dict[str, Row] = {}
        columns = select(table.c.uuid, table.c.hidden, table.c.deleted_at)
        with self._cell.db.connect(self._deadline) as tx:
            for start in range(0, len(uuids), BATCH):
                for row in tx.execute(columns.where(table.c.uuid.in_(uuids[start : start + BATCH]))):
                    found[row.uuid] = Row(row.uuid, row.hidden, row.deleted_at)
        return found

    def _busy(self, uuids: Sequence[str]) -> set[str]:
        """The instances that are being built or moved; all, while a host moves from or to the cell."""
        with self._cloud.db.connect() as tx:
            if any(self._id in (each.source_cell, each.target_cell) for each in host_moves.every(tx)):
                return set(uuids)
            building = build_requests.get_many(tx, uuids)
            return set(building) | moves.moving_among(tx, uuids)

    # -- mending ------------------------------------------------------------------------------

    def _fail_into_cell0(self, mapping: InstanceMapping) -> None:
        uuid = mapping.instance_uuid
        row = self._rows([uuid]).get(uuid)
        if row is not None and row.deleted_at is None:
            return
        if row is None and (having := self._elsewhere(uuid)) is not None:
            self._cloud.db.run(lambda tx: instance_mappings.move(tx, uuid, source=self._id, target=having))
        else:
            _fail_into_cell0(self._cloud, mapping)

    def _elsewhere(self, uuid: str) -> int | None:
        """The other cell that has a living row of the instance. Raises Conflict when it is not clear which, or when a
        cell does not answer, which may have it."""

        def living(cell: Cell) -> bool:
            query = select(table.c.id).where(table.c.uuid == uuid, table.c.deleted_at.is_(None))
            with cell.db.connect(self._deadline) as tx:
                return tx.scalar(query) is not None

        others = [each.id for each in self._cloud.cells.all() if each.id != self._id]
        gathered = self._cloud.cells.scatter(others, living, self._deadline)
        if gathered.failures:
            names = self._cloud.cells.names(gathered.failures)
            raise Conflict(reason=f"{names}, which may have it, does not answer.")
        found = [cell_id for cell_id, there in gathered.answers.items() if there]
        if len(found) > 1:
            raise Conflict(reason=f"{self._cloud.cells.names(found)} have it.")
        return found[0] if found else None

    def _show(self, uuid: str) -> None:
        self._cell.db.run(lambda tx: bundles.unfreeze(tx, [uuid]), self._deadline)

    def _hide(self, uuid: str, owner: InstanceMapping) -> None:
        """Only if the owner has the instance: else this row is all that is left of it, and the mapping is wrong."""
        source = owner.cell_id
        assert source is not None
        with self._cloud.cells.open(source).db.connect(self._deadline) as tx:
            there = bundles.present(tx, [uuid])
        if there:
            self._cell.db.run(lambda tx: bundles.set_hidden(tx, [uuid], True), self._deadline)
            return
        with self._cloud.db.connect() as tx:
            now = instance_mappings.get_many(tx, [uuid]).get(uuid)
        if now is not None and now.cell_id == source:
            self._cloud.db.run(lambda tx: instance_mappings.move(tx, uuid, source=source, target=self._id))

    def _map(self, uuid: str) -> None:
        instances.map_some(self._cloud, self._cell, [uuid], self._deadline)

    def _remove(self, uuid: str, owner: InstanceMapping) -> None:
        """Remove the row, but only if the owner has the instance: else this might be all that is left of it."""
        with self._cloud.db.connect() as tx:
            try:
                owner = instance_mappings.get(tx, uuid)
            except InstanceMappingNotFound:
                return
        if owner.cell_id is None or owner.cell_id == self._id:
            return
        with self._cloud.cells.open(owner.cell_id).db.connect(self._deadline) as tx:
            there = bundles.present(tx, [uuid])
        if there or owner.gone:
            self._cell.db.run(lambda tx: bundles.remove(tx, [uuid]), self._deadline)
