"""Bringing a database to the newest schema: Alembic, with one script directory for each schema.

Several processes may sync one database at the same time: a lock on the server lets one work and the others find
everything done. Where the server has no transactional DDL (MariaDB), a sync that was killed goes on when it is
run again. Alembic is imported only for a sync.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Connection, MetaData, inspect, text

from cell_service.db.sql.engine import Database
from cell_service.errors import DatabaseUnavailable, Invalid

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

LOCK_SECONDS = 120
VERSION_TABLE = "alembic_version"
_ALEMBIC = threading.Lock()
"""Alembic keeps its environment and its operations in globals: one thread of a process at a time may be in it."""


@dataclass(frozen=True, slots=True)
class Schema:
    """Which tables a database is to have: `scripts` is Alembic's directory, revision ids begin with `name`."""

    name: str
    scripts: Path


CELL = Schema("cell", Path(__file__).with_name("revisions"))


def sync(db: Database, schema: Schema = CELL, version: str | None = None) -> str:
    """Bring the database to `version` (None: the newest). Answers the version it then has.

    Safe to run twice, and by several processes or threads at once. Raises Invalid for a version that does not exist or
    is behind the database's, and for a database with another schema; DatabaseUnavailable.
    """
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.util import CommandError

    script = _scripts(schema)
    target = version or "head"

    def upgrade(current: Any, _context: Any) -> Any:
        return script._upgrade_revs(target, current)

    with (
        _locked(db) as tx,
        _ALEMBIC,
        EnvironmentContext(Config(), script, fn=upgrade, destination_rev=target) as environment,
    ):
        environment.configure(connection=tx, version_table=VERSION_TABLE)
        try:
            environment.run_migrations()
        except CommandError as error:
            raise Invalid(reason=f"{db.shown_url} cannot become {schema.name} schema {target}: {error}") from error
        return stored_version(tx) or ""


def version(db: Database) -> str | None:
    """The revision that the database is at; None when it was never synced. Raises DatabaseUnavailable."""
    with db.connect() as connection:
        return stored_version(connection)


def stored_version(connection: Connection) -> str | None:
    """As `version`, on a connection that is open already."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608  a constant
    return found


def newest(schema: Schema = CELL) -> str:
    """The revision that this software needs."""
    with _ALEMBIC:
        return _scripts(schema).get_current_head() or ""


def is_known(version: str, schema: Schema = CELL) -> bool:
    """Whether this software has the revision, so that the database is not of a later release."""
    with _ALEMBIC:
        return any(each.revision == version for each in _scripts(schema).walk_revisions())


@cache
def _scripts(schema: Schema) -> ScriptDirectory:
    """The revisions, which are loaded once in the process."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(schema.scripts))


def create_missing(tx: Connection, tables: MetaData) -> None:
    """Create those of the tables and their indexes that are not there."""
    there = set(inspect(tx).get_table_names())
    for table in tables.sorted_tables:
        if table.name not in there:
            table.create(tx)
            continue
        indexed = {index["name"] for index in inspect(tx).get_indexes(table.name)}
        for index in table.indexes:
            if index.name not in indexed:
                index.create(tx)


def add_missing(tx: Connection, table: str, *columns: Column[Any]) -> None:
    """Add those of the columns that the table has not got: a sync that was killed may have added some already."""
    from alembic import op

    there = {column["name"] for column in inspect(tx).get_columns(table)}
    for column in columns:
        if column.name not in there:
            op.add_column(table, column)


@contextlib.contextmanager
def _locked(db: Database) -> Iterator[Connection]:
    """A transaction during which no other process or thread syncs this database."""
    with db.begin() as tx:  # on SQLite this alone is the lock
        if db.dialect == "postgresql":
            tx.execute(text("SELECT pg_advisory_xact_lock(hashtext('polycell sync'))"))
        if db.dialect != "mysql":
            yield tx
            return
        name = tx.scalar(text("SELECT CONCAT('polycell ', SHA1(DATABASE()))"))
        if not tx.scalar(text("SELECT GET_LOCK(:name, :seconds)"), {"name": name, "seconds": LOCK_SECONDS}):
            raise DatabaseUnavailable(reason="another process is syncing the schema and does not end")
        try:
            yield tx
        finally:
            tx.execute(text("DO RELEASE_LOCK(:name)"), {"name": name})
