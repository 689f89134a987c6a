"""cell_v2: instances and their mappings."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from cell_service.db.upgrades import newest
from mapping_db import instance_mappings, progress_marks, quotas
from mapping_db.cell_mappings import CellMapping
from tests.manage.conftest import NOW, Ran, Site
from tools.manage import instances
from tools.manage.cloud import open_cloud
from tools.manage.out import Out
from tools.manage.settings import read_settings


def map_instances(site: Site, cell: CellMapping, *words: str) -> Ran:
    return site.run("cell_v2", "map_instances", "--cell_uuid", cell.uuid, *words)


def mapped(site: Site, cell: CellMapping) -> list[str]:
    with site.database("api").connect() as tx:
        return [each.instance_uuid for each in instance_mappings.of_cell(tx, cell.id, limit=1000)]


def usage(site: Site) -> dict[str, int]:
    with site.database("api").connect() as tx:
        return quotas.usage_of(tx, "p")


def test_instances_are_mapped_in_the_order_they_were_made(site: Site) -> None:
    cell = site.add_cell("c1")
    made = [site.add_instance("c1") for _ in range(7)]

    assert [map_instances(site, cell, "--max-count", "3").code for _ in range(4)] == [1, 1, 0, 0]
    assert mapped(site, cell) == made


@pytest.mark.parametrize("count", ["x", "", "0", "-1", "1.5"])
def test_a_max_count_that_is_no_positive_number_is_127(site: Site, count: str) -> None:
    cell = site.add_cell("c1")
    site.add_instance("c1")
    ran = map_instances(site, cell, f"--max-count={count}")
    assert (ran.code, ran.err.strip()) == (127, "Must supply a positive value for max-count")
    assert mapped(site, cell) == []


def test_max_count_that_fits_exactly_leaves_nothing(site: Site) -> None:
    cell = site.add_cell("c1")
    for _ in range(4):
        site.add_instance("c1")
    assert map_instances(site, cell, "--max-count", "4").code == 0
    assert map_instances(site, cell, "--reset", "-f", "json").json == {"mapped": 0, "complete": True}


def test_living_instances_count_in_their_quota_once(site: Site) -> None:
    cell = site.add_cell("c1")
    living, dead = site.add_instance("c1"), site.add_instance("c1", deleted=True)
    for _ in range(2):
        assert map_instances(site, cell).code == 0

    assert usage(site) == {"instances": 1, "cores": 2, "ram": 1024, "server_groups": 0}
    with site.database("api").connect() as tx:
        stored = instance_mappings.get_many(tx, [living, dead])
    assert (stored[living].gone, stored[living].queued_for_delete) == (False, False)
    assert (stored[dead].gone, stored[dead].queued_for_delete) == (True, True)
    assert (stored[living].vcpus, stored[living].memory_mb, stored[living].created_at) == (2, 1024, NOW)


@pytest.mark.parametrize("count", ["0", "-1"])
def test_a_count_that_is_none_is_127(site: Site, count: str) -> None:
    cell = site.add_cell("c1")
    assert map_instances(site, cell, "--max-count", count).code == 127


def test_no_such_cell_is_1(site: Site) -> None:
    assert site.run("cell_v2", "map_instances", "--cell_uuid", "nobody").code == 1


def test_a_silent_cell_is_255_and_one_line(site: Site) -> None:
    cell = site.add_cell("c1")
    site.run("cell_v2", "update_cell", "--cell_uuid", cell.uuid, "--database_connection", "sqlite:////nowhere/x")
    ran = map_instances(site, cell)
    assert ran.code == 255
    assert ran.err == (
        "Cell c1 is not reachable: the file can't be opened (sqlite:////nowhere/x); "
        "check its path, its directory and the rights on both.\n"
    )


def _map_at_once(site: Site, cell: CellMapping, count: int) -> None:
    made = [site.add_instance("c1") for _ in range(count)]
    settings = read_settings([str(site.directory / "nova.conf")])

    def attempt(_: int) -> instances.Mapped:
        with open_cloud(settings) as cloud:
            return instances.map_all(cloud, cell, Out())

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(attempt, range(4)))
    assert all(each.all for each in results)
    assert sum(each.count for each in results) == count
    assert sorted(mapped(site, cell)) == sorted(made)
    assert usage(site)["instances"] == count


def test_many_may_map_at_once(site: Site) -> None:
    _map_at_once(site, site.add_cell("c1"), 60)


@pytest.mark.real
def test_many_may_map_at_once_on_mariadb(real_site: Site) -> None:
    _map_at_once(real_site, real_site.add_cell("c1"), 700)


def test_exit_codes_of_verify_instance(site: Site) -> None:
    cell = site.add_cell("c1")
    living, dead, unmapped = site.add_instance("c1"), site.add_instance("c1", deleted=True), str(uuid.uuid4())
    map_instances(site, cell)
    placed_nowhere, archived = str(uuid.uuid4()), str(uuid.uuid4())
    with site.database("api").begin() as tx:
        instance_mappings.insert_new(
            tx,
            [instance_mappings.InstanceMapping(placed_nowhere, "p", "u", NOW, "n", 1, 1, None),
             instance_mappings.InstanceMapping(archived, "p", "u", NOW, "n", 1, 1, cell.id)],
        )  # fmt: skip

    def verify(instance: str) -> int:
        loud = site.run("cell_v2", "verify_instance", "--uuid", instance)
        quiet = site.run("cell_v2", "verify_instance", "--uuid", instance, "--quiet")
        assert instance in loud.out
        assert quiet.out == ""
        assert quiet.code == loud.code
        return loud.code

    assert [verify(each) for each in (living, unmapped, placed_nowhere, dead, archived)] == [0, 1, 2, 3, 4]
    assert site.run("cell_v2", "verify_instance", "--uuid", living, "-f", "json").json["cell_name"] == "c1"


def test_simple_cell_setup_makes_a_cloud_of_one_cell(site: Site) -> None:
    site.configure(DEFAULT__transport_url="memory://own", database__connection=site.url("own"))
    assert site.run("db", "sync").code == 0
    assert site.run("cell_v2", "simple_cell_setup").code == 1
    site.add_host("own", "h1")
    instance = site.add_instance("own", host="h1")

    assert [site.run("cell_v2", "simple_cell_setup").code for _ in range(2)] == [0, 0]
    assert site.run("cell_v2", "verify_instance", "--uuid", instance).code == 0
    assert [cell["name"] for cell in site.run("cell_v2", "list_cells", "-f", "json").json] == [None, "cell0"]
    assert [row["version"] for row in site.run("db", "version", "-f", "json").json] == [newest()] * 2


def test_simple_cell_setup_without_urls_is_1(site: Site) -> None:
    assert site.run("cell_v2", "simple_cell_setup").code == 1
    site.configure(database__connection=site.url("own"))
    assert site.run("cell_v2", "simple_cell_setup").code == 1
    assert site.run("cell_v2", "simple_cell_setup", "--transport-url", "nonsense").code == 1
    assert site.run("cell_v2", "list_cells", "-f", "json").json == []


def test_map_cell_and_hosts_maps_once(site: Site) -> None:
    site.configure(database__connection=site.url("own"))
    assert site.run("cell_v2", "map_cell_and_hosts").code == 1
    site.run("db", "sync")
    site.add_host("own", "h1")

    words = ("cell_v2", "map_cell_and_hosts", "--name", "c1", "--transport-url", "memory://own")
    first, again = site.run(*words, "--verbose"), site.run(*words, "--verbose")
    assert (first.code, again.code) == (0, 0)
    assert first.out.splitlines()[-1] == again.out.splitlines()[-1]
    assert "All hosts are already mapped to cell(s)." in again.out
    assert [host["host"] for host in site.run("cell_v2", "list_hosts", "-f", "json").json] == ["h1"]


def test_a_run_goes_on_where_the_last_one_stopped(site: Site) -> None:
    """A mark that lies behind rows without a mapping shows that they are not looked at again, unless told to."""
    cell = site.add_cell("c1")
    made = [site.add_instance("c1") for _ in range(5)]
    name = f"map_instances {cell.uuid}"
    with site.database("api").begin() as tx:
        progress_marks.put(tx, name, "2", NOW)
    assert map_instances(site, cell).code == 0
    assert mapped(site, cell) == made[2:]
    with site.database("api").connect() as tx:
        assert progress_marks.get(tx, name) is None

    with site.database("api").begin() as tx:
        progress_marks.put(tx, name, "5", NOW)
    assert map_instances(site, cell, "--reset").code == 0
    assert sorted(mapped(site, cell)) == sorted(made)


def test_every_full_batch_leaves_a_mark(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "_BATCH", 2)
    cell = site.add_cell("c1")
    made = [site.add_instance("c1") for _ in range(5)]
    assert map_instances(site, cell, "--max-count", "3").code == 1
    with site.database("api").connect() as tx:
        assert progress_marks.get(tx, f"map_instances {cell.uuid}") == "2"
    assert map_instances(site, cell).code == 0
    assert mapped(site, cell) == made


@pytest.mark.parametrize("command", ["map_cell_and_hosts", "simple_cell_setup"])
@pytest.mark.parametrize("mapped_as", ["its URL", "a template"])
def test_the_database_of_cell0_is_no_cell(site: Site, command: str, mapped_as: str) -> None:
    site.database("cell0")
    url = site.url("cell0")
    site.configure(DEFAULT__transport_url="memory://top", database__connection=url)
    zero = url if mapped_as == "its URL" else "{scheme}://" + url.removeprefix("sqlite:")[2:]
    assert site.run("cell_v2", "map_cell0", "--database_connection", zero).code == 0
    ran = site.run("cell_v2", command)
    assert ran.code == 1
    assert "cell0" in ran.err
    assert len(site.run("cell_v2", "list_cells", "-f", "json").json) == 1


def test_the_database_of_another_cell_is_not_mapped_again(site: Site) -> None:
    other = site.add_cell("c1")
    site.configure(DEFAULT__transport_url="memory://top", database__connection=site.url("c1"))
    ran = site.run("cell_v2", "map_cell_and_hosts")
    assert ran.code == 1
    assert other.uuid in ran.err
