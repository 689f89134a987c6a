"""A host with all that is on it goes to another cell, while its guests run on. See docs/flows.md.

Every step may be repeated, and is recorded when it is done: the command, run again after a kill, goes on with the
first that is not. Instances are copied in batches; the mapping of each decides which cell owns it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from cell_service.context import Deadline, internal
from cell_service.db import host_rows, instance_bundles
from cell_service.db import upgrades as migrate
from cell_service.errors import Conflict, Unavailable
from cell_service.logs import about
from mapping_db import host_mappings, host_moves, instance_mappings, moves
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from mapping_db.host_moves import HostMove, HostMoveStep

log = logging.getLogger(__name__)

BATCH = 50
PAUSE_SECONDS = 0.1
JOIN_SECONDS = 3.0
WAIT_SECONDS = 120.0

Report = Callable[[str, int], None]
"""Called with the step that has just been done, and the number of its instances."""


class HostMoveRefused(Conflict):
    """The host can't be moved, and nothing was changed that would have to be undone."""

    message = "Host {host} cannot be moved: {reason}"


class HostMoveUnfinished(Unavailable):
    """The move is not finished; begun again, it goes on with the first step that is not recorded."""

    message = "Host {host} is not in its new cell yet: {reason}"


class HostMover:
    """One host's move. `wait_seconds`: how long to wait for work that runs, and for the host to answer."""

    def __init__(
        self, cloud: Cloud, host: str, *, wait_seconds: float = WAIT_SECONDS, report: Report | None = None
    ) -> None:
        self._cloud, self._host, self._wait_seconds = cloud, host, wait_seconds
        self._report = report or (lambda what, count: None)
        self._deadline = Deadline.after(wait_seconds + 3600, cloud.clock)

    def move(self, target_id: int) -> bool:
        """Move the host to the target cell, with all its instances. False when it was there already.

        Raises HostMappingNotFound, CellMappingNotFound, HostMoveRefused, HostMoveUnfinished, CellUnavailable.
        """
        going = self._begun(target_id)
        if going is None:
            return False
        source, target = self._cloud.cells.open(going.source_cell), self._cloud.cells.open(going.target_cell)
        steps: tuple[tuple[HostMoveStep, Callable[[Cell, Cell], None]], ...] = (
            (HostMoveStep.LEAVING, self._leave),
            (HostMoveStep.ANNOUNCED, self._announce),
            (HostMoveStep.INSTANCES, self._copy_all),
            (HostMoveStep.MAPPED, self._map),
            (HostMoveStep.SWITCHED, self._switch),
        )
        order = list(HostMoveStep)
        for step, work in steps:
            if order.index(going.step) >= order.index(step):
                continue
            work(source, target)
            going = self._record(going, step)
        self._finish(source, target)
        return True

    def abort(self) -> None:
        """Abort the move: the host stays where it is, as if nothing had been begun. Raises HostMoveRefused once an
        instance has gone, or when there is nothing to undo."""
        with self._cloud.db.connect() as tx:
            going = host_moves.get(tx, self._host)
        if going is None:
            raise self._refused("no move of it was begun")
        source, target = self._cloud.cells.open(going.source_cell), self._cloud.cells.open(going.target_cell)
        with target.db.connect(self._deadline) as tx:
            copied = instance_bundles.on_host(tx, self._host, limit=100_000)
        with self._cloud.db.connect() as tx:
            gone = [one for one in instance_mappings.places(tx, copied).values() if one.cell_id == target.mapping.id]
        if gone or list(HostMoveStep).index(going.step) >= list(HostMoveStep).index(HostMoveStep.INSTANCES):
            raise self._refused("instances have gone already; begin it again to bring the rest over")
        now = self._cloud.clock.now()
        for batch in _batches(copied):
            target.db.run(lambda tx, some=batch: instance_bundles.remove(tx, some), self._deadline)  # type: ignore[misc]
        with source.db.connect(self._deadline) as tx:
            frozen = instance_bundles.on_host(tx, self._host, limit=100_000)
        for batch in _batches(frozen):
            source.db.run(lambda tx, some=batch: instance_bundles.unfreeze(tx, some), self._deadline)  # type: ignore[misc]
        target.db.run(lambda tx: host_rows.remove_empty(tx, self._host, now), self._deadline)
        source.db.run(lambda tx: host_rows.set_leaving(tx, self._host, False, now), self._deadline)
        self._cloud.db.run(lambda tx: host_moves.end(tx, self._host))
        log.info("move of a host undone", extra=about(None, host=self._host, cell=source.name))

    # -- the steps ----------------------------------------------------------------------------------

    def _begun(self, target_id: int) -> HostMove | None:
        with self._cloud.db.connect() as tx:
            going, mapping = host_moves.get(tx, self._host), host_mappings.get(tx, self._host)
        if going is None:
            if mapping.cell_id == target_id:
                return None
            self._check(self._cloud.cells.open(mapping.cell_id), self._cloud.cells.open(target_id))
        now = self._cloud.clock.now()
        begun = self._cloud.db.run(
            lambda tx: host_moves.begin(tx, self._host, source=mapping.cell_id, target=target_id, now=now)
        )
        if going is None and (moving := self._moving()):
            self._cloud.db.run(lambda tx: host_moves.end(tx, self._host))
            raise self._refused(f"these instances are just moving from or to it: {', '.join(moving[:20])}")
        self._report(begun.step.value, 0)
        return begun

    def _moving(self) -> list[str]:
        """The instances with an unfinished move from or to the host. One that begins later finds that the host
        moves."""
        with self._cloud.db.connect() as tx:
            return [
                one.instance_uuid for one in moves.unfinished(tx) if self._host in (one.source_host, one.target_host)
            ]

    def _check(self, source: Cell, target: Cell) -> None:
        """Raises HostMoveRefused, CellUnavailable."""
        if target.mapping.is_cell0:
            raise self._refused("cell0 has no hosts")
        if source.mapping.database_connection == target.mapping.database_connection:
            raise self._refused("both cells have the same database")
        with source.db.connect(self._deadline) as tx:
            there, version = host_rows.read(tx, self._host), migrate.stored_version(tx)
            living, unfinished = (
                instance_bundles.living_on_host(tx, self._host),
                instance_bundles.work_for_others(tx, self._host),
            )
        with target.db.connect(self._deadline) as tx:
            other = migrate.stored_version(tx)
        if version != other:
            raise self._refused(f"the schemas of the cells differ ({version}, {other}); sync them first")
        if there is None:
            raise self._refused(f"cell {source.name} does not know it")
        with self._cloud.db.connect() as tx:
            places = instance_mappings.places(tx, living)
            leaving = sorted({one.instance_uuid for one in moves.unfinished(tx)}.intersection(living))
        lost = [uuid for uuid in living if uuid not in places or places[uuid].cell_id != source.mapping.id]
        for reason, named in (
            ("these instances are just moving from or to it", self._moving()),
            ("it has still to clear up after these instances", unfinished),
            ("other hosts have still to clear up after these instances", leaving),
            ("these instances on it are not mapped to its cell", lost),
        ):
            if named:
                raise self._refused(f"{reason}: {', '.join(sorted(named)[:20])}")

    def _leave(self, source: Cell, target: Cell) -> None:
        now = self._cloud.clock.now()
        source.db.run(lambda tx: host_rows.set_leaving(tx, self._host, True, now), self._deadline)

    def _announce(self, source: Cell, target: Cell) -> None:
        with source.db.connect(self._deadline) as tx:
            rows = host_rows.read(tx, self._host)
        if rows is None:
            raise HostMoveUnfinished(host=self._host, reason=f"cell {source.name} does not know it any more")
        target.db.run(lambda tx: host_rows.announce(tx, rows), self._deadline)

    def _copy_all(self, source: Cell, target: Cell) -> None:
        """Copy all instances of the host, so that none is left in the source. This waits for those with an operation
        under way."""
        until = Deadline.after(self._wait_seconds, self._cloud.clock)
        while True:
            with source.db.connect(self._deadline) as tx:
                uuids = instance_bundles.on_host(tx, self._host, BATCH)
            if not uuids:
                return
            if self._copy_rows(source, target, uuids):
                continue
            if until.remaining() <= 0:
                raise HostMoveUnfinished(host=self._host, reason=f"something is still done with {', '.join(uuids[:5])}")
            self._pause()

    def _copy_rows(self, source: Cell, target: Cell, uuids: Sequence[str]) -> int:
        """Copy those of the instances that have no operation under way to the target. Answers how many."""
        with self._cloud.db.connect() as tx:
            places = instance_mappings.places(tx, uuids)
        arrived = [uuid for uuid in uuids if uuid in places and places[uuid].cell_id == target.mapping.id]
        staying = [uuid for uuid in uuids if uuid in places and places[uuid].cell_id == source.mapping.id]
        coming = [uuid for uuid in uuids if uuid in places and places[uuid].cell_id is None]
        unmapped = [uuid for uuid in uuids if uuid not in {*arrived, *staying, *coming}]
        dead = self._dead(source, unmapped)
        frozen = source.db.run(
            lambda tx: instance_bundles.freeze(tx, staying + dead, now=self._cloud.clock.now()), self._deadline
        )  # fmt: skip
        self._report("frozen", len(frozen))
        with source.db.connect(self._deadline) as tx:
            bundles = instance_bundles.read(tx, frozen, operations=True)
        if any(bundle.has_secrets for bundle in bundles):
            bundles = instance_bundles.reseal(
                bundles, source.db.sealer(self._deadline), target.db.sealer(self._deadline)
            )
        target.db.run(lambda tx: instance_bundles.write(tx, bundles, hidden=True), self._deadline)
        self._report("copied", len(frozen))
        arrived += self._own(frozen, source, target) + [uuid for uuid in frozen if uuid in dead]
        self._report("owned", len(arrived))
        with target.db.connect(self._deadline) as tx:
            arrived = instance_bundles.present(tx, arrived)
        target.db.run(lambda tx: instance_bundles.unfreeze(tx, arrived), self._deadline)
        self._report("shown", len(arrived))
        source.db.run(lambda tx: instance_bundles.remove(tx, arrived), self._deadline)
        self._report("removed", len(arrived))
        return len(arrived)

    def _dead(self, source: Cell, unmapped: list[str]) -> list[str]:
        """Deleted instances of which only the cell's row is left. A living one without a mapping stops everything."""
        if not unmapped:
            return []
        with source.db.connect(self._deadline) as tx:
            living = set(instance_bundles.living_on_host(tx, self._host)).intersection(unmapped)
        if living:
            raise HostMoveUnfinished(
                host=self._host,
                reason=f"these instances on it are in no cell, or in a third: {', '.join(sorted(living))}",
            )
        return unmapped

    def _own(self, uuids: list[str], source: Cell, target: Cell) -> list[str]:
        """Point the mappings of the instances at the target, which owns them from here on."""
        source_id, target_id = source.mapping.id, target.mapping.id
        self._cloud.db.run(lambda tx: instance_mappings.move_many(tx, uuids, source=source_id, target=target_id))
        with self._cloud.db.connect() as tx:
            places = instance_mappings.places(tx, uuids)
        for location in places.values():
            self._cloud.locator.remember(location)
        return [uuid for uuid, location in places.items() if location.cell_id == target_id]

    def _map(self, source: Cell, target: Cell) -> None:
        self._cloud.db.run(
            lambda tx: host_mappings.move(tx, self._host, source=source.mapping.id, target=target.mapping.id)
        )

    def _switch(self, source: Cell, target: Cell) -> None:
        """Have the host serve its new cell's queue. It is called in either cell, until it registers in the new one."""
        until = Deadline.after(self._wait_seconds, self._cloud.clock)
        delivered = False
        while not self._heard_of(target):
            if until.remaining() <= 0:
                raise HostMoveUnfinished(host=self._host, reason="its agent does not answer")
            delivered = delivered or self._order_join(source, target)
            self._pause()

    def _order_join(self, source: Cell, target: Cell) -> bool:
        for cell in (source, target):
            try:
                ctx = internal(self._cloud.clock, JOIN_SECONDS)
                cell.compute(self._host).join_cell(ctx, target.mapping.transport_url, target.name)
            except Unavailable as error:
                log.info(
                    "host not reached about its new cell",
                    extra=about(None, host=self._host, cell=cell.name, reason=error),
                )
                continue
            self._report("notified", 0)
            return True
        return False

    def _heard_of(self, target: Cell) -> bool:
        with target.db.connect(self._deadline) as tx:
            return host_rows.is_heard_of(tx, self._host)

    def _finish(self, source: Cell, target: Cell) -> None:
        """Move the builds that were sent to the old cell at the last moment as well, so that nothing is left there."""
        now = self._cloud.clock.now()
        target.db.run(lambda tx: host_rows.set_leaving(tx, self._host, False, now), self._deadline)
        self._report("arrived", 0)
        while True:
            self._copy_all(source, target)
            if source.db.run(lambda tx: host_rows.remove_empty(tx, self._host, now), self._deadline):
                break
        self._cloud.db.run(lambda tx: host_moves.end(tx, self._host))
        self._report("done", 0)
        log.info("host has moved", extra=about(None, host=self._host, cell=target.name, was=source.name))
        try:
            target.compute(self._host).wake(internal(self._cloud.clock, JOIN_SECONDS))
        except Unavailable as error:
            log.info("host not woken", extra=about(None, host=self._host, reason=error))

    def _record(self, going: HostMove, step: HostMoveStep) -> HostMove:
        now = self._cloud.clock.now()
        after = self._cloud.db.run(lambda tx: host_moves.record(tx, going, step, now))
        self._report(step.value, 0)
        return after

    def _pause(self) -> None:
        self._cloud.clock.wait(threading.Event(), PAUSE_SECONDS)

    def _refused(self, reason: str) -> HostMoveRefused:
        return HostMoveRefused(host=self._host, reason=reason)


def _batches(uuids: Sequence[str]) -> list[Sequence[str]]:
    return [uuids[start : start + BATCH] for start in range(0, len(uuids), BATCH)]
