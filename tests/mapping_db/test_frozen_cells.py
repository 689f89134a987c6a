"""A cell whose real database server freezes, dies, or refuses, beside one that is well."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from cell_service.db.sql.engine import Database
from cell_service.errors import CellUnavailable
from mapping_db.cells.registry import Cell, Cells, CellSettings
from tests.mapping_db.conftest import Federation, soon, who
from tests.real.databases import Server, wait_until

pytestmark = [pytest.mark.real, pytest.mark.faults]

PATIENT = CellSettings(patience=10)
"""Where a server must count as well until it freezes, on a machine that is busy with other things."""


@pytest.fixture(params=["own_mariadb", "own_postgresql"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    found.revive()
    return found


@pytest.fixture
def url(server: Server) -> str:
    made = server.create_database()
    database = Database(made)
    with database.begin() as tx:
        tx.execute(text("CREATE TABLE who (name VARCHAR(20))"))
        tx.execute(text("INSERT INTO who VALUES ('sick')"))
    database.dispose()
    return made


def is_open(cells: Cells, cell: int) -> bool:
    return cells.health()[cell].database.is_open


def answers(cells: Cells, cell: int) -> bool:
    try:
        return who(cells.open(cell)) == "sick"
    except CellUnavailable:
        return False


def test_a_frozen_server_is_left_alone_until_it_thaws(federation: Federation, server: Server, url: str) -> None:
    sick, well = federation.add("sick", url), federation.add("well")
    cells = federation.cells(PATIENT)
    assert cells.scatter([sick, well], who, soon()).answers == {sick: "sick", well: "well"}

    server.freeze()
    deadline = soon()
    gathered = cells.scatter([sick, well], who, deadline)
    assert gathered.answers == {well: "well"}
    assert isinstance(gathered.failures[sick], CellUnavailable)
    assert deadline.remaining() > 40, "it was given up long before the deadline, on a connection that was open before"
    wait_until(lambda: is_open(cells, sick), "the breaker stays closed")
    for _ in range(100):  # each would take as long as the first one if it asked the server
        with pytest.raises(CellUnavailable):
            who(cells.open(sick))
    assert deadline.remaining() > 30

    server.thaw()
    wait_until(lambda: not is_open(cells, sick), "the breaker stays open")
    assert answers(cells, sick)


def test_a_server_that_was_never_seen_awake_costs_its_first_caller_little(
    federation: Federation, server: Server, url: str
) -> None:
    sick = federation.add("sick", url)
    cells = federation.cells(PATIENT)
    server.freeze()
    deadline = soon()
    with pytest.raises(CellUnavailable):
        who(cells.open(sick))
    assert deadline.remaining() > 40
    server.thaw()
    wait_until(lambda: answers(cells, sick), "it does not come back")


def test_everybody_who_is_stuck_in_a_frozen_server_returns(federation: Federation, server: Server, url: str) -> None:
    sick = federation.add("sick", url)
    cells = federation.cells(PATIENT)
    inside = threading.Barrier(9)
    frozen = threading.Event()

    def work(cell: Cell) -> None:
        def hold(tx: object) -> None:
            inside.wait(60)
            assert frozen.wait(60)
            tx.execute(text("SELECT name FROM who")).all()  # type: ignore[attr-defined]

        cell.db.run(hold, soon())

    with ThreadPoolExecutor(20) as pool:
        stuck = [pool.submit(work, cells.open(sick)) for _ in range(8)]
        inside.wait(60)
        waiting = [pool.submit(who, cells.open(sick)) for _ in range(4)]
        wait_until(lambda: cells.open(sick).db.guard.bulkhead._waiting == 4, "nobody waits for a place")
        server.freeze()
        frozen.set()
        for each in stuck + waiting:
            with pytest.raises(CellUnavailable):
                each.result(timeout=40)
    server.thaw()
    wait_until(lambda: answers(cells, sick), "it does not come back")


def test_slow_work_on_a_healthy_server_is_left_to_end(federation: Federation, server: Server, url: str) -> None:
    sick = federation.add("sick", url)
    cells = federation.cells(PATIENT)
    slow = "SELECT SLEEP(1.2)" if url.startswith("mysql") else "SELECT pg_sleep(1.2)"
    cells.open(sick).db.run(lambda tx: tx.execute(text(slow)), soon())
    assert not is_open(cells, sick)


def test_a_killed_server_comes_back_without_a_lost_request_after_it(
    federation: Federation, server: Server, url: str
) -> None:
    sick = federation.add("sick", url)
    cells = federation.cells(PATIENT)
    assert answers(cells, sick)
    server.kill()
    with pytest.raises(CellUnavailable):
        who(cells.open(sick))
    server.start()
    wait_until(lambda: not is_open(cells, sick), "the breaker stays open")
    assert who(cells.open(sick)) == "sick"


def test_a_restart_between_two_requests_goes_unnoticed(federation: Federation, server: Server, url: str) -> None:
    sick = federation.add("sick", url)
    cells = federation.cells(PATIENT, watched=False)  # a probe could meet the restart
    assert who(cells.open(sick)) == "sick"
    server.kill()
    server.start()
    assert who(cells.open(sick)) == "sick", "the pooled connection was seen to be dead"


def test_a_wrong_password_or_database_is_said_and_not_shown(federation: Federation, server: Server, url: str) -> None:
    missing = federation.add("missing", url.rpartition("/")[0] + "/nothing")
    cells = federation.cells(PATIENT)
    with pytest.raises(CellUnavailable):
        who(cells.open(missing))
    assert "nothing" in cells.health()[missing].database.reason
    if url.startswith("mysql"):  # the PostgreSQL of these tests trusts everybody
        locked = federation.add("locked", url.replace("root:@", "root:s3kret@"))
        with pytest.raises(CellUnavailable):
            who(cells.open(locked))
        reason = cells.health()[locked].database.reason
        assert "the server refuses the user or the password" in reason
        assert "s3kret" not in reason
