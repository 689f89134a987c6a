"""Flavors: who sees which, in which order, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.edge.client import Client
from tests.edge.compute_api import ComputeApi


def make(client: Client, name: str, **more: Any) -> str:
    body = {"name": name, "id": name, "ram": 512, "vcpus": 1, "disk": 1, **more}
    reply = client.post("/flavors", {"flavor": body})
    assert reply.status == 200, reply.json
    return str(reply.json["flavor"]["id"])


def ids(client: Client, query: str = "", version: str | None = None) -> list[str]:
    return [flavor["id"] for flavor in client.get(f"/flavors{query}", version=version).json["flavors"]]


def test_a_private_flavor_is_for_its_projects_only(api: ComputeApi) -> None:
    make(api.client, "open")
    make(api.client, "closed", **{"os-flavor-access:is_public": "no"})
    ann, bob = api.as_user("ann", "p1"), api.as_user("bob", "p2")
    api.client.post("/flavors/closed/action", {"addTenantAccess": {"tenant": "p1"}})

    assert ids(ann) == ["closed", "open"]
    assert ids(bob) == ["open"]
    assert ann.get("/flavors/closed").status == 200
    assert bob.get("/flavors/closed").fault[0] == "itemNotFound"
    assert bob.get("/flavors/closed/os-extra_specs").status == 404
    assert ids(api.client) == ["open"]
    assert ids(api.client, "?is_public=None") == ["closed", "open"]
    assert ids(api.client, "?is_public=false") == ["closed"]
    assert {word: ids(api.client, f"?is_public={word}") for word in "1tyTY"} == {key: ["open"] for key in "1tyTY"}
    assert {word: ids(api.client, f"?is_public={word}") for word in "0fnFN"} == {key: ["closed"] for key in "0fnFN"}
    assert ids(bob, "?is_public=None") == ["open"]
    assert api.client.get("/flavors?is_public=").status == 400
    assert api.client.get("/flavors?is_public=maybe").fault[0] == "badRequest"


def test_pages_follow_their_links_to_the_end(client: Client) -> None:
    for name in ("c", "a", "d", "b", "e"):
        make(client, name)
    assert ids(client, "?limit=2&marker=") == ids(client, "?limit=2")
    seen: list[str] = []
    path = "/flavors?limit=2&sort_dir=desc"
    while path:
        answer = client.get(path).json
        seen += [flavor["id"] for flavor in answer["flavors"]]
        links = answer.get("flavors_links", [])
        path = links[0]["href"].partition("/v2.1")[2] if links else ""

    assert seen == ["e", "d", "c", "b", "a"]
    assert client.get("/flavors?marker=nothing").fault == ("badRequest", "marker [nothing] not found")


def test_filters_and_order(client: Client) -> None:
    make(client, "small", ram=256, disk=1)
    make(client, "big", ram=4096, disk=40)
    make(client, "wide", ram=1024, disk=80)

    assert ids(client, "?minRam=1000") == ["big", "wide"]
    assert ids(client, "?minDisk=50") == ["wide"]
    assert ids(client, "?sort_key=memory_mb") == ["small", "wide", "big"]
    assert ids(client, "?sort_key=root_gb&sort_dir=desc") == ["wide", "big", "small"]
    assert client.get("/flavors?minRam=much").status == 400
    assert client.get("/flavors?sort_key=colour").status == 400
    assert client.get("/flavors?limit=-1").status == 400
    assert client.get("/flavors?colour=red", version="2.75").status == 400


def test_names_and_ids_are_unique(client: Client) -> None:
    make(client, "one")

    assert client.post("/flavors", {"flavor": {"name": "one", "ram": 1, "vcpus": 1, "disk": 0}}).status == 409
    taken = client.post("/flavors", {"flavor": {"name": "two", "id": "one", "ram": 1, "vcpus": 1, "disk": 0}})
    assert taken.fault == ("conflictingRequest", "Flavor with ID one already exists.")
    assert ids(client) == ["one"]


@pytest.mark.parametrize(
    "change",
    [
        {"ram": 0}, {"ram": "x"}, {"vcpus": 2**31}, {"disk": -1}, {"name": ""}, {"name": "a" * 256}, {"id": " a"},
        {"rxtx_factor": 0}, {"os-flavor-access:is_public": "perhaps"}, {"description": "too early"}, {"colour": 1},
    ],
)  # fmt: skip
def test_a_wrong_flavor_is_refused_and_nothing_made(client: Client, change: dict[str, Any]) -> None:
    reply = client.post("/flavors", {"flavor": {"name": "n", "ram": 1, "vcpus": 1, "disk": 0, **change}})

    assert reply.fault[0] == "badRequest"
    assert ids(client) == []


def test_only_administrators_make_flavors(api: ComputeApi) -> None:
    ann = api.as_user("ann", "p1")
    assert ann.post("/flavors", {"flavor": {"name": "n", "ram": 1, "vcpus": 1, "disk": 0}}).fault[0] == "forbidden"
    make(api.client, "n")
    assert ann.delete("/flavors/n").status == 403
    assert ann.get("/flavors/n/os-extra_specs").status == 200


def test_access_of_a_public_flavor_has_no_list(client: Client) -> None:
    make(client, "open")
    assert client.get("/flavors/open/os-flavor-access").status == 404
    add = {"addTenantAccess": {"tenant": "p"}}
    assert client.post("/flavors/open/action", add).status == 200
    assert client.post("/flavors/open/action", add, version="2.7").status == 409
    assert client.post("/flavors/open/action", add).status == 409
    assert client.post("/flavors/open/action", {"removeTenantAccess": {"tenant": "q"}}).status == 404


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        ("hw:cpu_policy", "dedicated", True),
        ("hw:cpu_policy", "lonely", False),
        ("hw:numa_nodes", "0", False),
        ("hw:numa_cpus.1", "0-3,^2", True),
        ("hw:unheard_of", "1", False),
        ("quota:cpu_shares", "-1", False),
        ("resources:VCPU", "2", True),
        ("resources_1:CUSTOM_GOLD", "1", True),
        ("resources:GOLD", "1", False),
        ("trait:HW_CPU_X86_AVX", "required", True),
        ("trait:HW_CPU_X86_AVX", "maybe", False),
        ("trait:CUSTOM_FAST", "forbidden", True),
        ("my:own", "whatever", True),
        ("bare", "whatever", True),
    ],
)
def test_known_extra_specs_are_checked_from_2_86(client: Client, name: str, value: str, fits: bool) -> None:
    make(client, "f")
    body = {"extra_specs": {name: value}}

    assert client.post("/flavors/f/os-extra_specs", body, version="2.86").status == (200 if fits else 400)
    assert client.post("/flavors/f/os-extra_specs", body, version="2.85").status == 200


def test_extra_specs_are_kept_apart(client: Client) -> None:
    make(client, "f")
    client.post("/flavors/f/os-extra_specs", {"extra_specs": {"a": "1", "b": 2}})
    client.put("/flavors/f/os-extra_specs/a", {"a": "3"})

    assert client.get("/flavors/f/os-extra_specs").json == {"extra_specs": {"a": "3", "b": "2"}}
    assert client.put("/flavors/f/os-extra_specs/a", {"b": "3"}).status == 400
    assert client.get("/flavors/f/os-extra_specs/c").fault[0] == "itemNotFound"
    assert client.delete("/flavors/f/os-extra_specs/c").status == 404
    assert client.get("/flavors/g/os-extra_specs").status == 404
    shown = client.get("/flavors/f", version="2.61").json["flavor"]
    assert shown["extra_specs"] == {"a": "3", "b": "2"}
