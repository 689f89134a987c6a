"""Allocations that differ from the instances: what `cell_v2 check` says of them, and what is left alone."""

from __future__ import annotations

import json
import uuid

import pytest

from mapping_db import instance_mappings
from mapping_db.placement import aggregates, allocations, inventories, providers, traits
from mapping_db.placement.allocations import Claim
from mapping_db.placement.inventories import Inventory
from tests.manage.conftest import FLAVOR, NOW, Site
from tests.manage.test_allocations import SIZES, add_provider, living, provider_of

OTHER = str(uuid.uuid5(uuid.NAMESPACE_DNS, "other"))


@pytest.fixture
def cloud(site: Site) -> Site:
    """One cell with two hosts that placement knows."""
    site.run("cell_v2", "map_cell0", "--database_connection", site.url("cell0"))
    site.run("db", "sync")
    site.add_cell("c1")
    for host in ("h1", "h2"):
        site.add_host("c1", host)
        add_provider(site, host, vcpus=16)
    assert site.run("cell_v2", "discover_hosts").code == 0
    return site


def allocate(site: Site, consumer: str, **by_host: dict[str, int]) -> None:
    wanted = Claim(consumer, {provider_of(host): held for host, held in by_host.items()}, "p", "u", "INSTANCE")
    site.database("api").run(lambda tx: allocations.write(tx, [wanted], NOW))


def said(site: Site) -> list[str]:
    """What is found of placement."""
    ran = site.run("cell_v2", "check", "-f", "json")
    found = [each for each in json.loads(ran.out)["findings"] if each["check"] == "placement"]
    assert {each["level"] for each in found} <= {"warning"}
    return sorted(each["text"] for each in found)


def test_allocations_that_agree_are_not_mentioned(cloud: Site) -> None:
    allocate(cloud, living(cloud), h1=SIZES)
    assert said(cloud) == []


def test_each_kind_is_said_with_the_command_that_mends_it(cloud: Site) -> None:
    bare, strange, more, nothing = living(cloud), living(cloud), living(cloud), str(uuid.uuid4())
    allocate(cloud, strange, h2=SIZES)
    allocate(cloud, more, h1=SIZES | {"VCPU": 3})
    allocate(cloud, nothing, h2={"VCPU": 1})
    heal = "; see polycell-manage placement heal_allocations --instance"
    audit = "; see polycell-manage placement audit"
    amounts = f"VCPU 3 for {FLAVOR.vcpus}"
    assert said(cloud) == sorted(
        (
            f"instance {bare} on h1 has no allocation{heal} {bare}",
            f"instance {strange} on h1 has an allocation of another host: {provider_of('h2')}{heal} {strange} --force",
            f"instance {more} on h1 has other amounts than its flavor demands: {amounts}{heal} {more} --force",
            f"consumer {nothing} has allocations, and is neither an instance nor a move{audit} --delete",
        )
    )
    for uuid_ in (bare, strange, more):
        assert cloud.run("placement", "heal_allocations", "--instance", uuid_, "--force").code == 0
    assert cloud.run("placement", "audit", "--delete").code == 4
    assert said(cloud) == []


def test_resources_of_children_and_of_providers_that_share_count(cloud: Site) -> None:
    instance = living(cloud)
    with cloud.database("api").begin() as tx:
        child = providers.add(tx, str(uuid.uuid4()), "child", NOW, parent_uuid=provider_of("h1"))
        inventories.put(tx, child, {"VCPU": Inventory(4)}, 0, NOW)
        pool = providers.add(tx, OTHER, "pool", NOW)
        inventories.put(tx, pool, {"DISK_GB": Inventory(100)}, 0, NOW)
        traits.put(tx, providers.get(tx, OTHER), ["MISC_SHARES_VIA_AGGREGATE"], None, NOW)
        aggregates.put(tx, providers.get(tx, OTHER), {OTHER}, None, NOW)
    memory = {"MEMORY_MB": SIZES["MEMORY_MB"]}
    held = {provider_of("h1"): memory, child.uuid: {"VCPU": 2}, OTHER: {"DISK_GB": 10}}
    cloud.database("api").run(lambda tx: allocations.write(tx, [Claim(instance, held, "p", "u", "INSTANCE")], NOW))
    assert said(cloud) == []


def test_what_is_being_deleted_is_left_alone(cloud: Site) -> None:
    instance = living(cloud)
    assert len(said(cloud)) == 1
    with cloud.database("api").begin() as tx:
        instance_mappings.queue_for_delete(tx, instance)
    assert said(cloud) == []
