"""Servers on hosts of several providers, from the APIs: their request groups are met, moved and freed as they are."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
import requests

from cell_service.context import internal
from cell_service.db import compute_nodes
from tests.federation.cloud import Federation
from tests.federation.test_moves import HOST, ended
from tests.placement.stock import assert_sound

SIZES = {"VCPU": 1, "MEMORY_MB": 64, "DISK_GB": 1}
APART = {"resources1:CUSTOM_NIC": "1", "resources2:CUSTOM_NIC": "1", "group_policy": "isolate"}


class Stock:
    """The cloud's placement, as an operator's client has it."""

    def __init__(self, cloud: Federation) -> None:
        self._url = f"http://127.0.0.1:{cloud.placement.port}"
        self._cloud = cloud

    def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"OpenStack-API-Version": "placement 1.39", "X-Auth-Token": "admin:admin"}
        answer = requests.request(method, self._url + path, json=body, headers=headers, timeout=20)
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def roots(self, cell: str) -> dict[str, str]:
        """Host → uuid of its provider."""
        with self._cloud.cells.open(self._cloud.ids[cell]).db.connect(internal().deadline) as tx:
            return {node.host: node.report.uuid for node in compute_nodes.list_all(tx)}

    def child(self, root: str, **stock: int) -> str:
        body = {"name": uuid4().hex, "uuid": str(uuid4()), "parent_provider_uuid": root}
        made: str = self.call("POST", "/resource_providers", body)["uuid"]
        wanted = {"resource_provider_generation": 0, "inventories": {name: {"total": n} for name, n in stock.items()}}
        self.call("PUT", f"/resource_providers/{made}/inventories", wanted)
        return made

    def held(self, consumer: str) -> dict[str, dict[str, int]]:
        found = self.call("GET", f"/allocations/{consumer}")["allocations"]
        return {uuid: part["resources"] for uuid, part in found.items()}


def flavor(cloud: Federation, extra: dict[str, str]) -> str:
    name = uuid4().hex
    body = {"flavor": {"id": name, "name": name, "vcpus": 1, "ram": 64, "disk": 1}}
    assert cloud.admin.post("/flavors", body).status == 200
    assert cloud.admin.post(f"/flavors/{name}/os-extra_specs", {"extra_specs": extra}).status == 200
    return name


def test_a_server_of_two_groups_from_its_boot_to_its_end(own_cloud: Federation) -> None:
    cloud, stock = own_cloud, Stock(own_cloud)
    stock.call("PUT", "/resource_classes/CUSTOM_NIC")
    roots = stock.roots("cell1")
    nics = {host: [stock.child(root, CUSTOM_NIC=1) for _ in range(2)] for host, root in roots.items()}
    wanted = flavor(cloud, APART)

    def whole(host: str) -> dict[str, dict[str, int]]:
        return {roots[host]: SIZES, **{nic: {"CUSTOM_NIC": 1} for nic in nics[host]}}

    first = cloud.boot(flavorRef=wanted)
    home = cloud.show(first)[HOST]
    assert stock.held(first) == whole(home)

    assert cloud.act(first, "migrate").status == 202
    shown = cloud.settled(first)
    assert (shown["status"], shown.get("fault")) == ("VERIFY_RESIZE", None)
    away = shown[HOST]
    (migration,) = cloud.admin.get(f"/os-migrations?instance_uuid={first}", version="2.59").json["migrations"]
    assert away != home
    assert (stock.held(first), stock.held(migration["uuid"])) == (whole(away), whole(home))

    third = cloud.boot(flavorRef=wanted)
    assert cloud.show(third)["status"] == "ERROR", "both sides of the move are taken"
    assert "4 has no provider for request group 1" in str(cloud.show(third)["fault"])
    assert stock.held(third) == {}

    assert cloud.act(first, "revertResize").status == 202
    cloud.until(lambda: cloud.show(first)["status"] == "ACTIVE")
    ended(cloud, first)
    assert (stock.held(first), stock.held(migration["uuid"])) == (whole(home), {})

    second = cloud.boot(flavorRef=wanted)
    assert stock.held(second) == whole(away)
    for uuid in (first, second, third):
        assert cloud.admin.delete(f"/servers/{uuid}").status == 204
        cloud.until(lambda uuid=uuid: cloud.gone(uuid))
    assert (stock.held(first), stock.held(second)) == ({}, {})
    assert cloud.show(cloud.boot(flavorRef=wanted))["status"] == "ACTIVE"
    assert_sound(cloud.db)


@pytest.mark.parametrize(
    "extra",
    [
        {"trait1:CUSTOM_A": "required"},
        {"trait:CUSTOM_A": "perhaps"},
        {"resources1:VGPU": "1", "group_policy": "both"},
        {"resources1:VGPU": "1", "same_subtree": "1,2"},
    ],
)
def test_groups_that_are_ill_formed_are_refused(cloud: Federation, extra: dict[str, str]) -> None:
    wanted = flavor(cloud, extra)
    answer = cloud.post_server(flavorRef=wanted)
    assert (answer.status, "extra spec" in answer.fault[1]) == (400, True)
    server = cloud.boot()
    answer = cloud.act(server, "resize", {"flavorRef": wanted})
    assert (answer.status, "extra spec" in answer.fault[1]) == (400, True)
