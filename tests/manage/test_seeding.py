"""bench seed and unseed: all that was made agrees, and goes."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select

from cell_service.db import instance_lists, instances
from cell_service.db.schema import compute_nodes, instance_actions, services
from cell_service.db.schema import instances as instance_table
from mapping_db import instance_mappings, quotas, request_specs
from mapping_db.placement import allocations
from mapping_db.schema import allocations as allocation_table
from mapping_db.schema import consumers, host_mappings, inventories, resource_providers
from mapping_db.schema import instance_mappings as mapping_table
from mapping_db.schema import request_specs as spec_table
from tests.manage.conftest import NOW, Site


def count(site: Site, name: str, table: Any) -> int:
    with site.database(name).connect() as tx:
        return tx.scalar(select(func.count()).select_from(table)) or 0


def seed(site: Site, number: int, *words: str) -> int:
    made = site.run("bench", "seed", "--instances", str(number), "-f", "json", *words)
    assert made.code == 0, made.err
    return int(made.json["made"])


def _check(site: Site) -> None:
    cells = [site.add_cell("c1"), site.add_cell("c2")]
    assert seed(site, 31, "--hosts-per-cell", "3", "--project", "p") == 31

    with site.database("api").connect() as tx:
        mappings = {each.instance_uuid: each for cell in cells
                    for each in instance_mappings.of_cell(tx, cell.id, limit=1000)}  # fmt: skip
        taken = allocations.of_consumers(tx, mappings)
        used = quotas.usage_of(tx, "p")
        specs = {uuid: request_specs.get(tx, uuid) for uuid in mappings}
        full = tx.execute(select(inventories.c.used, inventories.c.capacity)).all()
    assert len(mappings) == 31
    assert len({each.created_at for each in mappings.values()}) > 25
    assert used == {"instances": 31, "cores": sum(each.vcpus for each in mappings.values()),
                    "ram": sum(each.memory_mb for each in mappings.values()), "server_groups": 0}  # fmt: skip
    assert all(row.used == row.capacity for row in full)
    for name, cell in zip(("c1", "c2"), cells, strict=True):
        with site.database(name).connect() as tx:
            stored = instance_lists.page(tx, instance_lists.Listing())
        assert len(stored) in (15, 16)
        for each in stored:
            mapping = mappings[each.uuid]
            assert (mapping.cell_id, mapping.created_at, mapping.project_id) == (cell.id, each.created_at, "p")
            (amounts,) = taken[each.uuid].allocations.values()
            assert amounts["VCPU"] == each.flavor.vcpus
            assert specs[each.uuid].flavor == each.flavor  # type: ignore[union-attr]
        assert count(site, name, services) == count(site, name, compute_nodes) == 0
    assert count(site, "api", host_mappings) == 0


def test_what_was_seeded_agrees(site: Site) -> None:
    _check(site)


@pytest.mark.real
def test_what_was_seeded_agrees_on_mariadb(real_site: Site) -> None:
    _check(real_site)


def test_the_same_seed_gives_the_same_instances(site: Site) -> None:
    site.add_cell("c1")
    assert [seed(site, number) for number in (10, 10, 15, 10)] == [10, 0, 5, 0]
    assert seed(site, 10, "--seed", "2") == 10
    assert seed(site, 10, "--project", "other") == 10
    assert count(site, "api", mapping_table) == count(site, "c1", instance_table) == 35


def test_what_was_killed_half_way_is_completed(site: Site) -> None:
    site.add_cell("c1")
    seed(site, 10)
    with site.database("api").begin() as tx:
        some = list(tx.scalars(select(mapping_table.c.instance_uuid).limit(4)))
        instance_mappings.remove(tx, some)
        request_specs.remove(tx, some)
        for uuid in some:
            allocations.release(tx, uuid, NOW)
        quotas.release(tx, "bench", "bench", {"instances": 4})
    assert seed(site, 10) == 4
    with site.database("api").connect() as tx:
        assert quotas.usage_of(tx, "bench")["instances"] == 10


def test_unseed_leaves_nothing_and_touches_nothing_else(site: Site) -> None:
    cell = site.add_cell("c1")
    own = site.add_instance("c1", host="bench-cellar")
    site.run("cell_v2", "map_instances", "--cell_uuid", cell.uuid)
    seed(site, 12)
    seed(site, 8, "--project", "other")

    assert site.run("bench", "unseed", "--project", "other", "--yes", "-f", "json").json == {"removed": 8}
    assert site.run("bench", "unseed", "--yes", "-f", "json").json == {"removed": 12}
    assert site.run("bench", "unseed", "--yes", "-f", "json").json == {"removed": 0}
    for table in (consumers, allocation_table, resource_providers, inventories, spec_table):
        assert count(site, "api", table) == 0, table
    assert count(site, "c1", instance_actions) == 0
    with site.database("api").connect() as tx:
        assert quotas.usage_of(tx, "bench")["instances"] == quotas.usage_of(tx, "other")["instances"] == 0
        assert quotas.usage_of(tx, "p")["instances"] == 1
        assert [each.instance_uuid for each in instance_mappings.of_cell(tx, cell.id, limit=10)] == [own]
    with site.database("c1").connect() as tx:
        assert instances.get(tx, own).uuid == own


def test_only_the_cells_named_are_filled_and_never_cell0(site: Site) -> None:
    site.run("cell_v2", "map_cell0", "--database_connection", site.url("cell0"))
    assert site.run("bench", "seed", "--instances", "1").code == 1
    site.add_cell("c1")
    two = site.add_cell("c2")
    seed(site, 4, "--cells", two.uuid)
    assert (count(site, "c1", instance_table), count(site, "c2", instance_table)) == (0, 4)
    assert site.run("bench", "seed", "--instances", "1", "--cells", "c1,nobody").code == 1
    assert site.run("bench", "unseed", "--cells", "nobody").code == 1
    assert site.run("bench", "seed", "--instances", "0").code == 2
