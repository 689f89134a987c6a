"""The Placement API: what each version says and refuses."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import jsonschema
import pytest

from api_cell.edge.route import Route
from api_cell.edge.versioned import after, value_at
from api_cell.placement import schemas
from api_cell.placement.candidates import RULE_OF_USAGES
from api_cell.placement.history import NEWEST
from api_cell.placement.routes import ROUTES
from cell_service.db.sql.engine import Database
from cell_service.errors import (
    BadQuery,
    ConsumerNotFound,
    GenerationConflict,
    Invalid,
    InventoriesOfNone,
    InventoryExceeded,
    MissingQuery,
    NotFound,
    PlacementNameTaken,
    RepeatedQuery,
    ResourceClassInUse,
    ResourceProviderHasChildren,
    ResourceProviderNotFound,
    TraitInUse,
)
from mapping_db.placement import stock
from mapping_db.placement.inventories import Inventory
from tests.placement.caller import Placement, schema_at
from tests.placement.stock import assert_sound, new_uuid, provider

REFERENCE = Path(__file__).parents[2] / ".." / "shared" / "api"
needs_reference = pytest.mark.skipif(
    not REFERENCE.exists(), reason="the reference data ../shared/api is not here to compare with"
)


@pytest.fixture
def api(db: Database) -> Placement:
    return Placement(db)


def make(api: Placement, name: str, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = api("POST", "/resource_providers", {"name": name, **more}).body
    return body


# -- providers --------------------------------------------------------------------------------


def test_a_provider_is_made_shown_renamed_and_deleted(api: Placement) -> None:
    made = make(api, "h1")
    assert api.get(f"/resource_providers/{made['uuid']}") == made
    assert (made["generation"], made["root_provider_uuid"], made["parent_provider_uuid"]) == (0, made["uuid"], None)
    api("PUT", f"/resource_providers/{made['uuid']}", {"name": "h2"})
    assert api.get("/resource_providers?name=h2")["resource_providers"][0]["uuid"] == made["uuid"]
    assert api("DELETE", f"/resource_providers/{made['uuid']}").status == 204
    with pytest.raises(ResourceProviderNotFound):
        api.get(f"/resource_providers/{made['uuid']}")


def test_before_1_20_a_new_provider_is_only_located(api: Placement) -> None:
    answer = api("POST", "/resource_providers", {"name": "h1", "uuid": new_uuid()}, version="1.19")
    assert (answer.status, answer.body) == (201, None)
    assert answer.headers["Location"].startswith("http://placement/resource_providers/")


def test_names_and_uuids_are_taken_once(api: Placement) -> None:
    made = make(api, "h1")
    for body in ({"name": "h1"}, {"name": "other", "uuid": made["uuid"]}):
        with pytest.raises(PlacementNameTaken) as taken:
            api("POST", "/resource_providers", body)
        assert (taken.value.status, taken.value.code) == (409, "placement.duplicate_name")


def test_a_tree_holds_together(api: Placement) -> None:
    root = make(api, "root")
    child = make(api, "child", parent_provider_uuid=root["uuid"])
    assert child["root_provider_uuid"] == root["uuid"]
    with pytest.raises(ResourceProviderHasChildren):
        api("DELETE", f"/resource_providers/{root['uuid']}")
    with pytest.raises(Invalid):
        api("PUT", f"/resource_providers/{root['uuid']}", {"name": "root", "parent_provider_uuid": child["uuid"]})
    with pytest.raises(Invalid):
        api("PUT", f"/resource_providers/{child['uuid']}", {"name": "child", "parent_provider_uuid": None}, "1.36")
    freed = api("PUT", f"/resource_providers/{child['uuid']}", {"name": "child", "parent_provider_uuid": None}).body
    assert freed["root_provider_uuid"] == child["uuid"]


def test_links_grow_with_the_versions(api: Placement) -> None:
    made = make(api, "h1")
    names = {
        version: [link["rel"] for link in api.get(f"/resource_providers/{made['uuid']}", version)["links"]]
        for version in ("1.0", "1.1", "1.6", "1.11")
    }
    assert names == {
        "1.0": ["self", "inventories", "usages"],
        "1.1": ["self", "inventories", "usages", "aggregates"],
        "1.6": ["self", "inventories", "usages", "aggregates", "traits"],
        "1.11": ["self", "inventories", "usages", "aggregates", "traits", "allocations"],
    }


def test_answers_are_dated_from_1_15(api: Placement) -> None:
    assert "Last-Modified" not in api("GET", "/resource_providers", version="1.14").headers
    assert api("GET", "/resource_providers", version="1.15").headers["Cache-Control"] == "no-cache"


def test_provider_list_filters(api: Placement, db: Database) -> None:
    big, small = provider(db, VCPU=8, MEMORY_MB=100), provider(db, VCPU=1)
    group = new_uuid()
    for one, names in ((big, ["HW_CPU_X86_AVX2", "CUSTOM_FAST"]), (small, ["HW_CPU_X86_AVX2"])):
        api("PUT", "/traits/CUSTOM_FAST")
        api("PUT", f"/resource_providers/{one.uuid}/traits",
            {"traits": names, "resource_provider_generation": one.generation})  # fmt: skip
    api("PUT", f"/resource_providers/{small.uuid}/aggregates",
        {"aggregates": [group], "resource_provider_generation": small.generation + 1})  # fmt: skip

    def found(text: str) -> set[str]:
        return {one["uuid"] for one in api.get(f"/resource_providers?{text}")["resource_providers"]}

    both = {big.uuid, small.uuid}
    assert found("resources=VCPU:2") == {big.uuid}
    assert found("resources=VCPU:1") == both
    assert found("required=HW_CPU_X86_AVX2,!CUSTOM_FAST") == {small.uuid}
    assert found("required=in:CUSTOM_FAST,HW_CPU_X86_AVX2") == both
    assert found(f"member_of={group}") == {small.uuid}
    assert found(f"member_of=!{group}") == {big.uuid}
    assert found(f"member_of=in:{group},{new_uuid()}") == {small.uuid}
    assert found(f"in_tree={big.uuid}") == {big.uuid}
    assert found(f"uuid={big.uuid}") == {big.uuid}


@pytest.mark.parametrize(
    ("query", "version", "error"),
    [
        ("resources=VCPU:1", "1.3", BadQuery),
        ("required=HW_CPU_X86_AVX2", "1.17", BadQuery),
        ("in_tree=nope", "1.39", BadQuery),
        ("resources=VCPU", "1.39", BadQuery),
        ("resources=VCPU:0", "1.39", BadQuery),
        (f"resources=VCPU:{2**63}", "1.39", BadQuery),
        (f"resources=VCPU:{'9' * 5000}", "1.39", BadQuery),
        ("resources=NOBODY:1", "1.39", Invalid),
        ("required=NO_SUCH", "1.39", Invalid),
        ("required=CUSTOM_A,!CUSTOM_A", "1.39", BadQuery),
        ("member_of=x", "1.39", BadQuery),
        ("name=a&name=b", "1.39", RepeatedQuery),
        ("nonsense=1", "1.39", BadQuery),
    ],
)
def test_bad_filters_are_named(api: Placement, query: str, version: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        api.get(f"/resource_providers?{query}", version)


# -- inventories, traits, classes -------------------------------------------------------------


def test_inventories_are_put_changed_and_deleted_under_the_generation(api: Placement) -> None:
    made = make(api, "h1")
    where = f"/resource_providers/{made['uuid']}/inventories"
    put = api("PUT", where, {"resource_provider_generation": 0, "inventories": {"VCPU": {"total": 4}}}).body
    assert put["resource_provider_generation"] == 1
    assert put["inventories"]["VCPU"] == {
        "total": 4, "reserved": 0, "min_unit": 1, "max_unit": 2147483647, "step_size": 1, "allocation_ratio": 1.0,
    }  # fmt: skip
    with pytest.raises(GenerationConflict) as conflict:
        api("PUT", where, {"resource_provider_generation": 0, "inventories": {}})
    assert conflict.value.code == "placement.concurrent_update"
    assert api("POST", where, {"resource_class": "DISK_GB", "total": 9}).status == 201
    changed = api("PUT", f"{where}/VCPU", {"resource_provider_generation": 2, "total": 8}).body
    assert changed["total"] == 8
    assert api.get(f"{where}/VCPU")["resource_provider_generation"] == 3
    assert api.get(f"/resource_providers/{made['uuid']}/usages")["usages"] == {"VCPU": 0, "DISK_GB": 0}
    assert api("DELETE", f"{where}/VCPU").status == 204
    assert set(api.get(where)["inventories"]) == {"DISK_GB"}
    assert api("DELETE", where).status == 204
    assert api.get(where)["inventories"] == {}


@pytest.mark.parametrize("odd", [{"a": 1}, {"a": {}}, {"a": {"total": "x"}}, {"VCPU": {"total": 1}, "": None}])
def test_inventories_of_what_is_no_class_are_refused(api: Placement, odd: dict[str, Any]) -> None:
    uuid = make(api, "h1")["uuid"]
    body = {"resource_provider_generation": 0, "inventories": odd}
    with pytest.raises(Invalid, match="resource class"):
        api("PUT", f"/resource_providers/{uuid}/inventories", body)
    with pytest.raises(Invalid, match="resource class"):
        api("POST", "/reshaper", {"inventories": {uuid: body}, "allocations": {}})
    assert api.get(f"/resource_providers/{uuid}/inventories")["inventories"] == {}


def test_everything_may_be_reserved_from_1_26(api: Placement) -> None:
    where = f"/resource_providers/{make(api, 'h1')['uuid']}/inventories"
    body = {"resource_class": "VCPU", "total": 4, "reserved": 4}
    with pytest.raises(Invalid):
        api("POST", where, body, "1.25")
    assert api("POST", where, body, "1.26").status == 201


def test_resource_classes(api: Placement) -> None:
    assert api("PUT", "/resource_classes/CUSTOM_GOLD").status == 201
    assert api("PUT", "/resource_classes/CUSTOM_GOLD").status == 204
    with pytest.raises(PlacementNameTaken):
        api("POST", "/resource_classes", {"name": "CUSTOM_GOLD"})
    api("PUT", "/resource_classes/CUSTOM_GOLD", {"name": "CUSTOM_SILVER"}, "1.6")
    names = [one["name"] for one in api.get("/resource_classes")["resource_classes"]]
    assert "VCPU" in names
    assert "CUSTOM_SILVER" in names
    where = f"/resource_providers/{make(api, 'h1')['uuid']}/inventories"
    api("POST", where, {"resource_class": "CUSTOM_SILVER", "total": 1})
    with pytest.raises(ResourceClassInUse):
        api("DELETE", "/resource_classes/CUSTOM_SILVER")
    with pytest.raises(Invalid):
        api("DELETE", "/resource_classes/VCPU")


def test_traits(api: Placement) -> None:
    assert api("PUT", "/traits/CUSTOM_FAST").status == 201
    assert api("PUT", "/traits/CUSTOM_FAST").status == 204
    assert api("GET", "/traits/CUSTOM_FAST").status == 204
    assert api.get("/traits?name=startswith:CUSTOM")["traits"] == ["CUSTOM_FAST"]
    assert api.get("/traits?name=in:CUSTOM_FAST,HW_CPU_X86_AVX2,NO")["traits"] == ["CUSTOM_FAST", "HW_CPU_X86_AVX2"]
    assert api.get("/traits?associated=true")["traits"] == []
    where = f"/resource_providers/{make(api, 'h1')['uuid']}/traits"
    assert api("PUT", where, {"traits": ["CUSTOM_FAST"], "resource_provider_generation": 0}).body == {
        "traits": ["CUSTOM_FAST"], "resource_provider_generation": 1,
    }  # fmt: skip
    with pytest.raises(Invalid):
        api("PUT", where, {"traits": ["CUSTOM_SLOW"], "resource_provider_generation": 1})
    with pytest.raises(TraitInUse):
        api("DELETE", "/traits/CUSTOM_FAST")
    assert api("DELETE", where).status == 204
    assert api("DELETE", "/traits/CUSTOM_FAST").status == 204


# -- allocations ------------------------------------------------------------------------------


def body_at(version: str, host: str, amount: int, generation: int | None = None) -> dict[str, Any]:
    minor = int(version.split(".")[1])
    if minor < 12:
        body: dict[str, Any] = {"allocations": [{"resource_provider": {"uuid": host}, "resources": {"VCPU": amount}}]}
    else:
        body = {"allocations": {host: {"resources": {"VCPU": amount}}}}
    if minor >= 8:
        body |= {"project_id": "p1", "user_id": "u1"}
    if minor >= 28:
        body["consumer_generation"] = generation
    if minor >= 38:
        body["consumer_type"] = "INSTANCE"
    return body


@pytest.mark.parametrize("version", ["1.0", "1.8", "1.12", "1.28", "1.34", "1.38"])
def test_allocations_in_the_form_of_each_version(api: Placement, db: Database, version: str) -> None:
    host, consumer = provider(db, VCPU=4), new_uuid()
    assert api("PUT", f"/allocations/{consumer}", body_at(version, host.uuid, 2), version).status == 204
    shown = api.get(f"/allocations/{consumer}", version)
    assert shown["allocations"][host.uuid]["resources"] == {"VCPU": 2}
    assert ("project_id" in shown, "consumer_generation" in shown, "consumer_type" in shown) == (
        version not in ("1.0", "1.8"), version in ("1.28", "1.34", "1.38"), version == "1.38",
    )  # fmt: skip
    assert api.get(f"/resource_providers/{host.uuid}/allocations", version)["allocations"].keys() == {consumer}
    with pytest.raises(InventoryExceeded):
        api("PUT", f"/allocations/{new_uuid()}", body_at(version, host.uuid, 3), version)
    with pytest.raises(Invalid):
        api("PUT", f"/allocations/{new_uuid()}", body_at(version, new_uuid(), 1), version)
    assert api("DELETE", f"/allocations/{consumer}", version=version).status == 204
    with pytest.raises(ConsumerNotFound):
        api("DELETE", f"/allocations/{consumer}", version=version)
    assert_sound(db)


def test_consumer_generations_guard_from_1_28(api: Placement, db: Database) -> None:
    host, consumer = provider(db, VCPU=4), new_uuid()
    api("PUT", f"/allocations/{consumer}", body_at("1.38", host.uuid, 1))
    with pytest.raises(GenerationConflict):
        api("PUT", f"/allocations/{consumer}", body_at("1.38", host.uuid, 2))
    at = api.get(f"/allocations/{consumer}")["consumer_generation"]
    api("PUT", f"/allocations/{consumer}", body_at("1.38", host.uuid, 2, at))
    empty = {**body_at("1.38", host.uuid, 1, at + 1), "allocations": {}}
    assert api("PUT", f"/allocations/{consumer}", empty).status == 204
    assert api.get(f"/allocations/{consumer}") == {"allocations": {}}


def test_many_consumers_change_at_once_or_not_at_all(api: Placement, db: Database) -> None:
    here, there, one, two = provider(db, VCPU=2), provider(db, VCPU=2), new_uuid(), new_uuid()
    api("POST", "/allocations", {one: body_at("1.38", here.uuid, 2), two: body_at("1.38", there.uuid, 2)})
    with pytest.raises(InventoryExceeded):
        api("POST", "/allocations",
            {one: body_at("1.38", there.uuid, 2, 1), new_uuid(): body_at("1.38", here.uuid, 1)})  # fmt: skip
    swap = {one: body_at("1.38", there.uuid, 2, 1), two: body_at("1.38", here.uuid, 2, 1)}
    assert api("POST", "/allocations", swap).status == 204
    assert_sound(db)


def test_usages_of_a_project(api: Placement, db: Database) -> None:
    host = provider(db, VCPU=9)
    for amount in (1, 2):
        api("PUT", f"/allocations/{new_uuid()}", body_at("1.38", host.uuid, amount))
    assert api.get("/usages?project_id=p1", "1.9") == {"usages": {"VCPU": 3}}
    assert api.get("/usages?project_id=p1&user_id=u2", "1.9") == {"usages": {}}
    typed = {"INSTANCE": {"VCPU": 3, "consumer_count": 2}}
    assert api.get("/usages?project_id=p1") == {"usages": typed}
    assert api.get("/usages?project_id=p1&consumer_type=all") == {"usages": {"all": typed["INSTANCE"]}}
    with pytest.raises(MissingQuery):
        api.get("/usages")


def test_reshaping_moves_inventory_and_use_together(api: Placement, db: Database) -> None:
    root = provider(db, VGPU=4, VCPU=8)
    child = provider(db, parent=root.uuid)
    consumer = new_uuid()
    claim = body_at("1.38", root.uuid, 1)
    claim["allocations"][root.uuid]["resources"]["VGPU"] = 2
    api("PUT", f"/allocations/{consumer}", claim)
    moved = {**claim, "consumer_generation": 1}
    moved["allocations"] = {
        root.uuid: {"resources": {"VCPU": 1}}, child.uuid: {"resources": {"VGPU": 2}},
    }  # fmt: skip
    api(
        "POST",
        "/reshaper",
        {
            "inventories": {
                root.uuid: {"resource_provider_generation": 2, "inventories": {"VCPU": {"total": 8}}},
                child.uuid: {"resource_provider_generation": 1, "inventories": {"VGPU": {"total": 4}}},
            },
            "allocations": {consumer: moved},
        },
    )
    assert set(api.get(f"/resource_providers/{root.uuid}/inventories")["inventories"]) == {"VCPU"}
    used = api.get(f"/resource_providers/{child.uuid}/usages")
    assert used == {"usages": {"VGPU": 2}, "resource_provider_generation": 4}
    assert_sound(db)


def test_a_reshape_holds_unchanged_amounts_against_the_new_inventory(api: Placement, db: Database) -> None:
    host, consumer = provider(db, DISK_GB=2000), new_uuid()
    claim = body_at("1.38", host.uuid, 1)
    claim["allocations"][host.uuid]["resources"] = {"DISK_GB": 1000}
    api("PUT", f"/allocations/{consumer}", claim)
    inventory = {"resource_provider_generation": 2, "inventories": {"DISK_GB": {"total": 2000, "max_unit": 600}}}
    reshaped = {"inventories": {host.uuid: inventory}, "allocations": {consumer: {**claim, "consumer_generation": 1}}}
    with pytest.raises(InventoryExceeded):
        api("POST", "/reshaper", reshaped)
    inventory["inventories"]["DISK_GB"]["max_unit"] = 1000
    assert api("POST", "/reshaper", reshaped).status == 204


def test_a_reshape_of_a_provider_that_is_not_there_is_invalid(api: Placement) -> None:
    inventory = {"resource_provider_generation": 0, "inventories": {}}
    with pytest.raises(InventoriesOfNone):
        api("POST", "/reshaper", {"inventories": {new_uuid(): inventory}, "allocations": {}})


def test_inventories_that_were_read_before_a_claim_are_not_written_after_it(api: Placement, db: Database) -> None:
    host = provider(db, VCPU=9)
    path = f"/resource_providers/{host.uuid}/inventories"
    known, consumer = api.get(path), new_uuid()
    claim = body_at("1.38", host.uuid, 1)
    api("PUT", f"/allocations/{consumer}", claim)
    with pytest.raises(GenerationConflict):
        api("PUT", path, known)
    emptied = {**claim, "consumer_generation": 1, "allocations": {}}
    for write in (
        lambda: api("PUT", f"/allocations/{consumer}", {**claim, "consumer_generation": 1}),
        lambda: api("POST", "/allocations", {consumer: {**emptied, "consumer_generation": 2}}),
    ):
        known = api.get(path)
        write()
        assert api.get(path)["resource_provider_generation"] == known["resource_provider_generation"] + 1


# -- candidates -------------------------------------------------------------------------------


def where(found: dict[str, Any]) -> list[dict[str, dict[str, int]]]:
    return [
        {uuid: part["resources"] for uuid, part in request["allocations"].items()}
        for request in found["allocation_requests"]
    ]


def test_candidates_of_flat_providers(api: Placement, db: Database) -> None:
    big, small = provider(db, VCPU=8, MEMORY_MB=64), provider(db, VCPU=8, MEMORY_MB=1)
    ask = "resources=VCPU:2,MEMORY_MB:32"
    found = api.get(f"/allocation_candidates?{ask}")
    assert where(found) == [{big.uuid: {"VCPU": 2, "MEMORY_MB": 32}}]
    assert found["allocation_requests"][0]["mappings"] == {"": [big.uuid]}
    assert found["provider_summaries"][big.uuid]["resources"]["VCPU"] == {"capacity": 8, "used": 0}
    old = api.get(f"/allocation_candidates?{ask}", "1.10")
    assert old["allocation_requests"] == [
        {"allocations": [{"resource_provider": {"uuid": big.uuid}, "resources": {"VCPU": 2, "MEMORY_MB": 32}}]}
    ]
    assert len(where(api.get("/allocation_candidates?resources=VCPU:1"))) == 2
    assert len(where(api.get("/allocation_candidates?resources=VCPU:1&limit=1"))) == 1
    assert where(api.get(f"/allocation_candidates?resources=VCPU:1&in_tree={small.uuid}")) == [
        {small.uuid: {"VCPU": 1}}
    ]
    assert where(api.get("/allocation_candidates?resources=VCPU:9")) == []


def test_candidates_spread_over_a_tree_from_1_29(api: Placement, db: Database) -> None:
    root = provider(db, VCPU=8)
    gpu = provider(db, parent=root.uuid, VGPU=2)
    ask = "/allocation_candidates?resources=VCPU:1,VGPU:1"
    assert where(api.get(ask)) == [{root.uuid: {"VCPU": 1}, gpu.uuid: {"VGPU": 1}}]
    assert where(api.get(ask, "1.28")) == []


def test_named_groups_and_their_policy(api: Placement, db: Database) -> None:
    root = provider(db, VCPU=8)
    gpus = [provider(db, parent=root.uuid, VGPU=Inventory(2, max_unit=1)) for _ in range(2)]
    ask = "/allocation_candidates?resources=VCPU:1&resources1=VGPU:1&resources2=VGPU:1"
    with pytest.raises(MissingQuery):
        api.get(ask)
    isolated = api.get(f"{ask}&group_policy=isolate")
    assert where(isolated) == [{root.uuid: {"VCPU": 1}, **{gpu.uuid: {"VGPU": 1} for gpu in gpus}}] * 2
    groups = [(way["mappings"]["1"], way["mappings"]["2"]) for way in isolated["allocation_requests"]]
    assert sorted(groups) == sorted([([a.uuid], [b.uuid]) for a in gpus for b in gpus if a is not b])
    assert len(api.get(f"{ask}&group_policy=none")["allocation_requests"]) == 2
    with pytest.raises(BadQuery):
        api.get("/allocation_candidates?resources=VCPU:1&resources_A=VGPU:1", "1.32")
    named = api.get("/allocation_candidates?resources=VCPU:1&resources_A=VGPU:1", "1.33")
    assert len(named["allocation_requests"]) == 2


def test_one_provider_serves_two_groups_or_each_of_two_does(api: Placement, db: Database) -> None:
    for _ in range(2):
        provider(db, VCPU=8)
    root = provider(db, DISK_GB=8)
    for _ in range(2):
        provider(db, parent=root.uuid, VGPU=4)
    ask = "/allocation_candidates?resources1=VGPU:2&resources2=VGPU:2"
    assert len(api.get(f"{ask}&group_policy=none", "1.29")["allocation_requests"]) == 4
    assert len(api.get(f"{ask}&group_policy=isolate", "1.29")["allocation_requests"]) == 2


def test_an_aggregate_is_shown_as_it_was_written_and_found_either_way(api: Placement, db: Database) -> None:
    near, pool, aggregate = provider(db, VCPU=8), provider(db, DISK_GB=9), uuid4()
    api("PUT", f"/resource_providers/{near.uuid}/aggregates", [aggregate.hex], version="1.1")
    assert api.get(f"/resource_providers/{near.uuid}/aggregates")["aggregates"] == [aggregate.hex]
    for text in (str(aggregate), aggregate.hex):
        found = api.get(f"/resource_providers?member_of={text}")["resource_providers"]
        assert [one["uuid"] for one in found] == [near.uuid]
    shares(api, sharing=pool.uuid, aggregate=str(aggregate))
    assert len(where(api.get("/allocation_candidates?resources=VCPU:1,DISK_GB:9"))) == 1
    with db.connect() as tx:
        assert stock.read(tx)[near.id].aggregates == {str(aggregate)}


def shares(api: Placement, *uuids: str, sharing: str, aggregate: str | None = None) -> str:
    """An aggregate of all these providers, of which one is said to share."""
    aggregate = aggregate or new_uuid()
    for uuid in (*uuids, sharing):
        api("PUT", f"/resource_providers/{uuid}/aggregates", [aggregate], version="1.1")
    known = api.get(f"/resource_providers/{sharing}")["generation"]
    api("PUT", f"/resource_providers/{sharing}/traits",
        {"traits": ["MISC_SHARES_VIA_AGGREGATE"], "resource_provider_generation": known})  # fmt: skip
    return aggregate


@pytest.mark.parametrize("version", ["1.10", "1.29", "1.39"])
def test_a_provider_that_shares_by_aggregate_serves_the_trees_of_its_aggregates(
    api: Placement, db: Database, version: str
) -> None:
    near, far, pool = provider(db, VCPU=8), provider(db, VCPU=8), provider(db, DISK_GB=100)
    aggregate = shares(api, near.uuid, sharing=pool.uuid)
    found = api.get("/allocation_candidates?resources=VCPU:1,DISK_GB:10", version)
    assert len(found["allocation_requests"]) == 1
    assert set(found["provider_summaries"]) == {near.uuid, pool.uuid}
    if version != "1.39":
        return
    both = {near.uuid: {"VCPU": 1}, pool.uuid: {"DISK_GB": 10}}
    assert where(found) == [both]
    assert where(api.get(f"/allocation_candidates?resources=VCPU:1,DISK_GB:10&member_of={aggregate}")) == [both]
    assert where(api.get(f"/allocation_candidates?resources=VCPU:1,DISK_GB:10&member_of=!{aggregate}")) == []
    assert where(api.get(f"/allocation_candidates?resources=VCPU:1,DISK_GB:10&in_tree={near.uuid}")) == []
    assert where(api.get("/allocation_candidates?resources=VCPU:1&resources_D=DISK_GB:10")) == [both]
    assert where(api.get(f"/allocation_candidates?resources=VCPU:1&resources_D=DISK_GB:10&in_tree_D={pool.uuid}")) == [
        both
    ]
    assert (
        where(api.get("/allocation_candidates?resources=VCPU:1,DISK_GB:10&required=!MISC_SHARES_VIA_AGGREGATE")) == []
    )
    assert where(api.get("/allocation_candidates?resources=DISK_GB:10")) == [{pool.uuid: {"DISK_GB": 10}}]
    assert where(api.get("/allocation_candidates?resources=VCPU:1&limit=9")) == [
        {uuid: {"VCPU": 1}} for uuid in (near.uuid, far.uuid)
    ]


def test_a_tree_takes_from_itself_or_from_what_is_shared(api: Placement, db: Database) -> None:
    root, pool = provider(db, VCPU=8), provider(db, DISK_GB=100)
    child = provider(db, parent=root.uuid, DISK_GB=50)
    aggregate = shares(api, child.uuid, sharing=pool.uuid)
    ask = "/allocation_candidates?resources=VCPU:1,DISK_GB:10"
    one, other = ({root.uuid: {"VCPU": 1}, disk.uuid: {"DISK_GB": 10}} for disk in (child, pool))
    assert sorted(map(str, where(api.get(ask)))) == sorted(map(str, [one, other]))
    assert where(api.get(ask, "1.28")) == [other], "no two of one tree before 1.29"
    assert where(api.get(f"{ask}&root_required=MISC_SHARES_VIA_AGGREGATE")) == []
    # The root is in no aggregate: so what it has is none of a member's.
    assert where(api.get(f"{ask}&member_of={aggregate}")) == []


def test_what_is_of_a_root_s_aggregates_and_what_a_summary_shows(api: Placement, db: Database) -> None:
    roots = [provider(db, VCPU=8) for _ in range(2)]
    for root in roots:
        provider(db, parent=root.uuid, VGPU=2)
    pool, both, one = provider(db, DISK_GB=9), new_uuid(), new_uuid()
    shares(api, roots[0].uuid, sharing=pool.uuid, aggregate=both)
    api("PUT", f"/resource_providers/{roots[1].uuid}/aggregates", [both, one], version="1.1")

    def count(query: str, version: str = "1.39") -> int:
        return len(api.get(f"/allocation_candidates?{query}", version)["allocation_requests"])

    assert count(f"resources=VGPU:1&member_of={one}") == 1, "the unnamed group: by the root of its tree"
    assert count(f"resources1=VGPU:1&member_of1={one}") == 0, "a named one: by the provider alone"
    assert count(f"resources=VCPU:1,DISK_GB:1&member_of={both}") == 2
    assert count(f"resources=VCPU:1,DISK_GB:1&member_of={one}") == 0, "what is shared must be in it itself"
    assert count(f"resources=VCPU:1,DISK_GB:1&member_of=!{one}") == 1
    assert len(api.get(f"/resource_providers?member_of={one}")["resource_providers"]) == 1
    for version, shown in (("1.28", 2), ("1.29", 4)):
        assert len(api.get("/allocation_candidates?resources=VCPU:1", version)["provider_summaries"]) == shown


def test_root_required_and_same_subtree(api: Placement, db: Database) -> None:
    roots = [provider(db, VCPU=8), provider(db, VCPU=8)]
    api("PUT", f"/resource_providers/{roots[0].uuid}/traits",
        {"traits": ["COMPUTE_STATUS_DISABLED"], "resource_provider_generation": 1})  # fmt: skip
    free = api.get("/allocation_candidates?resources=VCPU:1&root_required=!COMPUTE_STATUS_DISABLED")
    assert where(free) == [{roots[1].uuid: {"VCPU": 1}}]
    numa = [provider(db, parent=roots[1].uuid, NUMA_CORE=4) for _ in range(2)]
    for one in numa:
        provider(db, parent=one.uuid, VGPU=1)
    ask = "resources_C=NUMA_CORE:1&resources_G=VGPU:1&group_policy=none"
    assert len(where(api.get(f"/allocation_candidates?{ask}"))) == 4
    assert len(where(api.get(f"/allocation_candidates?{ask}&same_subtree=_C,_G"))) == 2


def test_a_route_outside_its_versions_is_not_there(api: Placement) -> None:
    for method, path, version in (("GET", "/traits", "1.5"), ("GET", "/allocation_candidates", "1.9")):
        with pytest.raises(NotFound):
            api(method, path, version=version)


def by_path() -> dict[tuple[str, str], list[Route]]:
    """The routes of each method and path, by version."""
    found: dict[tuple[str, str], list[Route]] = defaultdict(list)
    for route in sorted(ROUTES, key=lambda route: route.min_version):
        found[route.method, route.path].append(route)
    return found


def test_a_path_has_one_route_at_each_version_from_its_first_to_the_newest() -> None:
    for key, routes in by_path().items():
        assert all(after(one.max_version) == other.min_version for one, other in pairwise(routes)), key
        assert routes[-1].max_version == NEWEST, key
        assert len({route.rule for route in routes}) == 1, key


# -- against the reference --------------------------------------------------------------------


@needs_reference
def test_every_route_of_the_reference_is_served_with_its_rule_and_versions() -> None:
    rows = json.loads((REFERENCE / "placement_routes.json").read_text())["routes"]
    spans: dict[tuple[str, str], tuple[tuple[int, ...], tuple[int, ...], str | None]] = {}
    for row in rows:
        low = tuple(map(int, row["min_version"].split(".")))
        high = tuple(map(int, row["max_version"].split(".")))
        rule = row["policies"][0]["rule"] if row["policies"] else None
        key = (row["method"], row["path"] or "/")
        before = spans.get(key, (low, high, rule))
        spans[key] = (min(before[0], low), max(before[1], high), rule)
    by_handler = {("GET", "/usages"): RULE_OF_USAGES}  # which knows the project
    ours = {
        key: (routes[0].min_version, routes[-1].max_version, by_handler.get(key, routes[0].rule))
        for key, routes in by_path().items()
    }
    assert ours == spans


BODIES = [
    (schemas.CREATE_PROVIDER, "resource_provider", {
        "1.0": "post_resource_provider_schema", "1.14": "post_rp_schema_v1_14"}),
    (schemas.UPDATE_PROVIDER, "resource_provider", {
        "1.0": "put_resource_provider_schema", "1.14": "put_rp_schema_v1_14"}),
    (schemas.CREATE_INVENTORY, "inventory", {"1.0": "post_inventory_schema"}),
    (schemas.UPDATE_INVENTORY, "inventory", {"1.0": "put_inventory_record_schema"}),
    (schemas.PUT_INVENTORIES, "inventory", {"1.0": "put_inventory_schema"}),
    (schemas.RESOURCE_CLASS, "resource_class", {"1.2": "post_rc_schema_v1_2"}),
    (schemas.PUT_TRAITS, "trait", {"1.6": "set_traits_for_rp_schema"}),
    (schemas.REPLACE_AGGREGATES, "aggregate", {"1.1": "put_aggregates_schema_v1_1"}),
    (schemas.PUT_AGGREGATES, "aggregate", {"1.19": "put_aggregates_schema_v1_19"}),
    (schemas.PUT_ALLOCATIONS, "allocation", {
        "1.0": "allocation_schema", "1.8": "allocation_schema_v1_8", "1.12": "allocation_schema_v1_12",
        "1.28": "allocation_schema_v1_28", "1.34": "allocation_schema_v1_34", "1.38": "allocation_schema_v1_38"}),
    (schemas.POST_ALLOCATIONS, "allocation", {
        "1.13": "post_allocations_v1_13", "1.28": "post_allocations_v1_28", "1.34": "post_allocations_v1_34",
        "1.38": "post_allocations_v1_38"}),
    (schemas.RESHAPE, "reshaper", {
        "1.30": "post_reshaper_schema", "1.34": "post_reshaper_schema_v1_34", "1.38": "post_reshaper_schema_v1_38"}),
]  # fmt: skip


def plain(schema: Any) -> Any:
    """Without what means nothing: empty requirements, bounds at zero, closed non-objects."""
    if isinstance(schema, list):
        return [plain(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: plain(value) for key, value in schema.items()}
    if made.get("minProperties") == 0:
        del made["minProperties"]
    if made.get("required") == []:
        del made["required"]
    if isinstance(made.get("required"), list):
        made["required"] = sorted(made["required"])
    if made.get("type") == ["integer", "null"]:
        made.pop("additionalProperties", None)
    return made


@needs_reference
@pytest.mark.parametrize(("body", "group", "names"), BODIES, ids=lambda value: value if isinstance(value, str) else "")
def test_bodies_are_those_of_the_reference(body: Any, group: str, names: dict[str, str]) -> None:
    reference = json.loads((REFERENCE / "placement_schemas.json").read_text())[group]
    for version, name in names.items():
        at = tuple(map(int, version.split(".")))
        ours = body if isinstance(body, dict) else value_at(body, at)
        jsonschema.Draft7Validator.check_schema(ours)
        assert plain(ours) == plain(reference[name]), name


def test_every_schema_is_one() -> None:
    found = [schema_at(route, (1, minor)) for route in ROUTES for minor in range(40)]
    schemas = [schema for schema in found if schema is not None]
    assert schemas
    for schema in schemas:
        jsonschema.Draft7Validator.check_schema(schema)
