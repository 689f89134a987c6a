"""Every success answer about servers has the published status and shape, at versions all along the way."""

from __future__ import annotations

from typing import Any

import pytest

from tests.compute.test_wire import Checked
from tests.edge import reference
from tests.edge.reference import VERSIONS, parsed
from tests.federation.cloud import Federation

SERVER = "/servers/{id}"
ACTION = "/servers/{id}/action"


def wanted(cloud: Federation, version: str) -> dict[str, Any]:
    """A body with everything in it that the version takes."""
    server: dict[str, Any] = {
        "name": "wire",
        "flavorRef": "1",
        "imageRef": cloud.image_id,
        "metadata": {"k": "v"},
        "accessIPv4": "192.0.2.9",
        "user_data": "aGVsbG8=",
        "config_drive": True,
        "security_groups": [{"name": "default"}],
    }
    for since, more in (
        ((2, 19), {"description": "d"}),
        ((2, 37), {"networks": "auto"}),
        ((2, 52), {"tags": ["t"]}),
        ((2, 90), {"hostname": "wire-host"}),
    ):
        if parsed(version) >= since:
            server |= more
    if parsed(version) < (2, 57):
        server["personality"] = [{"path": "/etc/motd", "contents": "aGk="}]
    return {"server": server, "os:scheduler_hints": {"custom": "x"}}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("user", ["admin", "member"])
def test_the_life_of_a_server(cloud: Federation, version: str, user: str) -> None:
    reference.demand()
    client = cloud.user(user, f"{user}-wire")
    call = Checked(client, version)
    uuid = call("POST", "/servers", wanted(cloud, version))["server"]["id"]
    call("GET", SERVER, id=uuid)
    cloud.settled(uuid)
    shown = call("GET", SERVER, id=uuid)["server"]
    assert shown["status"] == "ACTIVE"
    call("GET", "/servers", query="?limit=1")
    call("GET", "/servers/detail", query="?limit=1")
    call("PUT", SERVER, {"server": {"name": "other", "accessIPv6": "2001:db8::1"}}, id=uuid)
    for action, content in (
        ("os-stop", None),
        ("os-start", None),
        ("reboot", {"type": "HARD"}),
        ("pause", None),
        ("unpause", None),
        ("suspend", None),
        ("resume", None),
        ("lock", None),
        ("unlock", None),
        ("os-getConsoleOutput", {"length": 5}),
    ):
        call("POST", ACTION, {action: content}, action=action, id=uuid)
        cloud.settled(uuid)
    parts(call, uuid)
    history(call, uuid)
    if user == "admin":
        call("POST", ACTION, {"os-resetState": {"state": "error"}}, action="os-resetState", id=uuid)
    call("GET", SERVER, id=uuid)
    call("DELETE", SERVER, id=uuid)
    cloud.until(lambda: cloud.gone(uuid))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_is_shelved_and_comes_back(cloud: Federation, version: str) -> None:
    reference.demand()
    call = Checked(cloud.admin, version)
    uuid = cloud.boot()
    call("POST", ACTION, {"shelve": None}, action="shelve", id=uuid)
    cloud.settled(uuid)
    assert call("GET", SERVER, id=uuid)["server"]["status"] == "SHELVED_OFFLOADED"
    place = {"availability_zone": "nova"} if parsed(version) >= (2, 77) else None
    if parsed(version) >= (2, 91):
        place = {"host": "cell2-host1", "availability_zone": None}
    call("POST", ACTION, {"unshelve": place}, action="unshelve", id=uuid)
    cloud.until(lambda: cloud.show(uuid)["status"] == "ACTIVE")
    call("GET", SERVER, id=uuid)
    history(call, uuid)


def parts(call: Checked, uuid: str) -> None:
    at = {"server_id": uuid}
    call("GET", "/servers/{server_id}/metadata", **at)
    call("POST", "/servers/{server_id}/metadata", {"metadata": {"a": "1"}}, **at)
    call("PUT", "/servers/{server_id}/metadata", {"metadata": {"b": "2"}}, **at)
    call("PUT", "/servers/{server_id}/metadata/{id}", {"meta": {"c": "3"}}, id="c", **at)
    call("GET", "/servers/{server_id}/metadata/{id}", id="c", **at)
    call("DELETE", "/servers/{server_id}/metadata/{id}", id="c", **at)
    addresses = call("GET", "/servers/{server_id}/ips", **at)["addresses"]
    for label in addresses:
        call("GET", "/servers/{server_id}/ips/{id}", id=label, **at)
    if parsed(call.version) >= (2, 26):
        call("PUT", "/servers/{server_id}/tags", {"tags": ["x", "y"]}, **at)
        call("GET", "/servers/{server_id}/tags", **at)
        call("PUT", "/servers/{server_id}/tags/{id}", id="z", **at)
        call("GET", "/servers/{server_id}/tags/{id}", id="z", **at)
        call("DELETE", "/servers/{server_id}/tags/{id}", id="z", **at)
        call("DELETE", "/servers/{server_id}/tags", **at)


def history(call: Checked, uuid: str) -> None:
    listed = call("GET", "/servers/{server_id}/os-instance-actions", server_id=uuid)["instanceActions"]
    assert listed[-1]["action"] == "create"
    for each in listed:
        path = "/servers/{server_id}/os-instance-actions/{id}"
        call("GET", path, server_id=uuid, id=each["request_id"])


def test_what_is_said_of_a_silent_cells_servers(own_cloud: Federation) -> None:
    reference.demand()
    far = own_cloud.boot(cell="cell2")
    own_cloud.silence("cell2")
    for version in ("2.69", "2.75", "2.96"):
        call = Checked(own_cloud.admin, version)
        assert call("GET", SERVER, id=far)["server"]["status"] == "UNKNOWN"
        call("GET", "/servers")
        call("GET", "/servers/detail")
