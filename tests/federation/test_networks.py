"""Security groups, floating and fixed addresses, and the network proxies, on one cloud."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.edge import reference
from tests.edge.client import Client, Reply
from tests.federation.cloud import Federation
from tests.federation.test_interfaces import addresses, attach
from tests.suites.peers import NET, SUBNET

OLD, MIDDLE = "2.35", "2.43"
PROJECT = "demo-project"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("cloud"), move_seconds=0, live_seconds=0)
    records = made.networks.records
    records.add("networks", id=NET, name="net", project_id="admin-project", shared=True)
    records.add("networks", name="public", project_id="admin-project", shared=False, **{"router:external": True})
    records.add("networks", name="private", project_id="elsewhere", shared=False)
    records.add("subnets", id=SUBNET, network_id=NET)
    yield made
    made.close()


@pytest.fixture(scope="module")
def demo(cloud: Federation) -> Client:
    return cloud.user("demo", PROJECT)


def checked(answer: Reply, method: str, path: str, version: str) -> Any:
    """The answer's body, which fits the published schema where that is at hand."""
    assert answer.status == 200, answer.raw
    if reference.FOLDER.exists():
        reference.check_answer(method, path, version, answer.status, answer.json)
    return answer.json


def group(cloud: Federation, name: str, project: str = PROJECT) -> str:
    return cloud.networks.records.add("security-groups", name=name, project_id=project, description="")


def act(cloud: Federation, demo: Client, uuid: str, action: str, version: str = "2.96", **content: Any) -> Reply:
    return demo.post(f"/servers/{uuid}/action", {action: content}, version=version)


def wired(cloud: Federation, demo: Client) -> tuple[str, str]:
    """A server with one port."""
    uuid = cloud.boot(demo)
    answer = demo.post(f"/servers/{uuid}/os-interface", {"interfaceAttachment": {}}, version="2.96")
    assert answer.status == 200, answer.raw
    return uuid, answer.json["interfaceAttachment"]["port_id"]


def test_a_server_shows_the_names_of_its_ports_groups(cloud: Federation) -> None:
    project = uuid4().hex
    user = cloud.user("u", project)
    mine, given, ports = group(cloud, "mine", project), group(cloud, "given", project), cloud.networks
    port_id = ports.add_port()
    ports.ports[port_id].security_groups = (given,)
    networks = [{"uuid": NET}, {"port": port_id}]

    answer = cloud.post_server(user, networks=networks, security_groups=[{"name": mine}, {"name": mine}])
    uuid = answer.json["server"]["id"]
    assert cloud.settled(uuid, user)["security_groups"] == [{"name": "mine"}, {"name": "given"}]
    (listed,) = user.get("/servers/detail").json["servers"]
    assert listed["security_groups"] == [{"name": "mine"}, {"name": "given"}]

    other = ports.add_port()
    ports.ports[other].security_groups = (group(cloud, "late", project),)
    body = {"interfaceAttachment": {"port_id": other}}
    assert user.post(f"/servers/{uuid}/os-interface", body).status == 200
    cloud.until(lambda: {"name": "late"} in cloud.show(uuid, user)["security_groups"])
    assert user.delete(f"/servers/{uuid}/os-interface/{port_id}").status == 202
    cloud.until(lambda: cloud.show(uuid, user)["security_groups"] == [{"name": "mine"}, {"name": "late"}])


def test_groups_guard_a_server_and_leave_it(cloud: Federation, demo: Client) -> None:
    uuid, port_id = wired(cloud, demo)
    web = group(cloud, "web")
    assert act(cloud, demo, uuid, "addSecurityGroup", name="web").status == 202
    assert cloud.networks.ports[port_id].security_groups == (web,)
    shown = checked(
        demo.get(f"/servers/{uuid}/os-security-groups", version="2.96"),
        "GET", "/servers/{server_id}/os-security-groups", "2.96",
    )  # fmt: skip
    assert [one["name"] for one in shown["security_groups"]] == ["web"]
    assert cloud.show(uuid)["security_groups"] == [{"name": "web"}]

    assert act(cloud, demo, uuid, "removeSecurityGroup", name=web).status == 202
    assert cloud.networks.ports[port_id].security_groups == ()
    assert act(cloud, demo, uuid, "removeSecurityGroup", name="web").status == 404
    assert act(cloud, demo, uuid, "addSecurityGroup", name="nobody").status == 404
    assert "security_groups" not in cloud.show(uuid)
    for _ in range(2):
        group(cloud, "twice")
    assert act(cloud, demo, uuid, "addSecurityGroup", name="twice").status == 409
    assert act(cloud, demo, uuid, "addSecurityGroup", name="").status == 400
    assert act(cloud, demo, cloud.boot(demo), "addSecurityGroup", name="web").status == 404


def test_groups_of_a_project_and_their_rules(cloud: Federation, demo: Client) -> None:
    asked = {"security_group": {"name": "db", "description": "data"}}
    made = checked(demo.post("/os-security-groups", asked, version=OLD), "POST", "/os-security-groups", OLD)
    group_id = made["security_group"]["id"]
    rule = {
        "parent_group_id": group_id,
        "ip_protocol": "TCP",
        "from_port": "5432",
        "to_port": 5432,
        "cidr": "10.0.0.0/8",
    }
    answer = demo.post("/os-security-group-rules", {"security_group_rule": rule}, version=OLD)
    new = checked(answer, "POST", "/os-security-group-rules", OLD)["security_group_rule"]
    assert (new["ip_protocol"], new["from_port"], new["ip_range"]) == ("tcp", 5432, {"cidr": "10.0.0.0/8"})
    shown = checked(demo.get(f"/os-security-groups/{group_id}", version=OLD), "GET", "/os-security-groups/{id}", OLD)
    assert shown["security_group"]["rules"] == [new]
    for wrong in ({"cidr": "10.0.0.0/99"}, {"ip_protocol": "smoke"}, {"from_port": 7, "to_port": 5}, {"to_port": None}):
        body = {"security_group_rule": rule | wrong}
        assert demo.post("/os-security-group-rules", body, version=OLD).status == 400, wrong

    stranger = cloud.user("stranger", "elsewhere")
    for path in (f"/os-security-groups/{group_id}", f"/os-security-group-rules/{new['id']}"):
        assert stranger.delete(path, version=OLD).status == 404
    assert demo.delete(f"/os-security-group-rules/{new['id']}", version=OLD).status == 202
    renamed = {"security_group": {"name": "db2", "description": ""}}
    assert demo.put(f"/os-security-groups/{group_id}", renamed, version=OLD).json["security_group"]["name"] == "db2"
    listed = checked(demo.get("/os-security-groups", version=OLD), "GET", "/os-security-groups", OLD)["security_groups"]
    assert "db2" in [one["name"] for one in listed]
    assert demo.delete(f"/os-security-groups/{group_id}", version=OLD).status == 202
    assert demo.get(f"/os-security-groups/{group_id}", version=OLD).status == 404
    assert demo.get("/os-security-groups/nonsense", version=OLD).status == 400


def test_names_and_descriptions_of_groups_are_kept_as_they_are(cloud: Federation, demo: Client) -> None:
    def body(name: str, description: str) -> dict[str, Any]:
        return {"security_group": {"name": name, "description": description}}

    made = demo.post("/os-security-groups", body(" x y ", " about x\t"), version=OLD).json["security_group"]
    path = f"/os-security-groups/{made['id']}"
    assert (made["name"], made["description"]) == (" x y ", " about x\t")
    assert demo.put(path, body(" ", "nameless"), version=OLD).status == 400
    changed = demo.put(path, body("\ty ", "   "), version=OLD).json["security_group"]
    assert (changed["name"], changed["description"]) == ("\ty ", "   ")
    assert demo.get(path, version=OLD).json["security_group"] == changed
    assert demo.delete(path, version=OLD).status == 202


def test_a_group_that_guards_something_stays(cloud: Federation, demo: Client) -> None:
    uuid, _port_id = wired(cloud, demo)
    used = group(cloud, "used")
    assert act(cloud, demo, uuid, "addSecurityGroup", name="used").status == 202
    ports = cloud.networks._as_records()
    for record in ports:
        record["project_id"] = PROJECT
    cloud.networks.records.ports = lambda: ports
    assert demo.delete(f"/os-security-groups/{used}", version=OLD).status == 400
    cloud.networks.records.ports = cloud.networks._as_records


def test_floating_addresses_come_and_go(cloud: Federation, demo: Client) -> None:
    uuid, _port_id = wired(cloud, demo)
    pools = checked(demo.get("/os-floating-ip-pools", version=OLD), "GET", "/os-floating-ip-pools", OLD)
    assert pools == {"floating_ip_pools": [{"name": "public"}]}
    assert demo.post("/os-floating-ips", {"pool": "nowhere"}, version=OLD).status == 404
    made = demo.post("/os-floating-ips", {"pool": "public"}, version=OLD)
    assert made.status == 200, made.raw
    floating_id = made.json["floating_ip"]["id"]
    cloud.networks.records.stored["floatingips"][floating_id] |= {"floating_ip_address": "192.0.2.5"}

    assert act(cloud, demo, uuid, "addFloatingIp", MIDDLE, address="192.0.2.6").status == 404
    assert act(cloud, demo, uuid, "addFloatingIp", MIDDLE, address="192.0.2.5", fixed_address="10.8.8.8").status == 400
    assert act(cloud, demo, uuid, "addFloatingIp", "2.44", address="192.0.2.5").status in (400, 404)
    assert act(cloud, demo, uuid, "addFloatingIp", MIDDLE, address="192.0.2.5").status == 202
    assert "192.0.2.5" in addresses(cloud, uuid)
    shown = checked(demo.get(f"/os-floating-ips/{floating_id}", version=OLD), "GET", "/os-floating-ips/{id}", OLD)
    assert (shown["floating_ip"]["instance_id"], shown["floating_ip"]["pool"]) == (uuid, "public")
    assert [one["id"] for one in demo.get("/os-floating-ips", version=OLD).json["floating_ips"]] == [floating_id]

    assert act(cloud, demo, uuid, "removeFloatingIp", MIDDLE, address="192.0.2.5").status == 202
    assert "192.0.2.5" not in addresses(cloud, uuid)
    assert act(cloud, demo, uuid, "removeFloatingIp", MIDDLE, address="192.0.2.5").status == 409
    assert cloud.user("stranger", "elsewhere").delete(f"/os-floating-ips/{floating_id}", version=OLD).status == 404
    assert demo.delete(f"/os-floating-ips/{floating_id}", version=OLD).status == 202
    assert demo.get(f"/os-floating-ips/{floating_id}", version=OLD).status == 404


def test_fixed_addresses_come_and_go(cloud: Federation, demo: Client) -> None:
    uuid, _port_id = wired(cloud, demo)
    first = addresses(cloud, uuid)
    assert act(cloud, demo, uuid, "addFixedIp", MIDDLE, networkId=str(uuid4())).status == 404
    assert act(cloud, demo, uuid, "addFixedIp", MIDDLE, networkId=NET).status == 202
    assert addresses(cloud, uuid) == [*first, "10.9.9.9"]
    assert act(cloud, demo, uuid, "removeFixedIp", MIDDLE, address="10.9.9.9").status == 202
    assert addresses(cloud, uuid) == first
    assert act(cloud, demo, uuid, "removeFixedIp", MIDDLE, address="10.9.9.9").status == 400


@pytest.mark.parametrize("path", ["/os-networks", "/os-tenant-networks"])
def test_networks_are_shown_to_those_who_may_use_them(cloud: Federation, demo: Client, path: str) -> None:
    listed = demo.get(path, version=OLD)
    assert [one["label"] for one in listed.json["networks"]] == ["net", "public"]
    for one in listed.json["networks"]:
        assert demo.get(f"{path}/{one['id']}", version=OLD).json["network"] == one
    assert demo.get(f"{path}/{uuid4()}", version=OLD).status == 404
    labels = [one["label"] for one in cloud.admin.get(path, version=OLD).json["networks"]]
    assert labels == ["net", "public", "private"]
    if path == "/os-networks":
        checked(cloud.admin.get(path, version=OLD), "GET", path, OLD)


@pytest.mark.parametrize(
    "path", ["/os-networks", "/os-tenant-networks", "/os-floating-ips", "/os-floating-ip-pools", "/os-security-groups"]
)
def test_proxies_have_an_end(demo: Client, path: str) -> None:
    assert demo.get(path, version="2.36").status == 404


def test_an_attached_port_can_be_guarded(cloud: Federation) -> None:
    """What administrators attach to a server of theirs has the server's project's groups."""
    uuid = cloud.boot()
    assert attach(cloud, uuid).status == 200
    group(cloud, "admins", "admin-project")
    answer = cloud.admin.post(f"/servers/{uuid}/action", {"addSecurityGroup": {"name": "admins"}}, version="2.96")
    assert answer.status == 202
