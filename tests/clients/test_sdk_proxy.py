"""openstacksdk's compute proxy: every public method of the installed class does what its name says."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import openstack
import openstack.exceptions
import pytest
from openstack.compute.v2._proxy import Proxy

from tests.clients.libraries import KEY, connection
from tests.real.databases import wait_until

pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("ignore::Warning")]

SECONDS = 40
NOT_DRIVEN: dict[str, str] = {}
"""Public methods that no test here calls, and why."""


@pytest.fixture(scope="module")
def sdk(environment: dict[str, str]) -> Iterator[Any]:
    made = connection(environment, "2.96")
    yield made
    made.close()


@pytest.fixture(scope="module")
def early(environment: dict[str, str]) -> Iterator[Any]:
    """For what later versions don't have."""
    made = connection(environment, "2.35")
    yield made
    made.close()


@pytest.fixture
def mark() -> str:
    return uuid4().hex[:8]


class Guest:
    """A server of its own."""

    def __init__(self, sdk: Any, name: str, **words: Any) -> None:
        self.compute = sdk.compute
        flavor, image = self.compute.find_flavor("m1.nano"), sdk.image.find_image("tiny")
        words = {"networks": "none"} | words
        made = self.compute.create_server(name=name, flavor_id=flavor.id, image_id=image.id, **words)
        self.id: str = made.id
        assert self.now.id == made.id  # right after the accept
        self.rests("ACTIVE")

    @property
    def now(self) -> Any:
        return self.compute.get_server(self.id)

    def rests(self, status: str, **also: Any) -> None:
        def holds() -> bool:
            found = self.now
            wanted = {"status": status, "task_state": None} | also
            return all(found[name] == value for name, value in wanted.items())

        wait_until(holds, f"{self.id} never was {status} {also}: {self.now.status} {self.now.task_state}", SECONDS)

    def goes(self) -> None:
        self.compute.delete_server(self.id)
        self.compute.wait_for_delete(self.compute.find_server(self.id) or self._gone(), wait=SECONDS, interval=0.2)

    def _gone(self) -> Any:
        return openstack.compute.v2.server.Server(id=self.id)


@pytest.fixture
def guest(sdk: Any, mark: str) -> Iterator[Guest]:
    made = Guest(sdk, f"g-{mark}")
    yield made
    made.goes()


def test_flavors(sdk: Any, mark: str) -> None:
    compute, project = sdk.compute, sdk.current_project_id
    made = compute.create_flavor(name=mark, ram=64, vcpus=1, disk=1, is_public=False)
    assert compute.find_flavor(made.id).id == compute.get_flavor(made).id == made.id
    assert compute.update_flavor(made, description="words").description == "words"
    assert made.id in {each.id for each in compute.flavors(is_public="None")}
    compute.flavor_add_tenant_access(made, project)
    assert [each["tenant_id"] for each in compute.get_flavor_access(made)] == [project]
    compute.flavor_remove_tenant_access(made, project)
    assert compute.get_flavor_access(made) == []
    compute.create_flavor_extra_specs(made, {"a": "b", "c": "d"})
    assert compute.get_flavor_extra_specs_property(made, "a") == "b"
    assert compute.update_flavor_extra_specs_property(made, "a", "e") == "e"
    compute.delete_flavor_extra_specs_property(made, "c")
    assert compute.fetch_flavor_extra_specs(made).extra_specs == {"a": "e"}
    compute.delete_flavor(made, ignore_missing=False)
    assert compute.find_flavor(made.id) is None
    aliases = {each.alias for each in compute.extensions()}
    assert "os-keypairs" in aliases
    assert compute.find_extension("os-keypairs").alias == "os-keypairs"


def test_aggregates(sdk: Any, mark: str) -> None:
    compute = sdk.compute
    made = compute.create_aggregate(name=mark, availability_zone=f"zone-{mark}")
    assert compute.add_host_to_aggregate(made, "cell2-host2").hosts == ["cell2-host2"]
    assert f"zone-{mark}" in {each.name for each in compute.availability_zones(details=True)}
    assert compute.set_aggregate_metadata(made, {"a": "b"}).metadata["a"] == "b"
    assert compute.update_aggregate(made, name=f"{mark}-2").name == f"{mark}-2"
    assert compute.find_aggregate(f"{mark}-2").id == compute.get_aggregate(made).id == made.id
    assert made.id in {each.id for each in compute.aggregates()}
    compute.aggregate_precache_images(made, sdk.image.find_image("tiny").id)
    assert compute.remove_host_from_aggregate(made, "cell2-host2").hosts == []
    compute.delete_aggregate(made, ignore_missing=False)
    assert compute.find_aggregate(f"{mark}-2") is None


def test_images_up_to_their_end(early: Any, mark: str) -> None:
    compute, store = early.compute, early.image
    image = store.create_image(mark, data=b"x", disk_format="raw", container_format="bare")
    assert compute.find_image(mark).id == compute.get_image(image.id).id == image.id
    assert image.id in {each.id for each in compute.images()}
    compute.set_image_metadata(image.id, a="b")
    assert compute.fetch_image_metadata(image.id).metadata["a"] == "b"
    assert compute.get_image_metadata(image.id).metadata["a"] == "b"
    compute.delete_image_metadata(image.id, ["a"])
    assert "a" not in compute.fetch_image_metadata(image.id).metadata
    compute.delete_image(image.id, ignore_missing=False)
    assert store.find_image(mark) is None


def test_keypairs_groups_and_limits(sdk: Any, mark: str) -> None:
    compute, user = sdk.compute, sdk.current_user_id
    key = compute.create_keypair(name=mark, public_key=KEY, type="ssh")
    assert compute.find_keypair(mark).fingerprint == compute.get_keypair(mark, user_id=user).fingerprint
    assert mark in {each.name for each in compute.keypairs(user_id=user)}
    compute.delete_keypair(key, ignore_missing=False)
    assert compute.find_keypair(mark) is None
    group = compute.create_server_group(name=mark, policy="anti-affinity", rules={"max_server_per_host": 2})
    assert compute.find_server_group(mark).id == compute.get_server_group(group).id == group.id
    assert group.id in {each.id for each in compute.server_groups(all_projects=True)}
    compute.delete_server_group(group, ignore_missing=False)
    assert compute.find_server_group(mark) is None
    assert compute.get_limits().absolute.instances


def test_quotas(sdk: Any) -> None:
    compute, project = sdk.compute, uuid4().hex
    assert compute.update_quota_set(project, instances=7).instances == 7
    assert compute.get_quota_set(project).instances == 7
    assert compute.get_quota_set(project, usage=True).usage["instances"] == 0
    compute.revert_quota_set(project)
    assert compute.get_quota_set(project).instances == compute.get_quota_set_defaults(project).instances
    before = compute.get_quota_class_set("default").key_pairs
    assert compute.update_quota_class_set("default", key_pairs=before + 1).key_pairs == before + 1
    compute.update_quota_class_set("default", key_pairs=before)
    assert compute.get_quota_class_set("default").key_pairs == before


def test_operators(sdk: Any, early: Any) -> None:
    compute = sdk.compute
    found = {each.name: each for each in compute.hypervisors(details=True)}
    assert len(found) == 4
    one = found["cell1-host2"]
    assert compute.find_hypervisor("cell1-host2").id == compute.get_hypervisor(one.id).id == one.id
    number = early.compute.find_hypervisor("cell1-host2").id
    assert early.compute.get_hypervisor_uptime(number).uptime
    service = next(each for each in compute.services(binary="nova-compute") if each.host == "cell1-host2")
    assert compute.find_service(service.id).host == "cell1-host2"
    assert compute.disable_service(service, disabled_reason="because").disabled_reason == "because"
    assert compute.enable_service(service).status == "enabled"
    assert compute.update_service_forced_down(service, forced=True).is_forced_down is True
    assert compute.force_service_down(service, forced=False).is_forced_down is False
    assert compute.update_service(service, status="enabled").status == "enabled"
    with pytest.raises(openstack.exceptions.NotFoundException):
        compute.delete_service(str(uuid4()), ignore_missing=False)


def test_states(guest: Guest, sdk: Any) -> None:
    compute = guest.compute
    for verb, status in (
        ("pause_server", "PAUSED"), ("unpause_server", "ACTIVE"), ("suspend_server", "SUSPENDED"),
        ("resume_server", "ACTIVE"), ("stop_server", "SHUTOFF"), ("start_server", "ACTIVE"),
        ("rescue_server", "RESCUE"), ("unrescue_server", "ACTIVE"),
    ):  # fmt: skip
        getattr(compute, verb)(guest.id)
        guest.rests(status)
    compute.reboot_server(guest.id, "HARD")
    guest.rests("ACTIVE")
    compute.rebuild_server(guest.id, sdk.image.find_image("tiny"), name="other")
    guest.rests("ACTIVE", name="other")
    compute.shelve_server(guest.id)
    guest.rests("SHELVED_OFFLOADED")
    with pytest.raises(openstack.exceptions.ConflictException):
        compute.shelve_offload_server(guest.id)  # nothing is left to offload
    compute.unshelve_server(guest.id)
    assert compute.wait_for_server(guest.now, wait=SECONDS, interval=0.2).status == "ACTIVE"
    assert compute.wait_for_status(guest.now, "ACTIVE", wait=SECONDS, interval=0.2).id == guest.id
    compute.trigger_server_crash_dump(guest.id)
    compute.reset_server_state(guest.id, "error")
    guest.rests("ERROR")
    compute.reset_server_state(guest.id, "active")
    with pytest.raises(openstack.exceptions.ConflictException):
        compute.restore_server(guest.id)


def test_words(guest: Guest, sdk: Any, mark: str) -> None:
    compute = guest.compute
    assert compute.update_server(guest.id, description=mark).description == mark
    assert compute.find_server(guest.now.name, all_projects=True).id == guest.id
    assert [each.id for each in compute.servers(name=guest.now.name, description=mark)] == [guest.id]
    compute.lock_server(guest.id, locked_reason="mine")
    assert (guest.now.is_locked, guest.now.locked_reason) == (True, "mine")
    compute.unlock_server(guest.id)
    compute.add_tag_to_server(guest.id, "t")
    compute.add_tag_to_server(guest.id, "u")
    compute.remove_tag_from_server(guest.id, "u")
    assert guest.now.tags == ["t"]
    compute.remove_tags_from_server(guest.id)
    assert guest.now.tags == []
    compute.set_server_metadata(guest.id, a="b", c="d")
    compute.delete_server_metadata(guest.id, ["a"])
    assert compute.fetch_server_metadata(guest.id).metadata == {"c": "d"}
    assert compute.get_server_metadata(guest.id).metadata == {"c": "d"}
    compute.change_server_password(guest.id, "secret")
    guest.rests("ACTIVE")
    compute.clear_server_password(guest.id)
    assert not compute.get_server_password(guest.id)
    actions = {each.action: each for each in compute.server_actions(guest.id)}
    assert {"create", "changePassword"} <= set(actions)
    event = compute.get_server_action(actions["create"].request_id, guest.id)
    assert event.action == "create"
    assert compute.get_server_diagnostics(guest.id).state == "running"
    project = sdk.current_project_id
    assert project in {each.project_id for each in compute.usages()}
    assert guest.id in {each["instance_id"] for each in compute.get_usage(project).server_usages}
    image = compute.create_server_image(guest.id, mark, {"a": "b"}, wait=True, timeout=SECONDS)
    assert image.status == "active"
    guest.rests("ACTIVE")
    backup = compute.backup_server(guest.id, f"{mark}-b", "daily", 1, wait=True, timeout=SECONDS)
    guest.rests("ACTIVE")
    for each in (image, backup):
        sdk.image.delete_image(each.id)


def test_consoles(guest: Guest) -> None:
    compute = guest.compute
    assert "login" in compute.get_server_console_output(guest.id, length=5)["output"]
    made = compute.create_server_remote_console(guest.now, protocol="vnc", type="novnc")
    token = made.url.rsplit("token%3D", 1)[1]
    assert compute.validate_console_auth_token(token).instance_uuid == guest.id
    assert compute.create_console(guest.now, "serial", "serial")["url"].startswith("ws://")


def test_consoles_as_they_were(guest: Guest, environment: dict[str, str]) -> None:
    old = connection(environment, "2.5")
    assert old.compute.get_server_console_url(guest.id, "novnc")["url"].startswith("http://")
    old.close()


def test_volumes(guest: Guest, sdk: Any, mark: str) -> None:
    compute = guest.compute
    volume = sdk.create_volume(1, wait=True, name=mark)
    made = compute.create_volume_attachment(guest.id, volume.id, tag="t", delete_on_termination=False)
    assert made.volume_id == volume.id
    wait_until(lambda: sdk.get_volume(volume.id).status == "in-use", "it was never attached", SECONDS)
    compute.update_volume_attachment(guest.id, volume.id, delete_on_termination=True)
    found = compute.get_volume_attachment(guest.id, volume.id)
    assert (found.delete_on_termination, found.tag) == (True, "t")
    assert [each.volume_id for each in compute.volume_attachments(guest.id)] == [volume.id]
    compute.delete_volume_attachment(guest.id, volume.id)
    wait_until(lambda: sdk.get_volume(volume.id).status == "available", "it was never let go", SECONDS)
    assert list(compute.volume_attachments(guest.id)) == []
    event = {"name": "volume-extended", "server_uuid": guest.id, "tag": volume.id}
    assert [each.code for each in compute.create_server_external_events([event])] == [200]
    sdk.delete_volume(volume.id)


def test_networks(guest: Guest, sdk: Any, mark: str) -> None:
    compute, network = guest.compute, sdk.network.find_network("private")
    made = compute.create_server_interface(guest.id, net_id=network.id)
    assert [each.port_id for each in compute.server_interfaces(guest.id)] == [made.port_id]
    assert compute.get_server_interface(made.port_id, guest.id).port_id == made.port_id
    (address,) = [each.address for each in compute.server_ips(guest.id)]
    assert address == made.fixed_ips[0]["ip_address"]
    group = sdk.network.create_security_group(name=mark)
    compute.add_security_group_to_server(guest.id, group)
    named = {each["name"] for each in compute.fetch_server_security_groups(guest.id).security_groups}
    assert named == {"default", mark}
    compute.remove_security_group_from_server(guest.id, group)
    named = {each["name"] for each in compute.fetch_server_security_groups(guest.id).security_groups}
    assert named == {"default"}
    compute.delete_server_interface(made.port_id, guest.id)
    wait_until(lambda: not list(compute.server_interfaces(guest.id)), "it was never let go", SECONDS)
    sdk.network.delete_security_group(group)


def test_addresses_up_to_their_end(early: Any, sdk: Any, mark: str) -> None:
    compute, network = early.compute, sdk.network.find_network("private")
    guest = Guest(sdk, f"g-{mark}", networks=[{"uuid": network.id}])
    (fixed,) = [each["addr"] for each in guest.now.addresses["private"]]
    compute.add_fixed_ip_to_server(guest.id, network.id)
    wait_until(lambda: len(guest.now.addresses["private"]) == 2, "it never had another address", SECONDS)
    outer = sdk.network.create_network(name=f"{mark}-out", is_router_external=True)
    subnet = sdk.network.create_subnet(network_id=outer.id, ip_version=4, cidr="198.51.100.0/24")
    router = sdk.network.create_router(name=mark, external_gateway_info={"network_id": outer.id})
    sdk.network.add_interface_to_router(router, subnet_id=network.subnet_ids[0])
    floating = sdk.network.create_ip(floating_network_id=outer.id)
    compute.add_floating_ip_to_server(guest.id, floating.floating_ip_address)
    assert sdk.network.get_ip(floating).fixed_ip_address in {each.address for each in compute.server_ips(guest.id)}
    compute.remove_floating_ip_from_server(guest.id, floating.floating_ip_address)
    assert sdk.network.get_ip(floating).fixed_ip_address is None
    sdk.network.delete_ip(floating)
    sdk.network.update_router(router, external_gateway_info={})
    sdk.network.remove_interface_from_router(router, subnet_id=network.subnet_ids[0])
    sdk.network.delete_router(router)
    sdk.network.delete_subnet(subnet)
    sdk.network.delete_network(outer)
    compute.remove_fixed_ip_from_server(guest.id, fixed)
    wait_until(lambda: len(guest.now.addresses["private"]) == 1, "it never lost its address", SECONDS)
    guest.goes()


def test_cold_moves(guest: Guest) -> None:
    compute = guest.compute
    compute.resize_server(guest.id, compute.find_flavor("m1.micro").id)
    guest.rests("VERIFY_RESIZE")
    compute.revert_server_resize(guest.id)
    guest.rests("ACTIVE")
    compute.migrate_server(guest.id)
    guest.rests("VERIFY_RESIZE")
    compute.confirm_server_resize(guest.id)
    guest.rests("ACTIVE")
    kinds = {each.migration_type for each in compute.migrations(instance_uuid=guest.id)}
    assert kinds == {"resize", "migration"}


def test_live_moves(sdk: Any, mark: str) -> None:
    guest = Guest(sdk, f"slow-{mark}", host="cell1-host1")
    compute = guest.compute
    compute.live_migrate_server(guest.id, host="cell1-host2", block_migration="auto")
    running = _running(compute, guest.id)
    assert compute.get_server_migration(running, guest.id).id == running.id
    compute.abort_server_migration(running, guest.id, ignore_missing=False)
    guest.rests("ACTIVE", compute_host="cell1-host1")
    compute.live_migrate_server(guest.id, host="cell1-host2", block_migration="auto")
    compute.force_complete_server_migration(_running(compute, guest.id), guest.id)
    guest.rests("ACTIVE", compute_host="cell1-host2")
    assert not list(compute.server_migrations(guest.id))
    guest.goes()


def _running(compute: Any, server_id: str) -> Any:
    found: list[Any] = []

    def holds() -> bool:
        found[:] = [each for each in compute.server_migrations(server_id) if each.status == "running"]
        return bool(found)

    wait_until(holds, "it never ran", SECONDS)
    return found[0]


def test_evacuation(sdk: Any, mark: str) -> None:
    guest = Guest(sdk, f"e-{mark}", host="cell2-host1")
    compute = guest.compute
    down = next(each for each in compute.services(binary="nova-compute") if each.host == "cell2-host1")
    compute.force_service_down(down, forced=True)
    compute.evacuate_server(guest.id)
    guest.rests("ACTIVE", compute_host="cell2-host2")
    compute.force_service_down(down, forced=False)
    wait_until(lambda: compute.find_service(down.id).state == "up", "it never was up again", SECONDS)
    guest.goes()


def test_shares(sdk: Any, guest: Guest, environment: dict[str, str], mark: str) -> None:
    later = connection(environment, "2.97")
    compute, files = later.compute, later.shared_file_system
    share = files.create_share(name=f"s-{mark}", share_protocol="NFS", size=1)
    assert files.find_share(share.name).id == files.get_share(share.id).id == share.id
    assert share.id in {each.id for each in files.shares()}
    (place,) = files.export_locations(share.id)
    guest.compute.stop_server(guest.id)
    guest.rests("SHUTOFF")
    made = compute.create_share_attachment(guest.id, share.id, tag="home")
    assert (made.share_id, made.tag, made.export_location) == (share.id, "home", place.path)

    def status() -> str:
        found: str = compute.get_share_attachment(guest.id, share.id).status
        return found

    wait_until(lambda: status() == "inactive", "the host never was let in", SECONDS)
    (rule,) = files.access_rules(share.id)
    assert (rule.access_type, rule.state) == ("ip", "active")
    with pytest.raises(openstack.exceptions.HttpException):
        files.delete_access_rule(rule.id, share.id)
    guest.compute.start_server(guest.id)
    guest.rests("ACTIVE")
    assert [(each.share_id, each.status) for each in compute.share_attachments(guest.id)] == [(share.id, "active")]
    guest.compute.stop_server(guest.id)
    guest.rests("SHUTOFF")
    compute.delete_share_attachment(guest.id, share.id)
    wait_until(lambda: not list(compute.share_attachments(guest.id)), "the share never left", SECONDS)
    assert list(files.access_rules(share.id)) == []
    own = files.create_access_rule(share.id, access_type="ip", access_to="192.0.2.0/24", access_level="ro")
    assert files.get_access_rule(own.id).access_to == "192.0.2.0/24"
    files.delete_access_rule(own.id, share.id)
    files.resize_share(share.id, 2)
    assert files.get_share(share.id).size == 2
    files.delete_share(share.id)
    assert files.find_share(share.name) is None
    later.close()


def test_shares_that_are_not_there(guest: Guest, environment: dict[str, str]) -> None:
    later = connection(environment, "2.97")
    compute, share = later.compute, str(uuid4())
    guest.compute.stop_server(guest.id)
    guest.rests("SHUTOFF")
    assert list(compute.share_attachments(guest.id)) == []
    with pytest.raises(openstack.exceptions.NotFoundException):
        compute.create_share_attachment(guest.id, share)
    with pytest.raises(openstack.exceptions.NotFoundException):
        compute.get_share_attachment(guest.id, share)
    with pytest.raises(openstack.exceptions.NotFoundException):
        compute.delete_share_attachment(guest.id, share, ignore_missing=False)
    later.close()


def test_every_public_method_is_driven_or_has_a_reason_why_not() -> None:
    public = {name for name, value in vars(Proxy).items() if inspect.isfunction(value) and not name.startswith("_")}
    tree = ast.walk(ast.parse(Path(__file__).read_text(encoding="utf-8")))
    said = {node.attr if isinstance(node, ast.Attribute) else node.value for node in tree
            if isinstance(node, (ast.Attribute, ast.Constant))}  # fmt: skip
    assert public - said == set(NOT_DRIVEN)
