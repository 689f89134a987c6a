"""Hosts that begin to move, and servers for which one was just chosen: of two at once, one comes first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection

from cell_service.db.sql.engine import Database
from mapping_db import cell_mappings, host_mappings, host_moves
from mapping_db.host_moves import HostIsMoving
from mapping_db.schema import metadata

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HELD_SECONDS = 0.5
"""How long the other one is given to come through, which it must not."""


@pytest.fixture
def db(empty_url: str) -> Iterator[Database]:
    made = Database(empty_url)
    metadata.create_all(made.engine)
    with made.begin() as tx:
        for number in (1, 2):
            known = cell_mappings.insert_new(
                tx, uuid=f"{number}" * 32, name=f"c{number}", transport_url="memory://", database_connection="sqlite://",
                now=NOW,
            )  # fmt: skip
            assert known.id == number
        host_mappings.insert_missing(tx, 1, ["h"], NOW)
    yield made
    made.dispose()


def begin(tx: Connection) -> None:
    host_moves.begin(tx, "h", source=1, target=2, now=NOW)


def chosen(tx: Connection) -> None:
    host_moves.demand_stays(tx, "h", 1)


def outcome_of(db: Database, first: Callable[[Connection], None], second: Callable[[Connection], None]) -> str:
    """What becomes of the second, which begins while the first is not committed, and must wait for that."""
    outcomes: list[str] = []
    entered = threading.Event()

    def work() -> None:
        entered.set()
        try:
            with db.begin() as tx:
                second(tx)
            outcomes.append("done")
        except HostIsMoving:
            outcomes.append("refused")

    other = threading.Thread(target=work)
    with db.begin() as tx:
        first(tx)
        other.start()
        assert entered.wait(30)
        other.join(HELD_SECONDS)
        assert outcomes == [], "it has not waited"
    other.join(30)
    (outcome,) = outcomes
    return outcome


def test_a_host_begins_to_move_only_after_a_choice_of_it_is_recorded(db: Database) -> None:
    assert outcome_of(db, chosen, begin) == "done"
    with db.connect() as tx:
        assert host_moves.get(tx, "h") is not None


def test_a_host_that_begins_to_move_is_not_chosen(db: Database) -> None:
    assert outcome_of(db, begin, chosen) == "refused"


def test_a_host_is_chosen_only_in_its_own_cell(db: Database) -> None:
    with db.begin() as tx:
        chosen(tx)
        for host, cell_id in (("h", 2), ("stranger", 1)):
            with pytest.raises(HostIsMoving):
                host_moves.demand_stays(tx, host, cell_id)
