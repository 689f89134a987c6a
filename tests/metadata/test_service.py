"""A real metadata service over HTTP, of one cell: who is answered, and with what."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from cell_service.context import SYSTEM_CLOCK, ManualClock
from cell_service.db import instances
from cell_service.db.sql.engine import Database
from cell_service.metadata import ec2
from cell_service.metadata.config import ApiOptions, MetadataSettings, ProxyOptions
from cell_service.metadata.instances import CellInstances
from cell_service.metadata.server import MetadataServer
from cell_service.metadata.service import MetadataService
from cell_service.model.instance import FixedIp, Instance
from tests.metadata import samples
from tests.suites.peers import SUBNET, MemoryNetworks
from tests.suites.schemas import prepare

SECRET = "between proxy and service"
UUID = samples.instance().uuid


class Guests:
    """One cell's database, its metadata service on a port, and guests that ask."""

    def __init__(self, directory: Path, settings: MetadataSettings) -> None:
        self.db = Database(f"sqlite:///{directory}/cell.db")
        prepare(self.db)
        self.networks = MemoryNetworks()
        self.clock = ManualClock()
        service = MetadataService(CellInstances(self.db, SYSTEM_CLOCK), self.networks, settings, self.clock)
        self.server = MetadataServer(service, threads=4)
        self.server.start()

    def add(self, instance: Instance) -> str:
        with self.db.begin() as tx:
            assert instances.insert_new(tx, instance)
        return instance.uuid

    def ask(
        self, path: str, headers: dict[str, str] | None = None, method: str = "GET", body: bytes | None = None
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()

    def close(self) -> None:
        self.server.drain(0)
        self.db.dispose()


def settings(*, proxy: bool, **api: Any) -> MetadataSettings:
    given = ProxyOptions(True, SECRET) if proxy else ProxyOptions()
    return MetadataSettings(api=ApiOptions(**api), proxy=given)


def signed(uuid: str = UUID, address: str = "10.1.0.5", secret: str = SECRET, **other: str) -> dict[str, str]:
    signature = hmac.new(secret.encode(), uuid.encode(), hashlib.sha256).hexdigest()
    return {
        "X-Instance-ID": uuid,
        "X-Tenant-ID": "project-1",
        "X-Instance-ID-Signature": signature,
        "X-Forwarded-For": address,
    } | {name.replace("_", "-"): value for name, value in other.items()}


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[Guests]:
    made = Guests(tmp_path, settings(proxy=True))
    made.add(samples.instance())
    yield made
    made.close()


@pytest.fixture
def direct(tmp_path: Path) -> Iterator[Guests]:
    made = Guests(tmp_path, settings(proxy=False))
    yield made
    made.close()


# -- through the proxy ----------------------------------------------------------------------------


def test_a_guest_behind_the_proxy_is_told_who_it_is(proxied: Guests) -> None:
    status, body, headers = proxied.ask("/openstack/latest/meta_data.json", signed())
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body)["uuid"] == UUID
    assert proxied.ask("/latest/meta-data/instance-id", signed())[1] == b"i-0a1b2c3d4e5f4a6b8"
    assert proxied.ask("/openstack/latest/user_data", signed())[1] == samples.ODD_BYTES


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_the_root_is_for_health_checks_too(proxied: Guests, method: str) -> None:
    status, body, _ = proxied.ask("/", method=method)
    assert status == 200
    assert body.decode().split("\n") == ([""] if method == "HEAD" else [*ec2.VERSIONS, "latest"])
    assert proxied.ask("/latest", method=method)[0] == (405 if method == "OPTIONS" else 400)


def test_a_second_address_and_another_spelling(proxied: Guests) -> None:
    assert proxied.ask("/openstack", signed(address="2001:DB8:2:0::5"))[0] == 200
    assert proxied.ask("/openstack", signed(address="::ffff:10.1.0.5"))[0] == 200
    assert proxied.ask("/openstack", signed(address="10.1.0.5, 172.16.0.1"))[0] == 200
    assert proxied.ask("/openstack", signed(address="fe80::f816:3eff:fe00:1%eth0"))[0] == 200
    assert proxied.ask("/openstack", signed(address="fe80::f816:3eff:fe00:9"))[0] == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (signed(secret="another"), 403),
        (signed(X_Instance_ID_Signature=""), 403),
        (signed(X_Instance_ID_Signature="\u00e9"), 403),
        (signed() | {"X-Instance-ID": "ffffffff-4e5f-4a6b-8c7d-8e9f0a1b2c3d"}, 403),
        (signed(X_Instance_ID=""), 400),
        (signed(X_Tenant_ID=""), 400),
        (signed(X_Forwarded_For=""), 400),
        (signed(X_Forwarded_For="not an address"), 400),
        (signed(X_Tenant_ID="another-project"), 404),
        (signed(address="10.1.0.6"), 404),
        (signed(uuid="ffffffff-4e5f-4a6b-8c7d-8e9f0a1b2c3d"), 404),
        (signed(uuid="no uuid"), 404),
        ({}, 400),
    ],
)
def test_whom_the_proxy_does_not_vouch_for(proxied: Guests, headers: dict[str, str], status: int) -> None:
    found, body, _ = proxied.ask("/openstack/latest/meta_data.json", headers)
    assert found == status
    assert b"mykey" not in body


def test_a_deleted_server_is_nobody(proxied: Guests) -> None:
    with proxied.db.begin() as tx:
        instances.mark_deleted(tx, UUID, SYSTEM_CLOCK.now())
    assert proxied.ask("/openstack", signed())[0] == 404


def test_what_is_known_holds_for_a_while(proxied: Guests) -> None:
    first = json.loads(proxied.ask("/openstack/latest/meta_data.json", signed())[1])
    with proxied.db.begin() as tx:
        instances.change(tx, UUID, now=SYSTEM_CLOCK.now(), display_name="Another")
    assert json.loads(proxied.ask("/openstack/latest/meta_data.json", signed())[1]) == first
    proxied.clock.advance(15)
    assert json.loads(proxied.ask("/openstack/latest/meta_data.json", signed())[1])["name"] == "Another"


def test_a_new_interface_is_described_at_once(proxied: Guests) -> None:
    path = "/openstack/latest/network_data.json"
    seed = json.loads(proxied.ask("/openstack/latest/meta_data.json", signed())[1])["random_seed"]
    before = json.loads(proxied.ask(path, signed())[1])["links"]
    with proxied.db.begin() as tx:
        vifs = instances.get(tx, UUID).network_info
        another = replace(vifs[0], port_id=str(uuid4()), mac="fa:16:3e:aa:bb:cc")
        instances.change(tx, UUID, now=SYSTEM_CLOCK.now(), network_info=(*vifs, another))
    after = json.loads(proxied.ask(path, signed())[1])["links"]
    assert [link["ethernet_mac_address"] for link in after] == [
        *(link["ethernet_mac_address"] for link in before),
        another.mac,
    ]
    assert json.loads(proxied.ask("/openstack/latest/meta_data.json", signed())[1])["random_seed"] == seed


def test_a_port_that_the_cell_does_not_know_yet(proxied: Guests) -> None:
    """A guest may ask before its host has told the cell how the build ended."""
    early = proxied.add(samples.instance(uuid="11111111-4e5f-4a6b-8c7d-8e9f0a1b2c3d", network_info=()))
    port = proxied.networks.ports[proxied.networks.add_port()]
    port.instance_uuid = early
    address = port.vif.fixed_ips[0].address
    assert proxied.ask("/openstack", signed(early, "10.0.0.99"))[0] == 404
    assert proxied.ask("/latest/meta-data/local-ipv4", signed(early, address))[1].decode() == address


@pytest.mark.parametrize("path", ["/openstack/nothing", "/nothing", "/openstack/latest/no.json", "/%00", "/../etc"])
def test_paths_that_lead_nowhere(proxied: Guests, path: str) -> None:
    assert proxied.ask(path, signed())[0] == 404


def test_slashes_do_not_matter(proxied: Guests) -> None:
    assert proxied.ask("//openstack//latest/", signed())[0] == 200


def test_health_needs_no_signature(proxied: Guests) -> None:
    assert proxied.ask("/healthz")[:2] == (200, b"OK")


# -- by address -----------------------------------------------------------------------------------


def place(guests: Guests, uuid: str, address: str = "127.0.0.1") -> None:
    """Give the server a port with the address, at the network service and in the cell."""
    port = guests.networks.ports[guests.networks.add_port("project-1")]
    port.vif = replace(port.vif, fixed_ips=(FixedIp(address, 4, SUBNET),))
    port.instance_uuid = uuid
    with guests.db.begin() as tx:
        instances.change(tx, uuid, now=SYSTEM_CLOCK.now(), network_info=(port.vif,))


def test_a_guest_that_asks_itself_is_known_by_its_address(direct: Guests) -> None:
    place(direct, direct.add(samples.instance()))
    assert json.loads(direct.ask("/openstack/latest/meta_data.json")[1])["uuid"] == UUID


def test_an_unknown_address_and_one_that_two_have(direct: Guests) -> None:
    assert direct.ask("/openstack")[0] == 404
    place(direct, direct.add(samples.instance()))
    place(direct, direct.add(samples.instance(uuid="11111111-4e5f-4a6b-8c7d-8e9f0a1b2c3d")))
    assert direct.ask("/openstack")[0] == 404


def test_a_port_of_another_project_that_names_a_server_is_not_its_port(direct: Guests) -> None:
    """Any member who knows a server's uuid can write it into a port of a network of the member's own."""
    direct.add(samples.instance())
    theirs = direct.networks.ports[direct.networks.add_port("another-project", UUID)]
    theirs.vif = replace(theirs.vif, fixed_ips=(FixedIp("127.0.0.1", 4, SUBNET),))
    for path in ("/latest/user-data", "/openstack/latest/meta_data.json", "/openstack/latest/password"):
        assert direct.ask(path)[0] == 404
    place(direct, UUID)
    assert direct.ask("/latest/user-data")[0] == 200
    theirs.instance_uuid = "no server"
    assert direct.ask("/latest/user-data")[0] == 200


def test_headers_of_a_proxy_mean_nothing_without_one(direct: Guests) -> None:
    direct.add(samples.instance())
    place(direct, UUID, "10.1.0.5")
    assert direct.ask("/openstack", signed())[0] == 404


def test_a_forwarded_address_counts_where_it_is_told_to(tmp_path: Path) -> None:
    guests = Guests(tmp_path, settings(proxy=False, use_forwarded_for=True))
    place(guests, guests.add(samples.instance()), "10.7.7.7")
    assert guests.ask("/openstack", {"X-Forwarded-For": "10.7.7.7"})[0] == 200
    assert guests.ask("/openstack")[0] == 404
    guests.close()


def test_a_silent_network_service_is_no_404(direct: Guests) -> None:
    direct.networks.down = True
    status, _, headers = direct.ask("/openstack")
    assert (status, headers["Retry-After"]) == (503, "5")


# -- the password ---------------------------------------------------------------------------------


def test_a_password_is_posted_once(proxied: Guests) -> None:
    path, posted = "/openstack/latest/password", base64.b64encode(bytes(range(256)) * 3)[:1020]
    assert proxied.ask(path, signed())[:2] == (200, b"")
    assert proxied.ask(path, signed(), "POST", posted)[0] == 200
    assert proxied.ask(path, signed())[:2] == (200, posted)
    assert proxied.ask(path, signed(), "POST", b"other")[0] == 409
    with proxied.db.connect() as tx:
        kept = instances.get(tx, UUID).system_metadata
    assert [len(kept[f"password_{number}"]) for number in range(4)] == [255] * 4


def test_of_many_who_post_at_once_one_wins(proxied: Guests) -> None:
    gate = threading.Barrier(6)

    def post(number: int) -> int:
        gate.wait()
        return proxied.ask("/openstack/latest/password", signed(), "POST", f"password-{number}".encode())[0]

    with ThreadPoolExecutor(6) as pool:
        statuses = sorted(pool.map(post, range(6)))
    assert statuses == [200, 409, 409, 409, 409, 409]


@pytest.mark.parametrize(
    ("path", "method", "body", "status"),
    [
        ("/openstack/latest/password", "POST", b"x" * 1021, 400),
        ("/openstack/latest/password", "POST", b"x" * 70_000, 413),
        ("/openstack/latest/password", "POST", b"\xff", 400),
        ("/openstack/latest/password", "DELETE", None, 405),
        ("/openstack/2012-08-10/password", "POST", b"x", 404),
        ("/openstack/2013-04-04/password", "POST", b"x", 200),
        ("/openstack/latest/meta_data.json", "POST", b"x", 405),
        ("/latest/meta-data", "PUT", b"x", 405),
    ],
)
def test_what_may_be_posted(proxied: Guests, path: str, method: str, body: bytes | None, status: int) -> None:
    assert proxied.ask(path, signed(), method, body)[0] == status


# -- the end --------------------------------------------------------------------------------------


def test_drained_it_refuses(proxied: Guests) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxied.server.port, timeout=30)
    proxied.server.drain(1)
    proxied.server.drain(1)
    with pytest.raises(ConnectionError):
        connection.request("GET", "/healthz")
