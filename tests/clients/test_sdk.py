"""openstacksdk: the compute proxy and the cloud layer, as the clients above them use both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import openstack
import openstack.exceptions
import pytest

pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("ignore::Warning")]

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGjW2DMVvlm6bKzj5LnHGBJYQCXSm8xGLBOCyOnGxJSP ann@example"


@pytest.fixture(scope="module")
def sdk(environment: dict[str, str]) -> Iterator[Any]:
    names = ("auth_url", "username", "password", "project_name", "user_domain_name", "project_domain_name")
    made = openstack.connection.Connection(
        auth={name: environment[f"OS_{name.upper()}"] for name in names}, region_name="RegionOne",
        identity_api_version="3", compute_default_microversion="2.96",
    )  # fmt: skip
    yield made
    made.close()


@pytest.fixture
def mark() -> str:
    return uuid4().hex[:8]


def test_cloud_flavors(sdk: Any, mark: str) -> None:
    made = sdk.create_flavor(mark, ram=64, vcpus=1, disk=1, is_public=False)
    sdk.set_flavor_specs(made.id, {"a": "b"})
    assert sdk.get_flavor(mark, get_extra=True).extra_specs == {"a": "b"}
    sdk.unset_flavor_specs(made.id, ["a"])
    assert sdk.get_flavor_by_id(made.id, get_extra=True).extra_specs == {}
    project = sdk.current_project_id
    sdk.add_flavor_access(made.id, project)
    assert [each["tenant_id"] for each in sdk.list_flavor_access(made.id)] == [project]
    sdk.remove_flavor_access(made.id, project)
    assert sdk.get_flavor_by_ram(64).ram >= 64
    assert mark in {each.name for each in sdk.list_flavors()}
    assert sdk.delete_flavor(made.id) is True
    assert sdk.get_flavor(mark) is None


def test_cloud_keypairs(sdk: Any, mark: str) -> None:
    made = sdk.create_keypair(mark, KEY)
    assert sdk.get_keypair(mark).fingerprint == made.fingerprint
    assert [each.name for each in sdk.search_keypairs(mark)] == [mark]
    assert sdk.delete_keypair(mark) is True
    assert sdk.delete_keypair(mark) is False


def test_cloud_aggregates(sdk: Any, mark: str) -> None:
    made = sdk.create_aggregate(mark)
    assert sdk.add_host_to_aggregate(made.id, "cell2-host2").hosts == ["cell2-host2"]
    assert sdk.set_aggregate_metadata(made.id, {"a": "b"}).metadata["a"] == "b"
    assert sdk.update_aggregate(made.id, name=f"{mark}-2").name == f"{mark}-2"
    assert sdk.get_aggregate(f"{mark}-2").id == made.id
    assert sdk.search_aggregates(f"{mark}-2")
    assert sdk.remove_host_from_aggregate(made.id, "cell2-host2").hosts == []
    assert sdk.delete_aggregate(made.id) is True


def test_cloud_server_groups_quotas_and_operators(sdk: Any, mark: str) -> None:
    made = sdk.create_server_group(mark, policy="anti-affinity")
    assert sdk.get_server_group(mark).id == made.id
    assert sdk.search_server_groups(mark)
    assert sdk.delete_server_group(mark) is True
    project = sdk.current_project_id
    sdk.set_compute_quotas(project, instances=55)
    assert sdk.get_compute_quotas(project).instances == 55
    sdk.delete_compute_quotas(project)
    assert sdk.get_compute_quotas(project).instances != 55
    assert sdk.get_compute_limits()
    assert sdk.get_compute_usage(project) is not None
    assert len(sdk.list_hypervisors()) == 4
    assert "nova" in sdk.list_availability_zone_names()


def test_cloud_servers_with_every_wait(sdk: Any, mark: str) -> None:
    sdk.create_keypair(mark, KEY)
    server = sdk.create_server(mark, image="tiny", flavor="m1.nano", network="private", key_name=mark,
                               meta={"a": "b"}, auto_ip=False, wait=True, timeout=60)  # fmt: skip
    assert (server.status, server.key_name, server.metadata) == ("ACTIVE", mark, {"a": "b"})
    assert sdk.get_server_private_ip(server)
    assert sdk.get_server(mark).id == sdk.get_server_by_id(server.id).id == sdk.get_server_id(mark)
    assert [each.id for each in sdk.search_servers(mark)] == [server.id]
    sdk.set_server_metadata(mark, {"c": "d"})
    sdk.delete_server_metadata(mark, ["a"])
    assert sdk.get_server_by_id(server.id).metadata == {"c": "d"}
    assert sdk.update_server(server.id, description="words").description == "words"
    assert "login" in sdk.get_server_console(server)
    assert [each["name"] for each in sdk.list_server_security_groups(server)] == ["default"]
    image = sdk.create_image_snapshot(f"{mark}-image", server, wait=True)
    assert sdk.get_image(image.id).status == "active"
    volume = sdk.create_volume(1, wait=True, name=mark)
    assert sdk.attach_volume(server, volume, wait=True)["volume_id"] == volume.id
    assert sdk.get_volume(volume.id).status == "in-use"
    sdk.detach_volume(sdk.get_server(mark), sdk.get_volume(volume.id), wait=True)
    assert sdk.delete_volume(volume.id, wait=True) is True
    assert sdk.rebuild_server(server.id, image["id"], wait=True).image["id"] == image.id
    assert sdk.delete_server(mark, wait=True) is True
    assert sdk.get_server(mark) is None
    sdk.delete_keypair(mark)


def test_proxy_servers(sdk: Any, mark: str) -> None:
    compute = sdk.compute
    flavor, image = compute.find_flavor("m1.nano"), sdk.image.find_image("tiny")
    server = compute.create_server(name=mark, flavor_id=flavor.id, image_id=image.id, networks="none")
    compute.wait_for_server(server, wait=60, interval=0.2)
    for verb, status in (
        ("pause_server", "PAUSED"), ("unpause_server", "ACTIVE"), ("suspend_server", "SUSPENDED"),
        ("resume_server", "ACTIVE"), ("stop_server", "SHUTOFF"), ("start_server", "ACTIVE"),
        ("rescue_server", "RESCUE"), ("unrescue_server", "ACTIVE"), ("shelve_server", "SHELVED_OFFLOADED"),
        ("unshelve_server", "ACTIVE"),
    ):  # fmt: skip
        getattr(compute, verb)(server)
        assert compute.wait_for_server(server, status=status, wait=60, interval=0.2).status == status
    compute.lock_server(server, locked_reason="mine")
    assert compute.get_server(server).is_locked is True
    compute.unlock_server(server)
    compute.add_tag_to_server(server, "t")
    assert compute.get_server(server).fetch_tags(compute).tags == ["t"]
    compute.remove_tags_from_server(server)
    compute.set_server_metadata(server, a="b")
    assert compute.fetch_server_metadata(server).metadata == {"a": "b"}
    compute.delete_server_metadata(server, ["a"])
    assert {each.action for each in compute.server_actions(server)} >= {"create", "pause", "shelve", "unshelve"}
    assert compute.get_server_diagnostics(server).state == "running"
    assert list(compute.server_interfaces(server)) == []
    assert list(compute.volume_attachments(server)) == []
    compute.resize_server(server, compute.find_flavor("m1.micro").id)
    compute.wait_for_server(server, status="VERIFY_RESIZE", wait=60, interval=0.2)
    compute.confirm_server_resize(server)
    compute.wait_for_server(server, wait=60, interval=0.2)
    assert [each.migration_type for each in compute.migrations(instance_uuid=server.id)] == ["resize"]
    compute.delete_server(server)
    compute.wait_for_delete(server, wait=60, interval=0.2)
    with pytest.raises(openstack.exceptions.NotFoundException):
        compute.get_server(server.id)
