"""Statements that are sent very often: compiled once for each kind of database, and sent to the driver itself.

SQLAlchemy takes a tenth of a millisecond for each statement that it executes, most of it to find out again what it has
compiled and how to read the answer. A list over a hundred cells would pay that a hundred times, a boot thirty times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Delete, Select, Update, bindparam, false
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError

from cell_service.db.sql.compiled import kind_of

T = TypeVar("T")
Processor = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement as text for one kind of database."""

    text: str
    names: tuple[str, ...] | None
    """The parameters in the order of their places; None where the driver takes them by name."""
    values: Mapping[str, Any]
    """The values that the statement itself contains, as the driver takes them."""
    taking: Mapping[str, Processor]
    giving: tuple[tuple[int, Processor], ...]
    """By column, the converters of values that the driver returns in another form."""

    def parameters(self, given: Mapping[str, Any]) -> tuple[Any, ...] | dict[str, Any]:
        values = dict(self.values)
        for name, value in given.items():
            take = self.taking.get(name)
            values[name] = value if take is None else take(value)
        return values if self.names is None else tuple([values[name] for name in self.names])


class Prepared:
    """A statement without lists of open length (see `among`). Thread-safe."""

    def __init__(self, statement: Select[Any] | Update | Delete, *, ordinary: int = 0) -> None:
        """`ordinary`: how many executions go through SQLAlchemy, which caches statements of the same shape, before
        compiling this one pays."""
        self._statement, self._ordinary = statement, ordinary
        self._compiled: dict[tuple[Any, ...], _Compiled] = {}

    def rows(self, tx: Connection, given: Mapping[str, Any] | None = None) -> Sequence[Sequence[Any]]:
        """The rows of a select, each its values in the order of the columns; as from `tx.execute`, with its errors."""
        if self._ordinary > 0:
            self._ordinary -= 1
            return tx.execute(self._statement, given).fetchall()
        found, giving = self._sent(tx, given, _fetched)
        return found if not giving else [_made(row, giving) for row in found]

    def change(self, tx: Connection, given: Mapping[str, Any]) -> int:
        """Execute a statement that changes rows; `given` are all its parameters. Returns how many rows it matched."""
        count, _ = self._sent(tx, given, _counted)
        return count

    def _sent(
        self, tx: Connection, given: Mapping[str, Any] | None, answer: Callable[[Any], T]
    ) -> tuple[T, tuple[tuple[int, Processor], ...]]:
        dialect = tx.dialect
        dbapi = tx.connection  # connects, so that the dialect knows its server
        kind = kind_of(dialect)
        compiled = self._compiled.get(kind)
        if compiled is None:
            compiled = self._compiled[kind] = _compile(self._statement, dialect)
        parameters = compiled.parameters(given or {})
        cursor = dbapi.cursor()
        watchers: Any = tx.engine.dispatch
        for watch in watchers.before_cursor_execute:
            watch(tx, cursor, compiled.text, parameters, None, False)
        try:
            cursor.execute(compiled.text, parameters)
            return answer(cursor), compiled.giving
        except Exception as error:
            raise _reported(tx, error, compiled.text) from error
        finally:
            cursor.close()


def among(column: ColumnElement[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    """Whether the column has one of these values; None is no value."""
    if not values:
        return false()
    if len(values) == 1:
        return column == bindparam(None, values[0], type_=column.type)
    return column.in_([bindparam(None, value, type_=column.type) for value in values])


def one_of(column: ColumnElement[Any], prefix: str, count: int) -> ColumnElement[bool]:
    """Whether the column has one of `count` values, whose parameters are made by `keys`."""
    return column.in_([bindparam(f"{prefix}{number}", type_=column.type) for number in range(count)])


def padded_size(count: int) -> int:
    """How many parameters a statement for `count` values has: a power of two, so that few statements are made."""
    return 1 << max(count - 1, 0).bit_length()


def keys(prefix: str, values: Sequence[Any]) -> dict[str, Any]:
    """The parameters of `one_of` for `padded_size(len(values))` values; the last value fills the rest."""
    padded = [*values, *[values[-1]] * (padded_size(len(values)) - len(values))]
    return {f"{prefix}{number}": value for number, value in enumerate(padded)}


def _fetched(cursor: DBAPICursor) -> Sequence[Sequence[Any]]:
    found: Sequence[Sequence[Any]] = cursor.fetchall()
    return found


def _counted(cursor: DBAPICursor) -> int:
    return int(cursor.rowcount)


def _made(row: Sequence[Any], giving: tuple[tuple[int, Processor], ...]) -> list[Any]:
    values = list(row)
    for position, give in giving:
        values[position] = give(values[position])
    return values


def _compile(statement: Select[Any] | Update | Delete, dialect: Dialect) -> _Compiled:
    compiled: Any = statement.compile(dialect=dialect)
    if compiled.post_compile_params or compiled.literal_execute_params:
        raise TypeError(f"a prepared statement has no lists of open length: {statement}")
    taking = {}
    for name, parameter in compiled.binds.items():
        take = parameter.type.dialect_impl(dialect).bind_processor(dialect)
        if take is not None:
            taking[name] = take
    values = {}
    for name, parameter in compiled.binds.items():
        if not parameter.required:
            take = taking.get(name)
            values[name] = parameter.effective_value if take is None else take(parameter.effective_value)
    giving = []
    for position, column in enumerate(statement.selected_columns if isinstance(statement, Select) else ()):
        give = column.type.dialect_impl(dialect).result_processor(dialect, None)
        if give is not None:
            giving.append((position, give))
    names = tuple(compiled.positiontup) if compiled.positional else None
    return _Compiled(str(compiled), names, values, taking, tuple(giving))


def _reported(tx: Connection, error: Exception, text: str) -> BaseException:
    """The driver's error as SQLAlchemy raises it; a lost connection is invalidated."""
    dialect = tx.dialect
    driver: Any = dialect.loaded_dbapi
    lost = isinstance(error, driver.Error) and dialect.is_disconnect(error, tx.connection.dbapi_connection, None)
    reported = DBAPIError.instance(
        text, None, error, driver.Error, connection_invalidated=lost, dialect=dialect
    )  # fmt: skip
    if lost:
        tx.invalidate(error)
    return reported
