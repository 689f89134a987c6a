"""QoS policies of the network companion, as published (Network API reference)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.suites.network_service import ByRole, NetworkService
from tools.companions.network.service import make_network

KINDS: dict[str, dict[str, Any]] = {
    "bandwidth_limit": {"max_kbps": 1000, "max_burst_kbps": 100, "direction": "ingress"},
    "dscp_marking": {"dscp_mark": 26},
    "minimum_bandwidth": {"min_kbps": 500, "direction": "ingress"},
    "minimum_packet_rate": {"min_kpps": 7, "direction": "any"},
}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[NetworkService]:
    companion = make_network(tmp_path, ByRole())
    companion.start()
    yield NetworkService(companion)
    companion.drain(2)


def policy(service: NetworkService, **fields: Any) -> str:
    return str(service.made("qos/policies", "policy", name="p", **fields)["id"])


def rule(service: NetworkService, policy_id: str, kind: str, **fields: Any) -> dict[str, Any]:
    return service.made(f"qos/policies/{policy_id}/{kind}_rules", f"{kind}_rule", **fields)


def test_policies_are_made_listed_changed_and_deleted(service: NetworkService) -> None:
    made = service.made("qos/policies", "policy", name="gold", description="d", shared=True)
    assert made | {"tenant_id": "p1", "rules": [], "revision_number": 1, "is_default": False, "shared": True} == made
    assert {"created_at", "updated_at", "tags", "project_id"} <= made.keys()
    other = policy(service)
    one = f"qos/policies/{made['id']}"
    assert [found["id"] for found in service.shown("qos/policies?name=gold")] == [made["id"]]
    assert [found["id"] for found in service.shown("qos/policies?sort_key=name&sort_dir=desc")] == [other, made["id"]]
    assert service.shown(f"{one}?fields=name") == {"name": "gold"}
    changed = service.send("PUT", one, {"policy": {"name": "silver", "shared": False}}).json()["policy"]
    assert (changed["name"], changed["shared"], changed["revision_number"]) == ("silver", False, 2)
    assert service.send("PUT", f"policies/{made['id']}/tags", {"tags": ["a"]}).json() == {"tags": ["a"]}
    assert service.shown("qos/policies?tags=a")[0]["id"] == made["id"]
    assert service.send("DELETE", one).status_code == 204
    assert service.refused("GET", one) == (404, "QosPolicyNotFound")


@pytest.mark.parametrize("kind", KINDS)
def test_rules_of_every_kind(service: NetworkService, kind: str) -> None:
    policy_id, fields = policy(service), KINDS[kind]
    many = f"qos/policies/{policy_id}/{kind}_rules"
    made = rule(service, policy_id, kind, **fields)
    assert made == {"id": made["id"], **fields}
    assert service.shown(many) == [made]
    shown = service.shown(f"qos/policies/{policy_id}")
    assert shown["rules"] == [{**made, "type": kind, "qos_policy_id": policy_id}]
    assert shown["revision_number"] == 2
    amount = next(iter(fields))
    changed = service.send("PUT", f"{many}/{made['id']}", {f"{kind}_rule": {amount: 32}}).json()
    assert changed == {f"{kind}_rule": {**made, amount: 32}}
    alias = f"qos/alias-{kind.replace('_', '-')}-rules/{made['id']}"
    assert service.send("GET", alias).json() == {f"alias_{kind}_rule": {**made, amount: 32}}
    assert service.send("PUT", alias, {f"alias_{kind}_rule": {amount: 34}}).status_code == 200
    assert service.shown(f"{many}/{made['id']}")[amount] == 34
    assert service.refused("GET", f"qos/policies/{policy(service)}/{kind}_rules/{made['id']}")[0] == 404
    assert service.send("DELETE", f"{many}/{made['id']}").status_code == 204
    assert service.shown(many) == []
    assert service.refused("GET", alias) == (404, "QosRuleNotFound")


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("bandwidth_limit", {}), ("bandwidth_limit", {"max_kbps": -1}), ("bandwidth_limit", {"max_kbps": 2**31}),
        ("bandwidth_limit", {"max_kbps": "many"}), ("bandwidth_limit", {"max_kbps": 1, "direction": "any"}),
        ("bandwidth_limit", {"max_kbps": True}), ("bandwidth_limit", {"max_kbps": 1, "odd": 1}),
        ("dscp_marking", {"dscp_mark": 1}), ("dscp_marking", {"dscp_mark": 26, "direction": "egress"}),
        ("minimum_bandwidth", {"min_kbps": None}), ("minimum_packet_rate", {"min_kpps": 1, "direction": "up"}),
    ],
)  # fmt: skip
def test_odd_rules_are_refused(service: NetworkService, kind: str, fields: dict[str, Any]) -> None:
    path = f"qos/policies/{policy(service)}/{kind}_rules"
    assert service.refused("POST", path, {f"{kind}_rule": fields}) == (400, "HTTPBadRequest")
    assert service.shown(path) == []


def test_rules_do_not_contradict_each_other(service: NetworkService) -> None:
    policy_id = policy(service)
    limit = rule(service, policy_id, "bandwidth_limit", max_kbps=1000)
    rule(service, policy_id, "bandwidth_limit", max_kbps=10, direction="ingress")
    least = rule(service, policy_id, "minimum_bandwidth", min_kbps=1000)
    rule(service, policy_id, "minimum_packet_rate", min_kpps=1)

    def again(method: str, kind: str, rule_id: str = "", **fields: Any) -> tuple[int, str]:
        return service.refused(method, f"qos/policies/{policy_id}/{kind}_rules{rule_id}", {f"{kind}_rule": fields})

    assert again("POST", "bandwidth_limit", max_kbps=5) == (409, "QoSRulesConflict")
    assert again("POST", "minimum_packet_rate", min_kpps=5, direction="any") == (409, "QoSRulesConflict")
    assert again("PUT", "minimum_bandwidth", f"/{least['id']}", min_kbps=1001) == (409, "QoSRuleParameterConflict")
    assert again("PUT", "bandwidth_limit", f"/{limit['id']}", max_kbps=999) == (409, "QoSRuleParameterConflict")
    refused = again("POST", "minimum_bandwidth", min_kbps=11, direction="ingress")
    assert refused == (409, "QoSRuleParameterConflict")


def test_what_roles_may_do(service: NetworkService) -> None:
    """The published default rules: administrators make policies, others read their project's and shared ones."""
    mine, shared, others = policy(service), policy(service, shared=True), policy(service, project_id="p2")
    made = rule(service, mine, "minimum_bandwidth", min_kbps=1)
    for by in ("member:p1", "reader:p1"):
        assert {one["id"] for one in service.shown("qos/policies", by=by)} == {mine, shared}
        assert service.shown(f"qos/policies/{mine}/minimum_bandwidth_rules", by=by) == [made]
        assert service.refused("GET", f"qos/policies/{others}", by=by)[0] == 404
        assert service.refused("POST", "qos/policies", {"policy": {"name": "n"}}, by=by)[0] == 403
        for method, path, body in (
            ("PUT", f"qos/policies/{mine}", {"policy": {"name": "n"}}),
            ("DELETE", f"qos/policies/{mine}", None),
            ("POST", f"qos/policies/{mine}/dscp_marking_rules", {"dscp_marking_rule": {"dscp_mark": 8}}),
            ("PUT", f"qos/alias-minimum-bandwidth-rules/{made['id']}", {"alias_minimum_bandwidth_rule": {}}),
            ("DELETE", f"qos/policies/{mine}/minimum_bandwidth_rules/{made['id']}", None),
            ("GET", "qos/rule-types", None),
        ):
            assert service.refused(method, path, body, by=by)[0] == 403, path
    network = service.network(by="member:p1")
    one = f"ports/{service.port(network, by='member:p1')}"
    assert service.refused("PUT", one, {"port": {"qos_policy_id": others}}, by="member:p1") == (
        404, "QosPolicyNotFound",
    )  # fmt: skip
    assert service.send("PUT", one, {"port": {"qos_policy_id": shared}}, by="member:p1").status_code == 200
    assert service.send("PUT", one, {"port": {"qos_policy_id": others}}).status_code == 200
    refused = service.refused("PUT", one, {"port": {"qos_policy_id": None}}, by="member:p1")
    assert refused == (403, "PolicyRemoveAuthorizationError")


def test_a_policy_in_use_stays(service: NetworkService) -> None:
    outside = service.network("192.0.2.0/24", **{"router:external": True})
    network = service.network()
    port = service.port(network)
    floating = service.made("floatingips", "floatingip", floating_network_id=outside)["id"]
    for key, path in (
        ("network", f"networks/{network}"),
        ("port", f"ports/{port}"),
        ("floatingip", f"floatingips/{floating}"),
    ):
        policy_id = policy(service)
        changed = service.send("PUT", path, {key: {"qos_policy_id": policy_id}})
        assert changed.json()[key]["qos_policy_id"] == policy_id
        assert service.refused("DELETE", f"qos/policies/{policy_id}") == (409, "QosPolicyInUse")
        assert service.send("PUT", path, {key: {"qos_policy_id": None}}).json()[key]["qos_policy_id"] is None
        assert service.refused("PUT", path, {key: {"qos_policy_id": "nothing"}}) == (404, "QosPolicyNotFound")
        assert service.send("DELETE", f"qos/policies/{policy_id}").status_code == 204


def test_a_shared_policy_that_others_use_stays_shared(service: NetworkService) -> None:
    policy_id = policy(service, shared=True)
    service.network(by="member:p2", qos_policy_id=policy_id)
    refused = service.refused("PUT", f"qos/policies/{policy_id}", {"policy": {"shared": False}})
    assert refused == (409, "RbacPolicyInUse")


def test_a_project_has_one_default_policy_which_its_new_networks_get(service: NetworkService) -> None:
    default = policy(service, is_default=True)
    assert service.refused("POST", "qos/policies", {"policy": {"name": "n", "is_default": True}}) == (
        409, "QoSPolicyDefaultAlreadyExists",
    )  # fmt: skip
    policy(service, is_default=True, project_id="p2")
    network = service.made("networks", "network")
    assert network["qos_policy_id"] == default
    port = service.shown(f"ports/{service.port(network['id'])}")
    assert (port["qos_policy_id"], port["qos_network_policy_id"]) == (None, default)
    assert service.send("PUT", f"qos/policies/{default}", {"policy": {"is_default": False}}).status_code == 200
    assert service.made("networks", "network")["qos_policy_id"] is None


def test_a_port_shows_what_a_host_must_have_for_it(service: NetworkService) -> None:
    policy_id = policy(service)
    rule(service, policy_id, "minimum_bandwidth", min_kbps=500)
    rule(service, policy_id, "minimum_bandwidth", min_kbps=700, direction="ingress")
    rule(service, policy_id, "bandwidth_limit", max_kbps=900)
    physical = {"provider:physical_network": "phys-1", "provider:network_type": "flat"}
    network = service.network(**physical)
    port = service.port(network, by="member:p1", qos_policy_id=policy_id)
    request = service.shown(f"ports/{port}")["resource_request"]
    group = {
        "required": ["CUSTOM_PHYSNET_PHYS_1", "CUSTOM_VNIC_TYPE_NORMAL"],
        "resources": {"NET_BW_EGR_KILOBIT_PER_SEC": 500, "NET_BW_IGR_KILOBIT_PER_SEC": 700},
    }
    assert [{name: one[name] for name in group} for one in request["request_groups"]] == [group]
    assert request["same_subtree"] == [request["request_groups"][0]["id"]]
    assert service.shown(f"ports?id={port}")[0]["resource_request"] == request
    assert "resource_request" not in service.shown(f"ports/{port}", by="member:p1")
    assert service.shown(f"ports/{port}", by="service:p1")["resource_request"] == request
    profile = {"allocation": {request["request_groups"][0]["id"]: "13213fdb-3933-4f26-8a6a-1a4a1cc7d0c8"}}
    bound = service.send("PUT", f"ports/{port}", {"port": {"binding:profile": profile}}).json()["port"]
    assert bound["binding:profile"] == profile
    refused = service.refused("PUT", f"ports/{port}", {"port": {"binding:profile": {"a": 1}}}, by="member:p1")
    assert refused[0] == 403
    rule(service, policy_id, "minimum_packet_rate", min_kpps=3)
    groups = service.shown(f"ports/{port}")["resource_request"]["request_groups"]
    assert groups[1]["required"] == ["CUSTOM_VNIC_TYPE_NORMAL"]
    assert groups[1]["resources"] == {"NET_PACKET_RATE_EGR_KILOPACKET_PER_SEC": 3}


def test_a_port_without_a_policy_has_that_of_its_network(service: NetworkService) -> None:
    least, limit = policy(service), policy(service)
    rule(service, least, "minimum_bandwidth", min_kbps=500)
    rule(service, limit, "bandwidth_limit", max_kbps=500)
    network = service.network(qos_policy_id=least)
    plain, own = service.port(network), service.port(network, qos_policy_id=limit)
    request = service.shown(f"ports/{plain}")["resource_request"]
    assert request["request_groups"][0]["required"] == ["CUSTOM_NETWORK_TUNNEL_PROVIDER", "CUSTOM_VNIC_TYPE_NORMAL"]
    assert service.shown(f"ports/{own}")["resource_request"] is None


def test_rule_types(service: NetworkService) -> None:
    assert {one["type"] for one in service.shown("qos/rule-types")} == KINDS.keys()
    shown = service.shown("qos/rule-types/dscp_marking")
    assert shown["drivers"][0]["supported_parameters"][0]["parameter_name"] == "dscp_mark"
    assert service.refused("GET", "qos/rule-types/odd") == (404, "QosRuleTypeNotFound")
    aliases = {one["alias"] for one in service.shown("extensions")}
    assert {"qos", "qos-bw-minimum-ingress", "qos-rule-type-details", "port-resource-request-groups"} <= aliases
