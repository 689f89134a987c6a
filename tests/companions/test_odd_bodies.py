"""Bodies that are not as the published ones: refused by the companions, never an error of theirs, and without harm for
later lists."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from api_cell.edge.auth import NoAuth
from tests.suites.companions import Companions, start_companions
from tools.companions.app import Companion
from tools.companions.image.service import make_image
from tools.companions.network.service import make_network
from tools.companions.share.service import make_share
from tools.companions.volume.service import make_volume

ODD: tuple[Any, ...] = (None, True, -1, 2**40, 1.5, "x", "\x7f", [], ["a"], [["a"]], {}, {"a": 1}, {"id": ["a"]})
MAKERS: dict[str, Callable[[Path, NoAuth], Companion]] = {
    "volume": make_volume, "network": make_network, "image": make_image, "share": make_share,
}  # fmt: skip
PATCH = "application/openstack-images-v2.1-json-patch"


class Api:
    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url, token
        self._connection = requests.Session()
        self._connection.trust_env = False  # requests would read the whole environment again for each of thousands

    def send(self, method: str, path: str, body: Any = None) -> requests.Response:
        kind = PATCH if method == "PATCH" and path.startswith("/v2/images") else "application/json"
        headers = {"X-Auth-Token": self._token, "Content-Type": kind}
        return self._connection.request(method, self._url + path, data=json.dumps(body), headers=headers, timeout=30)

    def made(self, path: str, body: Any) -> str:
        answer = self.send("POST", path, body)
        assert answer.status_code < 300, answer.text
        shown = answer.json()
        return str(shown["id"] if "id" in shown else next(iter(shown.values()))["id"])

    def refuses_odd(self, method: str, path: str, body: Any) -> None:
        """Each value in the body is replaced by each odd one."""
        for odd_body in (*odd(body), *ODD):
            answer = self.send(method, path, odd_body)
            assert answer.status_code < 500, (method, path, odd_body, answer.text)

    def shows(self, *paths: str) -> None:
        for path in paths:
            answer = self.send("GET", path)
            assert answer.status_code == 200, (path, answer.text)


def odd(body: Any) -> Iterator[Any]:
    """The body with one of its values replaced."""
    if isinstance(body, dict):
        for name, value in body.items():
            for other in (*ODD, *odd(value)):
                yield {**body, name: other}
    elif isinstance(body, list):
        for at, value in enumerate(body):
            for other in (*ODD, *odd(value)):
                yield [*body[:at], other, *body[at + 1 :]]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Companions]:
    """Of this file's own: tests of others read whole lists of what is in the one that they share."""
    made = start_companions(tmp_path_factory.mktemp("companions"))
    yield made
    made.close()


@pytest.fixture
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Api]:
    companion = MAKERS[request.param](tmp_path, NoAuth())
    companion.start()
    yield Api(companion.url, "admin:p1")
    companion.drain(2)


@pytest.mark.wide
@pytest.mark.parametrize("api", ["volume"], indirect=True)
def test_odd_volumes(api: Api) -> None:
    volume = {"size": 1, "name": "v", "metadata": {"a": "b"}, "imageRef": None, "snapshot_id": None,
              "source_volid": None, "volume_type": None, "multiattach": False, "availability_zone": None}  # fmt: skip
    volume_id = api.made("/v3/volumes", {"volume": {"size": 1}})
    one = f"/v3/volumes/{volume_id}"
    snapshot = {"volume_id": volume_id, "name": "s", "force": True, "metadata": {"a": "b"}}
    snapshot_id = api.made("/v3/snapshots", {"snapshot": snapshot})
    kind = api.made("/v3/types", {"volume_type": {"name": "t"}})
    attachment = {"volume_uuid": volume_id, "instance_uuid": "s1", "connector": {"host": "h", "mountpoint": "/dev/vdb"}}
    api.refuses_odd("POST", "/v3/volumes", {"volume": volume})
    api.refuses_odd("PUT", one, {"volume": {"name": "v", "description": "d", "metadata": {"a": "b"}}})
    api.refuses_odd("POST", f"{one}/metadata", {"metadata": {"a": "b"}})
    api.refuses_odd("POST", "/v3/snapshots", {"snapshot": snapshot})
    api.refuses_odd("PUT", f"/v3/snapshots/{snapshot_id}", {"snapshot": {"name": "s", "metadata": {"a": "b"}}})
    api.refuses_odd("POST", "/v3/types", {"volume_type": {"name": "t", "extra_specs": {"a": "b"}}})
    api.refuses_odd("POST", f"/v3/types/{kind}/extra_specs", {"extra_specs": {"a": "b"}})
    encryption = {"provider": "luks", "control_location": "front-end", "cipher": "x", "key_size": 256}
    api.refuses_odd("POST", f"/v3/types/{kind}/encryption", {"encryption": encryption})
    api.refuses_odd("PUT", f"/v3/types/{kind}/encryption/x", {"encryption": encryption})
    api.refuses_odd("POST", "/v3/attachments", {"attachment": attachment})
    attachment_id = api.made("/v3/attachments", {"attachment": {**attachment, "instance_uuid": "x"}})
    api.refuses_odd("PUT", f"/v3/attachments/{attachment_id}", {"attachment": {"connector": {"host": "h"}}})
    api.refuses_odd("POST", f"/v3/attachments/{attachment_id}/action", {"os-complete": None})
    actions: tuple[Any, ...] = (
        {"os-extend": {"new_size": 1}}, {"os-set_bootable": {"bootable": True}},
        {"os-reset_status": {"status": "error"}}, {"os-set_image_metadata": {"metadata": {"a": "b"}}},
        {"os-update_readonly_flag": {"readonly": True}}, {"os-reimage": {"image_id": "x"}},
    )  # fmt: skip
    for action in actions:
        api.refuses_odd("POST", f"{one}/action", action)
    for action in ({"os-update_snapshot_status": {"status": "x", "progress": "1%"}}, {"os-reset_status": {}}):
        api.refuses_odd("POST", f"/v3/snapshots/{snapshot_id}/action", action)
    api.shows("/v3/volumes", "/v3/volumes/detail?all_tenants=1", "/v3/snapshots/detail", "/v3/attachments/detail",
              "/v3/types", "/v3/limits", one)  # fmt: skip


@pytest.mark.wide
@pytest.mark.parametrize("api", ["network"], indirect=True)
def test_odd_networks(api: Api) -> None:
    network = api.made("/v2.0/networks", {"network": {"name": "n", "router:external": True}})
    subnet = {
        "network_id": network, "cidr": "10.1.0.0/24", "ip_version": 4, "gateway_ip": "10.1.0.1", "enable_dhcp": True,
        "allocation_pools": [{"start": "10.1.0.2", "end": "10.1.0.9"}], "dns_nameservers": ["10.0.0.1"],
        "host_routes": [{"destination": "10.2.0.0/24", "nexthop": "10.1.0.1"}],
    }  # fmt: skip
    subnet_id = api.made("/v2.0/subnets", {"subnet": subnet})
    port = {
        "network_id": network, "name": "p", "device_id": "", "mac_address": None, "security_groups": ["x"],
        "fixed_ips": [{"subnet_id": subnet_id, "ip_address": "10.1.0.5"}], "allowed_address_pairs": [],
        "extra_dhcp_opts": [{"opt_name": "a", "opt_value": "b"}], "binding:profile": {}, "binding:host_id": "",
        "binding:vnic_type": "normal", "port_security_enabled": True, "project_id": "p1", "tenant_id": "p1",
    }  # fmt: skip
    port_id = api.made("/v2.0/ports", {"port": {"network_id": network}})
    router = {"name": "r", "external_gateway_info": {"network_id": network, "external_fixed_ips": [{"subnet_id": "x"}]},
              "routes": [{"destination": "10.2.0.0/24", "nexthop": "10.1.0.1"}]}  # fmt: skip
    router_id = api.made("/v2.0/routers", {"router": {"name": "r"}})
    group = api.made("/v2.0/security-groups", {"security_group": {"name": "g"}})
    rule = {"security_group_id": group, "direction": "ingress", "protocol": "tcp", "port_range_min": 1,
            "port_range_max": 2, "remote_ip_prefix": "10.0.0.0/8", "ethertype": "IPv4"}  # fmt: skip
    floating = {"floating_network_id": network, "port_id": port_id, "fixed_ip_address": None}
    api.refuses_odd("POST", "/v2.0/networks", {"network": {"name": "n", "mtu": 1400, "admin_state_up": True}})
    api.refuses_odd("POST", "/v2.0/networks", {"networks": [{"name": "n"}]})
    api.refuses_odd("PUT", f"/v2.0/networks/{network}", {"network": {"name": "n", "shared": True}})
    api.refuses_odd("PUT", f"/v2.0/networks/{network}/tags", {"tags": ["a"]})
    api.refuses_odd("POST", "/v2.0/subnets", {"subnet": subnet})
    api.refuses_odd("PUT", f"/v2.0/subnets/{subnet_id}", {"subnet": {"gateway_ip": None, "allocation_pools": []}})
    api.refuses_odd("POST", "/v2.0/ports", {"port": port})
    api.refuses_odd("PUT", f"/v2.0/ports/{port_id}", {"port": {name: value for name, value in port.items() if value}})
    api.refuses_odd("POST", "/v2.0/routers", {"router": router})
    api.refuses_odd("PUT", f"/v2.0/routers/{router_id}", {"router": router})
    api.refuses_odd("PUT", f"/v2.0/routers/{router_id}/add_router_interface", {"subnet_id": subnet_id, "port_id": "x"})
    api.refuses_odd("PUT", f"/v2.0/routers/{router_id}/remove_router_interface", {"subnet_id": "x", "port_id": "x"})
    api.refuses_odd("POST", "/v2.0/security-groups", {"security_group": {"name": "g", "stateful": True}})
    api.refuses_odd("POST", "/v2.0/security-group-rules", {"security_group_rule": rule})
    api.refuses_odd("POST", "/v2.0/floatingips", {"floatingip": floating})
    api.refuses_odd("PUT", "/v2.0/quotas/p1", {"quota": {"port": 5}})
    api.shows(*(f"/v2.0/{noun}" for noun in ("networks", "subnets", "ports", "routers", "security-groups",
                                             "security-group-rules", "floatingips", "quotas")))  # fmt: skip


@pytest.mark.wide
@pytest.mark.parametrize("api", ["network"], indirect=True)
def test_odd_policies_and_trunks(api: Api) -> None:
    network = api.made("/v2.0/networks", {"network": {"name": "n"}})
    parent, one = (api.made("/v2.0/ports", {"port": {"network_id": network}}) for _ in range(2))
    policy = api.made("/v2.0/qos/policies", {"policy": {"name": "p"}})
    trunk = api.made("/v2.0/trunks", {"trunk": {"port_id": parent}})
    fields = {"name": "p", "description": "d", "shared": True, "is_default": False}
    api.refuses_odd("POST", "/v2.0/qos/policies", {"policy": fields})
    api.refuses_odd("PUT", f"/v2.0/qos/policies/{policy}", {"policy": fields})
    rules: dict[str, dict[str, Any]] = {
        "bandwidth_limit": {"max_kbps": 9, "max_burst_kbps": 1, "direction": "egress"},
        "dscp_marking": {"dscp_mark": 8},
        "minimum_bandwidth": {"min_kbps": 1, "direction": "egress"},
        "minimum_packet_rate": {"min_kpps": 1, "direction": "any"},
    }
    for kind, rule in rules.items():
        many = f"/v2.0/qos/policies/{policy}/{kind}_rules"
        api.refuses_odd("POST", many, {f"{kind}_rule": rule})
        rule_id = api.made(f"/v2.0/qos/policies/{api.made('/v2.0/qos/policies', {'policy': {}})}/{kind}_rules",
                           {f"{kind}_rule": rule})  # fmt: skip
        alias = f"/v2.0/qos/alias-{kind.replace('_', '-')}-rules/{rule_id}"
        api.refuses_odd("PUT", alias, {f"alias_{kind}_rule": rule})
        api.shows(many, alias)
    subports = {"sub_ports": [{"port_id": one, "segmentation_type": "vlan", "segmentation_id": 7}]}
    api.refuses_odd("POST", "/v2.0/trunks", {"trunk": {"port_id": one, "name": "t", **subports}})
    api.refuses_odd("PUT", f"/v2.0/trunks/{trunk}", {"trunk": {"name": "t", "admin_state_up": True}})
    for verb in ("add_subports", "remove_subports"):
        api.refuses_odd("PUT", f"/v2.0/trunks/{trunk}/{verb}", subports)
    for noun, key in ((f"ports/{one}", "port"), (f"networks/{network}", "network")):
        api.refuses_odd("PUT", f"/v2.0/{noun}", {key: {"qos_policy_id": policy}})
    api.shows("/v2.0/qos/policies", "/v2.0/qos/rule-types", "/v2.0/trunks", "/v2.0/ports", "/v2.0/networks",
              f"/v2.0/trunks/{trunk}/get_subports")  # fmt: skip


@pytest.mark.wide
@pytest.mark.parametrize("api", ["image"], indirect=True)
def test_odd_images(api: Api) -> None:
    image = {"name": "i", "disk_format": "raw", "container_format": "bare", "tags": ["a"], "min_disk": 1, "own": "x",
             "visibility": "shared", "protected": False, "id": None}  # fmt: skip
    image_id = api.made("/v2/images", {"name": "i"})
    one = f"/v2/images/{image_id}"
    api.refuses_odd("POST", "/v2/images", image)
    for name in ("name", "tags", "own"):
        api.refuses_odd("PATCH", one, [{"op": "add", "path": f"/{name}", "value": "x"}])
    api.refuses_odd("POST", f"{one}/members", {"member": "p2"})
    api.refuses_odd("PUT", f"{one}/members/p2", {"status": "accepted"})
    api.shows("/v2/images?limit=1000", f"{one}/members")


@pytest.mark.wide
@pytest.mark.parametrize("api", ["share"], indirect=True)
def test_odd_shares(api: Api) -> None:
    share = {"share_proto": "NFS", "size": 1, "name": "s", "metadata": {"a": "b"}, "is_public": False}
    share_id = api.made("/v2/shares", {"share": share})
    one = f"/v2/shares/{share_id}"
    rule = {"access_type": "ip", "access_to": "10.0.0.1", "access_level": "rw", "metadata": {"a": "b"},
            "lock_deletion": False}  # fmt: skip
    api.refuses_odd("POST", "/v2/shares", {"share": share})
    api.refuses_odd("PUT", one, {"share": {"name": "s", "is_public": True}})
    api.refuses_odd("POST", f"{one}/metadata", {"metadata": {"a": "b"}})
    for action in ({"allow_access": rule}, {"deny_access": {"access_id": "x"}}, {"extend": {"new_size": 2}},
                   {"os-reset_status": {"status": "available"}}, {"access_list": None}):  # fmt: skip
        api.refuses_odd("POST", f"{one}/action", action)
    api.shows("/v2/shares", "/v2/shares/detail", f"/v2/share-access-rules?share_id={share_id}")


@pytest.mark.wide
def test_odd_identities(cloud: Companions) -> None:
    api = Api(cloud.identity.url, cloud.token())
    demo = Api(cloud.identity.url, cloud.token("demo", "demo"))
    user = requests.get(
        f"{cloud.identity.url}/v3/auth/tokens", timeout=30,
        headers={"X-Auth-Token": cloud.token("demo", "demo"), "X-Subject-Token": cloud.token("demo", "demo")},
    ).json()["token"]["user"]["id"]  # fmt: skip
    domain = {"id": "default"}
    password = {"user": {"name": "odd", "domain": domain, "password": "x"}}
    scope = {"project": {"name": "demo", "domain": domain}}
    body = {"auth": {"identity": {"methods": ["password"], "password": password}, "scope": scope}}
    api.refuses_odd("POST", "/v3/auth/tokens", body)
    project = api.made("/v3/projects", {"project": {"name": "odd", "domain_id": "default"}})
    api.refuses_odd("POST", "/v3/projects", {"project": {"name": "p", "domain_id": "default", "description": "d"}})
    api.refuses_odd("PATCH", f"/v3/projects/{project}", {"project": {"name": "p", "enabled": True, "tags": []}})
    api.refuses_odd("POST", "/v3/users", {"user": {"name": "u", "password": "x", "default_project_id": project}})
    api.refuses_odd("POST", "/v3/roles", {"role": {"name": "r", "domain_id": None}})
    api.refuses_odd("POST", "/v3/regions", {"region": {"id": "odd", "parent_region_id": None}})
    api.refuses_odd("POST", "/v3/services", {"service": {"name": "s", "type": "odd"}})
    endpoint = {"service_id": "x", "interface": "public", "url": "http://x", "region_id": "odd"}
    api.refuses_odd("POST", "/v3/endpoints", {"endpoint": endpoint})
    limit = {"service_id": "x", "region_id": "odd", "resource_name": "r", "default_limit": 1}
    api.refuses_odd("POST", "/v3/registered_limits", {"registered_limits": [limit]})
    api.refuses_odd("POST", "/v3/limits", {"limits": [{**limit, "project_id": project, "resource_limit": 1}]})
    credential = {"name": "c", "roles": [{"name": "member"}], "expires_at": "2099-01-01T00:00:00", "secret": "x"}
    demo.refuses_odd("POST", f"/v3/users/{user}/application_credentials", {"application_credential": credential})
    api.refuses_odd("POST", "/v3/users/x/password", {"user": {"password": "x", "original_password": "y"}})
    api.shows(*(f"/v3/{noun}" for noun in ("projects", "users", "roles", "regions", "services", "endpoints",
                                           "registered_limits", "limits", "domains")))  # fmt: skip
    demo.shows(f"/v3/users/{user}/application_credentials")


@pytest.mark.parametrize("api", ["volume"], indirect=True)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v3/volumes", {"volume": {"size": 1, "metadata": "x"}}),
        ("/v3/volumes", {"volume": {"size": 2**40}}),
        ("/v3/volumes", {"volume": {"size": 1, "imageRef": 5}}),
        ("/v3/volumes/ID/action", {"os-extend": "x"}),
        ("/v3/volumes/ID/action", {"os-reset_status": "x"}),
        ("/v3/attachments", {"attachment": {"volume_uuid": "ID", "instance_uuid": "s", "connector": [1]}}),
    ],
)
def test_what_used_to_poison_lists_is_refused(api: Api, path: str, body: Any) -> None:
    volume = api.made("/v3/volumes", {"volume": {"size": 1}})
    given = json.loads(json.dumps(body).replace("ID", volume))
    assert api.send("POST", path.replace("ID", volume), given).status_code == 400
    api.shows("/v3/volumes/detail", f"/v3/volumes/{volume}")


@pytest.mark.parametrize("api", ["network"], indirect=True)
def test_half_a_surrogate_is_no_text(api: Api) -> None:
    assert api.send("POST", "/v2.0/networks", {"network": {"name": "\ud800"}}).status_code == 400


def test_methods_of_a_login_are_words(cloud: Companions) -> None:
    body = {"auth": {"identity": {"methods": [["a"]]}}}
    assert requests.post(f"{cloud.identity.url}/v3/auth/tokens", json=body, timeout=30).status_code == 400


@pytest.mark.parametrize(
    ("service", "method", "path"),
    [("image", "PUT", "/v2/images/x/file"), ("network", "POST", "/v2.0/networks"),
     ("identity", "POST", "/v3/auth/tokens")],
)  # fmt: skip
def test_a_body_without_end_is_not_read_for_ever(cloud: Companions, service: str, method: str, path: str) -> None:
    companion: Companion = getattr(cloud, service)
    piece = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: none\r\nTransfer-Encoding: chunked\r\n\r\n"

    def send_all() -> None:
        with socket.create_connection(("127.0.0.1", companion.port), timeout=60) as sock:
            sock.sendall(head.encode())
            for _ in range(5_000):
                sock.sendall(piece)

    with pytest.raises(ConnectionError):
        send_all()
