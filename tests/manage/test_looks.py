"""What depends on the kind of database: clocks, whose it is, notes that are written twice."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest
from sqlalchemy import make_url

from cell_service.context import SYSTEM_CLOCK
from cell_service.db import identity, schema
from cell_service.db.sql.engine import Database
from mapping_db import placement_notes, progress_marks
from mapping_db import schema as global_schema
from tests.manage.conftest import NOW, Site
from tests.real.databases import Server
from tests.real.delays import delayed
from tools.manage import cloud
from tools.manage.probes import database_clock


def test_a_clock_is_read_from_any_database(empty_url: str) -> None:
    db = Database(empty_url)
    with db.connect() as tx:
        reported = database_clock(tx)
    db.dispose()
    assert reported.tzinfo is UTC
    assert abs((reported - SYSTEM_CLOCK.now()).total_seconds()) < 60


def test_whoever_claims_a_database_first_has_it(empty_url: str) -> None:
    db = Database(empty_url)
    assert db.run(lambda tx: identity.claim(tx, "one", NOW)) is None  # no table yet
    schema.metadata.create_all(db.engine)
    assert db.run(lambda tx: identity.claim(tx, "one", NOW)) == "one"
    assert db.run(lambda tx: identity.claim(tx, "two", NOW)) == "one"
    assert db.run(lambda tx: identity.claim(tx, "two", NOW, before="three")) == "one"
    assert db.run(lambda tx: identity.claim(tx, "two", NOW, before="one")) == "two"
    db.run(lambda tx: identity.release(tx, "one"))
    with db.connect() as tx:
        assert identity.stored(tx) == "two"
    db.run(lambda tx: identity.release(tx, "two"))
    with db.connect() as tx:
        assert identity.stored(tx) is None
    db.dispose()


def test_notes_and_marks_are_replaced(empty_url: str) -> None:
    db = Database(empty_url)
    global_schema.metadata.create_all(db.engine)
    later = datetime(2027, 1, 1, tzinfo=UTC)
    db.run(lambda tx: placement_notes.put(tx, {"a": {"x": 1}, "b": {"x": "雲"}}, NOW))
    db.run(lambda tx: placement_notes.put(tx, {"b": {"x": 3}, "c": {}}, later))
    with db.connect() as tx:
        assert [placement_notes.get(tx, uuid) for uuid in "abcd"] == [{"x": 1}, {"x": 3}, {}, None]
    assert db.run(lambda tx: placement_notes.remove(tx, ["a", "b", "d"])) == 2
    for position in ("1", "2"):
        db.run(lambda tx, position=position: progress_marks.put(tx, "n", position, NOW))  # type: ignore[misc]
    with db.connect() as tx:
        assert progress_marks.get(tx, "n") == "2"
    db.dispose()


@pytest.mark.real
def test_check_and_detail_on_mariadb(real_site: Site) -> None:
    site = real_site
    site.run("cell_v2", "map_cell0", "--database_connection", site.url("cell0"))
    site.run("db", "sync")
    one = site.add_cell("c1")
    site.add_host("c1", "h1")
    site.run("cell_v2", "discover_hosts")
    uuid = site.add_instance("c1", host="h1")
    assert site.run("cell_v2", "check").code == 2
    assert site.run("cell_v2", "check", "--repair").code == 0
    assert site.run("cell_v2", "verify_instance", "--uuid", uuid).code == 0
    shown = site.run("cell_v2", "list_cells", "--detail", "-f", "json")
    assert shown.code == 0
    assert {cell["uuid"]: cell["instances"] for cell in shown.json}[one.uuid] == 1


@pytest.mark.real
def test_only_the_timeout_limits_what_diagnoses(
    real_site: Site, mariadb: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer of the cell takes several times as long as a command without --timeout grants it."""
    monkeypatch.setattr(cloud, "PATIENCE", 0.1)
    site = real_site
    site.run("cell_v2", "map_cell0", "--database_connection", site.url("cell0"))
    site.run("db", "sync")
    cell = site.add_cell("c1")
    with delayed(mariadb.port, 0.1) as port:
        url = make_url(site.url("c1")).set(port=port).render_as_string(hide_password=False)
        site.run("cell_v2", "update_cell", "--cell_uuid", cell.uuid, "--database_connection", url)
        shown = site.run("cell_v2", "list_cells", "--detail", "--timeout", "100", "-f", "json")
        checked = site.run("cell_v2", "check", "--timeout", "100")
        hurried = site.run("cell_v2", "list_cells", "--detail", "--timeout", "0.1")
    assert shown.code == 0, shown.out
    assert {each["name"]: each["silent"] for each in shown.json} == {"c1": False, "cell0": False}
    assert checked.code == 0, checked.out
    assert (hurried.code, "UNREACHABLE" in hurried.out) == (1, True)


@pytest.mark.real
def test_a_check_waits_for_databases_that_are_slow(slow_site: Site, own_mariadb: Server) -> None:
    """A second is far more than a service grants a cell before it counts it as silent."""
    site = slow_site
    site.run("cell_v2", "map_cell0", "--database_connection", site.url("cell0"))
    site.run("db", "sync")
    site.add_cell("c1")
    site.add_host("c1", "h1")
    site.run("cell_v2", "discover_hosts")
    own_mariadb.freeze()
    thawing = threading.Timer(1.0, own_mariadb.thaw)
    thawing.start()
    checked = site.run("cell_v2", "check", "--timeout", "60")
    thawing.join()
    assert (checked.code, "silent" in checked.out) == (0, False), checked.out
