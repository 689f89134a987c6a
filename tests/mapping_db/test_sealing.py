"""Secrets in databases: one data key a database, wrapped by the operator's keys."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select

from cell_service.db import schema, upgrades
from cell_service.db.sealing import new_key
from cell_service.db.sql.engine import Database
from cell_service.errors import Invalid, SecretsUnreadable
from mapping_db.cells.registry import CellSettings
from mapping_db.global_database import GlobalDatabase
from tests.mapping_db.conftest import Federation, soon
from tests.suites.database import race

SECRET = "correct horse"
OLD, NEW = new_key(), new_key()


@pytest.fixture
def opened(empty_url: str) -> Callable[..., Database]:
    """As another process would open the database, with these keys."""
    upgrades.sync(Database(empty_url))
    return lambda *keys: Database(empty_url, secret_keys=keys)


def stored_key(db: Database) -> str:
    with db.connect() as tx:
        return str(tx.scalar(select(schema.sealing_keys.c.data_key)))


def test_what_one_process_sealed_another_opens(opened: Callable[..., Database]) -> None:
    sealed = opened(OLD).sealer().seal(SECRET)

    assert SECRET not in sealed
    assert opened(OLD).sealer().open(sealed) == SECRET


def test_processes_that_seal_first_at_the_same_time_use_one_key(opened: Callable[..., Database]) -> None:
    sealers = race(lambda _number: opened(OLD).sealer())

    assert {one.open(sealers[0].seal(SECRET)) for one in sealers} == {SECRET}


@pytest.mark.parametrize("keys", [(), (NEW,)])
def test_without_the_operators_key_nothing_is_opened(opened: Callable[..., Database], keys: tuple[str, ...]) -> None:
    opened(OLD).sealer()

    with pytest.raises(SecretsUnreadable):
        opened(*keys).sealer()


def test_a_new_first_key_wraps_the_data_key_and_the_old_one_can_go(opened: Callable[..., Database]) -> None:
    sealed = opened(OLD).sealer().seal(SECRET)

    assert opened(NEW, OLD).sealer().open(sealed) == SECRET
    assert opened(NEW).sealer().open(sealed) == SECRET


def test_the_first_key_of_all_wraps_what_was_stored_as_it_is(opened: Callable[..., Database]) -> None:
    sealed = opened().sealer().seal(SECRET)
    bare = stored_key(opened()).removeprefix("plain:")

    assert opened(NEW).sealer().open(sealed) == SECRET
    assert bare not in stored_key(opened())
    with pytest.raises(SecretsUnreadable):
        opened().sealer()


def test_each_database_has_a_key_of_its_own(opened: Callable[..., Database], federation: Federation) -> None:
    sealed = opened(OLD).sealer().seal(SECRET)

    with pytest.raises(SecretsUnreadable):
        federation.top.sealer().open(sealed)


def test_a_key_that_is_none_is_refused(opened: Callable[..., Database]) -> None:
    with pytest.raises(Invalid):
        opened("short").sealer()


def test_cells_and_the_global_database_seal_with_the_keys_they_are_opened_with(federation: Federation) -> None:
    url = federation.url("near")
    upgrades.sync(Database(url))
    cell = federation.cells(CellSettings()).open(federation.add("near", database_url=url))
    everywhere = GlobalDatabase(str(federation.top.url), secret_keys=[NEW])

    assert Database(url).sealer().open(cell.db.sealer(soon()).seal(SECRET)) == SECRET
    assert everywhere.sealer().open(everywhere.sealer().seal(SECRET)) == SECRET
    everywhere.dispose()
