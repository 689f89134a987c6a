"""The launcher makes the databases that are missing on a server, with what the account may do there."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from sqlalchemy import make_url

from cell_service.db.sql.engine import Database
from cell_service.errors import Invalid
from tests.real.databases import Server
from tools.up import databases
from tools.up.plan import Options, Plan, plan_of

pytestmark = pytest.mark.real


def plan(state: Path, url: str) -> Plan:
    return plan_of(Options(state, cells=1, database=(url,)))


def demand_synced(plan: Plan) -> None:
    for url in plan.databases.values():
        database = Database(url)
        with database.connect() as tx:
            assert tx.exec_driver_sql("SELECT count(*) FROM alembic_version").scalar() == 1
        database.dispose()


@pytest.mark.parametrize("kind", ["mariadb", "postgresql"])
def test_missing_databases_are_made(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    server: Server = request.getfixturevalue(kind)
    url = server.create_database()
    planned = plan(tmp_path, f"{url}_{{cell}}")
    databases.sync(planned)
    demand_synced(planned)
    databases.sync(planned)  # nothing is left to make


def test_an_account_needs_no_other_database(mariadb: Server, tmp_path: Path) -> None:
    name = f"u{uuid.uuid4().hex[:10]}"
    admin = Database(mariadb.create_database())
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE USER {name}@'127.0.0.1' IDENTIFIED BY 'pw'")
        connection.exec_driver_sql(f"GRANT ALL ON `{name}\\_%%`.* TO {name}@'127.0.0.1'")
    admin.dispose()
    url = make_url(mariadb.create_database()).set(username=name, password="pw", database=f"{name}_CELL")
    planned = plan(tmp_path, url.render_as_string(hide_password=False).replace("CELL", "{cell}"))
    databases.sync(planned)
    demand_synced(planned)


def test_an_account_of_postgresql_needs_no_database_postgres(postgresql: Server, tmp_path: Path) -> None:
    name = f"u{uuid.uuid4().hex[:10]}"
    admin = Database(postgresql.create_database())
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN CREATEDB")
        connection.exec_driver_sql("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
    try:
        url = make_url(postgresql.create_database()).set(username=name, database=f"{name}_CELL")
        planned = plan(tmp_path, url.render_as_string(hide_password=False).replace("CELL", "{cell}"))
        databases.sync(planned)
        demand_synced(planned)
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql("GRANT CONNECT ON DATABASE postgres TO PUBLIC")
        admin.dispose()


def test_an_account_that_may_make_none_is_one_clear_line(postgresql: Server, tmp_path: Path) -> None:
    name = f"u{uuid.uuid4().hex[:10]}"
    url = postgresql.create_database()
    admin = Database(url)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN")
    admin.dispose()
    own = make_url(url).set(username=name, database=f"{name}_CELL").render_as_string(hide_password=False)
    with pytest.raises(Invalid, match="permission denied to create database"):
        databases.sync(plan(tmp_path, own.replace("CELL", "{cell}")))
