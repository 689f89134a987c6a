"""The global metadata service of a whole cloud, and what the Compute API tells of the inside of guests."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import pytest

from api_cell.metadata.instances import CloudInstances
from cell_service.db import instances
from cell_service.metadata.config import ApiOptions, MetadataSettings, ProxyOptions
from cell_service.metadata.server import MetadataServer
from cell_service.metadata.service import MetadataService
from cell_service.peers.placement_http import open_placement
from compute_host.dependencies import HostDependencies
from compute_host.fleet import Fleet
from compute_host.operations.config_drive import ConfigDrives
from mapping_db import instance_mappings
from tests.compute.test_wire import Checked
from tests.edge import reference
from tests.edge.reference import VERSIONS
from tests.federation.cloud import Federation

SECRET = "shared"


class Door:
    """The global metadata service, asked as the proxy does."""

    def __init__(self, cloud: Federation) -> None:
        self.cloud = cloud
        settings = MetadataSettings(api=ApiOptions(metadata_cache_expiration=0), proxy=ProxyOptions(True, SECRET))
        service = MetadataService(CloudInstances(cloud.cloud), cloud.networks, settings, cloud.clock)
        self.server = MetadataServer(service)
        self.server.start()

    def ask(self, uuid: str, path: str, address: str, *, post: bytes | None = None) -> tuple[int, bytes, str | None]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        headers = {
            "X-Instance-ID": uuid,
            "X-Tenant-ID": "admin-project",
            "X-Instance-ID-Signature": hmac.new(SECRET.encode(), uuid.encode(), hashlib.sha256).hexdigest(),
            "X-Forwarded-For": address,
        }
        try:
            connection.request("GET" if post is None else "POST", path, post, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers["Retry-After"]
        finally:
            connection.close()

    def boot(self, cell: str) -> tuple[str, str]:
        """A server with a port in that cell, and its address."""
        uuid = self.cloud.boot(cell=cell, networks="auto")
        (port,) = self.cloud.networks.of(uuid)
        return uuid, port.vif.fixed_ips[0].address


@pytest.fixture
def door(cloud: Federation) -> Iterator[Door]:
    made = Door(cloud)
    yield made
    made.server.drain(2)


@pytest.fixture
def own_door(own_cloud: Federation) -> Iterator[Door]:
    made = Door(own_cloud)
    yield made
    made.server.drain(2)


@pytest.mark.parametrize("cell", ["cell1", "cell2"])
def test_a_guest_of_any_cell_is_told_who_it_is(door: Door, cell: str) -> None:
    uuid, address = door.boot(cell)
    status, body, _ = door.ask(uuid, "/openstack/latest/meta_data.json", address)
    assert (status, json.loads(body)["uuid"]) == (200, uuid)
    assert door.ask(uuid, "/openstack", "10.99.0.1")[0] == 404
    assert door.ask(str(uuid4()), "/openstack", address)[0] == 404
    assert door.cloud.admin.delete(f"/servers/{uuid}").status == 204
    door.cloud.until(lambda: door.cloud.gone(uuid))
    assert door.ask(uuid, "/openstack", address)[0] == 404


def test_a_password_goes_round(door: Door) -> None:
    uuid, address = door.boot("cell2")
    path = f"/servers/{uuid}/os-server-password"
    assert door.cloud.admin.get(path).json == {"password": ""}
    assert door.ask(uuid, "/openstack/latest/password", address, post=b"x" * 600)[0] == 200
    assert door.ask(uuid, "/openstack/latest/password", address, post=b"y")[0] == 409
    assert door.cloud.admin.get(path).json == {"password": "x" * 600}
    assert door.cloud.user("somebody", "another-project").get(path).status == 404
    assert door.cloud.admin.delete(path).status == 204
    assert door.cloud.admin.get(path).json == {"password": ""}
    assert door.ask(uuid, "/openstack/latest/password", address, post=b"z")[0] == 200


def test_a_mapping_that_moved_is_followed(own_door: Door) -> None:
    cloud = own_door.cloud
    uuid, address = own_door.boot("cell1")
    assert own_door.ask(uuid, "/openstack", address)[0] == 200
    source, target = cloud.cell_database("cell1"), cloud.cell_database("cell2")
    with source.connect() as tx:
        instance = instances.get(tx, uuid)
    with target.begin() as tx:
        assert instances.insert_new(tx, instance)
    with source.begin() as tx:
        assert instances.change(tx, uuid, now=cloud.clock.now(), hidden=True)
    with cloud.db.begin() as tx:
        instance_mappings.move(tx, uuid, source=cloud.ids["cell1"], target=cloud.ids["cell2"])
    assert own_door.ask(uuid, "/openstack/latest/password", address, post=b"there")[0] == 200
    with target.connect() as tx:
        assert instances.get(tx, uuid).system_metadata["password_0"] == "there"
    source.dispose()
    target.dispose()


def test_a_silent_cell_is_no_404(own_door: Door) -> None:
    near, near_address = own_door.boot("cell2")
    far, far_address = own_door.boot("cell1")
    own_door.cloud.silence("cell1")
    status, _, retry = own_door.ask(far, "/openstack", far_address)
    assert (status, retry) == (503, "5")
    assert own_door.ask(near, "/openstack", near_address)[0] == 200


@pytest.mark.parametrize("version", VERSIONS)
def test_diagnostics_and_password_on_the_wire(cloud: Federation, version: str) -> None:
    reference.demand()
    uuid = cloud.boot(networks="auto")
    call = Checked(cloud.admin, version)
    found = call("GET", "/servers/{server_id}/diagnostics", server_id=uuid)
    if version == "2.1":
        assert found["memory"] == 64 * 1024
        assert {"cpu0_time", "vda_read", "vnet0_rx", "vnet0_tx_packets"} <= set(found)
    if version == VERSIONS[-1]:
        assert (found["state"], found["num_cpus"], found["num_nics"]) == ("running", 1, 1)
    call("GET", "/servers/{server_id}/os-server-password", server_id=uuid)
    call("DELETE", "/servers/{server_id}/os-server-password", server_id=uuid)


def test_diagnostics_of_what_does_not_run(cloud: Federation) -> None:
    uuid = cloud.boot()
    cloud.act(uuid, "os-stop")
    cloud.until(lambda: cloud.settled(uuid)["status"] == "SHUTOFF")
    assert cloud.admin.get(f"/servers/{uuid}/diagnostics", version="2.48").status == 409
    assert cloud.user("member", "another-project").get(f"/servers/{uuid}/diagnostics").status == 404


def test_a_host_may_give_everybody_a_config_drive(own_cloud: Federation) -> None:
    drives = ConfigDrives(MetadataSettings())
    settings = replace(own_cloud.host("cell1-host9"), force_config_drive=True)
    dependencies = HostDependencies(
        own_cloud.transport("cell1"), networks=own_cloud.networks, images=own_cloud.images,
        placement=open_placement(own_cloud.placement_settings), drive=drives,
    )  # fmt: skip
    fleet = Fleet([settings], dependencies)
    fleet.start()
    try:
        assert fleet.wait_ready(30)
        own_cloud.until(lambda: "cell1-host9" in own_cloud.superconductor.hosts_known())
        forced = own_cloud.boot(availability_zone="nova:cell1-host9")
        assert own_cloud.admin.get(f"/servers/{forced}/diagnostics", version="2.48").json["config_drive"] is True
        free = own_cloud.boot(cell="cell1")
        assert own_cloud.admin.get(f"/servers/{free}/diagnostics", version="2.48").json["config_drive"] is False
    finally:
        fleet.stop(5)
        drives.close()
