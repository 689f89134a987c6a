"""Trunks of the network companion, as published (Network API reference)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.suites.network_service import ByRole, NetworkService
from tools.companions.network import store
from tools.companions.network.service import make_network
from tools.companions.network.wiring.plan import read_plan
from tools.companions.store import open_store


@pytest.fixture
def service(tmp_path: Path) -> Iterator[NetworkService]:
    companion = make_network(tmp_path, ByRole())
    companion.start()
    yield NetworkService(companion)
    companion.drain(2)


@pytest.fixture
def network(service: NetworkService) -> str:
    return service.network(by="member:p1")


def sub(port: str, vlan: Any = 100) -> dict[str, Any]:
    return {"port_id": port, "segmentation_type": "vlan", "segmentation_id": vlan}


def trunk(service: NetworkService, parent: str, *subports: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return service.made("trunks", "trunk", by="member:p1", port_id=parent, sub_ports=list(subports), **fields)


def test_trunks_are_made_listed_changed_and_deleted(service: NetworkService, network: str) -> None:
    parent, one, two = (service.port(network, by="member:p1") for _ in range(3))
    made = trunk(service, parent, sub(one), name="t")
    wanted = {"name": "t", "port_id": parent, "sub_ports": [sub(one)], "status": "DOWN", "admin_state_up": True,
              "description": "", "project_id": "p1", "tenant_id": "p1", "revision_number": 1, "tags": []}  # fmt: skip
    assert made == made | wanted
    path = f"trunks/{made['id']}"
    assert [found["id"] for found in service.shown("trunks?name=t", by="reader:p1")] == [made["id"]]
    assert service.shown("trunks", by="member:p2") == []
    assert service.refused("GET", path, by="member:p2") == (404, "TrunkNotFound")
    assert service.refused("POST", "trunks", {"trunk": {"port_id": two}}, by="reader:p1")[0] == 403
    changed = service.send("PUT", path, {"trunk": {"name": "u"}}, by="member:p1").json()["trunk"]
    assert (changed["name"], changed["sub_ports"]) == ("u", [sub(one)])
    added = service.send("PUT", f"{path}/add_subports", {"sub_ports": [sub(two, "101")]}, by="member:p1")
    assert (added.status_code, added.json()["sub_ports"]) == (200, [sub(one), sub(two, 101)])
    assert service.shown(f"ports/{two}")["device_owner"] == "trunk:subport"
    details = service.shown(f"ports/{parent}", by="member:p1")["trunk_details"]
    macs = {port: service.shown(f"ports/{port}")["mac_address"] for port in (one, two)}
    assert details == {"trunk_id": made["id"], "sub_ports": [
        {**sub(one), "mac_address": macs[one]}, {**sub(two, 101), "mac_address": macs[two]},
    ]}  # fmt: skip
    assert "trunk_details" not in service.shown(f"ports/{one}")
    removed = service.send("PUT", f"{path}/remove_subports", {"sub_ports": [{"port_id": one}]}, by="member:p1")
    assert removed.json()["sub_ports"] == service.shown(f"{path}/get_subports") == [sub(two, 101)]
    assert service.shown(f"ports/{one}")["device_owner"] == ""
    gone = {"sub_ports": [{"port_id": one}]}
    assert service.refused("PUT", f"{path}/remove_subports", gone) == (404, "SubPortNotFound")
    assert service.send("DELETE", path, by="member:p1").status_code == 204
    assert service.shown(f"ports/{two}")["device_owner"] == ""
    for port in (parent, one, two):
        assert service.send("DELETE", f"ports/{port}", by="member:p1").status_code == 204


def test_a_port_is_in_one_trunk_and_stays_while_it_is(service: NetworkService, network: str) -> None:
    parent, one, free = (service.port(network, by="member:p1") for _ in range(3))
    first = trunk(service, parent, sub(one))

    def create(port: str, *subports: dict[str, Any]) -> tuple[int, str]:
        return service.refused("POST", "trunks", {"trunk": {"port_id": port, "sub_ports": list(subports)}})

    assert create(parent) == (409, "ParentPortInUse")
    assert create(one) == (409, "TrunkPortInUse")
    assert create(free, sub(one)) == (409, "TrunkPortInUse")
    assert create(free, sub(parent)) == (409, "ParentPortInUse")
    assert create(free, sub(free)) == (409, "ParentPortInUse")
    used = service.port(network, by="member:p1", device_id="a-server")
    assert create(free, sub(used)) == (409, "PortInUse")
    assert service.refused("DELETE", f"ports/{parent}") == (409, "PortInUseAsTrunkParent")
    assert service.refused("DELETE", f"ports/{one}") == (409, "PortInUseAsSubPort")
    body = {"sub_ports": [sub(free, 100)]}
    assert service.refused("PUT", f"trunks/{first['id']}/add_subports", body) == (409, "DuplicateSubPort")
    others = service.port(service.network("10.2.0.0/24", by="member:p2"), by="member:p2")
    refused = service.refused("POST", "trunks", {"trunk": {"port_id": others}}, by="member:p1")
    assert refused == (404, "PortNotFound")


def test_a_trunk_that_is_down_by_its_user_stays_as_it_is(service: NetworkService, network: str) -> None:
    parent, one = (service.port(network, by="member:p1") for _ in range(2))
    path = f"trunks/{trunk(service, parent, admin_state_up=False)['id']}"
    assert service.refused("PUT", f"{path}/add_subports", {"sub_ports": [sub(one)]}) == (409, "TrunkDisabled")
    assert service.refused("DELETE", path) == (409, "TrunkDisabled")
    service.send("PUT", path, {"trunk": {"admin_state_up": True}})
    assert service.send("DELETE", path).status_code == 204


@pytest.mark.parametrize(
    "subport",
    [
        {"segmentation_id": 1, "segmentation_type": "vlan"}, {"port_id": "x"}, sub("x", 0), sub("x", 4095),
        sub("x", "many"), sub("x", "9" * 30), {**sub("x"), "segmentation_type": "vxlan"}, {**sub("x"), "odd": 1}, "x",
        {"port_id": "x", "segmentation_type": "inherit"},
    ],
)  # fmt: skip
def test_odd_subports_are_refused(service: NetworkService, network: str, subport: Any) -> None:
    parent, one = (service.port(network, by="member:p1") for _ in range(2))
    if isinstance(subport, dict) and "port_id" in subport:
        subport = {**subport, "port_id": one}
    path = f"trunks/{trunk(service, parent)['id']}"
    for given in ([subport], subport, []):
        assert service.refused("PUT", f"{path}/add_subports", {"sub_ports": given})[0] == 400
    twice = [sub(one, 7), sub(one, 8)], [sub(one, 7), sub(service.port(network), 7)]
    for given in twice:
        assert service.refused("PUT", f"{path}/add_subports", {"sub_ports": given})[0] == 400
    assert service.shown(f"{path}/get_subports") == []


def test_a_subport_may_have_the_segment_and_no_larger_frames_than_its_network_has(service: NetworkService) -> None:
    vlan = {"provider:network_type": "vlan", "provider:segmentation_id": 77, "mtu": 1400}
    small, large = service.network(**vlan), service.network("10.2.0.0/24", mtu=9000)
    parent, one, two = service.port(small), service.port(small), service.port(large)
    made = service.made("trunks", "trunk", port_id=parent)
    path = f"trunks/{made['id']}/add_subports"
    inherited = {"port_id": one, "segmentation_type": "inherit"}
    assert service.send("PUT", path, {"sub_ports": [inherited]}).json()["sub_ports"] == [sub(one, 77)]
    refused = service.refused("PUT", path, {"sub_ports": [sub(two)]})
    assert refused == (409, "SubPortMtuGreaterThanTrunkPortMtu")


def test_a_trunk_is_no_more_active_than_its_ports(service: NetworkService, network: str) -> None:
    """Hosts without a namespace move no packets of subports."""
    parent, one = (service.port(network, by="member:p1") for _ in range(2))
    path = f"trunks/{trunk(service, parent)['id']}"
    bound = {"port": {"binding:host_id": "h1", "device_id": "a-server"}}
    assert service.send("PUT", f"ports/{parent}", bound).status_code == 200
    assert service.shown(path)["status"] == "ACTIVE"
    assert service.refused("DELETE", path) == (409, "TrunkInUse")
    assert service.send("PUT", f"{path}/add_subports", {"sub_ports": [sub(one)]}).json()["status"] == "DEGRADED"
    port = service.shown(f"ports/{one}")
    assert (port["binding:host_id"], port["status"]) == ("h1", "DOWN")
    for host in ("h2", ""):
        service.send("PUT", f"ports/{parent}", {"port": {"binding:host_id": host}})
        assert service.shown(f"ports/{one}")["binding:host_id"] == host
    assert service.shown(path)["status"] == "DOWN"
    other = service.port(network, **{"binding:host_id": "h1"})
    assert service.refused("POST", "trunks", {"trunk": {"port_id": other}}) == (409, "ParentPortInUse")
    assert service.send("DELETE", path).status_code == 204


def test_the_quota_of_trunks(service: NetworkService, network: str) -> None:
    assert service.shown("quotas/p1")["trunk"] == -1
    assert service.send("PUT", "quotas/p1", {"quota": {"trunk": 0}}).status_code == 200
    body = {"trunk": {"port_id": service.port(network)}}
    assert service.refused("POST", "trunks", body) == (409, "OverQuota")


def test_subports_are_wired_where_their_parent_is(service: NetworkService, network: str, tmp_path: Path) -> None:
    """On their own network, with the VLAN; also where the parent is about to be."""
    inner = service.network("10.2.0.0/24", by="member:p1")
    parent, one = service.port(network, by="member:p1"), service.port(inner, by="member:p1")
    trunk(service, parent, sub(one, 7))
    moving = {"binding:host_id": "h1", "binding:profile": {"migrating_to": "h2"}}
    service.send("PUT", f"ports/{parent}", {"port": moving})
    db = open_store(tmp_path, "network", store.metadata)
    with db.connect() as tx:
        plan = read_plan(tx, ["h1", "h2"])
    db.dispose()
    planned = {port.id: port for found in plan.networks for port in found.ports}
    assert {found.id: found.hosts for found in plan.networks} == {network: {"h1", "h2"}, inner: {"h1", "h2"}}
    assert (planned[one].trunk_tap, planned[one].vlan) == (planned[parent].tap, 7)
    assert planned[parent].trunk_tap is None
