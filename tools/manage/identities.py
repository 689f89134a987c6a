"""Which cell a database belongs to: checked before a cell gets one, and recorded in it once it is the cell's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from sqlalchemy import make_url

from cell_service.db import identity
from cell_service.db.sql.engine import Database, PoolLimits
from cell_service.errors import Conflict, DatabaseUnavailable, Invalid
from mapping_db import cell_mappings
from mapping_db.cell_mappings import CellMapping
from mapping_db.cells.url_templates import fill
from mapping_db.cloud import Cloud
from tools.manage.failures import explained
from tools.manage.out import Out

_LIMITS = PoolLimits(size=1, overflow=0, connect_seconds=3.0, read_seconds=10.0)


class DatabaseTaken(Conflict):
    """The database says that it is another cell's."""

    message = "This is the database of cell {cell}{more}."


def demand_free(
    cloud: Cloud, url: str, *, own_url: str, out: Out, cell_uuid: str = "", take_over: bool = False
) -> None:
    """Raises DatabaseTaken when the database says that it is the one of a cell other than `cell_uuid`. One that
    doesn't answer gives a warning: it may be another cell's."""
    try:
        with _opened(url, own_url) as db, db.connect() as tx:
            owner = identity.stored(tx)
    except (DatabaseUnavailable, Invalid) as error:
        out.warn(f"Warning: it is not checked which cell the database belongs to. {explained(error)}")
        return
    except _NotThere:
        return
    if owner is None or owner == cell_uuid:
        return
    with cloud.db.connect() as tx:
        mapped = {each.uuid: each for each in cell_mappings.every(tx)}
    if owner in mapped:
        raise DatabaseTaken(cell=f"{mapped[owner].shown} ({owner})", more="")
    if not take_over:
        raise DatabaseTaken(cell=owner, more=", which is not mapped here; --take-over makes it this cell's")


def claim(cell: CellMapping, *, own_url: str, now: datetime, take_over: bool = False) -> None:
    """The cell's database records that it is the cell's, if it can be reached and has the table; else `db sync` does
    this."""
    with contextlib.suppress(DatabaseUnavailable, Invalid, _NotThere), _opened(cell.database_connection, own_url) as db:
        with db.connect() as tx:
            before = identity.stored(tx) if take_over else None
        db.run(lambda tx: identity.claim(tx, cell.uuid, now, before=before))


def give_up(cell: CellMapping, *, own_url: str) -> bool:
    """Release the database, so that it belongs to no cell any more, if it was the cell's. False when it does not
    answer."""
    try:
        with _opened(cell.database_connection, own_url) as db:
            db.run(lambda tx: identity.release(tx, cell.uuid))
    except _NotThere:
        return True
    except (DatabaseUnavailable, Invalid):
        return False
    return True


class _NotThere(Exception):
    """A database in a file that does not exist yet."""


@contextlib.contextmanager
def _opened(url: str, own_url: str) -> Iterator[Database]:
    """Raises _NotThere instead of making an empty file."""
    filled = fill(url, own_url)
    try:
        parsed = make_url(filled)
        db = Database(filled, _LIMITS)
    except Exception as error:  # a URL is outside data: any driver may object to it in its own way
        raise Invalid(reason=f"the URL is not usable ({type(error).__name__})") from error
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
        raise _NotThere
    try:
        yield db
    finally:
        db.dispose()
