"""cell_v2: hosts."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import pytest

from cell_service.db import compute_nodes, services
from mapping_db import cell_mappings, host_mappings, moves
from tests.manage.conftest import NOW, Ran, Site
from tools.manage import hosts
from tools.manage.cloud import open_cloud
from tools.manage.out import Out
from tools.manage.settings import read_settings


def discover(site: Site, *words: str) -> Ran:
    return site.run("cell_v2", "discover_hosts", *words)


def listed(site: Site, *words: str) -> list[tuple[str, str]]:
    found = site.run("cell_v2", "list_hosts", "-f", "json", *words).json
    return [(host["cell_name"], host["host"]) for host in found]


def test_hosts_are_discovered_once(site: Site) -> None:
    site.add_cell("c1")
    site.add_cell("c2")
    for cell, host in (("c1", "h1"), ("c1", "h2"), ("c2", "h3")):
        site.add_host(cell, host)

    assert discover(site, "--strict").code == 0
    assert listed(site) == [("c1", "h1"), ("c1", "h2"), ("c2", "h3")]
    assert discover(site).code == 0
    assert discover(site, "--strict").code == 1
    with site.database("c1").connect() as tx:
        assert compute_nodes.unmapped(tx) == []


def test_only_the_cell_that_was_named_is_asked(site: Site) -> None:
    one, two = site.add_cell("c1"), site.add_cell("c2")
    site.add_host("c1", "h1")
    site.add_host("c2", "h2")

    assert discover(site, "--cell_uuid", two.uuid, "-f", "json").json == [
        {"host": "h2", "cell_name": "c2", "cell_uuid": two.uuid}
    ]
    assert listed(site) == [("c2", "h2")]
    assert listed(site, "--cell_uuid", one.uuid) == []
    assert discover(site, "--cell_uuid", "nobody").code == 1
    assert site.run("cell_v2", "list_hosts", "--cell_uuid", "nobody").code == 1


def test_a_host_without_a_node_is_discovered_by_its_service(site: Site) -> None:
    site.add_cell("c1")
    site.add_host("c1", "ironic", node=False)
    assert discover(site).code == 0
    assert listed(site) == []
    assert discover(site, "--by-service", "--strict").code == 0
    assert listed(site) == [("c1", "ironic")]


def test_discovery_says_what_it_does_in_novas_words(site: Site) -> None:
    site.run("cell_v2", "map_cell0", "--database_connection", site.url("cell0"))
    cell = site.add_cell("c1")
    site.add_host("c1", "h1")
    assert discover(site, "--verbose").out.splitlines() == [
        "Found 2 cell mappings.",
        "Skipping cell0 since it does not contain hosts.",
        f"Getting computes from cell 'c1': {cell.uuid}",
        "Checking host mapping for compute host 'h1'",
        "Creating host mapping for compute host 'h1'",
        f"Found 1 unmapped computes in cell: {cell.uuid}",
    ]


def test_a_name_that_another_cell_has_is_told_every_time(site: Site) -> None:
    site.add_cell("c1")
    site.add_cell("c2")
    site.add_host("c1", "same")
    discover(site)
    site.add_host("c2", "same")
    site.add_host("c2", "other")
    assert [discover(site).code for _ in range(2)] == [2, 2]
    assert listed(site) == [("c1", "same"), ("c2", "other")]


def test_a_silent_cell_does_not_keep_the_others_hosts_from_being_found(site: Site) -> None:
    lost = site.add_cell("c1")
    site.add_cell("c2")
    site.add_host("c2", "h2")
    site.run("cell_v2", "update_cell", "--cell_uuid", lost.uuid, "--database_connection", "sqlite:////nowhere/x")
    found = discover(site)
    assert found.code == 1
    assert "Cell c1" in found.err
    assert "Traceback" not in found.err
    assert listed(site) == [("c2", "h2")]


def test_many_may_discover_at_once(site: Site) -> None:
    site.add_cell("c1")
    names = [f"h{number}" for number in range(40)]
    for name in names:
        site.add_host("c1", name)
    settings = read_settings([str(site.directory / "nova.conf")])

    def attempt(_: int) -> hosts.Discovery:
        with open_cloud(settings) as cloud:
            with cloud.db.connect() as tx:
                cells = cell_mappings.every(tx)
            return hosts.discover(cloud, cells, Out(stdout=io.StringIO(), stderr=io.StringIO()))

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(attempt, range(4)))
    assert [each.failed + each.foreign for each in found] == [[]] * 4
    with site.database("api").connect() as tx:
        assert sorted(each.host for each in host_mappings.every(tx)) == sorted(names)
    with site.database("c1").connect() as tx:
        assert compute_nodes.unmapped(tx) == []


def delete(site: Site, cell: str, host: str) -> int:
    return site.run("cell_v2", "delete_host", "--cell_uuid", cell, "--host", host).code


def test_exit_codes_of_delete_host(site: Site) -> None:
    one, two = site.add_cell("c1"), site.add_cell("c2")
    site.add_host("c1", "h1")
    site.add_host("c1", "busy")
    discover(site)
    site.add_instance("c1", host="busy")
    site.add_instance("c1", host="h1", deleted=True)

    assert delete(site, "nobody", "h1") == 1
    assert delete(site, one.uuid, "h9") == 2
    assert delete(site, two.uuid, "h1") == 3
    assert delete(site, one.uuid, "busy") == 4
    assert delete(site, one.uuid, "h1") == 0
    assert delete(site, one.uuid, "h1") == 2
    assert listed(site) == [("c1", "busy")]
    assert discover(site, "--strict").code == 0
    assert listed(site) == [("c1", "busy"), ("c1", "h1")]


def test_a_deletion_that_was_killed_half_way_can_be_finished(site: Site) -> None:
    cell = site.add_cell("c1")
    site.add_host("c1", "h1")
    discover(site)
    with site.database("api").begin() as tx:
        host_mappings.remove(tx, "h1")
    assert delete(site, cell.uuid, "h1") == 2
    assert discover(site, "--strict").code == 0


def two_hosts(site: Site, *, down: str) -> None:
    """The hosts h1, with a server, and h2; one of them is declared down."""
    site.configure(DEFAULT__service_down_time="2000000000")
    site.add_cell("c1")
    for host in ("h1", "h2"):
        site.add_host("c1", host)
    assert discover(site).code == 0
    site.add_instance("c1", host="h1")
    with site.database("c1").begin() as tx:
        service = services.by_host(tx, down, services.COMPUTE)
        services.change(tx, service.uuid, now=NOW, forced_down=True)


@pytest.mark.parametrize("more", [(), ("--dry-run",), ("--cold",), ("--enabled",)])
def test_a_host_that_is_down_is_not_drained(site: Site, more: tuple[str, ...]) -> None:
    two_hosts(site, down="h1")
    ran = site.run("cell_v2", "drain_host", "--host", "h1", *more)
    assert (ran.code, ran.out) == (1, "")
    assert "Host h1 is down" in ran.err
    assert "evacuate_host --host h1" in ran.err
    with site.database("c1").connect() as tx:
        assert not services.by_host(tx, "h1", services.COMPUTE).disabled
    with site.database("api").connect() as tx:
        assert moves.unfinished(tx) == []


@pytest.mark.parametrize("command", ["drain_host", "evacuate_host"])
def test_a_host_that_is_down_takes_no_servers(site: Site, command: str) -> None:
    two_hosts(site, down="h2")
    ran = site.run("cell_v2", command, "--host", "h1", "--to", "h2")
    assert ran.code == 1
    assert "Host h2, which is to take the servers, is down" in ran.err
    with site.database("c1").connect() as tx:
        assert not services.by_host(tx, "h1", services.COMPUTE).disabled


def test_a_host_that_is_up_is_drained(site: Site) -> None:
    two_hosts(site, down="h2")
    assert site.run("cell_v2", "drain_host", "--host", "h1", "--dry-run").code == 0
