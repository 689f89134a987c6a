"""Where in the databases of a federation a password can be read."""

from __future__ import annotations

from sqlalchemy import MetaData, select

from tests.federation.cloud import Federation


def found_in(cloud: Federation, *passwords: str) -> list[str]:
    """The tables that hold one of the passwords."""
    found: list[str] = []
    for name in ("global", *cloud.names):
        database = cloud.cell_database(name)
        with database.connect() as tx:
            tables = MetaData()
            tables.reflect(tx)
            for table in tables.sorted_tables:
                text = str(tx.execute(select(table)).all())
                found += [f"{name}.{table.name}" for password in passwords if password in text]
        database.dispose()
    return found
