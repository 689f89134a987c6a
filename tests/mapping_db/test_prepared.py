"""Statements that are sent past SQLAlchemy mean what they mean through it: SQLite, MariaDB, PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Select, bindparam, delete, event, insert, not_, or_, select, text, update
from sqlalchemy.exc import DBAPIError

from cell_service.db.sql import drivers
from cell_service.db.sql.engine import Database
from cell_service.db.sql.prepared import Prepared, among, keys, one_of, padded_size
from cell_service.errors import DatabaseUnavailable
from tests.suites.database import NOW, notes

ROWS: list[dict[str, Any]] = [
    {"id": 1, "at": NOW, "value": {"a": ["ü", None]}, "text": "one %s ? :x"},
    {"id": 2, "at": NOW + timedelta(microseconds=1), "value": [], "text": "two"},
    {"id": 3, "at": None, "value": None, "text": None},
    {"id": 4, "at": NOW - timedelta(days=400), "value": "x" * 3000, "text": "100%"},
    {"id": 5, "at": NOW, "value": 7, "text": ""},
]
EVERYTHING = select(notes.c.id, notes.c.at, notes.c.value, notes.c.text).order_by(notes.c.id)


@pytest.fixture
def db(empty_url: str) -> Iterator[Database]:
    database = Database(empty_url)
    with database.begin() as tx:
        notes.create(tx)
        tx.execute(insert(notes), ROWS)
    yield database
    database.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        EVERYTHING,
        EVERYTHING.limit(2),
        EVERYTHING.where(notes.c.at >= NOW),
        EVERYTHING.where(among(notes.c.at, [NOW, NOW - timedelta(days=400)])),
        EVERYTHING.where(among(notes.c.text, ["one %s ? :x"])),
        EVERYTHING.where(among(notes.c.text, [])),
        EVERYTHING.where(or_(notes.c.text.is_(None), not_(among(notes.c.text, ["two", "100%", ""])))),
        EVERYTHING.where(notes.c.text.regexp_match("^[0-9]+%$")),
        EVERYTHING.where(notes.c.text.contains("%", autoescape=True)),
        select(notes.c.id.label("key"), (notes.c.id + 1).label("next")).order_by(notes.c.id.desc()),
    ],
    ids=str,
)
def test_its_rows_are_those_of_an_ordinary_execution(db: Database, statement: Select[Any]) -> None:
    prepared = Prepared(statement)
    with db.connect() as tx:
        ordinary = [list(row) for row in tx.execute(statement)]
        assert [list(row) for row in prepared.rows(tx)] == ordinary
    with db.begin() as tx:
        assert [list(row) for row in prepared.rows(tx)] == ordinary


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_as_many_values_as_there_are(db: Database, count: int) -> None:
    wanted = [row["id"] for row in ROWS[:count]]
    prepared = Prepared(select(notes.c.id).where(one_of(notes.c.id, "id", padded_size(count))))
    with db.connect() as tx:
        assert sorted(row[0] for row in prepared.rows(tx, keys("id", wanted))) == wanted


def test_parameters_are_made_as_their_columns_want_them(db: Database) -> None:
    prepared = Prepared(select(notes.c.id).where(notes.c.at == bindparam("at", type_=notes.c.at.type)))
    with db.connect() as tx:
        assert sorted(row[0] for row in prepared.rows(tx, {"at": NOW.astimezone(None)})) == [1, 5]
        assert [row[0] for row in prepared.rows(tx, {"at": NOW + timedelta(microseconds=1)})] == [2]


def test_a_transaction_sees_what_it_wrote(db: Database) -> None:
    with db.begin() as tx:
        tx.execute(insert(notes).values(id=9, text="mine"))
        assert [row[0] for row in Prepared(EVERYTHING).rows(tx)] == [1, 2, 3, 4, 5, 9]


def test_a_list_of_open_length_is_refused(db: Database) -> None:
    with db.connect() as tx, pytest.raises(TypeError, match="open length"):
        Prepared(EVERYTHING.where(notes.c.id.in_([1, 2]))).rows(tx)


def test_what_the_database_refuses_is_told_and_the_connection_goes_on(db: Database) -> None:
    with db.connect() as tx:
        with pytest.raises(DBAPIError) as caught:
            Prepared(select(text("nothing_of_this_name")).select_from(notes)).rows(tx)
        assert not caught.value.connection_invalidated
        assert len(Prepared(EVERYTHING).rows(tx)) == len(ROWS)


def test_a_lost_connection_is_given_up_and_the_next_one_is_new(db: Database) -> None:
    if db.dialect == "sqlite":
        pytest.skip("a file has no connection to lose")

    def lose() -> None:
        with db.connect() as tx:
            drivers.cut(tx.connection.dbapi_connection)
            Prepared(EVERYTHING).rows(tx)

    with pytest.raises(DatabaseUnavailable):
        lose()
    with db.connect() as tx:
        assert len(Prepared(EVERYTHING).rows(tx)) == len(ROWS)


def test_who_counts_statements_counts_these(db: Database) -> None:
    seen: list[str] = []
    event.listen(db.engine, "before_cursor_execute", lambda connection, cursor, statement, *_: seen.append(statement))
    with db.connect() as tx:
        Prepared(EVERYTHING).rows(tx)
        Prepared(EVERYTHING).rows(tx)
    assert len(seen) == 2
    assert all("notes" in statement for statement in seen)


def test_what_changes_rows_counts_those_it_meets(db: Database) -> None:
    change = Prepared(
        update(notes)
        .where(notes.c.id == bindparam("key"), or_(notes.c.text == "two", notes.c.text.is_(None)))
        .values(at=bindparam("moment"), value=bindparam("content"), text="two")
    )
    given = {"moment": NOW, "content": {"b": [1]}}
    for _ in range(2):  # a row that is so already is met, too
        assert db.run_alone(lambda tx: [change.change(tx, {**given, "key": key}) for key in (1, 2)]) == [0, 1]
    assert db.run(lambda tx: change.change(tx, {"key": 3, "moment": None, "content": None})) == 1
    with db.connect() as tx:
        assert [tuple(row) for row in tx.execute(EVERYTHING)][:3] == [
            (1, NOW, {"a": ["ü", None]}, "one %s ? :x"),
            (2, NOW, {"b": [1]}, "two"),
            (3, None, None, "two"),
        ]


def test_a_change_ends_with_its_transaction(db: Database) -> None:
    remove = Prepared(delete(notes).where(notes.c.id == bindparam("key")))

    def fail(tx: Connection) -> None:
        assert remove.change(tx, {"key": 1}) == 1
        raise LookupError

    with pytest.raises(LookupError):
        db.run(fail)
    with db.connect() as tx:
        assert len(tx.execute(EVERYTHING).all()) == len(ROWS)
