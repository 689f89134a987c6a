from __future__ import annotations

import shutil
import socket
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from cell_service.context import SYSTEM_CLOCK, Deadline, internal
from cell_service.db.sql.engine import Database
from cell_service.errors import CellMappingNotFound, CellUnavailable, DatabaseUnavailable, InstanceNotFound, NoConsumer
from cell_service.rpc.compute import Compute
from cell_service.rpc.contract import dispatcher
from mapping_db import cell_mappings
from mapping_db.cells import registry
from mapping_db.cells.guard import Guard
from mapping_db.cells.registry import CELL0_UUID, Cell, CellSettings
from tests.mapping_db.conftest import NOW, Federation, soon, who
from tests.real.databases import wait_until

QUICK = CellSettings(poll_seconds=0.05)


def test_each_cell_is_asked_in_its_own_database(federation: Federation) -> None:
    near, far = federation.add("near"), federation.add("far")
    cells = federation.cells()
    assert [who(cells.open(cell)) for cell in (near, far)] == ["near", "far"]
    assert [mapping.name for mapping in cells.all()] == ["near", "far"]


def test_nothing_is_opened_before_it_is_used(federation: Federation, tmp_path: Path) -> None:
    cell = federation.add("near", database_url=f"sqlite:///{tmp_path / 'untouched.sqlite'}")
    federation.cells().open(cell)
    assert not (tmp_path / "untouched.sqlite").exists()
    assert federation.buses == {}


def test_a_transaction_in_a_cell_commits_or_leaves_nothing(federation: Federation) -> None:
    cell = federation.cells().open(federation.add("near"))
    cell.db.run(lambda tx: tx.execute(text("UPDATE who SET name = 'changed'")), soon())
    assert who(cell) == "changed"
    with pytest.raises(ZeroDivisionError):
        cell.db.run(lambda tx: tx.execute(text("DELETE FROM who")).rowcount / 0, soon())
    assert who(cell) == "changed"


# -- topology ---------------------------------------------------------------------------------


def test_a_new_cell_is_known_as_soon_as_somebody_names_it(federation: Federation) -> None:
    cells = federation.cells(CellSettings(poll_seconds=3600))
    assert cells.all() == ()
    assert who(cells.open(federation.add("new"))) == "new"
    with pytest.raises(CellMappingNotFound):
        cells.open(99)


def test_a_changed_url_takes_effect_by_itself_and_leaves_other_cells_alone(federation: Federation) -> None:
    moving, staying = federation.add("moving"), federation.add("staying")
    cells = federation.cells(QUICK)
    before = cells.open(staying).db
    assert who(cells.open(moving)) == "moving"
    old = cells.open(moving)
    federation.change("moving", database_connection=federation.url("elsewhere"))
    wait_until(lambda: who(cells.open(moving)) == "elsewhere", "the change was not noticed")
    assert cells.open(staying).db is before
    assert who(old) == "moving", "who is at work with the old one may finish"
    assert cells.open(moving).bus is old.bus


def test_disabling_and_deleting_take_effect_by_themselves(federation: Federation) -> None:
    cell = federation.add("near")
    cells = federation.cells(QUICK)
    assert not cells.open(cell).mapping.disabled
    federation.change("near", disabled=True)
    wait_until(lambda: cells.open(cell).mapping.disabled, "the change was not noticed")
    assert who(cells.open(cell)) == "near", "its servers can still be managed"
    with federation.top.begin() as tx:
        cell_mappings.remove(tx, cells.all()[0].uuid)

    def gone() -> bool:
        try:
            cells.open(cell)
        except CellMappingNotFound:
            return True
        return False

    wait_until(gone, "the change was not noticed")
    assert cells.all() == ()


def test_known_cells_go_on_while_the_global_database_is_down(federation: Federation, tmp_path: Path) -> None:
    cell = federation.add("near")
    cells = federation.cells(QUICK)
    cells.refresh()
    federation.top.dispose()
    for path in tmp_path.glob("top.sqlite*"):
        shutil.move(path, tmp_path / f"away-{path.name}")
    (tmp_path / "top.sqlite").mkdir()
    wait_until(lambda: cells._topology._unreachable, "the loss was not noticed")
    assert who(cells.open(cell)) == "near"
    with pytest.raises(DatabaseUnavailable):
        cells.open(99)
    (tmp_path / "top.sqlite").rmdir()
    for path in tmp_path.glob("away-top*"):
        shutil.move(path, tmp_path / path.name.removeprefix("away-"))
    federation.change("near", database_connection=federation.url("after"))
    wait_until(lambda: who(cells.open(cell)) == "after", "its return was not noticed")


def test_templates_are_filled_from_the_own_urls(federation: Federation, tmp_path: Path) -> None:
    federation.url("far")
    cell = federation.add("x", database_url="{scheme}:////{path}", transport_url="{scheme}://{username}@cell")
    own = CellSettings(database_connection=f"sqlite:///{tmp_path / 'far.sqlite'}", transport_url="memory://me@top")
    opened = federation.cells(own).open(cell)
    assert who(opened) == "far"
    assert opened.mapping.transport_url == "memory://me@cell"


def test_a_template_that_cannot_be_filled_costs_only_its_cell(federation: Federation) -> None:
    bad, good = federation.add("bad", database_url="mysql://{username}:{password}@h:{port}/x"), federation.add("good")
    cells = federation.cells()
    gathered = cells.scatter([bad, good], who, soon())
    assert gathered.answers == {good: "good"}
    assert isinstance(gathered.failures[bad], CellUnavailable)
    assert "username" in cells.health()[bad].unusable
    assert cells.health()[good].unusable == ""


def test_the_health_of_a_server_says_whether_it_was_ever_reached(federation: Federation) -> None:
    cell = federation.add("x")
    cells = federation.cells()
    cells.refresh()
    assert not cells.health()[cell].database.reached
    assert who(cells.open(cell)) == "x"
    health = cells.health()[cell]
    assert (health.database.reached, health.queue.reached) == (True, False)


def test_cell0_is_found_by_its_uuid_and_has_no_queue(federation: Federation) -> None:
    cells = federation.cells()
    with pytest.raises(CellMappingNotFound):
        cells.cell0()
    with federation.top.begin() as tx:
        cell_mappings.insert_new(
            tx, uuid=CELL0_UUID, name="cell0", transport_url="none:///", database_connection=federation.url("zero"),
            now=NOW,
        )  # fmt: skip
    assert who(cells.cell0()) == "zero"
    with pytest.raises(NoConsumer):
        cells.cell0().compute("h").wake(internal())


# -- many cells -------------------------------------------------------------------------------


def test_answers_and_failures_come_back_as_values(federation: Federation) -> None:
    ids = {name: federation.add(name) for name in ("a", "b", "c")}

    def work(cell: Cell) -> str:
        if cell.mapping.name == "b":
            raise InstanceNotFound(instance_id="x")
        return who(cell)

    gathered = federation.cells().scatter([*ids.values(), 77], work, soon())
    assert gathered.answers == {ids["a"]: "a", ids["c"]: "c"}
    assert {cell: type(error) for cell, error in gathered.failures.items()} == {
        ids["b"]: InstanceNotFound,
        77: CellMappingNotFound,
    }


def test_a_cell_that_is_late_is_a_failure_and_wastes_only_its_own_threads(federation: Federation) -> None:
    slow, quick = federation.add("slow"), federation.add("quick")
    cells = federation.cells(CellSettings(threads=1))
    release = threading.Event()

    def work(cell: Cell) -> str:
        if cell.mapping.name == "slow":
            release.wait(60)
        return cell.mapping.name

    for _ in range(20):  # more than the slow cell's threads and its backlog
        gathered = cells.scatter([slow, quick], work, Deadline.after(0.02))
        if quick in gathered.failures:  # this machine was too busy for twenty milliseconds
            continue
        assert gathered.answers == {quick: "quick"}
        assert isinstance(gathered.failures[slow], CellUnavailable)
    release.set()
    wait_until(lambda: slow in cells.scatter([slow, quick], work, soon()).answers, "the slow cell stays stuck")


def test_a_bug_flies(federation: Federation) -> None:
    ids = [federation.add(name) for name in ("a", "b")]
    with pytest.raises(ZeroDivisionError):
        federation.cells().scatter(ids, lambda cell: 1 / 0, soon())


def test_one_cell_is_asked_on_the_callers_thread(federation: Federation) -> None:
    gathered = federation.cells().scatter([federation.add("a")], lambda cell: threading.get_ident(), soon())
    assert list(gathered.answers.values()) == [threading.get_ident()]


def test_no_cells_give_no_answers(federation: Federation) -> None:
    gathered = federation.cells().scatter([], who, soon())
    assert (dict(gathered.answers), dict(gathered.failures)) == ({}, {})


# -- sick cells -------------------------------------------------------------------------------


def test_a_server_that_takes_connections_and_says_nothing_costs_the_others_nothing(federation: Federation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        sick = [federation.add(kind, f"{kind}://nova:s3kret@{address}/nova") for kind in ("mysql", "postgresql")]
        well = federation.add("well")
        cells = federation.cells()
        deadline = soon()
        gathered = cells.scatter([*sick, well], who, deadline)
        assert gathered.answers == {well: "well"}
        assert deadline.remaining() > 30, "each was given up long before the deadline"
        for cell in sick:
            assert isinstance(gathered.failures[cell], CellUnavailable)
            assert cells.health()[cell].database.is_open
            with pytest.raises(CellUnavailable) as refused:
                who(cells.open(cell))
            assert "s3kret" not in repr(refused.value.fields)


def test_a_refused_connection_opens_the_breaker_and_says_why(federation: Federation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    cell = federation.add("gone", f"mysql://nova:s3kret@127.0.0.1:{port}/nova")
    cells = federation.cells()
    with pytest.raises(CellUnavailable):
        who(cells.open(cell))
    assert "refused" in cells.health()[cell].database.reason


def test_a_cell_whose_schema_was_never_synced_is_a_failure_not_a_bug(federation: Federation, tmp_path: Path) -> None:
    empty, well = federation.add("empty", f"sqlite:///{tmp_path / 'empty.sqlite'}"), federation.add("well")
    gathered = federation.cells().scatter([empty, well], who, soon())
    assert gathered.answers == {well: "well"}
    assert isinstance(gathered.failures[empty], CellUnavailable)


def test_a_silent_queue_is_refused_until_it_is_back(federation: Federation) -> None:
    cells = federation.cells()
    cell = cells.open(federation.add("near"))
    woken: list[str] = []

    class Agent(Compute):
        def wake(self, ctx: object) -> None:
            woken.append("h1")

    agent = federation.open_transport("memory://near").serve("compute.h1", dispatcher(Agent()))
    cell.compute("h1").wake(internal())
    bus = federation.buses["memory://near"]
    bus.unreachable.set()
    with pytest.raises(CellUnavailable):
        cell.compute("h1").wake(internal())
    wait_until(lambda: cells.health()[cell.mapping.id].queue.is_open, "the breaker stays closed")
    assert who(cell) == "near", "its database has a breaker of its own"
    bus.unreachable.clear()
    wait_until(lambda: not cells.health()[cell.mapping.id].queue.is_open, "the breaker stays open")
    cell.compute("h1").wake(internal())
    wait_until(lambda: len(woken) == 2, "a message was lost")
    agent.stop()


def test_idle_servers_are_closed_and_opened_again(federation: Federation) -> None:
    closed = threading.Event()

    class Watched(Database):
        def dispose(self) -> None:
            super().dispose()
            closed.set()

    from mapping_db.cells.registry import Cells

    cell = federation.add("near")
    with Cells(
        federation.top, federation.open_transport, settings=CellSettings(idle_seconds=0.05), open_database=Watched
    ) as cells:
        assert who(cells.open(cell)) == "near"
        assert closed.wait(60)
        assert who(cells.open(cell)) == "near"


def test_work_that_outlives_its_deadline_is_given_up(federation: Federation) -> None:
    cell = federation.cells().open(federation.add("near"))
    endless = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")
    with pytest.raises(CellUnavailable):
        cell.db.run(lambda tx: tx.execute(endless), Deadline.after(0.3))
    assert who(cell) == "near"


def test_only_used_servers_are_probed_and_a_few_at_a_time(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = federation.cells()
    used = [federation.add(f"cell{number}") for number in range(5)]
    federation.add("unused")
    for cell in used:
        who(cells.open(cell))
    probed: list[Guard] = []

    def heard(guard: Guard) -> None:
        probed.append(guard)
        guard._healthy_at = SYSTEM_CLOCK.monotonic()

    monkeypatch.setattr(registry, "PROBED_AT_ONCE", 3)
    monkeypatch.setattr(Guard, "suspect", heard)
    counts = []
    for _ in range(3):
        cells.watch_used()
        counts.append(len(probed))
    assert counts == [3, 5, 5]
    assert {id(guard) for guard in probed} == {id(cells.open(cell).db.guard) for cell in used}
