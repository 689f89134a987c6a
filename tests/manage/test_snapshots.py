"""snapshot: what was saved is what is restored, and nothing is changed by a file or a database that is not right."""

from __future__ import annotations

import io
import json
import stat
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine, MetaData, event, select, update

from cell_service.db import identity, instances, schema, upgrades
from cell_service.db.sql.engine import Database
from mapping_db import cell_mappings, host_mappings
from mapping_db import schema as glob
from mapping_db.cell_mappings import CELL0_UUID
from tests.manage.conftest import NOW, Site, _site
from tests.manage.test_allocations import add_provider
from tests.manage.test_archive import add_server
from tests.suites.schemas import prepare
from tools.manage.main import NOT_CONFIRMED
from tools.manage.snapshots import rows

SETTLING = {"topology", "cell_identity", "alembic_version"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def everything(db: Database, metadata: MetaData) -> dict[str, list[tuple[Any, ...]]]:
    """All rows, without those that say when a database was restored."""
    with db.connect() as tx:
        return {
            table.name: [tuple(row) for row in tx.execute(select(table).order_by(*table.primary_key.columns))]
            for table in metadata.sorted_tables
            if table.name not in SETTLING
        }


def whole(site: Site) -> dict[str, dict[str, list[tuple[Any, ...]]]]:
    return {
        name: everything(site.database(name), glob.metadata if name == "api" else schema.metadata)
        for name in ("api", "cell0", "c1", "c2")
    }


def furnish(site: Site) -> list[str]:
    """Two cells and cell0 with servers, one of each cell's deleted. The uuids of those that live."""
    for cell in ("cell0", "c1", "c2"):
        prepare(site.database(cell))
        uuid = CELL0_UUID if cell == "cell0" else str(uuid4())
        with site.database("api").begin() as tx:
            mapping = cell_mappings.insert_new(tx, uuid=uuid, name=cell, transport_url=f"memory://{cell}",
                                               database_connection=site.url(cell), now=NOW)  # fmt: skip
            if cell != "cell0":
                host_mappings.insert_missing(tx, mapping.id, [f"h-{cell}"], NOW)
        with site.database(cell).begin() as tx:
            identity.claim(tx, uuid, NOW)
    living = []
    for cell in ("c1", "c2"):
        site.add_host(cell, f"h-{cell}")
        living += [add_server(site, cell, deleted=False) for _ in range(2)]
        add_server(site, cell)
        add_provider(site, f"h-{cell}", vcpus=8)
        with site.database(cell).begin() as tx:
            for uuid in living[-2:]:
                instances.change(tx, uuid, now=NOW, host=f"h-{cell}", node=f"h-{cell}")
    assert site.run("placement", "heal_allocations").code == 0
    return living


def saved(site: Site, *words: str) -> Path:
    path = site.directory / "saved.zip"
    ran = site.run("snapshot", "save", str(path), *words)
    assert ran.code == 0, ran.err
    return path


def emptied(site: Site, *names: str) -> None:
    """The databases are there, and have no table."""
    for name in names:
        site.opened.pop(name).dispose()
        old = site.urls[name]
        if old.startswith("sqlite"):
            for end in ("", "-wal", "-shm"):
                Path(old.removeprefix("sqlite:///") + end).unlink(missing_ok=True)
            continue
        db = site.database(name)
        reflected = MetaData()
        with db.begin() as tx:
            reflected.reflect(tx)
            reflected.drop_all(tx)


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.real),
                        pytest.param("postgresql", marks=pytest.mark.real)])  # fmt: skip
def any_site(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Site]:
    """A site on each kind of database."""
    if request.param == "sqlite":
        yield from _site(tmp_path, capsys, lambda name: f"sqlite:///{tmp_path / name}.sqlite")
    else:
        server = request.getfixturevalue(request.param)
        yield from _site(tmp_path, capsys, lambda name: server.create_database())


def test_a_federation_is_restored_as_it_was(any_site: Site) -> None:
    site = any_site
    furnish(site)
    before = whole(site)
    path = saved(site)
    emptied(site, "api", "cell0", "c1", "c2")

    ran = site.run("snapshot", "restore", str(path), "-f", "json")

    assert ran.code == 0, ran.err
    assert [each["database"] for each in ran.json] == ["cell0", "c1", "c2", "global"]
    assert whole(site) == before
    assert site.run("cell_v2", "check").code == 0
    add_server(site, "c1")  # ids go on after the restored ones


def test_a_snapshot_of_one_kind_of_database_goes_to_another(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    furnish(site)
    before = everything(site.database("c1"), schema.metadata)
    path = saved(site)
    other = Database(f"sqlite:///{tmp_path / 'other.sqlite'}")
    with site.database("api").begin() as tx:
        tx.execute(update(glob.cell_mappings).where(glob.cell_mappings.c.name == "c1")
                   .values(database_connection=other.url.render_as_string()))  # fmt: skip
    assert site.run("snapshot", "restore", str(path), "--database", "c1").code == 0
    assert everything(other, schema.metadata) == before
    other.dispose()


def test_the_file_is_its_owners_alone_and_is_not_replaced(site: Site) -> None:
    furnish(site)
    path = saved(site)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = path.read_bytes()
    ran = site.run("snapshot", "save", str(path))
    assert (ran.code, path.read_bytes()) == (2, content)
    assert site.run("snapshot", "save", str(site.directory)).code == 0
    assert len(list(site.directory.glob("polycell-*.zip"))) == 1
    assert not list(site.directory.glob("*.part"))


def test_a_directory_that_is_not_there_is_one_line(site: Site) -> None:
    ran = site.run("snapshot", "save", str(site.directory / "nowhere" / "x.zip"))
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)


def test_show_counts_rows_and_hides_urls(site: Site) -> None:
    furnish(site)
    path = saved(site)
    ran = site.run("snapshot", "show", str(path), "-f", "json")
    assert [each["database"] for each in ran.json] == ["global", "cell0", "c1", "c2"]
    rows = {(each["database"], each["table"]): each["rows"]
            for each in site.run("snapshot", "show", str(path), "--tables", "-f", "json").json}  # fmt: skip
    assert (rows["c1", "instances"], rows["global", "instance_mappings"]) == (3, 6)
    site.configure(api_database__connection="")
    assert site.run("snapshot", "show", str(path)).code == 0


def down(site: Site, cell: str) -> None:
    ran = site.run("cell_v2", "update_cell", "--cell_uuid", cell, "--database_connection", "mysql://u:p@127.0.0.1:1/x")
    assert ran.code == 0, ran.err


def test_a_cell_that_is_down_is_named_and_the_others_are_saved(site: Site) -> None:
    furnish(site)
    down(site, "c2")
    path = site.directory / "saved.zip"
    ran = site.run("snapshot", "save", str(path), "-f", "json")
    assert (ran.code, [each["name"] for each in ran.json["missing"]]) == (1, ["c2"])
    assert "Cell c2 is not in it: " in ran.err
    names = [each["database"] for each in site.run("snapshot", "show", str(path), "-f", "json").json]
    assert names == ["global", "cell0", "c1"]


def test_a_cell_that_is_skipped_is_not_waited_for(site: Site) -> None:
    furnish(site)
    down(site, "c2")
    path = saved(site, "--skip-cell", "c2")
    assert "Cell c2 is not in it: left out by --skip-cell" in site.run("snapshot", "show", str(path)).out
    ran = site.run("snapshot", "save", str(site.directory / "b.zip"), "--skip-cell", "c9")
    assert (ran.code, ran.err) == (2, "No cell is called c9.\n")
    assert not (site.directory / "b.zip").exists()


def test_a_save_sees_one_moment(any_site: Site) -> None:
    """What is written while a database is read is not in the snapshot."""
    site = any_site
    furnish(site)
    with site.database("c1").connect() as tx:
        rows.freeze(tx)
        tables = rows.stored_tables(tx, schema.metadata)
        site.add_instance("c1")
        counts: dict[str, int] = {}
        assert list(rows.lines(tx, tables, counts))
    assert counts["instances"] == 3


def test_a_cell_is_never_older_than_the_global_database(site: Site) -> None:
    """A server that is made between the two moments has a row and no mapping, and not the other way round."""
    furnish(site)
    made: list[str] = []

    def connected(connection: Connection) -> None:
        own = site.database("c1").engine
        if not made and connection.engine is not own and connection.engine.url == own.url:
            made.append(add_server(site, "c1", deleted=False))

    event.listen(Engine, "engine_connect", connected)
    try:
        path = saved(site)
    finally:
        event.remove(Engine, "engine_connect", connected)
    emptied(site, "api", "cell0", "c1", "c2")
    ran = site.run("snapshot", "restore", str(path))
    assert ran.code == 1
    assert f"instance {made[0]} has no mapping, so no user can see it" in ran.err
    assert site.run("cell_v2", "check", "--repair").code == 0
    (left,) = json.loads(site.run("cell_v2", "check", "-f", "json").out)["findings"]
    assert left["text"].startswith(f"instance {made[0]} on h has no allocation")


@pytest.mark.parametrize("harm", ["cut", "byte", "text", "missing"])
def test_a_broken_file_changes_nothing(site: Site, harm: str) -> None:
    furnish(site)
    path = saved(site)
    content = bytearray(path.read_bytes())
    if harm == "cut":
        path.write_bytes(content[: len(content) * 2 // 3])
    elif harm == "text":
        path.write_text("nothing", encoding="utf-8")
    elif harm == "missing":
        path.unlink()
    else:
        with zipfile.ZipFile(path) as file:
            place = file.getinfo("global.jsonl").header_offset + 100
        content[place] ^= 0xFF
        path.write_bytes(content)
    before = whole(site)
    for words in (("show",), ("restore", "--yes")):
        ran = site.run("snapshot", words[0], str(path), *words[1:])
        assert (ran.code, len(ran.err.splitlines())) == (2, 1), ran.err
    assert whole(site) == before


@pytest.mark.parametrize("typed", [None, "c1\n"])
def test_what_has_rows_is_replaced_only_when_that_is_confirmed(
    site: Site, monkeypatch: pytest.MonkeyPatch, typed: str | None
) -> None:
    furnish(site)
    path = saved(site)
    site.add_instance("c1")
    before = whole(site)
    if typed is not None:
        monkeypatch.setattr(sys, "stdin", Terminal(typed))
    ran = site.run("snapshot", "restore", str(path))
    assert (ran.code, whole(site) == before) == (NOT_CONFIRMED, True), ran.err
    monkeypatch.setattr(sys, "stdin", Terminal("all-databases\n"))
    assert site.run("snapshot", "restore", str(path)).code == 0
    assert len(whole(site)["c1"]["instances"]) == 3


def test_a_dry_run_counts_and_makes_no_file(site: Site) -> None:
    furnish(site)
    path = saved(site)
    emptied(site, "c1")
    ran = site.run("snapshot", "restore", str(path), "--dry-run", "-f", "json")
    there = {each["database"]: each["rows_there"] for each in ran.json}
    assert (ran.code, there["c1"], there["c2"] > 0) == (0, 0, True)
    assert not Path(site.urls["c1"].removeprefix("sqlite:///")).exists()


def test_a_cell_in_use_is_warned_of(site: Site) -> None:
    furnish(site)
    path = saved(site)
    with site.database("c1").begin() as tx:
        tx.execute(update(schema.services).values(last_seen_up=datetime.now(UTC)))
    with site.database("c2").begin() as tx:
        tx.execute(update(schema.services).values(last_seen_up=NOW))
    ran = site.run("snapshot", "restore", str(path), "--dry-run")
    assert "h-c1 have reported to c1 in the last minute" in ran.err
    assert "h-c2" not in ran.err


def test_a_database_that_does_not_answer_changes_nothing(site: Site) -> None:
    furnish(site)
    down(site, "c2")
    path = site.directory / "saved.zip"
    site.run("snapshot", "save", str(path))
    with site.database("api").begin() as tx:
        tx.execute(update(glob.cell_mappings).where(glob.cell_mappings.c.name == "c1")
                   .values(database_connection="mysql://u:p@127.0.0.1:1/y"))  # fmt: skip
    before = whole(site)
    ran = site.run("snapshot", "restore", str(path), "--database", "c1", "--yes")
    assert (ran.code, whole(site) == before) == (3, True)
    assert "The database of c1 cannot be restored to" in ran.err
    assert ":p@" not in ran.err


def test_the_database_of_another_cell_is_refused(site: Site) -> None:
    furnish(site)
    path = saved(site)
    with site.database("api").begin() as tx:
        tx.execute(update(glob.cell_mappings).where(glob.cell_mappings.c.name == "c1")
                   .values(database_connection=site.url("c2")))  # fmt: skip
    ran = site.run("snapshot", "restore", str(path), "--database", "c1", "--yes")
    assert ran.code == 3
    assert "it is the database of the cell" in ran.err


def test_tables_of_another_program_are_refused(site: Site) -> None:
    furnish(site)
    path = saved(site)
    emptied(site, "c1")
    with site.database("c1").begin() as tx:
        tx.exec_driver_sql("CREATE TABLE wiki (id INTEGER)")
    ran = site.run("snapshot", "restore", str(path), "--database", "c1", "--yes")
    assert (ran.code, "another program, wiki" in ran.err) == (3, True)


def test_a_cell_that_is_not_in_the_snapshot(site: Site) -> None:
    furnish(site)
    ran = site.run("snapshot", "restore", str(saved(site)), "--database", "c9", "--yes")
    assert (ran.code, ran.err) == (4, "No cell is called c9.\n")


def test_a_restored_cell_says_since_when_it_has_its_rows(site: Site) -> None:
    furnish(site)
    path = saved(site)
    emptied(site, "c1")
    assert site.run("snapshot", "restore", str(path), "--database", "c1").code == 0
    with site.database("c1").connect() as tx:
        claimed = identity.claimed_at(tx)
    assert claimed is not None
    assert claimed > NOW


def test_a_snapshot_of_an_older_schema_waits_for_a_sync(site: Site) -> None:
    furnish(site)
    emptied(site, "c1")
    upgrades.sync(site.database("c1"), version="cell_005")
    path = saved(site)
    emptied(site, "c1")
    assert site.run("snapshot", "restore", str(path), "--database", "c1").code == 1  # the check says: run db sync
    assert upgrades.version(site.database("c1")) == "cell_005"
    assert site.run("db", "sync").code == 0
    ran = site.run("snapshot", "restore", str(path), "--database", "c1", "--yes")
    assert (ran.code, "newer than the snapshot's" in ran.err) == (3, True)
