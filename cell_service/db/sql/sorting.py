"""Sorting by several keys, alike on every database and in Python: NULL comes first, text sorts by code point.

`sort` pairs names of columns with "asc" or "desc"; the last one's values are unique, so that a place in the order is
given by a row's values and stays what it is while other rows come and go.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, false, literal, or_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

Sort = tuple[tuple[str, str], ...]
Columns = Callable[[str], ColumnElement[Any]]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def order_by(sort: Sort, column_of: Columns) -> list[ColumnElement[Any]]:
    """The clauses by which a select is ordered."""
    order: list[ColumnElement[Any]] = []
    for name, direction in sort:
        column = column_of(name)
        if getattr(column, "nullable", True):
            order.append(_Rising(column) if direction == "asc" else _Falling(column))
        else:
            order.append(column.asc() if direction == "asc" else column.desc())
    return order


class _Rising(FunctionElement[Any]):
    """The ascending order of a column that may be NULL, NULL first: the order of every index but PostgreSQL's."""

    inherit_cache = True


class _Falling(FunctionElement[Any]):
    """The descending order of a column that may be NULL, NULL last."""

    inherit_cache = True


@compiles(_Rising)
def _rising(element: _Rising, compiler: SQLCompiler, **options: object) -> str:
    return f"{compiler.process(element.clauses.clauses[0], **options)} ASC"


@compiles(_Falling)
def _falling(element: _Falling, compiler: SQLCompiler, **options: object) -> str:
    return f"{compiler.process(element.clauses.clauses[0], **options)} DESC"


@compiles(_Rising, "postgresql")
def _rising_there(element: _Rising, compiler: SQLCompiler, **options: object) -> str:
    return f"{_rising(element, compiler, **options)} NULLS FIRST"


@compiles(_Falling, "postgresql")
def _falling_there(element: _Falling, compiler: SQLCompiler, **options: object) -> str:
    return f"{_falling(element, compiler, **options)} NULLS LAST"


def past(sort: Sort, values: tuple[Any, ...], column_of: Columns) -> ColumnElement[bool]:
    """The rows that come after these values: those that are later at the first key that differs."""
    behind: ColumnElement[bool] = false()
    for (name, direction), value in reversed(list(zip(sort, values, strict=True))):
        column = column_of(name)
        if value is None:
            beyond: ColumnElement[bool] = column.is_not(None) if direction == "asc" else false()
            same: ColumnElement[bool] = column.is_(None)
        else:
            there = literal(value, column.type)
            beyond = column > there
            if direction == "desc":
                beyond = column < there
                if getattr(column, "nullable", True):
                    beyond = or_(beyond, column.is_(None))
            same = column == there
        behind = or_(beyond, and_(same, behind))
    name, direction = sort[0]
    first = column_of(name)
    if values[0] is not None and (sort[0][1] == "asc" or not getattr(first, "nullable", True)):
        # redundant, but lets an index begin at the right place
        there = literal(values[0], first.type)
        behind = and_(first >= there if direction == "asc" else first <= there, behind)
    return behind


def comparable(sort: Sort, *, pads: bool = False) -> Callable[[tuple[Any, ...]], Any]:
    """A function that turns a row's values into a key that compares as the rows do. `pads`: see `pads_text`."""
    rising = [direction == "asc" for _, direction in sort]

    def key(values: tuple[Any, ...]) -> Any:
        made: list[Any] = []
        for up, value in zip(rising, values, strict=True):
            if value is None:
                made += (not up, 0)
                continue
            if pads and isinstance(value, str):
                value = value.rstrip(" ")
            made += (up, value if up else _reversed(value))
        return tuple(made)

    return key


def pads_text(url: str) -> bool:
    """Whether the database at this URL takes texts that differ only in spaces at their end for equal, as MySQL's
    and MariaDB's binary collations do."""
    return url.startswith(("mysql", "mariadb"))


class _Reversed(str):
    """Text that sorts the other way round."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)

    def __gt__(self, other: str) -> bool:
        return str.__lt__(self, other)


def _reversed(value: Any) -> Any:
    if isinstance(value, str):
        return _Reversed(value)
    if isinstance(value, datetime):
        return _EPOCH - value
    return -value
