"""A companion's SQLite database, in a directory of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Column, MetaData, Table, Text

from cell_service.db.sql.engine import Database, PoolLimits
from cell_service.db.sql.types import Json

LIMITS = PoolLimits(size=4, overflow=2, wait_seconds=20.0)


def open_store(state_dir: Path, name: str, metadata: MetaData, secret_keys: Sequence[str] = ()) -> Database:
    """The database `name` in that directory, with all tables there. `secret_keys`: see `Database`."""
    state_dir.mkdir(parents=True, exist_ok=True)
    db = Database(f"sqlite:///{state_dir / name}.sqlite", LIMITS, secret_keys)
    with db.begin() as tx:
        metadata.create_all(tx)
    return db


def ident(name: str = "id", **options: Any) -> Column[Any]:
    return Column(name, Text, **options)


def doc() -> Column[Any]:
    """The other fields of a record, as a JSON object."""
    return Column("doc", Json(dict), nullable=False)


__all__ = ["Table", "doc", "ident", "open_store"]
