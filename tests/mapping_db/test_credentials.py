"""A cell's password is changed on its database server while the cell is in use."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import text

from cell_service.db.sql.engine import Database
from cell_service.errors import CellUnavailable
from mapping_db.cells.registry import Cells, CellSettings
from tests.mapping_db.conftest import Federation, soon
from tests.real.databases import Server, wait_until

pytestmark = pytest.mark.real


@pytest.fixture
def url(mariadb: Server) -> str:
    """A database with a user of its own for each name that is asked for; {login} is to be replaced."""
    plain = mariadb.create_database()
    return plain.replace("root:@", "{login}@")


def as_root(url: str, *statements: str) -> None:
    admin = Database(url.replace("{login}", "root:"))
    with admin.connect() as tx:
        for statement in statements:
            tx.execute(text(statement))
    admin.dispose()


def user_of(tx: object) -> str:
    return str(tx.scalar(text("SELECT CURRENT_USER()")))  # type: ignore[attr-defined]


READERS = 4


class Load:
    """Readers that go on until told to stop, and what they met. All of them have a connection before any reads on, so
    that none needs to open one when the password has changed."""

    def __init__(self, cells: Cells, cell_id: int) -> None:
        self.failures: list[str] = []
        self.reads = 0
        self._cells, self._cell_id, self._stop = cells, cell_id, threading.Event()
        self._connected = threading.Barrier(READERS)
        self._threads = [threading.Thread(target=self._run) for _ in range(READERS)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        with self._cells.open(self._cell_id).db.connect(soon()) as tx:
            tx.execute(text("SELECT 1"))
            self._connected.wait()
        while not self._stop.is_set():
            try:
                with self._cells.open(self._cell_id).db.connect(soon()) as tx:
                    tx.execute(text("SELECT 1"))
                self.reads += 1
            except CellUnavailable as error:
                self.failures.append(str(error))
            self._stop.wait(0.002)

    def more(self) -> Callable[[], bool]:
        """Whether reads have gone on since this was called."""
        start = self.reads
        return lambda: self.reads > start + 20

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_a_second_user_takes_over_and_no_request_fails(federation: Federation, url: str) -> None:
    as_root(
        url,
        "CREATE USER 'old'@'%' IDENTIFIED BY 'one'", "GRANT ALL ON *.* TO 'old'@'%'",
        "CREATE USER 'new'@'%' IDENTIFIED BY 'two'", "GRANT ALL ON *.* TO 'new'@'%'",
    )  # fmt: skip
    cell_id = federation.add("c", url.replace("{login}", "old:one"))
    cells = federation.cells(CellSettings(poll_seconds=0.2, patience=20))
    load = Load(cells, cell_id)
    try:
        wait_until(load.more(), "nobody reads")
        federation.change("c", database_connection=url.replace("{login}", "new:two"))

        def taken_over() -> bool:
            with cells.open(cell_id).db.connect(soon()) as tx:
                return user_of(tx).startswith("new@")

        wait_until(taken_over, "the new user is not used")
        admin = Database(url.replace("{login}", "root:"))

        def drained() -> bool:
            with admin.connect() as tx:
                return not tx.scalar(text("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'old'"))

        wait_until(drained, "connections of the old user stay")
        admin.dispose()
        as_root(url, "DROP USER 'old'@'%'")
        wait_until(load.more(), "reading has stopped")
    finally:
        load.end()
        as_root(url, "DROP USER IF EXISTS 'old'@'%'", "DROP USER 'new'@'%'")
    assert load.failures == []


def test_a_password_changed_in_place_works_as_soon_as_the_mapping_says_it(federation: Federation, url: str) -> None:
    as_root(url, "CREATE USER 'one'@'%' IDENTIFIED BY 'before'", "GRANT ALL ON *.* TO 'one'@'%'")
    cell_id = federation.add("c", url.replace("{login}", "one:before"))
    cells = federation.cells(CellSettings(poll_seconds=0.2, patience=20))
    load = Load(cells, cell_id)
    try:
        wait_until(load.more(), "nobody reads")
        as_root(url, "ALTER USER 'one'@'%' IDENTIFIED BY 'after'")
        wait_until(load.more(), "open connections were cut off")
        federation.change("c", database_connection=url.replace("{login}", "one:after"))
        old = cells.open(cell_id).db
        wait_until(lambda: cells.open(cell_id).db is not old, "the topology is not followed")
        failed = len(load.failures)
        wait_until(load.more(), "the new password does not work")
        assert len(load.failures) <= failed + 4  # those that were under way
    finally:
        load.end()
        as_root(url, "DROP USER 'one'@'%'")


def test_a_template_takes_the_processs_own_credentials(federation: Federation, url: str) -> None:
    as_root(url, "CREATE USER 'mine'@'%' IDENTIFIED BY 'p@ss'", "GRANT ALL ON *.* TO 'mine'@'%'")
    server, _, name = url.partition("@")[2].partition("/")
    host, _, port = server.partition(":")
    own = f"mysql+pymysql://mine:p%40ss@{host}:{port}/{name}?charset=utf8mb4"
    cell_id = federation.add("c", "{scheme}://{username}:{password}@{hostname}:{port}/{path}?{query}")
    cells = federation.cells(CellSettings(database_connection=own))
    try:
        with cells.open(cell_id).db.connect(soon()) as tx:
            assert user_of(tx).startswith("mine@")
    finally:
        as_root(url, "DROP USER 'mine'@'%'")
