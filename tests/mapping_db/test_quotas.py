"""Quotas: who may have what, and counting that no race can overrun."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from cell_service.db.sql.engine import Database
from cell_service.errors import OverQuota
from mapping_db import quotas
from mapping_db.schema import metadata

DEFAULTS = {"instances": 10, "cores": 20, "ram": 51200, "key_pairs": 100}


@pytest.fixture
def db(empty_url: str) -> Iterator[Database]:
    made = Database(empty_url)
    metadata.create_all(made.engine)
    yield made
    made.dispose()


def test_the_nearest_limit_holds(db: Database) -> None:
    with db.begin() as tx:
        assert quotas.limits_of(tx, "p", DEFAULTS) == DEFAULTS
        quotas.set_class_limits(tx, quotas.DEFAULT_CLASS, {"cores": 30, "ram": 1000})
        quotas.set_limits(tx, "p", {"cores": 40})
        quotas.set_user_limits(tx, "p", "u", {"instances": 3})
        assert quotas.limits_of(tx, "p", DEFAULTS) == {**DEFAULTS, "cores": 40, "ram": 1000}
        assert quotas.user_limits_of(tx, "p", "u", DEFAULTS)["instances"] == 3
        assert quotas.limits_of(tx, "q", DEFAULTS)["cores"] == 30
        quotas.delete_limits(tx, "p")
        assert quotas.user_limits_of(tx, "p", "u", DEFAULTS) == {**DEFAULTS, "cores": 30, "ram": 1000}


def test_what_is_reserved_is_in_use_until_released(db: Database) -> None:
    with db.begin() as tx:
        quotas.reserve(tx, "p", "u", {"instances": 2, "cores": 4}, DEFAULTS)
        assert quotas.usage_of(tx, "p") == {"instances": 2, "cores": 4, "ram": 0, "server_groups": 0}
        assert quotas.usage_of(tx, "p", "u")["cores"] == 4
        quotas.release(tx, "p", "u", {"instances": 1, "cores": 9})
        assert quotas.usage_of(tx, "p") == {"instances": 1, "cores": 0, "ram": 0, "server_groups": 0}


def test_a_quota_that_is_short_says_so_in_novas_words(db: Database) -> None:
    with pytest.raises(OverQuota) as raised, db.begin() as tx:
        quotas.reserve(tx, "p", "u", {"instances": 1, "cores": 21, "ram": 99999}, DEFAULTS)

    assert (
        str(raised.value)
        == "Quota exceeded for cores, ram: Requested 21, 99999, but already used 0, 0 of 20, 51200 cores, ram"
    )
    with db.connect() as tx:
        assert quotas.usage_of(tx, "p") == {"instances": 0, "cores": 0, "ram": 0, "server_groups": 0}


def test_no_limit_is_no_limit(db: Database) -> None:
    with db.begin() as tx:
        quotas.reserve(tx, "p", "u", {"instances": 10**6}, {"instances": -1})
    with pytest.raises(OverQuota), db.begin() as tx:
        quotas.reserve(tx, "p", "u", {"cores": 1}, DEFAULTS, {"cores": 0})


def test_racing_reservations_never_overrun(db: Database) -> None:
    taken: list[int] = []

    def take(number: int) -> None:
        try:
            db.run(lambda tx: quotas.reserve(tx, "p", f"u{number}", {"instances": 3}, DEFAULTS))
        except OverQuota:
            return
        taken.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with db.connect() as tx:
        assert quotas.usage_of(tx, "p")["instances"] == 9 == 3 * len(taken)
