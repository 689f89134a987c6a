"""Column types that work alike on every database: UTC times, and values as JSON text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import DateTime, String, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from cell_service import wire


class Utc(TypeDecorator[datetime]):
    """An aware UTC datetime with microseconds, stored without its zone."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """As `process_result_value`, with fewer calls: lists have many times."""
        parse = self.impl_instance.dialect_impl(dialect).result_processor(dialect, coltype)

        def aware(value: Any) -> datetime | None:
            moment = value if parse is None else parse(value)
            return None if moment is None else moment.replace(tzinfo=UTC)

        return aware


class Json(TypeDecorator[Any]):
    """A value of `kind` (anything that cell_service.wire encodes) as JSON text. NULL is None.

    `shared`: many rows have the same text (flavors, an image's properties), so equal short texts give the same object,
    decoded once; it must not be changed in place.
    """

    impl = Text
    cache_ok = True

    def __init__(self, kind: Any, shared: bool = False) -> None:
        self.kind, self.shared = kind, shared
        super().__init__()

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.MEDIUMTEXT(charset="utf8mb4"))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: object, dialect: Dialect) -> str | None:
        return None if value is None else wire.dumps(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else self._decode(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """As `process_result_value`, with fewer calls: every database returns texts as they are."""
        decode = self._decode
        return lambda value: None if value is None else decode(value)

    def _decode(self, value: str) -> Any:
        if self.shared and len(value) <= _SHORT:
            return _decoded(self.kind, value)
        return wire.loads(self.kind, value)


_SHORT = 1024


@lru_cache(maxsize=4096)
def _decoded(kind: Any, text: str) -> Any:
    return wire.loads(kind, text)


def exact(length: int) -> String:
    """Text that compares and sorts by code point on every database: ids, names that must not fold case."""
    return (
        String(length)
        .with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
        .with_variant(String(length, collation="C"), "postgresql")
    )


def ascii_id(length: int = 36) -> String:
    """A uuid or another id in ASCII: one byte a character in every index."""
    return (
        String(length)
        .with_variant(mysql.VARCHAR(length, charset="ascii", collation="ascii_bin"), "mysql", "mariadb")
        .with_variant(String(length, collation="C"), "postgresql")
    )
