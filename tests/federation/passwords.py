"""Where in the databases of a federation a password can be read."""

from __future__ import annotations

from functools import cache

from sqlalchemy import MetaData, Table, select

from cell_service.db.sql.engine import Database
from tests.federation.cloud import Federation


def found_in(cloud: Federation, *passwords: str) -> list[str]:
    """The tables that have one of the passwords. The first call takes long: it asks each database for its tables."""
    found: list[str] = []
    for name in ("global", *cloud.names):
        database = cloud.cell_database(name)
        tables = _tables(database.url.render_as_string(hide_password=False))
        with database.connect() as tx:
            for table in tables:
                text = str(tx.execute(select(table)).all())
                found += [f"{name}.{table.name}" for password in passwords if password in text]
        database.dispose()
    return found


@cache
def _tables(url: str) -> list[Table]:
    database = Database(url)
    tables = MetaData()
    with database.connect() as tx:
        tables.reflect(tx)
    database.dispose()
    return tables.sorted_tables
