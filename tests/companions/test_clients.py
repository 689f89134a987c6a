"""The stock SDK at work on the companions."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openstack.exceptions
import pytest

from tests.suites.companions import Companions

pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("ignore::Warning")]


@pytest.fixture(scope="module")
def admin(cloud: Companions) -> Iterator[Any]:
    connection = cloud.sdk()
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def demo(cloud: Companions) -> Iterator[Any]:
    connection = cloud.sdk("demo", "demo")
    yield connection
    connection.close()


def test_projects_users_and_roles(admin: Any, cloud: Companions) -> None:
    project = admin.identity.create_project(name="sdk-project", domain_id="default")
    user = admin.identity.create_user(name="sdk-user", password="x", default_project_id=project.id)
    member = admin.identity.find_role("member")
    admin.identity.assign_project_role_to_user(project, user, member)
    assert "sdk-project" in {found.name for found in admin.identity.projects()}
    assert admin.identity.find_user("sdk-user").id == user.id
    assert cloud.sdk("sdk-user", "sdk-project", password="x").current_project_id == project.id
    admin.identity.update_project(project, description="changed")
    assert admin.identity.get_project(project.id).description == "changed"
    admin.identity.delete_user(user)
    admin.identity.delete_project(project)
    assert admin.identity.find_project("sdk-project") is None


def test_the_catalogue(admin: Any) -> None:
    assert {service.type for service in admin.identity.services()} == {"identity", "image", "network"}
    assert len(list(admin.identity.endpoints())) == 9
    assert [region.id for region in admin.identity.regions()] == ["RegionOne"]


def test_images_go_up_and_down(demo: Any, tmp_path: Path) -> None:
    content = struct.pack(">4sI16xQ", b"QFI\xfb", 3, 5 << 30) + bytes(300_000)
    (tmp_path / "disk.qcow2").write_bytes(content)
    image = demo.create_image(
        "sdk-image",
        filename=str(tmp_path / "disk.qcow2"),
        disk_format="qcow2",
        container_format="bare",
        wait=True,
        hw_disk_bus="virtio",
        tags=["one"],
    )
    assert (image.status, image.size, image.virtual_size) == ("active", len(content), 5 << 30)
    assert demo.image.download_image(image).content == content
    changed = demo.image.update_image(image, name="renamed", hw_disk_bus="scsi", min_ram=64)
    assert (changed.name, changed.min_ram, changed.hw_disk_bus) == ("renamed", 64, "scsi")
    demo.image.add_tag(image, "two")
    assert demo.image.get_image(image).tags == ["one", "two"]
    assert [found.id for found in demo.image.images(name="renamed", tag="two")] == [image.id]
    demo.image.delete_image(image)
    with pytest.raises(openstack.exceptions.NotFoundException):
        demo.image.get_image(image.id)


def test_many_images_are_paged_in_order(demo: Any) -> None:
    made = [demo.image.create_image(name=f"page-{number}", allow_duplicates=True, disk_format="raw",
                                    container_format="bare", tags=["paged"]) for number in range(5)]  # fmt: skip
    found = [image.name for image in demo.image.images(limit=2, sort="name:asc", tag="paged")]
    assert found == [f"page-{number}" for number in range(5)]
    for image in made:
        demo.image.delete_image(image)


def test_images_are_shared_and_protected(admin: Any, demo: Any) -> None:
    image = admin.image.create_image(name="sdk-shared", disk_format="raw", container_format="bare", data=b"content",
                                     validate_checksum=True, is_protected=True)  # fmt: skip
    with pytest.raises(openstack.exceptions.NotFoundException):
        demo.image.get_image(image.id)
    admin.image.add_member(image, member_id=demo.current_project_id)
    assert demo.image.get_image(image.id).visibility == "shared"
    assert image.id not in {found.id for found in demo.image.images()}
    demo.image.update_member(demo.current_project_id, image.id, status="accepted")
    assert image.id in {found.id for found in demo.image.images()}
    with pytest.raises(openstack.exceptions.ForbiddenException):
        admin.image.delete_image(image)
    with pytest.raises(openstack.exceptions.ForbiddenException):
        demo.image.update_image(image.id, name="mine")
    admin.image.update_image(image, is_protected=False)
    admin.image.delete_image(image)


def test_only_administrators_publish_images(demo: Any) -> None:
    with pytest.raises(openstack.exceptions.ForbiddenException):
        demo.image.create_image(name="public", disk_format="raw", container_format="bare", visibility="public")


def test_networks_subnets_and_ports(demo: Any) -> None:
    net = demo.network.create_network(name="sdk-net")
    four = demo.network.create_subnet(network_id=net.id, cidr="10.5.0.0/28", ip_version=4, dns_nameservers=["9.9.9.9"])
    six = demo.network.create_subnet(network_id=net.id, cidr="fd00::/64", ip_version=6)
    assert (four.gateway_ip, six.gateway_ip) == ("10.5.0.1", "fd00::1")
    assert four.allocation_pools == [{"start": "10.5.0.2", "end": "10.5.0.14"}]
    assert set(demo.network.get_network(net).subnet_ids) == {four.id, six.id}

    port = demo.network.create_port(network_id=net.id, name="sdk-port")
    assert [ip["ip_address"] for ip in port.fixed_ips] == ["10.5.0.2", "fd00::2"]
    assert (port.mac_address[:9], port.status, port.binding_host_id) == ("fa:16:3e:", "DOWN", None)
    group = demo.network.find_security_group("default")
    assert port.security_group_ids == [group.id]

    taken = [{"ip_address": "10.5.0.2"}]
    with pytest.raises(openstack.exceptions.ConflictException) as caught:
        demo.network.create_port(network_id=net.id, fixed_ips=taken)
    assert "IpAddressInUse" in str(caught.value.response.json())
    changed = demo.network.update_port(port, fixed_ips=[{"subnet_id": four.id, "ip_address": "10.5.0.9"}], name="new")
    assert ([ip["ip_address"] for ip in changed.fixed_ips], changed.name) == (["10.5.0.9"], "new")
    assert [found.id for found in demo.network.ports(fixed_ips="ip_address=10.5.0.9")] == [port.id]

    for wrong in ({"cidr": "10.5.0.0/24", "ip_version": 4}, {"cidr": "nonsense", "ip_version": 4},
                  {"cidr": "fd01::/64", "ip_version": 4}):  # fmt: skip
        with pytest.raises(openstack.exceptions.BadRequestException):
            demo.network.create_subnet(network_id=net.id, **wrong)
    with pytest.raises(openstack.exceptions.ConflictException):
        demo.network.delete_network(net)
    demo.network.delete_port(port)
    demo.network.delete_network(net)
    assert demo.network.find_network("sdk-net") is None
    assert demo.network.find_subnet(four.id) is None


def test_all_addresses_of_a_subnet_are_given_out_and_no_more(demo: Any) -> None:
    net = demo.network.create_network(name="sdk-small")
    demo.network.create_subnet(network_id=net.id, cidr="10.6.0.0/29", ip_version=4)
    ports = list(demo.network.create_ports([{"network_id": net.id} for _ in range(5)]))
    given = {port.fixed_ips[0]["ip_address"] for port in ports}
    assert given == {f"10.6.0.{number}" for number in range(2, 7)}
    with pytest.raises(openstack.exceptions.ConflictException, match="No more IP addresses"):
        demo.network.create_port(network_id=net.id)
    demo.network.delete_port(ports[2])
    assert demo.network.create_port(network_id=net.id).fixed_ips == ports[2].fixed_ips
    for port in demo.network.ports(network_id=net.id):
        demo.network.delete_port(port)
    demo.network.delete_network(net)


def test_other_projects_see_nothing(admin: Any, demo: Any) -> None:
    net = admin.network.create_network(name="sdk-hidden")
    subnet = admin.network.create_subnet(network_id=net.id, cidr="10.7.0.0/24", ip_version=4)
    port = admin.network.create_port(network_id=net.id, binding_host_id="h1", device_id="d1")
    assert (port.status, port.binding_vif_type) == ("ACTIVE", "ovs")
    for find in (demo.network.get_network, demo.network.get_port, demo.network.get_subnet):
        with pytest.raises(openstack.exceptions.NotFoundException):
            find({demo.network.get_network: net, demo.network.get_port: port}.get(find, subnet).id)
    admin.network.update_network(net, is_shared=True)
    assert demo.network.get_network(net.id).is_shared
    assert demo.network.get_subnet(subnet.id).cidr == "10.7.0.0/24"
    with pytest.raises(openstack.exceptions.ForbiddenException):
        demo.network.delete_network(net.id)
    with pytest.raises(openstack.exceptions.ForbiddenException):
        demo.network.create_port(network_id=net.id, binding_host_id="h1")
    mine = demo.network.create_port(network_id=net.id)
    assert "binding:host_id" not in mine.to_dict(original_names=True, ignore_none=True)
    demo.network.delete_port(mine)
    admin.network.delete_port(port)
    admin.network.delete_network(net)


def test_security_groups_and_rules(demo: Any) -> None:
    group = demo.network.create_security_group(name="sdk-web", description="web")
    assert [rule["direction"] for rule in group.security_group_rules] == ["egress", "egress"]
    rule = demo.network.create_security_group_rule(
        security_group_id=group.id, direction="ingress", protocol="tcp", port_range_min=80, port_range_max=80,
        remote_ip_prefix="10.0.0.0/8", ethertype="IPv4",
    )  # fmt: skip
    same = {"security_group_id": group.id, "direction": "ingress", "protocol": "tcp", "port_range_min": 80,
            "port_range_max": 80, "remote_ip_prefix": "10.0.0.0/8"}  # fmt: skip
    with pytest.raises(openstack.exceptions.ConflictException):
        demo.network.create_security_group_rule(**same)
    for wrong in ({"port_range_min": 90}, {"protocol": "nonsense"}, {"direction": "up"}, {"port_range_max": 70000}):
        with pytest.raises(openstack.exceptions.BadRequestException):
            demo.network.create_security_group_rule(**(same | wrong))
    assert len(demo.network.get_security_group(group).security_group_rules) == 3
    demo.network.delete_security_group_rule(rule)
    net = demo.network.create_network(name="sdk-groups")
    port = demo.network.create_port(network_id=net.id, security_groups=[group.id])
    with pytest.raises(openstack.exceptions.ConflictException):
        demo.network.delete_security_group(group)
    demo.network.delete_port(port)
    demo.network.delete_security_group(group)
    demo.network.delete_network(net)


def test_routers_and_floating_addresses(admin: Any, demo: Any) -> None:
    outside = admin.network.create_network(name="sdk-public", is_router_external=True)
    admin.network.create_subnet(network_id=outside.id, cidr="192.0.2.0/24", ip_version=4, is_dhcp_enabled=False)
    net = demo.network.create_network(name="sdk-inside")
    subnet = demo.network.create_subnet(network_id=net.id, cidr="10.8.0.0/24", ip_version=4)
    router = demo.network.create_router(name="sdk-router", external_gateway_info={"network_id": outside.id})
    assert router.external_gateway_info["external_fixed_ips"][0]["ip_address"] == "192.0.2.2"
    demo.network.add_interface_to_router(router, subnet_id=subnet.id)
    port = demo.network.create_port(network_id=net.id)
    floating = demo.network.create_ip(floating_network_id=outside.id, port_id=port.id)
    assert (floating.status, floating.fixed_ip_address, floating.router_id) == ("ACTIVE", "10.8.0.2", router.id)
    demo.network.delete_port(port)
    assert demo.network.get_ip(floating).status == "DOWN"
    with pytest.raises(openstack.exceptions.ConflictException):
        demo.network.delete_router(router)
    demo.network.remove_interface_from_router(router, subnet_id=subnet.id)
    demo.network.delete_router(router)
    demo.network.delete_ip(floating)
    demo.network.delete_network(net)
    admin.network.delete_network(outside)


def test_tags_filters_and_pages(demo: Any) -> None:
    made = [demo.network.create_network(name=f"sdk-page-{number}") for number in range(4)]
    demo.network.set_tags(made[0], ["red", "big"])
    assert [net.id for net in demo.network.networks(tags="red,big")] == [made[0].id]
    assert made[0].id not in {net.id for net in demo.network.networks(not_tags="red")}
    paged = [net.name for net in demo.network.networks(limit=3) if net.name.startswith("sdk-page")]
    assert paged == [f"sdk-page-{number}" for number in range(4)]
    for net in made:
        demo.network.delete_network(net)


def test_quotas_are_kept(admin: Any, demo: Any) -> None:
    project = demo.current_project_id
    before = len(list(demo.network.routers()))
    admin.network.update_quota(project, routers=before + 1)
    router = demo.network.create_router(name="sdk-quota")
    with pytest.raises(openstack.exceptions.ConflictException, match="Quota exceeded"):
        demo.network.create_router(name="sdk-quota-2")
    assert admin.network.get_quota(project, details=True).routers["used"] == before + 1
    admin.network.delete_quota(project)
    assert demo.network.get_quota(project).routers == 10
    demo.network.delete_router(router)


def test_what_clients_probe_for_is_there(demo: Any) -> None:
    aliases = {extension.alias for extension in demo.network.extensions()}
    assert {"binding", "security-group", "router", "external-net", "quotas", "standard-attr-tag"} <= aliases
    assert [zone.name for zone in demo.network.availability_zones()] == ["nova", "nova"]
    assert list(demo.network.agents()) == []


def test_a_revoked_token_is_refused_everywhere(cloud: Companions) -> None:
    connection = cloud.sdk("demo", "demo")
    token = connection.auth_token
    admin = cloud.sdk()
    admin.identity.delete("/auth/tokens", headers={"X-Subject-Token": token})
    for service, path in ((cloud.image, "/v2/images"), (cloud.network, "/v2.0/ports")):
        reply = admin.session.get(
            f"{service.url}{path}", authenticated=False, headers={"X-Auth-Token": token}, raise_exc=False
        )
        assert reply.status_code == 401
