"""cell_v2 recover: rows that a cell lost are made again as far as the global database knows them, and no further."""

from __future__ import annotations

import sys
import uuid

import pytest
from sqlalchemy import insert, select

from cell_service.context import internal
from cell_service.db import instances
from cell_service.db.schema import instances as table
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import VmState
from cell_service.model.request_spec import RequestSpec
from mapping_db import instance_mappings, request_specs
from mapping_db import schema as glob
from mapping_db.instance_mappings import InstanceMapping
from mapping_db.placement import providers
from tests.manage.conftest import FLAVOR, NOW, Ran, Site
from tests.manage.test_archive import site_cell
from tests.manage.test_snapshots import Terminal, emptied, saved
from tests.suites.peers import MemoryNetworks
from tools.manage.cloud import open_cloud
from tools.manage.main import NOT_CONFIRMED
from tools.manage.recovering import Recovering, with_ports
from tools.manage.settings import read_settings


def node_of(host: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, host))


@pytest.fixture
def cell(site: Site) -> Site:
    """A cell with two hosts, and their providers."""
    site.add_cell("c1")
    for host in ("h1", "h2"):
        site.add_host("c1", host)
        with site.database("api").begin() as tx:
            providers.add(tx, node_of(host), host, NOW)
    return site


def add(site: Site, host: str | None, *, row: bool = False, **more: object) -> str:
    """A server that the global database knows, of which the cell has a row or not."""
    server = site.add_instance("c1", host="h1") if row else str(uuid.uuid4())
    with site.database("api").begin() as tx:
        cell_id = site_cell(site, "c1")
        instance_mappings.insert_new(tx, [InstanceMapping(server, "p", "u", NOW, "My Server", 2, 1024, cell_id)])
        spec = RequestSpec(server, "p", "u", FLAVOR, image_id="image", image_properties={"hw_disk_bus": "scsi"}, **more)  # type: ignore[arg-type]
        request_specs.insert_new(tx, [spec], NOW)
        if host is not None:
            provider = providers.get(tx, node_of(host))
            tx.execute(insert(glob.consumers).values(uuid=server, project_id="p", user_id="u", created_at=NOW))
            tx.execute(insert(glob.allocations).values(
                consumer_uuid=server, resource_provider_id=provider.id, resource_class="VCPU", used=2
            ))  # fmt: skip
    return server


def recover(site: Site, *words: str) -> Ran:
    return site.run("cell_v2", "recover", "--cell", "c1", "--without-ports", "-f", "json", *words)


def rows(site: Site) -> dict[str, Instance]:
    with site.database("c1").connect() as tx:
        known = list(tx.scalars(select(table.c.uuid)))
        return instances.get_many(tx, known, deleted=True)


def test_a_row_that_is_lost_is_made_again(cell: Site) -> None:
    server = add(cell, "h2")
    planned = recover(cell, "--dry-run")
    assert (planned.code, rows(cell)) == (0, {})
    ran = recover(cell)
    assert (ran.code, ran.json) == (0, planned.json)
    assert ran.json == [{"uuid": server, "name": "My Server", "host": "h2", "action": "make", "reason": None}]
    made = rows(cell)[server]
    assert (made.host, made.node, made.vm_state, made.task_state) == ("h2", "h2", VmState.ACTIVE, None)
    assert (made.hostname, made.image_ref, made.flavor) == ("my-server", "image", FLAVOR)
    assert made.system_metadata["image_hw_disk_bus"] == "scsi"
    assert recover(cell).json == []


def test_the_check_is_content_afterwards(cell: Site) -> None:
    for host in ("h1", "h2"):
        add(cell, host)
    cell.run("cell_v2", "discover_hosts")
    before = cell.run("cell_v2", "check", "--cell", "c1", "-f", "json").json["findings"]
    assert [each["check"] for each in before if each["check"] == "instances"] == ["instances"] * 2
    recover(cell)
    after = cell.run("cell_v2", "check", "--cell", "c1", "-f", "json").json["findings"]
    assert not [each for each in after if each["check"] == "instances"]


@pytest.mark.parametrize(
    ("host", "more", "reason"),
    [(None, {}, "no allocations"), ("h1", {"volume_backed": True}, "boots from a volume"), ("h3", {}, "not reported")],
)
def test_what_is_not_known_is_left_and_said(cell: Site, host: str | None, more: dict[str, object], reason: str) -> None:
    if host == "h3":
        with cell.database("api").begin() as tx:
            providers.add(tx, node_of("h3"), "h3", NOW)
    add(cell, host, **more)
    ran = recover(cell)
    assert (ran.code, rows(cell)) == (1, {})
    assert reason in ran.json[0]["reason"]


def test_a_host_that_is_older_than_the_allocations_is_corrected(cell: Site) -> None:
    """The server has moved since the snapshot was taken."""
    server, stays = add(cell, "h2", row=True), add(cell, "h1", row=True)
    [only] = recover(cell).json
    assert (only["uuid"], only["action"], only["host"]) == (server, "move", "h2")
    found = rows(cell)
    assert (found[server].host, found[server].node, found[stays].host) == ("h2", "h2", "h1")


def test_what_users_deleted_since_is_deleted_only_when_that_is_wanted(
    cell: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = add(cell, "h1", row=True)
    with cell.database("api").begin() as tx:
        instance_mappings.mark_gone(tx, [server])
    assert recover(cell).json == []
    assert recover(cell, "--deleted").code == NOT_CONFIRMED
    assert rows(cell)[server].deleted_at is None
    monkeypatch.setattr(sys, "stdin", Terminal("c1\n"))
    assert recover(cell, "--deleted").json[0]["action"] == "delete"
    assert rows(cell)[server].deleted_at is not None


def test_a_cell_restored_alone_gets_what_it_lacks(cell: Site) -> None:
    before = add(cell, "h1", row=True)
    path = saved(cell)
    since = add(cell, "h2", row=True)
    emptied(cell, "c1")
    ran = cell.run("snapshot", "restore", str(path), "--database", "c1")
    assert ran.code == 1
    assert f"instance {since} is mapped to the cell, which has no row of it" in ran.err
    assert "`cell_v2 recover --cell c1`" in ran.err
    assert recover(cell).code == 0
    assert set(rows(cell)) == {before, since}


def test_no_such_cell_and_one_that_is_down(cell: Site) -> None:
    assert cell.run("cell_v2", "recover", "--cell", "c9", "--without-ports").code == 2
    cell.run("cell_v2", "update_cell", "--cell_uuid", "c1", "--database_connection", "mysql://u:p@127.0.0.1:1/x")
    ran = recover(cell)
    assert (ran.code, len(ran.err.splitlines())) == (3, 1)


def test_ports_are_the_network_services(cell: Site) -> None:
    server = add(cell, "h1")
    networks = MemoryNetworks()
    port = networks.add_port("p", server)
    networks.add_port("p", "another")
    with open_cloud(read_settings((str(cell.directory / "nova.conf"),))) as cloud:
        recovering = Recovering(cloud, cloud.cells.open(site_cell(cell, "c1")))
        [found] = with_ports(internal(cloud.clock), networks, list(recovering.plan(deleted=False)))
        assert recovering.run(found)
    assert [vif.port_id for vif in rows(cell)[server].network_info] == [port]


def test_without_a_network_service_nothing_is_made(cell: Site) -> None:
    add(cell, "h1")
    ran = cell.run("cell_v2", "recover", "--cell", "c1")
    assert (ran.code, rows(cell)) == (3, {})
    assert "--without-ports" in ran.err
    cell.configure(neutron__auth_url="http://127.0.0.1:1", neutron__username="u", neutron__password="p",
                   neutron__project_name="service")  # fmt: skip
    ran = cell.run("cell_v2", "recover", "--cell", "c1")
    assert (ran.code, rows(cell)) == (3, {})
    assert ran.err.splitlines()[-1].startswith("The network service does not answer")


def test_a_row_that_others_change_meanwhile_is_left(cell: Site) -> None:
    moved, made = add(cell, "h2", row=True), add(cell, "h1")
    with open_cloud(read_settings((str(cell.directory / "nova.conf"),))) as cloud:
        recovering = Recovering(cloud, cloud.cells.open(site_cell(cell, "c1")))
        found = {each.uuid: each for each in recovering.plan(deleted=False)}
        with cell.database("c1").begin() as tx:
            instances.change(tx, moved, now=NOW, host="h3")
        assert recovering.run(found[made])
        assert not recovering.run(found[made])
        assert not recovering.run(found[moved])
    assert rows(cell)[moved].host == "h3"
