"""db archive_deleted_rows and db purge: deleted servers leave, all else stays."""

from __future__ import annotations

import threading
import uuid
from dataclasses import replace

import pytest
from sqlalchemy import func, insert, select, update

from api_cell.superconductor.retention import Done, archive_deleted
from cell_service.context import Context, internal
from cell_service.db import actions, operations, schema, server_migrations
from cell_service.db import instances as instance_rows
from cell_service.model.migration import Migration
from cell_service.model.request_spec import RequestSpec
from cell_service.operations.host_tasks import CLEAN_UP
from mapping_db import instance_mappings, request_specs
from mapping_db import schema as glob
from tests.manage.conftest import FLAVOR, NOW, Site
from tools.manage.cloud import open_cloud
from tools.manage.settings import read_settings

CHILDREN = (schema.instance_actions, schema.instance_actions_events, schema.migrations)


def ctx_of(number: int) -> Context:
    return replace(internal(), request_id=f"req-{number}", user_id="u", project_id="p")


def add_server(site: Site, cell: str, *, deleted: bool = True, gone: bool = True, actions_each: int = 2) -> str:
    """A server with a history, and all that is known of it globally."""
    server = site.add_instance(cell, host="h")
    with site.database(cell).begin() as tx:
        for number in range(actions_each):
            actions.start(tx, ctx_of(number), server, "create", NOW)
            actions.start_event(tx, server, f"req-{number}", "compute_step", "h", NOW)
        migration = Migration(
            id=uuid.uuid4().int % 10**9, uuid=str(uuid.uuid4()), instance_uuid=server, migration_type="resize",
            status="confirmed", request_id="req-0", user_id="u", project_id="p", created_at=NOW,
        )  # fmt: skip
        server_migrations.store(tx, migration)
        if deleted:
            instance_rows.mark_deleted(tx, server, NOW)
    mapped = instance_mappings.InstanceMapping(
        server, "p", "u", NOW, "n", 1, 1, site_cell(site, cell), queued_for_delete=deleted, gone=deleted and gone
    )
    with site.database("api").begin() as tx:
        instance_mappings.insert_new(tx, [mapped])
        if not (deleted and gone):
            return server
        tx.execute(insert(glob.consumers).values(uuid=server, project_id="p", user_id="u", created_at=NOW))
    return server


def site_cell(site: Site, name: str) -> int:
    with site.database("api").connect() as tx:
        found = tx.scalar(select(glob.cell_mappings.c.id).where(glob.cell_mappings.c.name == name))
    assert isinstance(found, int)
    return found


def count(site: Site, cell: str, name: str) -> int:
    table = (schema.metadata if cell != "api" else glob.metadata).tables[name]
    with site.database(cell).connect() as tx:
        return tx.execute(select(func.count()).select_from(table)).scalar_one()


def archive(site: Site, *words: str) -> int:
    return site.run("db", "archive_deleted_rows", "--all-cells", *words).code


def test_deleted_servers_go_to_the_shadows_and_the_living_stay(site: Site) -> None:
    site.add_cell("c1")
    living = add_server(site, "c1", deleted=False)
    dead = [add_server(site, "c1") for _ in range(3)]

    assert archive(site) == 1
    assert archive(site) == 0
    for table in (schema.instances, *CHILDREN):
        each = {"instances": 1, "migrations": 1}.get(table.name, 2)
        assert count(site, "c1", table.name) == each
        assert count(site, "c1", f"shadow_{table.name}") == 3 * each
    with site.database("api").connect() as tx:
        assert set(instance_mappings.get_many(tx, [living, *dead])) == {living}
    assert count(site, "api", "consumers") == 0
    with site.database("c1").connect() as tx:
        kept = tx.execute(select(schema.shadow_instance_actions_events.c.instance_uuid)).scalars()
        assert set(kept) == set(dead)


def test_what_is_not_over_is_left_alone(site: Site) -> None:
    site.add_cell("c1")
    add_server(site, "c1", gone=False)
    busy = add_server(site, "c1")
    with site.database("c1").begin() as tx:
        operations.insert(tx, operations.new_operation(CLEAN_UP, internal(), busy, "h", NOW))
    assert archive(site) == 0
    assert (count(site, "c1", "instances"), count(site, "api", "instance_mappings")) == (2, 2)


def test_max_rows_bounds_a_run_and_until_complete_goes_on(site: Site) -> None:
    site.add_cell("c1")
    for _ in range(5):
        add_server(site, "c1")  # six rows each
    assert archive(site, "--max_rows", "13") == 1
    assert count(site, "c1", "instances") == 3
    assert archive(site, "--max_rows", "1", "--until-complete") == 1
    assert count(site, "c1", "instances") == 0
    assert archive(site, "--until-complete") == 0


def test_only_what_was_deleted_before(site: Site) -> None:
    site.add_cell("c1")
    add_server(site, "c1")
    assert archive(site, "--before", "2026-03-01") == 0
    assert archive(site, "--before", "2026-03-01 00:00:01") == 1
    purge = ("db", "purge", "--all-cells")
    assert site.run(*purge, "--before", "2026-03-01").code == 3
    ran = site.run(*purge, "--before", "Mon Mar  2 00:00:00 UTC 2026", "--verbose", "-f", "json")
    assert (ran.code, {row["table"] for row in ran.json}) == (
        0, {f"c1.shadow_{table.name}" for table in (schema.instances, *CHILDREN)},
    )  # fmt: skip
    for table in (schema.instances, *CHILDREN):
        assert count(site, "c1", f"shadow_{table.name}") == 0


def test_purge_keeps_nothing(site: Site) -> None:
    site.add_cell("c1")
    for _ in range(2):
        add_server(site, "c1")
        assert archive(site) == 1
    add_server(site, "c1")
    assert archive(site, "--purge") == 1
    for table in (schema.instances, *CHILDREN):
        assert count(site, "c1", table.name) == count(site, "c1", f"shadow_{table.name}") == 0
    assert site.run("db", "purge", "--all", "--all-cells").code == 3


def test_exit_codes(site: Site) -> None:
    site.add_cell("c1")
    assert [archive(site, "--max_rows", wrong) for wrong in ("0", "-1", "x", str(2**31))] == [2] * 4
    assert archive(site, "--before", "yesterday") == 4
    assert site.run("db", "purge").code == 1
    assert site.run("db", "purge", "--before", "soon").code == 2
    assert site.run("db", "archive_deleted_rows").code == 255
    site.configure(database__connection=site.url("c1"))
    add_server(site, "c1")
    assert site.run("db", "archive_deleted_rows", "--verbose").code == 1
    (site.directory / "nova.conf").write_text(f"[database]\nconnection = {site.url('c1')}\n", encoding="utf-8")
    assert site.run("db", "archive_deleted_rows").code == 3
    assert site.run("db", "purge", "--all").code == 4


def test_a_silent_cell_is_left_out_and_said_so(site: Site) -> None:
    site.add_cell("c1")
    site.add_cell("c2")
    there = [add_server(site, "c1"), add_server(site, "c2")]
    with site.database("api").begin() as tx:
        tx.execute(update(glob.cell_mappings).where(glob.cell_mappings.c.name == "c2")
                   .values(database_connection="mysql://nobody@127.0.0.1:1/none"))  # fmt: skip
    ran = site.run("db", "archive_deleted_rows", "--all-cells")
    assert ran.code == 5
    assert "c2" in ran.err
    with site.database("api").connect() as tx:
        assert set(instance_mappings.get_many(tx, there)) == {there[1]}


def test_remains_of_a_killed_run_are_forgotten(site: Site) -> None:
    site.add_cell("c1")
    half = add_server(site, "c1")
    with site.database("api").begin() as tx:
        request_specs.insert_new(tx, [RequestSpec(half, "p", "u", FLAVOR)], NOW)
        orphan = instance_mappings.InstanceMapping(
            str(uuid.uuid4()), "p", "u", NOW, "n", 1, 1, site_cell(site, "c1"), queued_for_delete=True, gone=True
        )
        instance_mappings.insert_new(tx, [orphan])

    class Killed(Exception):
        pass

    def killed() -> bool:
        raise Killed

    with open_cloud(read_settings([str(site.directory / "nova.conf")])) as cloud:
        with pytest.raises(Killed):
            archive_deleted(cloud, cloud.cells.open(site_cell(site, "c1")), Done(), stopped=killed)
    assert archive(site) == 1
    assert count(site, "api", "instance_mappings") == count(site, "api", "request_specs") == 0
    assert count(site, "c1", "instances") == 0


@pytest.mark.real
def test_two_at_once_on_mariadb_take_each_row_once(real_site: Site) -> None:
    site = real_site
    site.add_cell("c1")
    for _ in range(60):
        add_server(site, "c1")
    living = [add_server(site, "c1", deleted=False) for _ in range(3)]
    cell_id = site_cell(site, "c1")
    dones = [Done(), Done()]
    with open_cloud(read_settings([str(site.directory / "nova.conf")])) as cloud:

        def run(done: Done) -> None:
            archive_deleted(cloud, cloud.cells.open(cell_id), done)

        both = [threading.Thread(target=run, args=(done,)) for done in dones]
        for each in both:
            each.start()
        for each in both:
            each.join()
    assert sum(done.rows for done in dones) == 60 * 6
    assert (count(site, "c1", "shadow_instances"), count(site, "c1", "instances")) == (60, len(living))
