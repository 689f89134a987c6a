"""Lists read while rows come, go, change, and pass from cell to cell: what did not change is on the pages, once."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import pytest
from sqlalchemy import select

from api_cell.lists.merge import Merge, RowSource
from api_cell.lists.rows_in_transit import READINGS, read_whole
from cell_service.context import Deadline
from cell_service.db import instance_bundles
from cell_service.db.schema import instances as table
from cell_service.model.move import MoveKind, MovePhase
from mapping_db import instance_mappings, moves
from mapping_db.cells.registry import Cell
from mapping_db.moves import Move
from tests.edge.client import Client, Reply
from tests.lists.world import T0, Placed, World, minutes, ok, pages, server

CELLS = ("cell1", "cell2", "cell3")
STEADY = range(1, 31)
RESTLESS = range(101, 116)
"""These are renamed, deleted and made again meanwhile."""
MOVES_A_PAGE = (READINGS - 1) // 2 - 1
"""So many servers move while a page is asked for, and one that began before: each can be in the way of two readings of
it, and one reading is left that none is in the way of."""


class Mover:
    """Passes servers from one cell to another as moves do, one after the other, until told to stop."""

    def __init__(self, world: World, seed: int, *, renames: bool = True) -> None:
        self.world, self.random, self.renames = world, random.Random(seed), renames
        self.at = {server(number).uuid: self.random.choice(CELLS) for number in (*STEADY, *RESTLESS)}
        self.done, self.target, self.left = 0, "", 0

    def placed(self) -> list[Placed]:
        return [
            Placed(server(number, display_name=f"n{number % 7}", created_at=minutes(number % 5), launched_at=T0), where)
            for number, where in zip((*STEADY, *RESTLESS), self.at.values(), strict=True)
        ]

    def move(self, uuid: str) -> None:
        source = self.at[uuid]
        target = self.target or self.random.choice([name for name in CELLS if name != source])
        api, clock = self.world.api, self.world.api.clock
        ids = api.cell_ids
        number = f"{self.random.getrandbits(128):032x}"
        move = Move(
            number, uuid, MoveKind.COLD, MovePhase.GOING, "r", "u1", "p1", clock.now(), ids[source], None,
            active=uuid, target_cell=ids[target],
        )  # fmt: skip
        api.db.run(lambda tx: moves.insert_new(tx, move))
        api.in_cell(source, lambda tx: instance_bundles.freeze(tx, [uuid], now=clock.now()))
        bundles = api.in_cell(source, lambda tx: instance_bundles.read(tx, [uuid], operations=True))
        api.in_cell(target, lambda tx: instance_bundles.write(tx, bundles, hidden=True))
        api.db.run(lambda tx: instance_mappings.move(tx, uuid, source=ids[source], target=ids[target]))
        api.in_cell(target, lambda tx: instance_bundles.unfreeze(tx, [uuid]))
        api.in_cell(source, lambda tx: instance_bundles.remove(tx, [uuid]))
        ended = {"phase": MovePhase.DONE, "finished_at": clock.now(), "active": None}
        api.db.run(lambda tx: moves.record(tx, move, clock.now(), **ended))
        self.at[uuid] = target
        self.done += 1

    def disturb(self) -> None:
        """One of the restless ones gets another name, or goes or comes again."""
        uuid = server(self.random.choice(RESTLESS)).uuid
        where, name = self.at[uuid], f"n{self.random.randrange(9)}"
        ended = self.random.choice([None, None, T0])
        changed = {"display_name": name} if self.renames else {"progress": self.random.randrange(9)}
        self.world.api.in_cell(
            where,
            lambda tx: tx.execute(
                table.update().where(table.c.uuid == uuid).values(changed | {"deleted_at": ended, "updated_at": T0})
            ),
        )

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            if self.left:
                self.left -= 1
                self.move(self.random.choice(list(self.at)))
                self.disturb()
            else:
                stop.wait(0.001)

    def get(self, path: str, *, version: str, by: Client | None = None) -> Reply:
        """Ask for a page, while some more servers move."""
        self.left = MOVES_A_PAGE
        return (by or self.world.user).get(path, version=version)


@contextmanager
def moving(world: World, seed: int, *, renames: bool = True) -> Iterator[Mover]:
    mover, stop = Mover(world, seed, renames=renames), threading.Event()
    world.fill(mover.placed())
    failed: list[BaseException] = []

    def work() -> None:
        try:
            mover.run(stop)
        except BaseException as error:  # noqa: BLE001  shown by the test
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield mover
    finally:
        stop.set()
        thread.join()
    assert not failed, failed
    assert mover.done


@pytest.mark.parametrize(
    "query", ["", "sort_key=display_name", "sort_key=created_at&sort_dir=asc&status=ACTIVE", "name=n"]
)
@pytest.mark.parametrize("limit", [4, 100])
@pytest.mark.parametrize("path", ["/servers", "/servers/detail"])
def test_servers_that_move_are_never_missed(world: World, query: str, limit: int, path: str) -> None:
    steady = {server(number).uuid for number in STEADY}
    one_page = limit == 100  # of several the last server, where the next page begins, must keep its name
    with moving(world, seed=limit, renames=one_page) as mover:
        for _ in range(12 if one_page else 3):
            found = pages(mover, f"{path}?{query}", "servers", limit)
            assert [each for each in found if each in steady and found.count(each) > 1] == []
            assert steady - set(found) == set()


def test_what_leaves_before_its_cell_is_read_and_comes_after_is_there(world: World) -> None:
    mover = Mover(world, seed=1)
    mover.at = dict.fromkeys(mover.at, "cell2")
    uuid = sorted(mover.at)[4]
    world.fill(mover.placed())
    cloud, looked, readings = world.api.cloud, threading.Event(), []

    def page(cell: Cell, after: str | None, limit: int) -> list[str]:
        if cell.name == "cell2" and not mover.done:
            assert looked.wait(60)
            mover.target = "cell1"
            mover.move(uuid)
        with cell.db.connect(Deadline.after(60)) as tx:
            query = select(table.c.uuid).where(table.c.uuid > (after or "")).order_by(table.c.uuid).limit(limit)
            found = list(tx.scalars(query))
        if cell.name == "cell1":
            looked.set()
        return found

    def read() -> tuple[list[str], Merge[str]]:
        ids = [world.api.cell_ids[name] for name in CELLS]
        merge = Merge(cloud.cells, Deadline.after(60), ids, RowSource(page, str, str), want=20)
        readings.append(found := list(islice(merge, 20)))
        return found, merge

    assert read_whole(cloud, read) == sorted(mover.at)[:20]
    assert uuid not in readings[0]
    assert uuid in readings[-1]


def test_usage_of_servers_that_move_is_counted_once(world: World) -> None:
    steady = {server(number).uuid for number in STEADY}
    path = f"/os-simple-tenant-usage/p1?start={T0:%Y-%m-%dT%H:%M:%S}&end={minutes(60):%Y-%m-%dT%H:%M:%S}"
    with moving(world, seed=3) as mover:
        for _ in range(20):
            usage = ok(mover.get(path, by=world.admin, version="2.39")).json["tenant_usage"]["server_usages"]
            found = [each["instance_id"] for each in usage if each["instance_id"] in steady]
            assert sorted(found) == sorted(steady)
