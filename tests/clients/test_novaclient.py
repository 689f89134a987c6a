"""python-novaclient as a library, at the versions that other projects speak."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import novaclient.v2
import pytest
from keystoneauth1 import session
from keystoneauth1.identity import v3
from novaclient import client as nova_client
from novaclient import exceptions
from novaclient.base import Manager

from tests.clients.libraries import connection
from tests.real.databases import wait_until

pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("ignore::Warning")]

VERSIONS = ("2.1", "2.26", "2.37", "2.53", "2.60", "2.79", "2.96", "2.latest")
NOT_DRIVEN = {
    "ServerManager.reset_network": "does nothing since the agents inside guests that it spoke to are gone; 410",
}
HOST = "OS-EXT-SRV-ATTR:host"


@dataclass(slots=True)
class Nova:
    """The library at one version, and a server to work with."""

    api: Any
    mark: str
    flavor: Any
    image: str
    server: Any = None
    cloud: Any = None

    def at_least(self, version: str) -> bool:
        return bool(self.api.api_version >= nova_client.api_versions.APIVersion(version))

    def rests(self, status: str) -> None:
        """The server comes to this status, and nothing is in flight."""

        def holds() -> bool:
            self.server = self.api.servers.get(self.server.id)
            return self.server.status == status and getattr(self.server, "OS-EXT-STS:task_state") is None

        wait_until(holds, f"the server never was {status}", 40)

    def volume_is(self, volume: Any, status: str) -> None:
        wait_until(lambda: self.cloud.get_volume(volume.id).status == status, f"it never was {status}", 40)


@pytest.fixture(scope="session")
def keystone(environment: dict[str, str]) -> session.Session:
    names = ("auth_url", "username", "password", "project_name", "user_domain_name", "project_domain_name")
    return session.Session(v3.Password(**{name: environment[f"OS_{name.upper()}"] for name in names}))


@pytest.fixture(scope="module")
def cloud(environment: dict[str, str]) -> Iterator[Any]:
    """What the library has no words for: volumes, groups, images."""
    made = connection(environment, "2.96")
    yield made
    made.close()


@pytest.fixture(params=VERSIONS)
def nova(request: pytest.FixtureRequest, keystone: session.Session, cloud: Any) -> Nova:
    asked = request.param
    if asked == "2.latest":
        latest = nova_client.api_versions.APIVersion(asked)
        asked = nova_client.api_versions.discover_version(nova_client.Client("2.1", session=keystone), latest)
    api = nova_client.Client(asked, session=keystone)
    flavor = next(each for each in api.flavors.list() if each.name == "m1.nano")
    image = next(each for each in keystone.get("/v2/images", endpoint_filter={"service_type": "image"}).json()["images"]
                 if each["name"] == "tiny")  # fmt: skip
    return Nova(api, uuid4().hex[:8], flavor, image["id"], cloud=cloud)


def make(nova: Nova, name: str = "") -> None:
    nics = "none" if nova.at_least("2.37") else None
    network = {} if nics is None else {"nics": nics}
    nova.server = nova.api.servers.create(name or f"n-{nova.mark}", nova.image, nova.flavor, meta={"a": "b"}, **network)
    nova.rests("ACTIVE")


def flavors(nova: Nova) -> None:
    made = nova.api.flavors.create(f"f-{nova.mark}", 64, 1, 1, is_public=False)
    project = nova.api.client.session.get_project_id()
    made.set_keys({"a": "b"})
    assert made.get_keys() == {"a": "b"}
    made.unset_keys(["a"])
    assert made.get_keys() == {}
    nova.api.flavor_access.add_tenant_access(made, project)
    assert [each.tenant_id for each in nova.api.flavor_access.list(flavor=made)] == [project]
    nova.api.flavor_access.remove_tenant_access(made, project)
    if nova.at_least("2.55"):
        assert nova.api.flavors.update(made, "words").description == "words"
    assert nova.api.flavors.find(name=made.name, is_public=None).id == made.id
    assert nova.api.flavors.findall(is_public=None, name=made.name)
    assert nova.api.flavors.get(made.id).ram == 64
    nova.api.flavors.delete(made)
    with pytest.raises(exceptions.NotFound):
        nova.api.flavors.get(made.id)


def keypairs(nova: Nova) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGjW2DMVvlm6bKzj5LnHGBJYQCXSm8xGLBOCyOnGxJSP ann@example"
    made = nova.api.keypairs.create(f"k-{nova.mark}", public_key=key)
    assert nova.api.keypairs.get(made.name).fingerprint == made.fingerprint
    assert nova.api.keypairs.find(name=made.name)
    assert made.name in {each.name for each in nova.api.keypairs.findall()}
    nova.api.keypairs.delete(made)
    assert made.name not in {each.name for each in nova.api.keypairs.list()}


def aggregates(nova: Nova) -> None:
    made = nova.api.aggregates.create(f"a-{nova.mark}", None)
    assert nova.api.aggregates.add_host(made, "cell2-host2").hosts == ["cell2-host2"]
    assert nova.api.aggregates.set_metadata(made, {"a": "b"}).metadata["a"] == "b"
    assert nova.api.aggregates.update(made, {"name": f"b-{nova.mark}"}).name == f"b-{nova.mark}"
    assert nova.api.aggregates.get(made.id).hosts == nova.api.aggregates.get_details(made).hosts
    assert nova.api.aggregates.find(name=f"b-{nova.mark}").id == made.id
    if nova.at_least("2.81"):
        nova.api.aggregates.cache_images(made, [nova.image])
    assert nova.api.aggregates.remove_host(made, "cell2-host2").hosts == []
    nova.api.aggregates.delete(made)
    assert made.id not in {each.id for each in nova.api.aggregates.list()}


def groups(nova: Nova) -> None:
    words = {"policy": "affinity"} if nova.at_least("2.64") else {"policies": ["affinity"]}
    made = nova.api.server_groups.create(name=f"g-{nova.mark}", **words)
    assert nova.api.server_groups.get(made.id).name == made.name
    assert nova.api.server_groups.find(name=made.name).id == made.id
    assert made.id in {each.id for each in nova.api.server_groups.list(all_projects=True)}
    nova.api.server_groups.delete(made.id)
    assert made.id not in {each.id for each in nova.api.server_groups.findall()}


def operators(nova: Nova) -> None:
    services = nova.api.services.list(binary="nova-compute")
    assert {each.host for each in services} >= {"cell1-host1", "cell2-host2"}
    one = next(each for each in services if each.host == "cell1-host2")
    by_id = (one.id,) if nova.at_least("2.53") else (one.host, one.binary)
    assert nova.api.services.disable(*by_id).status == "disabled"
    reasoned = nova.api.services.disable_log_reason(*by_id, "because")
    assert reasoned.disabled_reason == "because"
    assert nova.api.services.enable(*by_id).status == "enabled"
    if nova.at_least("2.11"):
        assert nova.api.services.force_down(*by_id, True).forced_down is True
        assert nova.api.services.force_down(*by_id, False).forced_down is False
    found = nova.api.hypervisors.list()
    assert nova.api.hypervisors.get(found[0].id).hypervisor_hostname == found[0].hypervisor_hostname
    assert len(nova.api.hypervisors.search("cell1")) == 2
    if not nova.at_least("2.88"):
        assert nova.api.hypervisor_stats.statistics().count == nova.api.hypervisors.statistics().count == 4
    assert "nova" in {each.zoneName for each in nova.api.availability_zones.list(detailed=True)}
    assert nova.api.versions.get_current().version == "2.104"
    assert nova.api.versions.list()
    assert isinstance(nova.api.migrations.list(), list)
    assert nova.api.instance_usage_audit_log.get().total_errors == 0


def quotas(nova: Nova) -> None:
    project = uuid4().hex
    assert nova.api.quotas.update(project, instances=7).instances == 7
    assert nova.api.quotas.get(project).instances == 7
    assert nova.api.quotas.get(project, detail=True).instances["limit"] == 7
    nova.api.quotas.delete(project)
    assert nova.api.quotas.get(project).instances == nova.api.quotas.defaults(project).instances
    assert nova.api.quota_classes.get("default").instances
    own = nova.api.client.session.get_project_id()
    assert {each.name for each in nova.api.limits.get().absolute} >= {"totalInstancesUsed"}
    assert nova.api.usage.get(own, *_days()) is not None
    assert isinstance(nova.api.usage.list(*_days()), list)


def _days() -> tuple[Any, Any]:
    from datetime import UTC, datetime, timedelta

    now = datetime.now(UTC).replace(tzinfo=None)
    return now - timedelta(days=1), now + timedelta(days=1)


def power(nova: Nova) -> None:
    make(nova)
    server = nova.api.servers
    for verb, status in (("stop", "SHUTOFF"), ("start", "ACTIVE"), ("pause", "PAUSED"), ("unpause", "ACTIVE"),
                         ("suspend", "SUSPENDED"), ("resume", "ACTIVE"), ("reboot", "ACTIVE"), ("rescue", "RESCUE"),
                         ("unrescue", "ACTIVE")):  # fmt: skip
        getattr(server, verb)(nova.server)
        nova.rests(status)
    server.lock(nova.server)
    with pytest.raises(exceptions.Conflict):
        server.start(nova.server)
    server.unlock(nova.server)
    server.reset_state(nova.server, "error")
    nova.rests("ERROR")
    server.reset_state(nova.server, "active")
    nova.rests("ACTIVE")
    server.rebuild(nova.server, nova.image)
    nova.rests("ACTIVE")
    server.change_password(nova.server, "secret")
    nova.rests("ACTIVE")
    assert "login" in server.get_console_output(nova.server)
    assert server.diagnostics(nova.server)[1]
    if nova.at_least("2.17"):
        server.trigger_crash_dump(nova.server)
    if nova.at_least("2.78"):
        assert "nodes" in server.topology(nova.server)
    assert "create" in {each.action for each in nova.api.instance_action.list(nova.server)}
    request = nova.api.instance_action.list(nova.server)[-1].request_id
    assert nova.api.instance_action.get(nova.server, request).action == "create"
    server.delete(nova.server)
    wait_until(lambda: nova.server.id not in {each.id for each in server.list()}, "it was never gone", 40)


def words(nova: Nova) -> None:
    make(nova)
    server = nova.api.servers
    server.update(nova.server, name=f"m-{nova.mark}")
    assert server.find(name=f"m-{nova.mark}").id == nova.server.id
    assert server.set_meta(nova.server, {"c": "d"}) == {"c": "d"} or server.get(nova.server.id).metadata["c"] == "d"
    server.set_meta_item(nova.server, "e", "f")
    server.delete_meta(nova.server, ["a"])
    assert server.get(nova.server.id).metadata == {"c": "d", "e": "f"}
    assert server.list_meta(nova.server) == {"c": "d", "e": "f"} or server.list_meta(nova.server)
    if nova.at_least("2.26"):
        server.set_tags(nova.server, ["t", "u"])
        server.add_tag(nova.server, "v")
        server.delete_tag(nova.server, "u")
        assert set(server.tag_list(nova.server)) == {"t", "v"}
        server.delete_all_tags(nova.server)
        assert server.tag_list(nova.server) == []
    assert server.ips(nova.server) is not None
    assert server.interface_list(nova.server) == [] or nova.server.addresses
    image = server.create_image(nova.server, f"i-{nova.mark}")
    assert image
    nova.rests("ACTIVE")
    server.get_password(nova.server)
    server.clear_password(nova.server)
    server.force_delete(nova.server)
    wait_until(lambda: nova.server.id not in {each.id for each in server.list()}, "it was never gone", 40)


def moves(nova: Nova) -> None:
    make(nova)
    server = nova.api.servers
    other = next(each for each in nova.api.flavors.list() if each.name == "m1.micro")
    server.resize(nova.server, other)
    nova.rests("VERIFY_RESIZE")
    server.revert_resize(nova.server)
    nova.rests("ACTIVE")
    server.shelve(nova.server)
    nova.rests("SHELVED_OFFLOADED")
    server.unshelve(nova.server)
    nova.rests("ACTIVE")
    assert nova.api.migrations.list()
    server.delete(nova.server)
    wait_until(lambda: nova.server.id not in {each.id for each in server.list()}, "it was never gone", 40)


def migrations(nova: Nova) -> None:
    make(nova)
    server = nova.api.servers
    server.migrate(nova.server)
    nova.rests("VERIFY_RESIZE")
    server.confirm_resize(nova.server)
    nova.rests("ACTIVE")
    assert nova.server.id in {each.instance_uuid for each in nova.api.migrations.list()}
    server.delete(nova.server)
    wait_until(lambda: nova.server.id not in {each.id for each in server.list()}, "it was never gone", 40)


def consoles(nova: Nova) -> None:
    make(nova)
    server, refused = nova.api.servers, exceptions.BadRequest
    for found in (
        server.get_vnc_console(nova.server, "novnc"),
        server.get_spice_console(nova.server, "spice-html5"),
        server.get_serial_console(nova.server, "serial"),
        server.get_console_url(nova.server, "novnc"),
    ):
        (told,) = found.values()
        assert urlsplit(told["url"]).query.count("token") == 1
    with pytest.raises((refused, exceptions.UnsupportedConsoleType)):
        server.get_rdp_console(nova.server, "rdp-html5")
    if nova.at_least("2.8"):
        with pytest.raises(refused):
            server.get_mks_console(nova.server)
    server.delete(nova.server)


def attachments(nova: Nova) -> None:
    make(nova)
    server, volumes, uuid = nova.api.servers, nova.api.volumes, nova.server.id
    first, second = (nova.cloud.create_volume(1, wait=True, name=f"{nova.mark}-{number}") for number in range(2))
    words = {"tag": "t"} if nova.at_least("2.49") else {}
    assert volumes.create_server_volume(uuid, first.id, **words).volumeId == first.id
    nova.volume_is(first, "in-use")
    assert volumes.get_server_volume(uuid, first.id).volumeId == first.id
    volumes.update_server_volume(uuid, first.id, second.id)
    nova.volume_is(first, "available")
    nova.volume_is(second, "in-use")

    def swapped() -> bool:
        return [each.volumeId for each in volumes.get_server_volumes(uuid)] == [second.id]

    wait_until(swapped, "the server never showed the other volume", 40)
    if nova.at_least("2.85"):
        volumes.update_server_volume(uuid, second.id, second.id, delete_on_termination=True)
        assert volumes.get_server_volume(uuid, second.id).delete_on_termination is True
    volumes.delete_server_volume(uuid, second.id)
    nova.volume_is(second, "available")
    for each in (first, second):
        nova.cloud.delete_volume(each.id)
    network = nova.api.neutron.find_network("private").id
    made = server.interface_attach(nova.server, None, network, None)
    assert made.port_id in _ports(nova)
    group = nova.cloud.network.create_security_group(name=nova.mark)
    server.add_security_group(nova.server, nova.mark)
    assert nova.mark in {each.name for each in server.list_security_group(nova.server)}
    server.remove_security_group(nova.server, nova.mark)
    assert nova.mark not in {each.name for each in server.list_security_group(nova.server)}
    server.interface_detach(nova.server, made.port_id)
    wait_until(lambda: made.port_id not in _ports(nova), "the interface was never gone", 40)
    nova.cloud.network.delete_security_group(group)
    server.delete(nova.server)


def _ports(nova: Nova) -> set[str]:
    return {each.port_id for each in nova.api.servers.interface_list(nova.server)}


def rest(nova: Nova) -> None:
    make(nova)
    server = nova.api.servers
    if nova.at_least("2.4") and not nova.at_least("2.88"):
        host = nova.api.hypervisors.list()[0]
        assert nova.api.hypervisors.uptime(host).uptime
    assert nova.api.glance.find_image("tiny").id == nova.image
    assert [each.id for each in nova.api.glance.find_images([nova.image])] == [nova.image]
    assert server.get_meta(nova.server, "a") == {"meta": {"a": "b"}}
    server.backup(nova.server, f"b-{nova.mark}", "daily", 1)
    nova.rests("ACTIVE")
    nova.cloud.delete_image(f"b-{nova.mark}")
    for verb in (server.restore, server.shelve_offload):
        with pytest.raises(exceptions.Conflict):
            verb(nova.server)
    event = {"name": "network-changed", "server_uuid": nova.server.id}
    assert [each["code"] for each in nova.api.server_external_events.create([event])] == [200]
    with pytest.raises(exceptions.ClientException) as refused:
        nova.api.agents.list()
    assert refused.value.code == 410
    with pytest.raises(exceptions.BadRequest):  # for a volume that no server has
        nova.api.assisted_volume_snapshots.create(
            str(uuid4()), {"snapshot_id": str(uuid4()), "type": "qcow2", "new_file": "file"}
        )
    server.delete(nova.server)


def hosts(nova: Nova) -> None:
    """Live migration, stopped and hurried where the version can; evacuation."""
    make(nova)
    server, first = nova.api.servers, getattr(nova.server, HOST)
    cell = first.split("-")[0]
    other = next(f"{cell}-host{number}" for number in (1, 2) if f"{cell}-host{number}" != first)
    block = "auto" if nova.at_least("2.25") else False
    over_commit = () if nova.at_least("2.25") else (False,)
    server.live_migrate(nova.server, other, block, *over_commit)
    nova.rests("ACTIVE")
    assert getattr(nova.server, HOST) == other
    if nova.at_least("2.23"):
        assert nova.api.server_migrations.list(nova.server) == []
    by = next(each for each in nova.api.services.list(binary="nova-compute") if each.host == other)
    by_id = (by.id,) if nova.at_least("2.53") else (by.host, by.binary)
    if nova.at_least("2.11"):
        nova.api.services.force_down(*by_id, True)
        shared = () if nova.at_least("2.14") else (None, False)
        server.evacuate(nova.server, first, *shared)
        nova.rests("ACTIVE")
        assert getattr(nova.server, HOST) == first
        nova.api.services.force_down(*by_id, False)
    server.delete(nova.server)


def in_flight(nova: Nova) -> None:
    """A live migration that takes its time is stopped, and another one hurried."""
    make(nova, f"slow-{nova.mark}")
    server, first = nova.api.servers, getattr(nova.server, HOST)
    cell, number = first.split("-host")
    other = f"{cell}-host{3 - int(number)}"
    for verb, ended in ((nova.api.server_migrations.live_migration_abort, first),
                        (nova.api.server_migrations.live_migrate_force_complete, other)):  # fmt: skip
        server.live_migrate(nova.server, other, "auto")
        wait_until(lambda: _running(nova) is not None, "it never ran", 40)
        verb(nova.server, _running(nova))
        nova.rests("ACTIVE")
        assert getattr(nova.server, HOST) == ended
    server.delete(nova.server)


def _running(nova: Nova) -> Any:
    found = (each for each in nova.api.server_migrations.list(nova.server) if each.status == "running")
    return next(found, None)


SCENARIOS: tuple[Callable[[Nova], None], ...] = (
    flavors, keypairs, aggregates, groups, operators, quotas, power, words, moves, migrations, consoles,
    attachments, rest, hosts, in_flight,
)  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_library_does_what_it_says(nova: Nova, scenario: Callable[[Nova], None]) -> None:
    if scenario is in_flight and not nova.at_least("2.24"):
        with pytest.raises(exceptions.VersionNotFoundForAPIMethod):
            nova.api.server_migrations.live_migration_abort("server", "migration")
        return
    scenario(nova)


def test_every_managers_public_method_is_driven() -> None:
    tree = ast.walk(ast.parse(Path(__file__).read_text(encoding="utf-8")))
    said = {node.attr if isinstance(node, ast.Attribute) else node.value for node in tree
            if isinstance(node, (ast.Attribute, ast.Constant))}  # fmt: skip
    missing = {f"{kind.__name__}.{name}" for kind in _managers() for name, value in vars(kind).items()
               if inspect.isfunction(value) and not name.startswith("_") and name not in said}  # fmt: skip
    assert missing == set(NOT_DRIVEN)


def _managers() -> Iterator[type]:
    for each in pkgutil.iter_modules(novaclient.v2.__path__):
        module = importlib.import_module(f"novaclient.v2.{each.name}")
        for kind in vars(module).values():
            if inspect.isclass(kind) and kind.__module__ == module.__name__ and issubclass(kind, Manager):
                yield kind
