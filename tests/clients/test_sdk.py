"""openstacksdk: the compute proxy and the cloud layer, as the clients above them use both."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import openstack.exceptions
import pytest
from openstack.cloud._block_storage import BlockStorageCloudMixin
from openstack.cloud._compute import ComputeCloudMixin

from tests.clients.libraries import KEY, connection

pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("ignore::Warning")]

VOLUMES_OF_OTHERS = "volume backups, types' access and limits are the volume service's own; the companion has none"
NOT_DRIVEN = {
    **dict.fromkeys(
        (
            "create_volume_backup", "export_volume_backup", "get_volume_backup", "list_volume_backups",
            "delete_volume_backup", "search_volume_backups", "get_volume_type_access", "add_volume_type_access",
            "remove_volume_type_access", "get_volume_limits", "set_volume_quotas", "get_volume_quotas",
            "delete_volume_quotas",
        ),
        VOLUMES_OF_OTHERS,
    )
}  # fmt: skip
"""Public functions of the layer that no test calls, and why."""


@pytest.fixture(scope="module")
def sdk(environment: dict[str, str]) -> Iterator[Any]:
    made = connection(environment, "2.96")
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


def test_cloud_names_and_looks(sdk: Any, mark: str) -> None:
    flavor = sdk.search_flavors("m1.nano")[0]
    assert sdk.get_flavor_name(flavor.id) == "m1.nano"
    sdk.create_keypair(mark, KEY)
    assert mark in {each.name for each in sdk.list_keypairs()}
    sdk.delete_keypair(mark)
    group = sdk.create_server_group(mark, policy="affinity")
    assert group.id in {each.id for each in sdk.list_server_groups()}
    sdk.delete_server_group(mark)
    aggregate = sdk.create_aggregate(mark)
    assert aggregate.id in {each.id for each in sdk.list_aggregates()}
    sdk.delete_aggregate(aggregate.id)


def test_cloud_servers_of_groups_and_addresses(sdk: Any, mark: str) -> None:
    made = sdk.create_server(mark, image="tiny", flavor="m1.nano", network="private", auto_ip=False)
    server = sdk.wait_for_server(made, auto_ip=False, timeout=60)
    assert sdk.get_active_server(server, auto_ip=False).id == server.id
    assert server.id in {each.id for each in sdk.list_servers(all_projects=True)}
    assert not sdk.get_server_public_ip(server)
    assert sdk.get_server_meta(server)["server_vars"]["id"] == server.id
    assert sdk.get_openstack_vars(server).id == server.id
    group = sdk.create_security_group(mark, "words")
    assert sdk.add_server_security_groups(server, mark) is True
    assert mark in {each["name"] for each in sdk.list_server_security_groups(server)}
    assert sdk.remove_server_security_groups(server, mark) is True
    sdk.delete_server(server.id, wait=True)
    assert sdk.delete_security_group(group.id) is True


def test_cloud_volumes(sdk: Any, mark: str) -> None:
    volume = sdk.create_volume(1, wait=True, name=mark)
    assert sdk.get_volume_id(mark) == sdk.get_volume_by_id(volume.id).id == volume.id
    assert sdk.volume_exists(mark) is True
    assert [each.id for each in sdk.search_volumes(mark)] == [volume.id]
    assert volume.id in {each.id for each in sdk.list_volumes()}
    assert sdk.update_volume(volume.id, description="words").description == "words"
    sdk.set_volume_bootable(volume.id, True)
    assert sdk.get_volume(mark).is_bootable is True
    kinds = sdk.list_volume_types()
    assert sdk.get_volume_type(kinds[0].name).id == sdk.search_volume_types(kinds[0].name)[0].id
    snapshot = sdk.create_volume_snapshot(volume.id, wait=True, name=mark)
    assert sdk.get_volume_snapshot_by_id(snapshot.id).id == sdk.get_volume_snapshot(mark).id == snapshot.id
    assert [each.id for each in sdk.search_volume_snapshots(mark)] == [snapshot.id]
    assert snapshot.id in {each.id for each in sdk.list_volume_snapshots()}
    server = sdk.create_server(mark, image="tiny", flavor="m1.nano", network="private", auto_ip=False, wait=True)
    sdk.attach_volume(server, volume, wait=True)
    device = sdk.get_volume_attach_device(sdk.get_volume(volume.id), server.id)
    assert device.startswith("/dev/")
    assert [each.id for each in sdk.get_volumes(sdk.get_server(mark))] == [volume.id]
    sdk.detach_volume(sdk.get_server(mark), sdk.get_volume(volume.id), wait=True)
    sdk.delete_server(mark, wait=True)
    assert sdk.delete_volume_snapshot(snapshot.id, wait=True) is True
    assert sdk.delete_volume(volume.id, wait=True) is True


def test_every_function_of_the_cloud_layer_is_driven_or_has_a_reason_why_not() -> None:
    public = {name for kind in (ComputeCloudMixin, BlockStorageCloudMixin) for name, value in vars(kind).items()
              if inspect.isfunction(value) and not name.startswith("_")}  # fmt: skip
    tree = ast.walk(ast.parse(Path(__file__).read_text(encoding="utf-8")))
    called = {node.func.attr for node in tree if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)}
    assert public - called == set(NOT_DRIVEN)


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
