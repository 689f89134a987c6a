"""`placement heal_allocations`, `audit` and `sync_aggregates`: placement and the rest of the cloud agree again; and
`capacity`."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
from sqlalchemy import Connection

from cell_service.db import instances
from cell_service.model.lifecycle import Task
from cell_service.model.move import MoveKind, MovePhase
from mapping_db import aggregates as host_aggregates
from mapping_db import flavors, instance_mappings, moves
from mapping_db.moves import Move
from mapping_db.placement import aggregates, allocations, inventories, providers
from mapping_db.placement.allocations import Claim, Consumer
from mapping_db.placement.inventories import Inventory
from tests.manage.conftest import FLAVOR, NOW, Site

SIZES = {"VCPU": 2, "MEMORY_MB": 1024, "DISK_GB": 10}


def provider_of(host: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, host))


def add_provider(site: Site, host: str, vcpus: int = 4) -> None:
    def work(tx: Connection) -> None:
        made = providers.add(tx, provider_of(host), host, NOW)
        stock = {"VCPU": Inventory(vcpus), "MEMORY_MB": Inventory(8192), "DISK_GB": Inventory(100)}
        inventories.put(tx, made, stock, 0, NOW)

    site.database("api").run(work)


@pytest.fixture
def cloud(site: Site) -> Site:
    """One cell with a host that placement knows."""
    cell = site.add_cell("c1")
    site.add_host("c1", "h1")
    assert site.run("cell_v2", "discover_hosts", "--cell_uuid", cell.uuid).code == 0
    add_provider(site, "h1")
    return site


def living(site: Site, host: str | None = "h1", node: str = "h1", task: Task | None = None) -> str:
    """An instance of the cell on a host, mapped."""
    made = site.add_instance("c1", host=host)
    with site.database("c1").begin() as tx:
        instances.change(tx, made, now=NOW, node=node, task_state=task)
    assert site.run("cell_v2", "map_instances", "--cell_uuid", "c1").code == 0
    return made


def allocated(site: Site, consumer: str) -> Consumer | None:
    with site.database("api").connect() as tx:
        return allocations.of_consumer(tx, consumer)


def claim(site: Site, consumer: str, amounts: dict[str, int] | None = None, kind: str = "INSTANCE") -> None:
    wanted = Claim(consumer, {provider_of("h1"): amounts or {"VCPU": 1}}, "p", "u", kind)
    site.database("api").run(lambda tx: allocations.write(tx, [wanted], NOW))


# -- heal_allocations -------------------------------------------------------------------------


def test_an_instance_without_allocation_gets_what_its_flavor_says(cloud: Site) -> None:
    bare, has, busy, homeless = (
        living(cloud),
        living(cloud),
        living(cloud, task=Task.REBOOTING),
        living(cloud, None),
    )
    claim(cloud, has)
    dry = cloud.run("placement", "heal_allocations", "--dry-run")
    assert dry.code == 4
    assert f"Instance {bare} needs DISK_GB 10, MEMORY_MB 1024, VCPU 2 of {provider_of('h1')}." in dry.out
    assert allocated(cloud, bare) is None
    assert cloud.run("placement", "heal_allocations", "--verbose").code == 0
    healed = allocated(cloud, bare)
    assert healed is not None
    assert healed.allocations == {provider_of("h1"): SIZES}
    assert (healed.project_id, healed.user_id, healed.consumer_type) == ("p", "u", "INSTANCE")
    assert allocated(cloud, has).allocations == {provider_of("h1"): {"VCPU": 1}}  # type: ignore[union-attr]
    assert allocated(cloud, busy) is None
    assert allocated(cloud, homeless) is None
    assert cloud.run("placement", "heal_allocations").code == 4


def test_an_allocation_is_replaced_by_force(cloud: Site) -> None:
    instance = living(cloud)
    claim(cloud, instance)
    assert cloud.run("placement", "heal_allocations", "--instance", instance).code == 4
    assert cloud.run("placement", "heal_allocations", "--instance", instance, "--force").code == 0
    assert allocated(cloud, instance).allocations == {provider_of("h1"): SIZES}  # type: ignore[union-attr]


def test_an_instance_with_request_groups_is_left_alone(cloud: Site) -> None:
    """Its root provider is not what serves them."""
    instance, wanted = living(cloud), {"resources1:VCPU": "2"}
    with cloud.database("c1").begin() as tx:
        instances.change(tx, instance, now=NOW, flavor=replace(FLAVOR, extra_specs=wanted))
    for options in ((), ("--instance", instance), ("--dry-run",)):
        ran = cloud.run("placement", "heal_allocations", *options)
        assert (ran.code, f"Instance {instance}: its flavor has request groups" in ran.err) == (3, True)
    claim(cloud, instance)
    assert cloud.run("placement", "heal_allocations", "--instance", instance, "--force").code == 3
    assert allocated(cloud, instance).allocations == {provider_of("h1"): {"VCPU": 1}}  # type: ignore[union-attr]


def test_so_many_are_healed_at_most(cloud: Site) -> None:
    both = [living(cloud), living(cloud)]
    assert cloud.run("placement", "heal_allocations", "--max-count", "1").code == 1
    assert sum(allocated(cloud, each) is not None for each in both) == 1
    assert cloud.run("placement", "heal_allocations", "--max-count", "9", "--cell", "c1").code == 0


def test_one_that_fails_does_not_keep_the_others(cloud: Site) -> None:
    lost, large = living(cloud, "h9", "h9"), [living(cloud) for _ in range(3)]
    ran = cloud.run("placement", "heal_allocations")
    assert ran.code == 3
    assert f"Instance {lost}: its compute node h9 on h9 has no record." in ran.err
    assert sum(allocated(cloud, each) is not None for each in large) == 2
    assert cloud.run("placement", "heal_allocations", "--instance", lost).code == 2


@pytest.mark.parametrize(
    "words",
    [
        ("--force",),
        ("--instance", "00000000-0000-4000-8000-000000000000"),
        ("--instance", "x", "--cell", "c1"),
        ("--cell", "no-such"),
        ("--max-count", "-1"),
    ],
)
def test_options_that_contradict_each_other_change_nothing(cloud: Site, words: tuple[str, ...]) -> None:
    bare = living(cloud)
    assert cloud.run("placement", "heal_allocations", *words).code == 127
    assert allocated(cloud, bare) is None


# -- audit ------------------------------------------------------------------------------------


def test_consumers_that_are_nothing_are_found_and_deleted(cloud: Site) -> None:
    instance, lost, gone, foreign = living(cloud), str(uuid.uuid4()), living(cloud), str(uuid.uuid4())
    moving, moved = str(uuid.uuid4()), str(uuid.uuid4())
    with cloud.database("api").begin() as tx:
        instance_mappings.mark_gone(tx, [gone])
        for move, ended in ((moving, None), (moved, NOW)):
            moves.insert_new(tx, Move(move, instance, MoveKind.RESIZE, MovePhase.DONE if ended else MovePhase.WAITING,
                                      "req", "u", "p", NOW, 1, "h1", finished_at=ended))  # fmt: skip
    with cloud.database("api").begin() as tx:
        held = providers.get(tx, provider_of("h1"))
        inventories.add(tx, held, "FPGA", Inventory(9), None, NOW)
    for consumer in (instance, lost, gone, moving, moved):
        claim(cloud, consumer, {"DISK_GB": 1})
    claim(cloud, foreign, {"FPGA": 1})
    found = cloud.run("placement", "audit", "--verbose", "-f", "json")
    assert found.code == 3
    assert {row["consumer"] for row in found.json} == {lost, gone, moved}
    assert found.json[0]["allocations"] == f"{provider_of('h1')}: DISK_GB 1"
    assert cloud.run("placement", "audit", "--delete", "--resource_provider", provider_of("h1")).code == 4
    assert [allocated(cloud, each) is None for each in (instance, lost, gone, moving, moved, foreign)] == [
        False, True, True, False, True, False,
    ]  # fmt: skip
    assert cloud.run("placement", "audit").code == 0


def test_an_unknown_provider_is_bad_input(cloud: Site) -> None:
    assert cloud.run("placement", "audit", "--resource_provider", "no-such").code == 127


# -- sync_aggregates --------------------------------------------------------------------------


def inside(site: Site, host: str = "h1") -> set[str]:
    with site.database("api").connect() as tx:
        return set(aggregates.of_provider(tx, providers.get(tx, provider_of(host)).id))


def aggregate(site: Site, *hosts: str) -> str:
    made = str(uuid.uuid4())
    with site.database("api").begin() as tx:
        known = host_aggregates.add(tx, made, made, None, NOW)
        for host in hosts:
            host_aggregates.add_host(tx, known.id, host, NOW)
    return made


def test_providers_are_in_the_aggregates_of_their_hosts(cloud: Site) -> None:
    one, other, own = aggregate(cloud, "h1"), aggregate(cloud), str(uuid.uuid4())
    with cloud.database("api").begin() as tx:
        aggregates.put(tx, providers.get(tx, provider_of("h1")), {other, own}, None, NOW)
    assert cloud.run("placement", "sync_aggregates").code == 0
    assert inside(cloud) == {one, other, own}
    assert cloud.run("placement", "sync_aggregates", "--prune", "--verbose").out == (
        "0 memberships were added, 1 removed.\n"
    )
    assert inside(cloud) == {one, own}


def test_each_host_that_lacks_something_is_named(cloud: Site) -> None:
    cloud.add_host("c1", "h2")
    assert cloud.run("cell_v2", "discover_hosts").code == 0
    one = aggregate(cloud, "h1", "h2", "h3")
    ran = cloud.run("placement", "sync_aggregates")
    assert ran.code == 6
    assert "Host h3 is not mapped" in ran.err
    assert f"Compute node {provider_of('h2')} of host h2 has no resource provider." in ran.err
    assert inside(cloud) == {one}


# -- capacity ---------------------------------------------------------------------------------


def test_how_many_more_fit_and_what_runs_out(cloud: Site) -> None:
    cloud.add_host("c1", "h2")
    add_provider(cloud, "h2", vcpus=1)
    assert cloud.run("cell_v2", "discover_hosts").code == 0
    aggregate(cloud, "h1")
    with cloud.database("api").begin() as tx:
        flavors.insert_flavor(tx, FLAVOR, NOW)
    claim(cloud, living(cloud), {"VCPU": 2})
    by_cell = cloud.run("placement", "capacity", "--flavor", FLAVOR.name, "-f", "json")
    assert (by_cell.code, by_cell.json) == (
        0, [{"cell": "c1", "hosts": 2, "with_room": 1, "servers": 1, "runs_out_first": "VCPU"}],
    )  # fmt: skip
    by_host = cloud.run("placement", "capacity", "--flavor", FLAVOR.flavorid, "--by", "host", "-f", "json").json
    assert [(row["host"], row["servers"], row["then"]) for row in by_host] == [
        ("h1", 1, "lacks 2 VCPU"), ("h2", 0, "lacks 2 VCPU"),
    ]  # fmt: skip
    assert len(cloud.run("placement", "capacity", "--flavor", "small", "--by", "aggregate", "-f", "json").json) == 2
    assert "1 more servers of flavor small fit." in cloud.run("placement", "capacity", "--flavor", "small").out
    assert cloud.run("placement", "capacity", "--flavor", "small", "--zone", "elsewhere").code == 1
    assert cloud.run("placement", "capacity", "--flavor", "no-such").code == 2
