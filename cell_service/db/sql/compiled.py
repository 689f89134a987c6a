"""A cache of compiled statements, shared by all databases of one kind: SQLAlchemy compiles each statement once for a
kind of server.

A process with hundreds of cells has an engine for each; by itself, each engine compiles every statement.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import Dialect
from sqlalchemy.util import LRUCache

MOST = 2000
"""How many compiled statements a process keeps."""


def kind_of(dialect: Dialect) -> tuple[Any, ...]:
    """The kind of a server: equal for servers for which a statement compiles to the same text. It is known once a
    connection was made."""
    return (dialect.name, dialect.driver, getattr(dialect, "is_mariadb", False), dialect.server_version_info)


class _Statements:
    """A cache for the execution option `compiled_cache`: the keys of SQLAlchemy begin with the engine's dialect, those
    here with its kind."""

    def __init__(self) -> None:
        self._kept: LRUCache[tuple[Any, ...], Any] = LRUCache(MOST)

    def get(self, key: tuple[Any, ...], default: Any = None) -> Any:
        return self._kept.get((kind_of(key[0]), *key[1:]), default)

    def __setitem__(self, key: tuple[Any, ...], compiled: Any) -> None:
        self._kept[(kind_of(key[0]), *key[1:])] = compiled


STATEMENTS = _Statements()
