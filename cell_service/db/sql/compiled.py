"""What SQLAlchemy compiles for one kind of database server, it compiles once for all databases of that kind.

A process with hundreds of cells has an engine for each; by itself, each engine compiles every statement anew.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import Dialect
from sqlalchemy.util import LRUCache

STATEMENTS = 1000
"""How many compiled statements are kept for each kind."""

_lock = threading.Lock()
_shared: dict[tuple[Any, ...], _Shared] = {}


@dataclass(frozen=True, slots=True)
class _Shared:
    dialect: Dialect
    statements: LRUCache[Any, Any] = field(default_factory=lambda: LRUCache(STATEMENTS))


def kind_of(dialect: Dialect) -> tuple[Any, ...]:
    """Equal for servers for which a statement compiles to the same text. Known once a connection was made."""
    return (dialect.name, dialect.driver, getattr(dialect, "is_mariadb", False), dialect.server_version_info)


def share(engine: Engine) -> None:
    """From its first connection on, the engine uses the dialect and the compiled statements of its kind."""

    @event.listens_for(engine, "connect")
    def known(_raw: object, _record: object) -> None:
        with _lock:
            shared = _shared.setdefault(kind_of(engine.dialect), _Shared(engine.dialect))
        engine.dialect = shared.dialect
        engine.update_execution_options(compiled_cache=shared.statements)

    @event.listens_for(engine, "engine_connect")
    def opened(connection: Connection) -> None:
        if connection.dialect is not engine.dialect:  # it was made before the engine's kind was known
            connection.dialect = engine.dialect
            connection.execution_options(**engine.get_execution_options())
