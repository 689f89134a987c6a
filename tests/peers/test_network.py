"""The network client against the network companion."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from ipaddress import ip_network
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
import requests

from cell_service.context import Context, Deadline, new_request_id
from cell_service.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NetworkNotFound,
    OverQuota,
    PeerUnavailable,
    PortNotFound,
    SecurityGroupNotFound,
)
from cell_service.model.instance import NetworkRequest, Vif
from cell_service.peers.network import Networks, PortOwner
from cell_service.peers.neutron.ports import open_networks
from cell_service.peers.settings import NeutronSettings
from tests.suites.companions import Companions

_numbers = count(1)


@dataclass
class Tenant:
    """A project of a test's own: nothing is shared with other tests."""

    url: str
    token: str
    project_id: str

    def post(self, noun: str, **fields: Any) -> dict[str, Any]:
        singular = noun.replace("-", "_").removesuffix("s")
        body = {singular: {"project_id": self.project_id, **fields}}
        reply = requests.post(f"{self.url}/v2.0/{noun}", json=body, headers=self.headers, timeout=10)
        assert reply.status_code == 201, reply.text
        return dict(reply.json()[singular])

    def get(self, path: str) -> Any:
        return requests.get(f"{self.url}/v2.0/{path}", headers=self.headers, timeout=10).json()

    def put(self, path: str, body: Any) -> Any:
        return requests.put(f"{self.url}/v2.0/{path}", json=body, headers=self.headers, timeout=10)

    @property
    def headers(self) -> dict[str, str]:
        return {"X-Auth-Token": self.token}

    def network(self, cidr: str | None = None, **fields: Any) -> str:
        made = self.post("networks", **fields)
        if cidr is not None:
            self.post("subnets", network_id=made["id"], cidr=cidr, ip_version=ip_network(cidr).version)
        return str(made["id"])

    def ports(self, instance: str) -> list[dict[str, Any]]:
        return list(self.get(f"ports?device_id={instance}")["ports"])

    def ctx(self, *, is_admin: bool = False) -> Context:
        return Context(new_request_id(), project_id=self.project_id, is_admin=is_admin, deadline=Deadline.after(20))


@pytest.fixture
def tenant(cloud: Companions) -> Tenant:
    return Tenant(cloud.network.url, cloud.token(), f"project-{next(_numbers)}")


@pytest.fixture
def networks(cloud: Companions) -> Networks:
    return open_networks(cloud.neutron)


def allocate(
    networks: Networks,
    tenant: Tenant,
    *requests_: NetworkRequest,
    instance: str,
    host: str = "h1",
    auto: bool = False,
    groups: tuple[str, ...] = ("default",),
    none_named: bool = False,
) -> tuple[Vif, ...]:
    return networks.allocate(
        tenant.ctx(is_admin=True),
        instance_uuid=instance,
        project_id=tenant.project_id,
        host=host,
        availability_zone="az1",
        hostname="Web-1",
        requests=None if none_named else requests_,
        auto=auto,
        security_groups=groups,
    )


@pytest.fixture
def instance() -> str:
    return str(uuid4())


def test_ports_are_made_in_the_order_asked_and_bound(networks: Networks, tenant: Tenant, instance: str) -> None:
    first, second = tenant.network("10.1.0.0/24", name="first"), tenant.network("10.2.0.0/24", name="second")

    vifs = allocate(
        networks,
        tenant,
        NetworkRequest(second, fixed_ip="10.2.0.77", tag="back"),
        NetworkRequest(first),
        instance=instance,
    )

    assert [vif.network_name for vif in vifs] == ["second", "first"]
    assert [vif.fixed_ips[0].address for vif in vifs] == ["10.2.0.77", "10.1.0.2"]
    assert vifs[0].tag == "back"
    assert (vifs[0].vif_type, vifs[0].mtu, vifs[0].created_by_us) == ("ovs", 1500, True)
    assert vifs[0].details["bridge_name"] == "br-int"
    assert vifs[0].details["subnets"][0]["gateway_ip"] == "10.2.0.1"
    for port in tenant.ports(instance):
        assert (port["device_owner"], port["binding:host_id"], port["status"]) == ("compute:az1", "h1", "ACTIVE")
        assert port["project_id"] == tenant.project_id
        assert port["dns_name"] == "web-1"
    assert networks.info(tenant.ctx(), instance, project_id=tenant.project_id) == vifs


def test_done_again_it_finds_what_is_there(networks: Networks, tenant: Tenant, instance: str) -> None:
    net = tenant.network("10.1.0.0/24")
    wanted = (NetworkRequest(net), NetworkRequest(net))
    before = allocate(networks, tenant, *wanted, instance=instance)

    assert allocate(networks, tenant, *wanted, instance=instance) == before
    assert len(tenant.ports(instance)) == 2


def test_what_an_interrupted_run_left_is_completed(networks: Networks, tenant: Tenant, instance: str) -> None:
    net = tenant.network("10.1.0.0/24")
    kept = allocate(networks, tenant, NetworkRequest(net), instance=instance)[0]

    vifs = allocate(networks, tenant, NetworkRequest(net), NetworkRequest(net), instance=instance)

    assert vifs[0] == kept
    assert len(tenant.ports(instance)) == 2


def test_on_another_host_the_ports_are_bound_there(networks: Networks, tenant: Tenant, instance: str) -> None:
    net = tenant.network("10.1.0.0/24")
    before = allocate(networks, tenant, NetworkRequest(net), instance=instance)

    after = allocate(networks, tenant, NetworkRequest(net), instance=instance, host="h2")

    assert [vif.port_id for vif in after] == [vif.port_id for vif in before]
    assert [port["binding:host_id"] for port in tenant.ports(instance)] == ["h2"]


def test_ports_follow_their_guest_to_another_host_and_back(networks: Networks, tenant: Tenant, instance: str) -> None:
    net = tenant.network("10.1.0.0/24")
    given = tenant.post("ports", network_id=net, **{"binding:profile": {"theirs": 1}})["id"]
    before = allocate(networks, tenant, NetworkRequest(net), NetworkRequest(port_id=given), instance=instance)
    ctx = tenant.ctx(is_admin=True)

    for host in ("h2", "h2", "h1"):
        assert networks.bind(ctx, instance, host, project_id=tenant.project_id) == before
        ports = tenant.ports(instance)
        assert [(port["binding:host_id"], port["status"]) for port in ports] == [(host, "ACTIVE")] * 2
    assert next(port for port in ports if port["id"] == given)["binding:profile"]["theirs"] == 1
    networks.deallocate(ctx, instance, project_id=tenant.project_id, keep=(given,))
    assert tenant.get(f"ports/{given}")["port"]["device_id"] == ""


def test_an_instance_without_ports_has_nothing_to_bind(networks: Networks, tenant: Tenant, instance: str) -> None:
    assert networks.bind(tenant.ctx(is_admin=True), instance, "h2", project_id=tenant.project_id) == ()


def test_ports_made_are_gone_after_an_error(networks: Networks, tenant: Tenant, instance: str) -> None:
    wide, narrow = tenant.network("10.1.0.0/24"), tenant.network("10.2.0.0/30")
    allocate(networks, tenant, NetworkRequest(narrow), instance=str(uuid4()))

    with pytest.raises(Conflict, match="No more IP addresses"):
        allocate(networks, tenant, NetworkRequest(wide), NetworkRequest(narrow), instance=instance)

    assert tenant.ports(instance) == []


def test_a_port_of_the_users_is_bound_and_given_back(networks: Networks, tenant: Tenant, instance: str) -> None:
    net = tenant.network("10.1.0.0/24")
    given = tenant.post("ports", network_id=net, **{"binding:profile": {"theirs": 1}})["id"]

    vifs = allocate(networks, tenant, NetworkRequest(port_id=given), NetworkRequest(net), instance=instance)

    assert [vif.created_by_us for vif in vifs] == [False, True]
    assert vifs[0].port_id == given
    networks.deallocate(tenant.ctx(), instance, project_id=tenant.project_id)
    left = tenant.get(f"ports?network_id={net}")["ports"]
    assert [port["id"] for port in left] == [given]
    assert (left[0]["device_id"], left[0]["binding:host_id"], left[0]["status"]) == ("", "", "DOWN")
    assert left[0]["binding:profile"] == {"theirs": 1}


def test_ports_to_keep_are_kept(networks: Networks, tenant: Tenant, instance: str) -> None:
    net = tenant.network("10.1.0.0/24")
    vif = allocate(networks, tenant, NetworkRequest(net), instance=instance)[0]
    networks.deallocate(tenant.ctx(), instance, project_id=tenant.project_id, keep=[vif.port_id])
    assert tenant.ports(instance) == []
    assert tenant.get(f"ports/{vif.port_id}")["port"]["device_id"] == ""


def test_nothing_to_give_back_is_no_error(networks: Networks, tenant: Tenant, instance: str) -> None:
    networks.deallocate(tenant.ctx(), instance, project_id=tenant.project_id)
    assert networks.info(tenant.ctx(), instance, project_id=tenant.project_id) == ()


def test_one_port_goes_to_one_instance(networks: Networks, tenant: Tenant) -> None:
    net = tenant.network("10.1.0.0/24")
    given = tenant.post("ports", network_id=net)["id"]
    outcomes: list[object] = []
    together = threading.Barrier(4)

    def take() -> None:
        together.wait(10)
        try:
            outcomes.append(allocate(networks, tenant, NetworkRequest(port_id=given), instance=str(uuid4())))
        except Conflict as error:
            outcomes.append(error)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 4
    assert sum(isinstance(outcome, tuple) for outcome in outcomes) == 1


def test_a_port_of_another_project_is_not_there(networks: Networks, tenant: Tenant, instance: str) -> None:
    stranger = replace(tenant, project_id="stranger")
    port = stranger.post("ports", network_id=stranger.network("10.1.0.0/24"))["id"]
    with pytest.raises(PortNotFound):
        allocate(networks, tenant, NetworkRequest(port_id=port), instance=instance)
    with pytest.raises(PortNotFound):
        networks.validate(tenant.ctx(), [NetworkRequest(port_id=port)], (), 1)


def test_without_a_choice_the_projects_network_is_taken(networks: Networks, tenant: Tenant, instance: str) -> None:
    assert allocate(networks, tenant, instance=instance, none_named=True) == ()
    net = tenant.network("10.1.0.0/24")
    assert networks.available(tenant.ctx(), tenant.project_id) == (net,)
    assert [vif.network_id for vif in allocate(networks, tenant, instance=instance, none_named=True)] == [net]


def test_between_several_networks_nobody_chooses(networks: Networks, tenant: Tenant, instance: str) -> None:
    tenant.network("10.1.0.0/24")
    tenant.network("10.2.0.0/24")
    with pytest.raises(Conflict, match="Multiple possible networks found"):
        allocate(networks, tenant, instance=instance, none_named=True)
    with pytest.raises(Conflict, match="Multiple possible networks found"):
        networks.validate(tenant.ctx(), [NetworkRequest()], (), 1)


def test_auto_makes_a_network_where_there_is_none(networks: Networks, tenant: Tenant, instance: str) -> None:
    vifs = allocate(networks, tenant, instance=instance, auto=True)
    assert [vif.network_name for vif in vifs] == ["auto_allocated_network"]
    again = allocate(networks, tenant, instance=str(uuid4()), auto=True)
    assert again[0].network_id == vifs[0].network_id


def test_security_groups_are_found_by_name_and_id(networks: Networks, tenant: Tenant, instance: str) -> None:
    net = tenant.network("10.1.0.0/24")
    web, db = (tenant.post("security-groups", name=name)["id"] for name in ("web", "db"))
    (vif,) = allocate(networks, tenant, NetworkRequest(net), instance=instance, groups=("web", db))
    assert tenant.ports(instance)[0]["security_groups"] == [web, db]
    assert vif.security_groups == ("web", "db")
    given = tenant.post("ports", network_id=net, security_groups=[db])["id"]
    vifs = allocate(networks, tenant, NetworkRequest(net), NetworkRequest(port_id=given), instance=str(uuid4()))
    assert [vif.security_groups for vif in vifs] == [("default",), ("db",)]
    networks.validate(tenant.ctx(), [], ("web", "default"), 1)
    with pytest.raises(SecurityGroupNotFound):
        networks.validate(tenant.ctx(), [], ("nowhere",), 1)
    tenant.post("security-groups", name="web")
    with pytest.raises(Conflict, match="Multiple security groups"):
        networks.validate(tenant.ctx(), [], ("web",), 1)


def test_floating_addresses_are_told(networks: Networks, tenant: Tenant, instance: str) -> None:
    outside = tenant.network("192.0.2.0/24", **{"router:external": True})
    vif = allocate(networks, tenant, NetworkRequest(tenant.network("10.1.0.0/24")), instance=instance)[0]
    floating = tenant.post("floatingips", floating_network_id=outside, port_id=vif.port_id)
    fixed = networks.info(tenant.ctx(), instance, project_id=tenant.project_id)[0].fixed_ips[0]
    assert fixed.floating_ips == (floating["floating_ip_address"],)


def test_what_a_project_may_not_use_is_refused(networks: Networks, tenant: Tenant) -> None:
    stranger = replace(tenant, project_id="stranger")
    hidden = stranger.network("10.1.0.0/24")
    bare = tenant.network()
    net = tenant.network("10.3.0.0/24")
    port = tenant.post("ports", network_id=net, device_id="somebody", fixed_ips=[{"ip_address": "10.3.0.9"}])["id"]
    free = tenant.post("ports", network_id=net)["id"]
    outside = stranger.network("192.0.2.0/24", **{"router:external": True})
    cases: tuple[tuple[NetworkRequest, int, type[Exception]], ...] = (
        (NetworkRequest(hidden), 1, NetworkNotFound),
        (NetworkRequest("nonsense"), 1, NetworkNotFound),
        (NetworkRequest("../ports"), 1, NetworkNotFound),
        (NetworkRequest(outside), 1, Forbidden),
        (NetworkRequest(bare), 1, Invalid),
        (NetworkRequest(port_id="nonsense"), 1, PortNotFound),
        (NetworkRequest(port_id=port), 1, Conflict),
        (NetworkRequest(port_id=free), 2, Invalid),
        (NetworkRequest(net, fixed_ip="10.9.0.1"), 1, Invalid),
        (NetworkRequest(net, fixed_ip="10.3.0.9"), 1, Conflict),
        (NetworkRequest(net, fixed_ip="10.3.0.10"), 2, Invalid),
    )
    for request, number, error in cases:
        with pytest.raises(error):
            networks.validate(tenant.ctx(), [request], (), number)
    networks.validate(tenant.ctx(), [NetworkRequest(net, fixed_ip="10.3.0.10")], ("default",), 1)


def test_external_networks_need_the_right_to_use_them_or_to_be_shared(networks: Networks, tenant: Tenant) -> None:
    stranger = replace(tenant, project_id="stranger")
    of_stranger = stranger.network("192.0.2.0/24", **{"router:external": True})
    own = tenant.network("198.51.100.0/24", **{"router:external": True})
    port = tenant.post("ports", network_id=own)["id"]
    shared = stranger.network("203.0.113.0/24", shared=True, **{"router:external": True})
    try:
        for request in (NetworkRequest(of_stranger), NetworkRequest(own), NetworkRequest(port_id=port)):
            with pytest.raises(Forbidden, match="not allowed to create an interface on external network"):
                networks.validate(tenant.ctx(), [request], (), 1)
            networks.validate(tenant.ctx(), [request], (), 1, external=True)
        networks.validate(tenant.ctx(), [NetworkRequest(shared)], (), 1)
    finally:
        requests.delete(f"{tenant.url}/v2.0/networks/{shared}", headers=tenant.headers, timeout=10)


def test_shared_networks_may_be_used(networks: Networks, tenant: Tenant) -> None:
    stranger = replace(tenant, project_id="stranger")
    shared = stranger.network("10.1.0.0/24", shared=True)
    try:
        networks.validate(tenant.ctx(), [NetworkRequest(shared)], (), 1)
        assert networks.available(tenant.ctx(), tenant.project_id) == (shared,)
    finally:
        requests.delete(f"{tenant.url}/v2.0/networks/{shared}", headers=tenant.headers, timeout=10)


def test_networks_are_shown_as_the_service_shows_them(networks: Networks, tenant: Tenant) -> None:
    stranger = replace(tenant, project_id="stranger")
    own, hidden = tenant.network("10.1.0.0/24"), stranger.network("10.2.0.0/24")
    outside = stranger.network("192.0.2.0/24", **{"router:external": True})
    shown = [record["id"] for record in networks.shown(tenant.ctx(), tenant.project_id)]
    assert {own, hidden, outside} & set(shown) == {own, outside}
    assert len(set(shown)) == len(shown)


def test_the_port_quota_holds(networks: Networks, tenant: Tenant) -> None:
    net = tenant.network("10.1.0.0/24")
    tenant.put(f"quotas/{tenant.project_id}", {"quota": {"port": 3}})
    networks.validate(tenant.ctx(), [NetworkRequest(net)], (), 3)
    with pytest.raises(OverQuota):
        networks.validate(tenant.ctx(), [NetworkRequest(net), NetworkRequest(net)], (), 2)
    for _ in range(3):
        tenant.post("ports", network_id=net)
    with pytest.raises(OverQuota):
        allocate(networks, tenant, NetworkRequest(net), instance=str(uuid4()))


def test_a_service_that_is_down_is_said_to_be(cloud: Companions, tenant: Tenant, instance: str) -> None:
    for wrong, words in (
        ({"endpoint_override": "http://127.0.0.1:1"}, "network service"),
        ({"password": "wrong"}, "account"),
        ({"region_name": "elsewhere"}, "no endpoint"),
    ):
        nobody = open_networks(cloud.peer(NeutronSettings, **wrong))
        with pytest.raises(PeerUnavailable, match=words):
            nobody.info(tenant.ctx(), instance, project_id=tenant.project_id)


def test_a_deadline_that_has_passed_asks_nobody(networks: Networks, tenant: Tenant, instance: str) -> None:
    late = replace(tenant.ctx(), deadline=Deadline.after(0))
    with pytest.raises(PeerUnavailable, match="time"):
        networks.info(late, instance, project_id=tenant.project_id)


def test_a_port_of_another_project_that_names_the_instance_is_left_alone(
    networks: Networks, tenant: Tenant, instance: str
) -> None:
    ctx, project_id = tenant.ctx(is_admin=True), tenant.project_id
    vif = allocate(networks, tenant, NetworkRequest(tenant.network("10.1.0.0/24")), instance=instance)[0]
    stranger = replace(tenant, project_id="stranger")
    theirs = stranger.post(
        "ports", network_id=stranger.network("10.9.0.0/24"), device_id=instance, device_owner="compute:nova"
    )
    path = f"ports/{theirs['id']}"
    before = tenant.get(path)

    assert networks.info(ctx, instance, project_id=project_id) == (vif,)
    assert networks.infos(ctx, {instance: project_id}) == {instance: (vif,)}
    assert [port.port_id for port in networks.port_states(ctx, instance, project_id=project_id)] == [vif.port_id]
    assert networks.bind(ctx, instance, "h2", project_id=project_id) == (vif,)
    networks.unbind(ctx, instance, project_id=project_id)
    networks.unplug(ctx, instance, theirs["id"], project_id=project_id)
    networks.deallocate(ctx, instance, project_id=project_id)
    assert [port["id"] for port in tenant.ports(instance)] == [theirs["id"]]
    assert tenant.get(path) == before


def test_who_has_an_address(tenant: Tenant, networks: Networks, instance: str) -> None:
    """In whatever network; ports that are no instance's don't count."""
    twice, v6 = "10.201.7.77", "2001:db8:77::7"
    ctx = tenant.ctx(is_admin=True)
    assert networks.owners(ctx, twice) == ()
    here = tenant.network("10.201.7.0/24")
    allocate(networks, tenant, NetworkRequest(network_id=here, fixed_ip=twice), instance=instance)
    assert networks.owners(ctx, twice) == (PortOwner(instance, tenant.project_id),)
    there, other = tenant.network("10.201.7.0/24"), str(uuid4())
    allocate(networks, tenant, NetworkRequest(network_id=there, fixed_ip=twice), instance=other)
    assert networks.owners(ctx, twice) == tuple(
        PortOwner(uuid, tenant.project_id) for uuid in sorted((instance, other))
    )
    spare = tenant.network("2001:db8:77::/64")
    tenant.post("ports", network_id=spare, fixed_ips=[{"ip_address": v6}])
    assert networks.owners(ctx, v6) == ()


def guaranteed(tenant: Tenant, kind: str = "minimum_bandwidth", **fields: int) -> str:
    """A QoS policy with such a rule."""
    body = {"policy": {"name": "least", "project_id": tenant.project_id}}
    made = requests.post(f"{tenant.url}/v2.0/qos/policies", json=body, headers=tenant.headers, timeout=10)
    policy = str(made.json()["policy"]["id"])
    rules = f"{tenant.url}/v2.0/qos/policies/{policy}/{kind}_rules"
    body = {f"{kind}_rule": fields or {"min_kbps": 500}}
    assert requests.post(rules, json=body, headers=tenant.headers, timeout=10).status_code == 201
    return policy


def test_a_port_that_needs_resources_is_refused(networks: Networks, tenant: Tenant, instance: str) -> None:
    """They would not be claimed. A policy that only limits needs nothing."""
    net = tenant.network("10.1.0.0/24")
    port = tenant.post("ports", network_id=net, qos_policy_id=guaranteed(tenant))["id"]
    request = NetworkRequest(port_id=port)
    with pytest.raises(Invalid, match="Creating servers with ports having resource requests"):
        networks.validate(tenant.ctx(), [request], (), 1)
    with pytest.raises(Invalid, match=f"interfaces with QoS policy is not supported for instance {instance}"):
        networks.validate(tenant.ctx(), [request], (), 1, attached_to=instance)
    with pytest.raises(Invalid, match="having resource requests"):
        allocate(networks, tenant, request, instance=instance)
    assert tenant.get(f"ports/{port}")["port"]["device_id"] == ""
    limit = guaranteed(tenant, "bandwidth_limit", max_kbps=500)
    tenant.put(f"ports/{port}", {"port": {"qos_policy_id": limit}})
    networks.validate(tenant.ctx(), [request], (), 1)
    assert allocate(networks, tenant, request, instance=instance)[0].port_id == port


@pytest.mark.parametrize("named", [True, False])
def test_a_network_that_guarantees_bandwidth_is_refused(
    networks: Networks, tenant: Tenant, instance: str, named: bool
) -> None:
    net = tenant.network("10.1.0.0/24", qos_policy_id=guaranteed(tenant, "minimum_packet_rate", min_kpps=1))
    request = NetworkRequest(net if named else None)
    for attached_to in (instance, None):
        with pytest.raises(Invalid, match=rf"Using networks with QoS policy is not supported.* \(Network ID is {net}"):
            networks.validate(tenant.ctx(), [request], (), 1, attached_to=attached_to)
    with pytest.raises(Invalid, match=f"not supported for instance {instance}"):
        allocate(networks, tenant, request, instance=instance)
    assert tenant.ports(instance) == []


def test_a_port_that_came_to_need_resources_moves_on(networks: Networks, tenant: Tenant, instance: str) -> None:
    """Its instance has a host already: what it needs there was never claimed, and is not elsewhere either."""
    net = tenant.network("10.1.0.0/24")
    vif = allocate(networks, tenant, NetworkRequest(net), instance=instance)[0]
    tenant.put(f"ports/{vif.port_id}", {"port": {"qos_policy_id": guaranteed(tenant)}})
    assert networks.bind(tenant.ctx(), instance, "h2", project_id=tenant.project_id)[0].port_id == vif.port_id
    assert tenant.ports(instance)[0]["binding:host_id"] == "h2"


def test_a_port_that_a_trunk_has_is_left_to_its_project(networks: Networks, tenant: Tenant, instance: str) -> None:
    """A shelved instance has ports without a host, which may be put into trunks. Its end can't take them along."""
    net = tenant.network("10.1.0.0/24")
    vif = allocate(networks, tenant, NetworkRequest(net), instance=instance)[0]
    networks.unbind(tenant.ctx(), instance, project_id=tenant.project_id)
    tenant.post("trunks", port_id=vif.port_id)
    networks.deallocate(tenant.ctx(), instance, project_id=tenant.project_id)
    assert tenant.ports(instance) == []
    assert tenant.get(f"ports/{vif.port_id}")["port"]["device_id"] == ""
