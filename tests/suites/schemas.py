"""Databases that have the newest schema. A file is a quick copy of one that was made once in the process."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from cell_service.db import upgrades
from cell_service.db.sql.engine import Database
from cell_service.db.upgrades import CELL, Schema


def prepare(db: Database, schema: Schema = CELL) -> None:
    """The database has the schema, and keeps what it has."""
    path = Path(db.url.database or "")
    if db.url.get_backend_name() != "sqlite" or (path.exists() and path.stat().st_size):
        upgrades.sync(db, schema)
    else:
        path.write_bytes(_template(schema))


@cache
def _template(schema: Schema) -> bytes:
    """The content of a file that has the schema."""
    with TemporaryDirectory() as directory:
        path = Path(directory, "template.db")
        made = Database(f"sqlite:///{path}")
        upgrades.sync(made, schema)
        made.dispose()  # the last connection's end brings the log into the file
        return path.read_bytes()
