"""What the network companion tells compute of: addresses and groups of servers' ports, and floating addresses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from api_cell.edge.auth import NoAuth
from cell_service.errors import PeerUnavailable
from tools.companions.app import Companion
from tools.companions.network.events import Event
from tools.companions.network.service import make_network

HEADERS = {"X-Auth-Token": "admin:p1"}


class Told:
    """What compute has heard; it hears nothing the first time if it is `deaf`."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.deaf = False

    def __call__(self, events: list[Event]) -> None:
        if self.deaf:
            self.deaf = False
            raise PeerUnavailable(service="compute", reason="it is away")
        self.events += events


class Service:
    def __init__(self, network: Companion) -> None:
        self._network = network

    def ask(self, method: str, path: str, **named: Any) -> Any:
        url = f"{self._network.url}/v2.0/{path}"
        reply = requests.request(method, url, json=named or None, headers=HEADERS, timeout=10)
        assert reply.status_code < 300, reply.text
        return next(iter(reply.json().values())) if reply.content else None

    def rests(self) -> None:
        """Everything that waited was passed on."""
        self._network.drain(2)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def service(tmp_path: Path, told: Told) -> Iterator[Service]:
    network = make_network(tmp_path, NoAuth(), notify=told)
    network.start()
    yield Service(network)
    network.drain(2)


def port_of(service: Service, device: str, owner: str = "compute:nova") -> Any:
    network = service.ask("POST", "networks", network={"name": "inner"})
    service.ask("POST", "subnets", subnet={"network_id": network["id"], "cidr": "10.9.0.0/24", "ip_version": 4})
    return service.ask("POST", "ports", port={"network_id": network["id"], "device_id": device, "device_owner": owner})


def changed(server: str, port: Any) -> Event:
    return {"name": "network-changed", "server_uuid": server, "tag": port["id"]}


def test_addresses_and_groups_of_servers_ports_are_told(service: Service, told: Told) -> None:
    server = str(uuid4())
    port = port_of(service, server)
    group = service.ask("POST", "security-groups", security_group={"name": "words"})
    for values in ({"name": "other"}, {"security_groups": [group["id"]]}, {"security_groups": [group["id"]]},
                   {"fixed_ips": [{"ip_address": "10.9.0.77"}]}):  # fmt: skip
        service.ask("PUT", f"ports/{port['id']}", port=values)
    service.rests()
    assert 1 <= len(told.events) <= 2  # two changes; those that wait together are told once
    assert all(event == changed(server, port) for event in told.events)


def test_ports_that_no_server_has_are_not_told(service: Service, told: Told) -> None:
    for device, owner in (("", ""), (str(uuid4()), "network:dhcp")):
        port = port_of(service, device, owner)
        service.ask("PUT", f"ports/{port['id']}", port={"fixed_ips": [{"ip_address": "10.9.0.77"}]})
    service.rests()
    assert told.events == []


def test_floating_addresses_are_told_to_the_ports_they_leave_and_reach(service: Service, told: Told) -> None:
    first, second = str(uuid4()), str(uuid4())
    ports = [port_of(service, server) for server in (first, second)]
    outer = service.ask("POST", "networks", network={"name": "outer", "router:external": True})
    service.ask("POST", "subnets", subnet={"network_id": outer["id"], "cidr": "198.51.100.0/24", "ip_version": 4})
    made = service.ask("POST", "floatingips", floatingip={"floating_network_id": outer["id"]})
    service.ask("PUT", f"floatingips/{made['id']}", floatingip={"port_id": ports[0]["id"]})
    service.ask("PUT", f"floatingips/{made['id']}", floatingip={"port_id": ports[1]["id"]})
    service.ask("DELETE", f"floatingips/{made['id']}")
    service.rests()
    assert {event["server_uuid"] for event in told.events} == {first, second}
    assert {(event["server_uuid"], event["tag"]) for event in told.events} == {
        (first, ports[0]["id"]), (second, ports[1]["id"])
    }  # fmt: skip


def test_a_compute_service_that_is_away_stops_nothing(service: Service, told: Told) -> None:
    told.deaf = True
    server = str(uuid4())
    port = port_of(service, server)
    service.ask("PUT", f"ports/{port['id']}", port={"fixed_ips": [{"ip_address": "10.9.0.77"}]})
    service.rests()
    assert told.events == []
    assert not told.deaf
