"""Whose devices a port of the network companion may serve."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from api_cell.edge.auth import NoAuth
from tools.companions.app import Companion
from tools.companions.network.service import make_network


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Companion]:
    made = make_network(tmp_path, NoAuth())
    made.start()
    yield made
    made.drain(2)


def send(service: Companion, token: str, method: str, path: str, **body: Any) -> tuple[int, Any]:
    url = f"{service.url}/v2.0/{path}"
    reply = requests.request(method, url, json=body, headers={"X-Auth-Token": token}, timeout=10)
    return reply.status_code, next(iter(reply.json().values()))


def port(service: Companion, token: str, device: str = "") -> tuple[int, Any]:
    _, made = send(service, token, "POST", "networks", network={"name": "inner"})
    given = {"network_id": made["id"], "device_id": device, "device_owner": "compute:nova" if device else ""}
    return send(service, token, "POST", "ports", port=given)


def test_a_port_serves_no_device_of_another_project(network: Companion) -> None:
    server = str(uuid4())
    assert port(network, "user:p1", server)[0] == 201
    assert port(network, "user:p1", server)[0] == 201
    status, error = port(network, "user:p2", server)
    assert (status, error["type"]) == (409, "DeviceIDNotOwnedByTenant")

    _, free = port(network, "user:p2")
    status, error = send(network, "user:p2", "PUT", f"ports/{free['id']}", port={"device_id": server})
    assert (status, error["type"]) == (409, "DeviceIDNotOwnedByTenant")
    assert send(network, "user:p2", "PUT", f"ports/{free['id']}", port={"device_id": str(uuid4())})[0] == 200
    assert send(network, "admin:p3", "PUT", f"ports/{free['id']}", port={"device_id": server})[0] == 200


def test_a_port_serves_no_router_of_another_project(network: Companion) -> None:
    _, router = send(network, "user:p1", "POST", "routers", router={"name": "way out"})
    assert port(network, "user:p2", router["id"])[0] == 409
    assert port(network, "user:p1", router["id"])[0] == 201


def test_an_interface_of_a_router_is_its_projects(network: Companion) -> None:
    _, made = send(network, "user:p1", "POST", "networks", network={"name": "inner"})
    subnet = {"network_id": made["id"], "cidr": "10.9.0.0/24", "ip_version": 4}
    _, subnet = send(network, "user:p1", "POST", "subnets", subnet=subnet)
    _, router = send(network, "user:p1", "POST", "routers", router={"name": "way out"})
    path = f"routers/{router['id']}/add_router_interface"
    assert send(network, "admin:p3", "PUT", path, subnet_id=subnet["id"])[0] == 200
    _, ports = send(network, "user:p1", "GET", f"ports?device_id={router['id']}")
    assert [one["project_id"] for one in ports] == ["p1"]
