"""Hosts of more than one provider: which of them gives what, what is claimed, and what is said when none can."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection

from api_cell.scheduler.scheduler import Scheduler
from cell_service.model.instance import Flavor
from mapping_db import placement_notes
from mapping_db.placement import aggregates, allocations, inventories, providers, resource_classes, traits
from mapping_db.placement.allocations import Claim
from mapping_db.placement.inventories import Inventory
from mapping_db.placement.sharing import SHARES
from tests.placement.stock import assert_sound
from tests.scheduler.federation import SMALL, Federation, new_uuid
from tests.scheduler.test_select import chosen, one, refused, scheduler_of

TWO = {"resources1:CUSTOM_X": "1", "resources2:CUSTOM_X": "1"}
SIZES = {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1}


def flavor(extra: dict[str, str]) -> Flavor:
    return replace(SMALL, extra_specs=extra)


def provider(
    federation: Federation,
    parent: str | None = None,
    has: tuple[str, ...] = (),
    inside: tuple[str, ...] = (),
    **stock: int | Inventory,
) -> str:
    """A new provider's uuid."""
    uuid, now = new_uuid(), federation.clock.now()

    def make(tx: Connection) -> None:
        made = providers.add(tx, uuid, uuid, now, parent_uuid=parent)
        wanted = {name: value if isinstance(value, Inventory) else Inventory(value) for name, value in stock.items()}
        inventories.put(tx, made, wanted, None, now)
        for trait in has:
            if trait.startswith("CUSTOM_"):
                traits.add(tx, trait)
        traits.put(tx, made, has, None, now)
        aggregates.put(tx, made, inside, None, now)

    federation.db.run(make)
    return uuid


def join(federation: Federation, uuid: str, *inside: str) -> None:
    federation.db.run(lambda tx: aggregates.put(tx, providers.get(tx, uuid), inside, None, federation.clock.now()))


@pytest.fixture
def custom(federation: Federation) -> Federation:
    federation.db.run(lambda tx: resource_classes.add(tx, "CUSTOM_X"))
    return federation


def held(federation: Federation, uuid: str) -> dict[str, dict[str, int]]:
    with federation.db.connect() as tx:
        consumer = allocations.of_consumer(tx, uuid)
    return {} if consumer is None else {key: dict(value) for key, value in consumer.allocations.items()}


def test_isolated_groups_take_one_child_each(custom: Federation) -> None:
    root = custom.host(custom.cell("a"), "h")
    children = [provider(custom, root, CUSTOM_X=1) for _ in range(2)]
    scheduler = scheduler_of(custom)
    selection = chosen(one(custom, scheduler, flavor=flavor({**TWO, "group_policy": "isolate"})))
    assert selection.allocations == {root: SIZES, children[0]: {"CUSTOM_X": 1}, children[1]: {"CUSTOM_X": 1}}
    assert held(custom, selection.instance_uuid) == selection.allocations
    with custom.db.connect() as tx:
        note = placement_notes.get(tx, selection.instance_uuid)
    assert note is not None
    assert (note["allocations"], note["asked"]["groups"]) == (
        selection.allocations, {"1": {"CUSTOM_X": 1}, "2": {"CUSTOM_X": 1}},
    )  # fmt: skip
    assert "1 has no provider for request group 1" in refused(one(custom, scheduler, flavor=flavor(TWO)))
    assert chosen(one(custom, scheduler)).allocations == {root: SIZES}, "a plain one still fits"
    assert_sound(custom.db)


def test_isolated_groups_need_providers_enough(custom: Federation) -> None:
    root = custom.host(custom.cell("a"), "h")
    child = provider(custom, root, CUSTOM_X=8)
    scheduler = scheduler_of(custom)
    apart = flavor({**TWO, "group_policy": "isolate"})
    assert "1 has no providers for all request groups together" in refused(one(custom, scheduler, flavor=apart))
    for together in (flavor({**TWO, "group_policy": "none"}), flavor(TWO)):
        assert chosen(one(custom, scheduler, flavor=together)).allocations == {root: SIZES, child: {"CUSTOM_X": 2}}


def test_a_group_on_a_host_without_children_is_served_by_its_root(custom: Federation) -> None:
    root = custom.host(custom.cell("a"), "h", CUSTOM_X=2)
    scheduler = scheduler_of(custom)
    assert chosen(one(custom, scheduler, flavor=flavor(TWO))).allocations == {root: {**SIZES, "CUSTOM_X": 2}}
    assert "1 has no provider for request group 1" in refused(one(custom, scheduler, flavor=flavor(TWO)))


def test_traits_of_a_group_are_those_of_its_provider(custom: Federation) -> None:
    root = custom.host(custom.cell("a"), "h", has=("CUSTOM_ROOT",))
    provider(custom, root, ("CUSTOM_SLOW",), CUSTOM_X=9)
    fast = provider(custom, root, ("CUSTOM_FAST",), CUSTOM_X=9)
    scheduler = scheduler_of(custom)
    for extra in ({"trait1:CUSTOM_FAST": "required"}, {"trait1:CUSTOM_SLOW": "forbidden"}):
        selection = chosen(one(custom, scheduler, flavor=flavor({"resources1:CUSTOM_X": "1", **extra})))
        assert selection.allocations == {root: SIZES, fast: {"CUSTOM_X": 1}}
    reason = refused(
        one(custom, scheduler, flavor=flavor({"resources1:CUSTOM_X": "1", "trait1:CUSTOM_ROOT": "required"}))
    )
    assert "1 has no provider for request group 1" in reason


def test_the_unnumbered_group_is_spread_over_the_tree(custom: Federation) -> None:
    root = custom.host(custom.cell("a"), "h", has=("CUSTOM_ROOT",))
    child = provider(custom, root, ("CUSTOM_FAST",), CUSTOM_X=1)
    scheduler = scheduler_of(custom)
    wanted = {"resources:CUSTOM_X": "1"}
    alone = refused(one(custom, scheduler, flavor=flavor({"trait:CUSTOM_FAST": "required"})))
    assert "1 lacks trait CUSTOM_FAST" in alone, "the child serves nothing"
    selection = chosen(one(custom, scheduler, flavor=flavor({**wanted, "trait:CUSTOM_FAST": "required"})))
    assert selection.allocations == {root: SIZES, child: {"CUSTOM_X": 1}}
    assert "1 lacks 1 CUSTOM_X" in refused(one(custom, scheduler, flavor=flavor(wanted)))


def test_choices_not_yet_claimed_count_on_each_provider(custom: Federation) -> None:
    """Ten of one request: each takes one of a child, four children have one each."""
    root = custom.host(custom.cell("a"), "h", vcpus=99, memory=99999)
    for _ in range(4):
        provider(custom, root, CUSTOM_X=1)
    wanted = flavor({"resources1:CUSTOM_X": "1"})
    outcomes = scheduler_of(custom).select(custom.ctx, [custom.spec(flavor=wanted) for _ in range(10)])
    found = [chosen(outcome).allocations for outcome in outcomes[:4]]
    assert len({key for each in found for key in each if key != root}) == 4
    assert all("1 has no provider for request group 1" in refused(outcome) for outcome in outcomes[4:])
    assert_sound(custom.db)


def test_a_shared_disk_is_one_for_all_hosts(federation: Federation) -> None:
    group, cell = new_uuid(), federation.cell("a")
    roots = [federation.host(cell, name, disk=0) for name in ("h0", "h1", "h2")]
    for root in roots[:2]:
        join(federation, root, group)
    pool = provider(federation, None, (SHARES,), (group,), DISK_GB=3)
    scheduler = scheduler_of(federation)
    outcomes = scheduler.select(federation.ctx, [federation.spec() for _ in range(5)])
    for outcome in outcomes[:3]:
        selection = chosen(outcome)
        assert selection.allocations == {
            selection.provider_uuid: {"VCPU": 1, "MEMORY_MB": 512}, pool: {"DISK_GB": 1}
        }  # fmt: skip
        assert selection.provider_uuid in roots[:2]
    assert all("3 lacks 1 DISK_GB" in refused(outcome) for outcome in outcomes[3:])
    federation.db.run(lambda tx: allocations.release(tx, chosen(outcomes[0]).instance_uuid, federation.clock.now()))
    federation.clock.advance(1)
    assert chosen(one(federation, scheduler)).allocations[pool] == {"DISK_GB": 1}
    assert_sound(federation.db)


def test_a_hosts_own_disk_comes_before_the_shared_one(federation: Federation) -> None:
    group = new_uuid()
    pool = provider(federation, None, (SHARES,), (group,), DISK_GB=9)
    root = federation.host(federation.cell("a"), "h", disk=1)
    join(federation, root, group)
    scheduler = scheduler_of(federation)
    assert chosen(one(federation, scheduler)).allocations == {root: SIZES}
    assert chosen(one(federation, scheduler)).allocations[pool] == {"DISK_GB": 1}


def test_the_snapshot_follows_trees(custom: Federation) -> None:
    root = custom.host(custom.cell("a"), "h")
    scheduler = scheduler_of(custom)
    wanted = flavor({"resources1:CUSTOM_X": "1"})

    def again(**spec: Any) -> Any:
        custom.clock.advance(1)
        return one(custom, scheduler, **spec)

    assert "no provider for request group 1" in refused(again(flavor=wanted))
    child = provider(custom, root, CUSTOM_X=4)
    assert chosen(again(flavor=wanted)).allocations[child] == {"CUSTOM_X": 1}
    grandchild = provider(custom, child, ("CUSTOM_FAST",), CUSTOM_X=4)
    fast = flavor({"resources1:CUSTOM_X": "1", "trait1:CUSTOM_FAST": "required"})
    placed = chosen(again(flavor=fast))
    assert placed.allocations[grandchild] == {"CUSTOM_X": 1}
    [state] = scheduler.snapshot.hosts.values()
    assert state.num_instances == 2
    custom.db.run(lambda tx: allocations.release(tx, placed.instance_uuid, custom.clock.now()))
    custom.db.run(lambda tx: providers.remove(tx, providers.get(tx, grandchild), custom.clock.now()))
    assert "no provider for request group 1" in refused(again(flavor=fast))
    other = custom.host(1 + 1, "other")
    custom.heartbeat(2, "other")
    now = custom.clock.now()
    custom.db.run(lambda tx: providers.alter(tx, providers.get(tx, child), "c", other, now, reparent=True))
    scheduler.refresh(custom.ctx)
    assert chosen(again(flavor=wanted)).provider_uuid == other


def test_servers_are_counted_once_in_a_tree(custom: Federation) -> None:
    root = custom.host(custom.cell("a"), "h")
    child = provider(custom, root, CUSTOM_X=4)
    now = custom.clock.now()
    scheduler = scheduler_of(custom)
    scheduler.refresh(custom.ctx)
    for where in ([child], [root, child]):
        amounts = {root: {"VCPU": 1}, child: {"CUSTOM_X": 1}}
        claim = Claim(new_uuid(), {uuid: amounts[uuid] for uuid in where}, "p", "u")
        custom.db.run(lambda tx, claim=claim: allocations.write(tx, [claim], now))  # type: ignore[misc]
    scheduler.snapshot.follow()
    assert scheduler.snapshot.hosts[root].num_instances == 2
    fresh = Scheduler(custom.cloud)
    fresh.refresh(custom.ctx)
    assert fresh.snapshot.hosts[root].num_instances == 2


def test_a_room_is_counted_by_what_fits_one_after_the_other(custom: Federation) -> None:
    root = custom.host(custom.cell("a"), "h", vcpus=99, memory=99999)
    for _ in range(3):
        provider(custom, root, CUSTOM_X=1)
    [room] = scheduler_of(custom).rooms(custom.ctx, custom.spec(flavor=flavor({"resources1:CUSTOM_X": "1"})))
    assert (room.servers, room.end, room.resource_class) == (3, "has no provider for request group 1", None)
    apart = flavor({**TWO, "group_policy": "isolate"})
    [room] = scheduler_of(custom).rooms(custom.ctx, custom.spec(flavor=apart))
    assert room.servers == 1


def test_schedulers_that_race_for_one_child_never_give_it_twice(custom: Federation) -> None:
    """Each scheduler has its own snapshot, made before any claim: a lost race is chosen again."""
    root = custom.host(custom.cell("a"), "h", vcpus=99, memory=99999)
    children = [provider(custom, root, CUSTOM_X=1) for _ in range(6)]
    schedulers = [scheduler_of(custom) for _ in range(3)]
    for scheduler in schedulers:
        scheduler.refresh(custom.ctx)
    wanted = flavor({"resources1:CUSTOM_X": "1"})
    outcomes = [one(custom, scheduler, flavor=wanted) for scheduler in schedulers for _ in range(2)]
    assert {key for outcome in outcomes for key in chosen(outcome).allocations} == {root, *children}
    for scheduler in schedulers:
        assert "1 has no provider for request group 1" in refused(one(custom, scheduler, flavor=wanted))
    assert_sound(custom.db)


def test_a_forced_host_serves_its_groups_all_the_same(custom: Federation) -> None:
    cell = custom.cell("a")
    root, _ = custom.host(cell, "h"), custom.host(cell, "bare")
    child = provider(custom, root, ("CUSTOM_FAST",), CUSTOM_X=1)
    wanted = flavor({"resources1:CUSTOM_X": "1", "trait1:CUSTOM_FAST": "required", "trait:CUSTOM_GONE": "required"})
    scheduler = scheduler_of(custom)
    assert "has no provider for request group 1" in refused(one(custom, scheduler, flavor=wanted, force_host="bare"))
    selection = chosen(one(custom, scheduler, flavor=wanted, force_host="h"))
    assert selection.allocations == {root: SIZES, child: {"CUSTOM_X": 1}}


def test_the_same_host_is_that_of_the_tree(custom: Federation) -> None:
    """A server may have nothing of its host's own provider."""
    cell = custom.cell("a")
    roots = [custom.host(cell, name) for name in ("h0", "h1")]
    child = provider(custom, roots[1], CUSTOM_X=1)
    home = new_uuid()
    claim = Claim(home, {child: {"CUSTOM_X": 1}}, "p1", "u1")
    custom.db.run(lambda tx: allocations.write(tx, [claim], custom.clock.now()))
    scheduler = scheduler_of(custom, {"enabled_filters": ("SameHostFilter", "DifferentHostFilter")})
    for hint, host in (("same_host", "h1"), ("different_host", "h0")):
        assert chosen(one(custom, scheduler, scheduler_hints={hint: [home]})).host == host


def test_a_search_among_many_like_providers_ends(custom: Federation) -> None:
    """Of ten groups that keep apart six need one of the same five providers."""
    root = custom.host(custom.cell("a"), "h", CUSTOM_X=0)
    for number in range(12):
        provider(custom, root, ("CUSTOM_FAST",) if number < 5 else (), CUSTOM_X=9)
    extra = {f"resources{number}:CUSTOM_X": "1" for number in range(10)}
    extra |= {f"trait{number}:CUSTOM_FAST": "required" for number in range(4, 10)}
    apart = flavor({**extra, "group_policy": "isolate"})
    assert "1 has no providers for all request groups together" in refused(
        one(custom, scheduler_of(custom), flavor=apart)
    )
