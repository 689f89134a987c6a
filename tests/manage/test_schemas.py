"""api_db and db: schemas of databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from cell_service.db import upgrades as cell_schema
from cell_service.db.sql.engine import Database
from cell_service.errors import SchemaMissing
from mapping_db import cell_mappings
from mapping_db import upgrades as migrate
from tests.manage.conftest import Site
from tools.manage.failures import sync_command


def versions(site: Site) -> dict[str, str | None]:
    return {row["cell_name"]: row["version"] for row in site.run("db", "version", "-f", "json").json}


def test_the_global_database_is_at_the_newest_version(site: Site) -> None:
    newest = cell_schema.newest(migrate.GLOBAL)
    assert site.run("api_db", "sync").code == 0
    assert site.run("api_db", "version").out.strip() == newest
    assert site.run("api_db", "version", "-f", "json").json == {"version": newest, "newest": newest}
    assert site.run("api_db", "sync", newest).code == 0


@pytest.mark.parametrize("words", [("cell_v2", "list_cells"), ("cell_v2", "check"), ("placement", "list"),
                                   ("db", "archive_deleted_rows", "--all-cells")])  # fmt: skip
def test_a_database_without_schema_is_said_as_such(site: Site, words: tuple[str, ...]) -> None:
    site.configure(api_database__connection=site.url("bare"))
    ran = site.run(*words)
    assert ran.code == 255
    assert "has no schema yet" in ran.err
    assert ran.err.rstrip().endswith("Run `polycell-manage api_db sync`.")


def test_a_cell_without_schema_is_said_as_such(site: Site) -> None:
    site.run("cell_v2", "create_cell", "--name", "c1", "--transport-url", "memory://c1",
             "--database_connection", site.url("c1"))  # fmt: skip
    ran = site.run("cell_v2", "map_instances", "--cell_uuid", "c1")
    assert ran.code == 255
    assert "has no schema yet" in ran.err
    assert ran.err.rstrip().endswith("Run `polycell-manage db sync`.")


def test_what_lacks_is_named_on_each_kind_of_database(empty_url: str) -> None:
    db = Database(empty_url)
    try:
        with pytest.raises(SchemaMissing) as no_table, db.connect() as tx:
            cell_mappings.every(tx)
        with db.begin() as tx:
            tx.execute(text("CREATE TABLE cell_mappings (id INTEGER)"))
        with pytest.raises(SchemaMissing) as no_column, db.connect() as tx:
            cell_mappings.every(tx)
    finally:
        db.dispose()
    assert sync_command(no_table.value) == "polycell-manage api_db sync"
    assert "uuid" in str(no_column.value)


def test_a_version_that_is_none_is_one_line(site: Site) -> None:
    ran = site.run("api_db", "sync", "402")
    assert ran.code == 255
    assert len(ran.err.splitlines()) == 1


def test_all_mapped_cells_are_synced(site: Site) -> None:
    for name in ("c1", "c2", "c3"):
        site.run("cell_v2", "create_cell", "--name", name, "--transport-url", f"memory://{name}",
                 "--database_connection", site.url(name))  # fmt: skip
    site.run("cell_v2", "map_cell0", "--database_connection", site.url("cell0"))
    assert set(versions(site).values()) == {None}

    assert [site.run("db", "sync").code for _ in range(2)] == [0, 0]
    assert versions(site) == dict.fromkeys(("c1", "c2", "c3", "cell0"), cell_schema.newest())


def test_one_cell_can_be_synced(site: Site) -> None:
    site.add_cell("c1")
    site.run("cell_v2", "create_cell", "--name", "c2", "--transport-url", "memory://c2",
             "--database_connection", site.url("c2"))  # fmt: skip
    assert versions(site) == {"c1": cell_schema.newest(), "c2": None}
    assert site.run("db", "sync", "--cell_uuid", "nobody").code == 255


def test_the_own_database_needs_no_global_one(site: Site) -> None:
    site.configure(api_database__connection="", database__connection=site.url("own"))
    assert site.run("db", "sync", "--local_cell").code == 0
    unasked = site.run("db", "sync")
    assert unasked.code == 0
    assert "[api_database] connection is not set" in unasked.err
    assert list(versions(site).values()) == [cell_schema.newest()]


def test_without_any_database_nothing_is_done(site: Site) -> None:
    site.configure(api_database__connection="")
    for words in (("db", "sync"), ("db", "sync", "--local_cell"), ("db", "version"), ("api_db", "sync"),
                  ("cell_v2", "list_cells"), ("db", "sync", "--cell_uuid", "x")):  # fmt: skip
        ran = site.run(*words)
        assert ran.code == 255, words
        assert "connection is not set" in ran.err


def test_a_cell_that_is_not_there_is_1_and_the_others_are_synced(site: Site) -> None:
    for name, url in (("bad", "sqlite:////nowhere/x"), ("good", site.url("good"))):
        site.run("cell_v2", "create_cell", "--name", name, "--transport-url", f"memory://{name}",
                 "--database_connection", url)  # fmt: skip
    ran = site.run("db", "sync")
    assert ran.code == 1
    assert "Cell bad:" in ran.err
    assert "Warning: cell0 is not mapped" in ran.err
    assert versions(site) == {"bad": None, "good": cell_schema.newest()}


def test_a_template_is_filled_and_one_that_cannot_be_costs_only_its_cell(site: Site) -> None:
    for name, url in (("good", "{scheme}:///" + site.url("good").removeprefix("sqlite:///")),
                      ("bad", "mysql://{username}:{password}@h/x")):  # fmt: skip
        made = site.run("cell_v2", "create_cell", "--name", name, "--transport-url", f"memory://{name}",
                        "--database_connection", url)  # fmt: skip
        assert made.code == 0, made.err
    site.configure(database__connection="sqlite:///own")
    assert site.run("db", "sync").code == 1
    assert versions(site) == {"good": cell_schema.newest(), "bad": None}


def test_the_global_schema_is_not_put_into_a_cell_nor_the_other_way(site: Site) -> None:
    site.configure(database__connection=site.url("api"))
    assert site.run("db", "sync", "--local_cell").code == 1


def test_threads_may_sync_many_databases_at_once(tmp_path: Path) -> None:
    databases = [Database(f"sqlite:///{tmp_path / str(number % 3)}.sqlite") for number in range(9)]
    with ThreadPoolExecutor(9) as threads:
        assert set(threads.map(cell_schema.sync, databases)) == {cell_schema.newest()}
    for database in databases:
        database.dispose()


@pytest.mark.real
def test_all_mapped_cells_are_synced_on_mariadb(real_site: Site) -> None:
    test_all_mapped_cells_are_synced(real_site)
