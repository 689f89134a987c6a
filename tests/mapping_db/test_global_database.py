"""The global database behind its breaker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, text

from api_cell.config import ApiSection
from cell_service.db.sql.engine import PoolLimits
from cell_service.errors import CellUnavailable, DatabaseUnavailable, Unavailable
from cell_service.rpc.memory import Bus, MemoryTransport
from mapping_db.cells.registry import Cells, CellSettings
from mapping_db.global_database import GlobalDatabase
from tests.real.databases import Server, wait_until


@pytest.fixture
def database(empty_url: str) -> Iterator[GlobalDatabase]:
    made = GlobalDatabase(empty_url, PoolLimits(size=1, overflow=1))
    yield made
    made.dispose()


def one(tx: Connection) -> int:
    found: int = tx.execute(text("SELECT 1")).scalar_one()
    return found


def test_it_is_used_as_any_database(database: GlobalDatabase) -> None:
    with database.connect() as tx:
        assert one(tx) == 1
        assert len(database.guard.bulkhead.flights()) == 1
        with database.connect() as again:  # who is in needs no second place
            assert one(again) == 1
            assert len(database.guard.bulkhead.flights()) == 1
    assert database.run(one) == 1
    assert database.guard.bulkhead.flights() == []


def test_while_its_breaker_is_open_nobody_asks_it(database: GlobalDatabase) -> None:
    database.guard.breaker.open("frozen")
    for use in (database.ping, lambda: database.run(one)):
        with pytest.raises(DatabaseUnavailable) as refused:
            use()
        assert refused.value.fields["reason"] == "frozen"
    database.guard.breaker.close()
    database.ping()


def test_what_flies_from_within_says_nothing_of_it(database: GlobalDatabase) -> None:
    with pytest.raises(CellUnavailable), database.connect():
        raise CellUnavailable(cell="cell1", what="database", reason="frozen")
    assert not database.guard.breaker.is_open


@pytest.mark.real
@pytest.mark.faults
def test_frozen_it_refuses_and_thawed_it_answers(own_mariadb: Server) -> None:
    own_mariadb.revive()
    database = GlobalDatabase(own_mariadb.create_database(), patience=10)
    with Cells(database, lambda url: MemoryTransport(Bus()), watched=[database.guard]):
        database.ping()
        own_mariadb.freeze()
        with pytest.raises(Unavailable):
            database.ping()
        wait_until(lambda: database.guard.breaker.is_open, "the breaker stays closed")
        own_mariadb.thaw()
        wait_until(lambda: not database.guard.breaker.is_open, "the breaker stays open")
        database.ping()
    database.dispose()


def test_one_cell_never_holds_all_workers_of_an_api() -> None:
    cell = CellSettings()
    assert ApiSection().worker_threads > cell.places + cell.waiting
