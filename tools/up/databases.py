"""The databases and cell mappings of a cloud on one machine: there, at the newest schema, and mapped."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ProgrammingError

from cell_service.context import SYSTEM_CLOCK
from cell_service.db import identity
from cell_service.db import upgrades as migrate
from cell_service.db.sql.engine import Database, PoolLimits
from cell_service.db.sql.failures import lacks_database
from cell_service.errors import DatabaseUnavailable, Invalid
from mapping_db import cell_mappings
from mapping_db.cell_mappings import CELL0_UUID
from mapping_db.upgrades import GLOBAL as GLOBAL_SCHEMA
from tools.manage.urls import CELL0_TRANSPORT, masked
from tools.up.plan import GLOBAL, Plan

_PROPERTIES = {"mysql": " CHARACTER SET utf8mb4", "postgresql": " TEMPLATE template0"}


def sync(plan: Plan) -> None:
    """Make every database, and bring it to the newest schema. Raises Invalid, naming the URL without its password."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: _sync(name, plan.databases[name]), plan.databases))


def demand_server(url: str, seconds: float) -> None:
    """The database's server answers and knows the account; the database may be missing still. Raises
    DatabaseUnavailable."""
    db = Database(url, PoolLimits(size=1, overflow=0, connect_seconds=seconds, read_seconds=seconds))
    try:
        db.ping()
    except DatabaseUnavailable as error:
        if not lacks_database(error.__cause__):
            raise
    finally:
        db.dispose()


def map_cells(plan: Plan) -> dict[str, str]:
    """Map every cell as the plan has it. Answers the uuids by name."""
    db = Database(plan.databases[GLOBAL])
    try:
        with db.begin() as tx:
            known = {mapping.name: mapping for mapping in cell_mappings.every(tx)}
            for name in ("cell0", *plan.cells):
                queue, database = plan.transports.get(name, CELL0_TRANSPORT), plan.databases[name]
                now, mapping = SYSTEM_CLOCK.now(), known.get(name)
                if mapping is None:
                    uuid = CELL0_UUID if name == "cell0" else str(uuid4())
                    known[name] = cell_mappings.insert_new(
                        tx, uuid=uuid, name=name, transport_url=queue, database_connection=database, now=now
                    )
                elif (mapping.transport_url, mapping.database_connection) != (queue, database):
                    cell_mappings.change(tx, mapping.uuid, transport_url=queue, database_connection=database, now=now)
    finally:
        db.dispose()
    for name in ("cell0", *plan.cells):
        _claim(plan.databases[name], known[name].uuid)
    return {name: mapping.uuid for name, mapping in known.items()}


def _claim(url: str, cell_uuid: str) -> None:
    """Record in the database which cell it belongs to."""
    db = Database(url)
    try:
        db.run(lambda tx: identity.claim(tx, cell_uuid, SYSTEM_CLOCK.now()))
    finally:
        db.dispose()


def _sync(name: str, url: str) -> None:
    try:
        _create_missing(url)
        db = Database(url)
        try:
            migrate.sync(db, GLOBAL_SCHEMA if name == GLOBAL else migrate.CELL)
        finally:
            db.dispose()
    except DatabaseUnavailable as error:
        raise Invalid(reason=f"the database of {name} can't be used: {error.fields['reason']}") from error
    except ProgrammingError as error:
        raise Invalid(reason=f"the database of {name} ({masked(url)}) can't be used: {error.orig}") from error


def _create_missing(url: str) -> None:
    """On a server, make the database when it is not there and the account may."""
    parsed = make_url(url)
    backend, name = parsed.get_backend_name(), parsed.database
    if backend == "sqlite" or not name:
        return
    db = Database(url)
    try:
        db.ping()
        return
    except DatabaseUnavailable as error:
        if not lacks_database(error.__cause__):
            raise
    finally:
        db.dispose()
    server = _server(parsed)
    quoted = server.engine.dialect.identifier_preparer.quote(name)
    try:
        with server.connect() as connection:  # opens no transaction: PostgreSQL makes no database in one
            connection.exec_driver_sql(f"CREATE DATABASE {quoted}{_PROPERTIES[server.dialect]}")
    finally:
        server.dispose()


def _server(url: URL) -> Database:
    """A connection to the server, whatever the account may open: by itself for MySQL, on PostgreSQL to one of the
    databases that each server has. Raises DatabaseUnavailable."""
    names = ("postgres", "template1") if url.get_backend_name().startswith("postgres") else ("",)
    for name in names:
        server = Database(url.set(database=name).render_as_string(hide_password=False))
        try:
            server.ping()
        except DatabaseUnavailable:
            server.dispose()
            if name == names[-1]:
                raise
        else:
            return server
    raise AssertionError("unreachable")
