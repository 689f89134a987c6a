"""What the roles of a caller allow at the companions: the published default rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from api_cell.edge.auth import Identity
from cell_service.errors import Unauthenticated
from tools.companions.app import Companion
from tools.companions.image.service import make_image
from tools.companions.keys.service import make_keys
from tools.companions.network.service import make_network
from tools.companions.share.service import make_share
from tools.companions.volume.service import make_volume

ROLES = {"admin": ("admin", "member", "reader"), "member": ("member", "reader"), "reader": ("reader",), "odd": ("odd",)}


class ByName:
    """The token is `role:project`."""

    challenge = 'Keystone uri=""'

    def authenticate(self, token: str, service_token: str | None) -> Identity:
        role, _, project_id = token.partition(":")
        if role not in ROLES:
            raise Unauthenticated()
        return Identity(f"{role}-user", project_id, ROLES[role])


@pytest.fixture
def companion(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Companion]:
    made: Companion = request.param(tmp_path, ByName())
    made.start()
    yield made
    made.drain(2)


def send(companion: Companion, token: str, method: str, path: str, body: Any = None) -> requests.Response:
    headers = {"X-Auth-Token": token}
    return requests.request(method, companion.url + path, json=body, headers=headers, timeout=30)


@pytest.mark.parametrize(
    ("companion", "path", "body"),
    [
        (make_volume, "/v3/volumes", {"volume": {"size": 1}}),
        (make_network, "/v2.0/networks", {"network": {"name": "n"}}),
        (make_image, "/v2/images", {"name": "i"}),
        (make_share, "/v2/shares", {"share": {"share_proto": "NFS", "size": 1}}),
    ],
    indirect=["companion"],
)
def test_readers_read_members_change_and_others_do_neither(companion: Companion, path: str, body: Any) -> None:
    answer = send(companion, "member:p1", "POST", path, body)
    assert answer.status_code in (200, 201, 202)
    shown = answer.json()
    one = f"{path}/{shown['id'] if 'id' in shown else next(iter(shown.values()))['id']}"
    assert send(companion, "reader:p1", "GET", one).status_code == 200
    assert send(companion, "odd:p1", "GET", path).status_code == 403
    for role in ("reader:p1", "odd:p1"):
        assert send(companion, role, "POST", path, body).status_code == 403
        assert send(companion, role, "DELETE", one).status_code == 403
    assert send(companion, "reader:p1", "GET", one).status_code == 200
    assert send(companion, "member:p1", "DELETE", one).status_code in (202, 204)


@pytest.mark.parametrize("companion", [make_keys], indirect=True)
def test_readers_see_that_there_are_secrets_and_do_not_read_them(companion: Companion) -> None:
    body = {"name": "s", "payload": "x", "payload_content_type": "text/plain"}
    for role in ("reader:p1", "odd:p1"):
        assert send(companion, role, "POST", "/v1/secrets", body).status_code == 403
    one = send(companion, "member:p1", "POST", "/v1/secrets", body).json()["secret_ref"].removeprefix(companion.url)
    assert send(companion, "reader:p1", "GET", one).status_code == 200
    assert send(companion, "reader:p1", "GET", f"{one}/payload").status_code == 403
    assert send(companion, "reader:p1", "DELETE", one).status_code == 403
    assert send(companion, "member:p1", "GET", f"{one}/payload").text == "x"


@pytest.mark.parametrize("companion", [make_image], indirect=True)
def test_what_a_reader_uploads_is_not_kept(companion: Companion, tmp_path: Path) -> None:
    body = {"name": "i", "disk_format": "raw", "container_format": "bare"}
    image = send(companion, "member:p1", "POST", "/v2/images", body).json()["id"]
    answer = requests.put(
        f"{companion.url}/v2/images/{image}/file", data=bytes(10_000), headers={"X-Auth-Token": "reader:p1"}, timeout=30
    )
    assert answer.status_code == 403
    assert not list((tmp_path / "images").iterdir())


@pytest.mark.parametrize("companion", [make_network], indirect=True)
def test_ports_of_the_network_service_are_for_the_owner_of_the_network(companion: Companion) -> None:
    def new(token: str, noun: str, **fields: Any) -> requests.Response:
        return send(companion, token, "POST", f"/v2.0/{noun}s", {noun: fields})

    network = new("admin:p1", "network", name="everybody's", shared=True).json()["network"]["id"]
    subnet = new("admin:p1", "subnet", network_id=network, cidr="10.1.0.0/24", ip_version=4).json()["subnet"]["id"]
    for fields in (
        {"device_owner": "network:dhcp"}, {"device_owner": "network:router_interface"},
        {"mac_address": "fa:16:3e:00:00:01"}, {"fixed_ips": [{"ip_address": "10.1.0.9"}]},
        {"port_security_enabled": False}, {"allowed_address_pairs": [{"ip_address": "10.1.0.9"}]},
    ):  # fmt: skip
        assert new("member:p2", "port", network_id=network, **fields).status_code == 403, fields
        assert new("member:p1", "port", network_id=network, **fields).status_code != 403, fields
    made = new("member:p2", "port", network_id=network, fixed_ips=[{"subnet_id": subnet}], device_owner="compute:nova")
    assert made.status_code == 201
    one = f"/v2.0/ports/{made.json()['port']['id']}"
    for fields in ({"device_owner": "network:dhcp"}, {"mac_address": "fa:16:3e:00:00:02"}):
        assert send(companion, "member:p2", "PUT", one, {"port": fields}).status_code == 403
    router = new("member:p2", "router", name="r").json()["router"]["id"]
    path = f"/v2.0/routers/{router}/add_router_interface"
    assert send(companion, "member:p2", "PUT", path, {"subnet_id": subnet}).status_code == 200
