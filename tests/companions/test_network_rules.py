"""Groups that name others, floating addresses, and bindings of the network companion, as published."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from api_cell.edge.auth import NoAuth
from tools.companions.app import Companion
from tools.companions.network.service import make_network


class Service:
    """A network companion, and an administrator of the project p1."""

    def __init__(self, companion: Companion) -> None:
        self._url = companion.url

    def send(self, method: str, path: str, **body: Any) -> requests.Response:
        headers = {"X-Auth-Token": "admin:p1"}
        return requests.request(method, f"{self._url}/v2.0/{path}", json=body or None, headers=headers, timeout=10)

    def made(self, path: str, **body: Any) -> dict[str, Any]:
        answer = self.send("POST", path, **body)
        assert answer.status_code == 201, answer.text
        return dict(next(iter(answer.json().values())))

    def shown(self, path: str) -> Any:
        return next(iter(self.send("GET", path).json().values()))

    def network(self, cidr: str, **fields: Any) -> str:
        network = str(self.made("networks", network={"name": cidr, **fields})["id"])
        self.made("subnets", subnet={"network_id": network, "cidr": cidr, "ip_version": 4})
        return network


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    companion = make_network(tmp_path, NoAuth())
    companion.start()
    yield Service(companion)
    companion.drain(2)


def test_a_prefix_is_kept_as_it_was_given(service: Service) -> None:
    group = service.made("security-groups", security_group={"name": "g"})["id"]
    rule = {"security_group_id": group, "direction": "ingress", "protocol": "tcp", "remote_ip_prefix": "10.2.3.124/24"}
    made = service.made("security-group-rules", security_group_rule=rule)
    assert (made["remote_ip_prefix"], made["normalized_cidr"]) == ("10.2.3.124/24", "10.2.3.0/24")
    again = service.send(
        "POST", "security-group-rules", security_group_rule={**rule, "remote_ip_prefix": "10.2.3.0/24"}
    )
    assert (again.status_code, again.json()["NeutronError"]["type"]) == (409, "SecurityGroupRuleExists")


def test_rules_that_name_a_group_go_with_it(service: Service) -> None:
    """Without its peers such a rule would read as one that lets in all."""
    web, peers = (service.made("security-groups", security_group={"name": name})["id"] for name in ("web", "peers"))
    rule = {"security_group_id": web, "direction": "ingress", "protocol": "tcp"}
    service.made("security-group-rules", security_group_rule={**rule, "remote_group_id": peers})
    kept = service.made("security-group-rules", security_group_rule={**rule, "remote_ip_prefix": "10.0.0.0/8"})
    assert service.send("DELETE", f"security-groups/{peers}").status_code == 204
    left = service.shown(f"security-group-rules?security_group_id={web}&direction=ingress")
    assert [one["id"] for one in left] == [kept["id"]]


def test_a_fixed_address_has_one_floating_address(service: Service) -> None:
    outside, inside = service.network("192.0.2.0/24", **{"router:external": True}), service.network("10.1.0.0/24")
    fixed = [{"ip_address": "10.1.0.5"}, {"ip_address": "10.1.0.6"}]
    port = service.made("ports", port={"network_id": inside, "fixed_ips": fixed})["id"]
    one, two = (service.made("floatingips", floatingip={"floating_network_id": outside})["id"] for _ in range(2))

    def point(floating: str, **fields: Any) -> int:
        return service.send("PUT", f"floatingips/{floating}", floatingip=fields).status_code

    assert point(one, port_id=port) == 200
    assert point(two, port_id=port) == 409
    assert point(two, port_id=port, fixed_ip_address="10.1.0.6") == 200
    assert point(two, fixed_ip_address="10.1.0.5") == 409
    new = {"floating_network_id": outside, "port_id": port}
    assert service.send("POST", "floatingips", floatingip=new).status_code == 409
    assert service.send("DELETE", f"ports/{port}").status_code == 204
    for floating in (one, two):
        shown = service.shown(f"floatingips/{floating}")
        assert (shown["port_id"], shown["fixed_ip_address"], shown["status"]) == (None, None, "DOWN")


@pytest.mark.parametrize(
    ("kind", "vif_type"), [("normal", "ovs"), ("direct", "binding_failed"), ("vdpa", "binding_failed")]
)
def test_a_port_for_a_device_is_bound_to_no_bridge(service: Service, kind: str, vif_type: str) -> None:
    network = service.network("10.1.0.0/24")
    port = {"network_id": network, "binding:vnic_type": kind, "binding:host_id": "h1", "device_id": "s"}
    made = service.made("ports", port=port)
    assert made["binding:vif_type"] == vif_type
    assert made["status"] == ("ACTIVE" if kind == "normal" else "DOWN")
