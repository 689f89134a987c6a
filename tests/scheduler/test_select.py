"""Selecting hosts end to end: what is chosen, claimed, recorded, and said when there is nothing to choose."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, select

from api_cell.scheduler.choosing import Outcome
from api_cell.scheduler.config import FilterSection, SchedulerSection, SchedulerSettings
from api_cell.scheduler.scheduler import Scheduler
from cell_service.db import instances, services
from cell_service.errors import Invalid, NoHostYet, NoValidHost
from cell_service.model.instance import Flavor, Instance
from cell_service.model.request_spec import Selection
from mapping_db import aggregates, cell_mappings, host_mappings, instance_mappings, schema, server_groups
from mapping_db.instance_mappings import InstanceMapping
from mapping_db.placement import allocations, inventories, providers, traits
from mapping_db.placement.inventories import Inventory
from tests.placement.stock import assert_sound
from tests.scheduler.federation import SMALL, Federation, new_uuid


def scheduler_of(federation: Federation, filters: dict[str, Any] | None = None, **scheduler: Any) -> Scheduler:
    settings = SchedulerSettings(scheduler=SchedulerSection(**scheduler), filters=FilterSection(**(filters or {})))
    return Scheduler(federation.cloud, settings)


def chosen(outcome: Outcome) -> Selection:
    assert isinstance(outcome, Selection), outcome
    return outcome


def refused(outcome: Outcome) -> str:
    assert isinstance(outcome, NoValidHost), outcome
    return str(outcome)


def one(federation: Federation, scheduler: Scheduler, **spec: Any) -> Outcome:
    [outcome] = scheduler.select(federation.ctx, [federation.spec(**spec)])
    return outcome


def test_the_room_of_each_host_is_what_the_scheduler_would_place_there(federation: Federation) -> None:
    near, far = federation.cell("a"), federation.cell("b")
    federation.host(near, "large", vcpus=8, memory=1100, disk=100)  # memory for two
    federation.host(near, "small", vcpus=3, memory=8192, disk=100)
    federation.host(far, "full", vcpus=8, memory=511, disk=100)
    federation.host(far, "many", vcpus=100, memory=99999, disk=999)
    scheduler = scheduler_of(
        federation,
        {"enabled_filters": ("ComputeFilter", "NumInstancesFilter"), "max_instances_per_host": 5},
    )
    rooms = {room.host.host: room for room in scheduler.rooms(federation.ctx, federation.spec())}
    assert {host: (room.servers, room.resource_class) for host, room in rooms.items()} == {
        "large": (2, "MEMORY_MB"), "small": (3, "VCPU"), "full": (0, None), "many": (5, None),
    }  # fmt: skip
    assert rooms["full"].end == "lacks 512 MEMORY_MB"
    assert rooms["many"].end == "runs 5 instances, limit 5"
    placed = Counter(chosen(outcome).host for outcome in scheduler.select(
        federation.ctx, [federation.spec() for _ in range(10)]))  # fmt: skip
    assert placed == {"large": 2, "small": 3, "many": 5}
    assert refused(one(federation, scheduler))
    assert all(room.servers == 0 for room in scheduler.rooms(federation.ctx, federation.spec()))


def test_servers_that_consume_nothing_are_counted_up_to_a_limit(federation: Federation) -> None:
    federation.cell("a", 1)
    idle = {"resources:VCPU": "0", "resources:MEMORY_MB": "0", "resources:DISK_GB": "0"}
    spec = federation.spec(flavor=replace(SMALL, extra_specs=idle))
    [room] = scheduler_of(federation).rooms(federation.ctx, spec)
    assert (room.servers, room.end) == (1000, "takes more than can be counted")


def test_a_choice_is_claimed_and_has_alternates_of_the_same_cell(federation: Federation) -> None:
    near, far = federation.cell("a", 4), federation.cell("b", 4)
    scheduler, spec = scheduler_of(federation), federation.spec()
    selection = chosen(scheduler.select(federation.ctx, [spec])[0])
    assert selection.cell_id in (near, far)
    assert selection.node == f"{selection.host}.example.org"
    assert selection.allocations == {selection.provider_uuid: {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1}}
    prefix = "a-" if selection.cell_id == near else "b-"
    assert len(selection.alternates) == 2
    assert all(other.host.startswith(prefix) and other.host != selection.host for other in selection.alternates)
    assert selection.alternates[0].allocations == {
        selection.alternates[0].provider_uuid: {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1}
    }
    with federation.db.connect() as tx:
        consumer = allocations.of_consumer(tx, spec.instance_uuid)
    assert consumer is not None
    assert (consumer.allocations, consumer.project_id, consumer.consumer_type) == (
        selection.allocations, "p1", "INSTANCE",
    )  # fmt: skip


def test_the_same_request_id_chooses_the_same_among_equals(federation: Federation) -> None:
    federation.cell("a", 9)
    ctx = federation.ctx
    first = chosen(scheduler_of(federation).select(ctx, [federation.spec()])[0])
    federation.db.run(lambda tx: allocations.release(tx, first.instance_uuid, federation.clock.now()))
    assert chosen(scheduler_of(federation).select(ctx, [federation.spec()])[0]).host == first.host


def test_many_instances_spread_by_what_is_free(federation: Federation) -> None:
    federation.cell("a", 6, vcpus=20)
    outcomes = scheduler_of(federation).select(federation.ctx, [federation.spec() for _ in range(60)])
    assert set(Counter(chosen(outcome).host for outcome in outcomes).values()) == {10}
    assert_sound(federation.db)


def test_multipliers_below_zero_stack(federation: Federation) -> None:
    federation.cell("a", 3)
    stacking = {f"{name}_weight_multiplier": -1.0 for name in ("ram", "cpu", "disk")} | {"io_ops_weight_multiplier": 0}
    scheduler = scheduler_of(federation, stacking)
    outcomes = scheduler.select(federation.ctx, [federation.spec() for _ in range(8)])
    assert len({chosen(outcome).host for outcome in outcomes}) == 1


def test_what_does_not_fit_is_refused_one_by_one_with_reasons(federation: Federation) -> None:
    federation.cell("a", 2, vcpus=3)
    outcomes = scheduler_of(federation).select(federation.ctx, [federation.spec() for _ in range(8)])
    assert sum(isinstance(outcome, Selection) for outcome in outcomes) == 6
    assert refused(outcomes[-1]) == (
        "No valid host was found. There are not enough hosts available. 2 hosts: 2 lacks 1 VCPU."
    )


def test_reasons_are_counted_by_filter(federation: Federation) -> None:
    cell = federation.cell("a", 3)
    federation.host(cell, "tiny", memory=256)
    federation.clock.advance(100)
    federation.heartbeat(cell, "a-0")
    federation.heartbeat(cell, "tiny")
    with federation.databases[cell].begin() as tx:
        tx.execute(schema_update_disabled("a-0", federation))
    assert refused(one(federation, scheduler_of(federation))) == (
        "No valid host was found. There are not enough hosts available. 4 hosts: "
        "ComputeFilter refused 3 (2 is down, 1 is disabled); 1 lacks 512 MEMORY_MB."
    )


def schema_update_disabled(host: str, federation: Federation) -> Any:
    from cell_service.db import schema as cell_schema

    table = cell_schema.services
    return table.update().where(table.c.host == host).values(disabled=True, updated_at=federation.clock.now())


def test_without_hosts_the_reason_says_so(federation: Federation) -> None:
    assert "No host is known" in refused(one(federation, scheduler_of(federation)))


def test_a_record_is_committed_with_its_claim(federation: Federation) -> None:
    federation.cell("a", 2)
    specs = [federation.spec() for _ in range(3)]

    def record(tx: Connection, selection: Selection) -> bool:
        if selection.instance_uuid == specs[1].instance_uuid:
            return False
        tx.execute(schema.traits.insert().values(name=f"CUSTOM_{selection.instance_uuid}"))
        return True

    outcomes = scheduler_of(federation).select(federation.ctx, specs, record)
    assert outcomes[1] is None
    with federation.db.connect() as tx:
        kept = {name.removeprefix("CUSTOM_") for name in tx.execute(select(schema.traits.c.name)).scalars()}
        claimed = set(allocations.of_consumers(tx, [spec.instance_uuid for spec in specs]))
    assert kept == claimed == {specs[0].instance_uuid, specs[2].instance_uuid}


def test_a_record_that_fails_leaves_no_claim_and_no_use_behind(federation: Federation) -> None:
    federation.cell("a", 1, vcpus=1)
    scheduler = scheduler_of(federation)

    def record(tx: Connection, selection: Selection) -> bool:
        raise Invalid(reason="no")

    with pytest.raises(Invalid):
        scheduler.select(federation.ctx, [federation.spec()], record)
    chosen(one(federation, scheduler))
    assert_sound(federation.db)


def test_a_claim_lost_to_another_scheduler_goes_to_the_next_host(federation: Federation) -> None:
    federation.cell("a", 2, vcpus=1)
    mine, other = scheduler_of(federation), scheduler_of(federation)
    for scheduler in (mine, other):
        scheduler.refresh(federation.ctx)
    ctx = federation.ctx
    hosts = {chosen(scheduler.select(ctx, [federation.spec()])[0]).host for scheduler in (mine, other)}
    assert hosts == {"a-0", "a-1"}
    assert "lacks 1 VCPU" in refused(one(federation, other))
    assert_sound(federation.db)


# -- what changes under a running scheduler -----------------------------------------------------


def test_new_hosts_are_found_before_a_request_is_refused(federation: Federation) -> None:
    cell = federation.cell("a", 1, vcpus=1)
    scheduler = scheduler_of(federation)
    chosen(one(federation, scheduler))
    federation.clock.advance(2)
    federation.host(cell, "new")
    assert chosen(one(federation, scheduler)).host == "new"


def test_unmapped_hosts_wait_for_their_mapping(federation: Federation) -> None:
    cell = federation.cell("a")
    federation.host(cell, "new", mapped=False)
    scheduler = scheduler_of(federation)
    assert "is not mapped to its cell" in refused(one(federation, scheduler))
    federation.db.run(lambda tx: host_mappings.insert_missing(tx, cell, ["new"], federation.clock.now()))
    federation.clock.advance(2)
    assert chosen(one(federation, scheduler)).host == "new"


def test_a_disabled_trait_takes_effect_with_the_feed(federation: Federation) -> None:
    federation.cell("a", 1)
    scheduler = scheduler_of(federation)
    chosen(one(federation, scheduler))
    with federation.db.begin() as tx:
        provider = providers.get(tx, federation.keys["a-0"])
        traits.put(tx, provider, ["COMPUTE_STATUS_DISABLED"], None, federation.clock.now())
    federation.clock.advance(0.2)
    assert "is disabled" in refused(one(federation, scheduler))


def test_a_heartbeat_brings_a_host_back(federation: Federation) -> None:
    cell = federation.cell("a", 1)
    scheduler = scheduler_of(federation)
    chosen(one(federation, scheduler))
    federation.clock.advance(100)
    assert "is down" in refused(one(federation, scheduler))
    federation.heartbeat(cell, "a-0")
    federation.clock.advance(2)
    chosen(one(federation, scheduler))


def test_lost_capacity_and_deleted_hosts_are_noticed(federation: Federation) -> None:
    cell = federation.cell("a", 2)
    scheduler = scheduler_of(federation)
    scheduler.refresh(federation.ctx)
    with federation.db.begin() as tx:
        provider = providers.get(tx, federation.keys["a-0"])
        inventories.put(tx, provider, {"VCPU": Inventory(1)}, None, federation.clock.now())
        providers.remove(tx, providers.get(tx, federation.keys["a-1"]), federation.clock.now())
    federation.clock.advance(0.2)
    reason = refused(one(federation, scheduler))
    assert "1 has no MEMORY_MB" in reason
    assert "1 has no resource provider" in reason
    with federation.databases[cell].begin() as tx:
        from cell_service.db import compute_nodes

        compute_nodes.remove(tx, federation.keys["a-1"])
    federation.clock.advance(61)
    scheduler.refresh(federation.ctx)
    assert scheduler.snapshot.hosts.keys() == {federation.keys["a-0"]}


def test_a_disabled_cell_is_left_out(federation: Federation) -> None:
    cell = federation.cell("a", 1)
    scheduler = scheduler_of(federation)
    scheduler.refresh(federation.ctx)
    with federation.db.begin() as tx:
        [mapping] = [one for one in cell_mappings.every(tx) if one.id == cell]
        cell_mappings.change(tx, mapping.uuid, disabled=True, now=federation.clock.now())
    federation.cells.refresh()
    scheduler.refresh(federation.ctx)
    assert "1 is in a cell that is disabled" in refused(one(federation, scheduler))


def test_a_cell_that_does_not_answer_harms_no_other(federation: Federation) -> None:
    sick, well = federation.cell("a", 2), federation.cell("b", 2)
    with federation.databases[sick].begin() as tx:
        tx.exec_driver_sql("ALTER TABLE services RENAME TO lost")
    scheduler = scheduler_of(federation)
    for _ in range(4):
        assert chosen(one(federation, scheduler)).cell_id == well
    with federation.databases[sick].begin() as tx:
        tx.exec_driver_sql("ALTER TABLE lost RENAME TO services")
    federation.clock.advance(30)
    for name in ("a-0", "a-1"):
        federation.heartbeat(sick, name)
    scheduler.refresh(federation.ctx)
    hosts = [state for state in scheduler.snapshot.hosts.values() if state.cell_id == sick]
    assert [state.absent for state in hosts] == [None, None]
    with federation.databases[sick].begin() as tx:
        tx.exec_driver_sql("ALTER TABLE services RENAME TO lost")
    scheduler.refresh(federation.ctx)
    huge = Flavor("9", "huge", vcpus=99, memory_mib=1, root_gib=1)
    assert "2 is in a cell that does not answer" in refused(one(federation, scheduler, flavor=huge))


# -- who may go where ---------------------------------------------------------------------------


def aggregate(federation: Federation, name: str, hosts: list[str], **metadata: str) -> None:
    with federation.db.begin() as tx:
        made = aggregates.add(tx, new_uuid(), name, None, federation.clock.now())
        for host in hosts:
            aggregates.add_host(tx, made.id, host, federation.clock.now())
        aggregates.set_metadata(tx, made.id, metadata, federation.clock.now())


def test_availability_zones(federation: Federation) -> None:
    federation.cell("a", 3)
    aggregate(federation, "z", ["a-1"], availability_zone="east")
    scheduler = scheduler_of(federation)
    selection = chosen(one(federation, scheduler, availability_zone="east"))
    assert (selection.host, selection.availability_zone) == ("a-1", "east")
    assert chosen(one(federation, scheduler, availability_zone="nova")).host != "a-1"
    assert "3 is not in availability zone west" in refused(one(federation, scheduler, availability_zone="west"))


def test_a_changed_aggregate_takes_effect_with_the_feed(federation: Federation) -> None:
    federation.cell("a", 2)
    scheduler = scheduler_of(federation)
    chosen(one(federation, scheduler))
    aggregate(federation, "z", ["a-1"], availability_zone="east")
    federation.clock.advance(0.2)
    assert chosen(one(federation, scheduler, availability_zone="east")).host == "a-1"


def test_projects_with_an_aggregate_are_confined_to_it(federation: Federation) -> None:
    federation.cell("a", 3)
    aggregate(federation, "t", ["a-2"], filter_tenant_id="p1")
    scheduler = scheduler_of(federation, limit_tenants_to_placement_aggregate=True)
    assert chosen(one(federation, scheduler)).host == "a-2"
    chosen(one(federation, scheduler, project_id="p2"))
    strict = scheduler_of(
        federation, limit_tenants_to_placement_aggregate=True, placement_aggregate_required_for_tenants=True
    )
    assert "is in no aggregate of the project" in refused(one(federation, strict, project_id="p2"))


def test_isolated_aggregates_take_only_who_asks_for_their_traits(federation: Federation) -> None:
    cell = federation.cell("a", 1)
    federation.host(cell, "gold", has=("CUSTOM_GOLD",))
    aggregate(federation, "g", ["gold"], **{"trait:CUSTOM_GOLD": "required"})
    scheduler = scheduler_of(federation, enable_isolated_aggregate_filtering=True)
    assert chosen(one(federation, scheduler)).host == "a-0"
    gold = replace(SMALL, extra_specs={"trait:CUSTOM_GOLD": "required"})
    assert chosen(one(federation, scheduler, flavor=gold)).host == "gold"
    not_gold = replace(SMALL, extra_specs={"trait:CUSTOM_GOLD": "forbidden"})
    assert chosen(one(federation, scheduler, flavor=not_gold)).host == "a-0"


def test_image_types_become_traits_when_configured(federation: Federation) -> None:
    cell = federation.cell("a", 1)
    federation.host(cell, "raw", has=("COMPUTE_IMAGE_TYPE_RAW",))
    scheduler = scheduler_of(federation, query_placement_for_image_type_support=True)
    assert chosen(one(federation, scheduler, image_disk_format="raw")).host == "raw"
    assert "lacks trait COMPUTE_IMAGE_TYPE_ISO" in refused(one(federation, scheduler, image_disk_format="iso"))


@pytest.mark.parametrize(
    ("specs", "properties", "kind"),
    [
        ({"hw:ephemeral_encryption": "true"}, {}, ""),
        ({}, {"hw_ephemeral_encryption": "True"}, ""),
        ({"hw:ephemeral_encryption": "yes", "hw:ephemeral_encryption_format": "luks"}, {}, "_LUKS"),
        ({}, {"hw_ephemeral_encryption": "1", "hw_ephemeral_encryption_format": "luksv2"}, "_LUKSV2"),
    ],
)
def test_only_hosts_that_encrypt_disks_take_servers_that_want_it(
    federation: Federation, specs: dict[str, str], properties: dict[str, str], kind: str
) -> None:
    cell = federation.cell("a", 1)
    able = "COMPUTE_EPHEMERAL_ENCRYPTION"
    wanted = {"flavor": replace(SMALL, extra_specs=specs), "image_properties": properties}
    assert f"lacks trait {able}" in refused(one(federation, scheduler_of(federation), **wanted))
    federation.host(cell, "any", has=(able,))
    federation.host(cell, "able", has=(able, f"{able}{kind}"))
    scheduler = scheduler_of(federation)
    assert chosen(one(federation, scheduler, **wanted)).host in ({"able"} if kind else {"able", "any"})
    unwanted = {"flavor": replace(SMALL, extra_specs={"hw:ephemeral_encryption": "false"})}
    chosen(one(federation, scheduler, **unwanted))


def test_resources_of_extra_specs_override_the_flavor(federation: Federation) -> None:
    cell = federation.cell("a", 1)
    federation.host(cell, "gpu", VGPU=1)
    flavor = replace(SMALL, extra_specs={"resources:VGPU": "1", "resources:VCPU": "0", "resources:DISK_GB": "7"})
    selection = chosen(one(federation, scheduler_of(federation), flavor=flavor))
    assert selection.allocations == {federation.keys["gpu"]: {"VGPU": 1, "MEMORY_MB": 512, "DISK_GB": 7}}


def test_volume_backed_instances_take_no_root_disk(federation: Federation) -> None:
    federation.cell("a", 1)
    selection = chosen(one(federation, scheduler_of(federation), volume_backed=True))
    assert "DISK_GB" not in selection.allocations[selection.provider_uuid]


def test_a_forced_host_skips_filters_but_not_its_room(federation: Federation) -> None:
    federation.cell("a", 2, vcpus=1)
    federation.clock.advance(100)
    scheduler = scheduler_of(federation)
    assert "is down" in refused(one(federation, scheduler))
    assert "is down" in refused(one(federation, scheduler, requested_host="a-1"))
    selection = chosen(one(federation, scheduler, force_host="a-1"))
    assert (selection.host, selection.alternates) == ("a-1", ())
    assert "1 lacks 1 VCPU" in refused(one(federation, scheduler, force_host="a-1"))
    assert "No host is known" in refused(one(federation, scheduler, force_host="nobody"))
    assert "is not the forced node" in refused(one(federation, scheduler, force_host="a-0", force_node="x"))


def test_requested_hosts_avoided_hosts_and_cells(federation: Federation) -> None:
    cell = federation.cell("a", 2)
    other = federation.cell("b", 1)
    scheduler = scheduler_of(federation)
    assert chosen(one(federation, scheduler, requested_host="a-1")).host == "a-1"
    assert chosen(one(federation, scheduler, ignore_hosts=("a-0", "b-0"))).host == "a-1"
    [outcome] = scheduler.select(federation.ctx, [federation.spec()], cell_id=other)
    assert chosen(outcome).host == "b-0"
    assert cell != other


def test_hints_name_hosts_by_the_instances_there(federation: Federation) -> None:
    federation.cell("a", 3)
    names = ("DifferentHostFilter", "SameHostFilter")
    scheduler = scheduler_of(federation, {"enabled_filters": names})
    there = chosen(one(federation, scheduler))
    for _ in range(4):
        near = one(federation, scheduler, scheduler_hints={"same_host": [there.instance_uuid]})
        assert chosen(near).host == there.host
        far = one(federation, scheduler, scheduler_hints={"different_host": there.instance_uuid})
        assert chosen(far).host != there.host
    unknown = one(federation, scheduler, scheduler_hints={"same_host": new_uuid()})
    assert "runs none of the instances to be with" in refused(unknown)


# -- server groups ------------------------------------------------------------------------------


def group_of(federation: Federation, policy: str, rules: dict[str, Any] | None = None) -> str:
    with federation.db.begin() as tx:
        return server_groups.add(
            tx, uuid=new_uuid(), project_id="p1", user_id="u1", name="g", policy=policy, rules=rules,
            now=federation.clock.now(),
        ).uuid  # fmt: skip


def members(federation: Federation, uuid: str) -> dict[str, str | None]:
    with federation.db.connect() as tx:
        return dict(server_groups.get(tx, uuid).members)


def test_anti_affinity_in_one_request_and_over_several(federation: Federation) -> None:
    federation.cell("a", 2)
    federation.cell("b", 2)
    group = group_of(federation, "anti-affinity")
    scheduler = scheduler_of(federation)
    first = scheduler.select(federation.ctx, [federation.spec(group_uuid=group) for _ in range(3)])
    assert len({chosen(outcome).host for outcome in first}) == 3
    second = scheduler.select(federation.ctx, [federation.spec(group_uuid=group) for _ in range(2)])
    assert isinstance(second[0], Selection)
    assert "ServerGroupAntiAffinityFilter refused 4 (has one of the server group)" in refused(second[1])
    assert sorted(str(host) for host in members(federation, group).values()) == ["a-0", "a-1", "b-0", "b-1"]


def test_a_deleted_member_is_in_nobodys_way(federation: Federation) -> None:
    """Its cell has deleted it; no super-conductor has concluded that yet."""
    cell = federation.cell("a", 2)
    group = group_of(federation, "anti-affinity")
    scheduler = scheduler_of(federation)
    specs = [federation.spec(group_uuid=group) for _ in range(2)]
    scheduler.select(federation.ctx, specs)
    gone, now = specs[0], federation.clock.now()
    host = members(federation, group)[gone.instance_uuid]
    made = Instance(gone.instance_uuid, "p1", "u1", "gone", gone.flavor, now, host=host)
    federation.databases[cell].run(lambda tx: instances.insert_new(tx, made))
    mapping = InstanceMapping(gone.instance_uuid, "p1", "u1", now, "gone", 1, 512, cell_id=cell)
    federation.db.run(lambda tx: instance_mappings.insert_new(tx, [mapping]))
    federation.db.run(lambda tx: instance_mappings.queue_for_delete(tx, gone.instance_uuid))
    assert "has one of the server group" in refused(one(federation, scheduler, group_uuid=group))
    federation.databases[cell].run(lambda tx: instances.mark_deleted(tx, gone.instance_uuid, now))
    assert chosen(one(federation, scheduler, group_uuid=group)).host == host


def test_anti_affinity_with_more_servers_a_host(federation: Federation) -> None:
    federation.cell("a", 2)
    group = group_of(federation, "anti-affinity", {"max_server_per_host": 2})
    outcomes = scheduler_of(federation).select(federation.ctx, [federation.spec(group_uuid=group) for _ in range(5)])
    counts = Counter(outcome.host for outcome in outcomes if isinstance(outcome, Selection))
    assert set(counts.values()) == {2}
    assert "has 2 of the server group" in refused(outcomes[-1])


def test_affinity(federation: Federation) -> None:
    federation.cell("a", 5, vcpus=4)
    group = group_of(federation, "affinity")
    scheduler = scheduler_of(federation)
    outcomes = scheduler.select(federation.ctx, [federation.spec(group_uuid=group) for _ in range(3)])
    assert len({chosen(outcome).host for outcome in outcomes}) == 1
    more = scheduler.select(federation.ctx, [federation.spec(group_uuid=group) for _ in range(2)])
    assert chosen(more[0]).host == chosen(outcomes[0]).host
    assert "ServerGroupAffinityFilter refused 4 (has none of the server group); 1 lacks 1 VCPU" in refused(more[1])


@pytest.mark.parametrize(("policy", "hosts"), [("soft-affinity", 1), ("soft-anti-affinity", 4)])
def test_soft_policies_are_weighed(federation: Federation, policy: str, hosts: int) -> None:
    federation.cell("a", 4, vcpus=40)
    heavy = {"soft_affinity_weight_multiplier": 100.0, "soft_anti_affinity_weight_multiplier": 100.0}
    stacking = heavy | {f"{name}_weight_multiplier": -1.0 for name in ("ram", "cpu", "disk")}
    scheduler = scheduler_of(federation, stacking if policy == "soft-anti-affinity" else heavy)
    group = group_of(federation, policy)
    outcomes = scheduler.select(federation.ctx, [federation.spec(group_uuid=group) for _ in range(4)])
    assert len({chosen(outcome).host for outcome in outcomes}) == hosts


def test_a_member_that_moves_does_not_stand_in_its_own_way(federation: Federation) -> None:
    federation.cell("a", 2)
    group = group_of(federation, "anti-affinity")
    scheduler = scheduler_of(federation)
    specs = [federation.spec(group_uuid=group) for _ in range(2)]
    scheduler.select(federation.ctx, specs)
    again = scheduler.select(federation.ctx, [specs[0]])
    assert chosen(again[0]).host != members(federation, group)[specs[1].instance_uuid]


def test_unknown_filters_are_refused_at_the_start(federation: Federation) -> None:
    with pytest.raises(Invalid, match="NoSuchFilter"):
        scheduler_of(federation, {"enabled_filters": ("NoSuchFilter",)})


def test_a_subset_of_the_best_is_drawn_from(federation: Federation) -> None:
    cell = federation.cell("a")
    for number in range(4):
        federation.host(cell, f"h{number}", memory=8192 + 1024 * number)
    scheduler = scheduler_of(federation, {"host_subset_size": 2})
    hosts = set()
    for _ in range(12):
        selection = chosen(one(federation, scheduler))
        hosts.add(selection.host)
        federation.db.run(lambda tx, of=selection: allocations.release(tx, of.instance_uuid, federation.clock.now()))
        federation.clock.advance(6)  # its build is forgotten with the next look at the cell
        federation.heartbeat(cell, selection.host)
        scheduler.refresh(federation.ctx)
    assert hosts == {"h2", "h3"}


def test_services_can_be_disabled_and_enabled(federation: Federation) -> None:
    cell = federation.cell("a", 1)
    scheduler = scheduler_of(federation)
    with federation.databases[cell].begin() as tx:
        tx.execute(schema_update_disabled("a-0", federation))
    assert "ComputeFilter refused 1 (is disabled)" in refused(one(federation, scheduler))
    assert services.COMPUTE == "nova-compute"


def watched(federation: Federation, cell_id: int) -> None:
    """A conductor of the cell watches its hosts now."""

    def work(tx: Connection) -> None:
        now = federation.clock.now()
        services.register(tx, host="c1", binary=services.CONDUCTOR, topic="conductor", version=1, now=now)
        services.note_watching(tx, "c1", now)

    federation.databases[cell_id].run(work)


def test_hosts_that_no_conductor_can_watch_may_come_back(federation: Federation) -> None:
    cell = federation.cell("a", 1)
    watched(federation, cell)
    federation.clock.advance(61)
    scheduler = scheduler_of(federation)
    assert isinstance(one(federation, scheduler), NoHostYet)
    assert not isinstance(one(federation, scheduler, flavor=replace(SMALL, memory_mib=9000)), NoHostYet)
    elsewhere = {"target_cell": federation.cells.cell0().mapping.uuid}
    assert not isinstance(one(federation, scheduler, scheduler_hints=elsewhere), NoHostYet)
    watched(federation, cell)
    assert "is down" in refused(one(federation, scheduler))
    assert not isinstance(one(federation, scheduler), NoHostYet)
    federation.heartbeat(cell, "a-0")
    federation.clock.advance(1)
    chosen(one(federation, scheduler))


def test_hosts_that_were_down_before_do_not(federation: Federation) -> None:
    cell = federation.cell("a", 1)
    federation.clock.advance(61)
    watched(federation, cell)
    federation.clock.advance(61)
    assert not isinstance(one(federation, scheduler_of(federation)), NoHostYet)


def test_hosts_that_are_forced_down_do_not(federation: Federation) -> None:
    cell = federation.cell("a", 1)
    watched(federation, cell)
    with federation.databases[cell].begin() as tx:
        (service,) = services.list_all(tx, binary=services.COMPUTE)
        services.change(tx, service.uuid, now=federation.clock.now(), forced_down=True)
    federation.clock.advance(61)
    assert not isinstance(one(federation, scheduler_of(federation)), NoHostYet)


def test_a_member_that_may_not_be_there_does_not_wait_for_a_host(federation: Federation) -> None:
    cell = federation.cell("a", 1)
    scheduler, group = scheduler_of(federation), group_of(federation, "anti-affinity")
    first, second = federation.spec(group_uuid=group), federation.spec(group_uuid=group)
    federation.db.run(lambda tx: server_groups.join(tx, group, [first.instance_uuid, second.instance_uuid]))
    chosen(scheduler.select(federation.ctx, [first])[0])
    watched(federation, cell)
    federation.clock.advance(61)
    (outcome,) = scheduler.select(federation.ctx, [second])
    assert not isinstance(outcome, NoHostYet)
    assert isinstance(one(federation, scheduler), NoHostYet)
