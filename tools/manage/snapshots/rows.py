"""The rows of a database as lines of JSON: a head for each table with its columns, then a list of values a row.

Values are as they are stored: a JSON column is a text. So a row is the same on every kind of database, and a snapshot
taken on one can be restored on another.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, MetaData, Table, Text, delete, func, insert, inspect, select, text

from cell_service.db.sql.types import Json, Utc
from cell_service.errors import Invalid

PAGE = 2000
"""Rows that are fetched, or written, at once."""
OF_EVERY_DATABASE = frozenset({"topology", "cell_identity", "sealing_keys"})
"""Tables that have a row before anything is stored."""
_BEGIN = {
    "sqlite": ("BEGIN", "SELECT COUNT(*) FROM sqlite_master"),
    "mysql": (
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    ),
    "postgresql": ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "SELECT 1"),
}


def freeze(tx: Connection) -> None:
    """From now on the connection sees the database as it is at this moment. No writer waits for that."""
    for statement in _BEGIN["mysql" if tx.dialect.name == "mariadb" else tx.dialect.name]:
        tx.exec_driver_sql(statement)


def stored_tables(tx: Connection, metadata: MetaData) -> list[Table]:
    """Those of the tables that the database has, with the columns that it has: a database of an older schema lacks
    some. A table comes after those that its rows refer to."""
    inspector = inspect(tx)
    there = set(inspector.get_table_names())
    found = []
    for table in metadata.sorted_tables:
        if table.name in there:
            has = {column["name"] for column in inspector.get_columns(table.name)}
            found.append(_plain(table, [column for column in table.columns if column.name in has]))
    return found


def lines(tx: Connection, tables: Iterable[Table], counts: dict[str, int]) -> Iterator[str]:
    """The rows of the tables. `counts` gets the number of each one's rows."""
    for table in tables:
        yield _line({"table": table.name, "columns": [column.name for column in table.columns]})
        counts[table.name] = 0
        query = select(table).order_by(*table.primary_key.columns).execution_options(yield_per=PAGE)
        for page in tx.execute(query).partitions():
            counts[table.name] += len(page)
            for row in page:
                yield _line([each.isoformat() if isinstance(each, datetime) else each for each in row])


def count(tx: Connection, tables: Iterable[Table]) -> dict[str, int]:
    """How many rows each of the tables has, without the empty ones and those that are never empty."""
    counted = {
        table.name: tx.scalar(select(func.count()).select_from(table)) or 0
        for table in tables
        if table.name not in OF_EVERY_DATABASE
    }
    return {name: rows for name, rows in counted.items() if rows}


def read(stored: Iterable[str], metadata: MetaData, wanted: frozenset[str] | None = None) -> Iterator[Read]:
    """The rows in the lines, in pages, each of one table. `wanted`: only these tables. Raises Invalid for a table or a
    column that there is not."""
    head: _Head | None = None
    page: list[dict[str, Any]] = []
    for line in stored:
        value = json.loads(line)
        if isinstance(value, dict):
            if head is not None and page:
                yield Read(head.table, page)
            head, page = _Head(value, metadata), []
        elif head is None:
            raise Invalid(reason="the snapshot has rows before it names their table")
        elif wanted is None or head.table.name in wanted:
            page.append(head.row(value))
            if len(page) >= PAGE:
                yield Read(head.table, page)
                page = []
    if head is not None and page:
        yield Read(head.table, page)


class Read:
    """Rows of one table, by column."""

    __slots__ = ("rows", "table")

    def __init__(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        self.table, self.rows = table, rows


def replace(tx: Connection, metadata: MetaData, pages: Iterable[Read]) -> dict[str, int]:
    """All rows of the tables give way to these. Returns how many each table has then."""
    for table in reversed(metadata.sorted_tables):
        if inspect(tx).has_table(table.name):
            tx.execute(delete(table))
    counts: dict[str, int] = {}
    for page in pages:
        tx.execute(insert(page.table), list(page.rows))
        counts[page.table.name] = counts.get(page.table.name, 0) + len(page.rows)
    if tx.dialect.name == "postgresql":
        _go_on_counting(tx, [metadata.tables[name] for name in counts])
    return counts


class _Head:
    """The table and the columns that the lines after it are of."""

    def __init__(self, value: Mapping[str, Any], metadata: MetaData) -> None:
        known = metadata.tables.get(str(value["table"]))
        names = [str(name) for name in value["columns"]]
        if known is None or not set(names) <= set(known.columns.keys()):
            raise Invalid(reason=f"the snapshot has a table {value['table']} that this release does not know")
        self.table = _plain(known, [known.columns[name] for name in names])
        self._names = names
        self._times = [isinstance(known.columns[name].type, Utc) for name in names]

    def row(self, values: Sequence[Any]) -> dict[str, Any]:
        return {
            name: datetime.fromisoformat(value) if time and value is not None else value
            for name, time, value in zip(self._names, self._times, values, strict=True)
        }


def _plain(table: Table, columns: Iterable[Column[Any]]) -> Table:
    """The table with these columns; those of JSON are the texts that are stored."""
    return Table(
        table.name, MetaData(),
        *(Column(each.name, Text() if isinstance(each.type, Json) else each.type, primary_key=each.primary_key)
          for each in columns),
    )  # fmt: skip


def _go_on_counting(tx: Connection, tables: Iterable[Table]) -> None:
    """PostgreSQL's sequences do not notice ids that were given: the next one comes after the largest."""
    for table in tables:
        column = table.autoincrement_column
        if column is None:
            continue
        largest = tx.scalar(select(func.max(column)))
        sequence = tx.scalar(text("SELECT pg_get_serial_sequence(:table, :column)"),
                             {"table": table.name, "column": column.name})  # fmt: skip
        if sequence is not None and largest is not None:
            tx.execute(text("SELECT setval(:sequence, :largest)"), {"sequence": sequence, "largest": largest})


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"
